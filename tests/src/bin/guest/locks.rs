//! Locks, as a little language: each word is one step, and a list of words is what one process does.
//!
//!     w:0:10        fcntl(2) write lock on bytes 0 to 9, at once; must be granted (length 0: to the end of file)
//!     r:5:1  u:0:0  the same for a read lock, and for unlocking
//!     !w:0:10       must be denied
//!     W:0:10 R:0:1  wait until it is granted
//!     g:w:0:10=free what F_GETLK says about a write lock there: `free`, or the lock in the way, such as `r:5:1`
//!     x s n         flock(2): exclusive, shared, unlock; `!x` must be denied, `X` waits
//!     open close    close gives up all of the process's locks (fcntl(2)); the file is open at the start
//!     append:TEXT   writes a line at the end
//!     peek          opens the file once more and closes that, which gives up all locks too
//!     mark:PATH     makes PATH;  until:PATH waits until it is there (120 s at most)
//!     say:TEXT      prints it;   eof waits for the end of standard input

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, flock};

use crate::Check;

pub const CHECKS: &[Check] = &[
    ("lock_table", lock_table),
    ("lock_split_and_merge", lock_split_and_merge),
    ("lock_waits_for_its_turn", lock_waits_for_its_turn),
    ("lock_ends_with_the_process", lock_ends_with_the_process),
    ("lock_ends_with_any_close", lock_ends_with_any_close),
    ("lock_beyond_4_gib", lock_beyond_4_gib),
    ("lock_needs_the_access", lock_needs_the_access),
    ("flock_table", flock_table),
    (
        "lock_survives_rename_and_unlink",
        lock_survives_rename_and_unlink,
    ),
];

/// One byte range, `len` 0 meaning all from `start` on.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: i64,
    pub len: i64,
}

/// What to do with a range: `libc::F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
pub fn request(kind: i32, range: Range) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: range.start,
        l_len: range.len,
        l_pid: 0,
    }
}

/// F_SETLK: true if granted, false if somebody else's lock is in the way.
///
/// # Panics
/// On any other error.
pub fn set(file: &File, kind: i32, range: Range) -> bool {
    match fcntl(file, FcntlArg::F_SETLK(&request(kind, range))) {
        Ok(_) => true,
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => false,
        Err(e) => panic!("F_SETLK {kind} {range:?}: {e}"),
    }
}

/// F_SETLKW.
pub fn wait(file: &File, kind: i32, range: Range) {
    loop {
        match fcntl(file, FcntlArg::F_SETLKW(&request(kind, range))) {
            Ok(_) => return,
            Err(nix::Error::EINTR) => {}
            Err(e) => panic!("F_SETLKW {kind} {range:?}: {e}"),
        }
    }
}

/// F_GETLK as a word: `free` or KIND:START:LEN.
fn get(file: &File, kind: i32, range: Range) -> String {
    let mut answer = request(kind, range);
    fcntl(file, FcntlArg::F_GETLK(&mut answer)).expect("F_GETLK");
    match i32::from(answer.l_type) {
        libc::F_UNLCK => "free".into(),
        libc::F_RDLCK => format!("r:{}:{}", answer.l_start, answer.l_len),
        libc::F_WRLCK => format!("w:{}:{}", answer.l_start, answer.l_len),
        other => panic!("F_GETLK: type {other}"),
    }
}

/// Does what the words say with `path`, and stops at the first that is not as it must be.
pub fn run(path: &Path, words: &[&str]) -> ExitCode {
    let mut file = Some(both(path));
    for word in words {
        step(path, &mut file, word);
    }
    ExitCode::SUCCESS
}

/// Open for reading and appending.
fn both(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    options.open(path).expect("open")
}

/// Does one word.
///
/// # Panics
/// If it is not as it must be.
pub fn step(path: &Path, slot: &mut Option<File>, word: &str) {
    let (name, rest) = word.split_once(':').unwrap_or((word, ""));
    match name {
        "open" => return *slot = Some(both(path)),
        "close" => return *slot = None,
        "mark" => return drop(File::create(rest).expect("mark")),
        "until" => return until(Path::new(rest)),
        "say" => return say(rest),
        "eof" => {
            std::io::stdin()
                .read_to_end(&mut Vec::new())
                .expect("stdin");
            return;
        }
        "peek" => return drop(File::open(path).expect("open")),
        _ => {}
    }
    let file = slot
        .as_ref()
        .unwrap_or_else(|| panic!("{word}: the file is closed"));
    if name == "append" {
        let mut file = file;
        return file
            .write_all(format!("{rest}\n").as_bytes())
            .expect("append");
    }
    let (denied, name) = match name.strip_prefix('!') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let flocked = |operation| flock(file, operation).is_ok() != denied;
    let right = match name {
        "r" => set(file, libc::F_RDLCK, range(rest)) != denied,
        "w" => set(file, libc::F_WRLCK, range(rest)) != denied,
        "u" => set(file, libc::F_UNLCK, range(rest)) != denied,
        "R" => return wait(file, libc::F_RDLCK, range(rest)),
        "W" => return wait(file, libc::F_WRLCK, range(rest)),
        "g" => return check_get(file, rest),
        "x" => flocked(FlockOperation::NonBlockingLockExclusive),
        "s" => flocked(FlockOperation::NonBlockingLockShared),
        "X" => flocked(FlockOperation::LockExclusive),
        "n" => flocked(FlockOperation::Unlock),
        _ => panic!("{word}: no such step"),
    };
    let did = if denied { "granted" } else { "denied" };
    assert!(right, "{word} on {} was {did}", path.display());
}

/// START:LEN.
pub fn range(text: &str) -> Range {
    let number = |t: &str| {
        t.parse()
            .unwrap_or_else(|_| panic!("{text}: not START:LEN"))
    };
    let (start, len) = text
        .split_once(':')
        .unwrap_or_else(|| panic!("{text}: not START:LEN"));
    Range {
        start: number(start),
        len: number(len),
    }
}

fn check_get(file: &File, text: &str) {
    let (asked, want) = text.split_once('=').expect("g:KIND:START:LEN=ANSWER");
    let (kind, place) = asked.split_once(':').expect("g:KIND:START:LEN=ANSWER");
    let kind = if kind == "r" {
        libc::F_RDLCK
    } else {
        libc::F_WRLCK
    };
    assert_eq!(get(file, kind, range(place)), want, "F_GETLK {asked}");
}

fn until(path: &Path) {
    let end = Instant::now() + Duration::from_secs(120);
    while !path.exists() {
        assert!(Instant::now() < end, "{} did not come", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("stdout");
}

/// Another process that does steps; killed on drop.
struct Other {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path, words: &[&str]) -> Other {
        let mut child = Command::new(std::env::current_exe().expect("exe"))
            .arg("locks")
            .arg(path)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Other { child, out }
    }

    /// Waits until it says something.
    fn heard(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("pipe");
        line.trim_end().to_owned()
    }

    /// Lets `eof` return and waits for its good end.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "the other process: {status}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that takes the locks of `held`, and what another one then sees.
fn against(dir: &Path, held: &[&str], seen: &[&str]) {
    let path = dir.join("f");
    let mut holder = Other::start(&path, &[held, &["say:held", "eof"]].concat());
    assert_eq!(holder.heard(), "held", "{held:?}");
    Other::start(&path, seen).finish();
    holder.finish();
}

fn lock_table(dir: &Path) {
    against(
        dir,
        &["w:10:10"],
        &[
            "!w:10:10",
            "!r:10:10",
            "!r:19:1",
            "!w:0:11",
            "!w:0:0",
            "!r:15:0",
            "w:0:10",
            "w:20:0",
            "r:0:10",
            "g:w:12:1=w:10:10",
            "g:r:0:0=w:10:10",
            "g:w:20:5=free",
            "u:0:0",
            "!r:10:1",
        ],
    );
    against(
        dir,
        &["r:10:10"],
        &[
            "r:10:10",
            "!w:10:1",
            "!w:0:0",
            "g:w:0:0=r:10:10",
            "g:r:0:0=free",
            "r:0:0",
            "!w:19:1",
            "w:20:1",
        ],
    );
    against(
        dir,
        &["w:0:0"],
        &["!r:0:1", "!w:9000000000:1", "g:r:5:5=w:0:0"],
    );
}

/// fcntl(2): a process's locks never conflict with each other; they are replaced, split and merged.
fn lock_split_and_merge(dir: &Path) {
    against(
        dir,
        &["w:0:30", "u:10:10"],
        &["w:10:10", "!w:9:1", "!w:20:1", "g:w:0:0=w:0:10"],
    );
    against(
        dir,
        &["w:0:10", "w:20:10", "w:10:10", "u:5:1"],
        &["w:5:1", "!w:4:1", "!w:6:1", "!w:29:1", "w:30:1"],
    );
    against(
        dir,
        &["w:0:30", "r:10:10"],
        &["r:10:10", "!r:9:1", "!r:20:1", "!w:10:1"],
    );
    against(
        dir,
        &["r:0:30", "w:10:10"],
        &["r:0:10", "r:20:10", "!r:10:1"],
    );
    against(dir, &["w:0:0", "u:100:0"], &["w:100:0", "!w:99:1"]);
    against(
        dir,
        &["r:0:10", "r:5:10", "w:0:15", "r:0:15", "u:0:15"],
        &["w:0:0"],
    );
}

fn lock_waits_for_its_turn(dir: &Path) {
    let path = dir.join("f");
    let mut holder = Other::start(&path, &["w:0:10", "say:held", "eof"]);
    assert_eq!(holder.heard(), "held");
    let mut waiter = Other::start(
        &path,
        &["!w:0:1", "say:waits", "W:5:10", "append:after", "say:got"],
    );
    assert_eq!(waiter.heard(), "waits");
    // Long enough for the request to be there and be refused or queued.
    std::thread::sleep(Duration::from_millis(300));
    step(&path, &mut Some(both(&path)), "append:before");
    holder.finish();
    assert_eq!(waiter.heard(), "got");
    waiter.finish();
    assert_eq!(
        std::fs::read_to_string(&path).expect("read"),
        "before\nafter\n"
    );
}

/// Over NFS both kinds of lock are one to the server, so that a process has its own flock(2) in the way of its fcntl(2)
/// lock; each is tried on a file of its own.
fn lock_ends_with_the_process(dir: &Path) {
    for (file, now, denied, wait) in [("f", "w:0:10", "!w:0:10", "W:0:10"), ("g", "x", "!s", "X")] {
        let path = dir.join(file);
        let mut holder = Other::start(&path, &[now, "say:held", "eof"]);
        assert_eq!(holder.heard(), "held");
        let mut waiter = Other::start(&path, &[denied, "say:denied", wait, "say:got"]);
        assert_eq!(waiter.heard(), "denied");
        drop(holder); // SIGKILL
        assert_eq!(waiter.heard(), "got");
        waiter.finish();
    }
}

fn lock_ends_with_any_close(dir: &Path) {
    against(dir, &["w:0:10", "append:x"], &["!w:0:10"]);
    against(dir, &["w:0:10", "peek"], &["w:0:10"]);
    against(dir, &["w:0:10", "close"], &["w:0:0"]);
}

fn lock_beyond_4_gib(dir: &Path) {
    let last = i64::MAX;
    let at_end = format!("w:{last}:1");
    let denied = format!("!{at_end}");
    against(
        dir,
        &["w:4294967296:4294967296", "r:4611686018427387904:2"],
        &[
            "!r:4294967296:1",
            "!r:8589934591:1",
            "w:8589934592:1",
            "w:0:4294967296",
            "g:w:4611686018427387900:100=r:4611686018427387904:2",
        ],
    );
    against(
        dir,
        &[&at_end],
        &[&denied, "!w:0:0", "w:0:9223372036854775807"],
    );
}

/// fcntl(2): a read lock needs a descriptor open for reading, a write lock one for writing.
fn lock_needs_the_access(dir: &Path) {
    let path = dir.join("f");
    std::fs::write(&path, "x").expect("write");
    let all = Range { start: 0, len: 0 };
    let reader = File::open(&path).expect("open");
    let writer = OpenOptions::new().write(true).open(&path).expect("open");
    let refused = |file: &File, kind| fcntl(file, FcntlArg::F_SETLK(&request(kind, all))).err();
    assert_eq!(refused(&reader, libc::F_WRLCK), Some(nix::Error::EBADF));
    assert_eq!(refused(&writer, libc::F_RDLCK), Some(nix::Error::EBADF));
    assert!(set(&reader, libc::F_RDLCK, all) && set(&writer, libc::F_WRLCK, all));
}

fn flock_table(dir: &Path) {
    against(dir, &["x"], &["!x", "!s"]);
    against(dir, &["s"], &["s", "!x"]);
    against(dir, &["x", "n"], &["x"]);
    against(dir, &["x", "s"], &["s", "!x"]);
    against(dir, &["x", "close"], &["x"]);
}

fn lock_survives_rename_and_unlink(dir: &Path) {
    let path = dir.join("f");
    let mut holder = Other::start(&path, &["w:0:1", "say:held", "eof"]);
    assert_eq!(holder.heard(), "held");
    std::fs::rename(&path, dir.join("g")).expect("rename");
    Other::start(&dir.join("g"), &["!w:0:1", "w:1:1"]).finish();
    std::fs::write(&path, "another").expect("write");
    Other::start(&path, &["w:0:1"]).finish();
    let open = both(&dir.join("g"));
    std::fs::remove_file(dir.join("g")).expect("unlink");
    assert!(!set(&open, libc::F_WRLCK, Range { start: 0, len: 1 }));
    holder.finish();
    assert!(set(&open, libc::F_WRLCK, Range { start: 0, len: 1 }));
}
