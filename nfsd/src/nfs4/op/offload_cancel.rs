//! OFFLOAD_CANCEL: ends an asynchronous copy (RFC 7862 15.8).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::target;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    stateid: Stateid4,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let key = copy_key(c, &stateid)?;
    let offload = c.client()?.lock().copies.cancel(key)?;
    // The client may write there itself once it has the answer.
    offload.turn.take().await;
    Ok(())
}

/// Which copy of the session's client a stateid names.
///
/// # Errors
/// `NOFILEHANDLE`, `BAD_STATEID`, `OLD_STATEID`.
pub(super) fn copy_key(c: &Compound<'_>, stateid: &Stateid4) -> Result<u32, Nfsstat4> {
    c.place()?;
    let target = target(c, stateid)?;
    if target.name.kind != Kind::Copy {
        return Err(Nfsstat4::BadStateid);
    }
    // There is no other version of it than the first.
    match target.seqid {
        0 | 1 => Ok(target.name.key),
        _ => Err(Nfsstat4::BadStateid),
    }
}
