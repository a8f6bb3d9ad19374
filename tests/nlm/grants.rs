//! Locks that were waited for: how the host is told, and what its answers do.

use std::time::Duration;

use nfsd::nlm::types::{NlmProc, NlmStat};
use tests::client::Fh;
use tests::client::nlm::Host;
use tests::daemon::TestServer;

use super::two;
use super::versions::VERSIONS;

const MESSAGE: NlmProc = NlmProc::GrantedMsg;

/// `b` waits for bytes 5 to 14 by a message while `a` has some of them, which then unlocks.
fn wait_by_message(a: &mut Host, b: &mut Host, fh: &Fh) {
    assert_eq!(a.lock(fh, 1, (0, 10)), NlmStat::Granted);
    let args = b.lock_bytes(&b.lock_args(fh, 7, (5, 10), true));
    b.call(NlmProc::LockMsg, &args).results::<()>();
    assert_eq!(b.answered(NlmProc::LockRes), NlmStat::Blocked);
    assert_eq!(a.unlock(fh, 1, (0, 0)), NlmStat::Granted);
}

/// Until `host` can lock what another one has given up.
fn lock_at_last(host: &mut Host, fh: &Fh) {
    while host.lock(fh, 1, (5, 1)) != NlmStat::Granted {
        std::thread::sleep(Duration::from_millis(5));
    }
    host.unlock(fh, 1, (0, 0));
}

#[test]
fn who_asks_by_a_message_is_told_by_one() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    for vers in VERSIONS {
        (a.vers, b.vers) = (vers, vers);
        wait_by_message(&mut a, &mut b, &fh);
        let (cookie, range) = b.granted_as(MESSAGE);
        assert_eq!(range, (5, 10));
        b.granted_res(&cookie, NlmStat::Granted);
        // Heard once: what is said about it later is too late.
        b.granted_res(&cookie, NlmStat::Denied);
        assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
        assert_eq!(b.unlock(&fh, 7, (0, 0)), NlmStat::Granted);
        // Who does not want it any more does not get it.
        wait_by_message(&mut a, &mut b, &fh);
        let (cookie, _) = b.granted_as(MESSAGE);
        b.granted_res(&cookie, NlmStat::Denied);
        assert_eq!(a.lock(&fh, 1, (5, 10)), NlmStat::Granted);
        a.unlock(&fh, 1, (0, 0));
    }
    drop(a);
    let more = b.last_calls(|| server.wait_idle());
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_message_is_sent_until_it_is_answered() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    wait_by_message(&mut a, &mut b, &fh);
    let (cookie, _) = b.granted_as(MESSAGE);
    // Of nothing that waits, not a number, not from where it waits, and not now.
    b.granted_res(&u64::MAX.to_be_bytes(), NlmStat::Denied);
    b.granted_res(b"cookie", NlmStat::Denied);
    a.granted_res(&cookie, NlmStat::Denied);
    b.granted_res(&cookie, NlmStat::DeniedGracePeriod);
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
    let again = b.granted_as(MESSAGE);
    assert_eq!(again, (cookie.clone(), (5, 10)), "the same");
    // After what it said to the first it is believed.
    b.granted_res(&cookie, NlmStat::Denied);
    lock_at_last(&mut a, &fh);
    // The message itself is lost.
    b.answer_next(Some(NlmStat::Granted));
    b.answer_next(None);
    wait_by_message(&mut a, &mut b, &fh);
    let (cookie, _) = b.granted_as(MESSAGE);
    assert_eq!(b.granted_as(MESSAGE), (cookie.clone(), (5, 10)));
    b.granted_res(&cookie, NlmStat::Granted);
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
    assert_eq!(b.unlock(&fh, 7, (0, 0)), NlmStat::Granted);
    drop(a);
    let more = b.last_calls(|| server.wait_idle());
    assert!(more.is_empty(), "{more:?}");
}

/// A host took the lock, its answer was lost, and when it is told again nobody waits there any more: Linux says
/// no to that. The lock is its process's still.
#[test]
fn a_no_to_what_was_told_before_is_not_one() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (5, 10)), NlmStat::Blocked);
    b.answer_next(None);
    b.answer_next(Some(NlmStat::Denied));
    a.unlock(&fh, 1, (0, 0));
    assert_eq!((b.granted(), b.granted()), ((5, 10), (5, 10)));
    // Until then the answer may not have come.
    b.is_left_alone();
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
    assert_eq!(b.unlock(&fh, 7, (5, 10)), NlmStat::Granted);
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Granted);
    a.unlock(&fh, 1, (0, 0));
    drop(a);
    let more = b.last_calls(|| server.wait_idle());
    assert!(more.is_empty(), "{more:?}");
}
