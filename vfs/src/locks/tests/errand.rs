//! Locks on the host that take their time: a file whose calls wait until they are let through. Nobody else
//! waits, and whoever gives up at whatever point leaves nothing behind.

use std::pin::pin;
use std::sync::Condvar;
use std::task::{Context, Poll, Waker};
use std::thread;

use tempfile::NamedTempFile;

use super::hammer::Dice;
use super::mirror::{for_writing, idle, seen, wait};
use super::*;
use crate::errno;
use crate::host::tests::lock;
use crate::uring::blocking::Threads;
use crate::uring::fixed::OpenFd;

/// Lets calls through, or not.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
    calls: AtomicUsize,
    /// A call takes that long, in microseconds.
    takes: AtomicU32,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().expect("gate") = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.calls.fetch_add(1, SeqCst);
        let takes = self.takes.load(SeqCst);
        if takes > 0 {
            thread::sleep(Duration::from_micros(takes.into()));
        }
        self.waiting.fetch_add(1, SeqCst);
        let shut = self.shut.lock().expect("gate");
        drop(self.opened.wait_while(shut, |shut| *shut).expect("gate"));
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// A call has come and is not let through.
    fn reached(&self) {
        while self.waiting.load(SeqCst) == 0 {
            thread::yield_now();
        }
    }
}

struct Gated(Arc<OpenFd>, Arc<Gate>);

impl HostFile for Gated {
    fn set(&self, range: Range, kind: Option<LockKind>) -> errno::Result<()> {
        self.1.pass();
        self.0.set(range, kind)
    }

    fn find(&self, wanted: Held) -> errno::Result<Option<(Held, u32)>> {
        self.1.pass();
        self.0.find(wanted)
    }
}

/// A file, as NFS owners lock it and as a process of the host does.
struct World {
    path: NamedTempFile,
    pool: Arc<Threads>,
    gate: Arc<Gate>,
    file: Arc<FileLocks>,
    host: Arc<OpenFd>,
}

impl World {
    fn new(pool: &Arc<Threads>) -> World {
        let path = NamedTempFile::new().expect("a file");
        World {
            host: for_writing(path.path()),
            path,
            pool: pool.clone(),
            gate: Arc::default(),
            file: FileLocks::alone(),
        }
    }

    fn hosted(&self) -> Hosted {
        let file = Gated(for_writing(self.path.path()), self.gate.clone());
        self.file
            .hosted(Arc::new(file), true, Some(self.pool.clone()))
    }

    #[track_caller]
    fn is_free(&self) {
        idle(&self.file);
        assert_eq!(self.file.counts(), Counts::default());
        assert!(seen(&self.host, 0).iter().all(Option::is_none));
    }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn write(offset: u64, length: u64) -> Held {
    let (range, kind) = (bytes(offset, length), LockKind::Write);
    Held { range, kind }
}

#[test]
fn nobody_else_waits() {
    let pool = Threads::new(2, 16);
    let (slow, other) = (World::new(&pool), World::new(&pool));
    let (_hosted, _others) = (slow.hosted(), other.hosted());
    let (a, b) = (
        slow.file.locker(A, owner(A)),
        other.file.locker(B, owner(B)),
    );
    slow.gate.set(true);
    let mut locking = Box::pin(lock(&a, write(0, 4)));
    assert!(poll(locking.as_mut()).is_pending());
    slow.gate.reached();
    // Another file, and on this one whatever needs no host.
    wait(lock(&b, write(0, 4))).expect("free");
    assert_eq!(seen(&other.host, 0)[..4], [Some(LockKind::Write); 4]);
    let open = slow.file.open(B, owner(B), READ, NONE).expect("open");
    assert_eq!(slow.file.io(Some(B), true, false), Ok(()));
    let c = slow.file.locker(C, owner(C));
    let refused = c.lock(bytes(2, 1), LockKind::Write, Instant::now());
    assert!(matches!(refused, Err(Conflict::Host(..))), "{refused:?}");
    assert!(a.is_empty() && poll(locking.as_mut()).is_pending());
    slow.gate.set(false);
    wait(locking).expect("free");
    // Unlocked at once among clients; whoever is told of it is told when the host sees it.
    slow.gate.set(true);
    a.unlock(bytes(0, 4)).expect("room");
    assert!(a.is_empty());
    let mut settled = Box::pin(slow.file.settled());
    assert!(poll(settled.as_mut()).is_pending());
    slow.gate.reached();
    assert_eq!(seen(&slow.host, 0)[..4], [Some(LockKind::Write); 4]);
    slow.gate.set(false);
    wait(settled);
    assert!(seen(&slow.host, 0).iter().all(Option::is_none));
    drop((open, a, b, c, _hosted, _others));
    slow.is_free();
    other.is_free();
}

#[test]
fn what_need_not_be_asked_is_not() {
    let world = World::new(&Threads::new(2, 16));
    let hosted = world.hosted();
    let calls = || world.gate.calls.swap(0, SeqCst);
    let (a, b) = (
        world.file.locker(A, owner(A)),
        world.file.locker(B, owner(B)),
    );
    let read = |range| Held {
        range,
        kind: LockKind::Read,
    };
    wait(lock(&a, read(bytes(0, 8)))).expect("free");
    assert_eq!(calls(), 1);
    wait(lock(&b, read(bytes(2, 2)))).expect("shared");
    assert_eq!(calls(), 0, "it stands there already");
    b.unlock(bytes(0, 8)).expect("room");
    wait(world.file.settled());
    assert_eq!(calls(), 0, "and still does");
    let refused = wait(lock(&b, write(7, 1)));
    assert!(matches!(refused, Err(Conflict::Lock(holder, _)) if holder.client == A));
    assert_eq!(calls(), 0, "the table comes first");
    a.unlock(bytes(4, 4)).expect("room");
    a.unlock(bytes(0, 1)).expect("room");
    wait(world.file.settled());
    assert_eq!(seen(&world.host, 0)[..5], {
        let read = Some(LockKind::Read);
        [None, read, read, read, None]
    });
    drop((a, b, hosted));
    world.is_free();
}

/// Polls `steps` times, the pool doing what it can only in between, and drops it; true if it was done by then.
fn give_up<T>(world: &World, future: impl Future<Output = T>, steps: usize) -> bool {
    let mut future = pin!(future);
    for _ in 0..steps {
        world.gate.set(true);
        let done = poll(future.as_mut()).is_ready();
        world.gate.set(false);
        if done {
            return true;
        }
        idle(&world.file);
    }
    false
}

#[test]
fn giving_up_at_any_point_leaves_nothing() {
    let world = World::new(&Threads::new(2, 16));
    let all = Held {
        range: Range::from(0),
        kind: LockKind::Read,
    };
    for (wanted, held) in [(write(2, 4), None), (all, None), (write(2, 4), Some(all))] {
        let mut steps = 0;
        loop {
            let hosted = world.hosted();
            let (a, b) = (
                world.file.locker(A, owner(A)),
                world.file.locker(B, owner(B)),
            );
            if let Some(held) = held {
                wait(lock(&a, held)).expect("free");
            }
            let done = give_up(&world, lock(&a, wanted), steps);
            if !done && a.held() == held.map_or(Vec::new(), |h| vec![h]) {
                // Nothing of it stands on the host either.
                idle(&world.file);
                let stands = held.map(|held| held.kind);
                assert!(seen(&world.host, 0).iter().all(|kind| *kind == stands));
            }
            drop((a, b, hosted));
            world.is_free();
            if done {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 2, "it has to wait at least once");
    }
}

#[test]
fn giving_up_in_the_middle_of_the_call_leaves_nothing() {
    let world = World::new(&Threads::new(2, 16));
    let hosted = world.hosted();
    let (a, b) = (
        world.file.locker(A, owner(A)),
        world.file.locker(B, owner(B)),
    );
    world.gate.set(true);
    {
        let mut first = pin!(lock(&a, write(0, 4)));
        let mut second = pin!(lock(&b, write(6, 4)));
        assert!(poll(first.as_mut()).is_pending());
        world.gate.reached();
        assert!(poll(second.as_mut()).is_pending());
    }
    let test = world.file.test(A, owner(A), bytes(0, 1), LockKind::Write);
    assert!(poll(pin!(world.file.tested(test))).is_pending());
    world.gate.set(false);
    idle(&world.file);
    assert!(seen(&world.host, 0).iter().all(Option::is_none));
    wait(lock(&a, write(0, 4))).expect("free");
    drop((a, b, hosted));
    world.is_free();
}

#[test]
fn the_host_is_in_the_way() {
    let world = World::new(&Threads::new(2, 16));
    let hosted = world.hosted();
    let a = world.file.locker(A, owner(A));
    let read = Some(LockKind::Read);
    world.host.set(bytes(3, 1), read).expect("free");
    let all = Held {
        range: bytes(0, 8),
        kind: LockKind::Read,
    };
    wait(lock(&a, all)).expect("shared");
    // In parts, of which the second cannot be had: the first is as it was.
    let held = Held {
        range: bytes(3, 1),
        kind: LockKind::Read,
    };
    let by = |refused: Result<(), Conflict>| match refused {
        Err(Conflict::Lock(holder, found)) => assert_eq!((holder.client, found), (HOST, held)),
        other => panic!("{other:?}"),
    };
    by(wait(lock(&a, write(0, 8))));
    let (range, kind) = (bytes(2, 4), LockKind::Write);
    let tested = world.file.test(A, owner(A), range, kind);
    by(wait(world.file.tested(tested)));
    assert_eq!(seen(&world.host, 0)[..9], {
        let mut all = [read; 9];
        all[8] = None;
        all
    });
    world.host.set(bytes(3, 1), None).expect("unlocked");
    wait(lock(&a, write(0, 8))).expect("free");
    drop((a, hosted));
    world.is_free();
}

/// How many have each byte, as far as they know.
#[derive(Default)]
struct Known([AtomicU32; 8]);

impl Known {
    /// Nobody else has any of these.
    fn alone(&self, range: Range) {
        let all = || self.0[range.offset() as usize..].iter();
        let own = || all().take(range.length() as usize);
        own().for_each(|byte| assert_eq!(byte.fetch_add(1, SeqCst), 0));
        thread::yield_now();
        own().for_each(|byte| assert_eq!(byte.fetch_sub(1, SeqCst), 1));
    }
}

const ROUNDS: usize = 400;

fn one_client(world: &World, known: &Known, client: u64, done: &[AtomicUsize; 2]) {
    let mut dice = Dice(client + 1);
    for _ in 0..ROUNDS {
        let at = dice.roll(8);
        let wanted = write(at, 1 + dice.roll(8 - at));
        let hosted = world.hosted();
        let guard = world.file.locker(ClientId(client), OwnerId(client));
        let mut locking = Box::pin(lock(&guard, wanted));
        let mut polls = dice.roll(60);
        let locked = loop {
            match poll(locking.as_mut()) {
                Poll::Ready(result) => break Some(result),
                Poll::Pending if polls == 0 => break None,
                Poll::Pending => polls -= 1,
            }
            thread::yield_now();
        };
        drop((locking, hosted));
        if locked == Some(Ok(())) {
            known.alone(wanted.range);
        }
        done[usize::from(locked.is_some())].fetch_add(1, SeqCst);
        if dice.roll(2) == 0 {
            guard.unlock(bytes(0, 8)).expect("room");
        }
    }
}

/// Clients on one file that lock, unlock and give up wherever they are, beside a process of the host: while
/// somebody has a byte, no other has it.
#[test]
fn many_that_give_up() {
    let world = &World::new(&Threads::new(4, 64));
    world.gate.takes.store(50, SeqCst);
    let (known, done) = (&Known::default(), &<[AtomicUsize; 2]>::default());
    thread::scope(|scope| {
        for client in 1..6 {
            scope.spawn(move || one_client(world, known, client, done));
        }
        let mut dice = Dice(6);
        for _ in 0..ROUNDS {
            let wanted = write(dice.roll(8), 1);
            if world.host.set(wanted.range, Some(wanted.kind)).is_ok() {
                known.alone(wanted.range);
                world.host.set(wanted.range, None).expect("unlocked");
            }
        }
    });
    let [given_up, answered] = done.each_ref().map(|count| count.load(SeqCst));
    assert!(given_up > 0 && answered > 0, "{given_up} {answered}");
    world.is_free();
}
