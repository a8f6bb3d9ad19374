//! Versions 1, 3 and 4 of NLM: the same procedures, in their forms; there is no version 2.

use nfsd::nlm::types::{FshAccess, FshMode, NLM_PROGRAM, NlmProc, NlmStat, Res};
use nfsd::rpc::msg::Refusal;
use tests::client::nlm::Host;
use tests::daemon::TestServer;

use super::{free_all, two};

pub(super) const VERSIONS: [u32; 3] = [1, 3, 4];

#[test]
fn at_once() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(b.lock(&fh, 9, (1 << 33, 0)), NlmStat::Granted);
    for vers in VERSIONS {
        a.vers = vers;
        assert_eq!(a.lock(&fh, 1, (0, 100)), NlmStat::Granted);
        assert_eq!(a.lock(&fh, 2, (99, 1)), NlmStat::Denied);
        assert_eq!(a.test(&fh, 2, (100, 1)), Ok(()));
        let held = Err((NlmStat::Denied, Some((1, 0, 100))));
        assert_eq!(a.test(&fh, 2, (0, 1)), held);
        // Beyond what a narrow range can say: its last byte, and on from there.
        let first = if vers < 4 {
            u64::from(u32::MAX)
        } else {
            1 << 33
        };
        let held = Err((NlmStat::Denied, Some((9, first, 0))));
        assert_eq!(a.test(&fh, 1, (0, 0)), held);
        let stale = match vers {
            4 => NlmStat::StaleFh,
            _ => NlmStat::DeniedNolocks,
        };
        assert_eq!(a.lock(b"garbage", 1, (0, 1)), stale);
        assert_eq!(a.test(b"garbage", 1, (0, 1)), Err((stale, None)));
        assert_eq!(a.cancel(b"garbage", 1, (0, 1)), stale);
        assert_eq!(a.unlock(b"garbage", 1, (0, 1)), stale);
        assert_eq!(a.unlock(&fh, 1, (0, 0)), NlmStat::Granted);
    }
}

#[test]
fn waited_for() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    for vers in VERSIONS {
        (a.vers, b.vers) = (vers, vers);
        assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
        assert_eq!(b.wait(&fh, 7, (0, 5)), NlmStat::Blocked);
        assert_eq!(b.wait(&fh, 8, (5, 0)), NlmStat::Blocked);
        assert_eq!(b.cancel(&fh, 7, (0, 4)), NlmStat::Denied, "another range");
        assert_eq!(b.cancel(&fh, 7, (0, 5)), NlmStat::Granted);
        assert_eq!(b.cancel(&fh, 7, (0, 5)), NlmStat::Denied);
        assert_eq!(a.unlock(&fh, 1, (0, 0)), NlmStat::Granted);
        assert_eq!(b.granted(), (5, 0));
        assert_eq!(a.lock(&fh, 1, (0, 5)), NlmStat::Granted, "cancelled");
        assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
        assert_eq!(b.unlock(&fh, 8, (5, 0)), NlmStat::Granted);
        assert_eq!(a.unlock(&fh, 1, (0, 5)), NlmStat::Granted);
    }
    assert!(b.last_calls(|| {}).is_empty());
}

/// The form whose answer is a call.
#[test]
fn messages() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let sent = |host: &mut Host, proc, args: Vec<u8>| host.call(proc, &args).results::<()>();
    for vers in VERSIONS {
        a.vers = vers;
        assert_eq!(b.lock(&fh, 9, (0, 1)), NlmStat::Granted);
        let args = a.lock_bytes(&a.lock_args(&fh, 1, (10, 10), false));
        sent(&mut a, NlmProc::LockMsg, args);
        assert_eq!(a.answered(NlmProc::LockRes), NlmStat::Granted);
        let args = a.lock_bytes(&a.lock_args(&fh, 1, (0, 2), true));
        sent(&mut a, NlmProc::LockMsg, args);
        assert_eq!(a.answered(NlmProc::LockRes), NlmStat::Blocked);
        for expected in [NlmStat::Granted, NlmStat::Denied] {
            let args = a.cancel_bytes(&fh, 1, (0, 2));
            sent(&mut a, NlmProc::CancelMsg, args);
            assert_eq!(a.answered(NlmProc::CancelRes), expected);
        }
        let args = a.test_bytes(&fh, 1, (0, 10));
        sent(&mut a, NlmProc::TestMsg, args.clone());
        let held = Err((NlmStat::Denied, Some((9, 0, 1))));
        assert_eq!(a.tested(), held);
        // We are nobody's client.
        sent(&mut a, NlmProc::GrantedMsg, args);
        assert_eq!(a.answered(NlmProc::GrantedRes), NlmStat::Denied);
        let args = a.unlock_bytes(&fh, 1, (0, 0));
        sent(&mut a, NlmProc::UnlockMsg, args);
        assert_eq!(a.answered(NlmProc::UnlockRes), NlmStat::Granted);
        assert_eq!(b.lock(&fh, 9, (0, 0)), NlmStat::Granted);
        assert_eq!(b.unlock(&fh, 9, (0, 0)), NlmStat::Granted);
    }
}

/// What version 1 does not have.
#[test]
fn shares_and_what_came_with_them() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let reads = (FshAccess::Read, FshMode::Write);
    let writes = (FshAccess::Write, FshMode::None);
    let (share, unshare) = (NlmProc::Share, NlmProc::Unshare);
    for vers in [3, 4] {
        (a.vers, b.vers) = (vers, vers);
        assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Granted);
        assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Denied);
        assert_eq!(a.share(unshare, &fh, b"1", reads), NlmStat::Granted);
        assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Granted);
        let args = a.lock_bytes(&a.lock_args(&fh, 1, (0, 10), false));
        let answer = a.call(NlmProc::NmLock, &args);
        assert_eq!(answer.results::<Res<'_>>().stat, NlmStat::Granted);
        assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Denied);
        free_all(&mut a, "alpha");
        assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Granted);
        free_all(&mut b, "beta");
        let stale = match vers {
            4 => NlmStat::StaleFh,
            _ => NlmStat::DeniedNolocks,
        };
        assert_eq!(a.share(share, b"x", b"1", reads), stale);
        assert_eq!(a.share(unshare, b"x", b"1", reads), stale);
    }
    a.vers = 1;
    for proc in [share, unshare, NlmProc::NmLock, NlmProc::FreeAll] {
        let answer = a.call(proc, b"");
        assert_eq!(answer.outcome(), Err(Refusal::ProcUnavail), "{proc}");
    }
}

#[test]
fn there_is_no_version_2() {
    let server = TestServer::start();
    let (mut a, _b, fh) = two(&server);
    let mismatch = Err(Refusal::ProgMismatch { low: 1, high: 4 });
    a.vers = 3;
    let args = a.lock_bytes(&a.lock_args(&fh, 1, (0, 10), false));
    for vers in [0, 2, 5] {
        a.vers = vers;
        assert_eq!(a.call(NlmProc::Lock, &args).outcome(), mismatch);
        assert_eq!(a.call(NlmProc::Null, b"").outcome(), mismatch);
    }
    for vers in VERSIONS {
        let answer = a.client.call([NLM_PROGRAM, vers, 0], &());
        assert_eq!(answer.outcome(), Ok(()));
    }
}
