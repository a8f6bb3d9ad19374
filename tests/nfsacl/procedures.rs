//! GETACL and SETACL where they succeed.

use std::process::Command;

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, access};
use nfsd::nfsacl::types::{AclProc3, Setacl3Res, mask};
use tests::client::Login;
use tests::client::nfs3::mode;
use tests::client::nfsacl::{list, nfsacl3, setacl_args};
use tests::daemon::{Setup, TestServer, policies};

use super::both;

const NAMED: &str = "u::rw-,u:1001:rw-,u:1002:---,g::r--,g:1003:r--,m::rw-,o::---";

#[test]
fn a_mode_is_shown_as_an_acl() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"f", 0o640);
    std::os::unix::fs::chown(server.export().join("f"), Some(1001), Some(1002)).expect("chown");
    let acls = client.getacl_mask(&file, mask::ALL).expect("GETACL");
    assert_eq!(acls.attr, client.attr(&file));
    let shown = [(1, 1001, 6), (4, 1002, 4), (0x10, 0, 4), (0x20, 0, 0)];
    assert_eq!(acls.access, list(&shown));
    assert_eq!(acls.default, list(&[]));
    // Only counts, only one of the two, nothing.
    let counts = client.getacl_mask(&file, mask::NA_ACLCNT | mask::NA_DFACLCNT);
    let counts = counts.expect("GETACL");
    assert_eq!((counts.access.count, counts.access.entries.len()), (4, 0));
    assert_eq!(counts.default, list(&[]));
    let one = client.getacl_mask(&file, mask::NA_DFACL).expect("GETACL");
    assert_eq!((one.access, one.default), (list(&[]), list(&[])));
    client.getacl_mask(&file, 0).expect("nothing asked for");
    client.symlink(&root, b"l", b"f").expect("SYMLINK");
    let link = client.fh_of(&root, b"l");
    assert_eq!(client.acls(&link).0, "u::rwx,g::rwx,o::rwx");
}

#[test]
fn set_and_get() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"f", 0o600);
        let path = server.export().join("f");
        let before = client.attr(&file);
        let args = setacl_args(&file, Some(NAMED), None);
        let set = client.setacl_lists(&file, args.mask, args.access, args.default);
        let after = client.attr(&file);
        assert_eq!(set, Ok(Some(after)), "attributes after");
        assert_eq!(after.mode, 0o660, "the mask is shown as the group's bits");
        assert!(after.ctime != before.ctime);
        assert_eq!(both(&path), (NAMED.to_owned(), String::new()));
        assert_eq!(client.acls(&file), both(&path));
        // Who may what follows at once.
        for (uid, gid, expected) in [
            (1001, 9, access::READ | access::MODIFY | access::EXTEND),
            (1002, 1003, 0),
            (9, 1003, access::READ),
            (9, 9, 0),
        ] {
            let granted = client.as_user(Login::user(uid, gid), |c| c.access(&file, 0x3f));
            assert_eq!(granted.expect("ACCESS").access, expected, "{uid} {gid}");
        }
        // chmod changes the mask, and only that of the group class.
        client.setattr(&file, mode(0o640), None).expect("SETATTR");
        assert_eq!(client.acls(&file).0, NAMED.replace("m::rw-", "m::r--"));
        // Without named entries it is a mode again.
        let plain = "u::rwx,g::---,o::--x";
        assert_eq!(client.setacl(&file, Some(plain), None), Nfsstat3::Ok);
        assert_eq!(both(&path), (String::new(), String::new()));
        assert_eq!(client.attr(&file).mode, 0o701);
        assert_eq!(client.acls(&file).0, plain);
        // An empty list removes the ACL and leaves the mode.
        assert_eq!(client.setacl(&file, Some(NAMED), None), Nfsstat3::Ok);
        assert_eq!(client.setacl(&file, Some(""), None), Nfsstat3::Ok);
        assert_eq!(client.acls(&file).0, "u::rw-,g::rw-,o::---");
        // A mask that differs from the group's needs an ACL.
        let masked = "u::rw-,g::rw-,m::r--,o::---";
        assert_eq!(client.setacl(&file, Some(masked), None), Nfsstat3::Ok);
        assert_eq!(both(&path).0, masked);
    }
}

#[test]
fn default_acls() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"d", 0o755);
    let path = server.export().join("d");
    let default = "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---";
    assert_eq!(
        client.setacl(&dir, Some(NAMED), Some(default)),
        Nfsstat3::Ok
    );
    assert_eq!(client.acls(&dir), (NAMED.to_owned(), default.to_owned()));
    assert_eq!(client.acls(&dir), both(&path));
    // What is made in it gets it, within the mode asked for.
    let below = client.new_dir(&dir, b"below", 0o777);
    let inherited = "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---";
    assert_eq!(
        client.acls(&below),
        (inherited.to_owned(), default.to_owned())
    );
    let how = Createhow3::Guarded(mode(0o644));
    let file = client.create(&dir, b"file", how).expect("CREATE").fh;
    let inherited = "u::rw-,u:1001:rwx,g::r-x,m::r--,o::---";
    assert_eq!(client.acls(&file), (inherited.to_owned(), String::new()));
    assert_eq!(client.attr(&file).mode, 0o640);
    // What is not sent stays.
    let plain = "u::rwx,g::r-x,o::r-x";
    assert_eq!(client.setacl(&dir, Some(plain), None), Nfsstat3::Ok);
    assert_eq!(client.acls(&dir), (plain.to_owned(), default.to_owned()));
    let other = "u::r-x,g::r-x,o::---";
    assert_eq!(client.setacl(&dir, None, Some(other)), Nfsstat3::Ok);
    assert_eq!(client.acls(&dir), (plain.to_owned(), other.to_owned()));
    assert_eq!(client.setacl(&dir, None, None), Nfsstat3::Ok);
    assert_eq!(client.acls(&dir), (plain.to_owned(), other.to_owned()));
    // An empty list removes it, also where there is none, and where there can be none.
    for _ in 0..2 {
        assert_eq!(client.setacl(&dir, Some(plain), Some("")), Nfsstat3::Ok);
        assert_eq!(both(&path), (String::new(), String::new()));
    }
    assert_eq!(client.setacl(&file, Some(NAMED), Some("")), Nfsstat3::Ok);
}

/// What a process on the server changes is seen by the next call, however often it is cached and changed.
#[test]
fn changes_behind_the_servers_back() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"d", 0o750);
    let path = server.export().join("d");
    let user = |perm: &str| format!("u::rwx,u:1001:{perm},g::r-x,m::rwx,o::---");
    for round in 0..30 {
        // Now and then long enough for the ACL to be cached.
        if round % 5 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            client.acls(&dir);
            client.acls(&dir);
        }
        let perm = ["rwx", "---", "r-x"][round % 3];
        let text = user(perm);
        let bytes = |text: &str| {
            let list = tests::client::nfsacl::from_text(text, 0);
            match list.change(true) {
                Ok(vfs::AclChange::Set(acl)) => acl::xattr::encode(&acl),
                other => panic!("{other:?}"),
            }
        };
        let flags = rustix::fs::XattrFlags::empty();
        for name in [acl::xattr::ACCESS, acl::xattr::DEFAULT] {
            rustix::fs::setxattr(&path, name, &bytes(&text), flags).expect("setxattr");
        }
        assert_eq!(client.acls(&dir), (text.clone(), text));
        let granted = client.as_user(Login::user(1001, 9), |c| c.access(&dir, access::READ));
        let granted = granted.expect("ACCESS").access != 0;
        assert_eq!(granted, perm != "---", "round {round}");
    }
    assert!(server.stat("acls.cached") <= 4);
    let removed = Command::new("rmdir").arg(&path).status();
    assert!(removed.expect("rmdir").success());
    assert!(client.getattr(&dir).is_err());
    assert_eq!(server.stat("acls.cached"), 0);
}

/// As many entries as the file system takes: they come back; one more than it takes: nothing has changed.
#[test]
fn many_entries() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"f", 0o600);
    let path = server.export().join("f");
    let mut kept = client.acls(&file).0;
    for count in [32, 100, 400, 1020, 5000, 8187] {
        let users: String = (0..count).map(|n| format!("u:{}:r--,", 5000 + n)).collect();
        let text = format!("u::rw-,{users}g::---,m::r--,o::---");
        match client.setacl(&file, Some(&text), None) {
            Nfsstat3::Ok => kept = text,
            status => {
                let full = [Nfsstat3::Nospc, Nfsstat3::Fbig, Nfsstat3::Inval];
                assert!(count > 400 && full.contains(&status), "{count}: {status}");
            }
        }
        assert!(client.acls(&file).0 == kept, "{count}");
        assert!(both(&path).0 == kept, "{count}");
    }
    // More than any kernel takes do not decode.
    let users: String = (0..8188).map(|n| format!("u:{}:r--,", 5000 + n)).collect();
    let text = format!("u::rw-,{users}g::---,m::r--,o::---");
    let args = setacl_args(&file, Some(&text), None);
    let answer = client.call(nfsacl3(AclProc3::Setacl), &args);
    assert_eq!(answer.outcome(), Err(nfsd::rpc::msg::Refusal::GarbageArgs));
}

/// A retransmission is answered, not run: it would undo what came after it.
#[test]
fn a_retransmitted_setacl_is_not_run_again() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"f", 0o600);
    let args = setacl_args(&file, Some(NAMED), None);
    let (xid, record) = client.build(nfsacl3(AclProc3::Setacl), &args);
    client.send_record(&record);
    let first = client.answer(xid);
    assert!(first.results::<Setacl3Res>().ok().is_ok());
    let later = "u::r--,u:7:r--,g::---,m::r--,o::---";
    let mut other = server.client();
    assert_eq!(other.setacl(&file, Some(later), None), Nfsstat3::Ok);
    other.send_record(&record);
    assert_eq!(other.answer(xid).record, first.record);
    assert_eq!(client.acls(&file).0, later);
}
