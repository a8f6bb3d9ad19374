//! File attributes as `statx(2)` gives them, and the changes SETATTR asks for.

use rustix::fs::Statx;

/// A point in time: seconds since the epoch and nanoseconds (0..1_000_000_000).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub sec: i64,
    /// Nanoseconds within the second.
    pub nsec: u32,
}

/// The type of a file (`inode(7)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "inode(7) words")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    Block,
    Char,
    Fifo,
    Socket,
}

impl FileKind {
    /// From the `S_IFMT` bits of a mode; an unknown type counts as a regular file.
    pub fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFBLK => Self::Block,
            libc::S_IFCHR => Self::Char,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => Self::Regular,
        }
    }
}

/// Attributes of one file at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// File type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky (0..=0o7777).
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of disk space used.
    pub used: u64,
    /// Device major and minor for block and character special files.
    pub rdev: (u32, u32),
    /// Device the file lives on (not persistent; only to notice mount points).
    pub dev: (u32, u32),
    /// Inode number.
    pub fileid: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last data modification.
    pub mtime: Time,
    /// Last attribute change.
    pub ctime: Time,
    /// Birth, where the file system records it.
    pub btime: Option<Time>,
    /// The file is the root of a mount (`STATX_ATTR_MOUNT_ROOT`).
    pub mount_root: bool,
    /// Moves whenever the file does, and never back: NFSv4's change attribute (see `change.rs`).
    pub change: u64,
}

fn time(t: rustix::fs::StatxTimestamp) -> Time {
    Time {
        sec: t.tv_sec,
        nsec: t.tv_nsec,
    }
}

impl From<&Statx> for Attr {
    fn from(s: &Statx) -> Self {
        let mode = u32::from(s.stx_mode);
        let has = |bit: rustix::fs::StatxFlags| s.stx_mask & bit.bits() != 0;
        Attr {
            kind: FileKind::from_mode(mode),
            mode: mode & 0o7777,
            nlink: s.stx_nlink,
            uid: s.stx_uid,
            gid: s.stx_gid,
            size: s.stx_size,
            used: s.stx_blocks.saturating_mul(512),
            rdev: (s.stx_rdev_major, s.stx_rdev_minor),
            dev: (s.stx_dev_major, s.stx_dev_minor),
            fileid: s.stx_ino,
            blksize: s.stx_blksize,
            atime: time(s.stx_atime),
            mtime: time(s.stx_mtime),
            ctime: time(s.stx_ctime),
            btime: has(rustix::fs::StatxFlags::BTIME).then(|| time(s.stx_btime)),
            mount_root: s
                .stx_attributes
                .contains(rustix::fs::StatxAttributes::MOUNT_ROOT),
            change: crate::change::nanos(time(s.stx_ctime)),
        }
    }
}

/// What to do with one timestamp (RFC 1813 2.6 `set_atime`, `set_mtime`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SetTime {
    /// Leave it.
    #[default]
    Keep,
    /// Set it to the server's time.
    Now,
    /// Set it to this time.
    At(Time),
}

/// Attributes to change; `None` and `Keep` leave a field alone (RFC 1813 2.6 `sattr3`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// Permission bits (0..=0o7777).
    pub mode: Option<u32>,
    /// Permission bits (0..=0o777) of `mode` that something new gets only where its directory has a default ACL
    /// (`umask(2)`, RFC 8275). What is there already has nothing to do with it.
    pub umask: u32,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

impl SetAttr {
    /// Nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == SetAttr::default()
    }
}
