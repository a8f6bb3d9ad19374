//! RENEW: a 4.0 client is still there (RFC 7530 16.29).

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::durable;
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
    let state = &c.cx.server.state;
    let renewed = state.renew_clientid(clientid, principal, exec::now());
    if let Ok(()) | Err(Nfsstat4::CbPathDown) = renewed {
        durable::goes_on(&c.cx.server, &state.client_40(clientid)?);
    }
    renewed
}
