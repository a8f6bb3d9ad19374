//! Many processes, on one client or several, fight for byte ranges; the file's own content proves that the lock excludes.
//!
//! Every range has a record at its start: whose it is and how often it was taken. Under a write lock a record must say
//! `nobody`; then the process writes its own mark, works a little, finds its mark again, and puts `nobody` back with a
//! count one higher. So two holders at once are seen by at least one of them, a write that a later holder does not see
//! makes the sum of counts too small, and the ledger (what every process says it did) must equal that sum.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Random;
use crate::locks::{Range, set, wait};

/// Bytes of a record: owner, count, and the two again, inverted.
const RECORD: usize = 32;
/// Distance of two ranges: several share a page, and some lie over its end.
const STRIDE: u64 = 1000;

/// Size of the fight.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub processes: u64,
    pub ranges: u64,
    pub files: u64,
    pub rounds: u64,
    /// flock(2) of the whole file in place of fcntl(2) locks of ranges.
    pub flock: bool,
}

fn path(dir: &Path, file: u64) -> PathBuf {
    dir.join(format!("torture-{file}"))
}

fn record(owner: u64, count: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for (place, word) in bytes
        .chunks_exact_mut(8)
        .zip([owner, count, !owner, !count])
    {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Owner and count, or None if the record is torn.
fn parse(bytes: &[u8; RECORD]) -> Option<(u64, u64)> {
    let word = |i: usize| bytes[i * 8..].first_chunk().map(|w| u64::from_be_bytes(*w));
    let (owner, count) = (word(0)?, word(1)?);
    (word(2)? == !owner && word(3)? == !count).then_some((owner, count))
}

/// Makes the files with every record free; once, before any process starts.
pub fn prepare(dir: &Path, plan: Plan) -> ExitCode {
    for file in 0..plan.files {
        let f = File::create(path(dir, file)).expect("create");
        for range in 0..plan.ranges {
            f.write_all_at(&record(0, 0), range * STRIDE)
                .expect("write");
        }
    }
    ExitCode::SUCCESS
}

/// Runs the processes, as `client` (a number of its own, not 0), and prints `ROUNDS VIOLATIONS`, the sums over them.
/// They stop early when there is a file `stop`.
pub fn fight(dir: &Path, client: u64, plan: Plan, stop: &str) -> ExitCode {
    let exe = std::env::current_exe().expect("exe");
    let words = [plan.ranges, plan.files, plan.rounds, plan.flock.into()].map(|n| n.to_string());
    let children: Vec<_> = (0..plan.processes)
        .map(|n| {
            let mut command = Command::new(&exe);
            command
                .arg("torture-one")
                .arg(dir)
                .arg((client * 1000 + n).to_string())
                .args(&words)
                .arg(stop);
            command.stdout(Stdio::piped()).spawn().expect("spawn")
        })
        .collect();
    let (mut rounds, mut violations, mut failed) = (0, 0, false);
    for child in children {
        let out = child.wait_with_output().expect("wait");
        failed |= !out.status.success();
        let text = String::from_utf8_lossy(&out.stdout);
        let mut numbers = text
            .split_whitespace()
            .filter_map(|w| w.parse::<u64>().ok());
        rounds += numbers.next().unwrap_or(0);
        violations += numbers.next().unwrap_or(0);
    }
    println!("{rounds} {violations}");
    ExitCode::from(u8::from(failed || violations > 0))
}

/// One process: prints how many write rounds it did and how many violations it saw.
pub fn one(dir: &Path, me: u64, plan: Plan, stop: &Path) -> ExitCode {
    let mut random = Random::new(me);
    let files: Vec<File> = (0..plan.files)
        .map(|f| crate::data::open(&path(dir, f)))
        .collect();
    let (mut done, mut violations) = (0, 0);
    for _ in 0..plan.rounds {
        if stop.exists() {
            break;
        }
        let file = &files[random.below(plan.files) as usize];
        let first = random.below(plan.ranges);
        // Sometimes several ranges by one lock.
        let many = if random.below(8) == 0 {
            1 + random.below(3)
        } else {
            1
        };
        let many = many.min(plan.ranges - first);
        let range = Range {
            start: (first * STRIDE) as i64,
            len: (many * STRIDE) as i64,
        };
        let kind = if random.below(4) == 0 {
            libc::F_RDLCK
        } else {
            libc::F_WRLCK
        };
        lock(file, kind, range, plan.flock, &mut random);
        for n in first..first + many {
            let seen = if kind == libc::F_WRLCK {
                done += 1;
                take(file, n, me, &mut random)
            } else {
                look(file, n)
            };
            if let Err(what) = seen {
                violations += 1;
                eprintln!("torture: process {me}, {range:?}, record {n}: {what}");
            }
        }
        if plan.flock {
            flock(file, FlockOperation::Unlock).expect("LOCK_UN");
        } else {
            set(file, libc::F_UNLCK, range);
        }
    }
    println!("{done} {violations}");
    ExitCode::from(u8::from(violations > 0))
}

/// Some ask again and again, some wait in the kernel.
fn lock(file: &File, kind: i32, range: Range, whole: bool, random: &mut Random) {
    let waits = random.below(2) == 0;
    let got = || match (whole, waits) {
        (true, _) => flocked(file, kind, waits),
        (false, true) => {
            wait(file, kind, range);
            true
        }
        (false, false) => set(file, kind, range),
    };
    while !got() {
        std::thread::sleep(Duration::from_millis(1 + random.below(4)));
    }
}

/// flock(2): true if granted, false if somebody else's lock is in the way, or a signal came.
fn flocked(file: &File, kind: i32, waits: bool) -> bool {
    let operation = match (kind == libc::F_RDLCK, waits) {
        (true, true) => FlockOperation::LockShared,
        (true, false) => FlockOperation::NonBlockingLockShared,
        (false, true) => FlockOperation::LockExclusive,
        (false, false) => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK | Errno::INTR) => false,
        Err(e) => panic!("flock: {e}"),
    }
}

fn read(file: &File, n: u64) -> Result<(u64, u64), String> {
    let mut bytes = [0; RECORD];
    file.read_exact_at(&mut bytes, n * STRIDE)
        .map_err(|e| format!("read: {e}"))?;
    parse(&bytes).ok_or_else(|| format!("torn: {bytes:x?}"))
}

fn look(file: &File, n: u64) -> Result<(), String> {
    match read(file, n)? {
        (0, _) => Ok(()),
        (owner, _) => Err(format!("{owner} is inside, under my read lock")),
    }
}

fn take(file: &File, n: u64, me: u64, random: &mut Random) -> Result<(), String> {
    let before = read(file, n);
    // Go on after a violation, from the count that is there: the sum then tells how bad it is.
    let count = before.as_ref().map_or(0, |(_, count)| *count);
    let write = |owner, count| {
        file.write_all_at(&record(owner, count), n * STRIDE)
            .map_err(|e| format!("write: {e}"))
    };
    write(me, count)?;
    if random.below(4) == 0 {
        // To the server, so that another client inside can see it.
        file.sync_data().map_err(|e| format!("fdatasync: {e}"))?;
        std::thread::sleep(Duration::from_millis(random.below(3)));
    }
    let inside = read(file, n);
    write(0, count + 1)?;
    match (before?, inside?) {
        ((0, _), (owner, c)) if owner == me && c == count => Ok(()),
        ((0, _), (owner, c)) => Err(format!("{owner} came in while I was ({count}, now {c})")),
        ((owner, _), _) => Err(format!("{owner} is inside, under my write lock")),
    }
}

/// Prints the sum of all counts; a record that is not free is a failure. It is read past the cache: only who has got a lock
/// from the server knows that his is current (RFC 8881 10.3.2), and a delegation that comes with this open makes the client
/// lock by itself. Linux takes what another client wrote just before its own last WRITE to the same page for that WRITE:
/// NFSv4 does not say what the change attribute was before it.
pub fn sum(dir: &Path, plan: Plan) -> ExitCode {
    let (mut sum, mut failed) = (0, false);
    for file in 0..plan.files {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_DIRECT);
        let f = options.open(path(dir, file)).expect("open");
        for n in 0..plan.ranges {
            match read(&f, n) {
                Ok((0, count)) => sum += count,
                other => {
                    println!("file {file} record {n}: {other:?}");
                    failed = true;
                }
            }
        }
        drop(f);
        fs::remove_file(path(dir, file)).expect("unlink");
    }
    println!("{sum}");
    ExitCode::from(u8::from(failed))
}
