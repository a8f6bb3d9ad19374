//! SETCLIENTID_CONFIRM: the client has its ID (RFC 7530 16.34).

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::cb::channel::Channel;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, Verifier4};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `SETCLIENTID_CONFIRM4args`.
    pub struct SetclientidConfirmArgs {
        /// Of SETCLIENTID.
        pub clientid: Clientid4,
        /// Of SETCLIENTID.
        pub confirm: Verifier4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SetclientidConfirmArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (state, principal) = (&c.cx.server.state, c.principal());
    let client = state.setclientid_confirm(args.clientid, args.confirm, principal, exec::now())?;
    Channel::confirmed(&c.cx.server, &client);
    Ok(())
}
