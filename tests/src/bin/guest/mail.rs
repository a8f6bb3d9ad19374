//! A mailbox that many append to under an fcntl(2) lock of the whole file, as mail programs do: a message is a line that
//! says whose it is, which, and how long, then its text, written in pieces.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

use crate::Random;
use crate::locks::{Range, set, wait};

const ALL: Range = Range { start: 0, len: 0 };

/// The text of a message: lines of letters, 100 bytes to three pages.
fn text(who: &str, n: u64) -> Vec<u8> {
    let mut random = Random::new(n ^ who.bytes().fold(7, |a, b| a * 31 + u64::from(b)));
    let len = 100 + random.below(12_000) as usize;
    let mut text = random.bytes(len);
    for (i, byte) in text.iter_mut().enumerate() {
        *byte = if i % 70 == 69 {
            b'\n'
        } else {
            b'a' + *byte % 26
        };
    }
    text.push(b'\n');
    text
}

/// Appends `count` messages of `who`, each opened, locked, written and closed by itself; after every fourth the whole
/// mailbox is read under a shared lock, and must be whole.
pub fn deliver(path: &Path, who: &str, count: u64) -> ExitCode {
    for n in 1..=count {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path);
        let mut file = file.expect("the mailbox");
        wait(&file, libc::F_WRLCK, ALL);
        let text = text(who, n);
        writeln!(file, "From {who} {n} {}", text.len()).expect("append");
        for piece in text.chunks(1000) {
            file.write_all(piece).expect("append");
        }
        file.sync_all().expect("fsync");
        assert!(set(&file, libc::F_UNLCK, ALL));
        if n % 4 == 0 {
            wait(&file, libc::F_RDLCK, ALL);
            let own = read(&bytes(&file)).into_iter();
            let own = own.filter(|(whose, _)| whose == who).count() as u64;
            assert_eq!(own, n, "its own messages");
        }
    }
    ExitCode::SUCCESS
}

/// By its descriptor: opening and closing another one would drop the lock.
fn bytes(file: &File) -> Vec<u8> {
    let mut all = vec![0; file.metadata().expect("fstat").len() as usize];
    file.read_exact_at(&mut all, 0).expect("pread");
    all
}

/// The messages, each whole: whose and which.
fn read(mut rest: &[u8]) -> Vec<(String, u64)> {
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').expect("a line");
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let ["From", who, n, len] = words[..] else {
            panic!("no start of a message: {line}")
        };
        let (n, len): (u64, usize) = (crate::number(n), crate::number(len) as usize);
        rest = &rest[end + 1..];
        let found = rest.get(..len).expect("a whole message");
        assert!(found == text(who, n), "{line}: another text");
        rest = &rest[len..];
        messages.push((who.to_owned(), n));
    }
    messages
}

/// Every message of each of `who` is there once, in its order, and nothing else.
pub fn check(path: &Path, who: &[&str], count: u64) -> ExitCode {
    let all = read(&std::fs::read(path).expect("the mailbox"));
    for name in who {
        let own = all.iter().filter(|(whose, _)| whose == name);
        let own: Vec<u64> = own.map(|(_, n)| *n).collect();
        assert_eq!(own, (1..=count).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(all.len() as u64, count * who.len() as u64);
    println!("{} messages", all.len());
    ExitCode::SUCCESS
}
