//! GETACL and SETACL where they fail.

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::Createhow3;
use nfsd::nfsacl::types::{AclList, AclProc3, NFS_ACL_PROGRAM, mask};
use nfsd::rpc::msg::Refusal;
use tests::client::Login;
use tests::client::nfs3::{Outcome as _, mode};
use tests::client::nfsacl::{from_text, list, nfsacl3, setacl_args};
use tests::client::{Client, encode, record};
use tests::daemon::{Setup, TestServer, fresh_dir};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need::{self, Need};

use super::both;

const NAMED: &str = "u::rw-,u:1001:rw-,g::r--,m::rw-,o::---";

#[test]
fn versions_and_procedures() {
    let server = TestServer::start();
    let mut client = server.client();
    for vers in [2, 3] {
        client.call([NFS_ACL_PROGRAM, vers, 0], &()).results::<()>();
    }
    // NULL is for everybody.
    client.set_login(Login::None);
    client.call([NFS_ACL_PROGRAM, 3, 0], &()).results::<()>();
    let mut outcome = |vers, proc| client.call([NFS_ACL_PROGRAM, vers, proc], &()).outcome();
    for (vers, proc) in [(2, 1), (2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (3, 99)] {
        assert_eq!(
            outcome(vers, proc),
            Err(Refusal::ProcUnavail),
            "{vers} {proc}"
        );
    }
    for vers in [0, 1, 4] {
        let mismatch = Refusal::ProgMismatch { low: 2, high: 3 };
        assert_eq!(outcome(vers, 0), Err(mismatch));
    }
    for proc in [1, 2] {
        assert_eq!(outcome(3, proc), Err(Refusal::GarbageArgs));
    }
}

/// Arguments cut anywhere are garbage, and nothing of them is kept.
#[test]
fn arguments_that_end_early() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"d", 0o700);
    let whole = encode(&setacl_args(&dir, Some(NAMED), Some(NAMED)));
    for len in (0..whole.len()).step_by(4) {
        let xid = client.next_xid();
        let login = client.login().clone();
        client.send_record(&record(
            xid,
            &login,
            nfsacl3(AclProc3::Setacl),
            &whole[..len],
        ));
        assert_eq!(
            client.answer(xid).outcome(),
            Err(Refusal::GarbageArgs),
            "{len}"
        );
        assert_eq!(server.stat("acls.in_use"), 0, "{len}");
    }
    assert_eq!(both(&server.export().join("d")), Default::default());
}

#[test]
fn lists_that_are_no_acl() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"f", 0o600);
    let attr = client.attr(&file);
    let bad: [&[(u32, u32, u32)]; 8] = [
        &[(1, 0, 7)],
        &[(1, 0, 7), (4, 0, 5)],
        &[(1, 0, 7), (4, 0, 5), (0x20, 0, 8)],
        &[(1, 0, 7), (4, 0, 5), (0x40, 0, 5)],
        &[(1, 0, 7), (1, 0, 7), (4, 0, 5), (0x20, 0, 5)],
        &[(1, 0, 7), (2, 5, 7), (4, 0, 5), (0x20, 0, 5)],
        &[
            (1, 0, 7),
            (2, u32::MAX, 7),
            (4, 0, 5),
            (0x10, 0, 5),
            (0x20, 0, 5),
        ],
        &[
            (1, 0, 7),
            (4, 0, 5),
            (0x10, 0, 5),
            (0x10, 0, 5),
            (0x20, 0, 5),
        ],
    ];
    let mut refused = |sent: u32, access: AclList| {
        let set = client.setacl_lists(&file, sent, access, list(&[]));
        let fail = set.expect_err("no ACL");
        assert_eq!((fail.status, fail.with), (Nfsstat3::Inval, Some(attr)));
    };
    for entries in bad {
        refused(mask::NA_ACL, list(entries));
    }
    let mut miscounted = from_text(NAMED, 0);
    miscounted.count += 1;
    refused(mask::NA_ACL, miscounted);
    refused(mask::NA_ACL | 0x10, from_text(NAMED, 0));
    // What is not said to be sent is not looked at.
    let set = client.setacl_lists(&file, mask::NA_ACLCNT, list(bad[0]), list(bad[1]));
    assert_eq!(set.status(), Nfsstat3::Ok);
    let fail = client.getacl_mask(&file, 0x1f).expect_err("an unknown bit");
    assert_eq!((fail.status, fail.with), (Nfsstat3::Inval, Some(attr)));
    assert_eq!(client.attr(&file), client.attr(&file));
    assert_eq!(both(&server.export().join("f")), Default::default());
}

#[test]
fn only_the_owner_sets_and_everybody_gets() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"d", 0o700);
    let user = Login::user(1001, 1001);
    client.as_user(user.clone(), |c| {
        assert_eq!(c.setacl(&dir, Some(NAMED), None), Nfsstat3::Perm);
        assert_eq!(c.setacl(&dir, None, Some(NAMED)), Nfsstat3::Perm);
        assert_eq!(c.setacl(&dir, Some(NAMED), Some(NAMED)), Nfsstat3::Perm);
        assert_eq!(c.acls(&dir).0, "u::rwx,g::---,o::---");
    });
    assert_eq!(both(&server.export().join("d")), Default::default());
    let file = client.as_user(user, |c| {
        let how = Createhow3::Guarded(mode(0o600));
        let file = c.create(&root, b"mine", how).expect("CREATE").fh;
        assert_eq!(c.setacl(&file, Some(NAMED), None), Nfsstat3::Ok);
        file
    });
    // An ACL that lets somebody write the file does not let him write the ACL.
    client.as_user(Login::user(1002, 1001), |c| {
        assert_eq!(c.setacl(&file, Some(NAMED), None), Nfsstat3::Perm);
    });
    // The default ACL of a file, any ACL of a symbolic link.
    assert_eq!(
        client.setacl(&file, Some(NAMED), Some(NAMED)),
        Nfsstat3::Acces
    );
    client.symlink(&root, b"l", b"mine").expect("SYMLINK");
    let link = client.fh_of(&root, b"l");
    assert_eq!(client.setacl(&link, Some(NAMED), None), Nfsstat3::Notsupp);
    assert_eq!(client.acls(&file).0, NAMED);
}

#[test]
fn handles_exports_and_options() {
    let server = Setup::exports(
        "@DIR@/export *(rw,no_root_squash,insecure)\n@DIR@/ro *(ro,no_root_squash,insecure)\n\
         @DIR@/without *(rw,no_acl,no_root_squash,insecure)",
    );
    let dir = fresh_dir();
    for name in ["ro", "without"] {
        std::fs::create_dir(dir.path().join(name)).expect("mkdir");
    }
    let server = server.start_in(dir);
    let mut client = server.client();
    let both = |c: &mut Client, fh: &[u8]| {
        let get = c.getacl_mask(fh, mask::ALL).status();
        (get, c.setacl(fh, Some(NAMED), Some("")))
    };
    let root = client.mount(&server.dir().join("ro"));
    assert_eq!(both(&mut client, &root), (Nfsstat3::Ok, Nfsstat3::Rofs));
    let root = client.mount(&server.dir().join("without"));
    let no = Nfsstat3::Notsupp;
    assert_eq!(both(&mut client, &root), (no, no));
    assert_eq!(
        client.getacl_mask(&root, 1).expect_err("not offered").with,
        Some(client.attr(&root))
    );
    // What is there is enforced all the same.
    client.attr(&root);
    let bad = [0; 40];
    let badhandle = Nfsstat3::Badhandle;
    assert_eq!(both(&mut client, &bad), (badhandle, badhandle));
    let root = client.mount(&server.export());
    let gone = client.new_file(&root, b"gone", 0o600);
    client.remove(&root, b"gone").expect("REMOVE");
    let stale = Nfsstat3::Stale;
    assert_eq!(both(&mut client, &gone), (stale, stale));
}

/// A server whose export is a file system mounted without ACLs; that must outlive it.
pub fn without_acls(test: &str) -> Option<(TestServer, LoopFs)> {
    let btrfs = &[Need::Program("mkfs.btrfs", "btrfs-progs")];
    if !need::have(test, &[LOOP, btrfs]) {
        return None;
    }
    let dir = fresh_dir();
    let place = dir.path().join("export");
    let Some(fs) = LoopFs::try_new(&place, Fs::Btrfs, 128, &[], "noacl") else {
        need::not_run(test, "a kernel that mounts btrfs without ACLs");
        return None;
    };
    Some((Setup::default().start_in(dir), fs))
}

/// A file system mounted without ACLs.
#[test]
fn file_systems_without_acls() {
    let test = "nfsacl::refusals::file_systems_without_acls";
    let Some((server, fs)) = without_acls(test) else {
        return;
    };
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"f", 0o640);
    for fh in [&file, &root] {
        let fail = client.getacl_mask(fh, mask::ALL).expect_err("no ACLs");
        assert_eq!(fail.status, Nfsstat3::Notsupp);
        assert_eq!(fail.with, Some(client.attr(fh)));
        assert_eq!(client.setacl(fh, Some(NAMED), None), Nfsstat3::Notsupp);
        assert_eq!(client.setacl(fh, Some(NAMED), Some("")), Nfsstat3::Notsupp);
    }
    assert_eq!(client.attr(&file).mode, 0o640);
    drop(client);
    drop(server);
    drop(fs);
}
