//! Attributes and permissions. Needs root: some checks act as other users.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{
    FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink,
};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Gid, Uid};

use crate::{Check, errno};

pub const CHECKS: &[Check] = &[
    ("modes", modes),
    ("owners", owners),
    ("writing_clears_setuid", writing_clears_setuid),
    ("times_to_the_nanosecond", times_to_the_nanosecond),
    ("times_move", times_move),
    ("special_files", special_files),
    ("size_and_blocks", size_and_blocks),
    (
        "new_files_belong_to_the_caller",
        new_files_belong_to_the_caller,
    ),
    ("permission_denied", permission_denied),
    ("groups_count", groups_count),
    ("owner_keeps_an_open_file", owner_keeps_an_open_file),
    ("sticky_directory", sticky_directory),
    ("setgid_directory", setgid_directory),
    ("only_the_owner_changes", only_the_owner_changes),
    ("statfs", statfs),
];

const USER: u32 = 2001;
const OTHER: u32 = 2002;

/// Runs `f` in a thread with the given ids; they are the thread's alone (setresuid(2), NOTES).
fn acting<T: Send>(uid: u32, gid: u32, groups: &[u32], f: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let body = move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&groups).expect("setgroups");
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
        f()
    };
    match thread::scope(|s| s.spawn(body).join()) {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("lstat").mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn modes(dir: &Path) {
    let (f, d) = (dir.join("f"), dir.join("d"));
    fs::write(&f, "").expect("write");
    fs::create_dir(&d).expect("mkdir");
    for want in [
        0, 0o777, 0o644, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, 0o400,
    ] {
        chmod(&f, want).expect("chmod");
        assert_eq!(mode(&f), want);
        chmod(&d, want).expect("chmod");
        assert_eq!(mode(&d), want);
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o617)
        .open(dir.join("g"))
        .expect("open");
    assert_eq!(mode(&dir.join("g")), 0o617);
}

fn owners(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "").expect("write");
    let ids = |p: &Path| {
        fs::symlink_metadata(p)
            .map(|m| (m.uid(), m.gid()))
            .expect("lstat")
    };
    for (uid, gid) in [
        (1, 2),
        (65_534, 65_534),
        (100_000, 200_000),
        (4_000_000_000, 3_000_000_000),
        (0, 0),
    ] {
        chown(&f, Some(uid), Some(gid)).expect("chown");
        assert_eq!(ids(&f), (uid, gid));
    }
    chown(&f, None, Some(77)).expect("chown");
    chown(&f, Some(78), None).expect("chown");
    assert_eq!(ids(&f), (78, 77));
    symlink("f", dir.join("l")).expect("symlink");
    lchown(dir.join("l"), Some(5), Some(6)).expect("lchown");
    assert_eq!((ids(&dir.join("l")), ids(&f)), ((5, 6), (78, 77)));
}

fn writing_clears_setuid(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "x").expect("write");
    chown(&f, Some(USER), Some(USER)).expect("chown");
    chmod(&f, 0o6777).expect("chmod");
    acting(OTHER, OTHER, &[], || {
        OpenOptions::new()
            .append(true)
            .open(&f)
            .and_then(|mut h| h.write_all(b"y"))
            .expect("write");
    });
    File::open(&f).and_then(|h| h.sync_all()).expect("fsync");
    assert_eq!(mode(&f), 0o777);
    chmod(&f, 0o6777).expect("chmod");
    acting(USER, USER, &[], || {
        chown(&f, None, Some(USER)).expect("chown")
    });
    assert_eq!(mode(&f), 0o777, "chown(2) clears the bits");
}

fn times_to_the_nanosecond(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "x").expect("write");
    for (secs, nanos) in [
        (1, 1),
        (1_000_000_000, 123_456_789),
        (2_000_000_000, 999_999_999),
    ] {
        let t = UNIX_EPOCH + Duration::new(secs, nanos);
        let h = OpenOptions::new().write(true).open(&f).expect("open");
        h.set_times(
            fs::FileTimes::new()
                .set_modified(t)
                .set_accessed(t + Duration::from_secs(5)),
        )
        .expect("utimens");
        drop(h);
        let m = fs::metadata(&f).expect("stat");
        assert_eq!(m.modified().expect("mtime"), t);
        assert_eq!(m.accessed().expect("atime"), t + Duration::from_secs(5));
    }
}

fn times_move(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "x").expect("write");
    let long_ago = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000));
    let stat = |p: &Path| fs::metadata(p).expect("stat");
    File::options()
        .write(true)
        .open(&f)
        .and_then(|h| h.set_times(long_ago))
        .expect("utimens");
    let before = stat(&f);
    thread::sleep(Duration::from_millis(20));
    chmod(&f, 0o600).expect("chmod");
    let after = stat(&f);
    assert_eq!(after.mtime(), before.mtime(), "chmod leaves mtime");
    assert!(
        (after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()),
        "chmod moves ctime"
    );
    File::options()
        .append(true)
        .open(&f)
        .and_then(|mut h| h.write_all(b"y"))
        .expect("write");
    let age = SystemTime::now()
        .duration_since(stat(&f).modified().expect("mtime"))
        .unwrap_or_else(|e| e.duration());
    assert!(age.as_secs() < 3600, "a write moves mtime");
    let parent = stat(dir);
    thread::sleep(Duration::from_millis(20));
    fs::remove_file(&f).expect("unlink");
    let now = stat(dir);
    assert!(
        (now.mtime(), now.mtime_nsec()) > (parent.mtime(), parent.mtime_nsec()),
        "unlink moves the directory"
    );
}

fn special_files(dir: &Path) {
    let node =
        |name: &str, kind, dev| mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), dev);
    node("fifo", FileType::Fifo, 0).expect("fifo");
    node("socket", FileType::Socket, 0).expect("socket");
    node("null", FileType::CharacterDevice, libc::makedev(1, 3)).expect("char");
    node("block", FileType::BlockDevice, libc::makedev(259, 70_000)).expect("block");
    let meta = |name: &str| fs::symlink_metadata(dir.join(name)).expect("lstat");
    assert!(meta("fifo").file_type().is_fifo() && meta("socket").file_type().is_socket());
    assert!(
        meta("null").file_type().is_char_device() && meta("block").file_type().is_block_device()
    );
    assert_eq!(
        (meta("null").rdev(), meta("block").rdev()),
        (libc::makedev(1, 3), libc::makedev(259, 70_000))
    );
    assert!(
        ["fifo", "socket", "null", "block"]
            .iter()
            .all(|n| meta(n).mode() & 0o7777 == 0o640)
    );
    // The fifo is the client's: both ends here.
    let path = dir.join("fifo");
    thread::scope(|s| {
        s.spawn(|| fs::write(&path, "through").expect("write"));
        assert_eq!(fs::read(&path).expect("read"), b"through");
    });
    let user = acting(USER, USER, &[], || {
        mknodat(
            CWD,
            dir.join("u"),
            FileType::CharacterDevice,
            Mode::RWXU,
            libc::makedev(1, 3),
        )
    });
    assert!(user.is_err(), "only root makes devices");
}

fn size_and_blocks(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, vec![1; 100_000]).expect("write");
    File::open(&f).and_then(|h| h.sync_all()).expect("fsync");
    let m = fs::metadata(&f).expect("stat");
    assert!(
        (196..=512).contains(&m.blocks()),
        "{} blocks for 100000 bytes",
        m.blocks()
    );
    assert!(m.is_file() && m.nlink() == 1 && m.blksize() >= 512);
}

fn new_files_belong_to_the_caller(dir: &Path) {
    chmod(dir, 0o777).expect("chmod");
    acting(USER, OTHER, &[], || {
        fs::write(dir.join("f"), "").expect("write");
        fs::create_dir(dir.join("d")).expect("mkdir");
        symlink("x", dir.join("l")).expect("symlink");
        mknodat(CWD, dir.join("p"), FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    });
    for name in ["f", "d", "l", "p"] {
        let m = fs::symlink_metadata(dir.join(name)).expect("lstat");
        assert_eq!((m.uid(), m.gid()), (USER, OTHER), "{name}");
    }
}

fn permission_denied(dir: &Path) {
    let (f, d) = (dir.join("f"), dir.join("d"));
    fs::write(&f, "secret").expect("write");
    fs::create_dir(&d).expect("mkdir");
    fs::write(d.join("x"), "").expect("write");
    chmod(&f, 0o600).expect("chmod");
    chmod(&d, 0o700).expect("chmod");
    acting(USER, USER, &[], || {
        assert_eq!(errno(fs::read(&f)), libc::EACCES);
        assert_eq!(
            errno(OpenOptions::new().append(true).open(&f)),
            libc::EACCES
        );
        assert_eq!(errno(fs::read_dir(&d)), libc::EACCES);
        assert_eq!(errno(fs::metadata(d.join("x"))), libc::EACCES);
        assert_eq!(errno(fs::write(d.join("y"), "")), libc::EACCES);
        assert_eq!(errno(fs::remove_file(d.join("x"))), libc::EACCES);
        assert_eq!(errno(fs::rename(d.join("x"), d.join("y"))), libc::EACCES);
    });
    chmod(&f, 0o604).expect("chmod");
    chmod(&d, 0o701).expect("chmod");
    acting(USER, USER, &[], || {
        assert_eq!(fs::read(&f).expect("read"), b"secret");
        assert!(fs::metadata(d.join("x")).is_ok());
        assert_eq!(errno(fs::read_dir(&d)), libc::EACCES);
    });
}

fn groups_count(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "for the group").expect("write");
    chown(&f, Some(0), Some(4_242)).expect("chown");
    chmod(&f, 0o040).expect("chmod");
    // AUTH_SYS carries 16 groups besides the gid (RFC 5531, appendix A).
    let sixteen: Vec<u32> = (4_227..4_243).collect();
    assert!(
        acting(USER, USER, &sixteen, || fs::read(&f)).is_ok(),
        "the sixteenth group counts"
    );
    assert!(acting(USER, 4_242, &[], || fs::read(&f)).is_ok());
    assert_eq!(
        errno(acting(USER, USER, &sixteen[..15], || fs::read(&f))),
        libc::EACCES
    );
}

/// A server without opens must let the owner go on with a file that was opened before its mode changed.
fn owner_keeps_an_open_file(dir: &Path) {
    chmod(dir, 0o777).expect("chmod");
    let f = dir.join("f");
    acting(USER, USER, &[], || {
        let mut h = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&f)
            .expect("open");
        h.write_all(b"written through a read-only mode")
            .expect("write");
        h.sync_all().expect("fsync");
        chmod(&f, 0).expect("chmod");
        h.write_all(b", and none").expect("write");
        h.sync_all().expect("fsync");
    });
    assert_eq!(fs::metadata(&f).expect("stat").len(), 42);
}

fn sticky_directory(dir: &Path) {
    chmod(dir, 0o1777).expect("chmod");
    acting(USER, USER, &[], || {
        fs::write(dir.join("f"), "").expect("write")
    });
    acting(OTHER, OTHER, &[], || {
        assert!(matches!(
            errno(fs::remove_file(dir.join("f"))),
            libc::EPERM | libc::EACCES
        ));
        assert!(matches!(
            errno(fs::rename(dir.join("f"), dir.join("g"))),
            libc::EPERM | libc::EACCES
        ));
    });
    acting(USER, USER, &[], || {
        fs::remove_file(dir.join("f")).expect("the owner may")
    });
}

fn setgid_directory(dir: &Path) {
    let d = dir.join("d");
    fs::create_dir(&d).expect("mkdir");
    chown(&d, Some(0), Some(OTHER)).expect("chown");
    chmod(&d, 0o2777).expect("chmod");
    acting(USER, USER, &[], || {
        fs::write(d.join("f"), "").expect("write");
        fs::create_dir(d.join("sub")).expect("mkdir");
    });
    assert_eq!(fs::metadata(d.join("f")).expect("stat").gid(), OTHER);
    let sub = fs::metadata(d.join("sub")).expect("stat");
    assert_eq!((sub.gid(), sub.mode() & 0o2000), (OTHER, 0o2000));
}

fn only_the_owner_changes(dir: &Path) {
    let f = dir.join("f");
    fs::write(&f, "").expect("write");
    chmod(&f, 0o666).expect("chmod");
    acting(USER, USER, &[], || {
        assert_eq!(errno(chmod(&f, 0o600)), libc::EPERM);
        assert_eq!(errno(chown(&f, Some(USER), None)), libc::EPERM);
        let h = OpenOptions::new().write(true).open(&f).expect("open");
        let t = fs::FileTimes::new().set_modified(UNIX_EPOCH);
        assert_eq!(errno(h.set_times(t)), libc::EPERM);
    });
    chown(&f, Some(USER), Some(USER)).expect("chown");
    acting(USER, USER, &[OTHER], || {
        chmod(&f, 0o640).expect("the owner may");
        chown(&f, None, Some(OTHER)).expect("to a group of one's own");
        assert_eq!(errno(chown(&f, None, Some(4_242))), libc::EPERM);
        assert_eq!(errno(chown(&f, Some(OTHER), None)), libc::EPERM);
    });
}

fn statfs(dir: &Path) {
    let s = rustix::fs::statvfs(dir).expect("statvfs");
    assert!(
        s.f_blocks > 0 && s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree && s.f_namemax == 255
    );
}
