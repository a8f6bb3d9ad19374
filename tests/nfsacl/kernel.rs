//! setfacl, getfacl, cp, rsync and tar through the Linux client (protocol version 3), compared with what getfacl says on
//! the server. `RINGNFS_SERVER=knfsd` runs the same against the kernel's server.

use tests::image::Fs;
use tests::need::{self, Need};
use tests::server::{Config, Kind};
use tests::version::Version;

use crate::kernel::{Bed, bed};

const TOOLS: &[Need] = &[
    Need::Program("setfacl", "acl"),
    Need::Program("getfacl", "acl"),
    Need::Program("rsync", "rsync"),
    Need::Program("tar", "tar"),
];

/// Run in the export through the client. `listing` is what both sides must agree on.
const MAKE: &str = r#"
umask 022
mkdir -m 755 plain team; echo text >plain/file; chmod 640 plain/file
setfacl -m u:2001:rw,g:2002:r plain/file
[ $(stat -c %a plain/file) = 660 ]
getfacl -cn plain/file >/tmp/a
printf '%s\n' user::rw- user:2001:rw- group::r-- group:2002:r-- mask::rw- other::--- '' | diff - /tmp/a
chmod 640 plain/file
getfacl -cn plain/file | grep -q '^user:2001:rw-.*effective:r--'
cp plain/file plain/removed
setfacl -m u:2001:rwx,u:2002:-,m::x plain/removed
setfacl -x u:2001 plain/removed
getfacl -cn plain/removed | (! grep 2001)
cp plain/file plain/bare
setfacl -m u:2001:r plain/bare
setfacl -b plain/bare
[ $(getfacl -cn plain/bare | wc -l) = 4 ]

# Inheritance: with a default ACL the umask is not looked at.
setfacl -m u::rwx,u:2001:rwx,g::rx,o::- team
setfacl -d -m u::rwx,u:2001:rwx,g::rx,g:2002:rw,o::- team
getfacl -cn team | grep -qx 'default:user:2001:rwx'
umask 077
mkdir team/sub; echo x >team/new; mkdir -m 700 team/private; mkfifo team/fifo; ln -s new team/link
umask 022
getfacl -cn team/sub | grep -qx 'user:2001:rwx'
getfacl -cn team/sub | grep -qx 'default:group:2002:rw-'
[ $(stat -c %a team/new) = 660 ]
getfacl -cn team/private | grep -q '^user:2001:rwx.*effective:---'
setfacl -k team/private
getfacl -cn team/private | (! grep default)

# Enforced: the same user through the mount.
as() { setpriv --reuid=$1 --regid=$1 --clear-groups sh -c "cd /mnt/nfs; $2"; }
as 2001 'echo more >>team/new; touch team/of-2001'
as 2001 'setfacl -m u:2004:r team/of-2001'
(! as 2001 'ls team/private') 2>/dev/null
(! as 2002 'cat team/new') 2>/dev/null
(! as 2003 'ls team') 2>/dev/null
(! as 2001 'setfacl -m u:2003:rwx team') 2>/tmp/err; grep -q 'Operation not permitted' /tmp/err
(! setfacl -d -m u:1:r plain/file) 2>/dev/null

# Many entries, and a listing file that restores them.
for n in $(seq 3000 3199); do echo u:$n:r; done | setfacl -M - plain/bare
[ $(getfacl -cn plain/bare | grep -c ^user:3) = 200 ]
getfacl -Rn plain >/tmp/saved
setfacl -Rb plain
setfacl --restore=/tmp/saved
getfacl -Rn plain | diff - /tmp/saved

# Programs that keep ACLs.
listing() { (cd $1; find . ! -type l | LC_ALL=C sort | xargs getfacl -pn); }
cp -a team copied
listing team >/tmp/a; listing copied | diff /tmp/a -
rsync -aA team/ synced/
listing synced | diff /tmp/a -
rsync -aAnci team/ synced/ | (! grep .)
tar --acls -cf /tmp/team.tar team
mkdir out; tar --acls -C out -xpf /tmp/team.tar
listing out/team | diff /tmp/a -
"#;

/// Both sides' listings.
fn compare(bed: &Bed) {
    let list = "find . ! -type l | LC_ALL=C sort | xargs getfacl -pn";
    let there = bed.server.on_export(list);
    // With what the client has cached, and from anew.
    for forget in ["", "echo 3 >/proc/sys/vm/drop_caches;"] {
        let here = bed.guest.ok(120, &format!("{forget} cd /mnt/nfs; {list}"));
        assert_eq!(here, there, "{forget}");
    }
    assert!(there.contains("default:group:2002:rw-"), "{there}");
}

#[test]
fn setfacl_and_getfacl() {
    let all = if need::soak() {
        &Fs::ALL[..]
    } else {
        &Fs::ALL[..1]
    };
    for fs in all.iter().copied() {
        let config = Config {
            fs,
            ..Config::default()
        };
        let test = "nfsacl::kernel::setfacl_and_getfacl";
        if config.kind == Kind::Ganesha || !need::have(test, &[TOOLS]) {
            return; // ganesha is set up without ACLs
        }
        let Some(bed) = bed(test, Version::V3, &config) else {
            return;
        };
        bed.mount("");
        bed.guest.ok(200, &format!("cd /mnt/nfs\n{MAKE}"));
        compare(&bed);
        // What changes on the server is seen once the client looks at the attributes again.
        bed.guest.ok(30, "umount /mnt/nfs");
        bed.mount("actimeo=1");
        bed.guest.ok(30, "getfacl -cn /mnt/nfs/team");
        bed.server.on_export("setfacl -m u:2009:x,d:u:2009:x team");
        bed.guest.ok(
            60,
            "sleep 2; cd /mnt/nfs; getfacl -cn team | grep -qx user:2009:--x
             getfacl -cn team | grep -qx default:user:2009:--x",
        );
        compare(&bed);
        bed.guest.ok(60, "rm -rf /mnt/nfs/*; umount /mnt/nfs");
    }
}

/// An export without ACLs: the client is told so, and programs go on with modes.
#[test]
fn an_export_without_acls() {
    let config = Config {
        options: "rw,no_root_squash,insecure,no_acl".into(),
        ..Config::default()
    };
    let test = "nfsacl::kernel::an_export_without_acls";
    if config.kind != Kind::Ringnfs || !need::have(test, &[TOOLS]) {
        return; // the kernel's server ignores the option
    }
    let Some(bed) = bed(test, Version::V3, &config) else {
        return;
    };
    bed.mount("");
    bed.guest.ok(
        60,
        "cd /mnt/nfs; touch f; chmod 640 f
         (! setfacl -m u:1:r f) 2>/tmp/err; grep -q 'Operation not supported' /tmp/err
         [ $(getfacl -cn f | wc -l) = 4 ]
         cp -a f g; [ $(stat -c %a g) = 640 ]; mkdir d; rsync -a d/ e/; ls -l",
    );
    // The mount option of the same name.
    bed.guest.ok(30, "umount /mnt/nfs");
    bed.mount("noacl");
    bed.guest.ok(
        30,
        "cd /mnt/nfs; (! setfacl -m u:1:r f); cd /; umount /mnt/nfs",
    );
}
