//! Permission bits and access ACL of one file: each change of the one changes the other.
//!
//! The group bits of a mode are the MASK entry where there is one, the GROUP_OBJ entry where there is none.
//!
//! [`set_access`] and [`is_equivalent`] say what the kernel makes of an ACL it is handed. The server does not ask them: they are
//! the model `acl/tests` compares with the kernel.

use crate::posix::{Acl, Entry, Perm, Tag};

const PERMISSION_BITS: u32 = 0o777;

/// The ACL that says what the nine permission bits of `mode` say (`posix_acl_from_mode`).
pub fn to_acl(mode: u32) -> Acl {
    let minimal = vec![
        Entry {
            tag: Tag::UserObj,
            perm: Perm::from_low_bits(mode >> 6),
        },
        Entry {
            tag: Tag::GroupObj,
            perm: Perm::from_low_bits(mode >> 3),
        },
        Entry {
            tag: Tag::Other,
            perm: Perm::from_low_bits(mode),
        },
    ];
    Acl::new(minimal).expect("three base entries in order are valid")
}

/// The nine permission bits a file with this access ACL shows (`posix_acl_equiv_mode`).
pub fn bits(acl: &Acl) -> u32 {
    let mut mode = 0;
    for entry in acl.entries() {
        match entry.tag {
            Tag::UserObj => mode |= entry.perm.bits() << 6,
            Tag::GroupObj => mode |= entry.perm.bits() << 3,
            Tag::Mask => mode = mode & !0o070 | entry.perm.bits() << 3,
            Tag::Other => mode |= entry.perm.bits(),
            Tag::User(_) | Tag::Group(_) => {}
        }
    }
    mode
}

/// Whether the permission bits alone say all that `acl` says: it has the three base entries and no more.
pub fn is_equivalent(acl: &Acl) -> bool {
    acl.entries()
        .iter()
        .all(|entry| matches!(entry.tag, Tag::UserObj | Tag::GroupObj | Tag::Other))
}

/// What a file of `mode` becomes when `acl` is set as its access ACL (`posix_acl_update_mode`): the new mode, other
/// bits than permissions kept, and the ACL, unless the mode says it all.
///
/// The kernel also clears S_ISGID when the caller is neither in the owning group nor has CAP_FSETID.
pub fn set_access(mode: u32, acl: Acl) -> (u32, Option<Acl>) {
    let mode = mode & !PERMISSION_BITS | bits(&acl);
    let kept = !is_equivalent(&acl);
    (mode, kept.then_some(acl))
}

/// The access ACL after `chmod(2)` to `mode` (`posix_acl_chmod`): owner and other take their bits, the group bits go to
/// the mask and, only where there is none, to the owning group.
pub fn chmod(acl: &Acl, mode: u32) -> Acl {
    let has_mask = acl.mask().is_some();
    acl.map(|entry| match entry.tag {
        Tag::UserObj => Perm::from_low_bits(mode >> 6),
        Tag::GroupObj if !has_mask => Perm::from_low_bits(mode >> 3),
        Tag::Mask => Perm::from_low_bits(mode >> 3),
        Tag::Other => Perm::from_low_bits(mode),
        Tag::User(_) | Tag::GroupObj | Tag::Group(_) => entry.perm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::any_acl;
    use proptest::prelude::*;

    #[test]
    fn mode_becomes_three_entries() {
        assert_eq!(format!("{:?}", to_acl(0o104_751)), "u::rwx,g::r-x,o::--x");
    }

    #[test]
    fn setting_an_equivalent_acl_leaves_only_the_mode() {
        assert_eq!(set_access(0o102_000, to_acl(0o640)), (0o102_640, None));
    }

    proptest! {
        #[test]
        fn mode_round_trip(mode in 0u32..0o1000) {
            prop_assert_eq!(bits(&to_acl(mode)), mode);
            prop_assert!(is_equivalent(&to_acl(mode)));
        }

        /// chmod shows the mode it was given, is the last word, and touches no named entry.
        #[test]
        fn chmod_laws(acl in any_acl(), first in 0u32..0o1000, second in 0u32..0o1000) {
            let after = chmod(&acl, first);
            prop_assert_eq!(bits(&after), first);
            prop_assert_eq!(chmod(&after, second), chmod(&acl, second));
            prop_assert_eq!(chmod(&acl, bits(&acl)), acl.clone());
            for (old, new) in acl.entries().iter().zip(after.entries()) {
                prop_assert_eq!(old.tag, new.tag);
                if matches!(old.tag, Tag::User(_) | Tag::Group(_)) {
                    prop_assert_eq!(old.perm, new.perm);
                }
            }
        }

        /// A kept ACL and the mode beside it never disagree.
        #[test]
        fn set_access_agrees(acl in any_acl(), mode in 0u32..0o10_000) {
            let (after, kept) = set_access(mode, acl.clone());
            prop_assert_eq!(after & !0o777, mode & !0o777);
            prop_assert_eq!(after & 0o777, bits(&acl));
            prop_assert_eq!(kept.is_none(), is_equivalent(&acl));
        }
    }
}
