//! Attributes of NFS version 4 (RFC 8881 section 5, RFC 7530 section 5, RFC 7862 12.2, RFC 8276 8.2):
//! their table, and reading them.

pub mod acl;
mod collect;
mod set;

use vfs::{Attr, Limits, Quota, StatFs, Time};

use super::types::{Bitmap4, NfsFh4, NfsFtype4};
use crate::fh::FileHandle;
use crate::nfs4::idmap::Owner;
use crate::nfs4::status::Nfsstat4;
use crate::xdr::{Enc, Encode as _, Result, XdrError};

pub use collect::{collect, newest_entry, owners, shared};
pub use set::{Setting, Wanted, setting, wanted};

/// Whose attributes, and everything their values come from.
pub struct Values {
    /// Minor version of the request: which attributes there are.
    pub minor: u32,
    /// What the kernel says.
    pub attr: Attr,
    /// `fsid`: major and minor.
    pub fsid: (u64, u64),
    /// The filehandle, if asked for.
    pub fh: FileHandle,
    /// Inode number of the directory the file system is mounted on, at its root; else the file's own.
    pub mounted_on: u64,
    /// Space and files, if asked for.
    pub space: Option<StatFs>,
    /// Properties of the file system.
    pub limits: Limits,
    /// Most bytes of READ and WRITE.
    pub io_max: u32,
    /// `lease_time`, seconds.
    pub lease: u32,
    /// `owner` and `owner_group`.
    pub owners: [Owner; 2],
    /// The caller's quota, if asked for and there is any.
    pub quota: Option<Quota>,
    /// Extended attributes of users can be stored.
    pub xattrs: bool,
    /// `aclsupport`.
    pub aclsupport: u32,
    /// `acl` as it is sent, if it or `dacl` was asked for and there is one.
    pub acl: Option<Vec<u8>>,
}

/// Filehandles never expire (RFC 8881 4.2.3 FH4_PERSISTENT).
const FH4_PERSISTENT: u32 = 0;
/// `change` comes from the time of change: a clock set back over a restart shows (RFC 7862 12.2.3).
const CHANGE_TYPE_IS_TIME_METADATA: u32 = 3;

/// What may be done with an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Read only.
    Get,
    /// Read and set.
    Both,
    /// Set only.
    Set,
}

/// The table: number, name, first minor version, use, value.
macro_rules! attrs {
    ($($num:literal $name:ident $minor:literal $use:ident |$v:ident, $enc:ident| $value:expr;)*) => {
        /// Numbers by name.
        #[allow(missing_docs, reason = "RFC 8881 5.6 and 5.7 words")]
        pub mod bit {
            $(pub const $name: u32 = $num;)*
        }

        const TABLE: &[(u32, u32, Use)] = &[$(($num, $minor, Use::$use),)*];

        #[inline]
        fn put(bit: u32, v: &Values, enc: &mut Enc<'_>) -> Result<()> {
            match bit {
                $($num => {
                    let ($v, $enc) = (v, enc);
                    $value
                })*
                _ => Ok(()),
            }
        }
    };
}

attrs! {
    0 SUPPORTED_ATTRS 0 Get |v, e| e.put(&supported(v.minor));
    1 TYPE 0 Get |v, e| e.put(&NfsFtype4::from(v.attr.kind));
    2 FH_EXPIRE_TYPE 0 Get |_v, e| e.u32(FH4_PERSISTENT);
    3 CHANGE 0 Get |v, e| e.u64(v.attr.change);
    4 SIZE 0 Both |v, e| e.u64(v.attr.size);
    5 LINK_SUPPORT 0 Get |_v, e| e.bool(true);
    6 SYMLINK_SUPPORT 0 Get |_v, e| e.bool(true);
    7 NAMED_ATTR 0 Get |_v, e| e.bool(false);
    8 FSID 0 Get |v, e| put_fsid(v, e);
    9 UNIQUE_HANDLES 0 Get |_v, e| e.bool(true);
    10 LEASE_TIME 0 Get |v, e| e.u32(v.lease);
    11 RDATTR_ERROR 0 Get |_v, e| e.put(&Nfsstat4::Ok);
    12 ACL 0 Both |v, e| e.raw(v.acl.as_deref().unwrap_or_default());
    13 ACLSUPPORT 0 Get |v, e| e.u32(v.aclsupport);
    15 CANSETTIME 0 Get |_v, e| e.bool(true);
    16 CASE_INSENSITIVE 0 Get |v, e| e.bool(v.limits.case_insensitive);
    17 CASE_PRESERVING 0 Get |v, e| e.bool(v.limits.case_preserving);
    18 CHOWN_RESTRICTED 0 Get |v, e| e.bool(v.limits.chown_restricted);
    19 FILEHANDLE 0 Get |v, e| e.put(&NfsFh4(&v.fh));
    20 FILEID 0 Get |v, e| e.u64(v.attr.fileid);
    21 FILES_AVAIL 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.files_avail));
    22 FILES_FREE 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.files_free));
    23 FILES_TOTAL 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.files_total));
    26 HOMOGENEOUS 0 Get |_v, e| e.bool(true);
    27 MAXFILESIZE 0 Get |v, e| e.u64(v.limits.max_file_size);
    28 MAXLINK 0 Get |v, e| e.u32(v.limits.link_max);
    29 MAXNAME 0 Get |v, e| e.u32(v.limits.name_max);
    30 MAXREAD 0 Get |v, e| e.u64(v.io_max.into());
    31 MAXWRITE 0 Get |v, e| e.u64(v.io_max.into());
    33 MODE 0 Both |v, e| e.u32(v.attr.mode);
    34 NO_TRUNC 0 Get |v, e| e.bool(v.limits.no_trunc);
    35 NUMLINKS 0 Get |v, e| e.u32(v.attr.nlink);
    36 OWNER 0 Both |v, e| put_owner(&v.owners[0], e);
    37 OWNER_GROUP 0 Both |v, e| put_owner(&v.owners[1], e);
    38 QUOTA_AVAIL_HARD 0 Get |v, e| e.u64(v.quota.map_or(0, |q| q.avail_hard));
    39 QUOTA_AVAIL_SOFT 0 Get |v, e| e.u64(v.quota.map_or(0, |q| q.avail_soft));
    40 QUOTA_USED 0 Get |v, e| e.u64(v.quota.map_or(0, |q| q.used));
    41 RAWDEV 0 Get |v, e| e.u32(v.attr.rdev.0).and_then(|()| e.u32(v.attr.rdev.1));
    42 SPACE_AVAIL 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.avail));
    43 SPACE_FREE 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.free));
    44 SPACE_TOTAL 0 Get |v, e| e.u64(v.space.map_or(0, |s| s.total));
    45 SPACE_USED 0 Get |v, e| e.u64(v.attr.used);
    47 TIME_ACCESS 0 Get |v, e| put_time(v.attr.atime, e);
    48 TIME_ACCESS_SET 0 Set |_v, _e| Ok(());
    50 TIME_CREATE 0 Get |v, e| put_time(v.attr.btime.unwrap_or_default(), e);
    51 TIME_DELTA 0 Get |v, e| put_time(v.limits.time_delta, e);
    52 TIME_METADATA 0 Get |v, e| put_time(v.attr.ctime, e);
    53 TIME_MODIFY 0 Get |v, e| put_time(v.attr.mtime, e);
    54 TIME_MODIFY_SET 0 Set |_v, _e| Ok(());
    55 MOUNTED_ON_FILEID 0 Get |v, e| e.u64(v.mounted_on);
    58 DACL 1 Both |v, e| put_dacl(v, e);
    75 SUPPATTR_EXCLCREAT 1 Get |v, e| e.put(&settable(v.minor));
    77 CLONE_BLKSIZE 2 Get |v, e| e.u32(v.limits.clone_blksize);
    79 CHANGE_ATTR_TYPE 2 Get |_v, e| e.u32(CHANGE_TYPE_IS_TIME_METADATA);
    81 MODE_UMASK 2 Set |_v, _e| Ok(());
    82 XATTR_SUPPORT 2 Get |v, e| e.bool(v.xattrs);
}

const fn chosen(minor: u32, get: bool, set: bool) -> Bitmap4 {
    let mut all = Bitmap4::EMPTY;
    let mut i = 0;
    while i < TABLE.len() {
        let (bit, since, usage) = TABLE[i];
        let wanted = match usage {
            Use::Get => get,
            Use::Set => set,
            Use::Both => get || set,
        };
        if since <= minor && wanted {
            all.insert(bit);
        }
        i += 1;
    }
    all
}

/// All, readable and settable attributes of minor versions 0, 1 and 2.
const SUPPORTED: [Bitmap4; 3] = [
    chosen(0, true, true),
    chosen(1, true, true),
    chosen(2, true, true),
];
const READABLE: [Bitmap4; 3] = [
    chosen(0, true, false),
    chosen(1, true, false),
    chosen(2, true, false),
];
const SETTABLE: [Bitmap4; 3] = [
    chosen(0, false, true),
    chosen(1, false, true),
    chosen(2, false, true),
];

/// Those that come from a file's ACLs.
pub const ACLS: Bitmap4 = Bitmap4::of(&[bit::ACL, bit::DACL]);

fn of_minor(sets: &[Bitmap4; 3], minor: u32) -> Bitmap4 {
    sets.get(minor as usize).copied().unwrap_or(sets[2])
}

/// `supported_attrs`.
#[must_use]
pub fn supported(minor: u32) -> Bitmap4 {
    of_minor(&SUPPORTED, minor)
}

/// Attributes that can be asked for.
#[must_use]
pub fn readable(minor: u32) -> Bitmap4 {
    of_minor(&READABLE, minor)
}

/// Attributes that can be set, and by EXCLUSIVE4_1, too: the verifier has a place of its own (RFC 8881 5.8.1.14).
#[must_use]
pub fn settable(minor: u32) -> Bitmap4 {
    of_minor(&SETTABLE, minor)
}

fn put_fsid(v: &Values, enc: &mut Enc<'_>) -> Result<()> {
    enc.u64(v.fsid.0)?;
    enc.u64(v.fsid.1)
}

/// `nfstime4`.
fn put_time(time: Time, enc: &mut Enc<'_>) -> Result<()> {
    enc.i64(time.sec)?;
    enc.u32(time.nsec)
}

/// `nfsacl41`: the flags, and the entries of `acl`.
fn put_dacl(v: &Values, enc: &mut Enc<'_>) -> Result<()> {
    enc.u32(acl::ACL4_PROTECTED)?;
    enc.raw(v.acl.as_deref().unwrap_or_default())
}

/// A name or a number in digits (RFC 8881 5.9).
fn put_owner(owner: &Owner, enc: &mut Enc<'_>) -> Result<()> {
    enc.opaque(owner.bytes(&mut [0; 10]))
}

/// Appends a `fattr4`: what of `asked` there is (RFC 8881 18.7.3).
///
/// # Errors
/// `Full`.
pub fn encode(asked: &Bitmap4, v: &Values, enc: &mut Enc<'_>) -> Result<()> {
    let mut mask = asked.and(&readable(v.minor));
    // What the file system does not know is not there for it.
    if v.quota.is_none() {
        for bit in [
            bit::QUOTA_AVAIL_HARD,
            bit::QUOTA_AVAIL_SOFT,
            bit::QUOTA_USED,
        ] {
            mask.remove(bit);
        }
    }
    if v.acl.is_none() {
        mask.remove(bit::ACL);
        mask.remove(bit::DACL);
    }
    if v.attr.btime.is_none() {
        mask.remove(bit::TIME_CREATE);
    }
    mask.encode(enc)?;
    encode_values(&mask, v, enc)
}

/// Appends the `fattr4` of a file whose attributes cannot be had, for READDIR with `rdattr_error`
/// (RFC 8881 18.23.3).
///
/// # Errors
/// `Full`.
pub fn encode_error(status: Nfsstat4, enc: &mut Enc<'_>) -> Result<()> {
    enc.put(&Bitmap4::of(&[bit::RDATTR_ERROR]))?;
    enc.u32(4)?;
    enc.put(&status)
}

/// Appends an `attrlist4`.
///
/// # Errors
/// `Full`.
pub fn encode_values(mask: &Bitmap4, v: &Values, enc: &mut Enc<'_>) -> Result<()> {
    let len_at = enc.pos();
    enc.u32(0)?;
    for bit in mask.iter() {
        put(bit, v, enc)?;
    }
    let len = u32::try_from(enc.pos() - len_at - 4).map_err(|_| XdrError::TooLong)?;
    enc.patch_u32(len_at, len)
}

/// Whether the values a client sent are those of the file (RFC 8881 18.31, 18.15), byte by byte: an ACL is the same only
/// if it is written as this server writes it.
///
/// # Errors
/// `ATTRNOTSUPP`; `INVAL` for attributes that cannot be compared.
pub fn same(fattr: &super::types::Fattr4<'_>, v: &Values) -> core::result::Result<bool, Nfsstat4> {
    comparable(&fattr.mask, v.minor)?;
    if !fattr.mask.and(&ACLS).is_empty() && v.acl.is_none() {
        return Err(Nfsstat4::Attrnotsupp);
    }
    let mut ours = Vec::with_capacity(fattr.values.0.len() + 8);
    let mut enc = Enc::new(&mut ours, crate::nfs4::attr::COMPARED_MAX);
    encode_values(&fattr.mask, v, &mut enc).map_err(|_| Nfsstat4::Inval)?;
    Ok(ours.get(4..) == Some(fattr.values.0))
}

/// Longest list of values that is compared, in bytes.
const COMPARED_MAX: usize = 1 << 20;

/// Attributes that can only be set cannot be asked for (RFC 8881 5.5, RFC 8275).
///
/// # Errors
/// `INVAL`.
pub fn askable(mask: &Bitmap4, minor: u32) -> core::result::Result<(), Nfsstat4> {
    if mask.and(&settable(minor)).within(&readable(minor)) {
        Ok(())
    } else {
        Err(Nfsstat4::Inval)
    }
}

/// # Errors
/// As [`same`].
pub fn comparable(mask: &Bitmap4, minor: u32) -> core::result::Result<(), Nfsstat4> {
    askable(mask, minor)?;
    if mask.has(bit::RDATTR_ERROR) {
        return Err(Nfsstat4::Inval);
    }
    if mask.within(&readable(minor)) {
        Ok(())
    } else {
        Err(Nfsstat4::Attrnotsupp)
    }
}

#[cfg(test)]
mod tests;
