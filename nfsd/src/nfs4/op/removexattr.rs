//! REMOVEXATTR: removes an extended attribute (RFC 8276 8.4.4).

use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::change_info;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    name: Component4<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.with_xattrs()?;
    let _passing = allow::changing(c, opened).await?;
    let vfs = &c.cx.server.vfs;
    let changed = vfs.removexattr(&opened.cred, &opened.file, name.0).await;
    changed.result?;
    c.cx.settle(opened, &[&opened.file]).await?;
    out.put(&change_info(&changed.wcc))?;
    Ok(())
}
