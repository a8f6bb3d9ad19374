//! Status of NFS version 3 (RFC 1813 section 2.6): numbers, errno mapping, what each procedure may say.

use super::Proc3;
use crate::xdr::{Status, xdr_enum};

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
        _ => S::Io,
    }
}

/// The errors RFC 1813 section 3.3 lists for a procedure.
#[must_use]
pub const fn listed(procedure: Proc3) -> &'static [Nfsstat3] {
    use Nfsstat3::{
        Acces, BadCookie, Badhandle, Badtype, Dquot, Exist, Fbig, Inval, Io, Isdir, Mlink,
        Nametoolong, Noent, Nospc, NotSync, Notdir, Notempty, Notsupp, Nxio, Perm, Rofs,
        Serverfault, Stale, Toosmall, Xdev,
    };
    match procedure {
        Proc3::Null => &[],
        Proc3::Getattr | Proc3::Access | Proc3::Fsstat | Proc3::Commit => {
            &[Io, Stale, Badhandle, Serverfault]
        }
        Proc3::Setattr => &[
            Perm,
            Io,
            Acces,
            Inval,
            Nospc,
            Rofs,
            Dquot,
            NotSync,
            Stale,
            Badhandle,
            Serverfault,
        ],
        Proc3::Lookup => &[
            Io,
            Noent,
            Acces,
            Notdir,
            Nametoolong,
            Stale,
            Badhandle,
            Serverfault,
        ],
        Proc3::Readlink => &[Io, Inval, Acces, Stale, Badhandle, Notsupp, Serverfault],
        Proc3::Read => &[Io, Nxio, Acces, Inval, Stale, Badhandle, Serverfault],
        Proc3::Write => &[
            Io,
            Acces,
            Fbig,
            Dquot,
            Nospc,
            Rofs,
            Inval,
            Stale,
            Badhandle,
            Serverfault,
        ],
        Proc3::Create | Proc3::Mkdir | Proc3::Symlink => &[
            Io,
            Acces,
            Exist,
            Notdir,
            Nospc,
            Rofs,
            Nametoolong,
            Dquot,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
        ],
        Proc3::Mknod => &[
            Io,
            Acces,
            Exist,
            Notdir,
            Nospc,
            Rofs,
            Nametoolong,
            Dquot,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
            Badtype,
        ],
        Proc3::Remove => &[
            Noent,
            Io,
            Acces,
            Notdir,
            Nametoolong,
            Rofs,
            Stale,
            Badhandle,
            Serverfault,
        ],
        Proc3::Rmdir => &[
            Noent,
            Io,
            Acces,
            Inval,
            Exist,
            Notdir,
            Nametoolong,
            Rofs,
            Notempty,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
        ],
        Proc3::Rename => &[
            Noent,
            Io,
            Acces,
            Exist,
            Xdev,
            Notdir,
            Isdir,
            Inval,
            Nospc,
            Rofs,
            Mlink,
            Nametoolong,
            Notempty,
            Dquot,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
        ],
        Proc3::Link => &[
            Io,
            Acces,
            Exist,
            Xdev,
            Notdir,
            Inval,
            Nospc,
            Rofs,
            Mlink,
            Nametoolong,
            Dquot,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
        ],
        Proc3::Readdir => &[
            Io,
            Acces,
            Notdir,
            BadCookie,
            Toosmall,
            Stale,
            Badhandle,
            Serverfault,
        ],
        Proc3::Readdirplus => &[
            Io,
            Acces,
            Notdir,
            BadCookie,
            Toosmall,
            Stale,
            Badhandle,
            Notsupp,
            Serverfault,
        ],
        Proc3::Fsinfo | Proc3::Pathconf => &[Stale, Badhandle, Serverfault],
    }
}

/// Errors the lists leave out although the situation exists and every client expects them:
/// JUKEBOX everywhere (RFC 1813 section 2.6), the owner's rules of sticky directories, immutable and
/// append-only files (PERM), missing names and wrong types the section 2.6 text describes.
#[must_use]
pub const fn customary(procedure: Proc3) -> &'static [Nfsstat3] {
    use Nfsstat3::{Acces, Fbig, Inval, Io, Isdir, Jukebox, Noent, Perm, Rofs, Xdev};
    match procedure {
        Proc3::Null => &[],
        Proc3::Setattr => &[Jukebox, Fbig, Isdir],
        Proc3::Lookup => &[Jukebox, Inval, Perm],
        Proc3::Read => &[Jukebox, Isdir],
        Proc3::Write => &[Jukebox, Isdir, Perm],
        Proc3::Create => &[Jukebox, Inval, Isdir, Noent, Perm, Fbig],
        Proc3::Mkdir | Proc3::Symlink | Proc3::Mknod => {
            &[Jukebox, Inval, Noent, Perm, Nfsstat3::Mlink]
        }
        Proc3::Remove => &[Jukebox, Inval, Isdir, Perm, Xdev],
        Proc3::Rmdir => &[Jukebox, Perm, Xdev],
        Proc3::Rename => &[Jukebox, Perm],
        Proc3::Link => &[Jukebox, Noent, Isdir, Perm],
        Proc3::Readdir | Proc3::Readdirplus => &[Jukebox, Inval],
        Proc3::Commit => &[
            Jukebox,
            Inval,
            Isdir,
            Acces,
            Nfsstat3::Nospc,
            Nfsstat3::Dquot,
            Rofs,
        ],
        Proc3::Access | Proc3::Getattr | Proc3::Fsstat => &[Jukebox, Acces],
        Proc3::Readlink => &[Jukebox],
        Proc3::Fsinfo | Proc3::Pathconf => &[Jukebox, Io, Acces],
    }
}

/// Whether a procedure may answer with a status: `Ok`, one the RFC lists, or a customary one.
#[must_use]
pub fn permitted(procedure: Proc3, status: Nfsstat3) -> bool {
    status == Nfsstat3::Ok
        || listed(procedure).contains(&status)
        || customary(procedure).contains(&status)
}
