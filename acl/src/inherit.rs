//! What a new file takes from the default ACL of its directory (`acl(5)` OBJECT CREATION AND DEFAULT ACLs).
//!
//! The server leaves inheritance to the kernel. This is the model of what the kernel does then: `acl/tests` compares the
//! two, so that a kernel which inherits otherwise is noticed.

use crate::check::Kind;
use crate::mode;
use crate::posix::{Acl, Perm, Tag};

const PERMISSION_BITS: u32 = 0o777;

/// Mode and ACLs a new file starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its mode: bits besides permissions as asked for.
    pub mode: u32,
    /// Its access ACL, unless the mode says it all.
    pub access: Option<Acl>,
    /// Its own default ACL; only a directory gets one.
    pub default: Option<Acl>,
}

/// The start of a file of this kind created with `mode` under `umask` in a directory with this default ACL
/// (`posix_acl_create`).
///
/// With a default ACL the umask is not applied: the mode asked for limits the inherited rights instead. A symbolic link
/// inherits nothing and keeps the mode it came with.
pub fn create(mode: u32, umask: u32, parent_default: Option<&Acl>, kind: Kind) -> Created {
    if kind == Kind::Symlink {
        return Created {
            mode,
            access: None,
            default: None,
        };
    }
    let Some(inherited) = parent_default else {
        return Created {
            mode: mode & !(umask & PERMISSION_BITS),
            access: None,
            default: None,
        };
    };
    let (mode, access) = mode::set_access(mode, limit(inherited, mode));
    let default = (kind == Kind::Directory).then(|| inherited.clone());
    Created {
        mode,
        access,
        default,
    }
}

/// The inherited list without the rights `mode` does not ask for (`posix_acl_create_masq`): the group bits limit the
/// mask and, only where there is none, the owning group.
fn limit(acl: &Acl, mode: u32) -> Acl {
    let has_mask = acl.mask().is_some();
    acl.map(|entry| match entry.tag {
        Tag::UserObj => entry.perm & Perm::from_low_bits(mode >> 6),
        Tag::GroupObj if !has_mask => entry.perm & Perm::from_low_bits(mode >> 3),
        Tag::Mask => entry.perm & Perm::from_low_bits(mode >> 3),
        Tag::Other => entry.perm & Perm::from_low_bits(mode),
        Tag::User(_) | Tag::GroupObj | Tag::Group(_) => entry.perm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::any_acl;
    use proptest::prelude::*;

    #[test]
    fn without_default_acl_the_umask_applies() {
        let created = create(0o102_666, 0o027, None, Kind::Regular);
        assert_eq!(
            created,
            Created {
                mode: 0o102_640,
                access: None,
                default: None
            }
        );
    }

    #[test]
    fn a_minimal_default_acl_leaves_no_access_acl() {
        let default = mode::to_acl(0o750);
        let file = create(0o666, 0o077, Some(&default), Kind::Regular);
        assert_eq!(
            file,
            Created {
                mode: 0o640,
                access: None,
                default: None
            }
        );
        let directory = create(0o777, 0o077, Some(&default), Kind::Directory);
        assert_eq!(
            directory,
            Created {
                mode: 0o750,
                access: None,
                default: Some(default)
            }
        );
    }

    #[test]
    fn symlinks_inherit_nothing() {
        let default = mode::to_acl(0o700);
        let link = create(0o777, 0o022, Some(&default), Kind::Symlink);
        assert_eq!(
            link,
            Created {
                mode: 0o777,
                access: None,
                default: None
            }
        );
    }

    proptest! {
        /// A new file has no right that was not both asked for and in the default ACL; the umask is not looked at.
        #[test]
        fn inherited_is_the_intersection(default in any_acl(), asked in 0u32..0o1000, umask in 0u32..0o1000) {
            let created = create(asked, umask, Some(&default), Kind::Regular);
            prop_assert_eq!(created.mode, asked & mode::bits(&default));
            prop_assert_eq!(create(asked, 0, Some(&default), Kind::Regular), created.clone());
            prop_assert_eq!(created.access.is_none(), mode::is_equivalent(&default));
            if let Some(access) = created.access {
                prop_assert_eq!(mode::bits(&access), created.mode);
            }
        }

        /// A directory hands its default ACL down unchanged.
        #[test]
        fn default_acl_is_handed_down(default in any_acl(), asked in 0u32..0o1000) {
            let created = create(asked, 0, Some(&default), Kind::Directory);
            prop_assert_eq!(created.default, Some(default));
        }
    }
}
