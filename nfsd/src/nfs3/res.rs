//! Results of the NFS version 3 procedures (RFC 1813 section 3.3).
//!
//! `Xxx3Res` is the union on the status: the resok structure, or the status and what the resfail
//! structure carries (attributes of the object, or weak cache consistency data).

use super::dirlist::{Dirlist3, Dirlistplus3};
use super::status::Nfsstat3;
use super::types::{
    Cookieverf3, Count3, Data3, Fattr3, NfsFh3, Nfspath3, Nfstime3, PostOpAttr, PostOpFh3, Size3,
    StableHow, WccData, Writeverf3,
};
use crate::xdr::{Enc, Encode, Res, Result, xdr_struct};

/// `GETATTR3res` (RFC 1813 3.3.1).
pub type Getattr3Res = Res<Nfsstat3, Getattr3ResOk>;
/// `SETATTR3res` (RFC 1813 3.3.2). Both arms are weak cache consistency data.
pub type Setattr3Res = Res<Nfsstat3, WccData, WccData>;
/// `LOOKUP3res` (RFC 1813 3.3.3); fails with the directory's attributes.
pub type Lookup3Res<'a> = Res<Nfsstat3, Lookup3ResOk<'a>, PostOpAttr>;
/// `ACCESS3res` (RFC 1813 3.3.4).
pub type Access3Res = Res<Nfsstat3, Access3ResOk, PostOpAttr>;
/// `READLINK3res` (RFC 1813 3.3.5).
pub type Readlink3Res<'a> = Res<Nfsstat3, Readlink3ResOk<'a>, PostOpAttr>;
/// `READ3res` (RFC 1813 3.3.6).
pub type Read3Res<'a> = Res<Nfsstat3, Read3ResOk<'a>, PostOpAttr>;
/// `WRITE3res` (RFC 1813 3.3.7).
pub type Write3Res = Res<Nfsstat3, Write3ResOk, WccData>;
/// `CREATE3res`, `MKDIR3res`, `SYMLINK3res`, `MKNOD3res` (RFC 1813 3.3.8 to 3.3.11), all of one
/// form; they fail with the directory's weak cache consistency data.
pub type Create3Res<'a> = Res<Nfsstat3, Create3ResOk<'a>, WccData>;
/// `MKDIR3res` (RFC 1813 3.3.9).
pub type Mkdir3Res<'a> = Create3Res<'a>;
/// `SYMLINK3res` (RFC 1813 3.3.10).
pub type Symlink3Res<'a> = Create3Res<'a>;
/// `MKNOD3res` (RFC 1813 3.3.11).
pub type Mknod3Res<'a> = Create3Res<'a>;
/// `REMOVE3res` (RFC 1813 3.3.12). Both arms are the directory's weak cache consistency data.
pub type Remove3Res = Res<Nfsstat3, WccData, WccData>;
/// `RMDIR3res` (RFC 1813 3.3.13). Both arms are the directory's weak cache consistency data.
pub type Rmdir3Res = Res<Nfsstat3, WccData, WccData>;
/// `RENAME3res` (RFC 1813 3.3.14). Both arms are both directories' weak cache consistency data.
pub type Rename3Res = Res<Nfsstat3, Rename3Wcc, Rename3Wcc>;
/// `LINK3res` (RFC 1813 3.3.15). Both arms are the same.
pub type Link3Res = Res<Nfsstat3, Link3Wcc, Link3Wcc>;
/// `READDIR3res` (RFC 1813 3.3.16). Built entry by entry with [`super::dirlist::DirlistEnc`].
pub type Readdir3Res<'a> = Res<Nfsstat3, Readdir3ResOk<'a>, PostOpAttr>;
/// `READDIRPLUS3res` (RFC 1813 3.3.17). Built entry by entry with [`super::dirlist::DirlistEnc`].
pub type Readdirplus3Res<'a> = Res<Nfsstat3, Readdirplus3ResOk<'a>, PostOpAttr>;
/// `FSSTAT3res` (RFC 1813 3.3.18).
pub type Fsstat3Res = Res<Nfsstat3, Fsstat3ResOk, PostOpAttr>;
/// `FSINFO3res` (RFC 1813 3.3.19).
pub type Fsinfo3Res = Res<Nfsstat3, Fsinfo3ResOk, PostOpAttr>;
/// `PATHCONF3res` (RFC 1813 3.3.20).
pub type Pathconf3Res = Res<Nfsstat3, Pathconf3ResOk, PostOpAttr>;
/// `COMMIT3res` (RFC 1813 3.3.21).
pub type Commit3Res = Res<Nfsstat3, Commit3ResOk, WccData>;

xdr_struct! {
    /// `GETATTR3resok`.
    #[derive(Copy)]
    pub struct Getattr3ResOk {
        /// The attributes.
        pub obj_attributes: Fattr3,
    }

    /// `LOOKUP3resok`.
    #[derive(Copy)]
    pub struct Lookup3ResOk<'a> {
        /// Handle of what was found.
        pub object: NfsFh3<'a>,
        /// Its attributes.
        pub obj_attributes: PostOpAttr,
        /// The directory's attributes.
        pub dir_attributes: PostOpAttr,
    }

    /// `ACCESS3resok`.
    #[derive(Copy)]
    pub struct Access3ResOk {
        /// The object's attributes.
        pub obj_attributes: PostOpAttr,
        /// Bits of [`super::types::access`] that are allowed.
        pub access: u32,
    }

    /// `READLINK3resok`.
    #[derive(Copy)]
    pub struct Readlink3ResOk<'a> {
        /// The link's attributes.
        pub symlink_attributes: PostOpAttr,
        /// Contents of the link.
        pub data: Nfspath3<'a>,
    }

    /// `READ3resok`.
    #[derive(Copy)]
    pub struct Read3ResOk<'a> {
        /// The file's attributes.
        pub file_attributes: PostOpAttr,
        /// Bytes read: the length of `data`.
        pub count: Count3,
        /// The read reached the end of the file.
        pub eof: bool,
        /// The data.
        pub data: Data3<'a>,
    }

    /// `WRITE3resok`.
    #[derive(Copy)]
    pub struct Write3ResOk {
        /// The file's weak cache consistency data.
        pub file_wcc: WccData,
        /// Bytes written.
        pub count: Count3,
        /// How stable they are.
        pub committed: StableHow,
        /// Identifies this life of the server.
        pub verf: Writeverf3,
    }

    /// `CREATE3resok`, also `MKDIR3resok`, `SYMLINK3resok` and `MKNOD3resok`.
    #[derive(Copy)]
    pub struct Create3ResOk<'a> {
        /// Handle of the new object.
        pub obj: PostOpFh3<'a>,
        /// Its attributes.
        pub obj_attributes: PostOpAttr,
        /// The directory's weak cache consistency data.
        pub dir_wcc: WccData,
    }

    /// `RENAME3resok` and `RENAME3resfail`.
    #[derive(Copy, Default)]
    pub struct Rename3Wcc {
        /// The directory the object left.
        pub fromdir_wcc: WccData,
        /// The directory it went to.
        pub todir_wcc: WccData,
    }

    /// `LINK3resok` and `LINK3resfail`.
    #[derive(Copy, Default)]
    pub struct Link3Wcc {
        /// The object's attributes.
        pub file_attributes: PostOpAttr,
        /// The directory of the new name.
        pub linkdir_wcc: WccData,
    }

    /// `READDIR3resok`.
    #[derive(Copy)]
    pub struct Readdir3ResOk<'a> {
        /// The directory's attributes.
        pub dir_attributes: PostOpAttr,
        /// Verifier for the cookies.
        pub cookieverf: Cookieverf3,
        /// Entries and end mark.
        pub reply: Dirlist3<'a>,
    }

    /// `READDIRPLUS3resok`.
    #[derive(Copy)]
    pub struct Readdirplus3ResOk<'a> {
        /// The directory's attributes.
        pub dir_attributes: PostOpAttr,
        /// Verifier for the cookies.
        pub cookieverf: Cookieverf3,
        /// Entries and end mark.
        pub reply: Dirlistplus3<'a>,
    }

    /// `FSSTAT3resok`.
    #[derive(Copy)]
    pub struct Fsstat3ResOk {
        /// Attributes of the object named.
        pub obj_attributes: PostOpAttr,
        /// Size of the file system in bytes.
        pub tbytes: Size3,
        /// Free bytes.
        pub fbytes: Size3,
        /// Free bytes the caller may use.
        pub abytes: Size3,
        /// File slots.
        pub tfiles: Size3,
        /// Free file slots.
        pub ffiles: Size3,
        /// Free file slots the caller may use.
        pub afiles: Size3,
        /// Seconds for which nothing is expected to change.
        pub invarsec: u32,
    }

    /// `FSINFO3resok`.
    #[derive(Copy)]
    pub struct Fsinfo3ResOk {
        /// Attributes of the object named.
        pub obj_attributes: PostOpAttr,
        /// Most bytes of a READ.
        pub rtmax: u32,
        /// Preferred bytes of a READ.
        pub rtpref: u32,
        /// Suggested multiple of a READ.
        pub rtmult: u32,
        /// Most bytes of a WRITE.
        pub wtmax: u32,
        /// Preferred bytes of a WRITE.
        pub wtpref: u32,
        /// Suggested multiple of a WRITE.
        pub wtmult: u32,
        /// Preferred bytes of a READDIR.
        pub dtpref: u32,
        /// Largest file in bytes.
        pub maxfilesize: Size3,
        /// Granularity of times.
        pub time_delta: Nfstime3,
        /// Bits of [`super::types::fsf`].
        pub properties: u32,
    }

    /// `PATHCONF3resok`.
    #[derive(Copy)]
    pub struct Pathconf3ResOk {
        /// The object's attributes.
        pub obj_attributes: PostOpAttr,
        /// Most hard links of an object.
        pub linkmax: u32,
        /// Longest name in bytes.
        pub name_max: u32,
        /// Longer names are refused, not cut.
        pub no_trunc: bool,
        /// Only a privileged user may change owner or group.
        pub chown_restricted: bool,
        /// Names are the same in either case.
        pub case_insensitive: bool,
        /// Names keep their case.
        pub case_preserving: bool,
    }

    /// `COMMIT3resok`.
    #[derive(Copy)]
    pub struct Commit3ResOk {
        /// The file's weak cache consistency data.
        pub file_wcc: WccData,
        /// Identifies this life of the server.
        pub verf: Writeverf3,
    }
}

/// A successful `READ3res` up to and including the length word of the data. The data and its
/// `xdr::pad_len` zero bytes follow as a separate segment, so that they need not be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read3ResHead {
    /// The file's attributes.
    pub file_attributes: PostOpAttr,
    /// Bytes read: length of the segment that follows.
    pub count: Count3,
    /// The read reached the end of the file.
    pub eof: bool,
}

impl Encode for Read3ResHead {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.put(&Nfsstat3::Ok)?;
        enc.put(&self.file_attributes)?;
        enc.u32(self.count)?;
        enc.bool(self.eof)?;
        enc.u32(self.count)
    }
}
