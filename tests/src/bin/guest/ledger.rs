//! Writers that log every record once it was acknowledged as stable, and the audit of that log.
//!
//! The log is on the host (hostfs), so it survives whatever happens to the server, and a line in it means: the system
//! call that makes the record durable had returned before. Descriptors stay open over server restarts on purpose.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use crate::Random;
use crate::data::open;
use crate::load::done_or;

const LINE: usize = 64;
const BLOCK: usize = 8192;
const STREAM: usize = 1 << 20;
/// How many of the newest directories the `dirs` writer leaves.
const KEPT: u64 = 8;
/// Rounds after which a writer of fixed records starts over at the beginning of its file.
const LAP: u64 = 4096;

/// How one writer makes record `n` durable, and how the audit finds out whether it is.
struct Writer {
    name: &'static str,
    write: fn(&Path, &File, u64),
    /// Panics unless record `n` is there, knowing that `last` is the newest acknowledged one.
    check: fn(&Path, n: u64, last: u64),
}

const WRITERS: &[Writer] = &[
    Writer {
        name: "osync",
        write: osync,
        check: check_osync,
    },
    Writer {
        name: "fsync",
        write: fsync,
        check: check_fsync,
    },
    Writer {
        name: "stream",
        write: stream,
        check: check_stream,
    },
    Writer {
        name: "files",
        write: files,
        check: check_files,
    },
    Writer {
        name: "replace",
        write: replace,
        check: check_replace,
    },
    Writer {
        name: "dirs",
        write: dirs,
        check: check_dirs,
    },
];

/// Runs every writer in a thread of its own until `stop` exists.
pub fn write(dir: &Path, log: &Path, stop: &Path) -> ExitCode {
    let log = Mutex::new(
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("log"),
    );
    for sub in ["files", "dirs"] {
        fs::create_dir_all(dir.join(sub)).expect("mkdir");
    }
    // One writer that fails ends them all, at once, and the test with them.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
    std::thread::scope(|s| {
        for w in WRITERS {
            let log = &log;
            s.spawn(move || {
                let flags = if w.name == "osync" { libc::O_SYNC } else { 0 };
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .custom_flags(flags);
                let file = options
                    .open(dir.join(format!("{}.data", w.name)))
                    .expect("open");
                for n in 0.. {
                    if stop.exists() {
                        break;
                    }
                    (w.write)(dir, &file, n);
                    let line = format!("{} {n}\n", w.name);
                    log.lock()
                        .expect("log")
                        .write_all(line.as_bytes())
                        .expect("log");
                }
            });
        }
    });
    ExitCode::SUCCESS
}

/// Checks every acknowledged record; prints how many there are of each kind.
pub fn audit(dir: &Path, log: &Path) -> ExitCode {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in fs::read_to_string(log)
        .expect("log")
        .split_inclusive('\n')
        .filter(|l| l.ends_with('\n'))
    {
        let (name, n) = line.trim_end().split_once(' ').expect("NAME NUMBER");
        last.insert(name.to_owned(), n.parse().expect("a number"));
    }
    let mut lost = 0;
    for w in WRITERS {
        let Some(&newest) = last.get(w.name) else {
            continue;
        };
        for n in 0..=newest {
            if std::panic::catch_unwind(|| (w.check)(dir, n, newest)).is_err() {
                println!("LOST {} record {n} of {newest}", w.name);
                lost += 1;
            }
        }
        println!("{} {} records", w.name, newest + 1);
    }
    println!("{} kinds, {lost} lost", last.len());
    ExitCode::from(u8::from(lost > 0))
}

fn line(n: u64) -> [u8; LINE] {
    let text = format!(
        "{n:020} {:020} {n:021}\n",
        n.wrapping_mul(0x9e37_79b9) % 1_000_000_007
    );
    let mut out = [b'\n'; LINE];
    out.iter_mut().zip(text.bytes()).for_each(|(o, b)| *o = b);
    out
}

fn osync(_: &Path, file: &File, n: u64) {
    file.write_all_at(&line(n), n * LINE as u64)
        .expect("pwrite under O_SYNC");
}

fn check_osync(dir: &Path, n: u64, _: u64) {
    let mut got = [0; LINE];
    open(&dir.join("osync.data"))
        .read_exact_at(&mut got, n * LINE as u64)
        .expect("pread");
    assert_eq!(got, line(n));
}

fn block(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed + 1).bytes(len)
}

fn fsync(_: &Path, file: &File, n: u64) {
    file.write_all_at(&block(n, BLOCK), n % LAP * BLOCK as u64)
        .expect("pwrite");
    file.sync_data().expect("fdatasync");
}

fn check_fsync(dir: &Path, n: u64, last: u64) {
    // Overwritten a lap later, perhaps by the record after the newest acknowledged one.
    if n + LAP > last + 1 {
        let mut got = vec![0; BLOCK];
        open(&dir.join("fsync.data"))
            .read_exact_at(&mut got, n % LAP * BLOCK as u64)
            .expect("pread");
        assert!(got == block(n, BLOCK), "block differs");
    }
}

/// Much unstable data, one COMMIT.
fn stream(_: &Path, file: &File, n: u64) {
    let at = n % 16 * STREAM as u64;
    for (i, part) in block(n, STREAM).chunks(100_000).enumerate() {
        file.write_all_at(part, at + i as u64 * 100_000)
            .expect("pwrite");
    }
    file.sync_all().expect("fsync");
}

fn check_stream(dir: &Path, n: u64, last: u64) {
    if n + 16 > last + 1 {
        let mut got = vec![0; STREAM];
        open(&dir.join("stream.data"))
            .read_exact_at(&mut got, n % 16 * STREAM as u64)
            .expect("pread");
        assert!(got == block(n, STREAM), "stream differs");
    }
}

/// A new file for each record: the name must be as durable as the data.
fn files(dir: &Path, _: &File, n: u64) {
    // Exclusive: the verifier must make a repeated CREATE succeed after a crash (RFC 1813 3.3.8).
    let path = dir.join("files").join(n.to_string());
    let mut f = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .expect("exclusive create");
    f.write_all(&line(n)).expect("write");
    f.sync_all().expect("fsync");
}

fn check_files(dir: &Path, n: u64, _: u64) {
    assert_eq!(
        fs::read(dir.join("files").join(n.to_string())).expect("read"),
        line(n)
    );
}

fn replace(dir: &Path, _: &File, n: u64) {
    let draft = dir.join("replace.draft");
    let mut f = File::create(&draft).expect("create");
    f.write_all(&line(n)).expect("write");
    f.sync_all().expect("fsync");
    done_or(
        fs::rename(&draft, dir.join("replace.current")),
        ErrorKind::NotFound,
    );
}

fn check_replace(dir: &Path, n: u64, last: u64) {
    if n == last {
        let got = fs::read(dir.join("replace.current")).expect("read");
        assert!(
            got == line(n) || got == line(n + 1),
            "replace.current is older or torn"
        );
    }
}

fn dirs(dir: &Path, _: &File, n: u64) {
    done_or(
        fs::create_dir(dir.join("dirs").join(n.to_string())),
        ErrorKind::AlreadyExists,
    );
    if n >= KEPT {
        done_or(
            fs::remove_dir(dir.join("dirs").join((n - KEPT).to_string())),
            ErrorKind::NotFound,
        );
    }
}

fn check_dirs(dir: &Path, n: u64, last: u64) {
    let there = dir.join("dirs").join(n.to_string()).exists();
    // Of the record after the newest acknowledged one, either half may have happened.
    if n + KEPT == last + 1 {
        return;
    }
    assert_eq!(there, n + KEPT > last, "directory {n}, newest {last}");
}
