//! The caller's side of RPC (RFC 5531 section 9), without the connection: what a call looks like,
//! which calls wait for a reply, and what a reply says.

use hashbrown::HashMap;

use super::auth::{Credential, OpaqueAuth};
use super::msg::{self, CallHeader, Refusal, ReplyHeader};
use crate::xdr::{Dec, Enc, XdrError};

/// Most calls of one connection that wait for their reply.
pub const CALLS_MAX: usize = 256;
/// Longest arguments of a call, in bytes.
pub const ARGS_MAX: usize = 64 << 10;
/// Longest reply record, in bytes.
pub const REPLY_MAX: usize = 64 << 10;

/// Room for the header of a call with the longest credential.
const HEADER_MAX: usize = 512;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Procedure {
    /// Program number.
    pub prog: u32,
    /// Program version.
    pub vers: u32,
    /// Procedure number.
    pub proc: u32,
}

/// Why a call has no results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection (any more). Whether the procedure ran is not known.
    #[error("the connection is closed")]
    Closed,
    /// No reply in time. Whether the procedure ran is not known.
    #[error("no reply in time")]
    TimedOut,
    /// Too much waits for this peer already; nothing was sent.
    #[error("too many calls wait for this peer")]
    Busy,
    /// The arguments are above [`ARGS_MAX`]; nothing was sent.
    #[error("arguments above the limit")]
    TooLong,
    /// The peer refused the call; the procedure did not run.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The reply is not one.
    #[error("reply is not RPC")]
    Garbage,
}

/// A call record whose xid is still to come, see [`set_xid`].
///
/// # Errors
/// [`CallError::TooLong`].
pub fn message(what: Procedure, cred: &Credential, args: &[u8]) -> Result<Vec<u8>, CallError> {
    if args.len() > ARGS_MAX {
        return Err(CallError::TooLong);
    }
    let header = CallHeader {
        xid: 0,
        prog: what.prog,
        vers: what.vers,
        proc: what.proc,
        cred: cred.wire(),
        verf: OpaqueAuth::NONE,
    };
    let mut bytes = Vec::with_capacity(HEADER_MAX.min(128) + args.len());
    let encoded = Enc::new(&mut bytes, HEADER_MAX).put(&header);
    encoded.map_err(|_: XdrError| CallError::TooLong)?;
    bytes.extend_from_slice(args);
    Ok(bytes)
}

/// Puts the transaction id into a [`message`].
pub fn set_xid(message: &mut [u8], xid: u32) {
    if let Some(word) = message.first_chunk_mut() {
        *word = xid.to_be_bytes();
    }
}

/// Transaction id of a reply record; `None` if it is no reply.
#[must_use]
pub fn reply_xid(record: &[u8]) -> Option<u32> {
    let mut dec = Dec::new(record);
    let xid = dec.u32().ok()?;
    (dec.u32() == Ok(msg::REPLY)).then_some(xid)
}

/// The results in a reply record: what follows the header of an accepted call. The verifier is not
/// looked at: AUTH_NONE and AUTH_SYS have none worth it.
///
/// # Errors
/// [`CallError::Refused`] and [`CallError::Garbage`].
pub fn results(record: &[u8]) -> Result<&[u8], CallError> {
    let mut dec = Dec::new(record);
    let header: ReplyHeader<'_> = dec.get().map_err(|_| CallError::Garbage)?;
    header.outcome.map_err(CallError::Refused)?;
    Ok(dec.rest())
}

/// The calls of one connection that wait for their reply: `T` is how to tell the caller.
///
/// Transaction ids count up from a start of the caller's choice: one comes back only after all
/// others, so that a reply that came too late is never taken for another call's.
pub struct Calls<T> {
    next: u32,
    waiting: HashMap<u32, T, foldhash::fast::FixedState>,
}

impl<T> Calls<T> {
    /// None yet; `first` is the transaction id of the first.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Calls {
            next: first,
            waiting: HashMap::default(),
        }
    }

    /// Registers a call and gives its transaction id.
    ///
    /// # Errors
    /// `waiter` comes back when [`CALLS_MAX`] calls wait.
    pub fn begin(&mut self, waiter: T) -> Result<u32, T> {
        if self.waiting.len() >= CALLS_MAX {
            return Err(waiter);
        }
        // Ends: fewer are in use than there are.
        while self.waiting.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let xid = self.next;
        self.next = xid.wrapping_add(1);
        self.waiting.insert(xid, waiter);
        Ok(xid)
    }

    /// Takes a call out: it was answered, or nobody waits for it any more.
    pub fn end(&mut self, xid: u32) -> Option<T> {
        self.waiting.remove(&xid)
    }

    /// Takes all calls out.
    pub fn end_all(&mut self) -> Vec<T> {
        self.waiting.drain().map(|(_, waiter)| waiter).collect()
    }

    /// Calls that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// No call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::auth::sys::AuthSys;
    use crate::rpc::auth::{self, AuthStat, Identity};
    use proptest::prelude::*;

    const WHAT: Procedure = Procedure {
        prog: 0x4000_0000,
        vers: 1,
        proc: 2,
    };

    #[test]
    fn a_call_is_what_the_other_side_reads() {
        let gids = [7, 8].into_iter().collect();
        let sys = AuthSys {
            stamp: 1,
            machinename: b"server",
            uid: 5,
            gid: 6,
            gids,
        };
        let sys = Credential::sys(&sys).unwrap();
        for (cred, uid) in [(Credential::none(), None), (sys, Some(5))] {
            let mut record = message(WHAT, &cred, b"args").unwrap();
            set_xid(&mut record, 0xfeed);
            let msg::Parsed::Call(call) = msg::parse(&record) else {
                panic!("not a call")
            };
            let got = (call.xid, call.prog, call.vers, call.proc, call.args.rest());
            assert_eq!(got, (0xfeed, WHAT.prog, 1, 2, &b"args"[..]));
            let who = match auth::authenticate(&call) {
                Ok(Identity::Unix(unix)) => Some(unix.uid),
                Ok(Identity::None) => None,
                Err(stat) => panic!("{stat:?}"),
            };
            assert_eq!(who, uid);
            assert_eq!(reply_xid(&record), None);
        }
    }

    #[test]
    fn arguments_are_bounded() {
        let none = Credential::none();
        assert!(message(WHAT, &none, &vec![0; ARGS_MAX]).is_ok());
        let longer = message(WHAT, &none, &vec![0; ARGS_MAX + 1]);
        assert_eq!(longer, Err(CallError::TooLong));
        let widest = AuthSys {
            stamp: 1,
            machinename: &[b'x'; auth::sys::MAX_MACHINENAME],
            uid: 5,
            gid: 6,
            gids: [9; auth::sys::MAX_GIDS].into(),
        };
        let widest = Credential::sys(&widest).unwrap();
        assert!(message(WHAT, &widest, b"").is_ok());
    }

    #[test]
    fn replies() {
        let mut reply = msg::success_header(7).to_vec();
        reply.extend(b"results!");
        assert_eq!(reply_xid(&reply), Some(7));
        assert_eq!(results(&reply), Ok(&b"results!"[..]));
        for cut in 0..msg::SUCCESS_LEN {
            assert_eq!(results(&reply[..cut]), Err(CallError::Garbage), "{cut}");
            assert_eq!(reply_xid(&reply[..cut]), (cut >= 8).then_some(7), "{cut}");
        }
        let refusals = [
            Refusal::ProcUnavail,
            Refusal::ProgMismatch { low: 1, high: 1 },
            Refusal::Auth(AuthStat::Badcred),
            Refusal::RpcMismatch,
        ];
        for refusal in refusals {
            let mut reply = Vec::new();
            msg::encode_refusal(&mut Enc::new(&mut reply, 100), 7, refusal).unwrap();
            assert_eq!(reply_xid(&reply), Some(7));
            assert_eq!(results(&reply), Err(CallError::Refused(refusal)));
        }
    }

    #[test]
    fn ids_are_not_used_again_soon() {
        let mut calls = Calls::new(u32::MAX);
        assert_eq!(calls.begin('a'), Ok(u32::MAX));
        assert_eq!(calls.begin('b'), Ok(0));
        assert_eq!(calls.end(0), Some('b'));
        assert_eq!(calls.begin('c'), Ok(1));
        assert_eq!((calls.end(0), calls.end(77)), (None, None));
        // All the way round: the one that still waits is passed over.
        calls.next = u32::MAX;
        assert_eq!(calls.begin('d'), Ok(0));
        assert_eq!(calls.end(u32::MAX), Some('a'));
        let mut left = calls.end_all();
        left.sort_unstable();
        assert_eq!((left, calls.is_empty()), (vec!['c', 'd'], true));
    }

    #[test]
    fn calls_are_bounded() {
        let mut calls = Calls::new(5);
        for n in 0..CALLS_MAX {
            assert_eq!(calls.begin(n), Ok(5 + n as u32));
        }
        assert_eq!(calls.begin(999), Err(999));
        assert_eq!((calls.len(), calls.end(9)), (CALLS_MAX, Some(4)));
        assert!(calls.begin(999).is_ok());
    }

    proptest! {
        #[test]
        fn any_record_is_taken_or_not(record in proptest::collection::vec(any::<u8>(), 0..100)) {
            if results(&record).is_ok() {
                prop_assert!(reply_xid(&record).is_some());
            }
        }
    }
}
