//! Whom a request acts as after squashing (exports(5) "User ID Mapping").

use super::options::Options;

/// uid and gid a caller can never act as: the kernel reads it as "no change".
const INVALID: u32 = u32::MAX;

/// Who the RPC credential says the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// AUTH_NONE.
    Nobody,
    /// AUTH_SYS, or the same ids with groups looked up here.
    Sys {
        /// User.
        uid: u32,
        /// Group of new files.
        gid: u32,
        /// Further groups.
        groups: &'a [u32],
    },
}

/// Whom the server acts as. Groups are mapped while they are read, so nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Squashed<'a> {
    /// User.
    pub uid: u32,
    /// Group of new files.
    pub gid: u32,
    sent: &'a [u32],
    zero_becomes: u32,
    invalid_becomes: u32,
}

impl<'a> Squashed<'a> {
    /// Further groups, in the order sent, group 0 replaced where root is squashed.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        let (zero_becomes, invalid_becomes) = (self.zero_becomes, self.invalid_becomes);
        self.sent.iter().map(move |gid| match *gid {
            0 => zero_becomes,
            INVALID => invalid_becomes,
            gid => gid,
        })
    }
}

/// Maps a caller by `root_squash`, `all_squash`, `anonuid` and `anongid`.
///
/// AUTH_NONE is always the anonymous user without groups; so is what cannot be a user (uid 4294967295).
/// With `root_squash` each of uid 0, gid 0 and group 0 is replaced, whoever sends it.
pub fn squash<'a>(options: &Options, caller: Caller<'a>) -> Squashed<'a> {
    let (anon_uid, anon_gid) = (options.anon_uid, options.anon_gid);
    let (uid, gid, groups) = match caller {
        Caller::Sys { uid, gid, groups } if !options.all_squash() => (uid, gid, groups),
        _ => (anon_uid, anon_gid, &[][..]),
    };
    let replaced = |id: u32, anon: u32| match id {
        0 if options.root_squash() => anon,
        INVALID => anon,
        _ => id,
    };
    let zero_becomes = if options.root_squash() { anon_gid } else { 0 };
    Squashed {
        uid: replaced(uid, anon_uid),
        gid: replaced(gid, anon_gid),
        sent: groups,
        zero_becomes,
        invalid_becomes: anon_gid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Findings, Place};

    fn options(list: &str) -> Options {
        let mut found = Findings::new();
        let options = super::super::options::parse_options(
            list,
            &Options::default(),
            Place { file: "t", line: 1 },
            &mut found,
        );
        assert!(!found.has_errors(), "{found}");
        options
    }

    fn mapped(list: &str, caller: Caller<'_>) -> (u32, u32, Vec<u32>) {
        let squashed = squash(&options(list), caller);
        (squashed.uid, squashed.gid, squashed.groups().collect())
    }

    fn sys(uid: u32, gid: u32, groups: &[u32]) -> Caller<'_> {
        Caller::Sys { uid, gid, groups }
    }

    #[test]
    fn root_squash_replaces_every_zero() {
        let root = sys(0, 0, &[0, 5, 0]);
        assert_eq!(mapped("", root), (65534, 65534, vec![65534, 5, 65534]));
        assert_eq!(mapped("anonuid=7,anongid=8", root), (7, 8, vec![8, 5, 8]));
        assert_eq!(mapped("no_root_squash", root), (0, 0, vec![0, 5, 0]));
    }

    #[test]
    fn group_zero_of_an_ordinary_user_is_squashed_too() {
        assert_eq!(mapped("", sys(1000, 0, &[0])), (1000, 65534, vec![65534]));
        assert_eq!(mapped("", sys(0, 100, &[4])), (65534, 100, vec![4]));
    }

    #[test]
    fn ordinary_users_keep_their_ids() {
        for list in ["", "no_root_squash", "anonuid=7"] {
            assert_eq!(
                mapped(list, sys(1000, 100, &[4, 24])),
                (1000, 100, vec![4, 24]),
                "{list}"
            );
        }
    }

    #[test]
    fn all_squash_wins_and_drops_groups() {
        for list in [
            "all_squash,anonuid=7,anongid=8",
            "all_squash,no_root_squash,anonuid=7,anongid=8",
        ] {
            assert_eq!(
                mapped(list, sys(1000, 100, &[4, 0])),
                (7, 8, vec![]),
                "{list}"
            );
            assert_eq!(mapped(list, sys(0, 0, &[0])), (7, 8, vec![]), "{list}");
        }
    }

    #[test]
    fn auth_none_is_anonymous_also_without_squash() {
        assert_eq!(mapped("", Caller::Nobody), (65534, 65534, vec![]));
        assert_eq!(
            mapped("no_root_squash,sec=none,anonuid=9", Caller::Nobody),
            (9, 65534, vec![])
        );
    }

    #[test]
    fn ids_the_kernel_reads_as_no_change_are_anonymous() {
        assert_eq!(
            mapped("no_root_squash", sys(u32::MAX, u32::MAX, &[3, u32::MAX])),
            (65534, 65534, vec![3, 65534])
        );
    }
}
