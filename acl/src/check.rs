//! Who may do what: the kernel's `generic_permission` as a function of plain data.
//!
//! Three turns of Linux that the draft does not have, each held by `tests/kernel.rs`: the owner is judged by the mode
//! alone; an ACL is not looked at while the group bits of the mode (the mask) are all clear, so a named user or a
//! member of a named group then counts as other; and rights wanted together must come from one group entry, so `rw`
//! can be refused where `r` and `w` are each granted.

use crate::posix::{Acl, Perm, Tag};

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const GROUP_BITS: u32 = 0o070;
const EXECUTE_BITS: u32 = 0o111;

/// What sort of file is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A device, FIFO or socket.
    Other,
}

impl Kind {
    /// The kind in the file type bits of an `st_mode` (`inode(7)`).
    pub fn of_mode(st_mode: u32) -> Kind {
        match st_mode & S_IFMT {
            S_IFDIR => Kind::Directory,
            S_IFREG => Kind::Regular,
            S_IFLNK => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

/// Who asks: the fsuid, fsgid and supplementary groups of `credentials(7)`, after squashing.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// User id; 0 overrides as CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH do.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids in ascending order; in another order some may be missed.
    pub groups: &'a [u32],
}

impl Caller<'_> {
    /// Whether `gid` is the primary group or one of the supplementary ones.
    pub fn in_group(&self, gid: u32) -> bool {
        debug_assert!(
            self.groups.is_sorted(),
            "groups of a caller are kept in ascending order"
        );
        self.gid == gid || self.groups.binary_search(&gid).is_ok()
    }
}

/// What of a file decides about access to it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Permission bits; others are ignored, the group bits being the mask if there is an ACL.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// The access ACL, `None` if the file has none or its file system knows none.
    pub acl: Option<&'a Acl>,
    /// Kind of file.
    pub kind: Kind,
}

/// The rights a caller has on a file, each asked alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// May read the file or list the directory.
    pub read: bool,
    /// May write the file or change the directory.
    pub write: bool,
    /// May execute the file or search the directory.
    pub execute: bool,
}

/// What `who` may do, right by right, as ACCESS of NFS asks it; equals three calls of [`permits`].
pub fn permitted(
    mode: u32,
    uid: u32,
    gid: u32,
    acl: Option<&Acl>,
    who: &Caller<'_>,
    kind: Kind,
) -> Access {
    let node = Node {
        mode,
        uid,
        gid,
        acl,
        kind,
    };
    Access {
        read: permits(&node, who, Perm::READ),
        write: permits(&node, who, Perm::WRITE),
        execute: permits(&node, who, Perm::EXECUTE),
    }
}

/// Whether `who` may do all of `want` at once, as `open(2)` and `access(2)` decide it. An empty `want` is granted.
///
/// This is `inode_permission` without the rules that are not the inode's own: read-only and noexec mounts, immutable
/// files, LSMs.
pub fn permits(node: &Node<'_>, who: &Caller<'_>, want: Perm) -> bool {
    by_rights(node, who, want) || by_override(node, who, want)
}

/// `acl_permission_check`: the first class that fits decides.
fn by_rights(node: &Node<'_>, who: &Caller<'_>, want: Perm) -> bool {
    if node.uid == who.uid {
        return Perm::from_low_bits(node.mode >> 6).contains(want);
    }
    match node.acl {
        Some(acl) if node.mode & GROUP_BITS != 0 => by_acl(acl, node.gid, who, want),
        _ if who.in_group(node.gid) => Perm::from_low_bits(node.mode >> 3).contains(want),
        _ => Perm::from_low_bits(node.mode).contains(want),
    }
}

/// `posix_acl_permission`, for a caller who is not the owner.
fn by_acl(acl: &Acl, owning_group: u32, who: &Caller<'_>, want: Perm) -> bool {
    let masked = |perm: Perm| (perm & acl.mask().unwrap_or(Perm::ALL)).contains(want);
    let mut member = false;
    for entry in acl.entries() {
        match entry.tag {
            Tag::User(uid) if uid == who.uid => return masked(entry.perm),
            Tag::GroupObj if who.in_group(owning_group) => member = true,
            Tag::Group(gid) if who.in_group(gid) => member = true,
            Tag::Other => return !member && entry.perm.contains(want),
            _ => continue,
        }
        if entry.perm.contains(want) {
            return masked(entry.perm);
        }
    }
    false
}

/// The capability half of `generic_permission`: uid 0 passes, but executes nothing that nobody may execute.
fn by_override(node: &Node<'_>, who: &Caller<'_>, want: Perm) -> bool {
    who.uid == 0
        && (node.kind == Kind::Directory
            || !want.contains(Perm::EXECUTE)
            || node.mode & EXECUTE_BITS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::{any_acl, any_perm};
    use crate::mode;
    use crate::posix::Entry;
    use proptest::prelude::*;

    fn rights(mode: u32, acl: Option<&Acl>, who: &Caller<'_>) -> u32 {
        let access = permitted(mode, 10, 20, acl, who, Kind::Regular);
        u32::from(access.read) * 4 + u32::from(access.write) * 2 + u32::from(access.execute)
    }

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller<'_> {
        Caller { uid, gid, groups }
    }

    fn acl(text: &[(Tag, u32)]) -> Acl {
        let entry = |&(tag, bits)| Entry {
            tag,
            perm: Perm::from_low_bits(bits),
        };
        Acl::new(text.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn mode_classes_exclude_each_other() {
        assert_eq!(
            rights(0o077, None, &caller(10, 20, &[])),
            0,
            "the owner gets the owner's bits only"
        );
        assert_eq!(
            rights(0o707, None, &caller(11, 20, &[])),
            0,
            "so does the group"
        );
        assert_eq!(
            rights(0o750, None, &caller(11, 21, &[5, 20, 30])),
            5,
            "supplementary groups count"
        );
        assert_eq!(rights(0o751, None, &caller(11, 21, &[])), 1);
        assert_eq!(
            rights(0o4777, None, &caller(11, 21, &[])),
            7,
            "set-id bits are no rights"
        );
    }

    #[test]
    fn root_overrides_all_but_execute_of_the_unexecutable() {
        let root = caller(0, 0, &[]);
        assert_eq!(rights(0o000, None, &root), 6);
        assert_eq!(rights(0o010, None, &root), 7);
        assert!(permitted(0, 10, 20, None, &root, Kind::Directory).execute);
        assert!(!permitted(0, 10, 20, None, &root, Kind::Other).execute);
        let node = Node {
            mode: 0,
            uid: 10,
            gid: 20,
            acl: None,
            kind: Kind::Regular,
        };
        assert!(
            !permits(&node, &root, Perm::READ | Perm::EXECUTE),
            "one right refused refuses the whole"
        );
    }

    #[test]
    fn named_user_is_masked_and_final() {
        use Tag::*;
        let acl = acl(&[
            (UserObj, 7),
            (User(11), 6),
            (GroupObj, 7),
            (Mask, 4),
            (Other, 7),
        ]);
        assert_eq!(rights(0o747, Some(&acl), &caller(11, 20, &[])), 4);
        assert_eq!(
            rights(0o747, Some(&acl), &caller(12, 20, &[])),
            4,
            "the group is masked"
        );
        assert_eq!(
            rights(0o747, Some(&acl), &caller(12, 21, &[])),
            7,
            "other is not"
        );
    }

    #[test]
    fn any_matching_group_grants_and_a_match_without_grant_denies() {
        use Tag::*;
        let acl = acl(&[
            (UserObj, 7),
            (GroupObj, 0),
            (Group(30), 4),
            (Group(31), 2),
            (Mask, 7),
            (Other, 7),
        ]);
        let who = caller(11, 20, &[30, 31]);
        assert_eq!(
            rights(0o777, Some(&acl), &who),
            6,
            "r from one, w from the other, x from none"
        );
        let node = Node {
            mode: 0o777,
            uid: 10,
            gid: 20,
            acl: Some(&acl),
            kind: Kind::Regular,
        };
        assert!(
            !permits(&node, &who, Perm::READ | Perm::WRITE),
            "no single entry grants both"
        );
        assert_eq!(rights(0o777, Some(&acl), &caller(11, 21, &[])), 7);
    }

    #[test]
    fn an_empty_mask_hides_the_acl() {
        use Tag::*;
        let acl = acl(&[
            (UserObj, 7),
            (User(11), 7),
            (GroupObj, 7),
            (Mask, 0),
            (Other, 4),
        ]);
        assert_eq!(
            rights(0o704, Some(&acl), &caller(11, 21, &[])),
            4,
            "the named user falls to other"
        );
        assert_eq!(
            rights(0o704, Some(&acl), &caller(12, 20, &[])),
            0,
            "the group stays the group"
        );
    }

    fn any_caller() -> impl Strategy<Value = (u32, u32, Vec<u32>)> {
        let groups = proptest::collection::btree_set(0u32..6, 0..4)
            .prop_map(|set| set.into_iter().collect());
        (0u32..6, 0u32..6, groups)
    }

    proptest! {
        /// An ACL that says no more than the mode decides as the mode does.
        #[test]
        fn minimal_acl_equals_mode(bits in 0u32..0o1000, (uid, gid, groups) in any_caller(), want in any_perm()) {
            let who = caller(uid, gid, &groups);
            let minimal = mode::to_acl(bits);
            let bare = Node { mode: bits, uid: 1, gid: 2, acl: None, kind: Kind::Regular };
            let listed = Node { acl: Some(&minimal), ..bare };
            prop_assert_eq!(permits(&bare, &who, want), permits(&listed, &who, want));
        }

        /// Wanting more is never easier.
        #[test]
        fn granted_sets_are_closed_downwards(
            acl in any_acl(), bits in 0u32..0o1000, (uid, gid, groups) in any_caller(),
            want in any_perm(), less in any_perm(),
        ) {
            let (mode, kept) = mode::set_access(bits, acl);
            let node = Node { mode, uid: 1, gid: 2, acl: kept.as_ref(), kind: Kind::Directory };
            let who = caller(uid, gid, &groups);
            prop_assert!(!permits(&node, &who, want) || permits(&node, &who, want & less));
            prop_assert!(permits(&node, &who, Perm::NONE));
        }

        /// Only the owner's and other's entries can grant what the mask lacks.
        #[test]
        fn the_mask_bounds_the_group_class(acl in any_acl(), (uid, gid, groups) in any_caller(), want in any_perm()) {
            let other = acl.entries().last().unwrap().perm;
            let (mode, kept) = mode::set_access(0, acl);
            let node = Node { mode, uid: 1, gid: 2, acl: kept.as_ref(), kind: Kind::Regular };
            if uid > 1 && permits(&node, &caller(uid, gid, &groups), want) {
                prop_assert!(other.contains(want) || Perm::from_low_bits(mode >> 3).contains(want));
            }
        }
    }
}
