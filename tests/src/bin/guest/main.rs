//! What runs inside a guest (or anywhere) on a mounted directory: one process, because a fork is dear there.
//!
//!     guest checks DIR VERSION [FILTER]  file-system checks, one PASS or FAIL line each, as far as an NFS VERSION (3,
//!                                        4.0, 4.1, 4.2) can pass them; `local` is every check. `FS=ext4` (xfs, btrfs)
//!                                        says what is below: nothing it can do may then be refused
//!     guest locks FILE STEP...           locks, see locks.rs
//!     guest lock-suite DIR PEERS THERE   what POSIX says of record locks, a PASS or FAIL line each, see lock_suite.rs
//!     guest lock-peers ADDR              the other processes of a suite on another machine
//!     guest mail FILE WHO COUNT          appends messages to a mailbox, see mail.rs
//!     guest mail-check FILE COUNT WHO... each has COUNT messages there, all whole, and nobody else any
//!     guest torture-prepare DIR SIZES    SIZES: PROCESSES RANGES FILES ROUNDS, see torture.rs
//!     guest torture DIR CLIENT SIZES [STOP]      by fcntl(2) locks
//!     guest torture-flock DIR CLIENT SIZES       by flock(2)
//!     guest torture-sum DIR SIZES
//!     guest keeper DIR ME OTHER MARKS STOP   opens, locks and delegations until the file STOP exists, see keeper.rs
//!     guest keeper-check DIR WHO ROUNDS
//!     guest ledger DIR LOG STOP          acknowledged-record writers until the file STOP exists
//!     guest audit DIR LOG                every record acknowledged in LOG is in DIR
//!     guest count DIR LOCK TIMES         adds one to a counter under an O_EXCL lock file, TIMES times
//!     guest tree DIR FILES SEED          a tree of FILES small files of random sizes
//!     guest churn DIR FILES              makes FILES small files in DIR, then removes them
//!     guest mix DIR THREADS OPERATIONS   file-server load, everything read is compared; leaves DIR empty
//!     guest list DIR                     how many names readdir gives, how many distinct
//!     guest sweep DIR                    removes every name while listing
//!
//! Exit status 1 if anything is wrong.

use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

mod attributes;
mod data;
mod extended;
mod keeper;
mod ledger;
mod load;
mod lock_cases;
mod lock_suite;
mod locks;
mod mail;
mod names;
mod sparse;
mod torture;

/// A check works in an empty directory of its own and panics if the file system is wrong.
type Check = (&'static str, fn(&Path));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["checks", dir, version] => checks(Path::new(dir), version, ""),
        ["checks", dir, version, filter] => checks(Path::new(dir), version, filter),
        ["locks", file, ref steps @ ..] => locks::run(Path::new(file), steps),
        ["lock-suite", dir, peers, there] => {
            lock_suite::run(Path::new(dir), peers, Path::new(there))
        }
        ["lock-peers", addr] => lock_suite::peers(addr),
        ["lock-peer"] => lock_suite::peer(),
        ["mail", file, who, count] => mail::deliver(Path::new(file), who, number(count)),
        ["mail-check", file, count, ref who @ ..] => {
            mail::check(Path::new(file), who, number(count))
        }
        ["torture-prepare", dir, ref sizes @ ..] => torture::prepare(Path::new(dir), plan(sizes)),
        ["torture", dir, client, ref sizes @ .., stop] if sizes.len() == 4 => {
            torture::fight(Path::new(dir), number(client), plan(sizes), stop)
        }
        ["torture", dir, client, ref sizes @ ..] => {
            torture::fight(Path::new(dir), number(client), plan(sizes), "")
        }
        ["torture-flock", dir, client, ref sizes @ ..] => {
            let plan = torture::Plan {
                flock: true,
                ..plan(sizes)
            };
            torture::fight(Path::new(dir), number(client), plan, "")
        }
        ["torture-one", dir, me, ranges, files, rounds, flock, stop] => {
            let plan = torture::Plan {
                flock: flock == "1",
                ..plan(&["1", ranges, files, rounds])
            };
            torture::one(Path::new(dir), number(me), plan, Path::new(stop))
        }
        ["torture-sum", dir, ref sizes @ ..] => torture::sum(Path::new(dir), plan(sizes)),
        ["keeper", dir, me, other, marks, stop] => {
            let (dir, marks, stop) = (Path::new(dir), Path::new(marks), Path::new(stop));
            let (me, other) = (number(me), number(other));
            let keeper = keeper::Keeper {
                dir,
                me,
                other,
                marks,
                stop,
            };
            keeper.run()
        }
        ["keeper-check", dir, who, rounds] => {
            keeper::check(Path::new(dir), number(who), number(rounds))
        }
        ["ledger", dir, log, stop] => {
            ledger::write(Path::new(dir), Path::new(log), Path::new(stop))
        }
        ["audit", dir, log] => ledger::audit(Path::new(dir), Path::new(log)),
        ["count", dir, lock, times] => load::count(Path::new(dir), lock, number(times)),
        ["tree", dir, files, seed] => load::tree(Path::new(dir), number(files), number(seed)),
        ["churn", dir, files] => load::churn(Path::new(dir), number(files)),
        ["mix", dir, threads, ops] => load::mix(Path::new(dir), number(threads), number(ops)),
        ["list", dir] => load::list(Path::new(dir)),
        ["sweep", dir] => load::sweep(Path::new(dir)),
        _ => {
            eprintln!("guest: unknown arguments {args:?}");
            ExitCode::from(2)
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("guest: not a number: {text}"))
}

fn plan(sizes: &[&str]) -> torture::Plan {
    let [processes, ranges, files, rounds] = sizes else {
        panic!("guest: not PROCESSES RANGES FILES ROUNDS: {sizes:?}")
    };
    torture::Plan {
        processes: number(processes),
        ranges: number(ranges),
        files: number(files),
        rounds: number(rounds),
        flock: false,
    }
}

/// Tables of checks, each with the oldest NFS version that has what it needs.
const TABLES: [(&str, &[Check]); 6] = [
    ("3", data::CHECKS),
    ("3", names::CHECKS),
    ("3", attributes::CHECKS),
    ("4.0", locks::CHECKS),
    ("4.2", sparse::CHECKS),
    ("4.2", extended::CHECKS),
];

/// What the checks run on.
struct Ground {
    /// NFS version, or `local`.
    version: String,
    /// Kind of the file system, on the server's side, where that is known.
    fs: Option<String>,
}

static GROUND: OnceLock<Ground> = OnceLock::new();

fn ground() -> &'static Ground {
    GROUND.get().expect("only checks ask")
}

/// Runs every check for `version` whose name contains `filter`, each in a new directory below `dir`.
fn checks(dir: &Path, version: &str, filter: &str) -> ExitCode {
    assert!(
        ["3", "4.0", "4.1", "4.2", "local"].contains(&version),
        "guest: no version {version}"
    );
    let ground = Ground {
        version: version.to_owned(),
        fs: std::env::var("FS").ok(),
    };
    let known = ["ext4", "xfs", "btrfs"].map(|fs| Some(fs.to_owned()));
    assert!(
        ground.fs.is_none() || known.contains(&ground.fs),
        "guest: no file system {:?}",
        ground.fs
    );
    GROUND.get_or_init(|| ground);
    // umask(2) is the process's, and the checks say what they want.
    rustix::process::umask(rustix::fs::Mode::empty());
    // As strings they are in order, `local` last.
    let tables = TABLES
        .into_iter()
        .filter(|(oldest, _)| *oldest <= version)
        .map(|(_, table)| table);
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in tables.flatten().filter(|(name, _)| name.contains(filter)) {
        let own = dir.join(format!("check-{name}"));
        std::fs::create_dir(&own).unwrap_or_else(|e| panic!("guest: mkdir {}: {e}", own.display()));
        let start = std::time::Instant::now();
        // The panic's message and place are printed by the default hook.
        if std::panic::catch_unwind(|| check(&own)).is_ok() {
            println!("PASS {name} ({:.1} s)", start.elapsed().as_secs_f64());
            passed += 1;
        } else {
            println!("FAIL {name}");
            failed += 1;
        }
        let _ = std::fs::remove_dir_all(&own);
    }
    println!("{passed} checks passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}

/// A small deterministic generator (xorshift64*): the same seed gives the same work everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// The errno of a result that must be an error.
#[track_caller]
fn errno<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("succeeded, expected an error"),
        Err(e) => e.raw_os_error().unwrap_or_else(|| panic!("no errno: {e}")),
    }
}
