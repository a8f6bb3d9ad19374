//! Names: creating, listing, renaming, linking, removing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::{Check, errno, ground};

pub const CHECKS: &[Check] = &[
    ("longest_name", longest_name),
    ("odd_names", odd_names),
    ("every_byte_in_a_name", every_byte_in_a_name),
    ("case_matters", case_matters),
    ("what_is_not_there", what_is_not_there),
    ("mkdir_rmdir", mkdir_rmdir),
    ("deep_path", deep_path),
    ("rename_table", rename_table),
    ("rename_between_directories", rename_between_directories),
    ("rename_open_file", rename_open_file),
    ("hard_links", hard_links),
    ("symbolic_links", symbolic_links),
    ("longest_symbolic_link", longest_symbolic_link),
    (
        "names_of_255_bytes_that_are_no_text",
        names_of_255_bytes_that_are_no_text,
    ),
    ("list_3000_names", list_3000_names),
    ("list_while_removing", list_while_removing),
    ("list_while_creating", list_while_creating),
    ("dot_and_dot_dot", dot_and_dot_dot),
];

/// btrfs does not count links of directories.
const BTRFS_LINKS: u64 = 1;

fn listed(dir: &Path) -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("opendir") {
        let name = entry.expect("readdir").file_name();
        assert!(names.insert(name.clone()), "{name:?} listed twice");
    }
    names
}

fn touch(path: PathBuf) {
    fs::write(&path, path.as_os_str().as_bytes())
        .unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
}

fn longest_name(dir: &Path) {
    let name = "n".repeat(255);
    touch(dir.join(&name));
    assert_eq!(listed(dir), BTreeSet::from([OsString::from(&name)]));
    let too_long = dir.join("n".repeat(256));
    assert_eq!(errno(fs::write(&too_long, "")), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&too_long)), libc::ENAMETOOLONG);
    fs::rename(dir.join(&name), dir.join("m".repeat(255))).expect("rename");
    fs::remove_file(dir.join("m".repeat(255))).expect("unlink");
}

fn odd_names(dir: &Path) {
    let names: &[&[u8]] = &[
        b" ",
        b"  leading and trailing ",
        b"...",
        b".hidden",
        b"-rf",
        b"*?[]",
        b"a\\b",
        b"new\nline",
        b"tab\t",
        b"\x7f",
        b"\xff\xfe",
        b"\xc3\x28",
        "grüße-\u{1f980}".as_bytes(),
        "e\u{301}".as_bytes(),
        "\u{e9}".as_bytes(),
        b"con:aux",
    ];
    for name in names {
        touch(dir.join(OsStr::from_bytes(name)));
    }
    let want: BTreeSet<OsString> = names
        .iter()
        .map(|n| OsStr::from_bytes(n).to_owned())
        .collect();
    assert_eq!(listed(dir), want);
    for name in names {
        let path = dir.join(OsStr::from_bytes(name));
        assert_eq!(fs::read(&path).expect("read"), path.as_os_str().as_bytes());
        fs::remove_file(&path).expect("unlink");
    }
}

fn every_byte_in_a_name(dir: &Path) {
    for byte in (1..=255u8).filter(|b| *b != b'/') {
        touch(dir.join(OsStr::from_bytes(&[b'x', byte, b'y'])));
    }
    assert_eq!(listed(dir).len(), 254);
}

fn case_matters(dir: &Path) {
    touch(dir.join("a"));
    touch(dir.join("A"));
    assert_eq!(listed(dir).len(), 2);
}

fn what_is_not_there(dir: &Path) {
    let none = dir.join("none");
    touch(dir.join("file"));
    assert_eq!(errno(fs::metadata(&none)), libc::ENOENT);
    assert_eq!(errno(fs::read(&none)), libc::ENOENT);
    assert_eq!(errno(fs::remove_file(&none)), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(&none)), libc::ENOENT);
    assert_eq!(errno(fs::rename(&none, dir.join("x"))), libc::ENOENT);
    assert_eq!(errno(fs::hard_link(&none, dir.join("x"))), libc::ENOENT);
    assert_eq!(errno(fs::create_dir(none.join("below"))), libc::ENOENT);
    assert_eq!(errno(fs::metadata(dir.join("file/below"))), libc::ENOTDIR);
    assert_eq!(errno(fs::read_dir(dir.join("file"))), libc::ENOTDIR);
}

fn mkdir_rmdir(dir: &Path) {
    let d = dir.join("d");
    fs::create_dir(&d).expect("mkdir");
    assert_eq!(errno(fs::create_dir(&d)), libc::EEXIST);
    assert!(matches!(
        fs::metadata(&d).expect("stat").nlink(),
        2 | BTRFS_LINKS
    ));
    fs::create_dir(d.join("sub")).expect("mkdir");
    assert_eq!(errno(fs::remove_dir(&d)), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(&d)), libc::EISDIR);
    assert_eq!(errno(fs::write(&d, "x")), libc::EISDIR);
    fs::remove_dir(d.join("sub")).expect("rmdir");
    fs::remove_dir(&d).expect("rmdir");
    touch(dir.join("f"));
    assert_eq!(errno(fs::remove_dir(dir.join("f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::create_dir(dir.join("f"))), libc::EEXIST);
}

fn deep_path(dir: &Path) {
    let mut path = dir.to_owned();
    for level in 0..120 {
        path.push(format!("level-{level}"));
        fs::create_dir(&path).expect("mkdir");
    }
    touch(path.join("bottom"));
    assert_eq!(listed(&path).len(), 1);
}

/// rename(2), its ERRORS section and the cases that must work.
fn rename_table(dir: &Path) {
    let fresh = || {
        let _ = fs::remove_dir_all(dir.join("t"));
        fs::create_dir_all(dir.join("t/full/inside")).expect("mkdir");
        fs::create_dir(dir.join("t/empty")).expect("mkdir");
        touch(dir.join("t/file"));
        touch(dir.join("t/other"));
        fs::hard_link(dir.join("t/file"), dir.join("t/link")).expect("link");
    };
    let table = [
        ("file", "other", 0),
        ("file", "new", 0),
        ("file", "file", 0),
        ("file", "link", 0),
        ("file", "empty", libc::EISDIR),
        ("empty", "file", libc::ENOTDIR),
        ("empty", "full", libc::ENOTEMPTY),
        ("full", "empty", 0),
        ("full", "new", 0),
        ("full", "full/inside/x", libc::EINVAL),
        ("full/inside", "full", libc::ENOTEMPTY),
        ("file", "none/x", libc::ENOENT),
        ("file", "other/x", libc::ENOTDIR),
    ];
    for (from, to, want) in table {
        fresh();
        let result = fs::rename(dir.join("t").join(from), dir.join("t").join(to));
        let got = result
            .as_ref()
            .err()
            .and_then(std::io::Error::raw_os_error)
            .unwrap_or(0);
        // rename(2): ENOTEMPTY or EEXIST.
        let got = if got == libc::EEXIST {
            libc::ENOTEMPTY
        } else {
            got
        };
        assert_eq!(got, want, "rename {from} to {to}: {result:?}");
    }
    fresh();
    fs::rename(dir.join("t/file"), dir.join("t/link")).expect("two names of one file");
    assert!(
        dir.join("t/file").exists() && dir.join("t/link").exists(),
        "rename(2): does nothing"
    );
}

fn rename_between_directories(dir: &Path) {
    fs::create_dir_all(dir.join("a/sub")).expect("mkdir");
    fs::create_dir(dir.join("b")).expect("mkdir");
    touch(dir.join("a/sub/f"));
    fs::rename(dir.join("a/sub"), dir.join("b/moved")).expect("rename");
    assert_eq!(listed(&dir.join("a")).len(), 0);
    assert!(matches!(
        fs::metadata(dir.join("a")).expect("stat").nlink(),
        2 | BTRFS_LINKS
    ));
    assert!(matches!(
        fs::metadata(dir.join("b")).expect("stat").nlink(),
        3 | BTRFS_LINKS
    ));
    let up = fs::metadata(dir.join("b/moved/..")).expect("stat");
    assert_eq!(
        up.ino(),
        fs::metadata(dir.join("b")).expect("stat").ino(),
        "`..` of a moved directory"
    );
    assert!(fs::read(dir.join("b/moved/f")).is_ok());
}

fn rename_open_file(dir: &Path) {
    touch(dir.join("a"));
    let f = crate::data::open(&dir.join("a"));
    fs::rename(dir.join("a"), dir.join("b")).expect("rename");
    f.set_len(3).expect("ftruncate");
    drop(f);
    assert_eq!(fs::metadata(dir.join("b")).expect("stat").len(), 3);
}

fn hard_links(dir: &Path) {
    touch(dir.join("a"));
    for i in 0..20 {
        fs::hard_link(dir.join("a"), dir.join(format!("l{i}"))).expect("link");
    }
    let m = fs::metadata(dir.join("a")).expect("stat");
    assert_eq!(m.nlink(), 21);
    assert_eq!(fs::metadata(dir.join("l7")).expect("stat").ino(), m.ino());
    assert_eq!(
        errno(fs::hard_link(dir.join("a"), dir.join("l0"))),
        libc::EEXIST
    );
    fs::create_dir(dir.join("d")).expect("mkdir");
    assert_eq!(
        errno(fs::hard_link(dir.join("d"), dir.join("e"))),
        libc::EPERM
    );
    fs::write(dir.join("l3"), "through a link").expect("write");
    assert_eq!(fs::read(dir.join("a")).expect("read"), b"through a link");
    fs::remove_file(dir.join("a")).expect("unlink");
    assert_eq!(fs::metadata(dir.join("l3")).expect("stat").nlink(), 20);
}

fn symbolic_links(dir: &Path) {
    for target in [
        "x",
        "../..",
        "/absolute/path",
        "with space\nand line",
        &"t".repeat(250),
        &"d/".repeat(511),
    ] {
        let link = dir.join("link");
        symlink(target, &link).unwrap_or_else(|e| panic!("symlink of {} bytes: {e}", target.len()));
        assert_eq!(fs::read_link(&link).expect("readlink").as_os_str(), target);
        assert_eq!(
            fs::symlink_metadata(&link).expect("lstat").len(),
            target.len() as u64
        );
        fs::remove_file(&link).expect("unlink");
    }
    touch(dir.join("file"));
    symlink("file", dir.join("good")).expect("symlink");
    assert!(fs::read(dir.join("good")).is_ok());
    symlink("loop", dir.join("loop")).expect("symlink");
    assert_eq!(errno(fs::read(dir.join("loop"))), libc::ELOOP);
    assert_eq!(errno(symlink("x", dir.join("good"))), libc::EEXIST);
    assert_eq!(errno(fs::read_link(dir.join("file"))), libc::EINVAL);
}

/// PATH_MAX less one, where the file system has room for it; where not, nothing is made.
fn longest_symbolic_link(dir: &Path) {
    let link = dir.join("link");
    // XFS_SYMLINK_MAXLEN is 1024, with the NUL; ext4 has a block, btrfs a page.
    let most = match ground().fs.as_deref() {
        Some("xfs") => Some(1023),
        Some(_) => Some(4095),
        None => None,
    };
    for len in [1023, 1024, 2000, 4095] {
        let target = "t".repeat(len);
        match symlink(&target, &link) {
            Ok(()) => {
                assert_eq!(
                    fs::read_link(&link).expect("readlink").as_os_str(),
                    &target[..]
                );
                fs::remove_file(&link).expect("unlink");
                println!("longest_symbolic_link: {len} bytes");
            }
            Err(e) => {
                assert!(
                    e.raw_os_error() == Some(libc::ENAMETOOLONG) && len > most.unwrap_or(1023),
                    "{len}: {e}"
                );
                assert_eq!(errno(fs::symlink_metadata(&link)), libc::ENOENT);
            }
        }
    }
    assert_eq!(errno(symlink("t".repeat(4096), &link)), libc::ENAMETOOLONG);
}

fn names_of_255_bytes_that_are_no_text(dir: &Path) {
    let names: BTreeSet<OsString> = (0x80..=0xffu8)
        .map(|byte| OsStr::from_bytes(&[byte; 255]).to_owned())
        .collect();
    for name in &names {
        touch(dir.join(name));
    }
    assert!(listed(dir) == names);
    for name in &names {
        fs::remove_file(dir.join(name)).expect("unlink");
    }
}

fn list_3000_names(dir: &Path) {
    let want: BTreeSet<OsString> = (0..3000)
        .map(|i| OsString::from(format!("name-{i:040}")))
        .collect();
    for name in &want {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join(name),
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .expect("mknod");
    }
    assert!(listed(dir) == want);
}

fn list_while_removing(dir: &Path) {
    for i in 0..600 {
        touch(dir.join(format!("f{i}")));
    }
    for entry in fs::read_dir(dir).expect("opendir") {
        fs::remove_file(entry.expect("readdir").path()).expect("unlink");
    }
    assert_eq!(listed(dir).len(), 0, "names were skipped");
}

/// readdir(3): a name that is there from before to after the listing is listed exactly once.
fn list_while_creating(dir: &Path) {
    for i in 0..600 {
        touch(dir.join(format!("old{i}")));
    }
    let mut seen = BTreeSet::new();
    for (n, entry) in fs::read_dir(dir).expect("opendir").enumerate() {
        let name = entry.expect("readdir").file_name();
        if n < 300 {
            touch(dir.join(format!("new{n}")));
        }
        let old = name.as_bytes().starts_with(b"old");
        assert!(seen.insert(name.clone()) || !old, "{name:?} listed twice");
    }
    assert_eq!(
        seen.iter()
            .filter(|n| n.as_bytes().starts_with(b"old"))
            .count(),
        600
    );
}

fn dot_and_dot_dot(dir: &Path) {
    fs::create_dir(dir.join("d")).expect("mkdir");
    let ino = |p: PathBuf| fs::metadata(p).expect("stat").ino();
    assert_eq!(ino(dir.join("d/.")), ino(dir.join("d")));
    assert_eq!(ino(dir.join("d/..")), ino(dir.to_owned()));
    let names =
        rustix::fs::Dir::new(fs::File::open(dir.join("d")).expect("open")).expect("fdopendir");
    let names: BTreeSet<Vec<u8>> = names
        .map(|e| e.expect("readdir").file_name().to_bytes().to_vec())
        .collect();
    assert_eq!(names, BTreeSet::from([b".".to_vec(), b"..".to_vec()]));
}
