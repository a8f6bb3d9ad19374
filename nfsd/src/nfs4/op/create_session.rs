//! CREATE_SESSION: a session, and with the first one the client ID is confirmed (RFC 8881 18.36).

use arrayvec::ArrayVec;
use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::create::CreateSession;
use crate::nfs4::state::session::{CbSec, CbTarget, Channel};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, OwnerName4, Sequenceid4, Sessionid4};
use crate::rpc::auth::sys::AuthSys;
use crate::xdr::{Dec, Decode, Enc, Encode, Result as XdrResult, XdrError, xdr_struct};
#[cfg(any(test, feature = "samples"))]
use crate::xdr::{Sample, Tape};

/// Number of RPCSEC_GSS (RFC 2203).
const RPCSEC_GSS: u32 = 6;
/// Most security parameters for callbacks looked at.
pub const SEC_PARMS_MAX: usize = 8;

xdr_struct! {
    /// `channel_attrs4`.
    pub struct ChannelAttrs4 {
        /// Fill before the data of a WRITE: none here.
        pub headerpadsize: u32,
        /// Bytes of a request.
        pub maxrequestsize: u32,
        /// Bytes of a reply.
        pub maxresponsesize: u32,
        /// Bytes of a reply that is kept.
        pub maxresponsesize_cached: u32,
        /// Operations of a request.
        pub maxoperations: u32,
        /// Requests at a time.
        pub maxrequests: u32,
        /// RDMA only.
        pub rdma_ird: ArrayVec<u32, 1>,
    }

    /// `gss_cb_handles4`.
    pub struct GssCbHandles4<'a> {
        /// `rpc_gss_svc_t`.
        pub service: u32,
        /// The server's handle.
        pub handle_from_server: OwnerName4<'a>,
        /// The client's.
        pub handle_from_client: OwnerName4<'a>,
    }

    /// `CREATE_SESSION4args`.
    pub struct CreateSessionArgs<'a> {
        /// Of EXCHANGE_ID.
        pub clientid: Clientid4,
        /// One more than that of the client's last.
        pub sequence: Sequenceid4,
        /// See [`crate::nfs4::state::create::CreateFlags`].
        pub flags: u32,
        /// Requests.
        pub fore_chan_attrs: ChannelAttrs4,
        /// Callbacks.
        pub back_chan_attrs: ChannelAttrs4,
        /// RPC program of callbacks.
        pub cb_program: u32,
        /// Credentials of callbacks to choose from.
        pub sec_parms: ArrayVec<CallbackSecParms4<'a>, SEC_PARMS_MAX>,
    }

    /// `CREATE_SESSION4resok`.
    pub struct CreateSessionRes {
        /// The session.
        pub sessionid: Sessionid4,
        /// As in the arguments.
        pub sequence: Sequenceid4,
        /// What of the flags is granted.
        pub flags: u32,
        /// Requests.
        pub fore_chan_attrs: ChannelAttrs4,
        /// Callbacks.
        pub back_chan_attrs: ChannelAttrs4,
    }
}

/// `callback_sec_parms4`: a credential for callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackSecParms4<'a> {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS.
    Sys(AuthSys<'a>),
    /// RPCSEC_GSS.
    Gss(GssCbHandles4<'a>),
}

impl<'a> Decode<'a> for CallbackSecParms4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            0 => Ok(Self::None),
            1 => dec.get().map(Self::Sys),
            RPCSEC_GSS => dec.get().map(Self::Gss),
            _ => Err(XdrError::BadEnum),
        }
    }
}

impl Encode for CallbackSecParms4<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        match self {
            Self::None => enc.u32(0),
            Self::Sys(parms) => {
                enc.u32(1)?;
                enc.put(parms)
            }
            Self::Gss(handles) => {
                enc.u32(RPCSEC_GSS)?;
                enc.put(handles)
            }
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> Sample<'a> for CallbackSecParms4<'a> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        match tape.below(3) {
            0 => Self::None,
            1 => Self::Sys(Sample::sample(tape)),
            _ => Self::Gss(Sample::sample(tape)),
        }
    }
}

/// The first usable credential. None offered is AUTH_NONE.
///
/// # Errors
/// `NOENT`: only RPCSEC_GSS, whose handles are not known here.
pub(super) fn usable(parms: &[CallbackSecParms4<'_>]) -> Result<CbSec, Nfsstat4> {
    if parms.is_empty() {
        return Ok(CbSec::None);
    }
    let usable = parms.iter().find_map(|parms| match parms {
        CallbackSecParms4::None => Some(CbSec::None),
        CallbackSecParms4::Sys(sys) => Some(CbSec::Sys {
            stamp: sys.stamp,
            machine: sys.machinename.into(),
            uid: sys.uid,
            gid: sys.gid,
            gids: sys.gids.clone(),
        }),
        CallbackSecParms4::Gss(_) => None,
    });
    usable.ok_or(Nfsstat4::Noent)
}

impl From<&ChannelAttrs4> for Channel {
    fn from(attrs: &ChannelAttrs4) -> Self {
        Channel {
            max_request: attrs.maxrequestsize,
            max_response: attrs.maxresponsesize,
            max_cached: attrs.maxresponsesize_cached,
            max_ops: attrs.maxoperations,
            slots: attrs.maxrequests,
        }
    }
}

impl From<&Channel> for ChannelAttrs4 {
    fn from(channel: &Channel) -> Self {
        ChannelAttrs4 {
            headerpadsize: 0,
            maxrequestsize: channel.max_request,
            maxresponsesize: channel.max_response,
            maxresponsesize_cached: channel.max_cached,
            maxoperations: channel.max_ops,
            maxrequests: channel.slots,
            rdma_ird: ArrayVec::new(),
        }
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CreateSessionArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let server = &c.cx.server;
    let ask = CreateSession {
        clientid: args.clientid,
        sequence: args.sequence,
        flags: args.flags,
        fore: Channel::from(&args.fore_chan_attrs),
        back: Channel::from(&args.back_chan_attrs),
        target: CbTarget {
            program: args.cb_program,
            sec: usable(&args.sec_parms)?,
        },
        principal: c.principal(),
        conn: c.back(),
    };
    let (_, created) = server.state.create_session(ask, exec::now())?;
    out.put(&CreateSessionRes {
        sessionid: created.session,
        sequence: created.sequence,
        flags: created.flags.bits(),
        fore_chan_attrs: ChannelAttrs4::from(&created.fore),
        back_chan_attrs: ChannelAttrs4::from(&created.back),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Sample, Tape};
    use proptest::prelude::*;

    #[test]
    fn create_session_takes_the_first_usable_credential() {
        let gss = CallbackSecParms4::Gss(GssCbHandles4 {
            service: 1,
            handle_from_server: OwnerName4(b"a"),
            handle_from_client: OwnerName4(b"b"),
        });
        let sys = CallbackSecParms4::Sys(AuthSys {
            stamp: 1,
            machinename: b"host",
            uid: 0,
            gid: 0,
            gids: ArrayVec::new(),
        });
        assert_eq!(usable(&[]), Ok(CbSec::None));
        assert_eq!(usable(std::slice::from_ref(&gss)), Err(Nfsstat4::Noent));
        let chosen = usable(&[gss, sys, CallbackSecParms4::None]);
        assert!(matches!(chosen, Ok(CbSec::Sys { stamp: 1, .. })));
    }

    proptest! {
        #[test]
        fn create_session_arguments_come_back(tape in proptest::collection::vec(any::<u8>(), 0..400)) {
            let args = CreateSessionArgs::sample(&mut Tape::new(&tape));
            let mut wire = Vec::new();
            Enc::new(&mut wire, 1 << 20).put(&args)?;
            prop_assert_eq!(Dec::new(&wire).get::<CreateSessionArgs<'_>>(), Ok(args));
        }
    }
}
