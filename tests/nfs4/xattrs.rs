//! Extended attributes of users: GETXATTR, SETXATTR, LISTXATTRS, REMOVEXATTR, and what says that there are any.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::getxattr::Xattrvalue4;
use nfsd::nfs4::op::listxattrs::ListxattrsArgs;
use nfsd::nfs4::op::setxattr::{SetxattrArgs, SetxattrOption4};
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::Ops;
use tests::client::session::Session;
use tests::client::{Fh, Login};
use tests::daemon::{Setup, TestServer};

use super::session;

use SetxattrOption4::{Create, Either, Replace};

fn get(s: &mut Session, fh: &[u8], name: &[u8]) -> Result<Vec<u8>, Nfsstat4> {
    let ops = Ops::new().putfh(fh).op(Op4::Getxattr, &Component4(name));
    let mut done = s.call(&ops);
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Getxattr) {
        Nfsstat4::Ok => {
            let value = done.more::<Xattrvalue4<'_>>().0.to_vec();
            done.end();
            Ok(value)
        }
        status => Err(status),
    }
}

fn set(
    s: &mut Session,
    fh: &[u8],
    option: SetxattrOption4,
    name: &[u8],
    value: &[u8],
) -> Result<ChangeInfo4, Nfsstat4> {
    let args = SetxattrArgs {
        option,
        key: Component4(name),
        value: Xattrvalue4(value),
    };
    let mut done = s.call(&Ops::new().putfh(fh).op(Op4::Setxattr, &args));
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Setxattr) {
        Nfsstat4::Ok => {
            let info = done.more();
            done.end();
            Ok(info)
        }
        status => Err(status),
    }
}

fn remove(s: &mut Session, fh: &[u8], name: &[u8]) -> Result<ChangeInfo4, Nfsstat4> {
    let ops = Ops::new().putfh(fh).op(Op4::Removexattr, &Component4(name));
    let mut done = s.call(&ops);
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Removexattr) {
        Nfsstat4::Ok => Ok(done.more()),
        status => Err(status),
    }
}

type Page = (u64, Vec<Vec<u8>>, bool);

fn page(s: &mut Session, fh: &[u8], cookie: u64, maxcount: u32) -> Result<Page, Nfsstat4> {
    let args = ListxattrsArgs { cookie, maxcount };
    let mut done = s.call(&Ops::new().putfh(fh).op(Op4::Listxattrs, &args));
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Listxattrs) {
        Nfsstat4::Ok => {}
        status => return Err(status),
    }
    let cookie = done.more();
    let names = (0..done.more::<u32>())
        .map(|_| done.more::<Component4<'_>>().0.to_vec())
        .collect();
    let eof = done.more();
    done.end();
    Ok((cookie, names, eof))
}

fn change(s: &mut Session, fh: &[u8]) -> u64 {
    let mut done = s.call(&Ops::new().putfh(fh).getattr(&[bit::CHANGE]));
    done.ok(Op4::Putfh);
    done.attrs().get(bit::CHANGE)
}

fn a_file(server: &TestServer, s: &mut Session) -> Fh {
    let path = server.export().join("f");
    fs::write(&path, "x").expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("chmod");
    s.walk(path.to_str().expect("text"))
}

#[test]
fn setxattr_getxattr_removexattr() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let file = a_file(&server, &mut s);
    for fh in [file, root] {
        assert_eq!(get(&mut s, &fh, b"a"), Err(Nfsstat4::Noxattr));
        let before = change(&mut s, &fh);
        let info = set(&mut s, &fh, Create, b"a", b"one").expect("new");
        assert!(info.atomic && info.before == before && info.after > before);
        assert_eq!(change(&mut s, &fh), info.after);
        assert_eq!(set(&mut s, &fh, Create, b"a", b"two"), Err(Nfsstat4::Exist));
        assert_eq!(get(&mut s, &fh, b"a"), Ok(b"one".to_vec()));
        set(&mut s, &fh, Replace, b"a", b"three").expect("there");
        set(&mut s, &fh, Either, b"b", b"").expect("new");
        assert_eq!(set(&mut s, &fh, Replace, b"c", b""), Err(Nfsstat4::Noxattr));
        assert_eq!(get(&mut s, &fh, b"a"), Ok(b"three".to_vec()));
        assert_eq!(get(&mut s, &fh, b"b"), Ok(Vec::new()));
        let before = change(&mut s, &fh);
        let info = remove(&mut s, &fh, b"a").expect("there");
        assert!(info.atomic && info.before == before && info.after > before);
        assert_eq!(remove(&mut s, &fh, b"a"), Err(Nfsstat4::Noxattr));
        assert_eq!(get(&mut s, &fh, b"a"), Err(Nfsstat4::Noxattr));
    }
}

#[test]
fn setxattr_limits() {
    let server = TestServer::start();
    let (mut s, _) = session(&server);
    let fh = a_file(&server, &mut s);
    let longest = vec![b'n'; vfs::XATTR_NAME_MAX];
    set(&mut s, &fh, Either, &longest, b"v").expect("a long name");
    assert_eq!(get(&mut s, &fh, &longest), Ok(b"v".to_vec()));
    let longer = vec![b'n'; vfs::XATTR_NAME_MAX + 1];
    for (name, expected) in [(&longer[..], Nfsstat4::Nametoolong), (b"", Nfsstat4::Inval)] {
        assert_eq!(set(&mut s, &fh, Either, name, b"v"), Err(expected));
        assert_eq!(get(&mut s, &fh, name), Err(expected));
        assert_eq!(remove(&mut s, &fh, name), Err(expected));
    }
    let big = vec![1; vfs::XATTR_VALUE_MAX + 1];
    let refused = set(&mut s, &fh, Either, b"big", &big);
    assert_eq!(refused, Err(Nfsstat4::Xattr2big));
    let mut none = s.call(&Ops::new().op(Op4::Getxattr, &Component4(b"a")));
    assert_eq!(none.status_of(Op4::Getxattr), Nfsstat4::Nofilehandle);
}

#[test]
fn xattrs_take_permission() {
    let server = TestServer::start();
    let (mut s, _) = session(&server);
    let fh = a_file(&server, &mut s);
    set(&mut s, &fh, Either, b"a", b"v").expect("root may");
    s.client.set_login(Login::user(1000, 1000));
    assert_eq!(get(&mut s, &fh, b"a"), Ok(b"v".to_vec()));
    assert_eq!(set(&mut s, &fh, Either, b"a", b"w"), Err(Nfsstat4::Access));
    assert_eq!(remove(&mut s, &fh, b"a"), Err(Nfsstat4::Access));
    let path = server.export().join("f");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
    assert_eq!(get(&mut s, &fh, b"a"), Err(Nfsstat4::Access));
    drop(s);
    let server = Setup::options("ro,no_root_squash,insecure").start();
    let (mut s, _) = session(&server);
    let fh = a_file(&server, &mut s);
    assert_eq!(set(&mut s, &fh, Either, b"a", b"w"), Err(Nfsstat4::Rofs));
    assert_eq!(remove(&mut s, &fh, b"a"), Err(Nfsstat4::Rofs));
    assert_eq!(get(&mut s, &fh, b"a"), Err(Nfsstat4::Noxattr));
}

#[test]
fn listxattrs_page_by_page() {
    let server = TestServer::start();
    let (mut s, _) = session(&server);
    let fh = a_file(&server, &mut s);
    assert_eq!(page(&mut s, &fh, 0, 4096), Ok((0, Vec::new(), true)));
    let names: BTreeSet<Vec<u8>> = (0..50).map(|n| format!("name.{n}").into_bytes()).collect();
    for name in &names {
        set(&mut s, &fh, Create, name, b"v").expect("new");
    }
    let (_, all, eof) = page(&mut s, &fh, 0, 4096).expect("a list");
    assert!(eof && all.len() == 50 && all.into_iter().collect::<BTreeSet<_>>() == names);
    let (mut seen, mut cookie) = (BTreeSet::new(), 0);
    loop {
        let (last, some, eof) = page(&mut s, &fh, cookie, 100).expect("a page");
        for name in some {
            assert!(seen.insert(name), "twice");
        }
        if eof {
            break;
        }
        // What was listed may go meanwhile.
        let gone = seen.first().expect("one").clone();
        let _ = remove(&mut s, &fh, &gone);
        cookie = last;
    }
    assert_eq!(seen, names);
    for few in [0, 15, 20] {
        assert_eq!(page(&mut s, &fh, 0, few), Err(Nfsstat4::Toosmall));
    }
}

#[test]
fn xattr_support_and_the_pseudo_file_system() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let mut done = s.call(&Ops::new().putfh(&root).getattr(&[bit::XATTR_SUPPORT]));
    done.ok(Op4::Putfh);
    assert!(done.attrs().get::<bool>(bit::XATTR_SUPPORT));
    let mut done = s.call(&Ops::new().putrootfh().getattr(&[bit::XATTR_SUPPORT]));
    done.ok(Op4::Putrootfh);
    assert!(!done.attrs().get::<bool>(bit::XATTR_SUPPORT));
    let ops = Ops::new().putrootfh().op(Op4::Getxattr, &Component4(b"a"));
    let mut done = s.call(&ops);
    done.ok(Op4::Putrootfh);
    assert_eq!(done.status_of(Op4::Getxattr), Nfsstat4::Notsupp);
}
