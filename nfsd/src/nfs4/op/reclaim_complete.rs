//! RECLAIM_COMPLETE: the client has reclaimed all it wants to (RFC 8881 18.51).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::durable;
use crate::nfs4::status::Nfsstat4;

/// `RECLAIM_COMPLETE4args`: only the file system of the current filehandle is meant.
pub type ReclaimCompleteArgs = bool;

pub(super) async fn run(
    c: &mut Compound<'_>,
    one_fs: ReclaimCompleteArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    if one_fs {
        // Said after a file system has moved here, and none does.
        c.place()?;
        return Ok(());
    }
    let client = c.client()?;
    durable::reclaim_complete(&c.cx.server, client).await
}
