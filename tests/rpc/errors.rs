//! Every way RFC 5531 has to refuse a call, word for word.

use nfsd::mount::types::MOUNT_PROGRAM;
use nfsd::nfs3::args::Getattr3Args;
use nfsd::nfs3::types::NfsFh3;
use nfsd::nfs3::{NFS_PROGRAM, Proc3};
use nfsd::rpc::auth::AuthStat;
use nfsd::rpc::msg::Refusal;
use nfsd::rpc::portmap::PMAP_PROG;
use tests::client::nfs3::{Outcome as _, nfs3};
use tests::client::{Client, Login, encode, record};
use tests::daemon::{Setup, TestServer};

/// The 32-bit words of a record.
fn words(record: &[u8]) -> Vec<u32> {
    let (words, rest) = record.as_chunks::<4>();
    assert!(rest.is_empty(), "not a multiple of four: {record:?}");
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

const REPLY: u32 = 1;
const ACCEPTED: u32 = 0;
const DENIED: u32 = 1;

#[test]
fn programs_versions_and_procedures_that_are_not_there() {
    let server = TestServer::start();
    let mut client = server.client();
    let cases: [([u32; 3], &[u32]); 9] = [
        ([100_099, 3, 0], &[1]),
        ([0, 0, 0], &[1]),
        ([NFS_PROGRAM, 2, 0], &[2, 3, 4]),
        ([NFS_PROGRAM, 5, 0], &[2, 3, 4]),
        ([NFS_PROGRAM, u32::MAX, 0], &[2, 3, 4]),
        ([MOUNT_PROGRAM, 4, 0], &[2, 1, 3]),
        ([NFS_PROGRAM, 3, 22], &[3]),
        ([NFS_PROGRAM, 3, u32::MAX], &[3]),
        ([MOUNT_PROGRAM, 3, 6], &[3]),
    ];
    for (program, stat) in cases {
        let xid = client.start(program, &());
        let answer = client.answer(xid);
        let head = [xid, REPLY, ACCEPTED, 0, 0];
        let expected = [&head[..], stat].concat();
        assert_eq!(words(&answer.record), expected, "{program:?}");
    }
    // The port mapper is there when it was asked for.
    let answer = client.call([PMAP_PROG, 2, 0], &());
    assert_eq!(answer.outcome(), Err(Refusal::ProgUnavail));
}

#[test]
fn a_foreign_rpc_version() {
    let server = TestServer::start();
    let mut client = server.client();
    for version in [0_u32, 1, 3, u32::MAX] {
        let (xid, mut record) = client.build(nfs3(Proc3::Null), &());
        record[8..12].copy_from_slice(&version.to_be_bytes());
        client.send_record(&record);
        let answer = client.answer(xid);
        assert_eq!(words(&answer.record), [xid, REPLY, DENIED, 0, 2, 2]);
    }
    client.null();
}

#[test]
fn arguments_that_do_not_decode() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let good = encode(&Getattr3Args {
        object: NfsFh3(&root),
    });
    let login = client.login().clone();
    // Cut anywhere, and a handle longer than 64 bytes.
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
    let mut long = 65_u32.to_be_bytes().to_vec();
    long.extend([0; 68]);
    bad.push(long);
    bad.push(u32::MAX.to_be_bytes().to_vec());
    for args in &bad {
        for procedure in &Proc3::ALL[1..] {
            let xid = client.next_xid();
            client.send_record(&record(xid, &login, nfs3(*procedure), args));
            let answer = client.answer(xid);
            let expected = [xid, REPLY, ACCEPTED, 0, 0, 4];
            assert_eq!(words(&answer.record), expected, "{procedure}: {args:?}");
        }
    }
    client.attr(&root);
}

fn refused(client: &mut Client, login: Login, stat: AuthStat) {
    let args = encode(&Getattr3Args {
        object: NfsFh3(&[1; 32]),
    });
    let xid = client.next_xid();
    client.send_record(&record(xid, &login, nfs3(Proc3::Getattr), &args));
    let answer = client.answer(xid);
    let expected = [xid, REPLY, DENIED, 1, stat.wire()];
    assert_eq!(words(&answer.record), expected, "{login:?}");
}

#[test]
fn credentials_that_are_none() {
    let server = TestServer::start();
    let mut client = server.client();
    let none = (0, Vec::new());
    let raw = |cred: (u32, Vec<u8>), verf: (u32, Vec<u8>)| Login::Raw { cred, verf };
    let sys = |gids: u32, name: u32| {
        let mut body = vec![0; 4];
        body.extend(name.to_be_bytes());
        body.resize(body.len() + (name as usize).next_multiple_of(4), b'x');
        body.extend([0; 8]);
        body.extend(gids.to_be_bytes());
        body.resize(body.len() + 4 * gids as usize, 0);
        body
    };
    // Flavors nobody here knows: AUTH_SHORT, AUTH_DH, RPCSEC_GSS, out of range.
    for flavor in [2, 3, 6, 390_003, u32::MAX] {
        let login = raw((flavor, Vec::new()), none.clone());
        refused(&mut client, login, AuthStat::Badcred);
    }
    // AUTH_NONE with a body; AUTH_SYS cut, with too many groups, with too long a name, with bytes after it.
    refused(
        &mut client,
        raw((0, vec![0; 4]), none.clone()),
        AuthStat::Badcred,
    );
    let good = sys(16, 8);
    for cut in (0..good.len()).step_by(4) {
        let login = raw((1, good[..cut].to_vec()), none.clone());
        refused(&mut client, login, AuthStat::Badcred);
    }
    let mut trailing = sys(0, 4);
    trailing.extend([0; 4]);
    for body in [sys(17, 4), sys(0, 256), trailing] {
        refused(&mut client, raw((1, body), none.clone()), AuthStat::Badcred);
    }
    // Above 400 bytes a body is no opaque_auth at all.
    refused(
        &mut client,
        raw((1, vec![0; 404]), none.clone()),
        AuthStat::Badcred,
    );
    // Verifiers other than the empty AUTH_NONE.
    for verf in [(0, vec![0; 4]), (1, sys(0, 0)), (6, Vec::new())] {
        let login = raw((1, sys(0, 0)), verf);
        refused(&mut client, login, AuthStat::Badverf);
    }
    let login = raw((1, good), none);
    client.set_login(login);
    client.null();
}

/// NULL is for finding out whether anybody is there: it is answered whatever the credential (RFC 5531 section 8.2).
#[test]
fn null_answers_to_every_credential() {
    let server = TestServer::start();
    let mut client = server.client();
    for flavor in [0, 1, 2, 6] {
        client.set_login(Login::Raw {
            cred: (flavor, Vec::new()),
            verf: (0, Vec::new()),
        });
        client.null();
    }
}

/// A header that ends early is answered as far as its transaction id and purpose are known, and otherwise ends the
/// connection it came over, and only that.
#[test]
fn headers_cut_anywhere() {
    let server = TestServer::start();
    let mut other = server.client();
    let (xid, whole) = other.build(nfs3(Proc3::Null), &());
    for cut in 1..whole.len() {
        let mut client = server.client();
        client.send_record(&whole[..cut]);
        if cut < 24 {
            let limit = std::time::Duration::from_secs(40);
            assert!(
                client.closed_within(limit),
                "{cut} bytes are no call, and the connection is still open"
            );
        } else {
            let answer = client.answer(xid);
            let stat = match answer.outcome() {
                Err(Refusal::Auth(stat)) => stat,
                other => panic!("{cut}: {other:?}"),
            };
            assert!(matches!(stat, AuthStat::Badcred | AuthStat::Badverf));
            client.null();
        }
    }
    other.null();
}

/// Replies and unknown message types on the server's connection are nothing to answer.
#[test]
fn messages_that_are_not_calls_are_ignored() {
    let server = TestServer::start();
    let mut client = server.client();
    for mtype in [1_u32, 2, u32::MAX] {
        let (_, mut record) = client.build(nfs3(Proc3::Null), &());
        record[4..8].copy_from_slice(&mtype.to_be_bytes());
        client.send_record(&record);
    }
    client.null();
    assert!(!client.closed_within(std::time::Duration::from_millis(200)));
}

/// AUTH_NONE is a flavor like any other: exports name the flavors they take.
#[test]
fn auth_none_only_where_the_export_says_so() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    client.set_login(Login::None);
    let refused = client.getattr(&root);
    assert_eq!(refused.status(), nfsd::nfs3::status::Nfsstat3::Acces);

    let server = Setup::options("rw,insecure,sec=none:sys").start();
    let (mut client, root) = server.mounted();
    client.set_login(Login::None);
    let made = client.create(
        &root,
        b"anonymous",
        nfsd::nfs3::types::Createhow3::Guarded(Default::default()),
    );
    let attr = made.expect("CREATE by nobody").attr;
    assert_eq!((attr.uid, attr.gid), (65534, 65534));
    let (_, flavors) = client
        .mnt(server.export().as_os_str().as_encoded_bytes())
        .expect("MNT");
    assert_eq!(flavors, [1, 0]);
}
