//! EXCHANGE_ID: a client introduces itself (RFC 8881 18.35).

use arrayvec::ArrayVec;
use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::client::Who;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, Clientid4, OwnerName4, Sequenceid4, Verifier4};
use crate::xdr::{
    Dec, Decode, Enc, Encode, Result as XdrResult, XdrError, xdr_opaque, xdr_struct, xdr_union,
};
#[cfg(any(test, feature = "samples"))]
use crate::xdr::{Sample, Tape};

/// `EXCHGID4_FLAG_SUPP_MOVED_REFER`.
pub const SUPP_MOVED_REFER: u32 = 0x1;
/// `EXCHGID4_FLAG_SUPP_MOVED_MIGR`.
pub const SUPP_MOVED_MIGR: u32 = 0x2;
/// `EXCHGID4_FLAG_SUPP_FENCE_OPS` (RFC 7862 14.1).
pub const SUPP_FENCE_OPS: u32 = 0x4;
/// `EXCHGID4_FLAG_BIND_PRINC_STATEID`.
pub const BIND_PRINC_STATEID: u32 = 0x100;
/// `EXCHGID4_FLAG_USE_NON_PNFS`.
pub const USE_NON_PNFS: u32 = 0x1_0000;
/// `EXCHGID4_FLAG_USE_PNFS_MDS`.
pub const USE_PNFS_MDS: u32 = 0x2_0000;
/// `EXCHGID4_FLAG_USE_PNFS_DS`.
pub const USE_PNFS_DS: u32 = 0x4_0000;
/// `EXCHGID4_FLAG_UPD_CONFIRMED_REC_A`.
pub const UPD_CONFIRMED_REC_A: u32 = 0x4000_0000;
/// `EXCHGID4_FLAG_CONFIRMED_R`.
pub const CONFIRMED_R: u32 = 0x8000_0000;

/// What a client may send.
const ARGS_MASK: u32 = SUPP_MOVED_REFER
    | SUPP_MOVED_MIGR
    | BIND_PRINC_STATEID
    | USE_NON_PNFS
    | USE_PNFS_MDS
    | USE_PNFS_DS
    | UPD_CONFIRMED_REC_A;

xdr_opaque! {
    /// `sec_oid4`: an algorithm.
    pub struct SecOid4(max 128);
}

xdr_struct! {
    /// `client_owner4`.
    pub struct ClientOwner4<'a> {
        /// Tells boots of the client apart.
        pub verifier: Verifier4,
        /// Its name.
        pub ownerid: OwnerName4<'a>,
    }

    /// `nfstime4`.
    pub struct ImplDate4 {
        /// Since 1970.
        pub seconds: i64,
        /// And nanoseconds.
        pub nseconds: u32,
    }

    /// `nfs_impl_id4`: who made an implementation.
    pub struct NfsImplId4<'a> {
        /// Domain of the maker.
        pub domain: OwnerName4<'a>,
        /// Name of the product.
        pub name: OwnerName4<'a>,
        /// Of this version.
        pub date: ImplDate4,
    }

    /// `state_protect_ops4`.
    pub struct StateProtectOps4 {
        /// Operations to be refused without the machine's credential.
        pub must_enforce: Bitmap4,
        /// Operations the machine's credential may be used for.
        pub must_allow: Bitmap4,
    }

    /// `ssv_sp_parms4`.
    pub struct SsvSpParms4<'a> {
        /// As with the machine's credential.
        pub ops: StateProtectOps4,
        /// Hash algorithms of the client.
        pub hash_algs: SecOids4<'a>,
        /// Encryption algorithms of the client.
        pub encr_algs: SecOids4<'a>,
        /// Old secrets remembered.
        pub window: u32,
        /// Handles wanted.
        pub num_gss_handles: u32,
    }

    /// `EXCHANGE_ID4args`.
    pub struct ExchangeIdArgs<'a> {
        /// The client.
        pub clientowner: ClientOwner4<'a>,
        /// See the constants above.
        pub flags: u32,
        /// How state is to be protected.
        pub state_protect: StateProtect4A<'a>,
        /// Who made the client.
        pub client_impl_id: ArrayVec<NfsImplId4<'a>, 1>,
    }

    /// `server_owner4`.
    pub struct ServerOwner4<'a> {
        /// Sessions can be used at all servers that are the same in this, too.
        pub minor_id: u64,
        /// Client IDs can be used at all servers that are the same in this.
        pub major_id: OwnerName4<'a>,
    }

    /// `EXCHANGE_ID4resok`.
    pub struct ExchangeIdRes<'a> {
        /// The client ID.
        pub clientid: Clientid4,
        /// Number of the first CREATE_SESSION.
        pub sequenceid: Sequenceid4,
        /// See the constants above.
        pub flags: u32,
        /// How state is protected.
        pub state_protect: StateProtect4R,
        /// The server.
        pub server_owner: ServerOwner4<'a>,
        /// Where client IDs and file handles are the same.
        pub server_scope: OwnerName4<'a>,
        /// Who made the server.
        pub server_impl_id: ArrayVec<NfsImplId4<'a>, 1>,
    }
}

xdr_union! {
    /// `state_protect4_r`, as far as this server has it.
    pub enum StateProtect4R {
        /// Not at all.
        0 => None,
    }
}

/// `sec_oid4<>`: algorithms, checked and kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecOids4<'a>(&'a [u8]);

impl SecOids4<'_> {
    /// Most algorithms accepted from the wire.
    const MAX: usize = 64;
    /// No algorithm.
    pub const NONE: SecOids4<'static> = SecOids4(&[0; 4]);
}

impl<'a> Decode<'a> for SecOids4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        let start = dec.rest();
        for _ in 0..dec.array_len(Self::MAX, 4)? {
            dec.get::<SecOid4<'_>>()?;
        }
        let used = start.len() - dec.remaining();
        Ok(SecOids4(start.get(..used).unwrap_or_default()))
    }
}

impl Encode for SecOids4<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        enc.raw(self.0)
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> Sample<'a> for SecOids4<'a> {
    fn sample(_tape: &mut Tape<'a>) -> Self {
        SecOids4::NONE
    }
}

/// `state_protect4_a`: how a client wants its state protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateProtect4A<'a> {
    /// Not at all.
    None,
    /// By the machine's credential.
    MachCred(StateProtectOps4),
    /// By a secret.
    Ssv(SsvSpParms4<'a>),
}

impl<'a> Decode<'a> for StateProtect4A<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            0 => Ok(Self::None),
            1 => dec.get().map(Self::MachCred),
            2 => dec.get().map(Self::Ssv),
            _ => Err(XdrError::BadEnum),
        }
    }
}

impl Encode for StateProtect4A<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        match self {
            Self::None => enc.u32(0),
            Self::MachCred(ops) => {
                enc.u32(1)?;
                enc.put(ops)
            }
            Self::Ssv(parms) => {
                enc.u32(2)?;
                enc.put(parms)
            }
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> Sample<'a> for StateProtect4A<'a> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        match tape.below(3) {
            0 => Self::None,
            1 => Self::MachCred(Sample::sample(tape)),
            _ => Self::Ssv(Sample::sample(tape)),
        }
    }
}

/// What is wrong with the arguments whatever the server knows of the client.
fn check(minor: u32, args: &ExchangeIdArgs<'_>) -> Result<(), Nfsstat4> {
    let fence = if minor > 1 { SUPP_FENCE_OPS } else { 0 };
    if args.flags & !(ARGS_MASK | fence) != 0 {
        return Err(Nfsstat4::Inval);
    }
    match args.state_protect {
        StateProtect4A::None => Ok(()),
        // It takes RPCSEC_GSS with integrity to ask for this (RFC 8881 18.35.3).
        StateProtect4A::MachCred(_) => Err(Nfsstat4::Inval),
        StateProtect4A::Ssv(_) => Err(Nfsstat4::EncrAlgUnsupp),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: ExchangeIdArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    check(c.minor, &args)?;
    let state = &c.cx.server.state;
    let who = Who {
        minor: c.minor,
        owner: args.clientowner.ownerid.0,
        verifier: args.clientowner.verifier,
        principal: c.principal(),
        address: c.cx.client.addr.ip(),
    };
    let update = args.flags & UPD_CONFIRMED_REC_A != 0;
    let found = state.exchange_id(&who, update, exec::now())?;
    let server = OwnerName4(&state.config.server_owner);
    let made_by = NfsImplId4 {
        domain: OwnerName4(b"ringnfs"),
        name: OwnerName4(concat!("ringnfs ", env!("CARGO_PKG_VERSION")).as_bytes()),
        date: ImplDate4 {
            seconds: 0,
            nseconds: 0,
        },
    };
    out.put(&ExchangeIdRes {
        clientid: found.client.clientid,
        sequenceid: found.sequence,
        flags: USE_NON_PNFS | if found.confirmed { CONFIRMED_R } else { 0 },
        state_protect: StateProtect4R::None,
        server_owner: ServerOwner4 {
            minor_id: 0,
            major_id: server,
        },
        server_scope: server,
        server_impl_id: [made_by].into(),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: u32, state_protect: StateProtect4A<'static>) -> ExchangeIdArgs<'static> {
        ExchangeIdArgs {
            clientowner: ClientOwner4 {
                verifier: [1; 8],
                ownerid: OwnerName4(b"one"),
            },
            flags,
            state_protect,
            client_impl_id: ArrayVec::new(),
        }
    }

    #[test]
    fn exchange_id_checks_its_flags() {
        let flags = |minor, flags| check(minor, &args(flags, StateProtect4A::None));
        for good in [0, USE_NON_PNFS, UPD_CONFIRMED_REC_A | SUPP_MOVED_REFER] {
            assert_eq!((flags(1, good), flags(2, good)), (Ok(()), Ok(())));
        }
        for bad in [CONFIRMED_R, 0x8, 0x200, 0x10_0000] {
            assert_eq!(flags(2, bad), Err(Nfsstat4::Inval), "{bad:#x}");
        }
        assert_eq!(flags(1, SUPP_FENCE_OPS), Err(Nfsstat4::Inval));
        assert_eq!(flags(2, SUPP_FENCE_OPS), Ok(()));
    }

    #[test]
    fn exchange_id_protects_no_state() {
        let ops = StateProtectOps4 {
            must_enforce: Bitmap4::EMPTY,
            must_allow: Bitmap4::EMPTY,
        };
        let machine = args(0, StateProtect4A::MachCred(ops.clone()));
        assert_eq!(check(1, &machine), Err(Nfsstat4::Inval));
        let secret = SsvSpParms4 {
            ops,
            hash_algs: SecOids4::NONE,
            encr_algs: SecOids4(b"\0\0\0\x01\0\0\0\x01x\0\0\0"),
            window: 1,
            num_gss_handles: 1,
        };
        let secret = args(0, StateProtect4A::Ssv(secret));
        assert_eq!(check(1, &secret), Err(Nfsstat4::EncrAlgUnsupp));
        let mut wire = Vec::new();
        Enc::new(&mut wire, 4096).put(&secret).expect("fits");
        assert_eq!(Dec::new(&wire).get::<ExchangeIdArgs<'_>>(), Ok(secret));
    }
}
