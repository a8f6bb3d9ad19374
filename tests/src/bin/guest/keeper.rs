//! One process on each of two clients keeps opens, locks and delegations for as long as the test takes, whatever happens
//! to the server, and finds out every round whether they still are what they were:
//!
//! - a write lock of its own, which the other one must never get, with a counter below it;
//! - a read lock that both hold, which neither can turn into a write lock;
//! - a file that only this client opens and writes (write delegation, data not yet sent);
//! - files both have open for reading (read delegations, never recalled);
//! - news: a file it writes and closes, and the other one's, which must never be older than what was closed.
//!
//! Marks are files of a directory both clients see by another way than NFS.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::Random;
use crate::data::open;
use crate::locks::{Range, set, wait};

const HELD: Range = Range { start: 0, len: 100 };
/// Bytes of a number.
const WORD: usize = 8;
/// Rounds from one mark to the next.
const MARKED: u64 = 4;
/// Files open for reading.
const STILL: u64 = 4;

/// What one keeper needs.
pub struct Keeper<'a> {
    /// The directory on NFS.
    pub dir: &'a Path,
    /// Number of this client and of the other.
    pub me: u64,
    pub other: u64,
    /// Where marks are made.
    pub marks: &'a Path,
    /// The file that ends it.
    pub stop: &'a Path,
}

fn number_at(file: &File, at: u64) -> u64 {
    let mut bytes = [0; WORD];
    file.read_exact_at(&mut bytes, at).expect("read");
    u64::from_be_bytes(bytes)
}

fn put(file: &File, at: u64, n: u64) {
    file.write_all_at(&n.to_be_bytes(), at).expect("write");
}

fn until(path: &Path) {
    let end = Instant::now() + Duration::from_secs(120);
    while !path.exists() {
        assert!(Instant::now() < end, "{} did not come", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Keeper<'_> {
    fn path(&self, what: &str, who: u64) -> PathBuf {
        self.dir.join(format!("keeper-{what}-{who}"))
    }

    fn mark(&self, what: &str, who: u64, n: u64) -> PathBuf {
        self.marks.join(format!("{what}-{who}.{n}"))
    }

    fn make_mark(&self, what: &str, n: u64) {
        File::create(self.mark(what, self.me, n)).expect("mark");
    }

    /// Until the stop file is there. Prints `ROUNDS REFUSED VIOLATIONS`: rounds, locks that the other one's stood in the
    /// way of, and whatever was not as it must be, each of which is told as well.
    pub fn run(&self) -> ExitCode {
        let mut random = Random::new(self.me);
        let held = open(&self.path("held", self.me));
        wait(&held, libc::F_WRLCK, HELD);
        put(&held, 0, 0);
        let shared = open(&self.dir.join("keeper-shared"));
        wait(&shared, libc::F_RDLCK, HELD);
        let own = open(&self.path("own", self.me));
        put(&open(&self.path("news", self.me)), 0, 0);
        for n in 0..STILL {
            put(&open(&self.path("still", n)), 0, n);
        }
        self.make_mark("ready", 0);
        until(&self.mark("ready", self.other, 0));
        let theirs = open(&self.path("held", self.other));
        let still = (0..STILL).map(|n| File::open(self.path("still", n)).expect("open"));
        let still: Vec<File> = still.collect();
        let (mut rounds, mut refused, mut violations) = (0, 0, 0);
        let mut known = 0;
        let mut wrong = |what: &str| {
            violations += 1;
            eprintln!("keeper {}: {what}", self.me);
        };
        while !self.stop.exists() {
            rounds += 1;
            put(&held, 0, rounds);
            if random.below(3) == 0 {
                held.sync_data().expect("fdatasync");
            }
            if number_at(&held, 0) != rounds {
                wrong("somebody wrote below my lock");
            }
            let kind = [libc::F_RDLCK, libc::F_WRLCK][random.below(2) as usize];
            for (file, kind) in [(&theirs, kind), (&shared, libc::F_WRLCK)] {
                match set(file, kind, HELD) {
                    true => wrong("I got a lock the other one has"),
                    false => refused += 1,
                }
            }
            put(&own, rounds * WORD as u64, rounds);
            for (n, file) in still.iter().enumerate() {
                if number_at(file, 0) != n as u64 {
                    wrong("a file nobody writes has changed");
                }
            }
            self.tell(rounds);
            if let Err(what) = self.hear(&mut known) {
                wrong(&what);
            }
            std::thread::sleep(Duration::from_millis(5 + random.below(20)));
        }
        // The end of this process gives up locks the other one may still be asking for.
        self.make_mark("done", 0);
        until(&self.mark("done", self.other, 0));
        println!("{rounds} {refused} {violations}");
        ExitCode::from(u8::from(violations > 0))
    }

    fn tell(&self, round: u64) {
        if round.is_multiple_of(MARKED) {
            let news = OpenOptions::new()
                .write(true)
                .open(self.path("news", self.me));
            put(&news.expect("open"), 0, round / MARKED);
            self.make_mark("news", round / MARKED);
        }
    }

    /// `known` is the newest mark seen.
    fn hear(&self, known: &mut u64) -> Result<(), String> {
        while self.mark("news", self.other, *known + 1).exists() {
            *known += 1;
        }
        let got = number_at(&File::open(self.path("news", self.other)).expect("open"), 0);
        match got < *known {
            true => Err(format!("news {got}, {known} was written and closed before")),
            false => Ok(()),
        }
    }
}

/// What the keeper `who` wrote for itself alone, seen from anywhere after its end: as many numbers as it had rounds.
pub fn check(dir: &Path, who: u64, rounds: u64) -> ExitCode {
    let bytes = fs::read(dir.join(format!("keeper-own-{who}"))).expect("read");
    let (words, rest) = bytes.as_chunks::<WORD>();
    let got: Vec<u64> = words.iter().map(|w| u64::from_be_bytes(*w)).collect();
    let right = got.iter().copied().eq(0..=rounds) && rest.is_empty();
    if !right {
        let differs = got.iter().zip(0..).position(|(got, want)| *got != want);
        println!(
            "keeper {who}: {} numbers of {rounds}, the first wrong one at {differs:?}",
            got.len()
        );
    }
    ExitCode::from(u8::from(!right))
}
