//! The `acl` and `aclsupport` attributes: GETATTR, READDIR, SETATTR, VERIFY, and where there are none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use acl::nfs4::{ACLSUPPORT, Flags, MAX_ACES};
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::readdir::ReaddirArgs;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Attrs, Ops, Raw, fattr};
use tests::client::{Client, encode};
use tests::daemon::{Setup, TestServer};

use super::at_export;

/// Type, flags, mask, name.
type Entry<'a> = (u32, u32, u32, &'a str);

/// What `rw-r-----` allows, and a user and a group.
const NAMED: &[Entry<'_>] = &[
    (0, 0, 0x16_0187, "OWNER@"),
    (0, 0, 0x12_0081, "1001"),
    (0, 0, 0x12_0081, "GROUP@"),
    (0, 0x40, 0x12_0087, "1002"),
    (0, 0, 0x12_0080, "EVERYONE@"),
];

fn list(entries: &[Entry<'_>]) -> Vec<u8> {
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
fn stored(path: &Path, name: &str) -> String {
    let mut value = vec![0; 65_536];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(len) => format!("{:?}", acl::xattr::decode(&value[..len]).expect("an ACL")),
        Err(rustix::io::Errno::NODATA) => String::new(),
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

fn mode(path: &Path) -> u32 {
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
    // A mode comes on top of the ACL it is sent with.
    let both = [sent, (bit::MODE, encode(&0o4600_u32))];
    assert_eq!(set(&mut client, &fh, &both), Nfsstat4::Ok);
    let text = "u::rw-,u:1001:r--,g::r--,g:1002:rw-,m::---,o::---";
    assert_eq!(stored(&path, acl::xattr::ACCESS), text);
    assert_eq!(mode(&path), 0o4600);
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
    // Only on what is there.
    let mut args = encode(&Createtype4::Directory);
    args.extend(encode(&Component4(b"new")));
    args.extend(fattr(&[(bit::ACL, good)]));
    let ops = Ops::new().putfh(&root).op(Op4::Create, &Raw(&args));
    assert_eq!(client.compound(0, &ops).status, Nfsstat4::Attrnotsupp);
    assert!(!server.export().join("new").exists());
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
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // They were at it.
    while stored(&path, acl::xattr::ACCESS).is_empty() || server.stat("acls.in_use") != 0 {
        assert!(
            std::time::Instant::now() < end,
            "not set, or an ACL is left"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
