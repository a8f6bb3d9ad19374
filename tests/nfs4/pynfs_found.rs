//! What pynfs found: who may use a stateid and for what, stateids of another start, owners without a name, sizes of
//! files made again, short pages of directories, many clients that are gone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, fattr};
use tests::client::{Login, encode};
use tests::daemon::{Setup, TestServer};

use super::{at_export, create, open, session, state};

const SIZE: u32 = 4;
const OWNER: u32 = 36;
const OWNER_GROUP: u32 = 37;

fn write(fh: &[u8], stateid: &Stateid4) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&0_u64));
    args.extend(encode(&2_u32));
    args.extend(encode(&Data4(b"data")));
    Ops::new().putfh(fh).op(Op4::Write, &Raw(&args))
}

fn read(fh: &[u8], stateid: &Stateid4) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&0_u64));
    args.extend(encode(&100_u32));
    Ops::new().putfh(fh).op(Op4::Read, &Raw(&args))
}

/// Bits of the mode forbid it, so only the open lets its user write; that does not go for others.
#[test]
fn a_stateid_lets_nobody_else_in() {
    let server = TestServer::start();
    let path = server.export().join("file");
    fs::write(&path, b"text").expect("a file");
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("root");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("root");
    let (mut session, root) = session(&server);
    let (user, other) = (Login::user(1000, 1000), Login::user(1001, 1001));
    session.client.set_login(user.clone());
    let stateid = open(&mut session, &root, b"file", 3);
    let mut done = session.call(&Ops::new().putfh(&root).lookup(b"file").getfh());
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    let fh = done.fh();
    for (login, expected) in [(user, S::Ok), (other, S::Access)] {
        session.client.set_login(login);
        let mut done = session.call(&write(&fh, &stateid));
        done.ok(Op4::Putfh);
        assert_eq!(done.status_of(Op4::Write), expected);
        let mut done = session.call(&read(&fh, &stateid));
        done.ok(Op4::Putfh);
        assert_eq!(done.status_of(Op4::Read), expected);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("root");
    let mut done = session.call(&write(&fh, &stateid));
    done.ok(Op4::Putfh);
    assert_eq!(done.body::<u32>(Op4::Write), 4, "whom the mode lets write");
}

/// Nothing but the number of its start need make sense in it (RFC 7530 9.1.4.3).
#[test]
fn a_stateid_of_another_start_is_stale_in_4_0() {
    let server = TestServer::start();
    fs::write(server.export().join("file"), b"text").expect("a file");
    let (mut client, root) = at_export(&server);
    let mut done = client.compound(0, &Ops::new().putfh(&root).lookup(b"file").getfh());
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    let fh = done.fh();
    let mut other = [0; 12];
    other[3] = 1;
    for (seqid, other, expected) in [
        (1, other, S::StaleStateid),
        (1, [0; 12], S::BadStateid),
        (1, [0xff; 12], S::BadStateid),
    ] {
        let stateid = Stateid4 {
            seqid,
            other: Other(other),
        };
        let mut done = client.compound(0, &write(&fh, &stateid));
        done.ok(Op4::Putfh);
        assert_eq!(done.status_of(Op4::Write), expected, "{stateid:?}");
    }
}

#[test]
fn an_owner_without_a_name_is_invalid() {
    let server = TestServer::start();
    fs::write(server.export().join("file"), b"text").expect("a file");
    let (mut client, root) = at_export(&server);
    for (attribute, name, expected) in [
        (OWNER, &b""[..], S::Inval),
        (OWNER_GROUP, b"", S::Inval),
        (OWNER, b"@", S::Badowner),
    ] {
        let mut args = encode(&Stateid4::ANONYMOUS);
        args.extend(fattr(&[(attribute, encode(&OwnerName4(name)))]));
        let ops = Ops::new().putfh(&root).lookup(b"file");
        let mut done = client.compound(0, &ops.op(Op4::Setattr, &Raw(&args)));
        done.ok(Op4::Putfh);
        done.ok(Op4::Lookup);
        assert_eq!(
            done.status_of(Op4::Setattr),
            expected,
            "{attribute} {name:?}"
        );
    }
}

/// Reading under an open for writing is left to the server (RFC 8881 9.1.2): some clients cannot do without.
#[test]
fn who_opened_for_writing_may_read_if_nobody_minds() {
    let server = TestServer::start();
    fs::write(server.export().join("file"), b"text").expect("a file");
    let (mut one, root) = session(&server);
    let stateid = open(&mut one, &root, b"file", 2);
    let mut done = one.call(&Ops::new().putfh(&root).lookup(b"file").getfh());
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    let fh = done.fh();
    let mut done = one.call(&read(&fh, &stateid));
    done.ok(Op4::Putfh);
    assert!(done.body::<bool>(Op4::Read), "end of file");
    assert_eq!(done.more::<Data4<'_>>().0, b"text");
    let (mut two, _) = session(&server);
    let mut args: Vec<u8> = [0_u32, 1, 1, 0, 0].iter().flat_map(encode).collect();
    args.extend(encode(&OwnerName4(b"denies")));
    args.extend([0; 8]);
    args.extend(encode(&Component4(b"file")));
    let mut done = two.call(&Ops::new().putfh(&root).raw(Op4::Open.wire(), &args));
    done.ok(Op4::Putfh);
    done.ok(Op4::Open);
    let mut done = one.call(&read(&fh, &stateid));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Read), S::Openmode);
}

fn make(root: &[u8], name: &[u8], size: u64) -> Ops {
    let mut args: Vec<u8> = [0_u32, 2, 0, 0, 0].iter().flat_map(encode).collect();
    args.extend(encode(&OwnerName4(b"maker")));
    args.extend([1_u32, 0].iter().flat_map(encode));
    args.extend(fattr(&[(SIZE, encode(&size))]));
    args.extend(encode(&0_u32));
    args.extend(encode(&Component4(name)));
    Ops::new().putfh(root).raw(Op4::Open.wire(), &args)
}

/// Of the attributes of an UNCHECKED4 create, a file that is there takes a size of zero only (RFC 8881 18.16.3).
#[test]
fn a_file_that_is_there_is_emptied_or_left() {
    let server = TestServer::start();
    let (mut session, root) = session(&server);
    for (size, expected) in [(32, 32), (16, 32), (64, 32), (0, 0), (8, 0)] {
        let mut done = session.call(&make(&root, b"file", size));
        done.ok(Op4::Putfh);
        done.ok(Op4::Open);
        let found = fs::metadata(server.export().join("file")).expect("there");
        assert_eq!(found.len(), expected, "created with {size}");
    }
}

/// Not the words for an open of what cannot be opened (RFC 7530 16.16.6, RFC 8881 18.16.3).
#[test]
fn open_of_a_special_file() {
    let server = TestServer::start();
    let (mut session, root) = session(&server);
    let mut done = session.call(&create(
        Ops::new().putfh(&root),
        &Createtype4::Fifo,
        b"fifo",
    ));
    done.ok(Op4::Putfh);
    done.ok(Op4::Create);
    let mut args: Vec<u8> = [0_u32, 1, 0, 0, 0].iter().flat_map(encode).collect();
    args.extend(encode(&OwnerName4(b"opener")));
    args.extend([0; 8]);
    args.extend(encode(&Component4(b"fifo")));
    let ops = Ops::new().putfh(&root).raw(Op4::Open.wire(), &args);
    let mut done = session.call(&ops);
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Open), S::WrongType);
}

/// `.` and `..` take no room from what is listed, and an empty list fits where it fits.
#[test]
fn short_pages_of_a_directory() {
    let server = TestServer::start();
    let (mut session, root) = session(&server);
    let page = |maxcount: u32| {
        let mut args = encode(&0_u64);
        args.extend([0; 8]);
        args.extend(encode(&0_u32));
        args.extend(encode(&maxcount));
        args.extend(encode(&Bitmap4::EMPTY));
        Ops::new().putfh(&root).raw(Op4::Readdir.wire(), &args)
    };
    let mut done = session.call(&page(15));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Readdir), S::Toosmall);
    let mut done = session.call(&page(16));
    done.ok(Op4::Putfh);
    done.body::<Verifier4>(Op4::Readdir);
    assert_eq!((done.more::<bool>(), done.more::<bool>()), (false, true));
    fs::write(server.export().join("name"), b"").expect("a file");
    // An entry is a word that one follows, a cookie, a name and no attributes.
    let entry = 4 + 8 + 8 + 8;
    let mut done = session.call(&page(16 + entry - 1));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Readdir), S::Toosmall);
    let mut done = session.call(&page(16 + entry));
    done.ok(Op4::Putfh);
    done.body::<Verifier4>(Op4::Readdir);
    assert!(done.more::<bool>(), "an entry");
    done.more::<u64>();
    assert_eq!(done.more::<Component4<'_>>().0, b"name");
}

/// However many clients have gone and left a file open, the one that wants it need not ask twice.
#[test]
fn many_clients_that_are_gone_make_room_at_once() {
    let server = Setup::config("lease_time = \"2s\"\ngrace_time = \"2s\"\n").start();
    fs::write(server.export().join("f"), b"data").expect("a file");
    for _ in 0..100 {
        // A connection that goes does not end the client.
        let (mut one, root) = session(&server);
        open(&mut one, &root, b"f", 2);
    }
    std::thread::sleep(Duration::from_secs(4));
    let (mut last, root) = session(&server);
    let shares = state::open(
        Ops::new(),
        0,
        (1, state::DENY_WRITE),
        (0, b"last"),
        state::What::Name(b"f"),
    );
    assert_eq!(last.at(&root, &shares).status, S::Ok);
    assert_eq!(server.stat("nfs4.opens"), 1);
}
