//! No ACL is lost, kept or left half set, whatever fails. That nothing is left in use when the clients are gone, the end
//! of every server checks too (`acls.in_use`).

use std::path::PathBuf;

use nfsd::nfs3::status::{Nfsstat3, from_errno};
use nfsd::nfs3::types::NfsFh3;
use nfsd::nfsacl::types::{AclProc3, Getacl3Args, mask};
use tests::client::nfs3::Outcome as _;
use tests::client::nfsacl::{nfsacl3, setacl_args};
use tests::client::{Client, Fh, framed};
use tests::daemon::{Setup, TestServer, policies};

use super::both;

/// Numbers of io_uring operations (`io_uring_enter(2)`).
mod op {
    pub const SETXATTR: u8 = 42;
    pub const GETXATTR: u8 = 44;
}

const ACCESS: &str = "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---";
const DEFAULT: &str = "u::rwx,g::r-x,g:1002:rwx,m::rwx,o::r--";
const NEW: &str = "u::rwx,u:2001:r-x,g::---,g:2002:---,m::r-x,o::--x";

/// A server with fault injection and directories to try on.
struct Bed {
    client: Client,
    server: TestServer,
    root: Fh,
    serial: u32,
}

impl Bed {
    fn new() -> Bed {
        let server = Setup::default().policy("ring").faults("").start();
        let (client, root) = server.mounted();
        Bed {
            client,
            server,
            root,
            serial: 0,
        }
    }

    #[track_caller]
    fn faults(&self, rules: &str) {
        let set = self.server.control(&format!("faults {rules}"));
        set.expect("fault injection");
    }

    /// A new directory with these ACLs: nothing of it is cached.
    #[track_caller]
    fn dir(&mut self, access: &str, default: &str) -> (Fh, PathBuf) {
        self.serial += 1;
        let name = format!("d{}", self.serial);
        let dir = self.client.new_dir(&self.root, name.as_bytes(), 0o750);
        let set = self.client.setacl(&dir, Some(access), Some(default));
        assert_eq!(set, Nfsstat3::Ok);
        (dir, self.server.export().join(name))
    }
}

/// GETACL that fails at its first or second ACL.
#[test]
fn half_a_getacl() {
    let mut bed = Bed::new();
    for errno in [libc::EIO, libc::EACCES, libc::ENOMEM, libc::ENOSPC] {
        for skip in [0, 1] {
            let (dir, _) = bed.dir(ACCESS, DEFAULT);
            bed.faults(&format!("{}:{errno}:{skip}:1", op::GETXATTR));
            let fail = bed.client.getacl_mask(&dir, mask::ALL);
            let fail = fail.expect_err("a fault");
            assert_eq!(fail.status, from_errno(errno), "{skip}");
            assert_eq!(fail.with, Some(bed.client.attr(&dir)));
            assert_eq!(bed.server.stat("acls.in_use"), 0);
            let now = bed.client.acls(&dir);
            assert_eq!(now, (ACCESS.to_owned(), DEFAULT.to_owned()));
        }
    }
    // Longer than what is tried first: read again with all the room there can be.
    let (dir, _) = bed.dir(ACCESS, DEFAULT);
    bed.faults(&format!("{}:{}:0:1", op::GETXATTR, libc::ERANGE));
    assert_eq!(bed.client.acls(&dir).0, ACCESS);
}

/// SETACL that fails at any of its steps leaves both ACLs and the mode as they were.
#[test]
fn half_a_setacl() {
    let mut bed = Bed::new();
    for errno in [libc::ENOSPC, libc::EOPNOTSUPP, libc::EDQUOT, libc::EIO] {
        for (access, default) in [
            (ACCESS, DEFAULT),
            (ACCESS, ""),
            ("u::rwx,g::r-x,o::---", ""),
        ] {
            for new_default in [NEW, ""] {
                for (code, skip) in [(op::SETXATTR, 0), (op::SETXATTR, 1), (op::GETXATTR, 0)] {
                    let (dir, path) = bed.dir(access, default);
                    let (acls, attr) = (both(&path), bed.client.attr(&dir));
                    bed.faults(&format!("{code}:{errno}:{skip}:1"));
                    let status = bed.client.setacl(&dir, Some(NEW), Some(new_default));
                    bed.faults("");
                    let case = format!("{errno} {code} {skip} {default:?} {new_default:?}");
                    // Reading what is to be put back: that there are no ACLs is no reason to fail.
                    let harmless = code == op::GETXATTR && errno == libc::EOPNOTSUPP;
                    if harmless {
                        assert_eq!(status, Nfsstat3::Ok, "{case}");
                        continue;
                    }
                    assert_eq!(status, from_errno(errno), "{case}");
                    assert_eq!(both(&path), acls, "{case}");
                    assert_eq!(bed.client.attr(&dir).mode, attr.mode, "{case}");
                    // Nothing that was cached stands in the way of the truth.
                    assert_eq!(bed.client.acls(&dir).1, acls.1, "{case}");
                    let again = bed.client.setacl(&dir, Some(NEW), Some(new_default));
                    assert_eq!(again, Nfsstat3::Ok, "{case}");
                    assert_eq!(both(&path), (NEW.to_owned(), new_default.to_owned()));
                }
            }
        }
    }
    assert_eq!(bed.server.stat("acls.in_use"), 0);
}

/// If even putting back fails, the client is told of the first failure, and the log of the second.
#[test]
fn a_default_acl_that_cannot_be_put_back() {
    let mut bed = Bed::new();
    let (dir, path) = bed.dir(ACCESS, DEFAULT);
    bed.faults(&format!("{}:{}:1", op::SETXATTR, libc::ENOSPC));
    let status = bed.client.setacl(&dir, Some(NEW), Some(NEW));
    bed.faults("");
    assert_eq!(status, Nfsstat3::Nospc);
    assert_eq!(both(&path), (ACCESS.to_owned(), NEW.to_owned()));
    assert_eq!(bed.client.acls(&dir), both(&path));
    assert!(bed.server.log().contains("could not be put back"));
}

/// Clients that go away in the middle of a request, at its sending, in its running, at its answer.
#[test]
fn clients_that_vanish() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"d", 0o700);
        let users: String = (0..150).map(|n| format!("u:{}:r--,", 5000 + n)).collect();
        let long = format!("u::rw-,{users}g::---,m::r--,o::---");
        let get = Getacl3Args {
            object: NfsFh3(&dir),
            mask: mask::ALL,
        };
        for round in 0..60 {
            let mut gone = server.client();
            let (_, get) = gone.build(nfsacl3(AclProc3::Getacl), &get);
            let set = setacl_args(&dir, Some(&long), Some(&long));
            let (_, set) = gone.build(nfsacl3(AclProc3::Setacl), &set);
            let set = framed(&set);
            gone.send_raw(&framed(&get).repeat(round % 7))
                .expect("sending");
            gone.send_raw(&set).expect("sending");
            gone.send_raw(&set[..set.len() * round / 60])
                .expect("sending");
            std::thread::sleep(std::time::Duration::from_micros(50 * round as u64));
            drop(gone);
        }
        drop(client);
        // Whoever is gone, what was begun is brought to its end.
        server.wait_idle();
        let path = server.export().join("d");
        assert!(both(&path) == (long.clone(), long.clone()));
        let mut client = server.client();
        assert!(client.acls(&dir) == (long.clone(), long));
        assert_eq!(server.stat("acls.in_use"), 0);
    }
}

/// With the last of the files, the last ACL is gone.
#[test]
fn acls_go_with_their_files() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let names: Vec<Vec<u8>> = (0..40).map(|n| format!("n{n}").into_bytes()).collect();
    for name in &names {
        let dir = client.new_dir(&root, name, 0o700);
        assert_eq!(
            client.setacl(&dir, Some(ACCESS), Some(DEFAULT)),
            Nfsstat3::Ok
        );
    }
    // Old enough to be cached.
    std::thread::sleep(std::time::Duration::from_millis(40));
    for name in &names {
        let dir = client.fh_of(&root, name);
        assert_eq!(client.acls(&dir).0, ACCESS);
    }
    assert_eq!(server.stat("acls.cached"), 80);
    // Over one with another, then each of the rest.
    let (first, rest) = names.split_first().expect("names");
    let (second, _) = rest.split_first().expect("names");
    client
        .rename((&root, first), (&root, second))
        .expect("RENAME");
    for name in rest {
        assert_eq!(client.rmdir(&root, name).status(), Nfsstat3::Ok);
    }
    assert_eq!(server.stat("acls.cached"), 0);
    assert_eq!(server.stat("acls.in_use"), 0);
}
