//! Extended attributes of users (RFC 8276).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use crate::{Check, Random};

pub const CHECKS: &[Check] = &[
    ("xattr_set_get_list_remove", xattr_set_get_list_remove),
    ("xattr_create_and_replace", xattr_create_and_replace),
    ("xattr_sizes", xattr_sizes),
    ("xattr_names", xattr_names),
    ("xattr_many", xattr_many),
    (
        "xattr_of_directories_and_links",
        xattr_of_directories_and_links,
    ),
    ("xattr_follows_the_file", xattr_follows_the_file),
    ("xattr_moves_ctime", xattr_moves_ctime),
];

/// The largest value Linux knows (XATTR_SIZE_MAX, xattr(7)).
const SIZE_MAX: usize = 65_536;

fn value(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut room = vec![0; SIZE_MAX];
    let len = getxattr(path, name, &mut room[..])?;
    room.truncate(len);
    Ok(room)
}

/// The names below `user.`; others are the file system's own business.
fn names(path: &Path) -> BTreeSet<String> {
    let mut room = vec![0; SIZE_MAX];
    let len = listxattr(path, &mut room[..]).expect("listxattr");
    let all = String::from_utf8(room[..len].to_vec()).expect("names");
    all.split_terminator('\0')
        .filter(|n| n.starts_with("user."))
        .map(str::to_owned)
        .collect()
}

fn put(path: &Path, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    setxattr(path, name, bytes, XattrFlags::empty())
}

fn xattr_set_get_list_remove(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "data").expect("write");
    assert_eq!(names(&path), BTreeSet::new());
    assert_eq!(value(&path, "user.none"), Err(Errno::NODATA));
    put(&path, "user.one", b"first").expect("set");
    put(&path, "user.two", b"\0binary\xff").expect("set");
    assert_eq!(value(&path, "user.one").as_deref(), Ok(&b"first"[..]));
    assert_eq!(
        value(&path, "user.two").as_deref(),
        Ok(&b"\0binary\xff"[..])
    );
    assert_eq!(
        names(&path),
        ["user.one", "user.two"].map(String::from).into()
    );
    put(&path, "user.one", b"").expect("set");
    assert_eq!(value(&path, "user.one").as_deref(), Ok(&b""[..]));
    removexattr(&path, "user.one").expect("remove");
    assert_eq!(removexattr(&path, "user.one"), Err(Errno::NODATA));
    assert_eq!(value(&path, "user.one"), Err(Errno::NODATA));
    assert_eq!(names(&path), ["user.two".to_owned()].into());
    assert_eq!(fs::read(&path).expect("read"), b"data");
    let mut small = [0; 3];
    assert_eq!(getxattr(&path, "user.two", &mut small), Err(Errno::RANGE));
}

fn xattr_create_and_replace(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    let set = |flags, bytes: &[u8]| setxattr(&path, "user.x", bytes, flags);
    assert_eq!(set(XattrFlags::REPLACE, b"a"), Err(Errno::NODATA));
    assert_eq!(set(XattrFlags::CREATE, b"b"), Ok(()));
    assert_eq!(set(XattrFlags::CREATE, b"c"), Err(Errno::EXIST));
    assert_eq!(set(XattrFlags::REPLACE, b"d"), Ok(()));
    assert_eq!(value(&path, "user.x").as_deref(), Ok(&b"d"[..]));
}

/// 0 to 64 KiB. What a file system has no room for is refused (NOSPC, E2BIG), and then the old value is still there.
fn xattr_sizes(dir: &Path) {
    let mut random = Random::new(21);
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    let mut kept = Vec::new();
    let mut largest = 0;
    for size in [
        0, 1, 3, 4, 100, 1000, 2000, 3500, 4096, 8192, 16_000, 32_768, 65_535, SIZE_MAX,
    ] {
        let bytes = random.bytes(size);
        match put(&path, "user.v", &bytes) {
            Ok(()) => {
                largest = size;
                kept = bytes;
            }
            Err(Errno::NOSPC | Errno::TOOBIG) => assert!(size > 2000, "{size} bytes are refused"),
            Err(e) => panic!("{size} bytes: {e}"),
        }
        assert!(value(&path, "user.v").expect("get") == kept, "{size} bytes");
    }
    println!("xattr_sizes: largest {largest}");
    assert_eq!(
        put(&path, "user.v", &vec![0; SIZE_MAX + 1]),
        Err(Errno::TOOBIG)
    );
}

fn xattr_names(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    let longest = format!("user.{}", "n".repeat(250));
    for name in [
        longest.as_str(),
        "user. ",
        "user.grüße",
        "user.a.b/c",
        "user.x",
        "user.X",
    ] {
        put(&path, name, name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(names(&path).len(), 6);
    for name in names(&path) {
        assert_eq!(value(&path, &name).as_deref(), Ok(name.as_bytes()));
        removexattr(&path, &name[..]).expect("remove");
    }
    assert_eq!(put(&path, &format!("{longest}n"), b""), Err(Errno::RANGE));
}

/// As many as fit: a listing in several replies loses none.
fn xattr_many(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    let mut want = BTreeSet::new();
    for n in 0..300 {
        let name = format!("user.attribute-number-{n}");
        match put(&path, &name, b"v") {
            Ok(()) => want.insert(name),
            Err(Errno::NOSPC) if n > 20 => break,
            Err(e) => panic!("attribute {n}: {e}"),
        };
    }
    println!("xattr_many: {}", want.len());
    assert_eq!(names(&path), want);
}

fn xattr_of_directories_and_links(dir: &Path) {
    let sub = dir.join("d");
    fs::create_dir(&sub).expect("mkdir");
    put(&sub, "user.x", b"of a directory").expect("set");
    assert_eq!(value(&sub, "user.x").as_deref(), Ok(&b"of a directory"[..]));
    symlink("d", dir.join("l")).expect("symlink");
    assert_eq!(
        value(&dir.join("l"), "user.x").as_deref(),
        Ok(&b"of a directory"[..])
    );
    // xattr(7): user attributes are for files and directories alone.
    let on_link = rustix::fs::lsetxattr(dir.join("l"), "user.x", b"v", XattrFlags::empty());
    assert_eq!(on_link, Err(Errno::PERM));
}

fn xattr_follows_the_file(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    put(&path, "user.x", b"v").expect("set");
    fs::rename(&path, dir.join("g")).expect("rename");
    fs::hard_link(dir.join("g"), dir.join("h")).expect("link");
    assert_eq!(value(&dir.join("h"), "user.x").as_deref(), Ok(&b"v"[..]));
    fs::write(&path, "").expect("write");
    assert_eq!(names(&path), BTreeSet::new());
}

fn xattr_moves_ctime(dir: &Path) {
    use std::os::unix::fs::MetadataExt;
    let path = dir.join("f");
    fs::write(&path, "").expect("write");
    let times = || {
        let m = fs::metadata(&path).expect("stat");
        ((m.ctime(), m.ctime_nsec()), (m.mtime(), m.mtime_nsec()))
    };
    let before = times();
    std::thread::sleep(std::time::Duration::from_millis(30));
    put(&path, "user.x", b"v").expect("set");
    let after = times();
    assert!(
        after.0 > before.0 && after.1 == before.1,
        "{before:?} {after:?}"
    );
}
