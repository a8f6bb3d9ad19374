//! What NFSv4.2 adds for data: holes, allocation, copies and clones on the server (RFC 7862).

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::data::{forget, open};
use crate::{Check, Random, ground};

pub const CHECKS: &[Check] = &[
    ("seek_hole_and_data", seek_hole_and_data),
    ("allocate", allocate),
    ("punch_hole", punch_hole),
    ("server_side_copy", server_side_copy),
    ("copy_of_a_sparse_file", copy_of_a_sparse_file),
    ("copy_within_a_file", copy_within_a_file),
    ("clone_or_not_supported", clone_or_not_supported),
    ("cp_reflink", cp_reflink),
    ("cp_sparse", cp_sparse),
];

const MIB: u64 = 1 << 20;

/// A file with data at 1 MiB and 3 MiB (64 KiB each) and a hole at its end, 5 MiB long.
fn sparse(path: &Path) -> File {
    let file = open(path);
    for at in [MIB, 3 * MIB] {
        file.write_all_at(&[at as u8 | 1; 65536], at)
            .expect("write");
    }
    file.set_len(5 * MIB).expect("ftruncate");
    forget(&file);
    file
}

fn sought(file: &File, to: SeekFrom) -> Result<u64, Errno> {
    seek(file.as_fd(), to)
}

fn seek_hole_and_data(dir: &Path) {
    let file = sparse(&dir.join("f"));
    let data = |at| sought(&file, SeekFrom::Data(at));
    let hole = |at| sought(&file, SeekFrom::Hole(at));
    let end = MIB + 65536;
    assert_eq!(data(0), Ok(MIB));
    assert_eq!(data(MIB + 5), Ok(MIB + 5));
    assert_eq!(data(end), Ok(3 * MIB));
    assert_eq!(hole(0), Ok(0));
    assert_eq!(hole(MIB), Ok(end));
    assert_eq!(hole(3 * MIB), Ok(3 * MIB + 65536));
    // lseek(2), ENXIO: no data from there on, or beyond the end of the file.
    assert_eq!(data(4 * MIB), Err(Errno::NXIO));
    assert_eq!(data(5 * MIB), Err(Errno::NXIO));
    assert_eq!(hole(5 * MIB), Err(Errno::NXIO));
    fs::write(dir.join("full"), [1; 5000]).expect("write");
    let full = File::open(dir.join("full")).expect("open");
    assert_eq!(
        sought(&full, SeekFrom::Hole(0)),
        Ok(5000),
        "the end counts as a hole"
    );
}

fn blocks(file: &File) -> u64 {
    file.metadata().expect("stat").blocks()
}

fn allocate(dir: &Path) {
    let file = open(&dir.join("f"));
    file.write_all_at(b"kept", 0).expect("write");
    fallocate(&file, FallocateFlags::empty(), 0, 2 * MIB).expect("fallocate");
    forget(&file);
    let meta = file.metadata().expect("stat");
    assert_eq!(meta.len(), 2 * MIB);
    assert!(meta.blocks() >= 4096, "only {} blocks", meta.blocks());
    let bytes = fs::read(dir.join("f")).expect("read");
    assert!(bytes.starts_with(b"kept") && bytes[4..].iter().all(|b| *b == 0));
    fallocate(&file, FallocateFlags::empty(), 4096, 100).expect("inside");
    assert_eq!(file.metadata().expect("stat").len(), 2 * MIB);
    // Far more than the disk has; what it took on the way goes back with the size.
    assert_eq!(
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 42),
        Err(Errno::NOSPC)
    );
    file.set_len(0).expect("ftruncate");
}

fn punch_hole(dir: &Path) {
    let file = open(&dir.join("f"));
    file.write_all_at(&vec![7; 2 * MIB as usize], 0)
        .expect("write");
    forget(&file);
    let before = blocks(&file);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, MIB - 10, MIB / 2).expect("fallocate");
    forget(&file);
    assert_eq!(file.metadata().expect("stat").len(), 2 * MIB);
    assert!(
        blocks(&file) + 900 <= before,
        "{} of {before} blocks are left",
        blocks(&file)
    );
    let bytes = fs::read(dir.join("f")).expect("read");
    let hole = (MIB - 10) as usize..(MIB - 10 + MIB / 2) as usize;
    let wrong = bytes
        .iter()
        .enumerate()
        .find(|(i, b)| **b != if hole.contains(i) { 0 } else { 7 });
    assert_eq!(wrong, None);
    // Beyond the end nothing happens.
    fallocate(&file, punch, 10 * MIB, MIB).expect("beyond the end");
    assert_eq!(file.metadata().expect("stat").len(), 2 * MIB);
}

/// copy_file_range(2) until `len` bytes are copied.
fn copy(from: &File, at: u64, to: &File, put: u64, len: u64) {
    let mut done = 0;
    while done < len {
        let (mut src, mut dst) = (at + done, put + done);
        let n = rustix::fs::copy_file_range(
            from,
            Some(&mut src),
            to,
            Some(&mut dst),
            (len - done) as usize,
        );
        let n = n.unwrap_or_else(|e| panic!("copy_file_range at {done} of {len}: {e}")) as u64;
        assert!(n > 0, "copy_file_range copied nothing at {done} of {len}");
        done += n;
    }
}

fn server_side_copy(dir: &Path) {
    let bytes = Random::new(11).bytes(3 * MIB as usize + 123);
    fs::write(dir.join("a"), &bytes).expect("write");
    let (from, to) = (
        File::open(dir.join("a")).expect("open"),
        open(&dir.join("b")),
    );
    copy(&from, 0, &to, 0, bytes.len() as u64);
    assert!(fs::read(dir.join("b")).expect("read") == bytes);
    // Unaligned, into the middle, over what the client has cached and what it has not yet written.
    to.write_all_at(&[1; 100], 1000).expect("write");
    copy(&from, 777, &to, 1_000_001, 500_000);
    let mut want = bytes.clone();
    want[1000..1100].fill(1);
    want[1_000_001..1_500_001].copy_from_slice(&bytes[777..500_777]);
    assert!(fs::read(dir.join("b")).expect("read") == want);
    // At and over the end: what there is.
    let (mut at, mut put) = (bytes.len() as u64 - 10, 0);
    let n = rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut put), 100);
    assert_eq!(n, Ok(10));
    let n = rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut put), 100);
    assert_eq!(n, Ok(0));
}

fn copy_of_a_sparse_file(dir: &Path) {
    let from = sparse(&dir.join("a"));
    let to = open(&dir.join("b"));
    copy(&from, 0, &to, 0, 5 * MIB);
    forget(&to);
    assert!(fs::read(dir.join("b")).expect("read") == fs::read(dir.join("a")).expect("read"));
    assert_eq!(to.metadata().expect("stat").len(), 5 * MIB);
    // The kernel itself fills holes of a copy on file systems that cannot share blocks, and not every file system says
    // where they are.
    if ground().version != "local" && ground().fs.is_some() {
        has_holes(&to);
    }
}

/// The blocks of the 128 KiB of data of [`sparse`], and few more.
#[track_caller]
fn has_holes(file: &File) {
    let blocks = blocks(file);
    assert!((256..1024).contains(&blocks), "{blocks} blocks");
}

fn copy_within_a_file(dir: &Path) {
    let mut bytes = Random::new(12).bytes(300_000);
    fs::write(dir.join("f"), &bytes).expect("write");
    let (from, to) = (
        File::open(dir.join("f")).expect("open"),
        open(&dir.join("f")),
    );
    copy(&from, 0, &to, 150_000, 100_000);
    bytes.copy_within(0..100_000, 150_000);
    assert!(fs::read(dir.join("f")).expect("read") == bytes);
    // copy_file_range(2), EINVAL: ranges that overlap.
    let (mut at, mut put) = (0, 50);
    let overlap = rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut put), 100);
    assert_eq!(overlap, Err(Errno::INVAL));
}

/// Whether FICLONE must work: None if it is not known.
fn clones() -> Option<bool> {
    let fs = ground().fs.as_deref()?;
    Some(matches!(fs, "xfs" | "btrfs"))
}

/// A clone shares blocks, where the file system can, or is refused as a whole; it never copies half.
fn clone_or_not_supported(dir: &Path) {
    let bytes = Random::new(13).bytes(MIB as usize);
    fs::write(dir.join("a"), &bytes).expect("write");
    let (from, to) = (
        File::open(dir.join("a")).expect("open"),
        open(&dir.join("b")),
    );
    match ioctl_ficlone(&to, &from) {
        Ok(()) => {
            assert_ne!(clones(), Some(false), "cloned");
            assert!(fs::read(dir.join("b")).expect("read") == bytes);
            to.write_all_at(&[0; 5000], 4000).expect("write");
            forget(&to);
            assert!(
                fs::read(dir.join("a")).expect("read") == bytes,
                "the source changed with its clone"
            );
            println!("clone: supported");
        }
        Err(e @ (Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV)) => {
            assert_ne!(clones(), Some(true), "FICLONE: {e}");
            assert_eq!(to.metadata().expect("stat").len(), 0);
            println!("clone: not supported");
        }
        Err(e) => panic!("FICLONE: {e}"),
    }
}

/// cp(1) with options, from `a` to `b`: whether it succeeds.
fn cp(dir: &Path, options: &[&str]) -> bool {
    let mut command = Command::new("cp");
    command.args(options).arg(dir.join("a")).arg(dir.join("b"));
    let out = command.env("LC_ALL", "C").output().expect("cp");
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        println!("cp {options:?}: {}", text.trim());
        assert!(text.contains("Operation not supported"));
    }
    out.status.success()
}

/// coreutils' way to ask for a clone.
fn cp_reflink(dir: &Path) {
    drop(sparse(&dir.join("a")));
    let done = cp(dir, &["--reflink=always"]);
    assert!(
        clones().is_none_or(|clones| clones == done),
        "done: {done}, and the file system is {:?}",
        ground().fs
    );
    if done {
        let to = File::open(dir.join("b")).expect("open");
        assert!(fs::read(dir.join("b")).expect("read") == fs::read(dir.join("a")).expect("read"));
        has_holes(&to);
    }
}

/// coreutils' way to make holes where zeros are; it looks at pieces of st_blksize, 1 MiB over NFS.
fn cp_sparse(dir: &Path) {
    let mut bytes = vec![0; 16 * MIB as usize];
    for at in [MIB as usize, 3 * MIB as usize] {
        bytes[at..at + 65536].fill(7);
    }
    fs::write(dir.join("a"), &bytes).expect("write");
    let from = File::open(dir.join("a")).expect("open");
    forget(&from);
    assert!(blocks(&from) >= 32_000, "{} blocks", blocks(&from));
    // A clone would have the blocks of zeros too.
    assert!(cp(dir, &["--reflink=never", "--sparse=always"]), "refused");
    let to = File::open(dir.join("b")).expect("open");
    forget(&to);
    assert!(fs::read(dir.join("b")).expect("read") == bytes);
    assert!((256..6000).contains(&blocks(&to)), "{} blocks", blocks(&to));
}
