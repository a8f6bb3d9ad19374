//! The protocol versions a mount can speak, and which of them a run of the tests is about.
//!
//! `RINGNFS_VERSIONS=3,4.2` (or `all`) chooses; without it each suite runs the versions it has by default, and all of
//! them with `RINGNFS_SOAK=1`.

use std::fmt;

use crate::need::{not_chosen, soak};
use crate::server::Kind;

/// An NFS version as the kernel client's `vers=` option names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 1813.
    V3,
    /// RFC 7530.
    V4_0,
    /// RFC 8881.
    V4_1,
    /// RFC 7862.
    V4_2,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 4] = [Version::V3, Version::V4_0, Version::V4_1, Version::V4_2];

    /// `3`, `4.0`, `4.1` or `4.2`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V3 => "3",
            Version::V4_0 => "4.0",
            Version::V4_1 => "4.1",
            Version::V4_2 => "4.2",
        }
    }

    /// True for every minor version of 4: opens and locks are in the protocol, MOUNT is not.
    pub fn is_v4(self) -> bool {
        self != Version::V3
    }

    /// True if `test` is to run on this version now: it is chosen by `RINGNFS_VERSIONS`, or nothing is chosen and it
    /// is one of the `default` ones or this is a soak; and `kind` speaks it. Otherwise says so.
    ///
    /// # Panics
    /// If `RINGNFS_VERSIONS` names something else than versions.
    pub fn wanted(self, test: &str, kind: Kind, default: bool) -> bool {
        let chosen = match std::env::var("RINGNFS_VERSIONS") {
            Ok(list) => chosen(&list).contains(&self),
            Err(_) => default || soak(),
        };
        if !chosen {
            not_chosen(
                test,
                &format!("runs with --soak or RINGNFS_VERSIONS={}", self.name()),
            );
            return false;
        }
        if !kind.speaks(self) {
            not_chosen(
                test,
                &format!("{kind:?} does not speak {} yet", self.name()),
            );
            return false;
        }
        true
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn chosen(list: &str) -> Vec<Version> {
    if list == "all" {
        return Version::ALL.to_vec();
    }
    let one = |name: &str| {
        let known = Version::ALL.into_iter().find(|v| v.name() == name);
        known.unwrap_or_else(|| panic!("RINGNFS_VERSIONS={list}: {name} is not 3, 4.0, 4.1 or 4.2"))
    };
    list.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_chosen_by_name() {
        assert_eq!(chosen("all"), Version::ALL);
        assert_eq!(chosen("4.2,3"), [Version::V4_2, Version::V3]);
        assert!(std::panic::catch_unwind(|| chosen("4")).is_err());
    }
}
