//! The POSIX.1e ACL: entries, their order, and what makes a list valid.
//!
//! An [`Acl`] can only be built valid, and nothing can change it afterwards except into another valid one, so the
//! rest of the crate never meets a list without an owner, a group or an other entry.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use crate::live::Counted;

/// Most entries an ACL can have: the kernel's largest xattr (`XATTR_SIZE_MAX`, 65,536 bytes) less the four byte
/// header, in entries of eight bytes.
pub const MAX_ENTRIES: usize = (65_536 - 4) / 8;

/// The id that names nobody (`ACL_UNDEFINED_ID`); no USER or GROUP entry may carry it.
pub const UNDEFINED_ID: u32 = u32::MAX;

/// A set of the rights read, write and execute; on a directory execute means search.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Perm(u8);

impl Perm {
    /// No right.
    pub const NONE: Perm = Perm(0);
    /// Execute a file, search a directory.
    pub const EXECUTE: Perm = Perm(1);
    /// Write.
    pub const WRITE: Perm = Perm(2);
    /// Read.
    pub const READ: Perm = Perm(4);
    /// All three rights.
    pub const ALL: Perm = Perm(7);

    /// The rights in `bits` (4 read, 2 write, 1 execute), or `None` when any other bit is set.
    pub fn from_bits(bits: u32) -> Option<Perm> {
        (bits <= 7).then_some(Perm((bits & 7) as u8))
    }

    /// The rights in the three lowest bits of `bits`, whatever stands above them: one class of a shifted mode.
    pub fn from_low_bits(bits: u32) -> Perm {
        Perm((bits & 7) as u8)
    }

    /// The rights as bits: 4 read, 2 write, 1 execute.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// Whether every right in `want` is here.
    pub fn contains(self, want: Perm) -> bool {
        self.0 & want.0 == want.0
    }
}

impl BitAnd for Perm {
    type Output = Perm;
    fn bitand(self, other: Perm) -> Perm {
        Perm(self.0 & other.0)
    }
}

impl BitOr for Perm {
    type Output = Perm;
    fn bitor(self, other: Perm) -> Perm {
        Perm(self.0 | other.0)
    }
}

impl fmt::Debug for Perm {
    /// As `ls` and `getfacl` print it: `r-x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |right, letter| if self.contains(right) { letter } else { "-" };
        f.write_str(letter(Perm::READ, "r"))?;
        f.write_str(letter(Perm::WRITE, "w"))?;
        f.write_str(letter(Perm::EXECUTE, "x"))
    }
}

/// Whom an entry is about. The order of the variants is the order the kernel wants the entries in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// The owner of the file (`ACL_USER_OBJ`).
    UserObj,
    /// The user with this uid (`ACL_USER`).
    User(u32),
    /// The owning group of the file (`ACL_GROUP_OBJ`).
    GroupObj,
    /// The group with this gid (`ACL_GROUP`).
    Group(u32),
    /// The upper bound of every USER, GROUP_OBJ and GROUP entry (`ACL_MASK`).
    Mask,
    /// Everybody else (`ACL_OTHER`).
    Other,
}

/// One line of an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Whom it is about.
    pub tag: Tag,
    /// The rights it grants, before the mask.
    pub perm: Perm,
}

/// Why a list of entries is not an ACL. The kernel answers EINVAL to each of these; positions count from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// More than [`MAX_ENTRIES`].
    #[error("{0} entries, the kernel takes at most {MAX_ENTRIES}")]
    TooMany(usize),
    /// The entry is out of order, or a second one where only one may be.
    #[error("entry {0} is repeated or out of order")]
    Order(usize),
    /// A USER or GROUP entry carries [`UNDEFINED_ID`].
    #[error("entry {0} names no id")]
    UndefinedId(usize),
    /// There are USER or GROUP entries and no MASK.
    #[error("named entries without a mask")]
    MaskMissing,
    /// USER_OBJ, GROUP_OBJ or OTHER is missing.
    #[error("the owner, group or other entry is missing")]
    Incomplete,
}

/// A valid ACL, access or default.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Acl {
    /// USER_OBJ, USER*, GROUP_OBJ, GROUP*, at most one MASK, OTHER; MASK is there if any USER or GROUP is.
    entries: Box<[Entry]>,
    counted: Counted,
}

impl Acl {
    /// The ACL of these entries, in this order, if it is valid.
    ///
    /// The rule is `posix_acl_valid` of Linux: classes in the order of [`Tag`], exactly one USER_OBJ, GROUP_OBJ and
    /// OTHER, at most one MASK, which must be there when a USER or GROUP is. Within a class the kernel asks for no
    /// order and takes an id twice; the first entry of a user decides.
    pub fn new(entries: Vec<Entry>) -> Result<Acl, Invalid> {
        validate(&entries)?;
        Ok(Acl {
            entries: entries.into_boxed_slice(),
            counted: Counted::new(),
        })
    }

    /// Like [`Acl::new`], after sorting by class and id, for sources that promise no order (NFSACL clients).
    pub fn sorted(mut entries: Vec<Entry>) -> Result<Acl, Invalid> {
        if entries.len() > MAX_ENTRIES {
            return Err(Invalid::TooMany(entries.len()));
        }
        entries.sort_by_key(|entry| entry.tag);
        Acl::new(entries)
    }

    /// The entries, in the kernel's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The MASK entry's rights, if there is one.
    pub fn mask(&self) -> Option<Perm> {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.tag == Tag::Mask)
            .map(|entry| entry.perm)
    }

    /// The same list with other rights: tags, and with them validity, stay.
    pub(crate) fn map(&self, mut perm: impl FnMut(Entry) -> Perm) -> Acl {
        Acl {
            entries: self
                .entries
                .iter()
                .map(|&entry| Entry {
                    tag: entry.tag,
                    perm: perm(entry),
                })
                .collect(),
            counted: Counted::new(),
        }
    }
}

impl fmt::Debug for Acl {
    /// In the short text form of `acl(5)`: `u::rw-,u:7:r--,g::r--,m::r--,o::---`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Entry { tag, perm }) in self.entries.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match tag {
                Tag::UserObj => write!(f, "{comma}u::{perm:?}"),
                Tag::User(uid) => write!(f, "{comma}u:{uid}:{perm:?}"),
                Tag::GroupObj => write!(f, "{comma}g::{perm:?}"),
                Tag::Group(gid) => write!(f, "{comma}g:{gid}:{perm:?}"),
                Tag::Mask => write!(f, "{comma}m::{perm:?}"),
                Tag::Other => write!(f, "{comma}o::{perm:?}"),
            }?;
        }
        Ok(())
    }
}

/// The place reached in the fixed order of classes.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    UserObj,
    UserOrGroupObj,
    GroupMaskOrOther,
    Other,
    Nothing,
}

fn validate(entries: &[Entry]) -> Result<(), Invalid> {
    if entries.len() > MAX_ENTRIES {
        return Err(Invalid::TooMany(entries.len()));
    }
    let mut expect = Expect::UserObj;
    let mut named = false;
    for (index, entry) in entries.iter().enumerate() {
        expect = match (entry.tag, expect) {
            (Tag::User(UNDEFINED_ID) | Tag::Group(UNDEFINED_ID), _) => {
                return Err(Invalid::UndefinedId(index));
            }
            (Tag::UserObj, Expect::UserObj) => Expect::UserOrGroupObj,
            (Tag::GroupObj, Expect::UserOrGroupObj) => Expect::GroupMaskOrOther,
            (Tag::User(_), Expect::UserOrGroupObj) | (Tag::Group(_), Expect::GroupMaskOrOther) => {
                named = true;
                expect
            }
            (Tag::Mask, Expect::GroupMaskOrOther) => Expect::Other,
            (Tag::Other, Expect::GroupMaskOrOther) if named => return Err(Invalid::MaskMissing),
            (Tag::Other, Expect::GroupMaskOrOther | Expect::Other) => Expect::Nothing,
            _ => return Err(Invalid::Order(index)),
        };
    }
    if expect == Expect::Nothing {
        Ok(())
    } else {
        Err(Invalid::Incomplete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::{any_acl, any_entry};
    use proptest::prelude::*;

    fn list(tags: &[Tag]) -> Vec<Entry> {
        tags.iter()
            .map(|&tag| Entry {
                tag,
                perm: Perm::READ,
            })
            .collect()
    }

    #[test]
    fn accepts_minimal_extended_and_bare_mask() {
        use Tag::*;
        for tags in [
            &[UserObj, GroupObj, Other][..],
            &[UserObj, GroupObj, Mask, Other],
            &[
                UserObj,
                User(9),
                User(3),
                GroupObj,
                Group(8),
                Group(1),
                Mask,
                Other,
            ],
            &[UserObj, User(3), User(3), GroupObj, Mask, Other],
        ] {
            assert!(Acl::new(list(tags)).is_ok(), "{tags:?}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        use Tag::*;
        for (tags, why) in [
            (&[][..], Invalid::Incomplete),
            (&[UserObj, GroupObj], Invalid::Incomplete),
            (&[UserObj, GroupObj, Mask], Invalid::Incomplete),
            (&[GroupObj, UserObj, Other], Invalid::Order(0)),
            (&[UserObj, Other], Invalid::Order(1)),
            (&[UserObj, UserObj, GroupObj, Other], Invalid::Order(1)),
            (
                &[UserObj, GroupObj, User(1), Mask, Other],
                Invalid::Order(2),
            ),
            (&[UserObj, GroupObj, Mask, Mask, Other], Invalid::Order(3)),
            (
                &[UserObj, GroupObj, Mask, Group(1), Other],
                Invalid::Order(3),
            ),
            (&[UserObj, GroupObj, Other, Other], Invalid::Order(3)),
            (&[UserObj, User(1), GroupObj, Other], Invalid::MaskMissing),
            (&[UserObj, GroupObj, Group(1), Other], Invalid::MaskMissing),
            (
                &[UserObj, User(UNDEFINED_ID), GroupObj, Mask, Other],
                Invalid::UndefinedId(1),
            ),
        ] {
            assert_eq!(Acl::new(list(tags)), Err(why), "{tags:?}");
        }
    }

    #[test]
    fn entry_count_is_bounded() {
        let mut tags = vec![Tag::UserObj];
        tags.extend((0..MAX_ENTRIES as u32 - 4).map(Tag::User));
        tags.extend([Tag::GroupObj, Tag::Mask, Tag::Other]);
        assert!(Acl::new(list(&tags)).is_ok());
        tags.insert(1, Tag::User(77));
        assert_eq!(
            Acl::new(list(&tags)),
            Err(Invalid::TooMany(MAX_ENTRIES + 1))
        );
        assert_eq!(
            Acl::sorted(list(&tags)),
            Err(Invalid::TooMany(MAX_ENTRIES + 1))
        );
    }

    #[test]
    fn debug_is_the_short_text_form() {
        let acl = Acl::new(list(&[
            Tag::UserObj,
            Tag::User(7),
            Tag::GroupObj,
            Tag::Mask,
            Tag::Other,
        ]));
        assert_eq!(
            format!("{:?}", acl.unwrap()),
            "u::r--,u:7:r--,g::r--,m::r--,o::r--"
        );
    }

    proptest! {
        /// Any order of a valid list sorts back to a valid one with the same entries.
        #[test]
        fn sorting_repairs_order(acl in any_acl(), seed in any::<u64>()) {
            let mut entries = acl.entries().to_vec();
            let turn = (seed as usize) % entries.len();
            entries.rotate_left(turn);
            let sorted = Acl::sorted(entries).unwrap();
            let mut expected = acl.entries().to_vec();
            expected.sort_by_key(|entry| entry.tag);
            let mut found = sorted.entries().to_vec();
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
            prop_assert!(sorted.entries().is_sorted_by_key(|entry| entry.tag));
        }

        /// Whatever is accepted has exactly one of each base entry and the mask it needs.
        #[test]
        fn accepted_means_complete(entries in proptest::collection::vec(any_entry(), 0..8)) {
            if let Ok(acl) = Acl::sorted(entries) {
                let count = |tag| acl.entries().iter().filter(|entry| entry.tag == tag).count();
                prop_assert_eq!((count(Tag::UserObj), count(Tag::GroupObj), count(Tag::Other)), (1, 1, 1));
                let named = acl.entries().iter().any(|entry| matches!(entry.tag, Tag::User(_) | Tag::Group(_)));
                prop_assert!(count(Tag::Mask) <= 1);
                prop_assert!(!named || acl.mask().is_some());
            }
        }
    }
}
