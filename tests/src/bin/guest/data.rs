//! File data: reads, writes, sizes, holes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::{Check, Random, errno};

pub const CHECKS: &[Check] = &[
    ("write_then_read", write_then_read),
    (
        "random_reads_writes_truncates",
        random_reads_writes_truncates,
    ),
    ("append", append),
    ("append_two_descriptors", append_two_descriptors),
    ("truncate_down_and_up", truncate_down_and_up),
    ("open_truncates", open_truncates),
    ("holes_read_as_zeros", holes_read_as_zeros),
    ("beyond_4_gib", beyond_4_gib),
    ("read_at_end", read_at_end),
    ("exclusive_create", exclusive_create),
    ("synchronous_writes", synchronous_writes),
    ("direct_io", direct_io),
    ("copy_file_range", copy_file_range),
    ("unlinked_but_open", unlinked_but_open),
    ("replaced_but_open", replaced_but_open),
    ("several_threads", several_threads),
    ("run_a_program_from_here", run_a_program_from_here),
];

/// Read and write access, created if need be.
pub fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("open")
}

/// Makes the next read come from the file system, not from the page cache.
pub fn forget(file: &File) {
    file.sync_all().expect("fsync");
    fadvise(file.as_fd(), 0, None, Advice::DontNeed).expect("fadvise");
}

fn write_then_read(dir: &Path) {
    let mut random = Random::new(1);
    for size in [0, 1, 511, 4095, 4096, 4097, 65536, 1 << 20, (3 << 20) + 7] {
        let path = dir.join(format!("f{size}"));
        let bytes = random.bytes(size);
        fs::write(&path, &bytes).expect("write");
        forget(&open(&path));
        assert_eq!(fs::metadata(&path).expect("stat").len(), size as u64);
        assert!(
            fs::read(&path).expect("read") == bytes,
            "{size} bytes differ"
        );
    }
}

fn random_reads_writes_truncates(dir: &Path) {
    const MAX: u64 = 600_000;
    let mut random = Random::new(2);
    let path = dir.join("f");
    let mut file = open(&path);
    let mut model: Vec<u8> = Vec::new();
    for step in 0..400 {
        match random.below(10) {
            0..=4 => {
                let (at, len) = (
                    random.below(MAX) as usize,
                    random.below(70_000) as usize + 1,
                );
                let bytes = random.bytes(len);
                file.write_all_at(&bytes, at as u64).expect("pwrite");
                model.resize(model.len().max(at + len), 0);
                model[at..at + len].copy_from_slice(&bytes);
            }
            5..=7 => {
                let at = random.below(MAX) as usize;
                let mut bytes = vec![0; random.below(70_000) as usize];
                let n = file.read_at(&mut bytes, at as u64).expect("pread");
                let at = at.min(model.len());
                assert!(
                    bytes[..n] == model[at..model.len().min(at + bytes.len())],
                    "step {step}: read differs"
                );
            }
            8 => {
                let len = random.below(MAX);
                file.set_len(len).expect("ftruncate");
                model.resize(len as usize, 0);
            }
            _ => {
                forget(&file);
                drop(file);
                file = open(&path);
            }
        }
    }
    forget(&file);
    assert!(
        fs::read(&path).expect("read") == model,
        "the file differs at the end"
    );
}

fn append(dir: &Path) {
    let path = dir.join("f");
    for i in 0..50 {
        let mut f = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .expect("open");
        f.write_all(format!("line {i}\n").as_bytes())
            .expect("write");
    }
    let text = fs::read_to_string(&path).expect("read");
    assert!(
        text.lines()
            .enumerate()
            .all(|(i, l)| l == format!("line {i}"))
            && text.lines().count() == 50
    );
}

fn append_two_descriptors(dir: &Path) {
    let path = dir.join("f");
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .expect("open")
    };
    let (mut a, mut b) = (open(), open());
    for _ in 0..20 {
        a.write_all(b"a").expect("write");
        b.write_all(b"b").expect("write");
    }
    assert_eq!(fs::read(&path).expect("read"), b"ab".repeat(20));
}

fn truncate_down_and_up(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, vec![7; 10_000]).expect("write");
    let f = open(&path);
    f.set_len(5_001).expect("truncate");
    f.set_len(12_000).expect("truncate");
    forget(&f);
    let bytes = fs::read(&path).expect("read");
    assert_eq!(bytes.len(), 12_000);
    assert!(bytes[..5_001].iter().all(|b| *b == 7) && bytes[5_001..].iter().all(|b| *b == 0));
}

fn open_truncates(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "longer than what follows").expect("write");
    fs::write(&path, "short").expect("write");
    assert_eq!(fs::read(&path).expect("read"), b"short");
}

fn holes_read_as_zeros(dir: &Path) {
    let path = dir.join("f");
    let f = open(&path);
    f.write_all_at(b"end", 40 << 20).expect("pwrite");
    forget(&f);
    let mut middle = [1; 4096];
    assert_eq!(f.read_at(&mut middle, 20 << 20).expect("pread"), 4096);
    assert_eq!(middle, [0; 4096]);
    assert_eq!(fs::metadata(&path).expect("stat").len(), (40 << 20) + 3);
    use std::os::unix::fs::MetadataExt;
    assert!(
        fs::metadata(&path).expect("stat").blocks() < 2048,
        "a hole takes space"
    );
}

fn beyond_4_gib(dir: &Path) {
    let path = dir.join("f");
    let f = open(&path);
    let places = [(1u64 << 31) - 2, (1 << 32) - 2, (1 << 40) + 1];
    for at in places {
        f.write_all_at(&at.to_be_bytes(), at).expect("pwrite");
    }
    forget(&f);
    for at in places {
        let mut bytes = [0; 8];
        f.read_exact_at(&mut bytes, at).expect("pread");
        assert_eq!(u64::from_be_bytes(bytes), at);
    }
    assert_eq!(fs::metadata(&path).expect("stat").len(), (1 << 40) + 9);
}

fn read_at_end(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, [9; 100]).expect("write");
    let mut f = open(&path);
    let mut bytes = [0; 64];
    assert_eq!(f.read_at(&mut bytes, 90).expect("pread"), 10);
    assert_eq!(f.read_at(&mut bytes, 100).expect("pread"), 0);
    assert_eq!(f.read_at(&mut bytes, 1 << 33).expect("pread"), 0);
    f.seek(SeekFrom::End(-1)).expect("lseek");
    assert_eq!(f.read(&mut bytes).expect("read"), 1);
}

fn exclusive_create(dir: &Path) {
    let path = dir.join("f");
    let excl = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o604)
            .open(&path)
    };
    excl().expect("first").write_all(b"x").expect("write");
    assert_eq!(errno(excl()), libc::EEXIST);
    use std::os::unix::fs::MetadataExt;
    let m = fs::metadata(&path).expect("stat");
    assert_eq!((m.mode() & 0o7777, m.len()), (0o604, 1));
    // The verifier of an exclusive create must not stay visible as a time far from now.
    let now = std::time::SystemTime::now();
    let age = now
        .duration_since(m.modified().expect("mtime"))
        .unwrap_or_else(|e| e.duration());
    assert!(age.as_secs() < 3600, "mtime {age:?} away from now");
}

fn synchronous_writes(dir: &Path) {
    for (name, flag) in [("osync", libc::O_SYNC), ("odsync", libc::O_DSYNC)] {
        let path = dir.join(name);
        let mut f = OpenOptions::new()
            .write(true)
            .create(true)
            .custom_flags(flag)
            .open(&path)
            .expect("open");
        for i in 0..16u8 {
            f.write_all(&[i; 3000]).expect("write");
        }
        forget(&f);
        let bytes = fs::read(&path).expect("read");
        assert!(
            bytes
                .chunks(3000)
                .enumerate()
                .all(|(i, c)| c == [i as u8; 3000])
                && bytes.len() == 48_000
        );
    }
}

fn direct_io(dir: &Path) {
    let path = dir.join("f");
    let f = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("open");
    let mut room = vec![0; (1 << 20) + 4096];
    let start = room.as_ptr().align_offset(4096);
    let aligned = &mut room[start..start + (1 << 20)];
    aligned.copy_from_slice(&Random::new(3).bytes(1 << 20));
    let want = aligned.to_vec();
    f.write_all_at(aligned, 8192).expect("pwrite");
    aligned.fill(0);
    f.read_exact_at(aligned, 8192).expect("pread");
    assert!(*aligned == want[..], "direct read differs");
}

fn copy_file_range(dir: &Path) {
    let bytes = Random::new(4).bytes(300_000);
    fs::write(dir.join("a"), &bytes).expect("write");
    fs::copy(dir.join("a"), dir.join("b")).expect("copy");
    assert!(fs::read(dir.join("b")).expect("read") == bytes);
}

fn unlinked_but_open(dir: &Path) {
    let path = dir.join("f");
    let f = open(&path);
    f.write_all_at(b"before", 0).expect("pwrite");
    fs::remove_file(&path).expect("unlink");
    assert!(!path.exists());
    f.write_all_at(b"after", 6).expect("pwrite");
    forget(&f);
    let mut bytes = [0; 11];
    f.read_exact_at(&mut bytes, 0).expect("pread");
    assert_eq!(&bytes, b"beforeafter");
    drop(f);
    assert_eq!(
        fs::read_dir(dir).expect("readdir").count(),
        0,
        "something is left"
    );
}

fn replaced_but_open(dir: &Path) {
    fs::write(dir.join("old"), "old").expect("write");
    fs::write(dir.join("new"), "new").expect("write");
    let f = File::open(dir.join("old")).expect("open");
    fs::rename(dir.join("new"), dir.join("old")).expect("rename");
    let mut bytes = [0; 3];
    f.read_exact_at(&mut bytes, 0)
        .expect("the old file still reads");
    assert_eq!(&bytes, b"old");
    assert_eq!(fs::read(dir.join("old")).expect("read"), b"new");
}

fn several_threads(dir: &Path) {
    std::thread::scope(|s| {
        for t in 0..6u8 {
            s.spawn(move || {
                for i in 0..25 {
                    let (tmp, done) =
                        (dir.join(format!("t{t}.{i}")), dir.join(format!("d{t}.{i}")));
                    fs::write(&tmp, vec![t; 5000 + i]).expect("write");
                    fs::rename(&tmp, &done).expect("rename");
                    if i % 2 == 0 {
                        fs::remove_file(&done).expect("unlink");
                    }
                }
            });
        }
    });
    assert_eq!(fs::read_dir(dir).expect("readdir").count(), 6 * 12);
    for t in 0..6u8 {
        for i in (1..25).step_by(2) {
            assert!(fs::read(dir.join(format!("d{t}.{i}"))).expect("read") == vec![t; 5000 + i]);
        }
    }
}

/// Executing maps the file: what the loader and the kernel read comes by mmap(2).
fn run_a_program_from_here(dir: &Path) {
    let copy = dir.join("true");
    fs::copy("/bin/true", &copy).expect("copy");
    // A descriptor inherited by another thread's fork would make this ETXTBSY; retry as shells do.
    let run = || std::process::Command::new(&copy).status();
    let status = run().or_else(|_| run()).expect("exec");
    assert!(status.success());
    assert_eq!(
        errno(OpenOptions::new().append(true).open(dir)),
        libc::EISDIR
    );
}
