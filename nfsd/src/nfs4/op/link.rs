//! LINK: another name for the saved file in the current directory (RFC 8881 18.9, RFC 7530 16.9).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::{change_info, name};
use crate::nfs4::stateful::change;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    newname: Component4<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (dir, file) = (c.dir()?, c.saved_file()?);
    if file.file.kind() == vfs::FileKind::Directory {
        return Err(Nfsstat4::Isdir);
    }
    let name = name(newname)?;
    dir.writable()?;
    file.writable()?;
    if file.export != dir.export {
        return Err(Nfsstat4::Xdev);
    }
    let _passing = change(c, file, None).await?;
    let vfs = &c.cx.server.vfs;
    let linked = vfs.link(&dir.cred, &file.file, &dir.file, &name).await;
    linked.result?;
    c.cx.settle(dir, &[&dir.file, &file.file]).await?;
    out.put(&change_info(&linked.dir))?;
    Ok(())
}
