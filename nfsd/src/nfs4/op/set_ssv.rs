//! SET_SSV: part of a protection of state that no client has here (RFC 8881 18.47).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::xdr::{xdr_opaque, xdr_struct};

xdr_opaque! {
    /// A secret or its digest.
    pub struct Ssv4(max 4096);
}

xdr_struct! {
    /// `SET_SSV4args`.
    pub struct SetSsvArgs<'a> {
        /// The secret.
        pub ssv: Ssv4<'a>,
        /// Its digest.
        pub digest: Ssv4<'a>,
    }
}

pub(super) async fn run(
    _c: &mut Compound<'_>,
    _args: SetSsvArgs<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    // EXCHANGE_ID gives nobody SP4_SSV (RFC 8881 18.47.3).
    Err(Nfsstat4::Inval)
}
