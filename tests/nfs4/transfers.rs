//! READs and WRITEs as long as the server is set to take them: what it says of them, and what it does.

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::encode;
use tests::client::framed;
use tests::client::nfs4::{COMPOUND, Ops, Raw, Results};
use tests::client::session::{Session, Terms};
use tests::daemon::{Setup, TestServer, policies};

use super::state::{BOTH, DENY_NONE, What, open, opened};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;
/// Numbers of attributes (RFC 8881 5.8.2).
const MAXREAD: u32 = 30;
const MAXWRITE: u32 = 31;

/// Bytes that say where they are.
fn pattern(len: u32) -> Vec<u8> {
    let mut data: Vec<u8> = (0..len.div_ceil(4)).flat_map(u32::to_be_bytes).collect();
    data.truncate(len as usize);
    data
}

fn server(policy: &str, transfer: u32) -> TestServer {
    let config = format!("[limits]\ntransfer_bytes = \"{}KiB\"", transfer / KIB);
    Setup::config(&config).policy(policy).start()
}

fn read(stateid: &Stateid4, offset: u64, count: u32) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&offset));
    args.extend(encode(&count));
    Ops::new().op(Op4::Read, &Raw(&args))
}

fn write(stateid: &Stateid4, offset: u64, data: &[u8]) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&offset));
    args.extend(encode(&0_u32));
    args.extend(encode(&Data4(data)));
    Ops::new().op(Op4::Write, &Raw(&args))
}

fn data(done: &mut Results) -> (bool, Vec<u8>) {
    done.ok(Op4::Putfh);
    let eof = done.body(Op4::Read);
    (eof, done.more::<Data4<'_>>().0.to_vec())
}

/// A session that asks for more than there is of everything, and an open file.
fn bed(server: &TestServer, minor: u32) -> (Session, tests::client::Fh, Stateid4) {
    let mut terms = Terms::new(minor);
    terms.message = 16 * MIB;
    let mut session = Session::on(server.client(), &terms);
    let root = session.walk(server.export().to_str().expect("text"));
    let owner = (session.clientid, &b"owner"[..]);
    let make = open(Ops::new(), 0, (BOTH, DENY_NONE), owner, What::Make(b"file"));
    let mut done = session.at(&root, &make.getfh());
    let (stateid, _) = opened(&mut done);
    let file = done.fh();
    (session, file, stateid)
}

/// What is set is what the attributes say, a session has room for it with its headers, and no more; data comes back as it
/// went.
#[test]
fn transfers_are_as_long_as_configured() {
    for policy in policies() {
        for (minor, transfer) in [
            (1, 256 * KIB),
            (1, MIB),
            (1, 2 * MIB),
            (1, 4 * MIB),
            (2, 4 * MIB),
        ] {
            let server = server(&policy, transfer);
            let (mut session, file, stateid) = bed(&server, minor);
            assert_eq!(session.created.message, transfer + 4 * KIB);
            let asked = Ops::new().getattr(&[MAXREAD, MAXWRITE]);
            let attrs = session.at(&file, &asked).attrs();
            let most: [u64; 2] = [attrs.get(MAXREAD), attrs.get(MAXWRITE)];
            assert_eq!(most, [u64::from(transfer); 2]);
            let written = pattern(2 * transfer);
            let (first, second) = written.split_at(transfer as usize);
            let parts = [(0, first, false), (u64::from(transfer), second, true)];
            for (offset, part, _) in parts {
                let mut done = session.at(&file, &write(&stateid, offset, part));
                assert_eq!(done.body::<u32>(Op4::Write), transfer);
            }
            let found = std::fs::read(server.export().join("file")).expect("the file");
            assert!(found == written, "{transfer}");
            for (offset, part, last) in parts {
                let ops = Ops::new()
                    .putfh(&file)
                    .then(&read(&stateid, offset, transfer));
                let (eof, got) = data(&mut session.call(&ops));
                assert!(got == part && eof == last, "{transfer} {offset}");
            }
            // More is asked for than there ever is.
            let ops = Ops::new().putfh(&file).then(&read(&stateid, 1, u32::MAX));
            let (eof, got) = data(&mut session.call(&ops));
            assert!(!eof && got == written[1..=transfer as usize]);
        }
    }
}

/// Two of the longest in one request: the reply has no room for the second, and says so.
#[test]
fn a_second_long_read_does_not_fit() {
    let server = server("adaptive", 4 * MIB);
    let (mut session, file, stateid) = bed(&server, 1);
    let written = pattern(4 * MIB);
    let mut done = session.at(&file, &write(&stateid, 0, &written));
    assert_eq!(done.body::<u32>(Op4::Write), 4 * MIB);
    let one = read(&stateid, 0, 4 * MIB);
    let ops = Ops::new().putfh(&file).then(&one).then(&one);
    let mut done = session.call(&ops);
    let (eof, got) = data(&mut done);
    assert!(eof && got == written);
    assert_eq!(done.status_of(Op4::Read), S::RepTooBig);
    // Of shorter ones several fit.
    let parts: Vec<Ops> = (0..3)
        .map(|n| read(&stateid, u64::from(n * MIB), MIB))
        .collect();
    let ops = parts
        .iter()
        .fold(Ops::new().putfh(&file), |ops, part| ops.then(part));
    let mut done = session.call(&ops);
    done.ok(Op4::Putfh);
    for part in written.chunks(MIB as usize).take(3) {
        assert!(!done.body::<bool>(Op4::Read));
        assert!(done.more::<Data4<'_>>().0 == part);
    }
}

/// READ_PLUS of a file that is all data: the longest there is, in one piece.
#[test]
fn a_long_read_plus() {
    let server = server("adaptive", 4 * MIB);
    let (mut session, file, stateid) = bed(&server, 2);
    let written = pattern(4 * MIB);
    let mut args = encode(&stateid);
    args.extend(encode(&0_u64));
    args.extend(encode(&(4 * MIB)));
    let ops = Ops::new().op(Op4::ReadPlus, &Raw(&args));
    let mut done = session.at(&file, &write(&stateid, 0, &written));
    assert_eq!(done.body::<u32>(Op4::Write), 4 * MIB);
    let mut done = session.at(&file, &ops);
    assert!(done.body::<bool>(Op4::ReadPlus), "end of file");
    assert_eq!(done.more::<u32>(), 1, "one piece");
    assert_eq!((done.more::<u32>(), done.more::<u64>()), (0, 0), "data");
    assert!(done.more::<Data4<'_>>().0 == written);
}

/// A client that asks for gigabytes and takes none of it: a bounded part is read, however long the READs, until its time is up.
#[test]
fn a_client_that_takes_nothing() {
    for policy in policies() {
        let config = "[timeouts]\nsend_stalled = \"2s\"\n[limits]\nreply_bytes = \"16MiB\"\ntransfer_bytes = \"4MiB\"";
        let server = Setup::config(config).policy(&policy).start();
        let (mut client, root) = super::at_export(&server);
        std::fs::write(server.export().join("file"), pattern(4 * MIB)).expect("the file");
        let ops = Ops::new().putfh(&root).lookup(b"file").getfh();
        let mut done = client.compound(0, &ops);
        done.ok(Op4::Putfh);
        done.ok(Op4::Lookup);
        let file = done.fh();
        let ops = Ops::new()
            .putfh(&file)
            .then(&read(&Stateid4::ANONYMOUS, 0, 4 * MIB));
        let args = ops.args(0, b"");
        let mut stream = Vec::new();
        for _ in 0..250 {
            stream.extend(framed(&client.build(COMPOUND, &Raw(&args)).1));
        }
        client.send_raw(&stream).expect("sending");
        let mut most = 0;
        while server.stat("connections") > 0 {
            most = most.max(server.stat("buffers.out"));
        }
        // Four replies, a record for each, and some more requests that ran at once.
        assert!(most <= 4 * 2 + 8, "{policy}: {most} buffers");
        println!("{policy}: at most {most} buffers");
        drop(client);
        server.wait_idle();
        assert_eq!(server.stat("buffers.out"), 0);
    }
}
