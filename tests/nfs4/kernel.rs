//! nfs4_setfacl and nfs4_getfacl through the Linux client (protocol version 4), and what getfacl says on the server:
//! the same script with the same results as with the kernel's server (`RINGNFS_SERVER=knfsd`).

use std::fs;
use std::path::Path;

use tests::need::{self, Need};
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::bed;

const TOOLS: &[Need] = &[
    Need::Program("nfs4_setfacl", "nfs4-acl-tools"),
    Need::Program("nfs4_getfacl", "nfs4-acl-tools"),
    Need::Program("getfacl", "acl"),
];

/// The script run in the export through the client, and what it and [`STORED`] say.
fn script_and_said() -> (String, String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("nfs4");
    let read = |name| fs::read_to_string(dir.join(name)).expect("tests/nfs4");
    (read("nfs4_setfacl.sh"), read("nfs4_setfacl.said"))
}

/// What the server itself has then.
const STORED: &str = "LC_ALL=C getfacl -pn file team team/sub team/sub/f team/new team/newdir odd";

by_version! { nfs4_setfacl_and_getfacl:
    nfs4_setfacl_and_getfacl_v4_0 V4_0 soak, nfs4_setfacl_and_getfacl_v4_1 V4_1 soak,
    nfs4_setfacl_and_getfacl_v4_2 V4_2 default,
}

/// The first line that is not as it should be, and where it is.
fn first_difference<'a>(said: &'a str, expected: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let lines = said.lines().chain(["end"]);
    let lines = lines.zip(expected.lines().chain(["end"])).enumerate();
    let mut differing = lines.filter(|(_, (said, expected))| said != expected);
    let (at, (said, expected)) = differing.next()?;
    Some((at + 1, said, expected))
}

fn nfs4_setfacl_and_getfacl(test: &str, version: Version) {
    let mut config = Config::default();
    match config.kind {
        // With a delegation the client goes on showing the mode it knew before it set an ACL.
        Kind::Ringnfs => config.options += ",no_delegations",
        Kind::Knfsd => {}
        Kind::Ganesha => return, // set up without ACLs
    }
    if !need::have(test, &[TOOLS]) {
        return;
    }
    let Some(bed) = bed(test, version, &config) else {
        return;
    };
    bed.mount("");
    let (script, expected) = script_and_said();
    let client = bed.guest.ok(200, &script);
    let said = format!("{client}{}", bed.server.on_export(STORED));
    let difference = first_difference(said.trim_end(), expected.trim_end());
    assert!(difference.is_none(), "{difference:?} in\n{said}");
    // What is set on the server shows at the client.
    bed.server.on_export("setfacl -m u:2009:r file");
    bed.guest.ok(60, "umount /mnt/nfs");
    bed.mount("");
    let shown = bed.guest.ok(60, "nfs4_getfacl /mnt/nfs/file");
    assert!(shown.contains("A::2009:r"), "{shown}");
    bed.guest.ok(60, "rm -rf /mnt/nfs/*; umount /mnt/nfs");
}
