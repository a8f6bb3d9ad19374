//! What POSIX says of record locks, case by case (`tests/src/bin/guest/lock_cases.rs`): on a local ext4, which proves the
//! cases, and through the kernel client, between processes of one client and between two.

use tests::image::{Fs, Image};
use tests::need::{GUEST, have};
use tests::netns::Rig;
use tests::version::Version;

use crate::locking::two;

/// How many cases there are: none may drop out unseen.
const CASES: &str = "40 cases passed, 0 failed";

#[test]
fn on_a_local_file_system() {
    if !have("lock_suite::on_a_local_file_system", &[GUEST]) {
        return;
    }
    let rig = Rig::new();
    let image = Image::new(&rig, "ext4", Fs::Ext4, 64);
    let (guest, dir) = (env!("CARGO_BIN_EXE_guest"), image.dir().display());
    let out = rig.sh(&format!("{guest} lock-suite {dir} local {dir}"));
    assert!(out.contains(CASES), "{out}");
}

by_version! { between_processes:
    between_processes_v3 V3 default, between_processes_v4_0 V4_0 soak, between_processes_v4_1 V4_1 soak,
    between_processes_v4_2 V4_2 default,
}

/// Every case between processes of one client, and then between two clients.
fn between_processes(test: &str, version: Version) {
    let Some((bed, other)) = two(test, version) else {
        return;
    };
    let _peers = other.start("exec $RIG/guest lock-peers 0.0.0.0:7000");
    for peers in ["local", "10.99.0.3:7000"] {
        let script = format!(
            "for i in $(seq 100); do [ {peers} = local ] || ! (exec 5<>/dev/tcp/10.99.0.3/7000) || break; sleep 0.1; done
             mkdir /mnt/nfs/d; $RIG/guest lock-suite /mnt/nfs/d {peers} /mnt/nfs/d; rm -r /mnt/nfs/d"
        );
        let out = bed.guest.ok(900, &script);
        assert!(out.contains(CASES), "{peers}: {out}");
        eprintln!("{test}, others {peers}: {CASES}");
    }
}
