//! DESTROY_CLIENTID: ends a client that has nothing left (RFC 8881 18.50).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::durable;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Clientid4;

/// `DESTROY_CLIENTID4args`.
pub type DestroyClientidArgs = Clientid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    clientid: DestroyClientidArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.cx.server.state.destroy_clientid(clientid)?;
    durable::settled(&c.cx.server).await
}
