//! RPC messages (RFC 5531 section 9): borrowed call header, reply headers, refusals.

use super::auth::{AuthStat, OpaqueAuth};
use crate::xdr::{Dec, Decode, Enc, Encode, Result, XdrError, xdr_enum};

/// The RPC protocol version spoken here.
pub const RPC_VERSION: u32 = 2;

const CALL: u32 = 0;
/// `msg_type` of a reply.
pub(super) const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;

xdr_enum! {
    /// `accept_stat` (RFC 5531 section 9).
    pub enum AcceptStat {
        /// RPC executed successfully.
        Success = 0 "SUCCESS",
        /// Remote has not exported the program.
        ProgUnavail = 1 "PROG_UNAVAIL",
        /// Remote cannot support the version.
        ProgMismatch = 2 "PROG_MISMATCH",
        /// Program cannot support the procedure.
        ProcUnavail = 3 "PROC_UNAVAIL",
        /// Procedure cannot decode the parameters.
        GarbageArgs = 4 "GARBAGE_ARGS",
        /// For example memory allocation failure.
        SystemErr = 5 "SYSTEM_ERR",
    }
}

/// A call: header fields and the arguments that follow it.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Transaction id, chosen by the client and returned unchanged.
    pub xid: u32,
    /// Program number.
    pub prog: u32,
    /// Program version.
    pub vers: u32,
    /// Procedure number.
    pub proc: u32,
    /// Credential: who the caller says it is.
    pub cred: OpaqueAuth<'a>,
    /// Verifier: how the caller proves it.
    pub verf: OpaqueAuth<'a>,
    /// Reads the procedure's arguments.
    pub args: Dec<'a>,
}

/// Why a record gets no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Too short to hold the fixed part of a call header, so there is nothing to answer to. The
    /// peer does not speak RPC; the connection should be closed.
    TooShort,
    /// A well-formed start of something that is not a call (a reply on the server's connection).
    NotCall,
}

/// What a record turned out to be.
#[derive(Debug, Clone)]
pub enum Parsed<'a> {
    /// A call with a complete header.
    Call(Call<'a>),
    /// A call that must be refused before anything else is looked at.
    Refuse {
        /// Transaction id to answer with.
        xid: u32,
        /// The answer.
        refusal: Refusal,
    },
    /// Nothing is to be sent.
    Ignore(Ignored),
}

/// Every way a call is answered other than by its procedure (RFC 5531 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// MSG_DENIED, RPC_MISMATCH: the call is not RPC version 2.
    RpcMismatch,
    /// MSG_DENIED, AUTH_ERROR with the reason.
    Auth(AuthStat),
    /// MSG_ACCEPTED, PROG_UNAVAIL.
    ProgUnavail,
    /// MSG_ACCEPTED, PROG_MISMATCH with the versions supported.
    ProgMismatch {
        /// Lowest version supported.
        low: u32,
        /// Highest version supported.
        high: u32,
    },
    /// MSG_ACCEPTED, PROC_UNAVAIL.
    ProcUnavail,
    /// MSG_ACCEPTED, GARBAGE_ARGS.
    GarbageArgs,
    /// MSG_ACCEPTED, SYSTEM_ERR.
    SystemErr,
}

impl From<XdrError> for Refusal {
    /// Arguments that do not decode.
    fn from(_: XdrError) -> Self {
        Self::GarbageArgs
    }
}

/// Reads a record as a call. Nothing is copied and nothing allocated.
#[must_use]
pub fn parse(record: &[u8]) -> Parsed<'_> {
    let mut dec = Dec::new(record);
    let (Ok(xid), Ok(mtype)) = (dec.u32(), dec.u32()) else {
        return Parsed::Ignore(Ignored::TooShort);
    };
    if mtype != CALL {
        return Parsed::Ignore(Ignored::NotCall);
    }
    let refuse = |refusal| Parsed::Refuse { xid, refusal };
    match dec.u32() {
        Ok(RPC_VERSION) => {}
        Ok(_) => return refuse(Refusal::RpcMismatch),
        Err(_) => return Parsed::Ignore(Ignored::TooShort),
    }
    let (Ok(prog), Ok(vers), Ok(proc)) = (dec.u32(), dec.u32(), dec.u32()) else {
        return Parsed::Ignore(Ignored::TooShort);
    };
    // A credential that is cut or above 400 bytes is an authentication error, as on Linux: the
    // program is known, the caller is not.
    let Ok(cred) = dec.get() else {
        return refuse(Refusal::Auth(AuthStat::Badcred));
    };
    let Ok(verf) = dec.get() else {
        return refuse(Refusal::Auth(AuthStat::Badverf));
    };
    Parsed::Call(Call {
        xid,
        prog,
        vers,
        proc,
        cred,
        verf,
        args: dec,
    })
}

/// Bytes of [`success_header`].
pub const SUCCESS_LEN: usize = 24;

/// Header of a successful reply with an AUTH_NONE verifier; the procedure's results follow.
#[inline]
#[must_use]
pub fn success_header(xid: u32) -> [u8; SUCCESS_LEN] {
    let mut out = [0; SUCCESS_LEN];
    let words = [xid, REPLY, MSG_ACCEPTED, 0, 0, AcceptStat::Success.wire()];
    for (chunk, word) in out.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// Appends the header of a successful reply with any verifier (RPCSEC_GSS needs one).
pub fn encode_success(enc: &mut Enc<'_>, xid: u32, verf: &OpaqueAuth<'_>) -> Result<()> {
    enc.u32(xid)?;
    enc.u32(REPLY)?;
    enc.u32(MSG_ACCEPTED)?;
    enc.put(verf)?;
    enc.put(&AcceptStat::Success)
}

/// Appends a complete refusing reply.
pub fn encode_refusal(enc: &mut Enc<'_>, xid: u32, refusal: Refusal) -> Result<()> {
    enc.u32(xid)?;
    enc.u32(REPLY)?;
    let stat = match refusal {
        Refusal::RpcMismatch => {
            enc.u32(MSG_DENIED)?;
            enc.u32(RPC_MISMATCH)?;
            enc.u32(RPC_VERSION)?;
            return enc.u32(RPC_VERSION);
        }
        Refusal::Auth(stat) => {
            enc.u32(MSG_DENIED)?;
            enc.u32(AUTH_ERROR)?;
            return enc.put(&stat);
        }
        Refusal::ProgUnavail => AcceptStat::ProgUnavail,
        Refusal::ProgMismatch { .. } => AcceptStat::ProgMismatch,
        Refusal::ProcUnavail => AcceptStat::ProcUnavail,
        Refusal::GarbageArgs => AcceptStat::GarbageArgs,
        Refusal::SystemErr => AcceptStat::SystemErr,
    };
    enc.u32(MSG_ACCEPTED)?;
    enc.put(&OpaqueAuth::NONE)?;
    enc.put(&stat)?;
    if let Refusal::ProgMismatch { low, high } = refusal {
        enc.u32(low)?;
        enc.u32(high)?;
    }
    Ok(())
}

/// Header of a call, for callbacks, rpcbind registration and test clients. The arguments follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallHeader<'a> {
    /// Transaction id.
    pub xid: u32,
    /// Program number.
    pub prog: u32,
    /// Program version.
    pub vers: u32,
    /// Procedure number.
    pub proc: u32,
    /// Credential.
    pub cred: OpaqueAuth<'a>,
    /// Verifier.
    pub verf: OpaqueAuth<'a>,
}

impl Encode for CallHeader<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        for word in [self.xid, CALL, RPC_VERSION, self.prog, self.vers, self.proc] {
            enc.u32(word)?;
        }
        enc.put(&self.cred)?;
        enc.put(&self.verf)
    }
}

/// A received reply: the answer's header. Results follow in the decoder when `outcome` is `Ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader<'a> {
    /// Transaction id of the call.
    pub xid: u32,
    /// The server's verifier; AUTH_NONE when the call was denied.
    pub verf: OpaqueAuth<'a>,
    /// Whether the procedure ran.
    pub outcome: Result<(), Refusal>,
}

impl<'a> Decode<'a> for ReplyHeader<'a> {
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        let xid = dec.u32()?;
        if dec.u32()? != REPLY {
            return Err(XdrError::BadEnum);
        }
        let (verf, outcome) = match dec.u32()? {
            MSG_ACCEPTED => (dec.get()?, accepted(dec)?),
            MSG_DENIED => (OpaqueAuth::NONE, Err(denied(dec)?)),
            _ => return Err(XdrError::BadEnum),
        };
        Ok(Self { xid, verf, outcome })
    }
}

fn accepted(dec: &mut Dec<'_>) -> Result<Result<(), Refusal>> {
    Ok(Err(match dec.get::<AcceptStat>()? {
        AcceptStat::Success => return Ok(Ok(())),
        AcceptStat::ProgUnavail => Refusal::ProgUnavail,
        AcceptStat::ProgMismatch => Refusal::ProgMismatch {
            low: dec.u32()?,
            high: dec.u32()?,
        },
        AcceptStat::ProcUnavail => Refusal::ProcUnavail,
        AcceptStat::GarbageArgs => Refusal::GarbageArgs,
        AcceptStat::SystemErr => Refusal::SystemErr,
    }))
}

fn denied(dec: &mut Dec<'_>) -> Result<Refusal> {
    match dec.u32()? {
        RPC_MISMATCH => {
            dec.skip(8)?;
            Ok(Refusal::RpcMismatch)
        }
        AUTH_ERROR => dec.get().map(Refusal::Auth),
        _ => Err(XdrError::BadEnum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> CallHeader<'static> {
        CallHeader {
            xid: 0xfeed,
            prog: 100_003,
            vers: 3,
            proc: 1,
            cred: OpaqueAuth {
                flavor: 1,
                body: b"abcde",
            },
            verf: OpaqueAuth::NONE,
        }
    }

    fn bytes(value: &impl Encode) -> Vec<u8> {
        let mut buf = Vec::new();
        Enc::new(&mut buf, 1000).put(value).unwrap();
        buf
    }

    #[test]
    fn call_is_borrowed() {
        let mut record = bytes(&header());
        record.extend(7_u32.to_be_bytes());
        let Parsed::Call(mut call) = parse(&record) else {
            panic!("not a call")
        };
        assert_eq!(
            (call.xid, call.prog, call.vers, call.proc),
            (0xfeed, 100_003, 3, 1)
        );
        assert_eq!((call.cred, call.verf), (header().cred, OpaqueAuth::NONE));
        assert_eq!(call.args.u32(), Ok(7));
        assert_eq!(call.args.finish(), Ok(()));
    }

    #[test]
    fn cut_headers() {
        let record = bytes(&header());
        for cut in 0..record.len() {
            match (cut, parse(&record[..cut])) {
                (0..24, Parsed::Ignore(Ignored::TooShort)) => {}
                (
                    24..40,
                    Parsed::Refuse {
                        xid: 0xfeed,
                        refusal,
                    },
                ) => {
                    assert_eq!(refusal, Refusal::Auth(AuthStat::Badcred));
                }
                (
                    40..,
                    Parsed::Refuse {
                        xid: 0xfeed,
                        refusal,
                    },
                ) => {
                    assert_eq!(refusal, Refusal::Auth(AuthStat::Badverf));
                }
                (_, other) => panic!("{cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn not_a_call_is_ignored() {
        for mtype in [1_u32, 2, u32::MAX] {
            let mut record = bytes(&header());
            record[4..8].copy_from_slice(&mtype.to_be_bytes());
            assert!(matches!(parse(&record), Parsed::Ignore(Ignored::NotCall)));
        }
    }

    #[test]
    fn other_rpc_versions_are_refused_even_without_the_rest() {
        let mut record = bytes(&header());
        record[11] = 3;
        record.truncate(12);
        let Parsed::Refuse { refusal, .. } = parse(&record) else {
            panic!("not refused")
        };
        assert_eq!(refusal, Refusal::RpcMismatch);
    }

    #[test]
    fn credential_body_has_a_maximum() {
        let body = [0; 404];
        for (len, ok) in [(400, true), (401, false), (404, false)] {
            let cred = OpaqueAuth {
                flavor: 1,
                body: &body[..len],
            };
            let mut record = Vec::new();
            let mut enc = Enc::new(&mut record, 1000);
            [1, CALL, 2, 3, 4, 5, 1]
                .iter()
                .for_each(|w| enc.u32(*w).unwrap());
            enc.opaque(cred.body).unwrap();
            enc.put(&OpaqueAuth::NONE).unwrap();
            assert_eq!(matches!(parse(&record), Parsed::Call(_)), ok, "{len}");
        }
    }

    #[test]
    fn refusals_round_trip() {
        let mut all = vec![
            Refusal::RpcMismatch,
            Refusal::ProgUnavail,
            Refusal::ProgMismatch { low: 3, high: 4 },
            Refusal::ProcUnavail,
            Refusal::GarbageArgs,
            Refusal::SystemErr,
        ];
        all.extend(AuthStat::ALL.iter().copied().map(Refusal::Auth));
        for refusal in all {
            let mut buf = Vec::new();
            encode_refusal(&mut Enc::new(&mut buf, 100), 9, refusal).unwrap();
            let mut dec = Dec::new(&buf);
            let reply: ReplyHeader<'_> = dec.get().unwrap();
            assert_eq!((reply.xid, reply.outcome), (9, Err(refusal)));
            assert_eq!(dec.finish(), Ok(()));
            for cut in 0..buf.len() {
                assert!(Dec::new(&buf[..cut]).get::<ReplyHeader<'_>>().is_err());
            }
        }
    }

    #[test]
    fn success_headers_agree() {
        let mut buf = Vec::new();
        encode_success(&mut Enc::new(&mut buf, 100), 77, &OpaqueAuth::NONE).unwrap();
        assert_eq!(buf, success_header(77));
        let reply: ReplyHeader<'_> = Dec::new(&buf).get().unwrap();
        assert_eq!((reply.xid, reply.outcome), (77, Ok(())));
    }
}
