//! Many threads at once: sixty-four clients on eight files open, upgrade, downgrade, close, lock,
//! wait and delegate. What the guards allow is checked from outside, and at the end nothing is left.

use std::sync::atomic::AtomicI32;
use std::thread;

use super::*;

const FILES: u8 = 8;
const CLIENTS: u64 = 64;
const THREADS: u64 = 8;
const ROUNDS: u64 = 4000;

/// What is granted now, counted by those who hold it.
#[derive(Default)]
struct Outside {
    reading: AtomicI32,
    writing: AtomicI32,
    deny_read: AtomicI32,
    deny_write: AtomicI32,
    /// Of the one byte everybody locks: readers, or -1 for a writer.
    byte: AtomicI32,
    write_delegated: AtomicI32,
}

/// xorshift: the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Others that hold what this open denies: seen from outside while the guard is held. The counts of
/// the others lag behind their guards only by going up later and down earlier.
fn check(outside: &Outside, access: Access, deny: Deny, check_own: i32) {
    let own = |mine: bool| if mine { check_own } else { 0 };
    let seen = |count: &AtomicI32| count.load(SeqCst);
    if deny.contains(Deny::READ) {
        assert_eq!(seen(&outside.reading), own(access.contains(Access::READ)));
    }
    if deny.contains(Deny::WRITE) {
        assert_eq!(seen(&outside.writing), own(access.contains(Access::WRITE)));
    }
    if access.contains(Access::READ) {
        assert_eq!(seen(&outside.deny_read), own(deny.contains(Deny::READ)));
    }
    if access.contains(Access::WRITE) {
        assert_eq!(seen(&outside.deny_write), own(deny.contains(Deny::WRITE)));
    }
}

fn count(outside: &Outside, access: Access, deny: Deny, by: i32) {
    let add = |counter: &AtomicI32, there: bool| {
        if there {
            counter.fetch_add(by, SeqCst);
        }
    };
    add(&outside.reading, access.contains(Access::READ));
    add(&outside.writing, access.contains(Access::WRITE));
    add(&outside.deny_read, deny.contains(Deny::READ));
    add(&outside.deny_write, deny.contains(Deny::WRITE));
}

fn open_and_close(file: &Arc<FileLocks>, outside: &Outside, who: Holder, dice: &mut Dice) -> u64 {
    let access = |n| [READ, WRITE, Access::BOTH][n as usize];
    let first = access(dice.roll(3));
    let deny = Deny::from_bits_truncate([0, 0, 0, 1, 2, 3][dice.roll(6) as usize]);
    let Ok(mut open) = file.open(who.client, who.owner, first, deny) else {
        return 0;
    };
    assert_eq!(outside.write_delegated.load(SeqCst), 0);
    count(outside, first, deny, 1);
    check(outside, first, deny, 1);
    let more = access(dice.roll(3));
    if open.upgrade(more, NONE).is_ok() {
        let (now_access, now_deny) = (open.access(), open.deny());
        count(outside, now_access.difference(first), NONE, 1);
        check(outside, now_access, now_deny, 1);
        let down = dice.roll(2) == 0;
        if down {
            count(outside, now_access.difference(first), NONE, -1);
            open.downgrade(first, deny).expect("opened so");
            check(outside, first, deny, 1);
        }
    }
    count(outside, open.access(), open.deny(), -1);
    drop(open);
    1
}

fn lock_and_unlock(file: &Arc<FileLocks>, outside: &Outside, who: Holder, dice: &mut Dice) -> u64 {
    let locker = file.locker(who.client, who.owner);
    let kind = [LockKind::Read, LockKind::Write][dice.roll(2) as usize];
    let range = bytes(dice.roll(4), 5);
    let now = Instant::now();
    let (notify, _) = bell();
    let ticket = match locker.lock(range, kind, now) {
        Ok(()) => None,
        Err(_) if dice.roll(4) > 0 => return 0,
        Err(_) => Some(file.wait(who.client, who.owner, range, kind, notify)),
    };
    if locker.is_empty() && locker.lock(range, kind, now).is_err() {
        return 0;
    }
    drop(ticket);
    // Byte 4 is in every range.
    match kind {
        LockKind::Read => assert!(outside.byte.fetch_add(1, SeqCst) >= 0),
        LockKind::Write => assert_eq!(outside.byte.swap(-1, SeqCst), 0),
    }
    locker.unlock(bytes(100, 1)).expect("room");
    match kind {
        LockKind::Read => outside.byte.fetch_sub(1, SeqCst),
        LockKind::Write => outside.byte.swap(0, SeqCst),
    };
    if dice.roll(2) == 0 {
        locker.unlock(bytes(0, 4)).expect("room");
        assert!(!locker.is_empty());
    }
    1
}

fn delegate(file: &Arc<FileLocks>, outside: &Outside, who: Holder, dice: &mut Dice) -> u64 {
    let write = dice.roll(2) == 0;
    let kind = if write {
        DelegKind::Write
    } else {
        DelegKind::Read
    };
    let now = Instant::now();
    let Ok(given) = file.delegate(who.client, DelegId(who.owner.0), kind, now) else {
        return 0;
    };
    assert_eq!(outside.writing.load(SeqCst), 0);
    if write {
        assert_eq!(outside.write_delegated.fetch_add(1, SeqCst), 0);
        assert_eq!(outside.reading.load(SeqCst), 0);
        outside.write_delegated.fetch_sub(1, SeqCst);
    }
    if dice.roll(8) == 0 {
        given.revoke();
    }
    1
}

/// Nobody may miss its call: each waits in line until it is told to try, and then gets the lock.
#[test]
fn everybody_in_line_gets_its_turn() {
    let file = FileLocks::alone();
    let inside = AtomicI32::new(0);
    let turns = |client: u64| {
        for _ in 0..300 {
            let who = holder(ClientId(client));
            let locker = file.locker(who.client, who.owner);
            let mut place = None;
            while locker
                .lock(bytes(0, 1), LockKind::Write, Instant::now())
                .is_err()
            {
                let me = thread::current();
                let call: Notify = Arc::new(move || me.unpark());
                let ticket = place.get_or_insert_with(|| {
                    file.wait(who.client, who.owner, bytes(0, 1), LockKind::Write, call)
                        .expect("room")
                });
                let end = Instant::now() + Duration::from_secs(60);
                while ticket.place() == Place::Waiting {
                    thread::park_timeout(Duration::from_secs(60));
                    assert!(Instant::now() < end, "a call was lost");
                }
                if ticket.place() == Place::Gone {
                    place = None;
                }
            }
            assert_eq!(inside.fetch_add(1, SeqCst), 0);
            inside.fetch_sub(1, SeqCst);
        }
    };
    thread::scope(|scope| {
        for client in 1..7 {
            let turns = &turns;
            scope.spawn(move || turns(client));
        }
    });
    assert_eq!(file.counts(), Counts::default());
}

#[test]
fn sixty_four_clients_on_eight_files() {
    let table = Arc::new(LockTable::default());
    let outside: Vec<_> = (0..FILES).map(|_| Outside::default()).collect();
    let run = |thread: u64| {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ (thread + 1) << 32);
        let mut done = [0; 3];
        for _ in 0..ROUNDS {
            // Every thread has clients of its own, each with one open owner and one lock owner.
            let client = thread + THREADS * dice.roll(CLIENTS / THREADS);
            let n = dice.roll(u64::from(FILES));
            let file = table.file(1, &handle(n as u8));
            let outside = &outside[n as usize];
            let what = dice.roll(3) as usize;
            let act = [open_and_close, lock_and_unlock, delegate][what];
            let who = Holder {
                client: ClientId(client),
                owner: OwnerId(2 * client + u64::from(what == 1)),
            };
            done[what] += act(&file, outside, who, &mut dice);
        }
        done
    };
    let done: Vec<[u64; 3]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || run(n))).collect();
        let join = |t: thread::ScopedJoinHandle<'_, _>| t.join().expect("a thread failed");
        threads.into_iter().map(join).collect()
    });
    for what in 0..3 {
        let sum: u64 = done.iter().map(|d| d[what]).sum();
        assert!(sum > 100, "hardly anything was granted: {done:?}");
    }
    assert_eq!(table.counts(), Counts::default());
    assert!(table.is_empty(), "{} tables left", table.len());
    for one in &outside {
        let left = [
            &one.reading,
            &one.writing,
            &one.deny_read,
            &one.deny_write,
            &one.byte,
        ];
        assert!(left.iter().all(|counter| counter.load(SeqCst) == 0));
    }
}
