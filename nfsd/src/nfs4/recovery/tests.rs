//! Tests of the recovery store.

use super::file::Backend;
use super::*;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar};
use std::task::{Wake, Waker};
use std::time::Instant;

const LEASE: Duration = Duration::from_secs(90);

/// What goes wrong below the database, and a count of its syncs.
#[derive(Debug, Default)]
pub(super) struct Faults {
    no_space: AtomicBool,
    bad_disk: AtomicBool,
    syncs: AtomicUsize,
    /// Syncs wait while this is set.
    held: Mutex<bool>,
    released: Condvar,
}

impl Faults {
    pub(super) fn write(&self) -> io::Result<()> {
        match self.no_space.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let held = self.held.lock().expect("not poisoned");
        drop(
            self.released
                .wait_while(held, |held| *held)
                .expect("not poisoned"),
        );
        match self.bad_disk.load(Ordering::SeqCst) {
            true => Err(io::Error::other("injected")),
            false => Ok(()),
        }
    }

    fn hold(&self, hold: bool) {
        *self.held.lock().expect("not poisoned") = hold;
        self.released.notify_all();
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("recovery.redb");
    (dir, path)
}

fn open(path: &Path) -> (RecoveryStore, Previous) {
    RecoveryStore::open(path, LEASE).expect("opens")
}

/// As [`RecoveryStore::open`], with what can be made to go wrong.
fn open_faulty(path: &Path) -> (RecoveryStore, Arc<Faults>) {
    let (backend, database): (Backend, Database) = file::open(path).expect("opens");
    let (epoch, _) = begin(path, &database, LEASE).expect("begins");
    let faults = backend.faults.clone();
    let writer = Writer {
        backend,
        database: Some(database),
        epoch,
        failing: false,
    };
    (RecoveryStore::start(writer).expect("starts"), faults)
}

fn key(n: usize) -> ClientKey {
    ClientKey::new(Class::V41, format!("client {n}").as_bytes()).expect("short")
}

fn record() -> ClientRecord {
    ClientRecord::new([7; 8], "sys:0", Some([192, 0, 2, 1].into()))
}

fn stored(record: ClientRecord, epoch: u32) -> ClientRecord {
    ClientRecord { epoch, ..record }
}

fn names(previous: &Previous) -> Vec<ClientKey> {
    previous
        .clients
        .iter()
        .map(|(key, _)| key.clone())
        .collect()
}

fn refusal(path: &Path) -> String {
    match RecoveryStore::open(path, LEASE) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_start_is_a_new_epoch() {
    let (_dir, path) = place();
    let (store, previous) = open(&path);
    let first = store.epoch();
    // Never what an earlier database may have used: it starts at the time of day.
    assert!(first > 1_700_000_000, "{first}");
    assert_eq!(
        previous,
        Previous {
            clean: false,
            lease: None,
            clients: Vec::new(),
            hosts: Vec::new(),
            nsm_state: 1,
        }
    );
    drop(store);
    for n in 1..=5 {
        let (store, previous) = open(&path);
        assert_eq!(store.epoch(), first + n);
        assert_eq!(previous.clean, n % 2 == 0, "start {n}");
        assert_eq!(previous.lease, Some(LEASE));
        assert_eq!(previous.nsm_state, 1 + 2 * n as i32);
        if n % 2 == 1 {
            assert_eq!(wait(store.close()), Ok(()));
            assert_eq!(wait(store.put(key(1), record())), Err(StoreError::Stopped));
        }
    }
}

#[test]
fn the_last_epoch_is_an_error_not_a_repetition() {
    let (_dir, path) = place();
    drop(open(&path));
    let (backend, database) = file::open(&path).expect("opens");
    let write = database.begin_write().expect("write");
    let last = u64::from(u32::MAX);
    write
        .open_table(META)
        .and_then(|mut meta| Ok(meta.insert(META_EPOCH, last).map(drop)?))
        .expect("written");
    write.commit().expect("committed");
    drop((database, backend));
    assert!(refusal(&path).contains("no boot epoch is left"));
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, path) = place();
    let _store = open(&path);
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
}

#[test]
fn records_survive() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    let epoch = store.epoch();
    let other = ClientKey::new(Class::V40, b"client 1").expect("short");
    for key in [key(1), key(2), key(3), other.clone()] {
        assert_eq!(wait(store.put(key, record())), Ok(()));
    }
    let complete = ClientRecord {
        reclaim_complete: true,
        ..record()
    };
    assert_eq!(wait(store.put(key(2), complete.clone())), Ok(()));
    assert_eq!(wait(store.revoke(key(3))), Ok(()));
    assert_eq!(wait(store.revoke(key(99))), Ok(()));
    assert_eq!(wait(store.remove(key(99))), Ok(()));
    drop(store);
    let (store, previous) = open(&path);
    let revoked = ClientRecord {
        may_reclaim: false,
        ..record()
    };
    let expected = vec![
        (other.clone(), stored(record(), epoch)),
        (key(1), stored(record(), epoch)),
        (key(2), stored(complete, epoch)),
        (key(3), stored(revoked, epoch)),
    ];
    assert_eq!(previous.clients, expected);
    assert_eq!(wait(store.remove(key(2))), Ok(()));
    // A new incarnation gets its right back.
    assert_eq!(wait(store.put(key(3), record())), Ok(()));
    drop(store);
    let (store, previous) = open(&path);
    assert_eq!(names(&previous), [other, key(1), key(3)]);
    let third = previous.clients.last().map(|(_, record)| record.clone());
    assert_eq!(third, Some(stored(record(), store.epoch() - 1)));
}

#[test]
fn the_end_of_grace_spares_what_was_put_since() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    for n in 0..6 {
        assert_eq!(wait(store.put(key(n), record())), Ok(()));
    }
    drop(store);
    let (store, _) = open(&path);
    let epoch = store.epoch();
    let complete = ClientRecord {
        reclaim_complete: true,
        ..record()
    };
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    assert_eq!(wait(store.put(key(3), complete.clone())), Ok(()));
    assert_eq!(wait(store.put(key(4), record())), Ok(()));
    let ending = Ending {
        drop: vec![key(0), key(1), key(77)],
        distrust: vec![key(2), key(3), key(4), key(78)],
    };
    assert_eq!(wait(store.end_grace(ending)), Ok(()));
    drop(store);
    let (_store, previous) = open(&path);
    let revoked = |record| ClientRecord {
        may_reclaim: false,
        ..record
    };
    let expected = vec![
        (key(1), stored(record(), epoch)),
        (key(2), stored(revoked(record()), epoch - 1)),
        (key(3), stored(complete, epoch)),
        (key(4), stored(revoked(record()), epoch)),
        (key(5), stored(record(), epoch - 1)),
    ];
    assert_eq!(previous.clients, expected);
}

/// Two restarts with the real store: who sleeps through the first grace period is a stranger in the second.
#[test]
fn grace_is_driven_to_its_end_on_disk() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    assert_eq!(wait(store.put(key(2), record())), Ok(()));
    drop(store);
    let (store, previous) = open(&path);
    let now = exec::now();
    let grace = Grace::new(&previous.clients, LEASE, now);
    let reclaim = grace.may_reclaim(&key(2), "sys:0", now);
    assert!(reclaim.is_ok());
    drop(reclaim);
    grace.reclaim_complete(&key(2));
    let put = store.put(
        key(2),
        ClientRecord {
            reclaim_complete: true,
            ..record()
        },
    );
    assert_eq!(wait(put), Ok(()));
    let Step::End(ending) = grace.step(now + LEASE) else {
        panic!("time is over");
    };
    assert!(grace.in_grace());
    assert_eq!(wait(store.end_grace(ending)), Ok(()));
    grace.ended();
    drop(store);
    let (_store, previous) = open(&path);
    assert_eq!(names(&previous), [key(2)]);
}

#[test]
fn the_task_ends_grace() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    drop(store);
    let (store, previous) = open(&path);
    let outcome = exec::block_on(&vfs::uring::RingConfig::default(), async move {
        let grace = Grace::new(&previous.clients, LEASE, exec::now());
        assert!(grace.in_grace());
        grace.reclaim_complete(&key(1));
        run_grace(&grace, &store).await;
        assert!(!grace.in_grace());
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn what_was_committed_survives_a_crash() {
    let (dir, path) = place();
    let (store, faults) = open_faulty(&path);
    let epoch = store.epoch();
    for n in 0..20 {
        assert_eq!(wait(store.put(key(n), record())), Ok(()));
    }
    // The file as a crash in the middle of a commit leaves it: written, not synced.
    faults.hold(true);
    let half = store.put(key(20), record());
    while faults.syncs.load(Ordering::SeqCst) < 21 {
        std::thread::yield_now();
    }
    let copy = dir.path().join("copy.redb");
    fs::copy(&path, &copy).expect("copied");
    faults.hold(false);
    assert_eq!(wait(half), Ok(()));
    let (recovered, previous) = open(&copy);
    assert_eq!(recovered.epoch(), epoch + 1);
    assert!(!previous.clean);
    let found = names(&previous);
    for n in 0..20 {
        assert!(found.contains(&key(n)), "{n}");
    }
}

/// Between fork(2) and execve(2) a child has every file of its parent.
#[test]
fn a_closed_store_is_free_while_a_child_has_its_file() {
    let (_dir, path) = place();
    let (backend, database) = file::open(&path).expect("opens");
    let childs = backend.file.0.try_clone().expect("duplicates");
    let busy = file::open(&path).map(drop);
    assert!(matches!(busy, Err(StartError::InUse { .. })), "{busy:?}");
    drop((backend, database));
    drop(open(&path));
    drop(childs);
}

/// kill -9 in the middle of commits: the test binary runs itself again as the victim.
#[test]
fn what_was_committed_survives_kill() {
    use std::io::{BufRead as _, BufReader};
    const VICTIM: &str = "RINGNFS_RECOVERY_VICTIM";
    if let Some(path) = std::env::var_os(VICTIM) {
        let (store, _) = open(Path::new(&path));
        for n in 0.. {
            assert_eq!(wait(store.put(key(n), record())), Ok(()));
            eprintln!("committed {n}");
        }
    }
    let (_dir, path) = place();
    let mut last = 0;
    for round in 1..4 {
        let mut victim = std::process::Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "--nocapture"])
            .arg("nfs4::recovery::tests::what_was_committed_survives_kill")
            .env(VICTIM, &path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut said = BufReader::new(victim.stderr.take().expect("piped")).lines();
        let mut committed = None;
        // What is said before the kill, and what was said but not yet read.
        while committed < Some(40 * round) {
            let line = said.next().expect("it goes on").expect("read");
            committed = line
                .strip_prefix("committed ")
                .map_or(committed, |n| n.parse().ok());
        }
        let busy = RecoveryStore::open(&path, LEASE).map(drop);
        assert!(matches!(busy, Err(StartError::InUse { .. })), "{busy:?}");
        victim.kill().expect("killed");
        victim.wait().expect("gone");
        for line in said.map_while(Result::ok) {
            committed = line
                .strip_prefix("committed ")
                .map_or(committed, |n| n.parse().ok());
        }
        let (store, previous) = open(&path);
        assert!(store.epoch() > last && !previous.clean);
        last = store.epoch();
        let found = names(&previous);
        for n in 0..=committed.expect("some") {
            assert!(found.contains(&key(n)), "{n} of {committed:?}");
        }
    }
}

#[test]
fn one_server_at_a_time() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    let told = refusal(&path);
    assert!(
        told.contains(&*path.to_string_lossy()) && told.contains("in use by another process"),
        "{told}"
    );
    assert_eq!(wait(store.close()), Ok(()));
    drop(open(&path));
}

#[test]
fn places_where_no_database_can_be_are_named() {
    let (dir, path) = place();
    let missing = dir.path().join("missing/recovery.redb");
    let told = refusal(&missing);
    assert!(told.contains("missing/recovery.redb"), "{told}");
    assert!(told.contains("No such file or directory"), "{told}");
    fs::create_dir(&path).expect("made");
    let told = refusal(&path);
    assert!(told.contains("Is a directory"), "{told}");
}

#[test]
fn what_is_not_a_recovery_database_is_refused_and_left_alone() {
    let (_dir, path) = place();
    drop(open(&path));
    let good = fs::read(&path).expect("read");
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("text", b"not a database\n".repeat(1000)),
        ("zeros", vec![0; good.len()]),
        ("short", good[..100].to_vec()),
        ("half", good[..good.len() / 2].to_vec()),
    ];
    for (what, bytes) in cases {
        fs::write(&path, &bytes).expect("written");
        let told = refusal(&path);
        assert!(
            told.contains(&*path.to_string_lossy())
                && told.contains("damaged")
                && told.contains("move the file away"),
            "{what}: {told}"
        );
        assert!(fs::read(&path).expect("read") == bytes, "{what}: changed");
    }
}

#[test]
fn other_databases_and_newer_ones_are_refused() {
    let (_dir, path) = place();
    drop(Database::create(&path).expect("made"));
    assert!(refusal(&path).contains("damaged"));
    fs::remove_file(&path).expect("removed");
    drop(open(&path));
    let (backend, database) = file::open(&path).expect("opens");
    let write = database.begin_write().expect("write");
    write
        .open_table(META)
        .and_then(|mut meta| Ok(meta.insert("schema", 2).map(drop)?))
        .expect("written");
    write.commit().expect("committed");
    drop((database, backend));
    let told = refusal(&path);
    assert!(told.contains("of schema 2"), "{told}");
}

/// Damage anywhere is an error, or the state of a commit that was there; never a panic, never other records.
#[test]
fn damage_is_found_wherever_it_is() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    for n in 0..50 {
        assert_eq!(wait(store.put(key(n), record())), Ok(()));
    }
    drop(store);
    let good = fs::read(&path).expect("read");
    let full: Vec<_> = (0..50).map(key).collect();
    let used: Vec<usize> = (0..good.len()).filter(|i| good[*i] != 0).collect();
    let (mut refused, mut opened) = (0, 0);
    for at in (0..320).chain(used.iter().copied().step_by(used.len() / 250)) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        fs::write(&path, &bad).expect("written");
        match RecoveryStore::open(&path, LEASE) {
            Ok((_, previous)) => {
                opened += 1;
                assert!(
                    names(&previous).iter().all(|key| full.contains(key)),
                    "byte {at}"
                );
            }
            Err(StartError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(refused > 50, "{refused} refused, {opened} opened");
}

#[test]
fn many_changes_share_one_commit() {
    let (_dir, path) = place();
    let (store, faults) = open_faulty(&path);
    faults.hold(true);
    let before = faults.syncs.load(Ordering::SeqCst);
    let mut pending: Vec<Pending> = (0..1000).map(|n| store.put(key(n), record())).collect();
    faults.hold(false);
    for pending in pending.drain(..) {
        assert_eq!(wait(pending), Ok(()));
    }
    let syncs = faults.syncs.load(Ordering::SeqCst) - before;
    // The first may have gone alone, while the others came.
    assert!((1..=6).contains(&syncs), "{syncs} syncs");
    drop(store);
    assert_eq!(open(&path).1.clients.len(), 1000);
}

#[test]
fn threads_wait_for_commits_side_by_side() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..25 {
                    assert_eq!(wait(store.put(key(thread * 100 + n), record())), Ok(()));
                }
            });
        }
    });
    drop(store);
    assert_eq!(open(&path).1.clients.len(), 200);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let (_dir, path) = place();
    let (store, faults) = open_faulty(&path);
    faults.hold(true);
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() <= QUEUE_MAX + BATCH_MAX, "no bound");
        let mut pending = store.put(key(waiting.len()), record());
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = Pin::new(&mut pending).poll(&mut cx) {
            break result;
        }
        waiting.push(pending);
    };
    assert_eq!(refused, Err(StoreError::Busy));
    assert!(waiting.len() >= QUEUE_MAX);
    faults.hold(false);
    for pending in waiting {
        assert_eq!(wait(pending), Ok(()));
    }
    assert_eq!(wait(store.put(key(9_999), record())), Ok(()));
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let (_dir, path) = place();
    let (store, faults) = open_faulty(&path);
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    let before = faults.syncs.load(Ordering::SeqCst);
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    assert_eq!(wait(store.remove(key(2))), Ok(()));
    assert_eq!(wait(store.end_grace(Ending::default())), Ok(()));
    assert_eq!(faults.syncs.load(Ordering::SeqCst), before);
}

#[test]
fn a_disk_that_fails_is_told_and_tried_again() {
    let (_dir, path) = place();
    let (store, faults) = open_faulty(&path);
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
    for (n, fault) in [(2, &faults.no_space), (3, &faults.bad_disk)] {
        fault.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(
                wait(store.put(key(n), record())),
                Err(StoreError::Failed),
                "{n}"
            );
            // Nobody else gets in meanwhile.
            assert!(refusal(&path).contains("in use"));
        }
        fault.store(false, Ordering::SeqCst);
        assert_eq!(wait(store.put(key(n), record())), Ok(()), "{n}");
    }
    drop(store);
    assert_eq!(names(&open(&path).1), [key(1), key(2), key(3)]);
}

#[test]
fn a_principal_that_is_too_long_is_refused() {
    let (_dir, path) = place();
    let (store, _) = open(&path);
    let long = ClientRecord::new([0; 8], &"p".repeat(PRINCIPAL_MAX + 1), None);
    assert_eq!(wait(store.put(key(1), long)), Err(StoreError::TooLong));
    assert_eq!(wait(store.put(key(1), record())), Ok(()));
}

/// Not a test: prints what commits cost here. `cargo test --release -p nfsd commit_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn commit_costs() {
    let dir = tempfile::tempdir_in(std::env::current_dir().expect("here")).expect("a directory");
    let (store, faults) = open_faulty(&dir.path().join("recovery.redb"));
    let start = Instant::now();
    let mut times: Vec<Duration> = (0..500)
        .map(|n| {
            let start = Instant::now();
            assert_eq!(wait(store.put(key(n), record())), Ok(()));
            start.elapsed()
        })
        .collect();
    let alone = start.elapsed();
    times.sort();
    println!(
        "one at a time: {:?} each, p50 {:?}, p99 {:?}",
        alone / 500,
        times[250],
        times[495]
    );
    let syncs = faults.syncs.load(Ordering::SeqCst);
    let start = Instant::now();
    for round in 0..10 {
        let pending: Vec<_> = (0..1000)
            .map(|n| store.put(key(1000 + round * 1000 + n), record()))
            .collect();
        pending
            .into_iter()
            .for_each(|p| assert_eq!(wait(p), Ok(())));
    }
    let all = start.elapsed();
    println!(
        "10 x 1000 together: {all:?}, {:.0}/s, {} syncs",
        10_000.0 / all.as_secs_f64(),
        faults.syncs.load(Ordering::SeqCst) - syncs
    );
    let path = dir.path().join("recovery.redb");
    drop(store);
    let start = Instant::now();
    let (_store, previous) = open(&path);
    println!(
        "open with {} clients: {:?}, {} bytes",
        previous.clients.len(),
        start.elapsed(),
        fs::metadata(&path).expect("there").len()
    );
}

#[test]
fn monitored_hosts_stay_until_they_reclaim_nothing() {
    let (_dir, path) = place();
    let host = |n: u8| HostKey {
        ip: [10, 0, 0, n].into(),
        name: Box::from(&b"host"[..]),
    };
    let (store, _) = open(&path);
    for n in 1..=3 {
        assert_eq!(wait(store.put_host(host(n))), Ok(()));
    }
    assert_eq!(wait(store.put_host(host(1))), Ok(()), "again");
    assert_eq!(wait(store.remove_host(host(3))), Ok(()));
    drop(store);
    let (store, previous) = open(&path);
    assert_eq!(previous.hosts, [host(1), host(2)]);
    drop(store);
    // Two restarts before grace ended.
    let (store, previous) = open(&path);
    assert_eq!(previous.hosts, [host(1), host(2)]);
    assert_eq!(wait(store.put_host(host(2))), Ok(()));
    assert_eq!(wait(store.end_grace(Ending::default())), Ok(()));
    drop(store);
    assert_eq!(open(&path).1.hosts, [host(2)]);
}
