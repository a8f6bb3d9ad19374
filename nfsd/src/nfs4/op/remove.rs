//! REMOVE: a name, of whatever kind of file (RFC 8881 18.25, RFC 7530 16.26).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::{change_info, name};
use crate::nfs4::stateful::touch_name;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    target: Component4<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let dir = c.dir()?;
    dir.writable()?;
    let name = name(target)?;
    c.may_unlink()?;
    let _passing = touch_name(c, dir, &name).await?;
    let vfs = &c.cx.server.vfs;
    let changed = vfs.remove_any(&dir.cred, &dir.file, &name).await;
    changed.result?;
    c.cx.settle(dir, &[&dir.file]).await?;
    out.put(&change_info(&changed.wcc))?;
    Ok(())
}
