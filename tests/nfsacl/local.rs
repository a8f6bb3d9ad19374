//! Local processes change modes and ACLs behind the server's back: ACCESS and READ of both protocols see it at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nfsd::nfs4::Op4;
use nfsd::nfs4::types::Stateid4;
use tests::client::nfs4::{Ops, Raw};
use tests::client::{Client, Login, encode};
use tests::daemon::{Setup, policies};

use super::set_local;

const ACCESS_READ: u32 = 1;

/// Whether the client may read the file, by four requests that must agree.
#[track_caller]
fn may_read(client: &mut Client, fh: &[u8]) -> bool {
    let v3 = [
        client.access(fh, ACCESS_READ).expect("ACCESS").access != 0,
        client.read(fh, 0, 4).is_ok(),
    ];
    let ops = Ops::new().putfh(fh).op(Op4::Access, &ACCESS_READ);
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putfh);
    let _: u32 = done.body(Op4::Access);
    let access: u32 = done.more();
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend(encode(&0_u64));
    args.extend(encode(&4_u32));
    let ops = Ops::new().putfh(fh).op(Op4::Read, &Raw(&args));
    let mut read = client.compound(0, &ops);
    read.ok(Op4::Putfh);
    let read = read.status_of(Op4::Read) == nfsd::nfs4::status::Nfsstat4::Ok;
    let v4 = [access != 0, read];
    assert_eq!(v3, v4, "version 3 and version 4: ACCESS and READ");
    assert_eq!(v3[0], v3[1], "ACCESS and READ");
    v3[0]
}

#[test]
fn changes_are_seen_at_once() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut root, export) = server.mounted();
        let fh = root.new_file(&export, b"f", 0o640);
        let path = server.export().join("f");
        fs::write(&path, "text").expect("write");
        let mut client = server.client().with_login(Login::user(1001, 1001));
        let text = |perm: &str| format!("u::rw-,u:1001:{perm},g::---,m::rwx,o::---");
        for round in 0..60 {
            // Now and then long enough for the ACL to be remembered, which the first look does.
            if round % 3 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
            set_local(&path, acl::xattr::ACCESS, &text("r--"));
            assert!(may_read(&mut client, &fh), "round {round}");
            if round % 3 == 1 {
                std::thread::sleep(Duration::from_millis(30));
                assert!(may_read(&mut client, &fh), "round {round}");
                assert_eq!(server.stat("acls.cached"), 1, "round {round}");
            }
            match round % 4 {
                0 => set_local(&path, acl::xattr::ACCESS, &text("-w-")),
                1 => fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod"),
                2 => rustix::fs::removexattr(&path, acl::xattr::ACCESS).expect("removexattr"),
                _ => set_local(&path, acl::xattr::ACCESS, "u::rw-,g::r--,o::---"),
            }
            if round % 4 == 2 {
                // The mask has become the group's mode, which is not this user's.
                fs::set_permissions(&path, Permissions::from_mode(0o670)).expect("chmod");
            }
            assert!(!may_read(&mut client, &fh), "round {round}");
        }
        drop((client, root));
        server.wait_idle();
        assert_eq!(server.stat("acls.in_use"), 0);
    }
}
