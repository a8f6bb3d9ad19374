//! Arguments of the NFS version 3 procedures (RFC 1813 section 3.3).
//!
//! They borrow handles, names and data from the record.

use super::types::{
    Cookie3, Cookieverf3, Count3, Createhow3, Data3, Diropargs3, Mknoddata3, NfsFh3, Nfspath3,
    Offset3, Sattr3, Sattrguard3, StableHow,
};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `GETATTR3args` (RFC 1813 3.3.1).
    #[derive(Copy)]
    pub struct Getattr3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
    }

    /// `SETATTR3args` (RFC 1813 3.3.2).
    #[derive(Copy)]
    pub struct Setattr3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
        /// What to set.
        pub new_attributes: Sattr3,
        /// Only if ctime is this, else NOT_SYNC.
        pub guard: Sattrguard3,
    }

    /// `LOOKUP3args` (RFC 1813 3.3.3).
    #[derive(Copy)]
    pub struct Lookup3Args<'a> {
        /// Directory and name.
        pub what: Diropargs3<'a>,
    }

    /// `ACCESS3args` (RFC 1813 3.3.4).
    #[derive(Copy)]
    pub struct Access3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
        /// Bits of [`super::types::access`] asked for; unknown bits are ignored.
        pub access: u32,
    }

    /// `READLINK3args` (RFC 1813 3.3.5).
    #[derive(Copy)]
    pub struct Readlink3Args<'a> {
        /// The symbolic link.
        pub symlink: NfsFh3<'a>,
    }

    /// `READ3args` (RFC 1813 3.3.6).
    #[derive(Copy)]
    pub struct Read3Args<'a> {
        /// The file.
        pub file: NfsFh3<'a>,
        /// Where to start.
        pub offset: Offset3,
        /// Bytes wanted.
        pub count: Count3,
    }

    /// `WRITE3args` (RFC 1813 3.3.7).
    #[derive(Copy)]
    pub struct Write3Args<'a> {
        /// The file.
        pub file: NfsFh3<'a>,
        /// Where to start.
        pub offset: Offset3,
        /// Bytes to write. A well-behaved client sends the length of `data`.
        pub count: Count3,
        /// How stable before the reply.
        pub stable: StableHow,
        /// The data.
        pub data: Data3<'a>,
    }

    /// `CREATE3args` (RFC 1813 3.3.8).
    #[derive(Copy)]
    pub struct Create3Args<'a> {
        /// Directory and name.
        pub where_: Diropargs3<'a>,
        /// Mode of creation and attributes or verifier.
        pub how: Createhow3,
    }

    /// `MKDIR3args` (RFC 1813 3.3.9).
    #[derive(Copy)]
    pub struct Mkdir3Args<'a> {
        /// Directory and name.
        pub where_: Diropargs3<'a>,
        /// Initial attributes.
        pub attributes: Sattr3,
    }

    /// `symlinkdata3` (RFC 1813 3.3.10).
    #[derive(Copy)]
    pub struct Symlinkdata3<'a> {
        /// Initial attributes.
        pub symlink_attributes: Sattr3,
        /// Contents of the link.
        pub symlink_data: Nfspath3<'a>,
    }

    /// `SYMLINK3args` (RFC 1813 3.3.10).
    #[derive(Copy)]
    pub struct Symlink3Args<'a> {
        /// Directory and name.
        pub where_: Diropargs3<'a>,
        /// The link.
        pub symlink: Symlinkdata3<'a>,
    }

    /// `MKNOD3args` (RFC 1813 3.3.11).
    #[derive(Copy)]
    pub struct Mknod3Args<'a> {
        /// Directory and name.
        pub where_: Diropargs3<'a>,
        /// Type and attributes.
        pub what: Mknoddata3,
    }

    /// `REMOVE3args` (RFC 1813 3.3.12).
    #[derive(Copy)]
    pub struct Remove3Args<'a> {
        /// Directory and name.
        pub object: Diropargs3<'a>,
    }

    /// `RMDIR3args` (RFC 1813 3.3.13).
    #[derive(Copy)]
    pub struct Rmdir3Args<'a> {
        /// Directory and name.
        pub object: Diropargs3<'a>,
    }

    /// `RENAME3args` (RFC 1813 3.3.14).
    #[derive(Copy)]
    pub struct Rename3Args<'a> {
        /// The object.
        pub from: Diropargs3<'a>,
        /// Its new place.
        pub to: Diropargs3<'a>,
    }

    /// `LINK3args` (RFC 1813 3.3.15).
    #[derive(Copy)]
    pub struct Link3Args<'a> {
        /// The object.
        pub file: NfsFh3<'a>,
        /// Its additional name.
        pub link: Diropargs3<'a>,
    }

    /// `READDIR3args` (RFC 1813 3.3.16).
    #[derive(Copy)]
    pub struct Readdir3Args<'a> {
        /// The directory.
        pub dir: NfsFh3<'a>,
        /// Position after which to go on, 0 for the start.
        pub cookie: Cookie3,
        /// Verifier that came with the cookie, zero for the start.
        pub cookieverf: Cookieverf3,
        /// Most bytes of the READDIR3resok.
        pub count: Count3,
    }

    /// `READDIRPLUS3args` (RFC 1813 3.3.17).
    #[derive(Copy)]
    pub struct Readdirplus3Args<'a> {
        /// The directory.
        pub dir: NfsFh3<'a>,
        /// Position after which to go on, 0 for the start.
        pub cookie: Cookie3,
        /// Verifier that came with the cookie, zero for the start.
        pub cookieverf: Cookieverf3,
        /// Most bytes of fileids, names and cookies.
        pub dircount: Count3,
        /// Most bytes of the READDIRPLUS3resok.
        pub maxcount: Count3,
    }

    /// `FSSTAT3args` (RFC 1813 3.3.18).
    #[derive(Copy)]
    pub struct Fsstat3Args<'a> {
        /// Any object of the file system.
        pub fsroot: NfsFh3<'a>,
    }

    /// `FSINFO3args` (RFC 1813 3.3.19).
    #[derive(Copy)]
    pub struct Fsinfo3Args<'a> {
        /// Any object of the file system.
        pub fsroot: NfsFh3<'a>,
    }

    /// `PATHCONF3args` (RFC 1813 3.3.20).
    #[derive(Copy)]
    pub struct Pathconf3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
    }

    /// `COMMIT3args` (RFC 1813 3.3.21).
    #[derive(Copy)]
    pub struct Commit3Args<'a> {
        /// The file.
        pub file: NfsFh3<'a>,
        /// Start of the range.
        pub offset: Offset3,
        /// Length of the range; 0 means to the end of the file.
        pub count: Count3,
    }
}
