//! nfs4_setfacl and nfs4_getfacl through the Linux client (protocol version 4.2), compared with what getfacl says on the
//! server.

use tests::need::{self, Need};
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::bed;

const TOOLS: &[Need] = &[
    Need::Program("nfs4_setfacl", "nfs4-acl-tools"),
    Need::Program("nfs4_getfacl", "nfs4-acl-tools"),
    Need::Program("getfacl", "acl"),
];

/// Run in the export through the client.
const MAKE: &str = "
umask 022
echo text >file; chmod 640 file; mkdir team; chmod 750 team
nfs4_setfacl -a A::2001:rwatTnNcCy file
nfs4_setfacl -a A:g:2002:rtncy file
nfs4_setfacl -R -a A:fdi:2001:rxtncy team
nfs4_getfacl file >/tmp/a; nfs4_setfacl -S /tmp/a file
nfs4_getfacl file | diff /tmp/a -
(! nfs4_setfacl -a U::2001:r file) 2>/dev/null
";

#[test]
fn nfs4_setfacl_and_getfacl() {
    let test = "nfs4::kernel::nfs4_setfacl_and_getfacl";
    let config = Config::default();
    if config.kind != Kind::Ringnfs || !need::have(test, &[TOOLS]) {
        return; // what others make of the same lists is theirs
    }
    let Some(bed) = bed(test, Version::V4_2, &config) else {
        return;
    };
    bed.mount("");
    bed.guest.ok(120, &format!("cd /mnt/nfs\n{MAKE}"));
    let file = bed.server.on_export("getfacl -cpn file");
    for line in ["user::rw-", "user:2001:rw-", "group:2002:r--", "other::---"] {
        assert!(file.lines().any(|l| l == line), "{line}: {file}");
    }
    let team = bed.server.on_export("getfacl -cpn team");
    assert!(team.contains("default:user:2001:r-x"), "{team}");
    // What is set on the server shows at the client.
    bed.server.on_export("setfacl -m u:2009:r file");
    bed.guest.ok(60, "umount /mnt/nfs");
    bed.mount("");
    let shown = bed.guest.ok(60, "nfs4_getfacl /mnt/nfs/file");
    assert!(shown.contains("A::2009:r"), "{shown}");
    bed.guest.ok(60, "rm -rf /mnt/nfs/*; umount /mnt/nfs");
}
