//! Status of NFS version 3 (RFC 1813 section 2.6): numbers, errno mapping, what each procedure may say.

use super::Proc3;
use crate::xdr::{Status, xdr_enum};
use Nfsstat3::{
    Acces, BadCookie, Badhandle, Badtype, Dquot, Exist, Fbig, Inval, Io, Isdir, Jukebox, Mlink,
    Noent, Nospc, NotSync, Notdir, Notempty, Notsupp, Nxio, Perm, Rofs, Stale, Toosmall, Xdev,
};
use Nfsstat3::{Nametoolong as Toolong, Serverfault as Fault};

xdr_enum! {
    /// `nfsstat3`.
    pub enum Nfsstat3 {
        /// The call completed successfully.
        Ok = 0 "NFS3_OK",
        /// Not owner.
        Perm = 1 "NFS3ERR_PERM",
        /// No such file or directory.
        Noent = 2 "NFS3ERR_NOENT",
        /// I/O error.
        Io = 5 "NFS3ERR_IO",
        /// No such device or address.
        Nxio = 6 "NFS3ERR_NXIO",
        /// Permission denied.
        Acces = 13 "NFS3ERR_ACCES",
        /// File exists.
        Exist = 17 "NFS3ERR_EXIST",
        /// Attempt to do a cross-device hard link.
        Xdev = 18 "NFS3ERR_XDEV",
        /// No such device.
        Nodev = 19 "NFS3ERR_NODEV",
        /// Not a directory.
        Notdir = 20 "NFS3ERR_NOTDIR",
        /// Is a directory.
        Isdir = 21 "NFS3ERR_ISDIR",
        /// Invalid argument or unsupported argument for an operation.
        Inval = 22 "NFS3ERR_INVAL",
        /// File too large.
        Fbig = 27 "NFS3ERR_FBIG",
        /// No space left on device.
        Nospc = 28 "NFS3ERR_NOSPC",
        /// Read-only file system.
        Rofs = 30 "NFS3ERR_ROFS",
        /// Too many hard links.
        Mlink = 31 "NFS3ERR_MLINK",
        /// The filename in an operation was too long.
        Nametoolong = 63 "NFS3ERR_NAMETOOLONG",
        /// An attempt was made to remove a directory that was not empty.
        Notempty = 66 "NFS3ERR_NOTEMPTY",
        /// Resource (quota) hard limit exceeded.
        Dquot = 69 "NFS3ERR_DQUOT",
        /// Invalid file handle: the file no longer exists or access was revoked.
        Stale = 70 "NFS3ERR_STALE",
        /// Too many levels of remote in path.
        Remote = 71 "NFS3ERR_REMOTE",
        /// Illegal NFS file handle.
        Badhandle = 10001 "NFS3ERR_BADHANDLE",
        /// Update synchronization mismatch was detected during SETATTR.
        NotSync = 10002 "NFS3ERR_NOT_SYNC",
        /// READDIR or READDIRPLUS cookie is stale.
        BadCookie = 10003 "NFS3ERR_BAD_COOKIE",
        /// Operation is not supported.
        Notsupp = 10004 "NFS3ERR_NOTSUPP",
        /// Buffer or request is too small.
        Toosmall = 10005 "NFS3ERR_TOOSMALL",
        /// An error that does not map to any other value.
        Serverfault = 10006 "NFS3ERR_SERVERFAULT",
        /// An attempt was made to create an object of a type not supported.
        Badtype = 10007 "NFS3ERR_BADTYPE",
        /// Started, but not done in time: try again later with a new transaction id.
        Jukebox = 10008 "NFS3ERR_JUKEBOX",
    }
}

impl Status for Nfsstat3 {
    const OK: Self = Self::Ok;
    const FAULT: Self = Self::Serverfault;
}

/// Maps a Linux errno (positive, as in errno(3)) the way the Linux NFS server does, and what it
/// leaves out to the nearest status. 0 is `Ok`; an unexpected errno is `Io`, as there.
#[must_use]
pub const fn from_errno(errno: i32) -> Nfsstat3 {
    use Nfsstat3 as S;
    match errno {
        0 => S::Ok,
        libc::EPERM | libc::ENOKEY => S::Perm,
        libc::ENOENT => S::Noent,
        libc::ENXIO => S::Nxio,
        // EBUSY: the name is a mount point on the server. Asking again would not help.
        libc::EACCES | libc::EBUSY => S::Acces,
        libc::EEXIST => S::Exist,
        libc::EXDEV => S::Xdev,
        libc::ENODEV => S::Nodev,
        libc::ENOTDIR => S::Notdir,
        libc::EISDIR => S::Isdir,
        // ELOOP: the object is a symbolic link where none may be.
        libc::EINVAL | libc::ELOOP => S::Inval,
        libc::EFBIG | libc::E2BIG | libc::EOVERFLOW => S::Fbig,
        libc::ENOSPC => S::Nospc,
        libc::EROFS => S::Rofs,
        libc::EMLINK => S::Mlink,
        libc::ENAMETOOLONG => S::Nametoolong,
        libc::ENOTEMPTY => S::Notempty,
        libc::EDQUOT => S::Dquot,
        libc::ESTALE | libc::EBADF => S::Stale,
        libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY => S::Notsupp,
        // Out of something on this server for now: the client shall wait and ask again.
        libc::EAGAIN
        | libc::ENOMEM
        | libc::ETIMEDOUT
        | libc::EINTR
        | libc::EMFILE
        | libc::ENFILE
        | libc::ENOBUFS
        | libc::ECANCELED => S::Jukebox,
        libc::EFAULT => S::Serverfault,
        NOT_SYNC => S::NotSync,
        BAD_COOKIE => S::BadCookie,
        _ => S::Io,
    }
}

const NOT_SYNC: i32 = vfs::NOT_SYNC.0;
const BAD_COOKIE: i32 = vfs::BAD_COOKIE.0;

impl From<vfs::Errno> for Nfsstat3 {
    fn from(e: vfs::Errno) -> Self {
        from_errno(e.0)
    }
}

/// What every procedure that takes a handle lists.
const EVERY: [Nfsstat3; 3] = [Stale, Badhandle, Fault];

/// A row: the procedure, the errors RFC 1813 section 3.3 lists for it besides [`EVERY`], and errors
/// the RFC leaves out although the situation exists and every client expects them: rules of sticky
/// directories, immutable and append-only files (PERM), missing names and wrong types as described
/// in section 2.6. JUKEBOX is customary everywhere.
type Row = (Proc3, &'static [Nfsstat3], &'static [Nfsstat3]);

/// In order of procedure number, without NULL.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    (Proc3::Getattr, &[Io], &[Acces]),
    (Proc3::Setattr, &[Perm, Io, Acces, Inval, Nospc, Rofs, Dquot, NotSync], &[Fbig, Isdir]),
    (Proc3::Lookup, &[Io, Noent, Acces, Notdir, Toolong], &[Inval, Perm]),
    (Proc3::Access, &[Io], &[Acces]),
    (Proc3::Readlink, &[Io, Inval, Acces, Notsupp], &[]),
    (Proc3::Read, &[Io, Nxio, Acces, Inval], &[Isdir]),
    (Proc3::Write, &[Io, Acces, Fbig, Dquot, Nospc, Rofs, Inval], &[Isdir, Perm]),
    (Proc3::Create, &[Io, Acces, Exist, Notdir, Nospc, Rofs, Toolong, Dquot, Notsupp],
        &[Inval, Isdir, Noent, Perm, Fbig]),
    (Proc3::Mkdir, &[Io, Acces, Exist, Notdir, Nospc, Rofs, Toolong, Dquot, Notsupp],
        &[Inval, Noent, Perm, Mlink]),
    (Proc3::Symlink, &[Io, Acces, Exist, Notdir, Nospc, Rofs, Toolong, Dquot, Notsupp],
        &[Inval, Noent, Perm]),
    (Proc3::Mknod, &[Io, Acces, Exist, Notdir, Nospc, Rofs, Toolong, Dquot, Notsupp, Badtype],
        &[Inval, Noent, Perm]),
    (Proc3::Remove, &[Noent, Io, Acces, Notdir, Toolong, Rofs], &[Inval, Isdir, Perm]),
    (Proc3::Rmdir, &[Noent, Io, Acces, Inval, Exist, Notdir, Toolong, Rofs, Notempty, Notsupp], &[Perm]),
    (Proc3::Rename, &[Noent, Io, Acces, Exist, Xdev, Notdir, Isdir, Inval, Nospc, Rofs, Mlink, Toolong,
        Notempty, Dquot, Notsupp], &[Perm]),
    (Proc3::Link, &[Io, Acces, Exist, Xdev, Notdir, Inval, Nospc, Rofs, Mlink, Toolong, Dquot, Notsupp],
        &[Noent, Isdir, Perm]),
    (Proc3::Readdir, &[Io, Acces, Notdir, BadCookie, Toosmall], &[Inval]),
    (Proc3::Readdirplus, &[Io, Acces, Notdir, BadCookie, Toosmall, Notsupp], &[Inval]),
    (Proc3::Fsstat, &[Io], &[Acces]),
    (Proc3::Fsinfo, &[], &[Io, Acces]),
    (Proc3::Pathconf, &[], &[Io, Acces]),
    (Proc3::Commit, &[Io], &[Inval, Isdir, Acces, Nospc, Dquot, Rofs]),
];

fn row(procedure: Proc3) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.0 == procedure)
}

/// The errors RFC 1813 section 3.3 lists for a procedure; none for NULL.
pub fn listed(procedure: Proc3) -> impl Iterator<Item = Nfsstat3> {
    row(procedure)
        .into_iter()
        .flat_map(|row| row.1.iter().copied().chain(EVERY))
}

/// Errors the list leaves out although the situation exists and every client expects them.
pub fn customary(procedure: Proc3) -> impl Iterator<Item = Nfsstat3> {
    row(procedure)
        .into_iter()
        .flat_map(|row| row.2.iter().copied().chain([Jukebox]))
}

/// Whether a procedure may answer with a status: `Ok`, one the RFC lists, or a customary one.
#[must_use]
pub fn permitted(procedure: Proc3, status: Nfsstat3) -> bool {
    status == Nfsstat3::Ok
        || listed(procedure)
            .chain(customary(procedure))
            .any(|allowed| allowed == status)
}

/// The status a procedure answers instead of one it may not: the nearest that it may.
#[must_use]
pub fn restrict(procedure: Proc3, status: Nfsstat3) -> Nfsstat3 {
    let near: &[Nfsstat3] = match status {
        Perm | Rofs => &[Acces],
        Isdir | Notdir | Badtype | Xdev | Toolong | BadCookie | NotSync => &[Inval],
        Exist | Notempty => &[Exist, Notempty],
        Fbig | Dquot | Mlink => &[Nospc],
        Noent => &[Stale],
        _ => &[],
    };
    let candidates = [status].into_iter().chain(near.iter().copied());
    candidates
        .chain([Io])
        .find(|candidate| permitted(procedure, *candidate))
        .unwrap_or(Fault)
}
