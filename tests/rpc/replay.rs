//! Retransmissions: what must not run twice is answered a second time, also over a new connection.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::{Create3Args, Mkdir3Args, Remove3Args, Rename3Args, Rmdir3Args};
use nfsd::nfs3::res::{Remove3Res, Rename3Res};
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, Sattr3};
use nfsd::xdr::Encode;
use tests::client::nfs3::{Outcome as _, at, mode, nfs3};
use tests::client::{Answer, Client, Login, encode, record};
use tests::daemon::TestServer;

/// Sends a call twice over the same connection and once over another; the answers must be the same bytes.
fn three_times(
    server: &TestServer,
    client: &mut Client,
    procedure: Proc3,
    args: &impl Encode,
) -> Answer {
    let (xid, record) = client.build(nfs3(procedure), args);
    client.send_record(&record);
    let first = client.answer(xid);
    client.send_record(&record);
    assert_eq!(client.answer(xid).record, first.record, "{procedure}");
    let mut other = server.client();
    other.send_record(&record);
    assert_eq!(other.answer(xid).record, first.record, "{procedure}");
    first
}

#[test]
fn retransmissions_are_answered_not_run() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let before = server.stat("drc.replayed");

    let args = Create3Args {
        where_: at(&root, b"a"),
        how: Createhow3::Guarded(mode(0o600)),
    };
    let made = three_times(&server, &mut client, Proc3::Create, &args);
    let made: nfsd::nfs3::res::Create3Res<'_> = made.results();
    assert_eq!(made.status(), Nfsstat3::Ok, "GUARDED again is not EXIST");

    let args = Rename3Args {
        from: at(&root, b"a"),
        to: at(&root, b"b"),
    };
    let renamed = three_times(&server, &mut client, Proc3::Rename, &args);
    assert_eq!(renamed.results::<Rename3Res>().status(), Nfsstat3::Ok);

    let args = Remove3Args {
        object: at(&root, b"b"),
    };
    let removed = three_times(&server, &mut client, Proc3::Remove, &args);
    assert_eq!(removed.results::<Remove3Res>().status(), Nfsstat3::Ok);

    let args = Mkdir3Args {
        where_: at(&root, b"d"),
        attributes: mode(0o755),
    };
    three_times(&server, &mut client, Proc3::Mkdir, &args)
        .results::<nfsd::nfs3::res::Mkdir3Res<'_>>()
        .ok()
        .expect("MKDIR");
    let args = Rmdir3Args {
        object: at(&root, b"d"),
    };
    three_times(&server, &mut client, Proc3::Rmdir, &args)
        .results::<Remove3Res>()
        .ok()
        .expect("RMDIR");
    assert_eq!(server.stat("drc.replayed") - before, 10);

    // Failures are answered again, too: the file made meanwhile stays.
    let args = Remove3Args {
        object: at(&root, b"late"),
    };
    let (xid, record) = client.build(nfs3(Proc3::Remove), &args);
    client.send_record(&record);
    let answer = client.answer(xid);
    assert_eq!(answer.results::<Remove3Res>().status(), Nfsstat3::Noent);
    client.new_file(&root, b"late", 0o600);
    client.send_record(&record);
    let answer = client.answer(xid);
    assert_eq!(answer.results::<Remove3Res>().status(), Nfsstat3::Noent);
    client.lookup(&root, b"late").expect("it stays");
}

/// The same transaction id with anything else different is another call.
#[test]
fn another_call_with_the_same_xid_runs() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    for name in [b"x", b"y", b"z"] {
        client.new_file(&root, name, 0o666);
    }
    let xid = client.next_xid();
    let mut remove = |login: &Login, name: &[u8]| {
        let args = encode(&Remove3Args {
            object: at(&root, name),
        });
        client.send_record(&record(xid, login, nfs3(Proc3::Remove), &args));
        client.answer(xid).results::<Remove3Res>().status()
    };
    let root_login = Login::root();
    assert_eq!(remove(&root_login, b"x"), Nfsstat3::Ok);
    assert_eq!(remove(&root_login, b"y"), Nfsstat3::Ok, "other arguments");
    assert_eq!(
        remove(&Login::user(7, 7), b"x"),
        Nfsstat3::Noent,
        "another caller: it ran, and x is gone"
    );
    assert_eq!(remove(&root_login, b"x"), Nfsstat3::Ok, "the first again");
    // Another procedure with the same arguments.
    let args = encode(&Rmdir3Args {
        object: at(&root, b"x"),
    });
    client.send_record(&record(xid, &root_login, nfs3(Proc3::Rmdir), &args));
    let answer = client.answer(xid);
    assert_eq!(answer.results::<Remove3Res>().status(), Nfsstat3::Noent);
    client.lookup(&root, b"z").expect("untouched");
}

/// A retransmission of a call that still runs is not answered twice and not run twice.
#[test]
fn a_retransmission_that_overtakes_its_answer() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    for n in 0..200 {
        let name = format!("f{n}").into_bytes();
        let args = Create3Args {
            where_: at(&root, &name),
            how: Createhow3::Guarded(Sattr3::default()),
        };
        let (xid, record) = client.build(nfs3(Proc3::Create), &args);
        // Both in one segment: the second is there before the first can be answered.
        let twice = [
            tests::client::framed(&record),
            tests::client::framed(&record),
        ]
        .concat();
        client.send_raw(&twice).expect("sending");
        let answer = client.answer(xid);
        let made: nfsd::nfs3::res::Create3Res<'_> = answer.results();
        assert_eq!(made.status(), Nfsstat3::Ok);
        // Zero or one more answer, and it is the same.
        let null = client.start(nfs3(Proc3::Null), &());
        loop {
            let (xid_now, now) = client.next_answer();
            if xid_now == null {
                break;
            }
            assert_eq!((xid_now, &now.record), (xid, &answer.record));
        }
    }
    assert!(server.stat("drc.dropped") + server.stat("drc.replayed") >= 200);
}

/// What does no harm twice is not remembered.
#[test]
fn idempotent_calls_run_again() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let args = nfsd::nfs3::args::Lookup3Args {
        what: at(&root, b"later"),
    };
    let (xid, record) = client.build(nfs3(Proc3::Lookup), &args);
    client.send_record(&record);
    let answer = client.answer(xid);
    let found: nfsd::nfs3::res::Lookup3Res<'_> = answer.results();
    assert_eq!(found.status(), Nfsstat3::Noent);
    client.new_file(&root, b"later", 0o600);
    client.send_record(&record);
    let answer = client.answer(xid);
    let found: nfsd::nfs3::res::Lookup3Res<'_> = answer.results();
    assert_eq!(found.status(), Nfsstat3::Ok);
    assert_eq!(client.getattr(&root).status(), Nfsstat3::Ok);
}
