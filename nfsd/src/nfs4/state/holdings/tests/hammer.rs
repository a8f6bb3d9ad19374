//! Many threads on the same clients and files. Afterwards there is nothing left, and no more memory is taken than
//! before. `RINGNFS_SOAK=1` makes it long.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use vfs::order::{Turn, TurnGuard};

use super::*;

const CLIENTS: usize = 64;
const FILES: usize = 8;
const THREADS: usize = 8;

/// Steps of each thread.
fn rounds() -> u32 {
    match std::env::var("RINGNFS_SOAK").as_deref() {
        Ok("1") => 1_000_000,
        _ => 20_000,
    }
}

/// KiB of memory this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    size.expect("VmRSS in kB").parse().expect("a number")
}

/// Other tests of a process take memory, too. True in a process that has this test alone; otherwise it has been run in
/// one.
fn alone(test: &str) -> bool {
    const ALONE: &str = "RINGNFS_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let module = module_path!().split_once("::").expect("a crate").1;
    let run = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--nocapture", &format!("{module}::{test}")])
        .env(ALONE, "1")
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&run.stdout);
    print!("{said}");
    let passed = run.status.success() && said.contains(" 1 passed;");
    assert!(passed, "{}", String::from_utf8_lossy(&run.stderr));
    false
}

/// Numbers that look random, by xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

fn held(client: &Mutex<Holdings>) -> MutexGuard<'_, Holdings> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

fn home(client: usize) -> Home {
    Home {
        client: client as u32 + 1,
        ..V41
    }
}

fn any_key<T>(map: &Keyed<T>, dice: &mut Dice) -> Option<u32> {
    let keys: Vec<u32> = map.keys().copied().collect();
    (!keys.is_empty()).then(|| keys[dice.below(keys.len())])
}

fn shares(dice: &mut Dice) -> (Access, Deny) {
    let access = Access::from_bits_truncate(1 + dice.below(3) as u8);
    let deny = if dice.below(8) == 0 {
        Deny::from_bits_truncate(dice.below(4) as u8)
    } else {
        NONE
    };
    (access, deny)
}

/// One random step. True if it changed something.
fn step(
    client: usize,
    held: &mut Holdings,
    files: &[Arc<FileLocks>],
    dice: &mut Dice,
    now: Instant,
) -> bool {
    let home = home(client);
    let (access, deny) = shares(dice);
    let piece = range(dice.below(64) as u64, 1 + dice.below(64) as u64);
    let kind = [LockKind::Read, LockKind::Write][dice.below(2)];
    let owner = [dice.below(3) as u8];
    match dice.below(9) {
        0..3 => {
            let file = &files[dice.below(files.len())];
            let opened = held.open(home, request(By::Name(&owner), file, access, deny));
            // Now and then what follows fails.
            match opened {
                Ok(granted) if dice.below(16) == 0 => drop(held.undo_open(home, &granted)),
                Ok(_) => return true,
                Err(_) => {}
            }
            false
        }
        3 => any_key(&held.opens, dice)
            .is_some_and(|key| held.downgrade(home, key, access, deny).is_ok()),
        4 => any_key(&held.opens, dice).is_some_and(|key| held.close(home, key).is_ok()),
        5 => any_key(&held.opens, dice).is_some_and(|key| {
            let request = lock_request(piece, kind);
            held.lock_under(home, key, &owner, None, request, now)
                .is_ok()
        }),
        6 => any_key(&held.locks, dice).is_some_and(|key| {
            let request = lock_request(piece, kind);
            held.lock_more(home, key, request, now).is_ok()
        }),
        7 => any_key(&held.locks, dice).is_some_and(|key| held.unlock(home, key, piece).is_ok()),
        _ => {
            let (file, request) = (&files[dice.below(files.len())], lock_request(piece, kind));
            // One at a time of each client, or the lines get long.
            held.lapse_waits(now, Duration::ZERO);
            held.wait(home, &owner, file, request, now, Arc::new(|| {}))
                .is_ok()
        }
    }
}

#[test]
fn many_clients_on_few_files() {
    if !alone("many_clients_on_few_files") {
        return;
    }
    let files: Vec<_> = (0..FILES).map(|_| FileLocks::alone()).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| Mutex::new(Holdings::default()))
        .collect();
    // The first to have all memory that is kept for later taken.
    let before = [rounds() / 4, rounds()].map(|rounds| {
        let before = (resident(), Instant::now());
        work(&files, &clients, rounds);
        before
    });
    let (before, start) = before[1];
    println!(
        "{} steps in {:?}; resident {before} KiB before, {} KiB after",
        rounds() as usize * THREADS,
        start.elapsed(),
        resident()
    );
    assert!(resident() < before + (16 << 10), "it grew");
}

/// All threads do so many steps each, then everything is given up.
fn work(files: &[Arc<FileLocks>], clients: &[Mutex<Holdings>], rounds: u32) {
    let now = Instant::now();
    let worked = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let worked = &worked;
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (thread as u64 + 1));
                for _ in 0..rounds {
                    let client = dice.below(CLIENTS);
                    let mut held = held(&clients[client]);
                    let did = step(client, &mut held, files, &mut dice, now);
                    worked.fetch_add(did.into(), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(
        worked.load(Ordering::Relaxed) > rounds,
        "next to nothing happened"
    );
    for (client, inner) in clients.iter().enumerate() {
        let mut held = held(inner);
        let keys: Vec<u32> = held.opens.keys().copied().collect();
        for key in keys {
            drop(held.close(home(client), key).expect("open"));
        }
        held.lapse_waits(now, Duration::ZERO);
        assert_eq!(held.counts(), Counts::default(), "client {client}");
    }
    assert!(files.iter().all(|file| !file.busy()));
}

/// Takes a turn without an executor.
fn take(turn: &Turn) -> TurnGuard {
    let mut take = pin!(turn.take());
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match take.as_mut().poll(&mut cx) {
            Poll::Ready(guard) => return guard,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// What OPEN of 4.0 does, with time for others between its steps.
fn open_once(client: &Mutex<Holdings>, file: &Arc<FileLocks>, seqid: u32, request_id: u64) -> bool {
    let (owner, turn) = {
        let mut held = held(client);
        let owner = held.open_owner(b"new", false);
        let turn = held.open_owner_at(owner).map(|o| o.turn.clone());
        (owner, turn.unwrap_or_default())
    };
    let _turn = take(&turn);
    let Ok((Step::Next, removed)) = held(client).step_open(owner, seqid, request_id) else {
        return false;
    };
    drop(removed);
    std::thread::yield_now();
    let request = request(By::Owner(owner), file, Access::READ, Deny::WRITE);
    let opened = held(client).open(V40, request);
    let status = match &opened {
        Ok(_) => Nfsstat4::Ok,
        Err(_) => Nfsstat4::ShareDenied,
    };
    let mut held = held(client);
    held.answered(OwnerKey::Open(owner), seqid, answer(status));
    held.rest(owner);
    opened.is_ok()
}

#[test]
fn concurrent_opens_of_one_unconfirmed_owner() {
    let files: Vec<_> = (0..2).map(|_| FileLocks::alone()).collect();
    let client = Mutex::new(Holdings::default());
    let opened = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u32 {
            let (client, files, opened) = (&client, &files, &opened);
            scope.spawn(move || {
                let mut dice = Dice(u64::from(thread) + 1);
                for round in 0..2_000_u32 {
                    let file = &files[dice.below(files.len())];
                    let id = u64::from(round) << 8 | u64::from(thread);
                    let did = open_once(client, file, dice.below(3) as u32, id);
                    opened.fetch_add(did.into(), Ordering::Relaxed);
                    let left = held(client).counts().opens;
                    assert!(left <= 1, "an unconfirmed owner has one open");
                }
            });
        }
    });
    assert!(opened.load(Ordering::Relaxed) > 2_000);
    let mut held = held(&client);
    assert_eq!((held.counts().opens, held.counts().open_owners), (1, 1));
    drop(held.clear());
    assert_eq!(held.counts(), Counts::default());
    assert!(files.iter().all(|file| !file.busy()));
}
