//! What is locked on the host, with real files: a second open file description is the host's process. It
//! must see exactly what all NFS owners together have locked, whatever happened before. Each is done twice:
//! with calls made at once, and by the pool.

use std::fs::{File, OpenOptions};
use std::path::Path;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::errno::Errno;
use crate::host::tests::lock;
use crate::uring::blocking::Threads;
use crate::uring::fixed::OpenFd;

const OWNERS: u64 = 4;
const BYTES: usize = 12;
/// At the beginning, and where what the host can lock ends (2^63 - 1).
const BASES: [u64; 2] = [0, i64::MAX as u64 - 5];

fn for_reading(path: &Path) -> Arc<OpenFd> {
    Arc::new(OpenFd::new(File::open(path).expect("open").into()))
}

pub(super) fn for_writing(path: &Path) -> Arc<OpenFd> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    Arc::new(OpenFd::new(file.expect("open").into()))
}

/// What another description than the host's own has locked, byte by byte.
pub(super) fn seen(host: &OpenFd, base: u64) -> Vec<Option<LockKind>> {
    let kind = LockKind::Write;
    let of_byte = |at: u64| {
        let range = bytes(base + at, 1);
        let found = host.find(Held { range, kind }).expect("F_OFD_GETLK");
        found.map(|(held, _)| held.kind)
    };
    (0..BYTES as u64).map(of_byte).collect()
}

type Pool = Option<Arc<Threads>>;

fn both_ways() -> [Pool; 2] {
    [None, Some(Threads::new(2, 16))]
}

/// Runs a future on this thread.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
        std::thread::park();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Lock(u64, usize, usize, LockKind),
    Unlock(u64, usize, usize),
    Forget(u64),
    Host(usize, usize, Option<LockKind>),
}

fn steps() -> impl Strategy<Value = (u64, Vec<Step>)> {
    use Step::*;
    let kind = || prop_oneof![Just(LockKind::Read), Just(LockKind::Write)];
    let (owner, at) = (|| 0..OWNERS, || 0..BYTES);
    let step = prop_oneof![
        8 => (owner(), at(), at(), kind()).prop_map(|(o, a, b, k)| Lock(o, a, b, k)),
        4 => (owner(), at(), at()).prop_map(|(o, a, b)| Unlock(o, a, b)),
        1 => owner().prop_map(Forget),
        4 => (at(), at(), prop::option::of(kind())).prop_map(|(a, b, k)| Host(a, b, k)),
    ];
    let base = prop::sample::select(&BASES[..]);
    (base, prop::collection::vec(step, 1..60))
}

type Line = [Option<LockKind>; BYTES];

fn excludes(line: &Line, from: usize, to: usize, kind: LockKind) -> bool {
    let mut held = line[from..=to].iter().flatten();
    held.any(|held| held.conflicts(kind))
}

struct World {
    path: NamedTempFile,
    file: Arc<FileLocks>,
    pool: Pool,
    base: u64,
    guards: Vec<LockGuard>,
    owners: [Line; OWNERS as usize],
    host: Arc<OpenFd>,
    hosts: Line,
}

impl World {
    fn new(base: u64, pool: Pool) -> Self {
        let path = NamedTempFile::new().expect("a file");
        let file = FileLocks::alone();
        let locker = |o| file.locker(ClientId(o), OwnerId(o));
        World {
            guards: (0..OWNERS).map(locker).collect(),
            host: for_writing(path.path()),
            path,
            file,
            pool,
            base,
            owners: Default::default(),
            hosts: Default::default(),
        }
    }

    /// The byte lies within what the host can lock.
    fn reachable(&self, at: usize) -> bool {
        self.base + at as u64 <= i64::MAX as u64
    }

    fn range(&self, from: usize, to: usize) -> (usize, usize, Range) {
        let (from, to) = (from.min(to), from.max(to));
        let first = self.base + from as u64;
        (from, to, bytes(first, (to - from + 1) as u64))
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Lock(o, from, to, kind) => {
                let (from, to, range) = self.range(from, to);
                let (opened, writes) = match kind {
                    LockKind::Read => (for_reading(self.path.path()), false),
                    LockKind::Write => (for_writing(self.path.path()), true),
                };
                let _hosted = self.file.hosted(opened, writes, self.pool.clone());
                let o = o as usize;
                let others = (0..OWNERS as usize).filter(|other| *other != o);
                let theirs = others
                    .into_iter()
                    .any(|other| excludes(&self.owners[other], from, to, kind));
                let hosts = excludes(&self.hosts, from, to, kind);
                let holder = self.guards[o].holder();
                let test = self.file.test(holder.client, holder.owner, range, kind);
                let test = wait(self.file.tested(test));
                let done = wait(lock(&self.guards[o], Held { range, kind }));
                assert_eq!(test.is_ok(), done.is_ok());
                match &done {
                    Ok(()) => {
                        assert!(!theirs && !hosts);
                        self.owners[o][from..=to].fill(Some(kind));
                    }
                    Err(Conflict::Lock(holder, held)) => {
                        assert!(theirs || hosts);
                        assert_eq!(holder.client == HOST, !theirs, "the table comes first");
                        assert!(held.range.overlaps(&range));
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            Step::Unlock(o, from, to) => {
                let (from, to, range) = self.range(from, to);
                self.guards[o as usize].unlock(range).expect("room");
                self.owners[o as usize][from..=to].fill(None);
            }
            Step::Forget(o) => {
                self.guards[o as usize] = self.file.locker(ClientId(9), OwnerId(9));
                self.guards[o as usize] = self.file.locker(ClientId(o), OwnerId(o));
                self.owners[o as usize] = Default::default();
            }
            Step::Host(from, to, kind) => {
                let (from, to, range) = self.range(from, to);
                if !self.reachable(from) {
                    return;
                }
                let to = (from..=to).rev().find(|at| self.reachable(*at));
                let to = to.unwrap_or(from);
                let barred = |kind| self.owners.iter().any(|o| excludes(o, from, to, kind));
                let done = self.host.set(range, kind);
                if kind.is_some_and(barred) {
                    assert_eq!(done, Err(Errno::EAGAIN));
                } else {
                    assert_eq!(done, Ok(()));
                    self.hosts[from..=to].fill(kind);
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        wait(self.file.settled());
        let of_byte = |at: usize| {
            let all = self.owners.iter().map(|owner| owner[at]);
            all.max().flatten().filter(|_| self.reachable(at))
        };
        let expected: Vec<_> = (0..BYTES).map(of_byte).collect();
        let locked = self.owners.iter().flatten().any(Option::is_some);
        assert_eq!(seen(&self.host, self.base), expected);
        idle(&self.file);
        assert_eq!(self.file.counts().mirrors, u64::from(locked));
        if locked && self.pool.is_none() {
            let mut listed: Line = Default::default();
            for (held, pid) in self.file.host_locks() {
                assert_eq!(pid, 0, "no process's own");
                let from = (held.range.offset() - self.base) as usize;
                let to = (held.range.last() - self.base).min(BYTES as u64 - 1) as usize;
                listed[from..=to].fill(Some(held.kind));
            }
            let there = |at: usize| self.hosts[at].filter(|_| self.reachable(at));
            assert!((0..BYTES).all(|at| !self.reachable(at) || listed[at] == there(at)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_host_sees_what_is_locked((base, steps) in steps()) {
        for pool in both_ways() {
        let mut world = World::new(base, pool);
        for step in &steps {
            world.step(step);
        }
        world.guards.clear();
        world.owners = Default::default();
        world.check();
        prop_assert_eq!(world.file.counts(), Counts::default());
        prop_assert_eq!(world.file.flags.load(SeqCst), 0);
        }
    }
}

#[test]
fn who_waits_for_the_host_is_called_when_it_has_unlocked() {
    for pool in both_ways() {
        waits_for_the_host(pool);
    }
}

/// The pool has answered all that was asked, and so many have been called for it.
fn answered(file: &Arc<FileLocks>, bells: &[&Arc<AtomicUsize>], rang: &[usize]) {
    let end = Instant::now() + Duration::from_secs(30);
    let asks = || file.lock().line.as_ref().is_some_and(|line| line.asks());
    while (asks() || rung(bells) != rang) && Instant::now() < end {
        std::thread::yield_now();
    }
    idle(file);
    assert_eq!(rung(bells), rang);
}

fn waits_for_the_host(pool: Pool) {
    let path = NamedTempFile::new().expect("a file");
    let (file, host) = (FileLocks::alone(), for_writing(path.path()));
    let (range, kind) = (bytes(0, 10), LockKind::Write);
    host.set(bytes(3, 1), Some(LockKind::Read)).expect("locked");
    let hosted = file.hosted(for_writing(path.path()), true, pool);
    let (a, b) = (file.locker(A, owner(A)), file.locker(B, owner(B)));
    let held = bytes(3, 1);
    let by_host = |refused: Result<(), Conflict>| {
        let Err(Conflict::Lock(holder, found)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((holder.client, found.range), (HOST, held));
    };
    by_host(wait(lock(&a, Held { range, kind })));
    let (first, second) = (bell(), bell());
    let place = file.wait(A, owner(A), range, kind, first.0).expect("room");
    let behind = file.wait(B, owner(B), range, kind, second.0);
    let behind = behind.expect("room");
    drop(hosted);
    file.ask_host();
    let bells = [&first.1, &second.1];
    answered(&file, &bells, &[0, 0]);
    assert_eq!(place.place(), Place::Waiting);
    host.set(range, None).expect("unlocked");
    assert_eq!(rung(&bells), [0, 0], "nobody tells");
    file.ask_host();
    answered(&file, &bells, &[1, 0]);
    assert_eq!(place.place(), Place::Ready);
    // The host is quicker: it keeps its place, and the next is not called.
    host.set(held, Some(LockKind::Write)).expect("locked");
    by_host(wait(lock(&a, Held { range, kind })));
    assert_eq!(place.place(), Place::Waiting);
    // Who comes now does not come first, although the host has just unlocked.
    host.set(range, None).expect("unlocked");
    let refused = wait(lock(&b, Held { range, kind }));
    assert!(matches!(refused, Err(Conflict::Lock(holder, _)) if holder.client == A));
    answered(&file, &bells, &[2, 0]);
    assert_eq!(place.place(), Place::Ready);
    wait(lock(&a, Held { range, kind })).expect("its turn");
    assert_eq!(seen(&host, 0)[..10], [Some(kind); 10]);
    assert_eq!(behind.place(), Place::Waiting);
    drop(a);
    answered(&file, &bells, &[2, 1]);
    assert_eq!(behind.place(), Place::Ready);
    drop((place, behind, b));
    idle(&file);
    assert_eq!(file.counts(), Counts::default());
    assert_eq!(seen(&host, 0), [None; BYTES]);
}

#[test]
fn of_a_file_that_cannot_be_written_the_host_sees_shared_locks() {
    both_ways().into_iter().for_each(shared_locks);
}

/// The pool has done all that was to be done.
pub(super) fn idle(file: &Arc<FileLocks>) {
    let busy = |state: &State| state.mirror.as_ref().is_some_and(|m| m.is_at_it());
    while busy(&file.lock()) {
        std::thread::yield_now();
    }
}

fn shared_locks(pool: Pool) {
    let path = NamedTempFile::new().expect("a file");
    let (file, host) = (FileLocks::alone(), for_writing(path.path()));
    let hosted = file.hosted(for_reading(path.path()), false, pool.clone());
    let a = file.locker(A, owner(A));
    let kind = LockKind::Write;
    let range = bytes(0, 2);
    wait(lock(&a, Held { range, kind })).expect("locked");
    assert_eq!(
        seen(&host, 0)[..3],
        [Some(LockKind::Read), Some(LockKind::Read), None]
    );
    // Once it can be, it is what it should be.
    drop(hosted);
    drop(file.hosted(for_writing(path.path()), true, pool.clone()));
    idle(&file);
    assert_eq!(seen(&host, 0)[..3], [Some(kind), Some(kind), None]);
    a.unlock(bytes(1, 9)).expect("room");
    wait(file.settled());
    assert_eq!(seen(&host, 0)[..2], [Some(kind), None]);
    drop(a);
    idle(&file);
    assert_eq!(seen(&host, 0), [None; BYTES]);
}

#[test]
fn what_was_locked_before_the_host_was_to_see_it() {
    both_ways().into_iter().for_each(locked_before);
}

fn locked_before(pool: Pool) {
    let path = NamedTempFile::new().expect("a file");
    let (file, host) = (FileLocks::alone(), for_writing(path.path()));
    let (a, kind, now) = (file.locker(A, owner(A)), LockKind::Write, Instant::now());
    a.lock(bytes(0, 4), kind, now).expect("locked");
    host.set(bytes(0, 1), Some(kind)).expect("nobody says no");
    let hosted = file.hosted(for_writing(path.path()), true, pool.clone());
    // Its part stays its own; the rest comes once it is locked anew.
    host.set(bytes(0, 1), None).expect("unlocked");
    let range = bytes(8, 2);
    wait(lock(&a, Held { range, kind })).expect("locked");
    assert_eq!(seen(&host, 0)[8..10], [Some(kind); 2]);
    drop((a, hosted));
    idle(&file);
    assert_eq!(seen(&host, 0), [None; BYTES]);
    assert_eq!(file.counts(), Counts::default());
}
