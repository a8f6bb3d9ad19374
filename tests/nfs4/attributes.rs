//! Attributes: GETATTR, SETATTR, VERIFY, NVERIFY, ACCESS.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::UNIX_EPOCH;

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::{bit, readable, supported};
use nfsd::nfs4::op::access::bits;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use rustix::fs::{CWD, Mode, StatFs, StatVfs};
use tests::client::nfs4::{Attrs, Ops, fattr, mode4};
use tests::client::session::Session;
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

fn stats(path: &Path) -> (StatVfs, StatFs) {
    let space = rustix::fs::statvfs(path).expect("statvfs");
    (space, rustix::fs::statfs(path).expect("statfs"))
}

/// All attributes of `fh` in the newest minor version, at a moment in which nobody else changes the space there is.
fn all_of(session: &mut Session, fh: &[u8], path: &Path) -> (Attrs, StatVfs, StatFs) {
    let all: Vec<u32> = (0..96)
        .filter(|bit| readable(2).has(*bit) && *bit != bit::RDATTR_ERROR)
        .collect();
    for _ in 0..100_000 {
        let before = stats(path).0;
        let mut done = session.at(fh, &Ops::new().getattr(&all));
        let (after, fs) = stats(path);
        let free = |s: &StatVfs| (s.f_bfree, s.f_bavail, s.f_ffree, s.f_favail);
        if free(&before) == free(&after) {
            return (done.attrs(), after, fs);
        }
    }
    panic!("the free space of {} never rests", path.display());
}

/// `nfstime4`.
fn time(sec: i64, nsec: i64) -> Vec<u8> {
    [encode(&sec), encode(&(nsec as u32))].concat()
}

/// What is the file's own is what statx(2) says.
fn same_as_statx(attrs: &Attrs, meta: &fs::Metadata) {
    let of = |number| attrs.get::<u64>(number);
    assert_eq!(of(bit::SIZE), meta.size());
    assert_eq!(of(bit::SPACE_USED), meta.blocks() * 512);
    assert_eq!(of(bit::FILEID), meta.ino());
    let mode = u64::from(attrs.get::<u32>(bit::MODE));
    assert_eq!(mode, u64::from(meta.mode() & 0o7777));
    let of = |number| &attrs.0[&number];
    let (major, minor) = (
        rustix::fs::major(meta.rdev()),
        rustix::fs::minor(meta.rdev()),
    );
    let device = [encode(&major), encode(&minor)].concat();
    assert_eq!(of(bit::RAWDEV), &device);
    let modified = time(meta.mtime(), meta.mtime_nsec());
    assert_eq!(of(bit::TIME_MODIFY), &modified);
    let changed = time(meta.ctime(), meta.ctime_nsec());
    assert_eq!(of(bit::TIME_METADATA), &changed);
    let accessed = time(meta.atime(), meta.atime_nsec());
    assert_eq!(of(bit::TIME_ACCESS), &accessed);
    // Some file systems do not record it.
    let created = meta.created().ok().map(|created| {
        let since = created.duration_since(UNIX_EPOCH).expect("lately");
        time(since.as_secs() as i64, since.subsec_nanos().into())
    });
    assert_eq!(attrs.0.get(&bit::TIME_CREATE), created.as_ref());
}

/// What is the file system's is what statvfs(2) says, or the same everywhere.
fn same_as_statvfs(attrs: &Attrs, space: &StatVfs, fs: &StatFs) {
    let bytes = |blocks| blocks * space.f_frsize;
    for (number, value) in [
        (bit::SPACE_TOTAL, bytes(space.f_blocks)),
        (bit::SPACE_FREE, bytes(space.f_bfree)),
        (bit::SPACE_AVAIL, bytes(space.f_bavail)),
        (bit::FILES_TOTAL, space.f_files),
        (bit::FILES_FREE, space.f_ffree),
        (bit::FILES_AVAIL, space.f_favail),
        (bit::MAXFILESIZE, i64::MAX as u64),
    ] {
        assert_eq!(attrs.get::<u64>(number), value, "{number}");
    }
    for (number, value) in [
        (bit::MAXNAME, space.f_namemax),
        (bit::CLONE_BLKSIZE, fs.f_bsize as u64),
        // NFS4_CHANGE_TYPE_IS_TIME_METADATA (RFC 7862 12.2.3).
        (bit::CHANGE_ATTR_TYPE, 3),
        (bit::LEASE_TIME, 90),
        (bit::LINK_SUPPORT, 1),
        (bit::SYMLINK_SUPPORT, 1),
        (bit::NAMED_ATTR, 0),
        (bit::CASE_INSENSITIVE, 0),
        (bit::CASE_PRESERVING, 1),
        (bit::CHOWN_RESTRICTED, 1),
        (bit::NO_TRUNC, 1),
        (bit::HOMOGENEOUS, 1),
        (bit::CANSETTIME, 1),
        (bit::UNIQUE_HANDLES, 1),
        (bit::FH_EXPIRE_TYPE, 0),
    ] {
        assert_eq!(u64::from(attrs.get::<u32>(number)), value, "{number}");
    }
    assert_eq!(attrs.get::<Bitmap4>(bit::SUPPORTED_ATTRS), supported(2));
    let (most, written) = (attrs.get::<u64>(bit::MAXREAD), bit::MAXWRITE);
    assert!(most >= 1 << 20 && attrs.get::<u64>(written) == most);
}

#[test]
fn values_are_those_of_the_file_system() {
    let server = TestServer::start();
    let (mut session, root) = super::session(&server);
    let dir = server.export();
    fs::write(dir.join("file"), vec![1; 70_000]).expect("a file");
    let file = fs::File::open(dir.join("file")).expect("the file");
    // What is not allocated yet has no blocks.
    file.sync_all().expect("on disk");
    symlink("file", dir.join("link")).expect("a link");
    let (null, mode) = (rustix::fs::makedev(1, 3), Mode::from_raw_mode(0o600));
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, dir.join("null"), device, mode, null).expect("a device");
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::fsetxattr(&file, c"user.x", b"x", flags);
    for (name, kind) in [("", 2_u32), ("file", 1), ("link", 5), ("null", 4)] {
        let mut fh = root.clone();
        if !name.is_empty() {
            let look = Ops::new().lookup(name.as_bytes()).getfh();
            let mut done = session.at(&root, &look);
            done.ok(Op4::Lookup);
            fh = done.fh();
        }
        let (attrs, space, kept) = all_of(&mut session, &fh, &dir);
        println!("{name}: {} attributes", attrs.0.len());
        assert_eq!(attrs.get::<u32>(bit::TYPE), kind);
        let meta = fs::symlink_metadata(dir.join(name)).expect("the file");
        same_as_statx(&attrs, &meta);
        // An export's root covers a directory of the pseudo file system, with a number there.
        let covered = attrs.get::<u64>(bit::MOUNTED_ON_FILEID);
        assert_eq!(covered == meta.ino(), !name.is_empty(), "{name}");
        same_as_statvfs(&attrs, &space, &kept);
        assert_eq!(attrs.get::<bool>(bit::XATTR_SUPPORT), set.is_ok());
    }
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
