//! RENEW: a 4.0 client is still there (RFC 7530 16.29).

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Clientid4;

/// `RENEW4args`.
pub type RenewArgs = Clientid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    clientid: RenewArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let principal = c.principal();
    c.cx.server
        .state
        .renew_clientid(clientid, principal, exec::now())
}
