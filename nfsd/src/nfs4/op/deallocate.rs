//! DEALLOCATE: frees the space of a range, which reads as zeros from then on (RFC 7862 15.4).

use vfs::Permit;

use super::allocate::RangeArgs;
use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: RangeArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let target = allow::current(c, &args.stateid, true).await?;
    args.check()?;
    let (vfs, opened) = (&c.cx.server.vfs, &target.opened);
    let changed = vfs
        .deallocate(
            Permit::Opened,
            &opened.cred,
            &opened.file,
            args.offset,
            args.length,
        )
        .await;
    changed.result?;
    Ok(c.cx.settle(opened, &[&opened.file]).await?)
}
