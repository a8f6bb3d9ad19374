//! nfs4_setfacl and nfs4_getfacl through the Linux client (protocol version 4), and what getfacl says on the server:
//! the same script with the same results as with the kernel's server (`RINGNFS_SERVER=knfsd`). umask(2) and default
//! ACLs, compared with what they do there; `dacl`.

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

/// Run in a directory, on the server and through the client.
const UMASKED: &str = "
for mask in 077 022 000 027; do
    umask $mask
    touch file$mask; mkdir dir$mask; mkfifo fifo$mask; echo text >text$mask; mkdir -m 2751 set$mask
    (set -C; echo text >new$mask); cp text$mask copy$mask; ln -s text$mask link$mask
    mkdir -p deep$mask/er
done
umask 022
";

/// Names, modes and ACLs.
const LISTED: &str = "find . ! -type l | LC_ALL=C sort | xargs stat -c '%n %F %a'
    find . ! -type l | LC_ALL=C sort | xargs getfacl -pn";

/// With `mode_umask` new files have the rights they would have on the server, with and without default ACLs.
#[test]
fn umask_is_as_on_the_server() {
    let test = "nfs4::kernel::umask_is_as_on_the_server";
    let config = Config::default();
    if config.kind == Kind::Ganesha || !need::have(test, &[&TOOLS[2..]]) {
        return; // ganesha is set up without ACLs
    }
    let Some(bed) = bed(test, Version::V4_2, &config) else {
        return;
    };
    bed.server.on_export(
        "umask 022; mkdir plain team
         setfacl -d -m u::rwx,u:2001:rwx,g::rx,g:2002:rw,o::x team
         mkdir -m 777 plain/here plain/there team/here team/there",
    );
    bed.mount("");
    for dir in ["plain", "team"] {
        let made = format!("cd {dir}/here\n{UMASKED}\n{LISTED}");
        let here = bed.server.on_export(&made);
        let made = format!("cd /mnt/nfs/{dir}/there\n{UMASKED}");
        bed.guest.ok(120, &made);
        let there = bed.server.on_export(&format!("cd {dir}/there; {LISTED}"));
        assert_eq!(there, here, "{dir}");
        assert_eq!(here.contains("user:2001"), dir == "team", "{here}");
    }
    bed.guest.ok(60, "rm -rf /mnt/nfs/*; umount /mnt/nfs");
}

/// The client shows `dacl` as an extended attribute: the flags, and what it shows of `acl`.
#[test]
fn dacl_as_the_client_shows_it() {
    let test = "nfs4::kernel::dacl_as_the_client_shows_it";
    let config = Config::default();
    let tools = &[Need::Program("getfattr", "attr"), TOOLS[2]];
    if config.kind != Kind::Ringnfs || !need::have(test, &[tools]) {
        return; // others do not have it
    }
    let Some(bed) = bed(test, Version::V4_1, &config) else {
        return;
    };
    bed.mount("");
    bed.guest.ok(
        60,
        "cd /mnt/nfs; touch file; chmod 640 file
         get() { getfattr --only-values -n system.nfs4_$1 file | od -An -v -tx1 | tr -d ' \n'; }
         [ $(get dacl) = 00000002$(get acl) ]
         touch other; chmod 604 other
         setfattr -n system.nfs4_dacl -v 0x$(get dacl) other
         (! setfattr -n system.nfs4_sacl -v 0x0000000000000000 other) 2>/dev/null",
    );
    // There: the client goes on showing the mode it has in its cache.
    assert_eq!(bed.server.on_export("stat -c %a other").trim(), "640");
    bed.server.on_export("setfacl -m u:2001:r file");
    bed.guest.ok(60, "umount /mnt/nfs");
    bed.mount("");
    bed.guest.ok(
        60,
        "cd /mnt/nfs; setfattr -n system.nfs4_dacl -v \
         0x$(getfattr --only-values -n system.nfs4_dacl file | od -An -v -tx1 | tr -d ' \n') other",
    );
    let other = bed.server.on_export("getfacl -cpn other");
    assert!(other.contains("user:2001:r--"), "{other}");
    bed.guest.ok(60, "rm -rf /mnt/nfs/*; umount /mnt/nfs");
}
