//! The only error type of this crate: a Linux errno (`errno(3)`).

use std::fmt;

/// A Linux error number, always positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// Result of every file system operation.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are errno(3)'s")]
        impl Errno { $(pub const $name: Errno = Errno(libc::$name);)* }

        impl Errno {
            /// The symbolic name of `errno(3)`, or `E?` for one this crate has no use for.
            pub fn name(self) -> &'static str {
                match self.0 { $(libc::$name => stringify!($name),)* _ => "E?" }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    ENXIO,
    E2BIG,
    EBADF,
    EAGAIN,
    ENOMEM,
    EACCES,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    EROFS,
    EMLINK,
    ERANGE,
    ENAMETOOLONG,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    EOVERFLOW,
    EOPNOTSUPP,
    ENOBUFS,
    ETIMEDOUT,
    ESTALE,
    EDQUOT,
    ECANCELED,
    EPIPE,
    ECONNRESET,
    ENOTCONN,
);

impl Errno {
    /// What a raw system call or completion result says: negative is an error.
    pub fn check(res: i32) -> Result<u32> {
        if res < 0 {
            Err(Errno(-res))
        } else {
            Ok(res as u32)
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Errno(e.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Errno(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Not the kernel's: a SETATTR guard did not match (RFC 1813 3.3.2 `NFS3ERR_NOT_SYNC`).
pub const NOT_SYNC: Errno = Errno(10_001);

/// Not the kernel's: a READDIR cookie or its verifier is not one this server gave out.
pub const BAD_COOKIE: Errno = Errno(10_002);
