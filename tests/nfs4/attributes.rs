//! Attributes: GETATTR, SETATTR, VERIFY, NVERIFY, ACCESS.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::{bit, readable, supported};
use nfsd::nfs4::op::access::bits;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, fattr, mode4};
use tests::client::{Client, encode};
use tests::daemon::TestServer;

use super::at_export;

fn setattr(client: &mut Client, fh: &[u8], attrs: &[u8]) -> (Nfsstat4, Bitmap4) {
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend_from_slice(attrs);
    let mut done = client.compound(0, &Ops::new().putfh(fh).raw(Op4::Setattr.wire(), &args));
    done.ok(Op4::Putfh);
    let status = done.status_of(Op4::Setattr);
    let mask = match status {
        Nfsstat4::Badxdr => Bitmap4::EMPTY,
        _ => done.more(),
    };
    (status, mask)
}

#[test]
fn getattr_of_everything() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let all: Vec<u32> = (0..96).filter(|bit| ![48, 54].contains(bit)).collect();
    let mut done = client.compound(0, &Ops::new().putfh(&root).getattr(&all));
    done.ok(Op4::Putfh);
    let attrs = done.attrs();
    assert_eq!(attrs.get::<Bitmap4>(bit::SUPPORTED_ATTRS), supported(0));
    let meta = fs::metadata(server.export()).expect("there");
    assert_eq!(attrs.get::<u64>(bit::FILEID), meta.ino());
    assert_eq!(attrs.get::<u32>(bit::MODE), meta.mode() & 0o7777);
    assert_eq!(attrs.get::<u32>(bit::NUMLINKS), meta.nlink() as u32);
    assert_eq!(
        attrs.get::<OwnerName4<'_>>(bit::OWNER).0,
        meta.uid().to_string().as_bytes()
    );
    assert_eq!(attrs.get::<NfsFh4<'_>>(bit::FILEHANDLE).0, root);
    for number in attrs.0.keys() {
        assert!(readable(0).has(*number), "{number}");
    }
    // What can only be set cannot be asked for.
    let done = client.compound(0, &Ops::new().putfh(&root).getattr(&[bit::TIME_MODIFY_SET]));
    assert_eq!(done.status, Nfsstat4::Inval);
}

#[test]
fn setattr_and_its_errors() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let path = server.export().join("f");
    fs::write(&path, "12345678").expect("a file");
    let mut found = client.compound(0, &Ops::new().putfh(&root).lookup(b"f").getfh());
    found.ok(Op4::Putfh);
    found.ok(Op4::Lookup);
    let fh = found.fh();
    let done = setattr(&mut client, &fh, &mode4(0o604));
    assert_eq!(done, (Nfsstat4::Ok, Bitmap4::of(&[bit::MODE])));
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o604);
    let size = fattr(&[(bit::SIZE, encode(&3_u64))]);
    assert_eq!(setattr(&mut client, &fh, &size).0, Nfsstat4::Ok);
    assert_eq!(fs::read(&path).expect("there"), b"123");
    assert_eq!(setattr(&mut client, &root, &size).0, Nfsstat4::Isdir);
    let owner = fattr(&[(bit::OWNER, encode(&OwnerName4(b"1234")))]);
    assert_eq!(setattr(&mut client, &fh, &owner).0, Nfsstat4::Ok);
    assert_eq!(fs::metadata(&path).expect("there").uid(), 1234);
    let nobody = fattr(&[(bit::OWNER, encode(&OwnerName4(b"no such user@nowhere")))]);
    assert_eq!(
        setattr(&mut client, &fh, &nobody),
        (Nfsstat4::Badowner, Bitmap4::EMPTY)
    );
    let mut time = encode(&1_u32);
    time.extend(encode(&1_000_000_i64));
    time.extend(encode(&5_u32));
    let mtime = fattr(&[(bit::TIME_MODIFY_SET, time)]);
    assert_eq!(setattr(&mut client, &fh, &mtime).0, Nfsstat4::Ok);
    let meta = fs::metadata(&path).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000, 5));
    let wrong = fattr(&[(bit::FILEID, encode(&1_u64))]);
    assert_eq!(setattr(&mut client, &fh, &wrong).0, Nfsstat4::Inval);
    let unknown = fattr(&[(90, encode(&1_u64))]);
    assert_eq!(setattr(&mut client, &fh, &unknown).0, Nfsstat4::Attrnotsupp);
    let mode = mode4(0o20_000);
    assert_eq!(setattr(&mut client, &fh, &mode).0, Nfsstat4::Inval);
    let more = fattr(&[(bit::MODE, encode(&0o600_u64))]);
    assert_eq!(setattr(&mut client, &fh, &more).0, Nfsstat4::Badxdr);
}

#[test]
fn change_moves_with_every_change() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    fs::write(server.export().join("f"), "x").expect("a file");
    let mut found = client.compound(0, &Ops::new().putfh(&root).lookup(b"f").getfh());
    found.ok(Op4::Putfh);
    found.ok(Op4::Lookup);
    let fh = found.fh();
    let mut last = 0;
    for i in 0..200_u32 {
        assert_eq!(
            setattr(&mut client, &fh, &mode4(0o600 + i % 2)).0,
            Nfsstat4::Ok
        );
        let mut done = client.compound(0, &Ops::new().putfh(&fh).getattr(&[bit::CHANGE]));
        done.ok(Op4::Putfh);
        let change: u64 = done.attrs().get(bit::CHANGE);
        assert!(change > last, "{change} after {last}");
        last = change;
    }
}

#[test]
fn verify_and_nverify() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let meta = fs::metadata(server.export()).expect("there");
    let right = fattr(&[
        (bit::TYPE, encode(&2_u32)),
        (bit::FILEID, encode(&meta.ino())),
    ]);
    let wrong = fattr(&[
        (bit::TYPE, encode(&2_u32)),
        (bit::FILEID, encode(&(meta.ino() + 1))),
    ]);
    for (op, attrs, expected) in [
        (Op4::Verify, &right, Nfsstat4::Ok),
        (Op4::Verify, &wrong, Nfsstat4::NotSame),
        (Op4::Nverify, &right, Nfsstat4::Same),
        (Op4::Nverify, &wrong, Nfsstat4::Ok),
        (
            Op4::Verify,
            &fattr(&[(90, encode(&1_u64))]),
            Nfsstat4::Attrnotsupp,
        ),
        (
            Op4::Nverify,
            &fattr(&[(bit::RDATTR_ERROR, encode(&0_u32))]),
            Nfsstat4::Inval,
        ),
    ] {
        let done = client.compound(0, &Ops::new().putfh(&root).raw(op.wire(), attrs));
        assert_eq!(done.status, expected, "{op}");
    }
}

#[test]
fn access_says_what_it_knows() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let mut done = client.compound(0, &Ops::new().putfh(&root).op(Op4::Access, &u32::MAX));
    done.ok(Op4::Putfh);
    let supported: u32 = done.body(Op4::Access);
    let granted: u32 = done.more();
    assert_eq!(supported, 0x1f);
    assert_eq!(
        granted,
        bits::READ | bits::LOOKUP | bits::MODIFY | bits::EXTEND | bits::DELETE
    );
    let mut done = client.compound(0, &Ops::new().putrootfh().op(Op4::Access, &0x3f_u32));
    done.ok(Op4::Putrootfh);
    let _: u32 = done.body(Op4::Access);
    assert_eq!(done.more::<u32>(), bits::READ | bits::LOOKUP);
}
