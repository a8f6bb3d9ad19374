//! A mounted file system the server hands out handles for.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::attr::{Attr, Time};
use crate::errno::{Errno, Result};
use crate::sys::{self, KernelHandle};
use crate::uring::file_ops::statx_now;
use crate::uring::fixed::OpenFd;

/// `open_by_handle_at(2)` of a removed file says `ENOMEM`, as it does without memory, while the same inode number is
/// being given to a new file (seen on ext4, Linux 6.18; `ESTALE` follows): how often it is asked again, and the pause.
const REUSED_TRIES: u32 = 20;
const REUSED_PAUSE: Duration = Duration::from_millis(1);

/// One mounted file system, by an identity that survives remount and reboot.
pub struct Mount {
    /// Identity: from the file system's UUID, or given by `fsid=`.
    pub fsid: u64,
    /// Tells files of it from those of all others: the same file system with and without what is
    /// mounted below is two.
    pub id: u64,
    /// Open directory on it; handles are resolved against this descriptor.
    pub(crate) fd: OwnedFd,
    /// Handle of the directory `fd` is.
    pub root: KernelHandle,
    /// Device of the root, to tell btrfs subvolumes apart.
    pub(crate) dev: (u32, u32),
    /// Descend into file systems mounted below (`crossmnt`).
    pub cross: bool,
    /// The identity does not survive a remount (tmpfs without `fsid=`).
    pub volatile: bool,
    /// What [`crate::change`] calls fine timestamps.
    pub(crate) fine_ctime: bool,
    /// Preferred block size, in bytes.
    block: u32,
    /// POSIX ACLs are supported.
    pub(crate) acl: bool,
    /// See [`Mount::locks_at_once`].
    locks_at_once: bool,
    /// `RWF_NOWAIT` writes are worth a try.
    pub(crate) nowait_write: AtomicBool,
    /// Other directories of the same file system that are exported, each open as its own mount: the
    /// way up from a directory leads only as far as the mount it was opened through.
    views: Mutex<Vec<(KernelHandle, OwnedFd)>>,
}

/// Space and inodes of a file system, in bytes and files (RFC 1813 3.3.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 1813 3.3.18 FSSTAT3resok words")]
pub struct StatFs {
    pub total: u64,
    pub free: u64,
    pub avail: u64,
    pub files_total: u64,
    pub files_free: u64,
    pub files_avail: u64,
}

/// Static properties of a file system (RFC 1813 3.3.19, 3.3.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 1813 3.3.20 PATHCONF3resok words")]
pub struct Limits {
    pub link_max: u32,
    pub name_max: u32,
    pub no_trunc: bool,
    pub chown_restricted: bool,
    pub case_insensitive: bool,
    pub case_preserving: bool,
    pub max_file_size: u64,
    pub time_delta: Time,
    /// What ranges of a CLONE must be aligned to, in bytes (RFC 7862 12.2.1 `clone_blksize`).
    pub clone_blksize: u32,
}

/// Folds a 128-bit identity (a UUID) into the 64 bits of NFSv3's fsid.
pub fn fold(id: [u8; 16]) -> u64 {
    let (a, b) = id.split_at(8);
    let half = |h: &[u8]| h.iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
    half(a) ^ half(b).rotate_left(17)
}

/// [`Mount::id`].
pub(crate) const fn identity(fsid: u64, cross: bool) -> u64 {
    if cross {
        fsid.rotate_left(32) ^ 1
    } else {
        fsid
    }
}

impl Mount {
    /// Opens the directory `path` for export. With `cross`, what is mounted below it is visible;
    /// without, what the mounts hide is. `fsid` overrides the file system's own identity.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has no file handles (some overlayfs, FUSE), and those of
    /// `open(2)`.
    pub fn open(path: &Path, cross: bool, fsid: Option<u64>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        if cross {
            return Self::from_fd(plain, true, fsid);
        }
        // A detached copy of this one mount: nothing mounted below is part of it.
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let fd = match open_tree(&plain, c"", clone) {
            Ok(tree) => rustix::fs::openat(&tree, c".", flags, Mode::empty())?,
            Err(e) => {
                tracing::debug!(error = %e, "open_tree: submounts are refused instead of hidden");
                plain
            }
        };
        Self::from_fd(fd, false, fsid)
    }

    pub(crate) fn from_fd(fd: OwnedFd, cross: bool, fsid: Option<u64>) -> Result<Self> {
        let root = sys::name_to_handle(fd.as_fd(), c"")?;
        // The handle must also lead back: some file systems make handles they cannot open.
        let path = sys::open_by_handle(fd.as_fd(), &root, libc::O_PATH | libc::O_NOFOLLOW)?;
        let attr = statx_now(&OpenFd::new(path))?;
        let identity = sys::fs_identity(fd.as_fd());
        let fallback = u64::from(attr.dev.0) << 32 | u64::from(attr.dev.1);
        let acl = match rustix::fs::fgetxattr(&fd, c"system.posix_acl_access", &mut [0u8; 0]) {
            Err(rustix::io::Errno::OPNOTSUPP) => false,
            Ok(_) | Err(_) => true,
        };
        let stat = rustix::fs::fstatfs(&fd)?;
        let locks_at_once = sys::LOCKS_AT_ONCE.contains(&stat.f_type);
        // ext4 has no buffered writes without waiting, and FUSE waits all the same (as of Linux 6.18).
        let nowait_write = stat.f_type != sys::EXT_MAGIC && locks_at_once;
        let known = identity.is_some() || fsid.is_some();
        let fsid = fsid.or(identity.map(fold)).unwrap_or(fallback);
        Ok(Mount {
            fsid,
            id: self::identity(fsid, cross),
            root,
            dev: attr.dev,
            cross,
            volatile: !known,
            fine_ctime: crate::change::fine_ctime(stat.f_type),
            block: u32::try_from(stat.f_bsize).unwrap_or(0),
            acl,
            locks_at_once,
            nowait_write: AtomicBool::new(nowait_write),
            views: Mutex::default(),
            fd,
        })
    }

    /// Opens the mount point `dir` (an `O_PATH` descriptor that already crossed into it).
    pub(crate) fn below(dir: &OpenFd) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
        Self::from_fd(fd, true, None)
    }

    /// The NFS fsid of a file on this mount: btrfs subvolumes count their inodes separately.
    pub fn fsid_of(&self, attr: &Attr) -> u64 {
        if attr.dev == self.dev {
            return self.fsid;
        }
        let dev = u64::from(attr.dev.0) << 32 | u64::from(attr.dev.1);
        self.fsid ^ dev.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Whether its files can have POSIX ACLs: not where the file system has none or is mounted `noacl`.
    pub fn acls(&self) -> bool {
        self.acl
    }

    /// Locks of its files are the kernel's own: fcntl(2) sets one at once, without asking another host
    /// or a process. Neither does any other call on its files.
    pub fn locks_at_once(&self) -> bool {
        self.locks_at_once
    }

    /// Before the first call on a descriptor of the file system, or of one mounted on it.
    pub(crate) fn mark(&self, file: &OpenFd) {
        if !self.locks_at_once {
            file.set_waits();
        }
    }

    fn views(&self) -> MutexGuard<'_, Vec<(KernelHandle, OwnedFd)>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over another export of the same file system; one of the same directory is replaced.
    pub(crate) fn add_view(&self, other: Mount) {
        let mut views = self.views();
        views.retain(|(root, _)| *root != other.root && *root != self.root);
        if other.root != self.root {
            views.push((other.root, other.fd));
        }
    }

    /// The handle of the parent of the directory that `handle` names, through any view that leads
    /// there. One that begins at that very directory leads no further up: where there are no others
    /// it is its own parent.
    ///
    /// # Errors
    /// `ENOENT` when none does.
    pub(crate) fn parent_of(&self, handle: &KernelHandle) -> Result<KernelHandle> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = |mount: &OwnedFd| {
            let dir = sys::open_by_handle(mount.as_fd(), handle, libc::O_PATH)?;
            let parent = rustix::fs::openat(&dir, c"..", flags, Mode::empty())?;
            sys::name_to_handle(parent.as_fd(), c"")
        };
        let views = self.views();
        let views = views.iter().map(|(root, fd)| (root, fd));
        let (begins, above): (Vec<_>, Vec<_>) = std::iter::once((&self.root, &self.fd))
            .chain(views)
            .partition(|(root, _)| *root == handle);
        let parent = above.into_iter().find_map(|(_, fd)| up(fd).ok());
        let own = begins.first().map(|_| handle.clone());
        parent.or(own).ok_or(Errno::ENOENT)
    }

    /// What a handle leads to, without looking into it. May wait: for the pool.
    pub(crate) fn open_path(&self, handle: &KernelHandle) -> Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let open = || sys::open_by_handle(self.fd.as_fd(), handle, flags);
        let mut opened = open();
        for _ in 0..REUSED_TRIES {
            if opened.as_ref().err() != Some(&Errno::ENOMEM) {
                break;
            }
            std::thread::sleep(REUSED_PAUSE);
            opened = open();
        }
        opened.map_err(|e| match e {
            // What the kernel says of a handle it cannot make sense of, or of a removed file.
            Errno::EINVAL | Errno::ENOENT => Errno::ESTALE,
            other => other,
        })
    }

    /// Space and inodes, for callers without reserved blocks.
    ///
    /// # Errors
    /// `fstatfs(2)`.
    pub(crate) fn statfs(&self) -> Result<StatFs> {
        let s = rustix::fs::fstatvfs(&self.fd)?;
        let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
        Ok(StatFs {
            total: bytes(s.f_blocks),
            free: bytes(s.f_bfree),
            avail: bytes(s.f_bavail),
            files_total: s.f_files,
            files_free: s.f_ffree,
            files_avail: s.f_favail,
        })
    }

    /// A descriptor on the file system.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What NFSv3's FSINFO and PATHCONF report.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            clone_blksize: self.block,
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    /// What the file systems that are served have in common.
    fn default() -> Self {
        Limits {
            link_max: 65_000,
            name_max: crate::name::NAME_MAX as u32,
            no_trunc: true,
            chown_restricted: true,
            case_insensitive: false,
            case_preserving: true,
            max_file_size: i64::MAX as u64,
            time_delta: Time { sec: 0, nsec: 1 },
            clone_blksize: 0,
        }
    }
}

/// Mount points at or below `path`, from `/proc/self/mountinfo`, deepest last.
///
/// # Errors
/// The file cannot be read.
pub fn mounts_below(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<_> = text
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(|field| std::path::PathBuf::from(unescape(field)))
        .filter(|point| point.starts_with(path) && point != path)
        .collect();
    found.sort();
    Ok(found)
}

/// mountinfo writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(field: &[u8]) -> std::ffi::OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        let octal = (b == b'\\').then(|| tail.get(..3)).flatten().and_then(|d| {
            let text = std::str::from_utf8(d).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(b);
                rest = tail;
            }
        }
    }
    std::os::unix::ffi::OsStringExt::from_vec(out)
}

/// A C string for an operation; the bytes come from the wire.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// Flags for system calls on a held descriptor itself.
pub(crate) const SELF: AtFlags = AtFlags::EMPTY_PATH;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_of_mountinfo() {
        assert_eq!(unescape(b"/a\\040b\\134"), "/a b\\");
        assert_eq!(unescape(b"/x\\9"), "/x\\9");
        assert_eq!(unescape(b"/end\\04"), "/end\\04");
    }
}
