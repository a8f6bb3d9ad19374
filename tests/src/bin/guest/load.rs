//! Loads that are one process.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
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
