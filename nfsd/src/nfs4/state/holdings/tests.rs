//! Stateids, owners, opens, locks and delegations of a client.

mod hammer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vfs::locks::{
    Access, Conflict, DelegKind, Deny, FileLocks, HOLD_OFF, Holder, LockKind, Range, Refused,
};

use super::super::deleg::{DelegRef, DelegRequest};
use super::super::lock::{LockRequest, WAITS_MAX};
use super::super::open::{By, Granted, OpenRequest, Refusal};
use super::super::owner::{Answer, Step};
use super::super::stateid::{Home, Kind, Name};
use super::*;
use crate::nfs4::types::Stateid4;

const V40: Home = Home {
    epoch: 7,
    client: 1,
    minor: 0,
};
const V41: Home = Home {
    epoch: 7,
    client: 2,
    minor: 1,
};
const LIMIT: usize = 1000;
const NONE: Deny = Deny::NONE;

fn request<'a>(
    by: By<'a>,
    locks: &'a Arc<FileLocks>,
    access: Access,
    deny: Deny,
) -> OpenRequest<'a> {
    OpenRequest {
        by,
        locks,
        access,
        deny,
        user: 7,
        pin: None,
        limit: LIMIT,
    }
}

fn open(held: &mut Holdings, name: &[u8], file: &Arc<FileLocks>, access: Access) -> Granted {
    let request = request(By::Name(name), file, access, NONE);
    held.open(V41, request).expect("no conflict")
}

fn lock_request(range: Range, kind: LockKind) -> LockRequest {
    LockRequest {
        range,
        kind,
        limit: LIMIT,
    }
}

fn range(offset: u64, length: u64) -> Range {
    Range::new(offset, length).expect("a range")
}

fn name(stateid: Stateid4) -> Name {
    Name::parse(stateid.other).expect("ours")
}

fn answer(status: Nfsstat4) -> Answer {
    Answer {
        op: Op4::Open,
        status,
        body: Box::default(),
        fh: None,
        request: 1,
    }
}

#[test]
fn a_stateid_is_held_to_all_it_says() {
    let (file, other) = (FileLocks::alone(), FileLocks::alone());
    let mut held = Holdings::default();
    let first = open(&mut held, b"me", &file, Access::READ);
    assert_eq!((first.stateid.seqid, first.before), (1, None));
    let second = open(&mut held, b"me", &file, Access::WRITE);
    assert_eq!(second.stateid.seqid, 2);
    assert_eq!(first.stateid.other, second.stateid.other);
    let of = name(first.stateid);
    let key = Some(FileKey::of(&file));
    let check = |home, of, seqid, kinds: &[Kind], file| held.check(home, of, seqid, kinds, file);
    let open = [Kind::Open];
    assert_eq!(check(V41, of, 2, &open, key), Ok(()));
    assert_eq!(check(V41, of, 0, &open, key), Ok(()));
    assert_eq!(check(V41, of, 1, &open, key), Err(Nfsstat4::OldStateid));
    let bad = Err(Nfsstat4::BadStateid);
    assert_eq!(check(V41, of, 3, &open, key), bad, "from the future");
    assert_eq!(check(V41, of, 2, &[Kind::Lock], key), bad);
    let elsewhere = Some(FileKey::of(&other));
    assert_eq!(check(V41, of, 2, &open, elsewhere), bad);
    assert_eq!(check(V40, of, 2, &open, key), bad, "another client");
    let unknown = Name { key: 99, ..of };
    assert_eq!(check(V41, unknown, 2, &open, key), bad);
    let stale = Name { epoch: 6, ..of };
    assert_eq!(check(V41, stale, 2, &open, key), bad);
    let access = held.io_access(V41, of, 2, FileKey::of(&file));
    assert_eq!(access, Ok(Access::BOTH));
}

#[test]
fn a_refused_open_leaves_nothing() {
    let file = FileLocks::alone();
    let (mut one, mut two) = (Holdings::default(), Holdings::default());
    let deny = request(By::Name(b"a"), &file, Access::READ, Deny::WRITE);
    let granted = one.open(V41, deny).expect("first");
    let home = Home { client: 3, ..V41 };
    for _ in 0..3 {
        let refused = two.open(home, request(By::Name(b"b"), &file, Access::WRITE, NONE));
        let Err(Refusal::Conflict(Conflict::Share(Holder { client, .. }))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(client, V41.client_id());
    }
    assert_eq!(two.counts(), Counts::default());
    // Nor does a refused upgrade change what there was.
    let up = one.open(V41, request(By::Name(b"a"), &file, Access::WRITE, NONE));
    assert!(matches!(up, Err(Refusal::Conflict(_))), "own deny counts");
    let of = name(granted.stateid);
    assert_eq!(one.check(V41, of, 1, &[Kind::Open], None), Ok(()));
    let (stateid, removed) = one.close(V41, granted.key).expect("open");
    assert_eq!(stateid, Stateid4::INVALID);
    drop(removed);
    assert_eq!(one.counts(), Counts::default());
    assert!(one.is_empty() && !file.busy());
}

#[test]
fn no_room_is_said_before_anything_is_taken() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let none = OpenRequest {
        limit: 0,
        ..request(By::Name(b"a"), &file, Access::READ, NONE)
    };
    let refused = held.open(V41, none).expect_err("no room");
    assert_eq!(refused, Refusal::Status(Nfsstat4::Delay));
    assert!(held.counts() == Counts::default() && !file.busy());
}

#[test]
fn what_an_open_came_to_can_be_undone() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let first = open(&mut held, b"a", &file, Access::READ);
    let second = open(&mut held, b"a", &file, Access::WRITE);
    assert!(held.undo_open(V41, &second).is_empty());
    let back = held.open_at(first.key).expect("still open");
    assert_eq!((back.seqid, back.share.access()), (1, Access::READ));
    let fresh = open(&mut held, b"b", &file, Access::WRITE);
    drop(held.undo_open(V41, &fresh));
    assert_eq!((held.counts().opens, held.counts().open_owners), (1, 1));
}

#[test]
fn downgrades() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let key = open(&mut held, b"a", &file, Access::READ).key;
    open(&mut held, b"a", &file, Access::WRITE);
    let down = |held: &mut Holdings, access| held.downgrade(V41, key, access, NONE);
    let stateid = down(&mut held, Access::READ).expect("was opened so");
    assert_eq!(stateid.seqid, 3);
    let bad = down(&mut held, Access::WRITE);
    assert_eq!(bad, Err(Nfsstat4::Inval));
    let of = name(stateid);
    let access = held.io_access(V41, of, 0, FileKey::of(&file));
    assert_eq!(access, Ok(Access::READ));
}

#[test]
fn an_owner_of_4_0_must_be_confirmed() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let owner = held.open_owner(b"a", false);
    assert_eq!(held.open_owner(b"a", false), owner);
    let (step, _) = held.step_open(owner, 5, 1).expect("anything");
    assert_eq!(step, Step::Next);
    let request = |access| request(By::Owner(owner), &file, access, NONE);
    let granted = held.open(V40, request(Access::READ)).expect("open");
    assert!(granted.unconfirmed);
    held.answered(OwnerKey::Open(owner), 5, answer(Nfsstat4::Ok));
    let bad = Err(Nfsstat4::BadStateid);
    assert_eq!(held.usable(granted.key).map(|_| ()), bad);
    assert_eq!(held.close(V40, granted.key).map(|_| ()), bad);
    // The same again is answered from memory.
    let (step, removed) = held.step_open(owner, 5, 1).expect("again");
    assert_eq!(
        (step, removed.is_empty()),
        (Step::Again(answer(Nfsstat4::Ok)), true)
    );
    // Another one begins anew, whatever its number.
    let (step, removed) = held.step_open(owner, 5, 2).expect("anew");
    assert_eq!((step, removed.is_empty()), (Step::Next, false));
    drop(removed);
    assert!(!file.busy());
    let granted = held.open(V40, request(Access::READ)).expect("open");
    held.answered(OwnerKey::Open(owner), 5, answer(Nfsstat4::Ok));
    let confirm = OwnerKey::Open(owner);
    assert_eq!(held.step(confirm, Op4::Open, 6), Ok(Step::Next));
    let stateid = held.confirm(V40, granted.key).expect("unconfirmed");
    assert_eq!(stateid.seqid, 2);
    held.answered(confirm, 6, answer(Nfsstat4::Ok));
    assert_eq!(held.confirm(V40, granted.key), bad_stateid());
    assert_eq!(held.step(confirm, Op4::Open, 8), Err(Nfsstat4::BadSeqid));
    assert!(held.usable(granted.key).is_ok());
}

fn bad_stateid() -> Result<Stateid4, Nfsstat4> {
    Err(Nfsstat4::BadStateid)
}

/// An owner of 4.0 that is confirmed and has the file open; its next `seqid` is 2.
fn confirmed(held: &mut Holdings, owner: &[u8], file: &Arc<FileLocks>) -> (u32, Granted) {
    let owner = held.open_owner(owner, false);
    assert!(held.step_open(owner, 0, 1).is_ok());
    let request = request(By::Owner(owner), file, Access::BOTH, NONE);
    let granted = held.open(V40, request).expect("open");
    held.answered(OwnerKey::Open(owner), 0, answer(Nfsstat4::Ok));
    held.confirm(V40, granted.key).expect("unconfirmed");
    held.answered(OwnerKey::Open(owner), 1, answer(Nfsstat4::Ok));
    (owner, granted)
}

#[test]
fn a_close_of_4_0_can_be_asked_for_again() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let (owner, granted) = confirmed(&mut held, b"a", &file);
    let key = OwnerKey::Open(owner);
    let of = name(granted.stateid);
    assert_eq!(held.step(key, Op4::Open, 2), Ok(Step::Next));
    let (stateid, removed) = held.close(V40, granted.key).expect("open");
    assert_eq!(stateid.seqid, 3);
    drop(removed);
    held.answered(key, 2, answer(Nfsstat4::Ok));
    held.rest(owner);
    assert!(held.is_empty() && !file.busy());
    assert_eq!(held.owner_of(of), Some(key), "still known");
    assert_eq!(
        held.step(key, Op4::Open, 2),
        Ok(Step::Again(answer(Nfsstat4::Ok)))
    );
    assert_eq!(held.step(key, Op4::Open, 3), Ok(Step::Next));
    assert_eq!(held.owner_of(of), None, "the client has gone on");
    assert_eq!(held.counts().open_owners, 1);
    drop(held.clear());
    assert_eq!(held.counts(), Counts::default());
}

#[test]
fn idle_owners_are_forgotten_at_last() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let (busy, _) = confirmed(&mut held, b"busy", &file);
    for n in 0..2 * IDLE_MAX {
        let owner = held.open_owner(&n.to_be_bytes(), false);
        assert!(held.step_open(owner, 0, 1).is_ok());
        held.answered(OwnerKey::Open(owner), 0, answer(Nfsstat4::Noent));
        held.rest(owner);
        // One that is used keeps its place.
        held.rest(busy);
    }
    assert_eq!(held.counts().open_owners, IDLE_MAX + 1);
    assert!(held.open_owner_at(busy).is_some());
    let last = (2 * IDLE_MAX - 1).to_be_bytes();
    let known = held.counts().open_owners;
    held.open_owner(&last, false);
    assert_eq!(held.counts().open_owners, known, "the last ones are known");
}

#[test]
fn locks_under_an_open() {
    let (file, now) = (FileLocks::alone(), Instant::now());
    let mut held = Holdings::default();
    let granted = open(&mut held, b"a", &file, Access::READ);
    let lock = |held: &mut Holdings, range, kind| {
        held.lock_under(V41, granted.key, b"l", None, lock_request(range, kind), now)
    };
    let refused = lock(&mut held, range(0, 9), LockKind::Write);
    assert_eq!(refused, Err(Refusal::Status(Nfsstat4::Openmode)));
    assert_eq!(held.counts().lock_owners, 0);
    let first = lock(&mut held, range(0, 9), LockKind::Read).expect("free");
    assert_eq!(first.seqid, 1);
    let second = lock(&mut held, range(20, 9), LockKind::Read).expect("free");
    assert_eq!((second.seqid, second.other), (2, first.other));
    let of = name(first);
    assert_eq!(of.kind, Kind::Lock);
    let access = held.io_access(V41, of, 2, FileKey::of(&file));
    assert_eq!(access, Ok(Access::READ));
    let held_still = held.free_locks(of.key).map(|_| ());
    assert_eq!(held_still, Err(Nfsstat4::LocksHeld));
    let third = held.unlock(V41, of.key, range(0, u64::MAX));
    assert_eq!(third.map(|s| s.seqid), Ok(3));
    drop(held.free_locks(of.key).expect("nothing locked"));
    assert_eq!((held.counts().lock_owners, held.counts().lock_sets), (0, 0));
    lock(&mut held, range(0, 9), LockKind::Read).expect("free");
    drop(held.close(V41, granted.key).expect("open"));
    assert_eq!(held.counts(), Counts::default());
    assert!(!file.busy());
}

#[test]
fn a_refused_lock_leaves_nothing_and_names_the_holder() {
    let (file, now) = (FileLocks::alone(), Instant::now());
    let (mut one, mut two) = (Holdings::default(), Holdings::default());
    let other = Home { client: 5, ..V41 };
    let mine = open(&mut one, b"a", &file, Access::BOTH);
    let by = request(By::Name(b"b"), &file, Access::BOTH, NONE);
    let theirs = two.open(other, by).expect("open");
    let write = lock_request(range(3, 4), LockKind::Write);
    let locked = one.lock_under(V41, mine.key, b"holder", None, write, now);
    let stateid = locked.expect("free");
    let before = two.counts();
    let refused = two.lock_under(other, theirs.key, b"l", None, write, now);
    let Err(Refusal::Conflict(Conflict::Lock(holder, _))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(two.counts(), before);
    let named = one.locker_name(holder.owner).expect("holds it");
    assert_eq!(&*named, b"holder");
    assert_eq!(one.locker_id(V41, b"holder"), holder.owner);
    drop(one.unlock(V41, name(stateid).key, range(0, 9)));
    assert!(
        two.lock_under(other, theirs.key, b"l", None, write, now)
            .is_ok()
    );
}

#[test]
fn lock_owners_of_4_0() {
    let (file, now) = (FileLocks::alone(), Instant::now());
    let mut held = Holdings::default();
    let (_, granted) = confirmed(&mut held, b"a", &file);
    let wanted = lock_request(range(0, 9), LockKind::Write);
    let under = |held: &mut Holdings, seqid| {
        held.lock_under(V40, granted.key, b"l", Some(seqid), wanted, now)
    };
    let stateid = under(&mut held, 40).expect("any number does first");
    let Some(owner) = held.owner_of(name(stateid)) else {
        panic!("it has one");
    };
    assert_eq!(held.step(owner, Op4::Open, 41), Ok(Step::Next));
    assert_eq!(held.step(owner, Op4::Open, 40), Err(Nfsstat4::BadSeqid));
    assert_eq!(
        under(&mut held, 7),
        Err(Refusal::Status(Nfsstat4::BadSeqid))
    );
    assert!(under(&mut held, 41).is_ok());
    let refused = held.release_lock_owner(b"l").map(|_| ());
    assert_eq!(refused, Err(Nfsstat4::LocksHeld));
    held.unlock(V40, name(stateid).key, range(0, 9))
        .expect("locked");
    let released = held.release_lock_owner(b"l").expect("nothing locked");
    assert_eq!(released.len(), 1);
    assert_eq!(held.counts().lock_owners, 0);
    assert!(held.release_lock_owner(b"nobody").is_ok());
}

#[test]
fn waiting_for_a_lock() {
    let (file, now) = (FileLocks::alone(), Instant::now());
    let (mut one, mut two) = (Holdings::default(), Holdings::default());
    let other = Home { client: 5, ..V41 };
    let mine = open(&mut one, b"a", &file, Access::BOTH);
    let by = request(By::Name(b"b"), &file, Access::BOTH, NONE);
    let theirs = two.open(other, by).expect("open");
    let write = lock_request(range(0, 4), LockKind::Write);
    let locked = one.lock_under(V41, mine.key, b"l", None, write, now);
    let key = name(locked.expect("free")).key;
    let called = Arc::new(AtomicU32::new(0));
    let wait = |two: &mut Holdings| {
        let called = called.clone();
        let notify = Arc::new(move || {
            called.fetch_add(1, Ordering::Relaxed);
        });
        two.wait(other, b"w", &file, write, now, notify)
    };
    assert_eq!(wait(&mut two), Ok(()));
    assert_eq!(wait(&mut two), Ok(()), "keeps its place");
    assert_eq!((two.counts().waits, two.counts().lock_owners), (1, 1));
    one.unlock(V41, key, range(0, 4)).expect("locked");
    assert_eq!(called.load(Ordering::Relaxed), 1);
    let mine_again = one.lock_more(V41, key, write, now);
    assert!(matches!(mine_again, Err(Refusal::Conflict(_))), "kept");
    let theirs = two.lock_under(other, theirs.key, b"w", None, write, now);
    assert!(theirs.is_ok());
    assert_eq!((two.counts().waits, two.counts().lock_owners), (0, 1));
    // Who does not come back is forgotten.
    let waits = one.wait(V41, b"l", &file, write, now, Arc::new(|| {}));
    assert_eq!(waits, Ok(()));
    let lease = Duration::from_secs(90);
    one.lapse_waits(now + Duration::from_secs(89), lease);
    assert_eq!(one.counts().waits, 1);
    one.lapse_waits(now + lease, lease);
    assert_eq!(one.counts().waits, 0);
    for n in 0..WAITS_MAX {
        let write = lock_request(range(n as u64 % 4, 1), LockKind::Write);
        let owner = n.to_be_bytes();
        let joined = one.wait(V41, &owner, &file, write, now, Arc::new(|| {}));
        assert_eq!(joined, Ok(()), "{n}");
    }
    let full = one.wait(V41, b"more", &file, write, now, Arc::new(|| {}));
    assert_eq!(full, Err(Conflict::Full));
    drop(one.clear());
    drop(two.clear());
    assert!(!file.busy());
}

#[test]
fn delegations() {
    let (file, now) = (FileLocks::alone(), Instant::now());
    let mut held = Holdings::default();
    let delegate = |held: &mut Holdings, kind, now| {
        let request = DelegRequest {
            change: 0,
            locks: &file,
            kind,
            fh: b"fh",
            pin: None,
            watch: None,
            limit: LIMIT,
        };
        held.delegate(V41, request, now)
    };
    let stateid = delegate(&mut held, DelegKind::Read, now).expect("nobody else");
    let again = delegate(&mut held, DelegKind::Read, now);
    assert_eq!(again, Err(Refused::Held(DelegKind::Read)));
    let of = name(stateid);
    let key = FileKey::of(&file);
    assert_eq!(held.io_access(V41, of, 1, key), Ok(Access::READ));
    assert_eq!(
        held.free_deleg(of.key).map(|_| ()),
        Err(Nfsstat4::LocksHeld)
    );
    // Somebody else wants to write.
    let mut other = Holdings::default();
    let home = Home { client: 9, ..V41 };
    let write = || request(By::Name(b"o"), &file, Access::WRITE, NONE);
    let Err(Refusal::Conflict(Conflict::Deleg(in_the_way))) = other.open(home, write()) else {
        panic!("there is a delegation");
    };
    let refs: Vec<_> = in_the_way
        .iter()
        .filter_map(|(client, id)| DelegRef::of(*client, *id))
        .collect();
    let expected = DelegRef {
        client: V41.client,
        key: of.key,
    };
    assert_eq!(refs, [expected]);
    assert!(!held.any_revoked());
    assert!(
        held.revoke_deleg(V41, of.key).is_none(),
        "kept for the client to see"
    );
    assert!(held.any_revoked() && !held.is_empty());
    let kinds = [Kind::Deleg];
    let revoked = held.check(V41, of, 1, &kinds, Some(key));
    assert_eq!(revoked, Err(Nfsstat4::DelegRevoked));
    let granted = other.open(home, write()).expect("out of the way");
    drop(held.free_deleg(of.key).expect("revoked"));
    assert!(held.is_empty());
    drop(other.close(home, granted.key).expect("open"));
    let stateid = delegate(&mut held, DelegKind::Write, now + HOLD_OFF).expect("alone");
    assert_eq!(held.io_access(V41, name(stateid), 0, key), Ok(Access::BOTH));
    drop(held.return_deleg(name(stateid).key).expect("held"));
    assert!(!file.busy());
}

#[test]
fn keys_are_not_used_again_soon() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let first = open(&mut held, b"a", &file, Access::READ);
    drop(held.close(V41, first.key).expect("open"));
    drop(held.clear());
    let second = open(&mut held, b"a", &file, Access::READ);
    assert_ne!(first.stateid.other, second.stateid.other);
    held.last_key = KEY_MAX;
    let round = open(&mut held, b"b", &file, Access::READ);
    assert!(round.key < KEY_MAX && round.key != second.key);
}

#[test]
fn an_open_is_judged_for_one_user() {
    let file = FileLocks::alone();
    let mut held = Holdings::default();
    let of = |granted: Granted| Name::parse(granted.stateid.other).expect("our own");
    let first = of(open(&mut held, b"a", &file, Access::READ));
    assert_eq!(held.judged(first), Some(7));
    let other = OpenRequest {
        user: 8,
        ..request(By::Name(b"a"), &file, Access::WRITE, NONE)
    };
    let both = held.open(V41, other).expect("no conflict");
    assert_eq!(held.judged(of(both)), None);
}
