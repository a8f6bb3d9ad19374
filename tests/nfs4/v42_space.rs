//! Space of files: ALLOCATE, DEALLOCATE, SEEK, READ_PLUS, IO_ADVISE; and operations that are refused.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::allocate::RangeArgs;
use nfsd::nfs4::op::get_dir_delegation::{AttrNotice4, GetDirDelegationArgs, GetDirDelegationRes};
use nfsd::nfs4::op::io_advise::{IoAdviseArgs, hint};
use nfsd::nfs4::op::read::ReadArgs;
use nfsd::nfs4::op::read_plus::ReadPlusContent;
use nfsd::nfs4::op::seek::{CONTENT_DATA, CONTENT_HOLE, SeekArgs, SeekRes};
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use nfsd::xdr::Encode;
use tests::client::Login;
use tests::client::nfs4::{Ops, Results};
use tests::client::session::Session;
use tests::daemon::{Setup, TestServer};

use super::{open, session};

const MIB: u64 = 1 << 20;
const READ: u32 = 1;
const WRITE: u32 = 2;

/// One operation on a file of the export's root.
fn on(session: &mut Session, fh: &[u8], op: Op4, args: &impl Encode) -> (Nfsstat4, Results) {
    let mut done = session.call(&Ops::new().putfh(fh).op(op, args));
    done.ok(Op4::Putfh);
    (done.status_of(op), done)
}

fn range(stateid: Stateid4, offset: u64, length: u64) -> RangeArgs {
    RangeArgs {
        stateid,
        offset,
        length,
    }
}

/// A file with data of a mebibyte at 1 and 3 MiB, 5 MiB long.
fn sparse(server: &TestServer) -> fs::File {
    let path = server.export().join("sparse");
    let file = fs::File::create(&path).expect("a file");
    for at in [1, 3] {
        file.write_all_at(&vec![at as u8; MIB as usize], at * MIB)
            .expect("data");
    }
    file.set_len(5 * MIB).expect("a size");
    file.sync_all().expect("on disk");
    file
}

#[test]
fn allocate_reserves_and_extends() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let path = server.export().join("f");
    fs::write(&path, "abc").expect("a file");
    let fh = s.walk(path.to_str().expect("text"));
    let stateid = open(&mut s, &root, b"f", WRITE);
    let (status, done) = on(&mut s, &fh, Op4::Allocate, &range(stateid, 0, MIB));
    assert_eq!(status, Nfsstat4::Ok);
    done.end();
    let meta = fs::metadata(&path).expect("there");
    assert!(meta.len() == MIB && meta.blocks() * 512 >= MIB);
    assert_eq!(fs::read(&path).expect("contents")[..4], *b"abc\0");
    for (args, expected) in [
        (range(stateid, 0, 0), Nfsstat4::Inval),
        (range(stateid, 1, u64::MAX), Nfsstat4::Inval),
        (range(stateid, u64::MAX - 1, 1), Nfsstat4::Fbig),
        (range(Stateid4::INVALID, 0, 1), Nfsstat4::BadStateid),
    ] {
        assert_eq!(on(&mut s, &fh, Op4::Allocate, &args).0, expected);
    }
    let reading = open(&mut s, &root, b"f", READ);
    // Another open of the same owner: the stateid is one and may do both.
    assert_eq!(reading.other, stateid.other);
    let dir = on(&mut s, &root, Op4::Allocate, &range(stateid, 0, 1)).0;
    assert_eq!(dir, Nfsstat4::Isdir);
}

#[test]
fn deallocate_punches_and_keeps_the_size() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let path = server.export().join("f");
    fs::write(&path, vec![7; 2 * MIB as usize]).expect("a file");
    fs::File::open(&path)
        .and_then(|f| f.sync_all())
        .expect("on disk");
    let fh = s.walk(path.to_str().expect("text"));
    let before = fs::metadata(&path).expect("there").blocks();
    let stateid = open(&mut s, &root, b"f", WRITE);
    let (status, done) = on(&mut s, &fh, Op4::Deallocate, &range(stateid, MIB, 4 * MIB));
    assert_eq!(status, Nfsstat4::Ok);
    done.end();
    let data = fs::read(&path).expect("contents");
    assert!(data[..MIB as usize].iter().all(|&b| b == 7));
    assert!(data.len() as u64 == 2 * MIB && data[MIB as usize..].iter().all(|&b| b == 0));
    assert!(fs::metadata(&path).expect("there").blocks() <= before - MIB / 512);
    let empty = on(&mut s, &fh, Op4::Deallocate, &range(stateid, 0, 0)).0;
    assert_eq!(empty, Nfsstat4::Inval);
}

/// Without an open the mode decides; an open for reading does not let write; read-only exports do not.
#[test]
fn allocate_and_deallocate_take_permission() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let path = server.export().join("f");
    fs::write(&path, "abc").expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("chmod");
    let fh = s.walk(path.to_str().expect("text"));
    let reading = open(&mut s, &root, b"f", READ);
    for op in [Op4::Allocate, Op4::Deallocate] {
        let args = range(reading, 0, 1);
        assert_eq!(on(&mut s, &fh, op, &args).0, Nfsstat4::Openmode, "{op}");
    }
    s.client.set_login(Login::user(1000, 1000));
    for op in [Op4::Allocate, Op4::Deallocate] {
        let args = range(Stateid4::ANONYMOUS, 0, 1);
        assert_eq!(on(&mut s, &fh, op, &args).0, Nfsstat4::Access, "{op}");
    }
    drop(s);
    let server = Setup::options("ro,no_root_squash,insecure").start();
    let path = server.export().join("f");
    fs::write(&path, "abc").expect("a file");
    let (mut s, _) = session(&server);
    let fh = s.walk(path.to_str().expect("text"));
    for op in [Op4::Allocate, Op4::Deallocate] {
        let args = range(Stateid4::ANONYMOUS, 0, 1);
        assert_eq!(on(&mut s, &fh, op, &args).0, Nfsstat4::Rofs, "{op}");
    }
}

#[test]
fn seek_finds_data_and_holes() {
    let server = TestServer::start();
    let _file = sparse(&server);
    let (mut s, root) = session(&server);
    let fh = s.walk(server.export().join("sparse").to_str().expect("text"));
    let stateid = open(&mut s, &root, b"sparse", READ);
    let mut seek = |offset, what| {
        let args = SeekArgs {
            stateid,
            offset,
            what,
        };
        let (status, mut done) = on(&mut s, &fh, Op4::Seek, &args);
        match status {
            Nfsstat4::Ok => {
                let res: SeekRes = done.more();
                done.end();
                Ok((res.eof, res.offset))
            }
            status => Err(status),
        }
    };
    assert_eq!(seek(0, CONTENT_DATA), Ok((false, MIB)));
    assert_eq!(seek(0, CONTENT_HOLE), Ok((false, 0)));
    assert_eq!(seek(MIB, CONTENT_HOLE), Ok((false, 2 * MIB)));
    assert_eq!(seek(2 * MIB, CONTENT_DATA), Ok((false, 3 * MIB)));
    assert_eq!(seek(4 * MIB, CONTENT_DATA), Ok((true, 5 * MIB)));
    assert_eq!(seek(5 * MIB, CONTENT_DATA), Err(Nfsstat4::Nxio));
    assert_eq!(seek(u64::MAX, CONTENT_HOLE), Err(Nfsstat4::Nxio));
    assert_eq!(seek(0, 2), Err(Nfsstat4::UnionNotsupp));
}

/// What READ_PLUS gave: end of file, and segments as offset and data, or offset and length of a hole.
type Segments = (bool, Vec<(u64, Result<Vec<u8>, u64>)>);

fn read_plus(s: &mut Session, fh: &[u8], args: &ReadArgs) -> Result<Segments, Nfsstat4> {
    let ops = Ops::new().putfh(fh).op(Op4::ReadPlus, args);
    // Something behind it, so that data that is sent from where it is comes before something, too.
    let mut done = s.call(&ops.getattr(&[bit::SIZE]));
    done.ok(Op4::Putfh);
    match done.status_of(Op4::ReadPlus) {
        Nfsstat4::Ok => {}
        status => return Err(status),
    }
    let eof = done.more();
    let segments = (0..done.more::<u32>())
        .map(|_| match done.more::<ReadPlusContent<'_>>() {
            ReadPlusContent::Data(at, data) => (at, Ok(data.0.to_vec())),
            ReadPlusContent::Hole(at, len) => (at, Err(len)),
        })
        .collect();
    done.attrs();
    done.end();
    Ok((eof, segments))
}

#[test]
fn read_plus_gives_data_and_holes() {
    // The session has room for as much, and for GETATTR.
    let server = Setup::config("[limits]\ntransfer_bytes = \"1MiB\"").start();
    let _file = sparse(&server);
    let (mut s, root) = session(&server);
    let fh = s.walk(server.export().join("sparse").to_str().expect("text"));
    let stateid = open(&mut s, &root, b"sparse", READ);
    let args = |offset, count| ReadArgs {
        stateid,
        offset,
        count,
    };
    // Hole, data.
    let some = read_plus(&mut s, &fh, &args(MIB - 100, 300)).expect("data");
    let expected = vec![(MIB - 100, Err(100)), (MIB, Ok(vec![1; 200]))];
    assert_eq!(some, (false, expected));
    // Data of odd length, hole behind it.
    let some = read_plus(&mut s, &fh, &args(2 * MIB - 5, 100)).expect("data");
    let expected = vec![(2 * MIB - 5, Ok(vec![1; 5])), (2 * MIB, Err(95))];
    assert_eq!(some, (false, expected));
    // Hole up to the end, data only, nothing.
    let some = read_plus(&mut s, &fh, &args(5 * MIB - 10, 100)).expect("data");
    assert_eq!(some, (true, vec![(5 * MIB - 10, Err(10))]));
    let some = read_plus(&mut s, &fh, &args(3 * MIB, 7)).expect("data");
    assert_eq!(some, (false, vec![(3 * MIB, Ok(vec![3; 7]))]));
    for nothing in [5 * MIB, u64::MAX] {
        let some = read_plus(&mut s, &fh, &args(nothing, 10)).expect("nothing");
        assert_eq!(some, (true, Vec::new()));
    }
    // The whole file in as many requests as it takes is what it is.
    let (mut at, mut whole) = (0, Vec::new());
    while at < 5 * MIB {
        let (eof, segments) = read_plus(&mut s, &fh, &args(at, u32::MAX)).expect("data");
        for (offset, content) in segments {
            assert_eq!(offset, at, "without gaps");
            whole.extend(content.unwrap_or_else(|len| vec![0; len as usize]));
            at = whole.len() as u64;
        }
        assert_eq!(eof, at == 5 * MIB);
    }
    let path = server.export().join("sparse");
    assert!(whole == fs::read(path).expect("contents"));
}

/// Reads as READ does: permission, a file without holes, a reply that is short.
#[test]
fn read_plus_reads_what_read_may() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let path = server.export().join("f");
    fs::write(&path, vec![9; 100_000]).expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
    let fh = s.walk(path.to_str().expect("text"));
    let args = |stateid| ReadArgs {
        stateid,
        offset: 10,
        count: 100_000,
    };
    let all = Ok((true, vec![(10, Ok(vec![9; 99_990]))]));
    assert_eq!(read_plus(&mut s, &fh, &args(Stateid4::BYPASS)), all);
    s.client.set_login(Login::user(1000, 1000));
    let denied = read_plus(&mut s, &fh, &args(Stateid4::ANONYMOUS));
    assert_eq!(denied, Err(Nfsstat4::Access));
    s.client.set_login(Login::root());
    let writing = open(&mut s, &root, b"f", WRITE);
    assert_eq!(read_plus(&mut s, &fh, &args(writing)), all, "as READ");
    let dir = read_plus(&mut s, &root, &args(Stateid4::ANONYMOUS));
    assert_eq!(dir, Err(Nfsstat4::Isdir));
}

#[test]
fn io_advise_says_what_it_heeds() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let path = server.export().join("f");
    fs::write(&path, vec![9; 100_000]).expect("a file");
    let fh = s.walk(path.to_str().expect("text"));
    let stateid = open(&mut s, &root, b"f", WRITE);
    let mut advise = |offset, count, hints: &[u32]| {
        let args = IoAdviseArgs {
            stateid,
            offset,
            count,
            hints: Bitmap4::of(hints),
        };
        let (status, mut done) = on(&mut s, &fh, Op4::IoAdvise, &args);
        match status {
            Nfsstat4::Ok => Ok(done.more::<Bitmap4>()),
            status => Err(status),
        }
    };
    for heeded in [hint::WILLNEED, hint::DONTNEED] {
        let only = Ok(Bitmap4::of(&[heeded]));
        assert_eq!(advise(0, 4096, &[1, 9, heeded]), only);
        assert_eq!(advise(0, 0, &[heeded]), only);
    }
    assert_eq!(advise(0, 4096, &[0, 3]), Ok(Bitmap4::EMPTY));
    assert_eq!(advise(2, u64::MAX, &[4]), Err(Nfsstat4::Inval));
}

#[test]
fn get_dir_delegation_is_unavailable() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    fs::write(server.export().join("f"), "").expect("a file");
    let soon = AttrNotice4 {
        seconds: 0,
        nseconds: 0,
    };
    let args = GetDirDelegationArgs {
        signal_deleg_avail: true,
        notification_types: Bitmap4::of(&[1]),
        child_attr_delay: soon.clone(),
        dir_attr_delay: soon,
        child_attributes: Bitmap4::EMPTY,
        dir_attributes: Bitmap4::EMPTY,
    };
    let (status, mut done) = on(&mut s, &root, Op4::GetDirDelegation, &args);
    assert_eq!(status, Nfsstat4::Ok);
    assert_eq!(
        done.more::<GetDirDelegationRes>(),
        GetDirDelegationRes::Unavail(false)
    );
    done.end();
    let fh = s.walk(server.export().join("f").to_str().expect("text"));
    let file = on(&mut s, &fh, Op4::GetDirDelegation, &args).0;
    assert_eq!(file, Nfsstat4::Notdir);
}

/// Layouts, named attributes, copies between servers: known, and not here.
#[test]
fn operations_that_are_not_supported() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    for op in [
        Op4::Openattr,
        Op4::Getdeviceinfo,
        Op4::Getdevicelist,
        Op4::Layoutcommit,
        Op4::Layoutget,
        Op4::Layoutreturn,
        Op4::CopyNotify,
        Op4::Layouterror,
        Op4::Layoutstats,
        Op4::WriteSame,
    ] {
        let (status, done) = on(&mut s, &root, op, &());
        assert_eq!(status, Nfsstat4::Notsupp, "{op}");
        done.end();
    }
}

/// What version 4.2 has is illegal in 4.1.
#[test]
fn operations_of_version_2_are_not_of_version_1() {
    let server = TestServer::start();
    let mut s = Session::new(server.client(), 1);
    for number in Op4::Allocate.wire()..=Op4::Removexattr.wire() {
        let ops = Ops::new().putrootfh().raw(number, &[]);
        let mut done = s.call(&ops);
        done.ok(Op4::Putrootfh);
        assert_eq!(done.status_of(Op4::Illegal), Nfsstat4::OpIllegal);
    }
    s.end();
}
