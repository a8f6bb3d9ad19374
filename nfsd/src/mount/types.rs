//! MOUNT version 1 (RFC 1094 appendix A) and version 3 (RFC 1813 appendix I): the types.

use crate::nfs3::types::NfsFh3;
use crate::xdr::{
    Chain, Enc, Encode, Res, Result, Status, encode_chain, xdr_enum, xdr_opaque, xdr_struct,
};
use arrayvec::ArrayVec;

/// Program number.
pub const MOUNT_PROGRAM: u32 = 100_005;
/// The version of NFS version 2. MNT there gives a 32-byte handle; the other procedures are the same.
pub const MOUNT_V1: u32 = 1;
/// The version of NFS version 3.
pub const MOUNT_V3: u32 = 3;
/// Bytes of a version 1 handle.
pub const FHSIZE: usize = 32;
/// Most authentication flavors in one answer. The RFC sets no maximum; there are not that many.
pub const MAX_FLAVORS: usize = 16;

xdr_enum! {
    /// Procedures of both versions (RFC 1813 appendix I section 5.2).
    pub enum MountProc {
        /// Does nothing.
        Null = 0 "MOUNTPROC_NULL",
        /// [`Dirpath`] -> [`Mountres3`] (version 1: [`Fhstatus`]).
        Mnt = 1 "MOUNTPROC_MNT",
        /// void -> [`Mountlist`].
        Dump = 2 "MOUNTPROC_DUMP",
        /// [`Dirpath`] -> void.
        Umnt = 3 "MOUNTPROC_UMNT",
        /// void -> void.
        Umntall = 4 "MOUNTPROC_UMNTALL",
        /// void -> [`Exports`].
        Export = 5 "MOUNTPROC_EXPORT",
    }
}

xdr_enum! {
    /// `mountstat3` (RFC 1813 appendix I section 5.1.5).
    pub enum Mountstat3 {
        /// No error.
        Ok = 0 "MNT3_OK",
        /// Not owner.
        Perm = 1 "MNT3ERR_PERM",
        /// No such file or directory.
        Noent = 2 "MNT3ERR_NOENT",
        /// I/O error.
        Io = 5 "MNT3ERR_IO",
        /// Permission denied.
        Acces = 13 "MNT3ERR_ACCES",
        /// Not a directory.
        Notdir = 20 "MNT3ERR_NOTDIR",
        /// Invalid argument.
        Inval = 22 "MNT3ERR_INVAL",
        /// Filename too long.
        Nametoolong = 63 "MNT3ERR_NAMETOOLONG",
        /// Operation not supported.
        Notsupp = 10004 "MNT3ERR_NOTSUPP",
        /// A failure on the server.
        Serverfault = 10006 "MNT3ERR_SERVERFAULT",
    }
}

impl Status for Mountstat3 {
    const OK: Self = Self::Ok;
    const FAULT: Self = Self::Serverfault;
}

impl Mountstat3 {
    /// Maps a Linux errno (positive, as in errno(3)).
    #[must_use]
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EPERM => Self::Perm,
            libc::ENOENT | libc::ESTALE => Self::Noent,
            libc::EACCES | libc::ELOOP => Self::Acces,
            libc::ENOTDIR => Self::Notdir,
            libc::EINVAL => Self::Inval,
            libc::ENAMETOOLONG => Self::Nametoolong,
            libc::EOPNOTSUPP | libc::ENOSYS => Self::Notsupp,
            libc::EIO => Self::Io,
            _ => Self::Serverfault,
        }
    }
}

/// Status of a version 1 answer: 0 or a UNIX errno (RFC 1094 appendix A.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat1(pub u32);

impl Status for Stat1 {
    const OK: Self = Self(0);
    const FAULT: Self = Self(5);
}

impl crate::xdr::Decode<'_> for Stat1 {
    fn decode(dec: &mut crate::xdr::Dec<'_>) -> Result<Self> {
        dec.u32().map(Self)
    }
}

impl Encode for Stat1 {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.u32(self.0)
    }
}

#[cfg(any(test, feature = "samples"))]
impl crate::xdr::Sample<'_> for Stat1 {
    fn sample(tape: &mut crate::xdr::Tape<'_>) -> Self {
        Self(crate::xdr::Sample::sample(tape))
    }
}

xdr_opaque! {
    /// `dirpath`: a path on the server (MNTPATHLEN).
    pub struct Dirpath(max 1024);
    /// `name`: a host or group name (MNTNAMLEN).
    pub struct Name(max 255);
}

/// `fhstatus`: result of MNT in version 1.
pub type Fhstatus = Res<Stat1, [u8; FHSIZE]>;

/// `mountres3`: result of MNT in version 3.
pub type Mountres3<'a> = Res<Mountstat3, Mountres3Ok<'a>>;

xdr_struct! {
    /// `mountres3_ok` (RFC 1813 appendix I section 5.2.1).
    pub struct Mountres3Ok<'a> {
        /// Handle of the directory.
        pub fhandle: NfsFh3<'a>,
        /// Flavors the export takes, best first.
        pub auth_flavors: ArrayVec<u32, MAX_FLAVORS>,
    }

    /// `mountbody`: one entry of DUMP.
    #[derive(Copy)]
    pub struct Mountbody<'a> {
        /// The client.
        pub hostname: Name<'a>,
        /// What it mounted.
        pub directory: Dirpath<'a>,
    }

    /// `exportnode`: one entry of EXPORT.
    #[derive(Copy)]
    pub struct Exportnode<'a> {
        /// The exported directory.
        pub dir: Dirpath<'a>,
        /// Who may mount it; empty means everyone.
        pub groups: Groups<'a>,
    }
}

/// `groups`.
pub type Groups<'a> = Chain<'a, Name<'a>>;

/// `mountlist`: result of DUMP.
pub type Mountlist<'a> = Chain<'a, Mountbody<'a>>;

/// `exports`: result of EXPORT.
pub type Exports<'a> = Chain<'a, Exportnode<'a>>;

/// Appends one [`Exportnode`] with its flag; the caller ends the list with `enc.bool(false)`.
pub fn encode_export<'a>(
    enc: &mut Enc<'_>,
    dir: Dirpath<'_>,
    groups: impl IntoIterator<Item = Name<'a>>,
) -> Result<()> {
    enc.bool(true)?;
    enc.put(&dir)?;
    encode_chain(enc, groups)
}
