//! A FUSE file system (bindfs) exported to the real client. The directory it shows stands for another host of a cluster
//! file system.

use tests::fusefs::FUSE;
use tests::need::{have, not_chosen};
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::Bed;
use crate::locking::{each_conflict_with_the_host, mount, unmounted};

/// Another host's locks are no reason for a client to return a delegation, under which it locks by itself.
const EXPORTS: &str = "@DIR@/fuse *(rw,no_root_squash,insecure,fsid=7,no_delegations)";
/// It ends with the process namespace. What is removed is not to stay under a name of libfuse's until the server closes it.
const PREPARE: &str = "mkdir low fuse; chmod 1777 low
    bindfs --multithreaded --enable-lock-forwarding -o hard_remove low fuse";

/// Checks that bindfs 1.14 does not pass, from which version on, and why. How many names a file has is right again once
/// kernel and client ask, so that this may pass on a slow machine.
const LIMITS: &[(&str, Version, &str)] = &[
    (
        "hard_links",
        Version::V3,
        "each name of a file is a file of its own to the kernel, with attributes and a handle of its own",
    ),
    ("owners", Version::V3, "no users and groups above 2^31"),
    ("seek_hole_and_data", Version::V4_2, "no FUSE_LSEEK"),
    ("allocate", Version::V4_2, "no FUSE_FALLOCATE"),
    ("punch_hole", Version::V4_2, "no FUSE_FALLOCATE"),
];

/// A bed with the FUSE file system mounted on its guest.
fn exported(test: &str, version: Version) -> Option<Bed> {
    if Kind::from_env() != Kind::Ringnfs {
        not_chosen(test, "peers are not set up with FUSE");
        return None;
    }
    if !have(test, &[FUSE]) {
        return None;
    }
    let config = Config {
        exports: Some(EXPORTS.to_owned()),
        prepare: PREPARE.to_owned(),
        ..Config::default()
    };
    let mut bed = unmounted(test, version, config)?;
    let target = &mut bed.server.target;
    target.export += "/fuse";
    target.export4 += "/fuse";
    mount(&bed, &bed.guest, version, "");
    Some(bed)
}

by_version! { checks: checks_v3 V3 soak, checks_v4_0 V4_0 soak, checks_v4_1 V4_1 soak, checks_v4_2 V4_2 default }

/// Every check but those that are beyond bindfs itself.
fn checks(test: &str, version: Version) {
    let Some(bed) = exported(test, version) else {
        return;
    };
    let script = format!("$RIG/guest checks /mnt/nfs {version}");
    let out = bed.guest.run(1200, &script).output;
    let last = out.lines().last().unwrap_or_default();
    assert!(last.contains(" checks passed, "), "{out}");
    for failed in out.lines().filter_map(|l| l.strip_prefix("FAIL ")) {
        let known = LIMITS
            .iter()
            .find(|(name, since, _)| *name == failed && *since <= version);
        let (.., why) = known.unwrap_or_else(|| panic!("{failed}: {out}"));
        eprintln!("{test}: {failed}: {why}");
    }
    eprintln!("{test}: {last}");
}

by_version! { locks: locks_v3 V3 default, locks_v4_0 V4_0 soak, locks_v4_1 V4_1 soak, locks_v4_2 V4_2 soak }

/// Locks of the client are locks in the directory below, and the other way round.
fn locks(test: &str, version: Version) {
    if let Some(bed) = exported(test, version) {
        each_conflict_with_the_host(&bed, "low");
    }
}
