//! SETCLIENTID: a 4.0 client introduces itself (RFC 7530 16.33).

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::client::{Callback4, Who};
use crate::nfs4::state::setclientid::Refused;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, OwnerName4, Verifier4};
use crate::xdr::{xdr_opaque, xdr_struct};

xdr_opaque! {
    /// A network id or a universal address (RFC 5665).
    pub struct NetName4(max 128);
}

xdr_struct! {
    /// `nfs_client_id4`.
    pub struct NfsClientId4<'a> {
        /// Tells boots of the client apart.
        pub verifier: Verifier4,
        /// Its name.
        pub id: OwnerName4<'a>,
    }

    /// `netaddr4`, `clientaddr4`.
    pub struct Netaddr4<'a> {
        /// Network id.
        pub netid: NetName4<'a>,
        /// Universal address.
        pub addr: NetName4<'a>,
    }

    /// `cb_client4`.
    pub struct CbClient4<'a> {
        /// RPC program of callbacks.
        pub program: u32,
        /// Where they are taken.
        pub location: Netaddr4<'a>,
    }

    /// `SETCLIENTID4args`.
    pub struct SetclientidArgs<'a> {
        /// The client.
        pub client: NfsClientId4<'a>,
        /// Its callbacks.
        pub callback: CbClient4<'a>,
        /// Sent with each callback.
        pub callback_ident: u32,
    }

    /// `SETCLIENTID4resok`.
    pub struct SetclientidRes {
        /// The client ID.
        pub clientid: Clientid4,
        /// Confirms it.
        pub confirm: Verifier4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SetclientidArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let who = Who {
        minor: 0,
        owner: args.client.id.0,
        verifier: args.client.verifier,
        principal: c.principal(),
        address: c.cx.client.addr.ip(),
    };
    let callback = Callback4 {
        program: args.callback.program,
        netid: args.callback.location.netid.0.into(),
        addr: args.callback.location.addr.0.into(),
        ident: args.callback_ident,
    };
    match c.cx.server.state.setclientid(&who, callback, exec::now()) {
        Ok((clientid, confirm)) => out.put(&SetclientidRes { clientid, confirm })?,
        Err(Refused::Status(status)) => return Err(status),
        Err(Refused::InUse(user)) => {
            let user = user.as_ref();
            out.put(&Netaddr4 {
                netid: NetName4(user.map_or(b"", |user| &user.netid)),
                addr: NetName4(user.map_or(b"", |user| &user.addr)),
            })?;
            return Err(Nfsstat4::ClidInuse);
        }
    }
    Ok(())
}
