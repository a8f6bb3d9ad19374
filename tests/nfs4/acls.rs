//! The `acl`, `dacl` and `aclsupport` attributes: GETATTR, READDIR, SETATTR, VERIFY, what is put back, who is called for
//! it, and where there are none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use acl::nfs4::{ACLSUPPORT, Flags, MAX_ACES};
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::readdir::ReaddirArgs;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Attrs, Ops, Raw, fattr};
use tests::client::session::Session;
use tests::client::{Client, Login, encode};
use tests::daemon::{Setup, TestServer};

use super::{at_export, callbacks};
use crate::nfsacl::refusals::without_acls;

/// Type, flags, mask, name.
pub(super) type Entry<'a> = (u32, u32, u32, &'a str);

/// What `rw-r-----` allows, and a user and a group.
pub(super) const NAMED: &[Entry<'_>] = &[
    (0, 0, 0x16_0187, "OWNER@"),
    (0, 0, 0x12_0081, "1001"),
    (0, 0, 0x12_0081, "GROUP@"),
    (0, 0x40, 0x12_0087, "1002"),
    (0, 0, 0x12_0080, "EVERYONE@"),
];

pub(super) fn list(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = encode(&(entries.len() as u32));
    for (kind, flags, mask, who) in entries {
        for word in [*kind, *flags, *mask] {
            out.extend(encode(&word));
        }
        out.extend(encode(&Component4(who.as_bytes())));
    }
    out
}

fn get(client: &mut Client, fh: &[u8]) -> Attrs {
    let asked = [bit::ACL, bit::ACLSUPPORT];
    let mut done = client.compound(0, &Ops::new().putfh(fh).getattr(&asked));
    done.ok(Op4::Putfh);
    done.attrs()
}

fn set(client: &mut Client, fh: &[u8], values: &[(u32, Vec<u8>)]) -> Nfsstat4 {
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend(fattr(values));
    let mut done = client.compound(0, &Ops::new().putfh(fh).op(Op4::Setattr, &Raw(&args)));
    done.ok(Op4::Putfh);
    done.status_of(Op4::Setattr)
}

fn look(client: &mut Client, dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut done = client.compound(0, &Ops::new().putfh(dir).lookup(name).getfh());
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    done.fh().to_vec()
}

/// An ACL on the server's side in short text form; empty if there is none.
pub(super) fn stored(path: &Path, name: &str) -> String {
    let mut value = vec![0; 65_536];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(len) => format!("{:?}", acl::xattr::decode(&value[..len]).expect("an ACL")),
        Err(rustix::io::Errno::NODATA) => String::new(),
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

fn file(server: &TestServer) -> std::path::PathBuf {
    let path = server.export().join("f");
    fs::write(&path, "text").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    path
}

#[test]
fn set_and_get() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let path = file(&server);
    let fh = look(&mut client, &root, b"f");
    assert_eq!(
        get(&mut client, &fh).get::<u32>(bit::ACLSUPPORT),
        ACLSUPPORT
    );
    let sent = (bit::ACL, list(NAMED));
    assert_eq!(
        set(&mut client, &fh, std::slice::from_ref(&sent)),
        Nfsstat4::Ok
    );
    let text = "u::rw-,u:1001:r--,g::r--,g:1002:rw-,m::rw-,o::---";
    assert_eq!(stored(&path, acl::xattr::ACCESS), text);
    // What is shown is taken back, and says the same.
    let shown = get(&mut client, &fh).0.remove(&bit::ACL).expect("an ACL");
    assert_eq!(
        set(&mut client, &fh, &[(bit::ACL, shown.clone())]),
        Nfsstat4::Ok
    );
    assert_eq!(stored(&path, acl::xattr::ACCESS), text);
    for (value, status) in [(&shown, Nfsstat4::Ok), (&list(&[]), Nfsstat4::NotSame)] {
        let verify = fattr(&[(bit::ACL, value.clone())]);
        let ops = Ops::new().putfh(&fh).op(Op4::Verify, &Raw(&verify));
        assert_eq!(client.compound(0, &ops).status, status);
    }
    // The ACL comes on top of the mode it is sent with (RFC 8881 6.4.1.3).
    for special in [0o4000, 0] {
        let both = [sent.clone(), (bit::MODE, encode(&(special | 0o777_u32)))];
        assert_eq!(set(&mut client, &fh, &both), Nfsstat4::Ok);
        assert_eq!(stored(&path, acl::xattr::ACCESS), text);
        assert_eq!(mode(&path), special | 0o660);
    }
    drop(client);
    assert_eq!(server.stat("acls.in_use"), 0);
}

#[test]
fn inheritance_and_listing() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let path = server.export().join("d");
    fs::create_dir(&path).expect("a directory");
    let dir = look(&mut client, &root, b"d");
    let inherited = (Flags::FILE_INHERIT | Flags::DIRECTORY_INHERIT | Flags::INHERIT_ONLY).wire();
    let mut entries = vec![
        (0, 0, 0x16_01e7, "OWNER@"),
        (0, 0, 0x12_00a1, "GROUP@"),
        (0, 0, 0x12_0080, "EVERYONE@"),
    ];
    let more: Vec<Entry<'_>> = entries.iter().map(|e| (e.0, inherited, e.2, e.3)).collect();
    entries.extend(more);
    entries.push((0, inherited, 0x12_00a1, "1001"));
    let value = list(&entries);
    assert_eq!(set(&mut client, &dir, &[(bit::ACL, value)]), Nfsstat4::Ok);
    assert_eq!(stored(&path, acl::xattr::ACCESS), "");
    assert_eq!(mode(&path), 0o750);
    let text = "u::rwx,u:1001:r-x,g::r-x,m::r-x,o::---";
    assert_eq!(stored(&path, acl::xattr::DEFAULT), text);
    fs::create_dir(path.join("sub")).expect("a directory");
    assert_eq!(stored(&path.join("sub"), acl::xattr::DEFAULT), text);
    let sub = look(&mut client, &dir, b"sub");
    let shown = get(&mut client, &sub).0.remove(&bit::ACL).expect("an ACL");

    let args = ReaddirArgs {
        cookie: 0,
        cookieverf: [0; 8],
        dircount: 4096,
        maxcount: 4096,
        attr_request: Bitmap4::of(&[bit::ACL]),
    };
    let mut done = client.compound(0, &Ops::new().putfh(&dir).op(Op4::Readdir, &args));
    done.ok(Op4::Putfh);
    done.body::<[u8; 8]>(Op4::Readdir);
    assert!(done.more::<bool>());
    assert!(done.more::<u64>() > 2);
    assert_eq!(done.more::<Component4<'_>>().0, b"sub");
    let listed = Attrs::of(&done.more::<Fattr4<'_>>());
    assert_eq!(listed.0.get(&bit::ACL), Some(&shown));
    // Nothing to inherit any more.
    let value = list(&entries[..3]);
    assert_eq!(set(&mut client, &dir, &[(bit::ACL, value)]), Nfsstat4::Ok);
    assert_eq!(stored(&path, acl::xattr::DEFAULT), "");
}

#[test]
fn refused() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let path = file(&server);
    let fh = look(&mut client, &root, b"f");
    let good = list(NAMED);
    for cut in (0..good.len()).step_by(4) {
        let half = vec![(bit::ACL, good[..cut].to_vec())];
        assert_eq!(set(&mut client, &fh, &half), Nfsstat4::Badxdr, "{cut}");
    }
    let many = encode(&(MAX_ACES as u32 + 1));
    assert_eq!(set(&mut client, &fh, &[(bit::ACL, many)]), Nfsstat4::Badxdr);
    for (entry, status) in [
        ((0, 0, 1, "nobody-knows@nowhere"), Nfsstat4::Badowner),
        ((0, 0, 1, "INTERACTIVE@"), Nfsstat4::Badowner),
        ((0, 0, 1, ""), Nfsstat4::Inval),
        ((0, 0, 1 << 31, "OWNER@"), Nfsstat4::Inval),
        ((2, 0, 1, "OWNER@"), Nfsstat4::Attrnotsupp),
        ((0, 1, 1, "OWNER@"), Nfsstat4::Attrnotsupp),
        ((4, 0, 1, "OWNER@"), Nfsstat4::Badxdr),
    ] {
        let value = list(&[entry]);
        assert_eq!(
            set(&mut client, &fh, &[(bit::ACL, value)]),
            status,
            "{entry:?}"
        );
    }
    let support = vec![(bit::ACLSUPPORT, encode(&3_u32))];
    assert_eq!(set(&mut client, &fh, &support), Nfsstat4::Inval);
    assert_eq!(
        (stored(&path, acl::xattr::ACCESS), mode(&path)),
        (String::new(), 0o640)
    );
    drop(client);
    assert_eq!(server.stat("acls.in_use"), 0);
}

#[test]
fn an_export_without_acls() {
    let server = Setup::options("rw,no_acl,no_root_squash,insecure").start();
    let (mut client, root) = at_export(&server);
    file(&server);
    let fh = look(&mut client, &root, b"f");
    let attrs = get(&mut client, &fh);
    assert_eq!(attrs.get::<u32>(bit::ACLSUPPORT), 0);
    assert!(!attrs.0.contains_key(&bit::ACL));
    let value = vec![(bit::ACL, list(NAMED))];
    assert_eq!(set(&mut client, &fh, &value), Nfsstat4::Attrnotsupp);
    assert_eq!(
        made_with_acl(&mut client, &root),
        [Nfsstat4::Attrnotsupp; 2]
    );
    assert!(!server.export().join("new").exists());
}

/// CREATE of a directory and of a special file with an ACL.
fn made_with_acl(client: &mut Client, dir: &[u8]) -> [Nfsstat4; 2] {
    [Createtype4::Directory, Createtype4::Fifo].map(|what| {
        let mut args = encode(&what);
        args.extend(encode(&Component4(b"new")));
        args.extend(fattr(&[(bit::ACL, list(NAMED))]));
        let ops = Ops::new().putfh(dir).op(Op4::Create, &Raw(&args));
        client.compound(0, &ops).status
    })
}

/// A file system mounted without ACLs; `umask(2)` is heeded there all the same.
#[test]
fn a_file_system_without_acls() {
    let test = "nfs4::acls::a_file_system_without_acls";
    let Some((server, fs)) = without_acls(test) else {
        return;
    };
    let (mut client, root) = at_export(&server);
    let path = file(&server);
    let fh = look(&mut client, &root, b"f");
    for fh in [&fh, &root] {
        let attrs = get(&mut client, fh);
        assert_eq!(attrs.get::<u32>(bit::ACLSUPPORT), 0);
        assert!(!attrs.0.contains_key(&bit::ACL));
        let value = vec![(bit::ACL, list(NAMED))];
        assert_eq!(set(&mut client, fh, &value), Nfsstat4::Attrnotsupp);
        let verify = fattr(&[(bit::ACL, list(NAMED))]);
        let ops = Ops::new().putfh(fh).op(Op4::Verify, &Raw(&verify));
        assert_eq!(client.compound(0, &ops).status, Nfsstat4::Attrnotsupp);
    }
    assert_eq!(
        made_with_acl(&mut client, &root),
        [Nfsstat4::Attrnotsupp; 2]
    );
    assert_eq!(mode(&path), 0o640);
    let (mut session, root) = super::session(&server);
    let mut args = encode(&Createtype4::Directory);
    args.extend(encode(&Component4(b"d")));
    let value = [encode(&0o777_u32), encode(&0o027_u32)].concat();
    args.extend(fattr(&[(bit::MODE_UMASK, value)]));
    let done = session.at(&root, &Ops::new().op(Op4::Create, &Raw(&args)));
    assert_eq!(done.status, Nfsstat4::Ok);
    assert_eq!(mode(&server.export().join("d")), 0o750);
    drop((client, session));
    drop(server);
    drop(fs);
}

/// `dacl` is `acl` with flags, of which automatic inheritance has no place in a POSIX ACL.
#[test]
fn dacl_of_4_1() {
    let server = TestServer::start();
    let path = file(&server);
    let (mut client, root) = at_export(&server);
    let fh = look(&mut client, &root, b"f");
    let mut session = Session::new(server.client(), 1);
    let mut set = |values: &[(u32, Vec<u8>)]| {
        let mut args = encode(&Stateid4::ANONYMOUS);
        args.extend(fattr(values));
        session
            .at(&fh, &Ops::new().op(Op4::Setattr, &Raw(&args)))
            .status
    };
    let with = |flag: u32, entries| [encode(&flag), list(entries)].concat();
    let text = "u::rw-,u:1001:r--,g::r--,g:1002:rw-,m::rw-,o::---";
    for flag in [0, 2] {
        assert_eq!(set(&[(bit::DACL, with(flag, &NAMED[..1]))]), Nfsstat4::Ok);
        assert_eq!(stored(&path, acl::xattr::ACCESS), "");
        assert_eq!(set(&[(bit::DACL, with(flag, NAMED))]), Nfsstat4::Ok);
        assert_eq!(stored(&path, acl::xattr::ACCESS), text);
    }
    let inherited = [(0, 0x80, 0x12_0081, "OWNER@")];
    for (value, status) in [
        (with(1, NAMED), Nfsstat4::Attrnotsupp),
        (with(4, NAMED), Nfsstat4::Attrnotsupp),
        (with(8, NAMED), Nfsstat4::Inval),
        (with(0, &inherited), Nfsstat4::Attrnotsupp),
        (encode(&0_u32), Nfsstat4::Badxdr),
    ] {
        assert_eq!(set(&[(bit::DACL, value)]), status);
    }
    let both = [(bit::ACL, list(NAMED)), (bit::DACL, with(0, NAMED))];
    assert_eq!(set(&both), Nfsstat4::Attrnotsupp);
    assert_eq!(set(&[(59, with(0, &[]))]), Nfsstat4::Attrnotsupp);
    assert_eq!(stored(&path, acl::xattr::ACCESS), text);
    let mut done = session.at(&fh, &Ops::new().getattr(&[bit::ACL, bit::DACL]));
    let attrs = done.attrs();
    let (acl, dacl) = (&attrs.0[&bit::ACL], &attrs.0[&bit::DACL]);
    assert_eq!(
        dacl[..4],
        encode(&2_u32),
        "nothing changes it but who sets it"
    );
    assert_eq!(dacl[4..], acl[..]);
    for (value, status) in [
        (dacl.clone(), Nfsstat4::Ok),
        (with(0, NAMED), Nfsstat4::NotSame),
    ] {
        let verify = fattr(&[(bit::DACL, value)]);
        let done = session.at(&fh, &Ops::new().op(Op4::Verify, &Raw(&verify)));
        assert_eq!(done.status, status);
    }
    // 4.0 does not have it.
    let mut done = client.compound(0, &Ops::new().putfh(&fh).getattr(&[bit::DACL]));
    done.ok(Op4::Putfh);
    assert!(done.attrs().0.is_empty());
}

/// Something of the same SETATTR cannot be set, after the ACL was.
#[test]
fn put_back() {
    let server = TestServer::start();
    let path = file(&server);
    let (mut client, root) = at_export(&server);
    let fh = look(&mut client, &root, b"f");
    let old = "u::rw-,u:7:rw-,g::---,m::rw-,o::r--";
    let (mut three, root3) = server.mounted();
    let fh3 = three.fh_of(&root3, b"f");
    assert_eq!(three.setacl(&fh3, Some(old), None), Nfsstat3::Ok);
    // Owned by somebody who is not in its group: whatever he does takes the setgid bit away.
    chown(&path, Some(1001), Some(1007)).expect("chown");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2664)).expect("chmod");
    let before = (stored(&path, acl::xattr::ACCESS), mode(&path));
    assert_eq!(before.1, 0o2664);
    let too_big = (bit::SIZE, encode(&u64::MAX));
    let sent = (bit::ACL, list(NAMED));
    for values in [
        vec![too_big.clone(), sent.clone()],
        vec![
            too_big.clone(),
            sent.clone(),
            (bit::MODE, encode(&0o4777_u32)),
        ],
        vec![
            sent.clone(),
            (bit::MODE, encode(&0o700_u32)),
            (bit::OWNER, encode(&OwnerName4(b"1002"))),
        ],
    ] {
        let status = client.as_user(Login::user(1001, 1001), |c| set(c, &fh, &values));
        let expected = match values[0].0 {
            bit::SIZE => Nfsstat4::Fbig,
            _ => Nfsstat4::Perm,
        };
        assert_eq!(status, expected);
        let now = (stored(&path, acl::xattr::ACCESS), mode(&path));
        assert_eq!(now, before, "{values:?}");
        assert_eq!(fs::read(&path).expect("there"), b"text");
    }
    // What others get to see is what is stored.
    assert_eq!(three.acls(&fh3).0, old);
    drop((client, three));
    assert_eq!(server.stat("acls.in_use"), 0);
}

/// Names of users and groups: numbers, and names with the domain, of this machine's databases.
#[test]
fn names_of_users_and_groups() {
    let settings = "idmap = \"names\"\nidmap_domain = \"example.org\"\n";
    let server = Setup::config(settings).start();
    let (mut client, root) = at_export(&server);
    let path = file(&server);
    let fh = look(&mut client, &root, b"f");
    let named = |user, group| {
        let entry = |flags, who| (0, flags, 0x12_0081, who);
        list(&[NAMED[0], entry(0, user), entry(0x40, group)])
    };
    let text = "u::rw-,u:1:r--,g::---,g:2:r--,m::r--,o::---";
    for (user, group) in [
        ("1", "2"),
        ("daemon@example.org", "bin@EXAMPLE.org"),
        ("daemon@example.org", "2"),
    ] {
        let value = vec![(bit::ACL, list(&NAMED[..1]))];
        assert_eq!(set(&mut client, &fh, &value), Nfsstat4::Ok);
        let value = vec![(bit::ACL, named(user, group))];
        assert_eq!(set(&mut client, &fh, &value), Nfsstat4::Ok);
        assert_eq!(stored(&path, acl::xattr::ACCESS), text, "{user} {group}");
    }
    let shown = get(&mut client, &fh).0.remove(&bit::ACL).expect("an ACL");
    let shows = |name: &[u8]| shown.windows(name.len()).any(|part| part == name);
    assert!(shows(b"daemon@example.org") && shows(b"bin@example.org"));
    for (user, group) in [
        ("daemon@elsewhere.org", "2"),
        ("1", "no-such-group@example.org"),
        ("4294967296", "2"),
        ("daemon", "2"),
    ] {
        let value = vec![(bit::ACL, named(user, group))];
        let status = set(&mut client, &fh, &value);
        assert_eq!(status, Nfsstat4::Badowner, "{user} {group}");
    }
    assert_eq!(stored(&path, acl::xattr::ACCESS), text);
}

/// Setting an ACL changes what others were promised about the file: they are called.
#[test]
fn setting_one_recalls_delegations() {
    let server = TestServer::start();
    let mut holder = callbacks::session(&server, "holder");
    for number in 0..3 {
        let name = format!("f{number}");
        let fh = callbacks::file(&server, &name, b"data");
        let path = server.export().join(&name);
        let held = callbacks::delegated(&mut holder, &fh, 1);
        thread::scope(|scope| {
            let (server, fh) = (&server, &fh);
            let setter = scope.spawn(move || match number {
                0 => {
                    let (mut three, root) = server.mounted();
                    let fh = three.fh_of(&root, name.as_bytes());
                    let acl = "u::rw-,u:1001:r--,g::r--,m::r--,o::---";
                    retry(|| three.setacl(&fh, Some(acl), None), Nfsstat3::Jukebox) == Nfsstat3::Ok
                }
                _ => {
                    let mut client = server.client();
                    let sent = vec![(bit::ACL, list(NAMED))];
                    let sent = match number {
                        1 => sent,
                        _ => [sent, vec![(bit::MODE, encode(&0o4640_u32))]].concat(),
                    };
                    retry(|| set(&mut client, fh, &sent), Nfsstat4::Delay) == Nfsstat4::Ok
                }
            });
            callbacks::hear_recall(&mut holder, fh, &held);
            assert_eq!(
                stored(&path, acl::xattr::ACCESS),
                "",
                "not before it is back"
            );
            callbacks::give_back(&mut holder, fh, &held);
            assert!(setter.join().expect("no panic"));
        });
        assert_ne!(stored(&path, acl::xattr::ACCESS), "");
    }
}

/// Asks until it is not put off any more.
fn retry<T: PartialEq>(mut ask: impl FnMut() -> T, later: T) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask();
        if answer != later || Instant::now() > end {
            return answer;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Clients that go away while their ACLs are being set or read.
#[test]
fn vanishing_clients() {
    let server = TestServer::start();
    let path = file(&server);
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend(fattr(&[(bit::ACL, list(NAMED))]));
    for _ in 0..20 {
        let (mut session, root) = super::session(&server);
        let ops = Ops::new().putfh(&root).lookup(b"f");
        let ops = ops.op(Op4::Setattr, &Raw(&args)).getattr(&[bit::ACL]);
        session.start(0, &ops);
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // They were at it.
    while stored(&path, acl::xattr::ACCESS).is_empty() || server.stat("acls.in_use") != 0 {
        assert!(
            std::time::Instant::now() < end,
            "not set, or an ACL is left"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
