//! System calls that have no safe wrapper elsewhere: file handles, per-thread credentials,
//! file system identity. Thin and synchronous; who may call what where is the callers' business.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use arrayvec::ArrayVec;

use crate::cred::Cred;
use crate::errno::{Errno, Result};

/// Most bytes of a kernel file handle (`name_to_handle_at(2)` `MAX_HANDLE_SZ`).
pub const HANDLE_MAX: usize = 128;

/// A kernel file handle: its type and its opaque bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KernelHandle {
    /// The file system's handle type.
    pub kind: i32,
    /// Opaque bytes.
    pub bytes: ArrayVec<u8, HANDLE_MAX>,
}

#[repr(C)]
struct RawHandle {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; HANDLE_MAX],
}

fn check(res: libc::c_long) -> Result<libc::c_long> {
    if res < 0 {
        Err(std::io::Error::last_os_error().into())
    } else {
        Ok(res)
    }
}

/// The handle of the file `name` in `dir`, or of `dir` itself when `name` is empty. Symbolic links
/// are not followed.
///
/// # Errors
/// `name_to_handle_at(2)`: `EOPNOTSUPP` where the file system has no handles.
pub fn name_to_handle(dir: BorrowedFd<'_>, name: &CStr) -> Result<KernelHandle> {
    let mut raw = RawHandle {
        handle_bytes: HANDLE_MAX as u32,
        handle_type: 0,
        f_handle: [0; HANDLE_MAX],
    };
    let mut mount_id = 0;
    let flags = if name.is_empty() {
        libc::AT_EMPTY_PATH
    } else {
        0
    };
    // SAFETY: `raw` has room for the handle_bytes it announces; name is NUL terminated; both and
    // `mount_id` outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            flags,
        )
    })?;
    let used = (raw.handle_bytes as usize).min(HANDLE_MAX);
    let bytes = raw.f_handle[..used].iter().copied().collect();
    Ok(KernelHandle {
        kind: raw.handle_type,
        bytes,
    })
}

/// Opens a file by handle. Needs `CAP_DAC_READ_SEARCH`.
///
/// # Errors
/// `open_by_handle_at(2)`: `ESTALE` for a handle that names no file any more.
pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &KernelHandle, flags: i32) -> Result<OwnedFd> {
    let mut raw = RawHandle {
        handle_bytes: handle.bytes.len() as u32,
        handle_type: handle.kind,
        f_handle: [0; HANDLE_MAX],
    };
    raw.f_handle[..handle.bytes.len()].copy_from_slice(&handle.bytes);
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: `raw` is a complete file_handle that outlives the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut raw,
            flags,
        )
    })?;
    // SAFETY: a descriptor the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const CAP_VERSION: u32 = 0x2008_0522;

fn get_caps() -> Result<[CapData; 2]> {
    let mut header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: header and two data elements, as version 3 wants.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

/// Makes every permitted capability effective, or none.
fn set_effective(all: bool) -> Result<()> {
    let mut header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let mut data = get_caps()?;
    for word in &mut data {
        word.effective = if all { word.permitted } else { 0 };
    }
    // SAFETY: as in get_caps; affects this thread only.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// Sets this thread's (not the process's: the raw calls) file system identity.
fn set_thread_cred(cred: &Cred) -> Result<()> {
    set_effective(true)?;
    let groups = cred.groups();
    // SAFETY: plain numbers, and an array of groups.len() gids; raw calls change this thread only.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        libc::syscall(libc::SYS_setfsgid, cred.gid());
        libc::syscall(libc::SYS_setfsuid, cred.uid());
        // setfsuid(2) and setfsgid(2) report no error, and ignore -1: ask what they are now.
        let uid = libc::syscall(libc::SYS_setfsuid, u32::MAX);
        let gid = libc::syscall(libc::SYS_setfsgid, u32::MAX);
        if (uid as u32, gid as u32) != (cred.uid(), cred.gid())
            || cred.uid() == u32::MAX
            || cred.gid() == u32::MAX
        {
            return Err(Errno::EPERM);
        }
    }
    if !cred.is_root() {
        set_effective(false)?;
    }
    Ok(())
}

/// This thread acting as somebody else until it is dropped.
pub(crate) struct Identity(());

impl Identity {
    pub(crate) fn assume(cred: &Cred) -> Result<Self> {
        let guard = Identity(());
        set_thread_cred(cred)?;
        Ok(guard)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if let Err(e) = set_thread_cred(&Cred::root()) {
            // Going on under a client's identity would be wrong in every later request.
            tracing::error!(error = %e, "cannot return to the server's identity");
            std::process::abort();
        }
    }
}

/// The identity a pool thread has now.
#[derive(Default)]
pub(crate) struct ThreadIdentity(Option<Cred>);

impl ThreadIdentity {
    pub(crate) fn become_cred(&mut self, cred: &Cred) -> Result<()> {
        if self.0.as_ref() == Some(cred) {
            return Ok(());
        }
        self.0 = None;
        set_thread_cred(cred)
            .inspect_err(|e| tracing::error!(error = %e, "cannot switch identity"))?;
        self.0 = Some(cred.clone());
        Ok(())
    }
}

/// With capabilities from file attributes or ambient sets but another uid, becomes uid 0 and gid 0,
/// so that switching to a caller and back is one rule. Call before any thread starts.
///
/// # Errors
/// `EPERM` without `CAP_SETUID` and `CAP_SETGID`.
pub fn become_superuser() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // SAFETY: plain numbers; glibc applies them to every thread.
    unsafe {
        check(i64::from(libc::setresgid(0, 0, 0)))?;
        check(i64::from(libc::setresuid(0, 0, 0)))?;
    }
    Ok(())
}

/// `statfs(2)` type of ext2, ext3 and ext4.
pub(crate) const EXT_MAGIC: i64 = 0xEF53;

const XFS_MAGIC: i64 = 0x5846_5342;
const BTRFS_MAGIC: i64 = 0x9123_683E;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// File systems with multigrain timestamps (`FS_MGTIME`, Linux 6.13).
pub(crate) const MULTIGRAIN: [i64; 4] = [EXT_MAGIC, XFS_MAGIC, BTRFS_MAGIC, TMPFS_MAGIC];

/// `statfs(2)` types of file systems that leave byte-range locks to the kernel: ext4, XFS, btrfs, tmpfs,
/// F2FS, bcachefs, ZFS, overlayfs, vfat, exFAT, squashfs, EROFS, ISO 9660, UDF.
pub(crate) const LOCKS_AT_ONCE: [i64; 14] = [
    EXT_MAGIC,
    XFS_MAGIC,
    BTRFS_MAGIC,
    TMPFS_MAGIC,
    0xF2F5_2010,
    0xCA45_1A4E,
    0x2FC1_2FC1,
    0x794C_7630,
    0x4D44,
    0x2011_BAB0,
    0x7371_7368,
    0xE0F5_E1E2,
    0x9660,
    0x1501_3346,
];

/// An identity of the file system `fd` lies on that survives reboot and remount: the UUID where
/// the file system gives one. `None` where nothing stable is known (tmpfs).
pub fn fs_identity(fd: BorrowedFd<'_>) -> Option<[u8; 16]> {
    const XFS_GEOMETRY_V1: libc::Ioctl = 0x8070_5864u32 as libc::Ioctl;
    const GET_FS_UUID: libc::Ioctl = 0x8011_1500u32 as libc::Ioctl;
    let stat = rustix::fs::fstatfs(fd).ok()?;
    let mut buf = [0u8; 128];
    let mut ask = |request, range: std::ops::Range<usize>| -> Option<[u8; 16]> {
        // SAFETY: both requests write at most 112 bytes into the 128 of `buf`.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), request, buf.as_mut_ptr()) };
        (done == 0).then(|| buf[range].try_into().ok()).flatten()
    };
    let uuid = match stat.f_type as i64 {
        XFS_MAGIC => ask(XFS_GEOMETRY_V1, 64..80),
        // statfs(2) derives f_fsid from the UUID here, on every kernel alike.
        EXT_MAGIC | BTRFS_MAGIC => None,
        // Invents a UUID with every mount.
        TMPFS_MAGIC => None,
        _ => ask(GET_FS_UUID, 1..17),
    };
    uuid.or_else(|| {
        if !matches!(stat.f_type as i64, EXT_MAGIC | BTRFS_MAGIC) {
            return None;
        }
        let mut id = [0; 16];
        // SAFETY: fsid_t is two ints without padding.
        let raw: [u8; 8] = unsafe { std::mem::transmute_copy(&stat.f_fsid) };
        id[..8].copy_from_slice(&raw);
        Some(id)
    })
}

/// Makes `len` bytes (0: up to the end) at `to` of `target` share the blocks at `from` of `source`.
///
/// # Errors
/// `ioctl_ficlonerange(2)`; `EOPNOTSUPP` also where the request is unknown.
pub(crate) fn clone_range(
    source: BorrowedFd<'_>,
    from: u64,
    len: u64,
    target: BorrowedFd<'_>,
    to: u64,
) -> Result<()> {
    let range = libc::file_clone_range {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: from,
        src_length: len,
        dest_offset: to,
    };
    // SAFETY: the request reads one file_clone_range, which outlives the call.
    let done = unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONERANGE, &raw const range) };
    match check(i64::from(done)) {
        Err(Errno(libc::ENOTTY)) => Err(Errno::EOPNOTSUPP),
        other => other.map(drop),
    }
}

/// What the quota of user `uid` on the file system of `fd` says; limits of 0 are none.
pub(crate) struct DiskQuota {
    /// Bytes that may not be exceeded.
    pub(crate) hard: u64,
    /// Bytes that may be exceeded for a while.
    pub(crate) soft: u64,
    /// Bytes in use.
    pub(crate) used: u64,
}

/// # Errors
/// `quotactl_fd(2)`: `ESRCH` where quota is not on, `ENOSYS` and others where there is none.
pub(crate) fn user_quota(fd: BorrowedFd<'_>, uid: u32) -> Result<DiskQuota> {
    /// `Q_GETQUOTA` for `USRQUOTA`.
    const GET_USER_QUOTA: u32 = 0x0080_0007 << 8;
    /// Limits are counted in blocks of this many bytes (`QIF_DQBLKSIZE`).
    const BLOCK: u64 = 1024;
    // SAFETY: plain numbers, for which zero is a value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: the command writes one dqblk, which outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_raw_fd(),
            GET_USER_QUOTA,
            uid,
            &raw mut quota,
        )
    })?;
    Ok(DiskQuota {
        hard: quota.dqb_bhardlimit.saturating_mul(BLOCK),
        soft: quota.dqb_bsoftlimit.saturating_mul(BLOCK),
        used: quota.dqb_curspace,
    })
}

/// What of a file is locked (`fcntl(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileLock {
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub(crate) kind: libc::c_int,
    /// First byte.
    pub(crate) first: i64,
    /// Last byte; `i64::MAX` is the end of every file.
    pub(crate) last: i64,
    /// The process that holds it; nobody's with an open file description's.
    pub(crate) pid: i32,
}

fn flock(lock: FileLock) -> libc::flock {
    // SAFETY: plain numbers, for which zero is a value.
    let mut raw: libc::flock = unsafe { std::mem::zeroed() };
    raw.l_type = lock.kind as libc::c_short;
    raw.l_whence = libc::SEEK_SET as libc::c_short;
    raw.l_start = lock.first;
    // Of length 0: up to the end.
    raw.l_len = match lock.last {
        i64::MAX => 0,
        last => last - lock.first + 1,
    };
    raw
}

/// Locks or unlocks a range for an open file description; does not wait for who holds it.
///
/// # Errors
/// `EAGAIN` when somebody else does; `fcntl(2)` `F_OFD_SETLK`.
pub(crate) fn set_lock(fd: BorrowedFd<'_>, lock: FileLock) -> Result<()> {
    let raw = flock(lock);
    // SAFETY: the request reads one flock, which outlives the call.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const raw) };
    match check(i64::from(done)) {
        Err(Errno(libc::EACCES)) => Err(Errno::EAGAIN),
        other => other.map(drop),
    }
}

/// The lock of somebody else that excludes this one; if there are several, any.
///
/// # Errors
/// `fcntl(2)` `F_OFD_GETLK`.
pub(crate) fn find_lock(fd: BorrowedFd<'_>, wanted: FileLock) -> Result<Option<FileLock>> {
    let mut raw = flock(wanted);
    // SAFETY: the request reads and writes one flock, which outlives the call.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut raw) };
    check(i64::from(done))?;
    let kind = libc::c_int::from(raw.l_type);
    Ok((kind != libc::F_UNLCK).then(|| FileLock {
        kind,
        first: raw.l_start,
        last: match raw.l_len {
            0 => i64::MAX,
            len => raw.l_start.saturating_add(len - 1),
        },
        pid: raw.l_pid,
    }))
}

/// Whether the kernel would give a lease: nobody else has the file open for writing, or with `exclusive` at all. Whoever
/// opens it at this very moment waits for the few microseconds.
///
/// # Errors
/// `fcntl(2)` `F_SETLEASE`: `EINVAL` where the file system has no leases.
pub(crate) fn could_lease(fd: BorrowedFd<'_>, exclusive: bool) -> Result<bool> {
    /// `asm-generic/fcntl.h`; missing in `libc`.
    const F_SETSIG: libc::c_int = 10;
    let kind = if exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    let fcntl = |request, argument: libc::c_int| {
        // SAFETY: the requests below take plain numbers.
        check(i64::from(unsafe {
            libc::fcntl(fd.as_raw_fd(), request, argument)
        }))
    };
    // Who is made to wait is told of by a signal, which must not be the deadly SIGIO.
    fcntl(F_SETSIG, libc::SIGURG)?;
    match fcntl(libc::F_SETLEASE, kind) {
        Ok(_) => fcntl(libc::F_SETLEASE, libc::F_UNLCK).map(|_| true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The signals a server acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// `SIGHUP`: read the exports again.
    Reload,
    /// `SIGTERM`, `SIGINT`: finish what runs, then stop.
    Stop,
}

fn signal_set() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set; the numbers are valid signals.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Blocks the signals of [`Signal`] in this thread and those it starts: call before any.
pub fn block_signals() {
    let set = signal_set();
    // SAFETY: an initialised set; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for one of the signals that [`block_signals`] blocked.
pub fn wait_signal() -> Signal {
    let set = signal_set();
    let mut signal = 0;
    // SAFETY: an initialised set and a live integer.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    if signal == libc::SIGHUP {
        Signal::Reload
    } else {
        Signal::Stop
    }
}
