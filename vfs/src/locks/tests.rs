//! The laws of the conflict table, one by one; `model` checks them together, `hammer` from many
//! threads at once.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::sys::KernelHandle;

mod errand;
mod hammer;
mod mirror;

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);
const C: ClientId = ClientId(3);
const READ: Access = Access::READ;
const WRITE: Access = Access::WRITE;
const NONE: Deny = Deny::NONE;

fn owner(client: ClientId) -> OwnerId {
    OwnerId(client.0 * 10)
}

fn holder(client: ClientId) -> Holder {
    let owner = owner(client);
    Holder { client, owner }
}

fn handle(n: u8) -> KernelHandle {
    let bytes = [n; 8].into_iter().collect();
    KernelHandle { kind: 1, bytes }
}

fn bytes(offset: u64, length: u64) -> Range {
    Range::new(offset, length).expect("a range")
}

/// Counts its calls.
fn bell() -> (Notify, Arc<AtomicUsize>) {
    let rung = Arc::new(AtomicUsize::new(0));
    let count = rung.clone();
    let ring = move || {
        count.fetch_add(1, SeqCst);
    };
    (Arc::new(ring), rung)
}

fn rung(bells: &[&Arc<AtomicUsize>]) -> Vec<usize> {
    bells.iter().map(|b| b.load(SeqCst)).collect()
}

#[test]
fn an_open_is_checked_and_entered_in_one_step() {
    let file = FileLocks::alone();
    let a = file.open(A, owner(A), READ, Deny::WRITE).expect("first");
    let conflict = file.open(B, owner(B), WRITE, NONE).err();
    assert_eq!(conflict, Some(Conflict::Share(holder(A))));
    let b = file.open(B, owner(B), READ, NONE).expect("only reads");
    assert_eq!(file.counts().shares, 2);
    drop(a);
    let again = file
        .open(B, owner(B), WRITE, NONE)
        .expect("no longer denied");
    assert_eq!(file.counts().shares, 2);
    drop((b, again));
    assert_eq!(file.counts(), Counts::default());
    assert!(!file.busy());
}

#[test]
fn upgrade_and_downgrade() {
    let file = FileLocks::alone();
    let mut a = file.open(A, owner(A), READ, NONE).expect("open");
    let b = file.open(B, owner(B), READ, Deny::WRITE).expect("open");
    assert_eq!(a.upgrade(WRITE, NONE), Err(Conflict::Share(holder(B))));
    assert_eq!((a.access(), a.deny()), (READ, NONE), "untouched");
    drop(b);
    a.upgrade(WRITE, Deny::READ).expect_err("it reads itself");
    a.upgrade(WRITE, NONE).expect("free");
    assert_eq!(a.access(), Access::BOTH);
    assert!(file.open(B, owner(B), READ, Deny::WRITE).is_err());
    assert_eq!(a.downgrade(READ, Deny::READ), Err(NeverOpened));
    a.downgrade(READ, NONE).expect("opened so");
    let b = file
        .open(B, owner(B), READ, Deny::WRITE)
        .expect("a only reads");
    assert_eq!(a.downgrade(WRITE, NONE), Err(NeverOpened), "given up");
    drop((a, b));
    assert_eq!(file.counts(), Counts::default());
}

/// An owner's own deny mode counts for another OPEN (RFC 7530 9.9), not for NLM's SHARE again.
#[test]
fn own_deny_modes() {
    let file = FileLocks::alone();
    let mut a = file.open(A, owner(A), WRITE, Deny::WRITE).expect("open");
    assert_eq!(a.upgrade(WRITE, NONE), Err(Conflict::Share(holder(A))));
    a.exchange(Access::BOTH, Deny::BOTH).expect("in its place");
    assert_eq!((a.access(), a.deny()), (Access::BOTH, Deny::BOTH));
    let none = file
        .open(B, owner(B), Access::empty(), NONE)
        .expect("fsa_NONE");
    assert!(a.exchange(READ, NONE).is_ok());
    drop((a, none));
    assert!(!file.busy());
}

#[test]
fn requests_without_an_open() {
    let file = FileLocks::alone();
    assert_eq!(file.io(None, true, false), Ok(()));
    let denies = file.open(A, owner(A), READ, Deny::WRITE).expect("open");
    let locked = Err(Conflict::Share(holder(A)));
    assert_eq!(file.io(None, true, false), locked);
    assert_eq!(file.io(Some(A), true, true), locked, "only reads bypass");
    assert_eq!(file.io(None, false, false), Ok(()));
    drop(denies);
    let denies = file.open(A, owner(A), READ, Deny::READ).expect("open");
    assert_eq!(file.io(None, false, false), locked);
    assert_eq!(file.io(None, false, true), Ok(()), "the bypass stateid");
    assert_eq!(file.change(None), Ok(()));
    drop(denies);
}

#[test]
fn delegations_and_opens() {
    let now = Instant::now();
    let file = FileLocks::alone();
    let (read, write) = (DelegKind::Read, DelegKind::Write);
    let give = |client, kind| file.delegate(client, DelegId(5), kind, now);
    let open_a = file.open(A, owner(A), Access::BOTH, NONE).expect("open");
    let given = give(A, write).expect("alone");
    assert_eq!(give(A, read).err(), Some(Refused::Held(write)));
    let recall = Conflict::Deleg(vec![(A, DelegId(5))]);
    assert_eq!(
        file.open(B, owner(B), READ, NONE).err(),
        Some(recall.clone())
    );
    assert_eq!(file.io(None, false, true), Err(recall.clone()));
    assert_eq!(file.change(Some(B)), Err(recall.clone()));
    assert_eq!(
        file.test(B, owner(B), bytes(0, 1), LockKind::Read),
        Err(recall)
    );
    assert_eq!(file.writer(Some(B)), Some((A, DelegId(5))));
    // Its own client goes on.
    assert_eq!(file.change(Some(A)), Ok(()));
    assert_eq!(file.io(Some(A), true, false), Ok(()));
    drop(given);
    let open_b = file.open(B, owner(B), READ, NONE).expect("given back");
    assert_eq!(give(A, write).err(), Some(Refused::Contention));
    assert_eq!(give(B, read).err(), Some(Refused::Contention), "a writes");
    let given = give(A, read).expect("b only reads");
    assert!(given.recall(now) && !given.recall(now));
    assert_eq!(given.state(), DelegState::Recalled(now));
    given.revoke();
    assert_eq!(given.state(), DelegState::Revoked);
    assert_eq!(file.io(None, true, false), Ok(()));
    assert!(file.busy(), "it is still somebody's");
    drop(open_a);
    assert_eq!(give(B, write).err(), Some(Refused::Recent));
    let later = file.delegate(B, DelegId(6), write, now + HOLD_OFF);
    assert!(later.is_ok());
    drop((given, open_b, later));
    assert_eq!(file.counts(), Counts::default());
}

#[test]
fn no_delegation_beside_a_change_under_way() {
    let now = Instant::now();
    let file = FileLocks::alone();
    let passing = file.passing();
    assert_eq!(file.io(None, true, false), Ok(()));
    let refused = file.delegate(A, DelegId(1), DelegKind::Read, now).err();
    assert_eq!(refused, Some(Refused::Contention));
    assert_eq!(file.change(None), Ok(()), "nothing is left of it");
    drop(passing);
    assert!(file.delegate(A, DelegId(1), DelegKind::Read, now).is_ok());
    let locked = file.locker(B, owner(B));
    locked.lock(bytes(0, 1), LockKind::Read, now).expect("free");
    let give = |client, kind| file.delegate(client, DelegId(1), kind, now).is_ok();
    assert!(give(A, DelegKind::Read) && give(B, DelegKind::Write));
    assert!(!give(A, DelegKind::Write), "NLM's locks come without opens");
}

#[test]
fn locks_of_two_owners() {
    let now = Instant::now();
    let file = FileLocks::alone();
    let (a, b) = (file.locker(A, owner(A)), file.locker(B, owner(B)));
    a.lock(bytes(10, 10), LockKind::Read, now).expect("free");
    b.lock(Range::from(15), LockKind::Read, now)
        .expect("both read");
    let held = Held {
        range: Range::from(15),
        kind: LockKind::Read,
    };
    let conflict = a.lock(bytes(0, 16), LockKind::Write, now);
    assert_eq!(conflict, Err(Conflict::Lock(holder(B), held)));
    assert_eq!(a.held().len(), 1, "a failed upgrade leaves the old lock");
    a.lock(bytes(0, 15), LockKind::Write, now)
        .expect("below b's");
    assert_eq!(a.held().len(), 2);
    assert!(b.lock(bytes(14, 1), LockKind::Read, now).is_err());
    a.unlock(bytes(0, u64::MAX)).expect("all");
    assert!(a.is_empty());
    b.lock(Range::from(0), LockKind::Write, now).expect("alone");
    assert_eq!(file.counts().ranges, 1);
    drop((a, b));
    assert_eq!(file.counts(), Counts::default());
}

#[test]
fn the_line_is_fair() {
    let now = Instant::now();
    let file = FileLocks::alone();
    let [a, b, c] = [A, B, C].map(|client| file.locker(client, owner(client)));
    let all = Range::from(0);
    a.lock(all, LockKind::Write, now).expect("free");
    let wait = |client, kind, bell: &Notify| {
        let place = file.wait(client, owner(client), all, kind, bell.clone());
        place.expect("room")
    };
    let ((bell_b, b_rung), (bell_c, c_rung)) = (bell(), bell());
    let ticket_b = wait(B, LockKind::Write, &bell_b);
    let ticket_c = wait(C, LockKind::Read, &bell_c);
    assert_eq!(file.counts().waiters, 2);
    a.lock(all, LockKind::Read, now).expect("down");
    assert_eq!(
        rung(&[&b_rung, &c_rung]),
        [0, 0],
        "c could read, but b came first"
    );
    a.unlock(all).expect("unlock");
    assert_eq!(rung(&[&b_rung, &c_rung]), [1, 0]);
    assert_eq!(
        (ticket_b.place(), ticket_c.place()),
        (Place::Ready, Place::Waiting)
    );
    let kept = Held {
        range: all,
        kind: LockKind::Write,
    };
    let stolen = a.lock(bytes(0, 1), LockKind::Read, now);
    assert_eq!(stolen, Err(Conflict::Lock(holder(B), kept)));
    b.lock(all, LockKind::Write, now).expect("kept for it");
    assert_eq!(ticket_b.place(), Place::Gone);
    drop(b);
    assert_eq!(rung(&[&b_rung, &c_rung]), [1, 1]);
    drop((ticket_b, ticket_c, a, c));
    assert_eq!(file.counts(), Counts::default());
}

#[test]
fn a_place_is_not_kept_for_ever() {
    let now = Instant::now();
    let table = Arc::new(LockTable::default());
    let file = table.file(1, &handle(1));
    let a = file.locker(A, owner(A));
    let all = Range::from(0);
    a.lock(all, LockKind::Write, now).expect("free");
    let ((bell_b, b_rung), (bell_c, c_rung)) = (bell(), bell());
    let place = |client, bell| file.wait(client, owner(client), all, LockKind::Write, bell);
    let (b, c) = (
        place(B, bell_b).expect("room"),
        place(C, bell_c).expect("room"),
    );
    a.unlock(all).expect("unlock");
    table.lapse(now + Duration::from_secs(60));
    assert_eq!(b.place(), Place::Ready, "nobody asked before");
    let late = now + Duration::from_secs(60) + KEPT;
    assert!(
        a.lock(all, LockKind::Write, late).is_err(),
        "now it is c's turn"
    );
    assert_eq!((b.place(), c.place()), (Place::Gone, Place::Ready));
    assert_eq!(rung(&[&b_rung, &c_rung]), [1, 1]);
    drop(c);
    a.lock(all, LockKind::Write, late).expect("c gave up");
    drop((a, b));
    assert_eq!(table.counts(), Counts::default());
    table.lapse(late);
}

#[test]
fn waiting_for_what_is_free_rings_at_once() {
    let file = FileLocks::alone();
    let (notify, rang) = bell();
    let range = bytes(5, 5);
    let ticket = file
        .wait(A, owner(A), range, LockKind::Read, notify)
        .expect("room");
    assert_eq!(rung(&[&rang]), [1]);
    drop(ticket);
    assert!(!file.busy());
}

#[test]
fn the_line_is_bounded() {
    let file = FileLocks::alone();
    let (notify, _) = bell();
    let wait = || file.wait(A, owner(A), bytes(0, 1), LockKind::Write, notify.clone());
    let line: Vec<_> = (0..LINE_MAX).map(|_| wait().expect("room")).collect();
    assert_eq!(wait().err(), Some(Conflict::Full));
    drop(line);
    assert!(wait().is_ok());
    assert!(!file.busy());
}

#[test]
fn one_inode_has_one_table() {
    let table = Arc::new(LockTable::default());
    let one = table.file(1, &handle(1));
    assert!(Arc::ptr_eq(&one, &table.file(1, &handle(1))));
    assert!(!Arc::ptr_eq(&one, &table.file(2, &handle(1))));
    assert!(!Arc::ptr_eq(&one, &table.file(1, &handle(2))));
    assert_eq!(table.len(), 1);
    let open = one.open(A, owner(A), READ, NONE).expect("open");
    drop(one);
    let again = table.file(1, &handle(1));
    assert!(again.busy(), "an open keeps it");
    let sum = Counts {
        files: 1,
        shares: 1,
        ..Counts::default()
    };
    assert_eq!(table.counts(), sum);
    drop((again, open));
    assert!(table.is_empty());
}
