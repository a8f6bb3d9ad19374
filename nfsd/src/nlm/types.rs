//! The types of the Network Lock Manager: version 4 with 64-bit ranges (RFC 1813 appendix II), and
//! versions 1 to 3 with 32-bit ones (Open Group XNFS, chapter 10).

use crate::xdr::{Dec, Decode, Result, xdr_enum, xdr_opaque, xdr_struct};

/// Program number.
pub const NLM_PROGRAM: u32 = 100_021;
/// The first version.
pub const NLM_V1: u32 = 1;
/// The first version with SHARE and those after it.
pub const NLM_V3: u32 = 3;
/// The version of NFS version 3.
pub const NLM_V4: u32 = 4;

xdr_enum! {
    /// Procedures of all versions.
    #[derive(PartialOrd, Ord)]
    pub enum NlmProc {
        /// Does nothing.
        Null = 0 "NLM_NULL",
        /// Whether a lock could be had: [`TestArgs`] -> [`TestRes`].
        Test = 1 "NLM_TEST",
        /// Locks: [`LockArgs`] -> [`Res`].
        Lock = 2 "NLM_LOCK",
        /// Waits no more: [`CancelArgs`] -> [`Res`].
        Cancel = 3 "NLM_CANCEL",
        /// Unlocks: [`UnlockArgs`] -> [`Res`].
        Unlock = 4 "NLM_UNLOCK",
        /// The caller grants what was waited for: [`TestArgs`] -> [`Res`].
        Granted = 5 "NLM_GRANTED",
        /// TEST, answered by a call of TEST_RES.
        TestMsg = 6 "NLM_TEST_MSG",
        /// LOCK, answered by a call of LOCK_RES.
        LockMsg = 7 "NLM_LOCK_MSG",
        /// CANCEL, answered by a call of CANCEL_RES.
        CancelMsg = 8 "NLM_CANCEL_MSG",
        /// UNLOCK, answered by a call of UNLOCK_RES.
        UnlockMsg = 9 "NLM_UNLOCK_MSG",
        /// GRANTED, answered by a call of GRANTED_RES.
        GrantedMsg = 10 "NLM_GRANTED_MSG",
        /// The answer to a TEST_MSG.
        TestRes = 11 "NLM_TEST_RES",
        /// The answer to a LOCK_MSG.
        LockRes = 12 "NLM_LOCK_RES",
        /// The answer to a CANCEL_MSG.
        CancelRes = 13 "NLM_CANCEL_RES",
        /// The answer to an UNLOCK_MSG.
        UnlockRes = 14 "NLM_UNLOCK_RES",
        /// The answer to a GRANTED_MSG.
        GrantedRes = 15 "NLM_GRANTED_RES",
        /// Opens with a deny mode: [`ShareArgs`] -> [`ShareRes`].
        Share = 20 "NLM_SHARE",
        /// Ends a SHARE: [`ShareArgs`] -> [`ShareRes`].
        Unshare = 21 "NLM_UNSHARE",
        /// LOCK of a host that is not monitored.
        NmLock = 22 "NLM_NM_LOCK",
        /// A host gives up all it has: [`Notify`] -> void.
        FreeAll = 23 "NLM_FREE_ALL",
    }
}

impl NlmProc {
    /// The same with the answer as a reply, of one whose answer is a call; and that call.
    #[must_use]
    pub fn message(self) -> Option<(Self, Self)> {
        let number = self.wire();
        let form = (Self::TestMsg..=Self::GrantedMsg).contains(&self);
        let (plain, res) = (number.checked_sub(5)?, number.checked_add(5)?);
        Self::from_wire(plain)
            .zip(Self::from_wire(res))
            .filter(|_| form)
    }
}

xdr_enum! {
    /// `nlm4_stats`. Versions below 4 end with DEADLCK.
    pub enum NlmStat {
        /// Done.
        Granted = 0 "NLM4_GRANTED",
        /// Somebody else has it, or there is no such.
        Denied = 1 "NLM4_DENIED",
        /// The server is out of something.
        DeniedNolocks = 2 "NLM4_DENIED_NOLOCKS",
        /// The caller is called when it is granted.
        Blocked = 3 "NLM4_BLOCKED",
        /// Only what was held before a restart can be had now; or that can be had no more.
        DeniedGracePeriod = 4 "NLM4_DENIED_GRACE_PERIOD",
        /// Waiting would never end.
        Deadlck = 5 "NLM4_DEADLCK",
        /// The file system is read-only.
        Rofs = 6 "NLM4_ROFS",
        /// The file handle is none.
        StaleFh = 7 "NLM4_STALE_FH",
        /// The range goes beyond 2^64.
        Fbig = 8 "NLM4_FBIG",
        /// Something else.
        Failed = 9 "NLM4_FAILED",
    }
}

impl NlmStat {
    /// As a version says it.
    #[must_use]
    pub const fn of_version(self, vers: u32) -> Self {
        match self {
            Self::Rofs | Self::StaleFh | Self::Fbig | Self::Failed if vers < NLM_V4 => {
                Self::DeniedNolocks
            }
            stat => stat,
        }
    }
}

xdr_opaque! {
    /// `netobj`: cookie, file handle, owner (MAXNETOBJ_SZ).
    pub struct Netobj(max 1024);
    /// `caller_name`: a host (LM_MAXSTRLEN).
    pub struct CallerName(max 1024);
}

/// What has ranges in it, for one width of them.
macro_rules! of_width {
    ($(#[$m:meta])* $module:ident $word:ty) => {
        $(#[$m])*
        pub mod $module {
            use super::{CallerName, Netobj};
            use crate::xdr::xdr_struct;

            xdr_struct! {
                /// `nlm4_lock`, `nlm_lock`: who, which file, which bytes.
                #[derive(Copy)]
                pub struct Lock<'a> {
                    /// The host.
                    pub caller_name: CallerName<'a>,
                    /// The file.
                    pub fh: Netobj<'a>,
                    /// The owner on that host.
                    pub oh: Netobj<'a>,
                    /// The process on that host.
                    pub svid: i32,
                    /// First byte.
                    pub offset: $word,
                    /// Bytes, 0 for up to the end.
                    pub len: $word,
                }

                /// `nlm4_holder`, `nlm_holder`: what is in the way.
                #[derive(Copy)]
                pub struct Holder<'a> {
                    /// For writing.
                    pub exclusive: bool,
                    /// The process.
                    pub svid: i32,
                    /// The owner.
                    pub oh: Netobj<'a>,
                    /// First byte.
                    pub offset: $word,
                    /// Bytes, 0 for up to the end.
                    pub len: $word,
                }

                /// `nlm4_testargs`: of TEST and GRANTED.
                #[derive(Copy)]
                pub struct TestArgs<'a> {
                    /// Comes back with the answer.
                    pub cookie: Netobj<'a>,
                    /// For writing.
                    pub exclusive: bool,
                    /// What.
                    pub alock: Lock<'a>,
                }

                /// `nlm4_lockargs`.
                #[derive(Copy)]
                pub struct LockArgs<'a> {
                    /// Comes back with the answer.
                    pub cookie: Netobj<'a>,
                    /// Wait for it.
                    pub block: bool,
                    /// For writing.
                    pub exclusive: bool,
                    /// What.
                    pub alock: Lock<'a>,
                    /// It was held before the server restarted.
                    pub reclaim: bool,
                    /// The host's NSM state.
                    pub state: i32,
                }

                /// `nlm4_cancargs`.
                #[derive(Copy)]
                pub struct CancelArgs<'a> {
                    /// Comes back with the answer.
                    pub cookie: Netobj<'a>,
                    /// As in the LOCK.
                    pub block: bool,
                    /// As in the LOCK.
                    pub exclusive: bool,
                    /// As in the LOCK.
                    pub alock: Lock<'a>,
                }

                /// `nlm4_unlockargs`.
                #[derive(Copy)]
                pub struct UnlockArgs<'a> {
                    /// Comes back with the answer.
                    pub cookie: Netobj<'a>,
                    /// What.
                    pub alock: Lock<'a>,
                }
            }
        }
    };
}

of_width! {
    /// Version 4.
    wide u64
}
of_width! {
    /// Versions 1 to 3.
    narrow u32
}

pub use wide::{CancelArgs, Holder, Lock, LockArgs, TestArgs, UnlockArgs};

impl<'a> From<narrow::Lock<'a>> for Lock<'a> {
    fn from(lock: narrow::Lock<'a>) -> Self {
        Lock {
            caller_name: lock.caller_name,
            fh: lock.fh,
            oh: lock.oh,
            svid: lock.svid,
            offset: lock.offset.into(),
            len: lock.len.into(),
        }
    }
}

impl<'a> From<narrow::TestArgs<'a>> for TestArgs<'a> {
    fn from(args: narrow::TestArgs<'a>) -> Self {
        let narrow::TestArgs {
            cookie,
            exclusive,
            alock,
        } = args;
        let alock = alock.into();
        TestArgs {
            cookie,
            exclusive,
            alock,
        }
    }
}

impl<'a> From<narrow::LockArgs<'a>> for LockArgs<'a> {
    fn from(args: narrow::LockArgs<'a>) -> Self {
        LockArgs {
            cookie: args.cookie,
            block: args.block,
            exclusive: args.exclusive,
            alock: args.alock.into(),
            reclaim: args.reclaim,
            state: args.state,
        }
    }
}

impl<'a> From<narrow::CancelArgs<'a>> for CancelArgs<'a> {
    fn from(args: narrow::CancelArgs<'a>) -> Self {
        CancelArgs {
            cookie: args.cookie,
            block: args.block,
            exclusive: args.exclusive,
            alock: args.alock.into(),
        }
    }
}

impl<'a> From<narrow::UnlockArgs<'a>> for UnlockArgs<'a> {
    fn from(args: narrow::UnlockArgs<'a>) -> Self {
        let narrow::UnlockArgs { cookie, alock } = args;
        let alock = alock.into();
        UnlockArgs { cookie, alock }
    }
}

/// An offset and a length in 32 bits: what does not fit ends with what does, and a length that
/// reaches beyond is up to the end.
fn narrowed(offset: u64, len: u64) -> (u32, u32) {
    let first = u32::try_from(offset).unwrap_or(u32::MAX);
    (first, u32::try_from(len).unwrap_or(0))
}

impl<'a> Lock<'a> {
    /// For versions below 4.
    #[must_use]
    pub fn narrow(&self) -> narrow::Lock<'a> {
        let (offset, len) = narrowed(self.offset, self.len);
        narrow::Lock {
            caller_name: self.caller_name,
            fh: self.fh,
            oh: self.oh,
            svid: self.svid,
            offset,
            len,
        }
    }
}

impl<'a> Holder<'a> {
    /// For versions below 4.
    #[must_use]
    pub fn narrow(&self) -> narrow::Holder<'a> {
        let (offset, len) = narrowed(self.offset, self.len);
        narrow::Holder {
            exclusive: self.exclusive,
            svid: self.svid,
            oh: self.oh,
            offset,
            len,
        }
    }
}

/// Reads arguments in the form of a version.
///
/// # Errors
/// They do not decode.
pub fn read<'a, W, N>(args: &mut Dec<'a>, vers: u32) -> Result<W>
where
    W: Decode<'a>,
    N: Decode<'a> + Into<W>,
{
    if vers >= NLM_V4 {
        args.get()
    } else {
        args.get::<N>().map(Into::into)
    }
}

xdr_struct! {
    /// `nlm4_res`: the answer to LOCK, CANCEL, UNLOCK, GRANTED.
    #[derive(Copy)]
    pub struct Res<'a> {
        /// The call's.
        pub cookie: Netobj<'a>,
        /// How it went.
        pub stat: NlmStat,
    }

    /// `nlm4_share`.
    #[derive(Copy)]
    pub struct Share<'a> {
        /// The host.
        pub caller_name: CallerName<'a>,
        /// The file.
        pub fh: Netobj<'a>,
        /// The owner on that host.
        pub oh: Netobj<'a>,
        /// What is denied to others.
        pub mode: FshMode,
        /// What is going to be done.
        pub access: FshAccess,
    }

    /// `nlm4_shareargs`.
    #[derive(Copy)]
    pub struct ShareArgs<'a> {
        /// Comes back with the answer.
        pub cookie: Netobj<'a>,
        /// What.
        pub share: Share<'a>,
        /// It was held before the server restarted.
        pub reclaim: bool,
    }

    /// `nlm4_shareres`.
    #[derive(Copy)]
    pub struct ShareRes<'a> {
        /// The call's.
        pub cookie: Netobj<'a>,
        /// How it went.
        pub stat: NlmStat,
        /// Of no use.
        pub sequence: i32,
    }

    /// `nlm4_notify`: of FREE_ALL.
    #[derive(Copy)]
    pub struct Notify<'a> {
        /// The host.
        pub name: CallerName<'a>,
        /// Its NSM state.
        pub state: i32,
    }
}

xdr_enum! {
    /// `fsh4_mode`: what a share denies.
    pub enum FshMode {
        /// Nothing.
        None = 0 "fsm_DN",
        /// Reading.
        Read = 1 "fsm_DR",
        /// Writing.
        Write = 2 "fsm_DW",
        /// Both.
        Both = 3 "fsm_DRW",
    }
}

xdr_enum! {
    /// `fsh4_access`: what a share is for.
    pub enum FshAccess {
        /// Neither.
        None = 0 "fsa_NONE",
        /// Reading.
        Read = 1 "fsa_R",
        /// Writing.
        Write = 2 "fsa_W",
        /// Both.
        Both = 3 "fsa_RW",
    }
}

/// The answer to TEST: `nlm4_testres`, in the form of version 4 or of those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestRes<'a, H> {
    /// The call's.
    pub cookie: Netobj<'a>,
    /// How it went, and with DENIED what is in the way.
    pub stat: Result<(), (NlmStat, Option<H>)>,
}

impl<'a, H: Decode<'a>> Decode<'a> for TestRes<'a, H> {
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        let cookie = dec.get()?;
        let stat = match dec.get()? {
            NlmStat::Granted => Ok(()),
            NlmStat::Denied => Err((NlmStat::Denied, Some(dec.get()?))),
            other => Err((other, None)),
        };
        Ok(TestRes { cookie, stat })
    }
}

impl<H: crate::xdr::Encode> crate::xdr::Encode for TestRes<'_, H> {
    fn encode(&self, enc: &mut crate::xdr::Enc<'_>) -> Result<()> {
        enc.put(&self.cookie)?;
        match &self.stat {
            Ok(()) => enc.put(&NlmStat::Granted),
            Err((NlmStat::Denied, Some(holder))) => {
                enc.put(&NlmStat::Denied)?;
                enc.put(holder)
            }
            // DENIED has a holder, and nothing else has.
            Err((NlmStat::Denied | NlmStat::Granted, _)) => enc.put(&NlmStat::DeniedNolocks),
            Err((other, _)) => enc.put(other),
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a, H: crate::xdr::Sample<'a>> crate::xdr::Sample<'a> for TestRes<'a, H> {
    fn sample(tape: &mut crate::xdr::Tape<'a>) -> Self {
        let cookie = crate::xdr::Sample::sample(tape);
        let stat = match NlmStat::sample(tape) {
            NlmStat::Granted => Ok(()),
            NlmStat::Denied => Err((NlmStat::Denied, Some(H::sample(tape)))),
            other => Err((other, None)),
        };
        TestRes { cookie, stat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Enc, Encode};

    fn encoded(value: &impl Encode) -> Vec<u8> {
        let mut bytes = Vec::new();
        Enc::new(&mut bytes, 4096).put(value).expect("fits");
        bytes
    }

    fn lock(offset: u64, len: u64) -> Lock<'static> {
        Lock {
            caller_name: CallerName(b"host"),
            fh: Netobj(b"handle"),
            oh: Netobj(b"owner"),
            svid: -7,
            offset,
            len,
        }
    }

    #[test]
    fn both_widths_of_a_lock() {
        let args = UnlockArgs {
            cookie: Netobj(b"c"),
            alock: lock(3, 4),
        };
        let wide = encoded(&args);
        let narrow = encoded(&narrow::UnlockArgs {
            cookie: args.cookie,
            alock: args.alock.narrow(),
        });
        assert_eq!(wide.len(), narrow.len() + 8);
        let back = read::<UnlockArgs<'_>, narrow::UnlockArgs<'_>>;
        assert_eq!(back(&mut Dec::new(&wide), 4), Ok(args));
        for vers in 1..4 {
            assert_eq!(back(&mut Dec::new(&narrow), vers), Ok(args));
        }
        assert!(back(&mut Dec::new(&narrow), 4).is_err());
    }

    #[test]
    fn ranges_beyond_32_bits() {
        let narrow = |offset, len| {
            let lock = lock(offset, len).narrow();
            (lock.offset, lock.len)
        };
        assert_eq!(narrow(5, 0), (5, 0));
        assert_eq!(narrow(5, 1 << 40), (5, 0));
        assert_eq!(narrow(1 << 40, 9), (u32::MAX, 9));
    }

    #[test]
    fn names_and_objects_are_bounded() {
        let long = [b'x'; 1025];
        assert!(
            Dec::new(&encoded(&Netobj(&long[1..])))
                .get::<Netobj<'_>>()
                .is_ok()
        );
        let mut wire = 1025_u32.to_be_bytes().to_vec();
        wire.extend([b'x'; 1028]);
        assert!(Dec::new(&wire).get::<Netobj<'_>>().is_err());
        assert!(Dec::new(&wire).get::<CallerName<'_>>().is_err());
    }

    #[test]
    fn answers_of_test() {
        let holder = Holder {
            exclusive: true,
            svid: 1,
            oh: Netobj(b"o"),
            offset: 2,
            len: 3,
        };
        for stat in [
            Ok(()),
            Err((NlmStat::Denied, Some(holder))),
            Err((NlmStat::DeniedGracePeriod, None)),
        ] {
            let res = TestRes {
                cookie: Netobj(b"c"),
                stat,
            };
            let wire = encoded(&res);
            assert_eq!(Dec::new(&wire).get::<TestRes<'_, Holder<'_>>>(), Ok(res));
        }
    }

    #[test]
    fn forms_of_procedures() {
        let all: Vec<_> = NlmProc::ALL.iter().filter_map(|p| p.message()).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(
            NlmProc::LockMsg.message(),
            Some((NlmProc::Lock, NlmProc::LockRes))
        );
        assert_eq!(NlmProc::Share.message(), None);
    }

    #[test]
    fn statuses_of_old_versions() {
        for stat in NlmStat::ALL {
            assert_eq!(stat.of_version(4), *stat);
            assert!(stat.of_version(1).wire() <= NlmStat::Deadlck.wire());
        }
    }
}
