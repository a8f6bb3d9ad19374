//! File systems and exports below the one that is mounted, through the kernel client: each is a file system of its own
//! there, with its own device number, space and rights.

use tests::need::not_chosen;
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::bed;

/// The outer export is crossed out of, the inner one is not and is read-only.
const EXPORTS: &str = "@DIR@ *(rw,insecure,no_root_squash,crossmnt)
@DIR@/inner *(ro,insecure,no_root_squash)";

/// Two small disks: below the outer export, with a third below itself, and below the inner one.
const PREPARE: &str = "
    disk() { truncate -s 64M $RIG/$1.img; mkfs.ext4 -q $RIG/$1.img; mkdir -p $2; echo hidden >$2/hidden
             mount -o loop $RIG/$1.img $2; chmod 1777 $2; rmdir $2/lost+found; echo $1 >$2/name; }
    disk one disk; disk two disk/deeper/disk; mkdir inner; echo inner >inner/name; disk three inner/disk";

/// What holds on every version, in the directory that is exported.
const SUBMOUNTS: &str = r#"
dev() { stat -c %d "$1"; }
size() { df --output=size "$1" | tail -1; }
ls disk/deeper/disk >/dev/null
[ "$(cat disk/name)" = one ]; [ "$(cat disk/deeper/disk/name)" = two ]
[ ! -e disk/hidden ]
# Three file systems, one inside the other.
[ "$(printf '%s\n' $(dev .) $(dev disk) $(dev disk/deeper/disk) | sort -u | wc -l)" = 3 ]
[ "$(dev disk)" = "$(dev disk/deeper)" ]; [ "$(dev disk)" = "$(dev disk/name)" ]
[ "$(cd disk/deeper/disk/../../..; pwd -P)" = "$(pwd -P)" ]; [ "$(dev disk/..)" = "$(dev .)" ]
[ "$(find . -xdev -name name | grep -vc inner)" = 0 ] || { find . -xdev -name name; exit 1; }
# The space is its own, and so is running out of it.
[ "$(size disk)" -lt 65536 ]; [ "$(size .)" -gt 1000000 ]; [ "$(size disk/deeper/disk)" -lt 65536 ]
(! dd if=/dev/zero of=disk/much bs=1M count=80 conv=fsync 2>/tmp/e); grep -q 'No space left' /tmp/e
dd if=/dev/zero of=much bs=1M count=80 conv=fsync status=none; rm much disk/much
# Names do not cross it, data does.
echo text >above; (! ln above disk/linked 2>/tmp/e); grep -q 'cross-device' /tmp/e
mv above disk/moved; mv disk/moved disk/deeper/disk/moved; grep -qx text disk/deeper/disk/moved
(! rmdir disk/deeper/disk 2>/dev/null)
exec 5>>disk/open; echo before >&5
"#;

/// After a restart of the server.
const AFTER: &str = r#"
echo after >&5; exec 5>&-; [ "$(cat disk/open | tr '\n' ' ')" = 'before after ' ]
[ "$(cat disk/deeper/disk/name)" = two ]
"#;

/// In version 4 the inner export is reached by walking, with its own rights and without what is mounted below.
const NESTED: &str = r#"
[ "$(cat inner/name)" = inner ]
(! touch inner/new 2>/tmp/e); grep -q 'Read-only file system' /tmp/e
[ "$(cat inner/disk/hidden)" = hidden ]; [ ! -e inner/disk/name ]
touch beside-inner; [ "$(cd inner/..; pwd -P)" = "$(pwd -P)" ]
"#;

by_version! { submounts: submounts_v3 V3 soak, submounts_v4_0 V4_0 soak, submounts_v4_1 V4_1 soak, submounts_v4_2 V4_2 default }

/// File systems mounted below an export with `crossmnt`, and a nested export.
fn submounts(test: &str, version: Version) {
    if Kind::from_env() != Kind::Ringnfs {
        return not_chosen(test, "peers are not set up with several exports");
    }
    let config = Config {
        exports: Some(EXPORTS.to_owned()),
        prepare: PREPARE.to_owned(),
        ..Config::default()
    };
    let Some(mut bed) = bed(test, version, &config) else {
        return;
    };
    bed.mount("");
    let guest = bed.guest.clone();
    let nested = if version.is_v4() { NESTED } else { "" };
    let job = guest.start(&format!(
        "cd /mnt/nfs\n{SUBMOUNTS}\n{nested}\n: >$RIG/ready; await $RIG/again\n{AFTER}
         cd /; umount /mnt/nfs"
    ));
    while job.status().is_none() && !bed.rig.dir().join("ready").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bed.server.kill9();
    bed.server.start_again();
    std::fs::write(bed.rig.dir().join("again"), "").expect("a mark");
    job.ok(120);
    if version.is_v4() {
        pseudo_root(&bed);
    }
}

/// From the root of the server down to the export: directories that show only what leads there.
fn pseudo_root(bed: &crate::kernel::Bed) {
    let mut root = bed.server.target.clone();
    let export = std::mem::replace(&mut root.export4, "/".to_owned());
    let mount = root.mount(bed.version, "/mnt/root", "");
    let script = format!(
        "{mount}; cd /mnt/root; path=.
         for part in $(echo {export} | tr / ' '); do
             [ \"$(ls -A $path)\" = $part ]; path=$path/$part
         done
         (! touch new 2>/tmp/e); grep -q 'Read-only file system' /tmp/e; df . $path >/dev/null
         [ $(stat -c %d .) != $(stat -c %d $path/disk) ]; [ \"$(cat $path/disk/name)\" = one ]
         echo new >$path/new; [ \"$(cat $path/inner/name)\" = inner ]; cd /; umount /mnt/root"
    );
    bed.guest.ok(60, &script);
}
