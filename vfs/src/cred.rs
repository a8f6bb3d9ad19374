//! Identity of a caller after squashing: the user, group and supplementary groups the kernel
//! judges an operation by.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Most supplementary groups one credential may carry (`setgroups(2)` `NGROUPS_MAX`).
pub const GROUPS_MAX: usize = 65_536;

#[derive(Debug)]
struct Ids {
    hash: u64,
    uid: u32,
    gid: u32,
    groups: Box<[u32]>,
}

/// An immutable, cheaply cloned credential. Groups are sorted and free of duplicates.
#[derive(Clone, Debug)]
pub struct Cred(Arc<Ids>);

impl Cred {
    /// A credential of user `uid`, group `gid` and the supplementary groups, cut at [`GROUPS_MAX`].
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Self {
        let mut groups = groups[..groups.len().min(GROUPS_MAX)].to_vec();
        groups.sort_unstable();
        groups.dedup();
        let hash = FixedState::default().hash_one((uid, gid, &groups));
        Cred(Arc::new(Ids {
            hash,
            uid,
            gid,
            groups: groups.into(),
        }))
    }

    /// The superuser with no supplementary groups.
    pub fn root() -> Self {
        Cred::new(0, 0, &[])
    }

    /// User.
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Primary group.
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// Supplementary groups, sorted.
    pub fn groups(&self) -> &[u32] {
        &self.0.groups
    }

    /// The superuser: keeps every capability of the server.
    pub fn is_root(&self) -> bool {
        self.0.uid == 0
    }
}

impl PartialEq for Cred {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.uid == other.0.uid
                && self.0.gid == other.0.gid
                && self.0.groups == other.0.groups)
    }
}

impl Eq for Cred {}

impl Hash for Cred {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_of_groups_do_not_matter() {
        assert_eq!(Cred::new(1, 2, &[5, 3, 5]), Cred::new(1, 2, &[3, 5]));
        assert_ne!(Cred::new(1, 2, &[3]), Cred::new(1, 2, &[4]));
        assert_eq!(Cred::new(1, 2, &[9, 3]).groups(), &[3, 9]);
    }
}
