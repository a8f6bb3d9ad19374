//! ONC RPC version 2 (RFC 5531): the table of programs, and the pure parts, without sockets and
//! clock.

pub mod auth;
pub mod calls;
pub mod drc;
pub mod msg;
pub mod portmap;
pub mod portmap_proc;
pub mod record;
pub mod rpcbind;
pub mod uaddr;

use crate::cx::{Cx, Reply};
use crate::mount::types::{MOUNT_PROGRAM, MOUNT_V1, MOUNT_V3};
use crate::nfs3::{self, NFS_PROGRAM, NFS_V3};
use crate::nfs4::{self, NFS_V4};
use crate::nfsacl;
use crate::nfsacl::types::{NFS_ACL_PROGRAM, NFSACL_V2, NFSACL_V3};
use crate::nlm::types::{NLM_PROGRAM, NLM_V1, NLM_V3, NLM_V4};
use crate::nsm::types::{SM_PROG, SM_VERS};
use crate::xdr::Dec;
use auth::{AuthStat, Identity};
use msg::{Call, Refusal};
use portmap::{PMAP_PROG, PMAP_V2, RPCB_V4};

/// A program served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub number: u32,
    /// Its versions, in order.
    pub versions: &'static [u32],
}

/// The table: number, versions, `async fn(cx, vers, proc, args, reply)` that runs a procedure.
macro_rules! programs {
    ($($number:ident [$($version:expr),*] => $dispatch:path;)*) => {
        /// Every program.
        pub static PROGRAMS: &[Program] = &[
            $(Program { number: $number, versions: &[$($version),*] },)*
        ];

        async fn dispatch(
            cx: &Cx,
            call: &Call<'_>,
            reply: &mut Reply,
        ) -> Result<(), Refusal> {
            let args = call.args.clone();
            match call.prog {
                $($number => {
                    supported(call.vers, &[$($version),*])?;
                    $dispatch(cx, call.vers, call.proc, args, reply).await
                })*
                _ => Err(Refusal::ProgUnavail),
            }
        }
    };
}

programs! {
    NFS_PROGRAM [NFS_V3, NFS_V4] => nfs;
    MOUNT_PROGRAM [MOUNT_V1, 2, MOUNT_V3] => crate::mount::dispatch;
    NFS_ACL_PROGRAM [NFSACL_V2, NFSACL_V3] => nfsacl::dispatch;
    // Version 2 of NLM is nobody's: Linux and others serve 1, 3 and 4.
    NLM_PROGRAM [NLM_V1, NLM_V3, NLM_V4] => crate::nlm::dispatch;
    SM_PROG [SM_VERS] => crate::nsm::dispatch;
    PMAP_PROG [PMAP_V2, 3, RPCB_V4] => portmap_proc::dispatch;
}

/// The refusal has the lowest and the highest version (RFC 5531 section 9); those between may lack.
fn supported(vers: u32, versions: &[u32]) -> Result<(), Refusal> {
    if versions.contains(&vers) {
        return Ok(());
    }
    let low = versions.first().copied().unwrap_or_default();
    let high = versions.last().copied().unwrap_or_default();
    Err(Refusal::ProgMismatch { low, high })
}

async fn nfs(
    cx: &Cx,
    vers: u32,
    proc: u32,
    args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    match (vers, proc) {
        (NFS_V3, _) => nfs3::dispatch(cx, proc, args, reply).await,
        (_, nfs4::PROC_NULL) => Ok(()),
        (_, nfs4::PROC_COMPOUND) => nfs4::compound::run(cx, args, reply).await,
        _ => Err(Refusal::ProcUnavail),
    }
}

/// Runs a call and appends its results (what follows the reply header) to `reply`.
///
/// # Errors
/// How the call is to be refused instead; `reply` is as it was before.
pub async fn call(cx: &Cx, call: &Call<'_>, reply: &mut Reply) -> Result<(), Refusal> {
    if call.prog == PMAP_PROG && !cx.server.config.portmapper {
        return Err(Refusal::ProgUnavail);
    }
    let start = reply.bytes.len();
    let done = dispatch(cx, call, reply).await;
    if done.is_err() {
        reply.bytes.truncate(start);
        reply.payload = None;
    }
    done
}

/// Whether a retransmission must be answered from the duplicate request cache. A COMPOUND of minor
/// version 0 says with its reply whether it was worth it; later ones have slots.
#[must_use]
pub fn cached(call: &Call<'_>) -> bool {
    match (call.prog, call.vers, call.proc) {
        (NFS_PROGRAM, NFS_V3, proc) => {
            nfs3::row(proc).is_some_and(|row| row.flags.contains(nfs3::Flags::CACHED))
        }
        (NFS_PROGRAM, NFS_V4, nfs4::PROC_COMPOUND) => {
            nfs4::compound::minor(call.args.clone()) == Some(0)
        }
        (NFS_ACL_PROGRAM, NFSACL_V3, proc) => nfsacl::cached(proc),
        _ => false,
    }
}

/// Who calls. NULL is there to be pinged: whatever its credential, it does nothing for nobody
/// (RFC 5531 section 8.2 note on procedure 0).
///
/// # Errors
/// As [`auth::authenticate`].
pub fn identify(call: &Call<'_>) -> Result<Identity, AuthStat> {
    match auth::authenticate(call) {
        Err(_) if call.proc == 0 => Ok(Identity::None),
        identity => identity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::OpaqueAuth;

    /// Bytes of the future of `run`.
    fn future_bytes<'a, F: Future>(
        _run: impl Fn(&'a Cx, &'a Call<'a>, &'a mut Reply) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_is_small() {
        assert!(future_bytes(call) <= 2048, "{}", future_bytes(call));
    }

    #[test]
    fn versions() {
        assert_eq!(supported(3, &[3]), Ok(()));
        let mismatch = Err(Refusal::ProgMismatch { low: 1, high: 4 });
        for vers in [0, 2, 5] {
            assert_eq!(supported(vers, &[1, 3, 4]), mismatch);
        }
        for program in PROGRAMS {
            assert!(program.versions.is_sorted(), "{program:?}");
        }
    }

    #[test]
    fn programs_are_listed_once() {
        let mut numbers: Vec<u32> = PROGRAMS.iter().map(|program| program.number).collect();
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            [100_000, 100_003, 100_005, 100_021, 100_024, 100_227]
        );
    }

    fn call_of(prog: u32, vers: u32, proc: u32, args: &[u8]) -> Call<'_> {
        Call {
            xid: 1,
            prog,
            vers,
            proc,
            cred: OpaqueAuth::NONE,
            verf: OpaqueAuth::NONE,
            args: Dec::new(args),
        }
    }

    #[test]
    fn what_is_cached() {
        let all: Vec<u32> = (0..40)
            .filter(|proc| cached(&call_of(NFS_PROGRAM, 3, *proc, b"")))
            .collect();
        assert_eq!(all, [2, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let acl: Vec<u32> = (0..9)
            .filter(|proc| cached(&call_of(NFS_ACL_PROGRAM, 3, *proc, b"")))
            .collect();
        assert_eq!(acl, [2], "SETACL");
        assert!(!cached(&call_of(NFS_ACL_PROGRAM, 2, 2, b"")));
        assert!(!cached(&call_of(MOUNT_PROGRAM, 3, 2, b"")));
        assert!(!cached(&call_of(NFS_PROGRAM, 4, 2, b"")));
    }

    #[test]
    fn compounds_of_minor_version_0_are_cached() {
        let compound = |minor: u8| [0, 0, 0, 1, b't', 0, 0, 0, 0, 0, 0, minor];
        for (minor, expected) in [(0, true), (1, false), (2, false), (9, false)] {
            let args = compound(minor);
            assert_eq!(cached(&call_of(NFS_PROGRAM, 4, 1, &args)), expected);
        }
        assert!(!cached(&call_of(NFS_PROGRAM, 4, 1, b"cut")));
    }

    #[test]
    fn anybody_may_ping() {
        let call = |proc, flavor| Call {
            xid: 1,
            prog: 2,
            vers: 3,
            proc,
            cred: OpaqueAuth { flavor, body: b"" },
            verf: OpaqueAuth::NONE,
            args: Dec::new(b""),
        };
        for flavor in [0, 1, 6, 99] {
            assert_eq!(identify(&call(0, flavor)), Ok(Identity::None));
        }
        assert_eq!(identify(&call(1, 0)), Ok(Identity::None));
        assert_eq!(identify(&call(1, 99)), Err(AuthStat::Badcred));
    }
}
