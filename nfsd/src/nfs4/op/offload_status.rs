//! OFFLOAD_STATUS: how far an asynchronous copy is (RFC 7862 15.9).

use arrayvec::ArrayVec;

use super::offload_cancel::copy_key;
use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Stateid4};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `OFFLOAD_STATUS4resok`.
    pub struct OffloadStatusRes {
        /// Bytes copied so far.
        pub count: Length4,
        /// How it ended, once it has.
        pub complete: ArrayVec<Nfsstat4, 1>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    stateid: Stateid4,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let key = copy_key(c, &stateid)?;
    let status = c.client()?.lock().copies.status(key)?;
    out.put(&OffloadStatusRes {
        count: status.count,
        complete: status.ended.into_iter().collect(),
    })?;
    Ok(())
}
