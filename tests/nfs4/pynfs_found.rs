//! What pynfs found: who may use a stateid, stateids of another start, owners without a name.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, fattr};
use tests::client::{Login, encode};
use tests::daemon::TestServer;

use super::{at_export, open, session};

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
