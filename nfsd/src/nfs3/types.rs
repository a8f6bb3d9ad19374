//! Basic data types of NFS version 3 (RFC 1813 section 2.5 and 2.6).

use crate::xdr::{Block, xdr_block, xdr_enum, xdr_opaque, xdr_struct, xdr_union};

/// Most bytes of a file handle (NFS3_FHSIZE).
pub const NFS3_FHSIZE: usize = 64;
/// `cookieverf3`: READDIR cookie verifier (NFS3_COOKIEVERFSIZE).
pub type Cookieverf3 = [u8; 8];
/// `createverf3`: exclusive create verifier (NFS3_CREATEVERFSIZE).
pub type Createverf3 = [u8; 8];
/// `writeverf3`: changes when the server may have lost unstable writes (NFS3_WRITEVERFSIZE).
pub type Writeverf3 = [u8; 8];
/// `fileid3`: inode number.
pub type Fileid3 = u64;
/// `cookie3`: position in a directory.
pub type Cookie3 = u64;
/// `offset3`: bytes from the start of a file.
pub type Offset3 = u64;
/// `count3`: bytes.
pub type Count3 = u32;
/// `size3`: bytes.
pub type Size3 = u64;
/// `mode3`: permission bits and setuid, setgid, sticky as in stat(2).
pub type Mode3 = u32;
/// `uid3`.
pub type Uid3 = u32;
/// `gid3`.
pub type Gid3 = u32;

xdr_opaque! {
    /// `nfs_fh3`: file handle.
    pub struct NfsFh3(max NFS3_FHSIZE);
    /// `filename3`. The RFC sets no maximum; the file system does, and answers NAMETOOLONG. Only
    /// names far beyond every file system's limit are refused while decoding.
    pub struct Filename3(max 4096);
    /// `nfspath3`: contents of a symbolic link. As for names, the file system has the limit.
    pub struct Nfspath3(max 8192);
    /// Data of READ and WRITE. Above every transfer size a server could offer; the record limit is
    /// reached long before.
    pub struct Data3(max 0x0100_0000);
}

xdr_enum! {
    /// `ftype3`: file type.
    pub enum Ftype3 {
        /// Regular file.
        Reg = 1 "NF3REG",
        /// Directory.
        Dir = 2 "NF3DIR",
        /// Block special device file.
        Blk = 3 "NF3BLK",
        /// Character special device file.
        Chr = 4 "NF3CHR",
        /// Symbolic link.
        Lnk = 5 "NF3LNK",
        /// Socket.
        Sock = 6 "NF3SOCK",
        /// Named pipe.
        Fifo = 7 "NF3FIFO",
    }
}

impl Ftype3 {
    /// The type of a `st_mode` of stat(2); `None` for a type NFS does not have.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Some(Self::Reg),
            libc::S_IFDIR => Some(Self::Dir),
            libc::S_IFBLK => Some(Self::Blk),
            libc::S_IFCHR => Some(Self::Chr),
            libc::S_IFLNK => Some(Self::Lnk),
            libc::S_IFSOCK => Some(Self::Sock),
            libc::S_IFIFO => Some(Self::Fifo),
            _ => None,
        }
    }
}

xdr_block! {
    /// `nfstime3`: time since 1970-01-01 00:00 UTC.
    pub struct Nfstime3 {
        /// Seconds. Unsigned: 1970 to 2106.
        pub seconds: u32,
        /// Nanoseconds, below 1,000,000,000 when valid.
        pub nseconds: u32,
    }

    /// `specdata3`: device number.
    pub struct Specdata3 {
        /// Major number.
        pub specdata1: u32,
        /// Minor number.
        pub specdata2: u32,
    }

    /// `fattr3`: file attributes, 84 bytes.
    pub struct Fattr3 {
        /// Type of the file.
        pub ftype: Ftype3,
        /// Permission bits.
        pub mode: Mode3,
        /// Number of hard links.
        pub nlink: u32,
        /// Owner.
        pub uid: Uid3,
        /// Group.
        pub gid: Gid3,
        /// Size in bytes.
        pub size: Size3,
        /// Bytes of disk space used.
        pub used: Size3,
        /// Device number of a special file.
        pub rdev: Specdata3,
        /// File system identifier.
        pub fsid: u64,
        /// Inode number.
        pub fileid: Fileid3,
        /// Time of last access.
        pub atime: Nfstime3,
        /// Time of last modification of the data.
        pub mtime: Nfstime3,
        /// Time of last change of the attributes.
        pub ctime: Nfstime3,
    }

    /// `wcc_attr`: the attributes that tell whether a file changed.
    pub struct WccAttr {
        /// Size in bytes.
        pub size: Size3,
        /// Time of last modification of the data.
        pub mtime: Nfstime3,
        /// Time of last change of the attributes.
        pub ctime: Nfstime3,
    }
}

const _: () = assert!(Fattr3::SIZE == 84 && WccAttr::SIZE == 24);

impl From<&Fattr3> for WccAttr {
    fn from(attr: &Fattr3) -> Self {
        Self {
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
        }
    }
}

/// `post_op_attr`: attributes after the operation, if the server could get them.
pub type PostOpAttr = Option<Fattr3>;
/// `pre_op_attr`: attributes before the operation, if the server could get them.
pub type PreOpAttr = Option<WccAttr>;
/// `post_op_fh3`: handle of a new object, if the server could make it.
pub type PostOpFh3<'a> = Option<NfsFh3<'a>>;
/// `sattrguard3`: change the attributes only if ctime is this.
pub type Sattrguard3 = Option<Nfstime3>;

xdr_struct! {
    /// `wcc_data`: weak cache consistency data.
    #[derive(Copy, Default)]
    pub struct WccData {
        /// Before the operation.
        pub before: PreOpAttr,
        /// After the operation.
        pub after: PostOpAttr,
    }

    /// `sattr3`: attributes to set; `None` leaves one as it is.
    #[derive(Copy, Default)]
    pub struct Sattr3 {
        /// Permission bits.
        pub mode: Option<Mode3>,
        /// Owner.
        pub uid: Option<Uid3>,
        /// Group.
        pub gid: Option<Gid3>,
        /// Size in bytes.
        pub size: Option<Size3>,
        /// Time of last access.
        pub atime: SetTime,
        /// Time of last modification.
        pub mtime: SetTime,
    }

    /// `diropargs3`: a name in a directory.
    #[derive(Copy)]
    pub struct Diropargs3<'a> {
        /// The directory.
        pub dir: NfsFh3<'a>,
        /// The name.
        pub name: Filename3<'a>,
    }

    /// `devicedata3`: a device to make.
    #[derive(Copy)]
    pub struct Devicedata3 {
        /// Initial attributes.
        pub dev_attributes: Sattr3,
        /// Device number.
        pub spec: Specdata3,
    }
}

xdr_union! {
    /// `set_atime` and `set_mtime` (discriminant `time_how`).
    #[derive(Default)]
    pub enum SetTime {
        /// DONT_CHANGE.
        #[default]
        0 => DontChange,
        /// SET_TO_SERVER_TIME.
        1 => SetToServerTime,
        /// SET_TO_CLIENT_TIME.
        2 => SetToClientTime(Nfstime3),
    }
}

xdr_union! {
    /// `createhow3` (discriminant `createmode3`).
    pub enum Createhow3 {
        /// UNCHECKED: an existing file is no error.
        0 => Unchecked(Sattr3),
        /// GUARDED: an existing file is EXIST.
        1 => Guarded(Sattr3),
        /// EXCLUSIVE: an existing file is EXIST unless it was made with this verifier.
        2 => Exclusive(Createverf3),
    }
}

xdr_union! {
    /// `mknoddata3` (discriminant `ftype3`).
    pub enum Mknoddata3 {
        /// NF3BLK.
        3 => Blk(Devicedata3),
        /// NF3CHR.
        4 => Chr(Devicedata3),
        /// NF3SOCK.
        6 => Sock(Sattr3),
        /// NF3FIFO.
        7 => Fifo(Sattr3),
        else
        /// Any other type: the answer is NFS3ERR_BADTYPE (RFC 1813 3.3.11).
        Other,
    }
}

xdr_enum! {
    /// `stable_how`: how far WRITE must have come before its reply. Ordered by strength.
    #[derive(PartialOrd, Ord)]
    pub enum StableHow {
        /// Nothing needs to be on stable storage.
        Unstable = 0 "UNSTABLE",
        /// Data and the metadata needed to read it back.
        DataSync = 1 "DATA_SYNC",
        /// Data and all metadata.
        FileSync = 2 "FILE_SYNC",
    }
}

/// Bits of ACCESS (RFC 1813 3.3.4).
pub mod access {
    /// Read data from file or read a directory.
    pub const READ: u32 = 0x0001;
    /// Look up a name in a directory.
    pub const LOOKUP: u32 = 0x0002;
    /// Rewrite existing file data or modify existing directory entries.
    pub const MODIFY: u32 = 0x0004;
    /// Write new data or add directory entries.
    pub const EXTEND: u32 = 0x0008;
    /// Delete an existing directory entry.
    pub const DELETE: u32 = 0x0010;
    /// Execute a file.
    pub const EXECUTE: u32 = 0x0020;
}

/// Bits of FSINFO `properties` (RFC 1813 3.3.19).
pub mod fsf {
    /// Hard links are supported.
    pub const LINK: u32 = 0x0001;
    /// Symbolic links are supported.
    pub const SYMLINK: u32 = 0x0002;
    /// PATHCONF is the same for every file.
    pub const HOMOGENEOUS: u32 = 0x0008;
    /// SETATTR can set times to client time.
    pub const CANSETTIME: u32 = 0x0010;
}
