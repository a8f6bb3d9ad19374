//! Loads that are one process.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::Random;

/// Adds one to the number in `dir/counter`, `times` times, under the lock file `dir/LOCK` made by O_EXCL.
/// Two clients doing this together end at the sum only if exclusive creation and close-to-open hold.
pub fn count(dir: &Path, lock: &str, times: u64) -> ExitCode {
    let (lock, counter) = (dir.join(lock), dir.join("counter"));
    for _ in 0..times {
        while let Err(e) = OpenOptions::new().write(true).create_new(true).open(&lock) {
            assert_eq!(e.kind(), ErrorKind::AlreadyExists, "lock: {e}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let text = fs::read_to_string(&counter).expect("counter");
        let n: u64 = text
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("counter holds {text:?}"));
        fs::write(&counter, format!("{}\n", n + 1)).expect("counter");
        fs::remove_file(&lock).expect("unlock");
    }
    ExitCode::SUCCESS
}

/// Makes `files` files of 0 to 16 KiB, 50 to a directory.
pub fn tree(dir: &Path, files: u64, seed: u64) -> ExitCode {
    let mut random = Random::new(seed);
    for n in 0..files {
        let sub = dir.join(format!("d{}", n / 50));
        if n % 50 == 0 {
            fs::create_dir_all(&sub).expect("mkdir");
        }
        let scale = random.below(15);
        let len = random.below(1 << scale) as usize;
        fs::write(sub.join(format!("file-{n}")), random.bytes(len)).expect("write");
    }
    ExitCode::SUCCESS
}

/// Makes `files` files of a few bytes in one directory, then removes them: two calls of the file system's for each name.
pub fn churn(dir: &Path, files: u64) -> ExitCode {
    let path = |n: u64| dir.join(format!("file-{n}"));
    for n in 0..files {
        fs::write(path(n), b"a few bytes\n").expect("create");
    }
    for n in 0..files {
        fs::remove_file(path(n)).expect("remove");
    }
    ExitCode::SUCCESS
}

/// What a file server does all day, in the proportions of dbench's clients: each thread creates, writes, reads,
/// lists, renames and removes files of its own directory, `ops` times in all, and knows what each must hold.
pub fn mix(dir: &Path, threads: u64, ops: u64) -> ExitCode {
    std::thread::scope(|s| {
        for thread in 0..threads {
            s.spawn(move || {
                one_of_mix(
                    &dir.join(format!("client{thread}")),
                    &mut Random::new(thread + 9),
                    ops / threads,
                )
            });
        }
    });
    ExitCode::SUCCESS
}

fn one_of_mix(dir: &Path, random: &mut Random, ops: u64) {
    fs::create_dir(dir).expect("mkdir");
    // Name and content of each file there is.
    let mut files: Vec<(u64, Vec<u8>)> = Vec::new();
    let path = |n: u64| dir.join(format!("file{n}"));
    for op in 0..ops {
        let at = random.below(files.len() as u64) as usize;
        match random.below(100) {
            0..=19 => {
                let len = random.below(40_000) as usize;
                let bytes = random.bytes(len);
                fs::write(path(op), &bytes).expect("create");
                files.push((op, bytes));
            }
            _ if files.is_empty() => {}
            20..=34 => {
                let (name, bytes) = &mut files[at];
                let part = random.bytes(4096);
                let offset = random.below(bytes.len() as u64 + 1) as usize;
                bytes.resize(bytes.len().max(offset + part.len()), 0);
                bytes[offset..offset + part.len()].copy_from_slice(&part);
                let file = OpenOptions::new()
                    .write(true)
                    .open(path(*name))
                    .expect("open");
                file.write_all_at(&part, offset as u64).expect("pwrite");
                if offset.is_multiple_of(4) {
                    file.sync_all().expect("fsync");
                }
            }
            35..=64 => {
                let (name, bytes) = &files[at];
                assert!(
                    fs::read(path(*name)).expect("read") == *bytes,
                    "{} differs",
                    path(*name).display()
                );
            }
            65..=79 => {
                let (name, bytes) = &files[at];
                assert_eq!(
                    fs::metadata(path(*name)).expect("stat").len(),
                    bytes.len() as u64
                );
            }
            80..=82 => {
                let mut expected: Vec<_> = files.iter().map(|(n, _)| format!("file{n}")).collect();
                expected.sort();
                assert_eq!(names(dir), expected);
            }
            83..=89 => {
                done_or(fs::rename(path(files[at].0), path(op)), ErrorKind::NotFound);
                files[at].0 = op;
            }
            _ => {
                let (name, _) = files.swap_remove(at);
                done_or(fs::remove_file(path(name)), ErrorKind::NotFound);
            }
        }
    }
    for (name, bytes) in files {
        assert!(
            fs::read(path(name)).expect("read") == bytes,
            "{} differs",
            path(name).display()
        );
        // Nothing of it is to be left: see `names`.
        let file = File::open(path(name)).expect("open");
        file.sync_all().expect("fsync");
        drop(file);
        done_or(fs::remove_file(path(name)), ErrorKind::NotFound);
    }
    done_or(fs::remove_dir(dir), ErrorKind::NotFound);
}

/// The sorted names in `dir`, but for what the client itself renames: a file removed while a WRITE of it is under way
/// is called `.nfs...` until that is done. With a write delegation close(2) does not wait for WRITEs.
fn names(dir: &Path) -> Vec<String> {
    let entry = |entry: std::io::Result<fs::DirEntry>| entry.expect("readdir").file_name();
    let names = fs::read_dir(dir).expect("opendir").map(entry);
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with(".nfs")).collect();
    names.sort();
    names
}

/// A v3 request that was executed before a crash and repeated after it fails with `done`: nobody remembers its reply.
pub fn done_or(result: std::io::Result<()>, done: ErrorKind) {
    match result {
        Err(e) if e.kind() != done => panic!("{e}"),
        _ => {}
    }
}

/// Prints `TOTAL DISTINCT`, the names one listing gives.
pub fn list(dir: &Path) -> ExitCode {
    let mut names = HashSet::new();
    let mut total = 0;
    for entry in fs::read_dir(dir).expect("opendir") {
        names.insert(entry.expect("readdir").file_name());
        total += 1;
    }
    println!("{total} {}", names.len());
    ExitCode::SUCCESS
}

/// Removes every file while listing, and says how many.
pub fn sweep(dir: &Path) -> ExitCode {
    let mut removed = 0;
    for entry in fs::read_dir(dir).expect("opendir") {
        fs::remove_file(entry.expect("readdir").path()).expect("unlink");
        removed += 1;
    }
    println!("{removed}");
    ExitCode::SUCCESS
}
