//! What POSIX demands of record locks (fcntl(), lockf(), close(), fork()), one named case each, between this process and
//! others: on this machine, or on another one that has the same directory mounted.
//!
//!     guest lock-peers ADDR               makes the other processes of a suite elsewhere
//!     guest lock-suite DIR ADDR THERE     the suite in DIR; others are made at ADDR, or here if that is `local`, and see
//!                                         the same directory as THERE
//!
//! A case is a list of words of locks.rs, and these:
//!
//!     E:w:5:-6=EINVAL  F_SETLK must fail so (kind `g`: F_GETLK)
//!     put:OFFSET:TEXT  pwrite;  see:OFFSET:TEXT  what pread must give;  size:N  what fstat must say
//!     dup              closes a duplicate of the descriptor
//!     only:r           opens the file anew for reading only; `w`: for writing only; `rw` for both
//!     count:N          adds one to the number in the file, N times, each under a lock of the whole file

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use crate::lock_cases::CASES;
use crate::locks::{self, Range, request, wait};

/// How long another process may take for a word; a 4.0 client asks again every 30 s.
const PATIENCE: Duration = Duration::from_secs(120);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(300);

/// Where a case plays.
pub struct Ground<'a> {
    dir: &'a Path,
    there: &'a Path,
    peers: &'a str,
    name: &'a str,
}

/// A process that does words.
pub struct Other {
    stream: TcpStream,
    answers: mpsc::Receiver<String>,
}

/// This process: the file of the case, and perhaps a descriptor of it.
pub struct Me {
    path: PathBuf,
    slot: Option<File>,
}

impl Ground<'_> {
    /// The file of the case, or another one beside it.
    pub fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}{suffix}", self.name))
    }

    /// This process.
    pub fn me(&self) -> Me {
        let path = self.path("");
        let slot = Some(open(&path, "rw"));
        Me { path, slot }
    }

    /// Another one. Dropped, it is killed.
    pub fn other(&self) -> Other {
        self.other_at("")
    }

    /// Another one, with a file beside that of the case.
    pub fn other_at(&self, suffix: &str) -> Other {
        let mut stream = TcpStream::connect(self.peers).expect("lock-peers");
        // Every word is waited for.
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (sender, answers) = mpsc::channel();
        let lines = BufReader::new(stream.try_clone().expect("dup")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let path = self.there.join(format!("{}{suffix}", self.name));
        writeln!(stream, "{}", path.display()).expect("its path");
        let other = Other { stream, answers };
        other.done("open");
        other
    }
}

impl Other {
    /// Begins a word.
    pub fn begin(&mut self, word: &str) {
        writeln!(self.stream, "{word}").expect("the other process");
    }

    /// Waits for the end of the word it does.
    #[track_caller]
    pub fn done(&self, word: &str) {
        let answer = self.answers.recv_timeout(PATIENCE);
        assert!(answer.is_ok(), "other: {word}: failed, see its message");
    }

    /// Does words to their end.
    #[track_caller]
    pub fn does(&mut self, words: &str) -> &mut Other {
        for word in words.split_whitespace() {
            self.begin(word);
            self.done(word);
        }
        self
    }

    /// Begins a word that must not come to an end for now.
    #[track_caller]
    pub fn waits(&mut self, word: &str) {
        self.begin(word);
        self.still_waits();
    }

    /// Is at it still.
    #[track_caller]
    pub fn still_waits(&self) {
        let answer = self.answers.recv_timeout(SHORT);
        assert!(answer.is_err(), "other: it did not wait");
    }

    /// Whether the word it waited in has come to its end, after a while.
    pub fn is_done(&self) -> bool {
        self.answers.recv_timeout(SHORT).is_ok()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The thread that reads has the connection, too.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Me {
    /// Does words to their end.
    #[track_caller]
    pub fn does(&mut self, words: &str) -> &mut Me {
        for word in words.split_whitespace() {
            act(&self.path, &mut self.slot, word);
        }
        self
    }

    /// The descriptor.
    #[track_caller]
    pub fn file(&self) -> &File {
        self.slot.as_ref().expect("open")
    }
}

/// Opens the file, made if there is none; not for appending, where pwrite(2) heeds no offset.
pub fn open(path: &Path, mode: &str) -> File {
    let mut options = OpenOptions::new();
    options
        .read(mode.contains('r'))
        .write(mode.contains('w'))
        .create(mode == "rw");
    let file = options.open(path);
    file.unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

fn act(path: &Path, slot: &mut Option<File>, word: &str) {
    let (name, rest) = word.split_once(':').unwrap_or((word, ""));
    if name == "open" || name == "only" {
        // The old descriptor is closed first: its close takes no lock of the new one.
        *slot = None;
        *slot = Some(open(path, if name == "open" { "rw" } else { rest }));
        return;
    }
    let file = slot.as_ref();
    let file = || file.unwrap_or_else(|| panic!("{word}: closed"));
    match name {
        "E" => refused(file(), rest),
        "put" => {
            let (offset, text) = at(rest);
            let put = file().write_all_at(text.as_bytes(), offset);
            put.expect("pwrite");
        }
        "see" => {
            let (offset, text) = at(rest);
            let mut seen = vec![0; text.len()];
            let read = file().read_exact_at(&mut seen, offset);
            read.unwrap_or_else(|e| panic!("{word}: {e}"));
            assert_eq!(String::from_utf8_lossy(&seen), text, "at {offset}");
        }
        "size" => assert_eq!(file().metadata().expect("fstat").len().to_string(), rest),
        "dup" => drop(file().try_clone().expect("dup")),
        "count" => count(file(), rest.parse().expect("a number")),
        _ => locks::step(path, slot, word),
    }
}

fn at(rest: &str) -> (u64, &str) {
    let (offset, text) = rest.split_once(':').expect("OFFSET:TEXT");
    (offset.parse().expect("an offset"), text)
}

/// `KIND:START:LEN=ERRNO`.
fn refused(file: &File, rest: &str) {
    let (asked, want) = rest.split_once('=').expect("KIND:START:LEN=ERRNO");
    let (kind, place) = asked.split_once(':').expect("KIND:START:LEN");
    let place = locks::range(place);
    let result = match kind {
        "g" => fcntl(file, FcntlArg::F_GETLK(&mut request(libc::F_WRLCK, place))),
        "r" => fcntl(file, FcntlArg::F_SETLK(&request(libc::F_RDLCK, place))),
        "w" => fcntl(file, FcntlArg::F_SETLK(&request(libc::F_WRLCK, place))),
        "u" => fcntl(file, FcntlArg::F_SETLK(&request(libc::F_UNLCK, place))),
        _ => panic!("{rest}: no such kind"),
    };
    let said = result.map_or_else(|e| format!("{e:?}"), |_| "done".to_owned());
    assert_eq!(said, want, "{asked}");
}

fn count(file: &File, times: u64) {
    let all = Range { start: 0, len: 0 };
    for _ in 0..times {
        wait(file, libc::F_WRLCK, all);
        let mut text = [0; 8];
        file.read_exact_at(&mut text, 0).expect("pread");
        let number: u64 = String::from_utf8_lossy(&text).parse().expect("a number");
        let text = format!("{:08}", number + 1);
        file.write_all_at(text.as_bytes(), 0).expect("pwrite");
        assert!(locks::set(file, libc::F_UNLCK, all));
    }
}

/// Makes a process for each connection to `addr`, for ever.
pub fn peers(addr: &str) -> ExitCode {
    accept(&TcpListener::bind(addr).expect("bind"));
    ExitCode::SUCCESS
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let made = Command::new(std::env::current_exe().expect("exe"))
            .arg("lock-peer")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(
                stream.try_clone().expect("dup"),
            )))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(stream)))
            .spawn();
        let mut child = made.expect("spawn");
        std::thread::spawn(move || child.wait());
    }
}

/// One of them: a path, then words, from standard input; a line of answer for each. The end of the input is SIGKILL.
pub fn peer() -> ExitCode {
    let (sender, words) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    });
    let path = PathBuf::from(words.recv().expect("a path"));
    let mut slot = Some(open(&path, "rw"));
    println!("done");
    for word in words {
        act(&path, &mut slot, &word);
        println!("done");
    }
    ExitCode::SUCCESS
}

/// The suite.
pub fn run(dir: &Path, peers: &str, there: &Path) -> ExitCode {
    let here = TcpListener::bind("127.0.0.1:0").expect("bind");
    let own = here.local_addr().expect("an address").to_string();
    let peers = if peers == "local" { &own } else { peers };
    std::thread::spawn(move || accept(&here));
    let mut failed = 0;
    for (name, case) in CASES {
        let ground = Ground {
            dir,
            there,
            peers,
            name,
        };
        // The panic's message and place are printed by the default hook.
        let right = std::panic::catch_unwind(|| case(&ground)).is_ok();
        println!("{} {name}", if right { "PASS" } else { "FAIL" });
        failed += usize::from(!right);
        let _ = std::fs::remove_file(ground.path(""));
    }
    println!("{} cases passed, {failed} failed", CASES.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}
