//! The types of NFSACL, and how ACLs look in them.
//!
//! A list differs from a POSIX ACL in four ways: it is in any order; it always has a mask, one that repeats the owning
//! group where the ACL has none, so four entries at least; owner and group carry their ids, mask and other 0; entries of
//! a default ACL are marked.

use acl::posix::{Acl, Entry, MAX_ENTRIES, Perm, Tag};
use vfs::Attr;

use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{NfsFh3, PostOpAttr};
use crate::xdr::{
    Dec, Decode, Enc, Encode, Res, Result, XdrError, xdr_block, xdr_enum, xdr_struct,
};

/// Program number (`linux/nfsacl.h`).
pub const NFS_ACL_PROGRAM: u32 = 100_227;
/// The version beside NFS version 2.
pub const NFSACL_V2: u32 = 2;
/// The version beside NFS version 3.
pub const NFSACL_V3: u32 = 3;

xdr_enum! {
    /// Procedures of version 3.
    pub enum AclProc3 {
        /// Does nothing.
        Null = 0 "ACLPROC3_NULL",
        /// [`Getacl3Args`] -> [`Getacl3Res`].
        Getacl = 1 "ACLPROC3_GETACL",
        /// [`Setacl3Args`] -> [`Setacl3Res`].
        Setacl = 2 "ACLPROC3_SETACL",
    }
}

/// Bits of `mask`: what is asked for, or sent.
pub mod mask {
    /// The access ACL.
    pub const NA_ACL: u32 = 0x1;
    /// How many entries it has.
    pub const NA_ACLCNT: u32 = 0x2;
    /// The default ACL.
    pub const NA_DFACL: u32 = 0x4;
    /// How many entries it has.
    pub const NA_DFACLCNT: u32 = 0x8;
    /// All of them.
    pub const ALL: u32 = 0xf;
}

/// In the type of an entry: of a default ACL.
pub const NA_DEFAULT: u32 = 0x1000;

xdr_block! {
    /// `aclent`: one entry.
    pub struct Aclent {
        /// USER_OBJ 1, USER 2, GROUP_OBJ 4, GROUP 8, CLASS_OBJ (the mask) 0x10, OTHER_OBJ 0x20; and [`NA_DEFAULT`].
        pub kind: u32,
        /// User or group.
        pub id: u32,
        /// Rights: 4 read, 2 write, 1 execute.
        pub perm: u32,
    }
}

/// One ACL: `aclcnt` and `aclent<>`. At most [`MAX_ENTRIES`] entries, which is what the kernel's largest attribute
/// (64 KiB) holds at 8 bytes each; longer ones do not decode. The Linux client takes and sends at most 1,024.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclList {
    /// How many entries the ACL has.
    pub count: u32,
    /// They, or none where only the count was asked for.
    pub entries: Vec<Aclent>,
}

impl Decode<'_> for AclList {
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        let count = dec.u32()?;
        if count as usize > MAX_ENTRIES {
            return Err(XdrError::TooLong);
        }
        // No more than the bytes that are there can hold.
        let len = dec.array_len(MAX_ENTRIES, 12)?;
        let entries = (0..len).map(|_| dec.get()).collect::<Result<_>>()?;
        Ok(AclList { count, entries })
    }
}

impl Encode for AclList {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        let len = u32::try_from(self.entries.len()).map_err(|_| XdrError::TooLong)?;
        enc.u32(self.count)?;
        enc.u32(len)?;
        self.entries.iter().try_for_each(|entry| enc.put(entry))
    }
}

#[cfg(any(test, feature = "samples"))]
impl crate::xdr::Sample<'_> for AclList {
    fn sample(tape: &mut crate::xdr::Tape<'_>) -> Self {
        AclList {
            count: u32::try_from(tape.below(MAX_ENTRIES + 1)).unwrap_or(0),
            entries: (0..tape.below(6)).map(|_| Aclent::sample(tape)).collect(),
        }
    }
}

xdr_struct! {
    /// `GETACL3args`.
    #[derive(Copy)]
    pub struct Getacl3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
        /// Bits of [`mask`]; others are INVAL.
        pub mask: u32,
    }

    /// `GETACL3resok`.
    pub struct Getacl3ResOk {
        /// The object's attributes.
        pub obj_attributes: PostOpAttr,
        /// Bits of [`mask`]: what follows.
        pub mask: u32,
        /// The access ACL.
        pub access: AclList,
        /// The default ACL.
        pub default: AclList,
    }

    /// `SETACL3args`.
    pub struct Setacl3Args<'a> {
        /// The object.
        pub object: NfsFh3<'a>,
        /// Bits of [`mask`]: what is to be set; others are INVAL.
        pub mask: u32,
        /// The access ACL.
        pub access: AclList,
        /// The default ACL; without entries, there shall be none.
        pub default: AclList,
    }
}

/// `GETACL3res`.
pub type Getacl3Res = Res<Nfsstat3, Getacl3ResOk, PostOpAttr>;
/// `SETACL3res`. Both arms are attributes after the operation.
pub type Setacl3Res = Res<Nfsstat3, PostOpAttr, PostOpAttr>;

impl Aclent {
    fn new(entry: &Entry, attr: &Attr, flag: u32) -> Aclent {
        let (kind, id) = match entry.tag {
            Tag::UserObj => (0x01, attr.uid),
            Tag::User(uid) => (0x02, uid),
            Tag::GroupObj => (0x04, attr.gid),
            Tag::Group(gid) => (0x08, gid),
            // Solaris depends on the 0.
            Tag::Mask => (0x10, 0),
            Tag::Other => (0x20, 0),
        };
        Aclent {
            kind: kind | flag,
            id,
            perm: entry.perm.bits(),
        }
    }

    fn entry(&self) -> Option<Entry> {
        let tag = match self.kind & !NA_DEFAULT {
            0x01 => Tag::UserObj,
            0x02 => Tag::User(self.id),
            0x04 => Tag::GroupObj,
            0x08 => Tag::Group(self.id),
            0x10 => Tag::Mask,
            0x20 => Tag::Other,
            _ => return None,
        };
        // Solaris sometimes sets more bits in the mask.
        let perm = match tag {
            Tag::Mask => Some(Perm::from_low_bits(self.perm)),
            _ => Perm::from_bits(self.perm),
        };
        Some(Entry { tag, perm: perm? })
    }
}

impl AclList {
    /// The list of an ACL of a file that has `attr`; without the entries where only their number is asked for.
    pub fn of(acl: &Acl, attr: &Attr, which: vfs::Which, entries: bool) -> AclList {
        let flag = match which {
            vfs::Which::Access => 0,
            vfs::Which::Default => NA_DEFAULT,
        };
        let mut list: Vec<Aclent> = Vec::with_capacity(acl.entries().len() + 1);
        for entry in acl.entries() {
            list.push(Aclent::new(entry, attr, flag));
            // Without named entries the owning group is the last before the mask.
            if entry.tag == Tag::GroupObj && acl.entries().len() == 3 {
                let mask = Entry {
                    tag: Tag::Mask,
                    perm: entry.perm,
                };
                list.push(Aclent::new(&mask, attr, flag));
            }
        }
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        if !entries {
            list.clear();
        }
        AclList {
            count,
            entries: list,
        }
    }

    /// What the list wants, if it was sent: no entries remove the ACL.
    ///
    /// # Errors
    /// `INVAL` for entries that are no ACL, or not as many as announced.
    pub fn change(&self, sent: bool) -> std::result::Result<vfs::AclChange, Nfsstat3> {
        if !sent {
            return Ok(vfs::AclChange::NotSent);
        }
        if self.count as usize != self.entries.len() {
            return Err(Nfsstat3::Inval);
        }
        if self.entries.is_empty() {
            return Ok(vfs::AclChange::Remove);
        }
        let entries: Option<Vec<Entry>> = self.entries.iter().map(Aclent::entry).collect();
        let entries = without_repeated_mask(entries.ok_or(Nfsstat3::Inval)?);
        let acl = Acl::sorted(entries).map_err(|_| Nfsstat3::Inval)?;
        Ok(vfs::AclChange::Set(acl))
    }
}

/// Of four entries without a named one, takes out a mask that says what the owning group says: it is there because a
/// list must have one.
fn without_repeated_mask(mut entries: Vec<Entry>) -> Vec<Entry> {
    let perm = |tag| entries.iter().find(|e| e.tag == tag).map(|e| e.perm);
    let mask = perm(Tag::Mask);
    if entries.len() == 4 && mask.is_some() && mask == perm(Tag::GroupObj) {
        entries.retain(|entry| entry.tag != Tag::Mask);
    }
    entries
}

#[cfg(test)]
mod tests;
