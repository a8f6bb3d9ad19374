//! The server as the caller: on connections it accepted and on ones it opened. These tests make its
//! calls themselves, of any content, and so run the server's workers in this process; what the
//! programs call (GRANTED of NLM, callbacks of NFSv4) is tested with those.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use nfsd::config::Timeouts;
use nfsd::rpc::auth::sys::AuthSys;
use nfsd::rpc::auth::{AuthStat, Credential, Identity, authenticate};
use nfsd::rpc::calls::{ARGS_MAX, CALLS_MAX, CallError, REPLY_MAX};
use nfsd::rpc::msg::{Parsed, Refusal, encode_refusal, parse, success_header};
use nfsd::rpc::record::mark;
use nfsd::xdr::Enc;
use tests::client::{Client, Login, record};
use vfs::Errno;

use super::workers::{Answer, CB, LONG, Workers};

/// For what must not happen.
const SHORT: Duration = Duration::from_millis(200);

/// A call as the peer sees it: transaction id and arguments.
#[track_caller]
fn incoming(peer: &mut Client) -> (u32, Vec<u8>) {
    let record = peer.try_record(LONG).expect("a record").expect("no end");
    let Parsed::Call(call) = parse(&record) else {
        panic!("not a call: {record:?}")
    };
    assert_eq!(
        (call.prog, call.vers, call.proc),
        (CB.prog, CB.vers, CB.proc)
    );
    (call.xid, call.args.rest().to_vec())
}

fn reply(xid: u32, results: &[u8]) -> Vec<u8> {
    [&success_header(xid)[..], results].concat()
}

#[track_caller]
fn end(answer: &mpsc::Receiver<Answer>) -> Answer {
    answer.recv_timeout(LONG).expect("an answer")
}

#[test]
fn a_call_and_its_reply() {
    let workers = Workers::start();
    let (mut peer, back, here) = workers.client();
    assert!(back.is_open());
    for from in [here, 1 - here] {
        let back = back.clone();
        let answer = workers.spawn(from, move || async move {
            let sys = AuthSys {
                stamp: 9,
                machinename: b"ringnfs",
                uid: 11,
                gid: 12,
                gids: [13].into_iter().collect(),
            };
            let cred = Credential::sys(&sys).expect("a credential");
            back.call(CB, &cred, b"ARGS", LONG).await
        });
        let record = peer.try_record(LONG).expect("a record").expect("no end");
        let Parsed::Call(call) = parse(&record) else {
            panic!("not a call: {record:?}")
        };
        let Ok(Identity::Unix(who)) = authenticate(&call) else {
            panic!("no user: {call:?}")
        };
        assert_eq!((who.uid, who.gid, &who.gids[..]), (11, 12, &[13][..]));
        assert_eq!(call.args.rest(), b"ARGS");
        // The connection still serves the client meanwhile.
        peer.null();
        peer.send_record(&reply(call.xid, b"RESULTS!"));
        assert_eq!(end(&answer), Ok(b"RESULTS!".to_vec()));
    }
    let (other, other_back, _) = workers.client();
    assert_ne!(back.id(), other_back.id());
    drop((peer, other));
    workers.wait_idle();
    assert!(!back.is_open());
    workers.stop();
}

/// A hundred calls from both workers at once, answered last first.
#[test]
fn replies_in_any_order() {
    let workers = Workers::start();
    let (mut peer, back, _) = workers.client();
    let calls: Vec<_> = (0..100_u32)
        .map(|n| workers.call(n as usize % 2, &back, &n.to_be_bytes(), LONG))
        .collect();
    let mut seen: Vec<_> = calls.iter().map(|_| incoming(&mut peer)).collect();
    assert_eq!(workers.gauge("calls.waiting"), 100);
    let mut xids: Vec<u32> = seen.iter().map(|(xid, _)| *xid).collect();
    xids.sort_unstable();
    xids.dedup();
    assert_eq!(xids.len(), 100);
    seen.reverse();
    for (xid, args) in seen {
        peer.send_record(&reply(xid, &args));
    }
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(end(call), Ok((n as u32).to_be_bytes().to_vec()));
    }
    drop(peer);
    workers.wait_idle();
    workers.stop();
}

#[test]
fn refusals_and_garbage() {
    let workers = Workers::start();
    let (mut peer, back, here) = workers.client();
    for refusal in [Refusal::ProcUnavail, Refusal::Auth(AuthStat::Tooweak)] {
        let answer = workers.call(here, &back, b"", LONG);
        let (xid, _) = incoming(&mut peer);
        let mut bytes = Vec::new();
        encode_refusal(&mut Enc::new(&mut bytes, 100), xid, refusal).expect("a reply");
        peer.send_record(&bytes);
        assert_eq!(end(&answer), Err(CallError::Refused(refusal)));
    }
    for len in [8, 12, 23] {
        let answer = workers.call(here, &back, b"", LONG);
        let (xid, _) = incoming(&mut peer);
        peer.send_record(&reply(xid, b"")[..len]);
        assert_eq!(end(&answer), Err(CallError::Garbage), "{len} bytes");
    }
    peer.null();
    drop(peer);
    workers.wait_idle();
    workers.stop();
}

#[test]
fn replies_nobody_waits_for() {
    let workers = Workers::start();
    let (mut peer, back, here) = workers.client();
    peer.send_record(&reply(1, b"before"));
    let answer = workers.call(here, &back, b"", LONG);
    let (xid, _) = incoming(&mut peer);
    for other in [xid.wrapping_add(1), xid.wrapping_sub(1), !xid] {
        peer.send_record(&reply(other, b"other"));
    }
    // Another kind of message altogether.
    peer.send_record(&[&xid.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 0]].concat());
    peer.null();
    assert!(answer.try_recv().is_err());
    peer.send_record(&reply(xid, b"this"));
    peer.send_record(&reply(xid, b"that"));
    assert_eq!(end(&answer), Ok(b"this".to_vec()));
    peer.null();
    drop(peer);
    workers.wait_idle();
    workers.stop();
}

#[test]
fn a_silent_peer_delays_nobody_else() {
    let workers = Workers::start();
    let (mut silent, back, here) = workers.client();
    let late: Vec<_> = [here, 1 - here]
        .map(|from| workers.call(from, &back, b"late", SHORT))
        .into();
    let (mut other, other_back, _) = workers.client();
    let quick = workers.call(here, &other_back, b"", LONG);
    let (xid, _) = incoming(&mut other);
    other.send_record(&reply(xid, b""));
    assert_eq!(end(&quick), Ok(Vec::new()));
    for answer in late {
        assert_eq!(end(&answer), Err(CallError::TimedOut));
    }
    // The replies come after all, while another call waits.
    let answer = workers.call(here, &back, b"next", LONG);
    for expected in [&b"late"[..], b"late", b"next"] {
        let (xid, args) = incoming(&mut silent);
        assert_eq!(args, expected);
        silent.send_record(&reply(xid, &args));
    }
    assert_eq!(end(&answer), Ok(b"next".to_vec()));
    drop((silent, other));
    workers.wait_idle();
    workers.stop();
}

#[test]
fn a_call_given_up_leaves_nothing() {
    let workers = Workers::start();
    let (mut peer, back, here) = workers.client();
    let given_up = back.clone();
    let gone = workers.run(here, move || async move {
        let cred = Credential::none();
        let call = given_up.call(CB, &cred, b"", LONG);
        vfs::exec::timeout(Duration::from_millis(10), call).await
    });
    assert_eq!(gone, None);
    assert_eq!(workers.gauge("calls.waiting"), 0);
    let (xid, _) = incoming(&mut peer);
    peer.send_record(&reply(xid, b""));
    peer.null();
    drop(peer);
    workers.wait_idle();
    workers.stop();
}

#[test]
fn the_end_of_a_connection_ends_its_calls() {
    let workers = Workers::start();
    for half in [false, true] {
        let (mut peer, back, here) = workers.client();
        let calls: Vec<_> = (0..10)
            .map(|n| workers.call(n % 2, &back, b"", LONG))
            .collect();
        calls.iter().for_each(|_| drop(incoming(&mut peer)));
        let how = if half {
            Shutdown::Write
        } else {
            Shutdown::Both
        };
        peer.stream().shutdown(how).expect("shutdown");
        for call in &calls {
            assert_eq!(end(call), Err(CallError::Closed));
        }
        assert!(!back.is_open());
        for from in [here, 1 - here] {
            let answer = workers.call(from, &back, b"", LONG);
            assert_eq!(end(&answer), Err(CallError::Closed));
        }
        drop(peer);
        workers.wait_idle();
    }
    workers.stop();
}

/// Calls to a client that reads nothing: bounded in number, and the end of the connection ends those
/// still queued.
#[test]
fn queued_calls_are_bounded_and_end_with_the_connection() {
    let workers = Workers::start();
    let (peer, back, here) = workers.client();
    let args = vec![0; ARGS_MAX / 2];
    let calls: Vec<_> = (0..CALLS_MAX)
        .map(|_| workers.call(here, &back, &args, LONG))
        .collect();
    let one_more = workers.call(here, &back, b"", LONG);
    assert_eq!(end(&one_more), Err(CallError::Busy));
    let too_long = workers.call(here, &back, &vec![0; ARGS_MAX + 1], LONG);
    assert_eq!(end(&too_long), Err(CallError::TooLong));
    assert!(calls.iter().all(|call| call.try_recv().is_err()));
    // Half closed: what is queued stays so, but no replies will come.
    let half = peer.stream().shutdown(Shutdown::Write);
    half.expect("shutdown");
    for call in &calls {
        assert_eq!(end(call), Err(CallError::Closed));
    }
    assert!(!back.is_open());
    drop(peer);
    workers.wait_idle();
    workers.stop();
}

#[test]
fn queued_bytes_are_bounded() {
    let workers = Workers::with(|config| config.limits.reply_bytes = 1 << 20);
    let (peer, back, here) = workers.client();
    let args = vec![0; ARGS_MAX];
    let calls: Vec<_> = (0..CALLS_MAX)
        .map(|_| workers.call(here, &back, &args, LONG))
        .collect();
    workers.gauge("tasks");
    let busy = calls
        .iter()
        .filter(|call| call.try_recv() == Ok(Err(CallError::Busy)));
    assert!(
        busy.count() > 0,
        "16 MiB queued for a peer that reads nothing"
    );
    drop((peer, calls));
    workers.wait_idle();
    workers.stop();
}

#[test]
fn replies_are_bounded() {
    let workers = Workers::start();
    for (len, fits) in [(REPLY_MAX, true), (REPLY_MAX + 4, false)] {
        let (mut peer, back, here) = workers.client();
        let answer = workers.call(here, &back, b"", LONG);
        let (xid, _) = incoming(&mut peer);
        let results = vec![5; len - 24];
        peer.send_record(&reply(xid, &results));
        let expected = if fits {
            Ok(results)
        } else {
            Err(CallError::Closed)
        };
        assert!(end(&answer) == expected, "{len} bytes");
        assert_eq!(peer.closed_within(if fits { SHORT } else { LONG }), !fits);
    }
    workers.wait_idle();
    workers.stop();
}

/// The rest of a reply that never comes is as bad as that of a request.
#[test]
fn half_a_reply() {
    let workers = Workers::with(|config| {
        config.timeouts = Timeouts {
            half_record: Duration::from_millis(100),
            ..config.timeouts.clone()
        };
    });
    let (mut peer, back, here) = workers.client();
    let answer = workers.call(here, &back, b"", LONG);
    let (xid, _) = incoming(&mut peer);
    let stream = [&mark(100, true)[..], &reply(xid, b"")].concat();
    peer.send_raw(&stream).expect("sending");
    assert_eq!(end(&answer), Err(CallError::Closed));
    assert!(peer.closed_within(LONG));
    workers.wait_idle();
    workers.stop();
}

#[test]
fn a_stopping_server_waits_for_no_reply() {
    let workers = Workers::start();
    let (mut peer, back, here) = workers.client();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    let out = workers
        .connect(listener.local_addr().expect("an address"), LONG)
        .expect("a connection");
    let (stream, _) = listener.accept().expect("a connection");
    let mut called = Client::over(stream);
    let answers = [
        workers.call(here, &back, b"", LONG),
        workers.call(0, out.back(), b"", LONG),
        workers.call(1, out.back(), b"", LONG),
    ];
    incoming(&mut peer);
    incoming(&mut called);
    incoming(&mut called);
    workers.stop();
    for answer in &answers {
        // Closed, or the caller itself is gone.
        let told = answer.recv_timeout(LONG);
        assert!(
            matches!(
                told,
                Ok(Err(CallError::Closed)) | Err(mpsc::RecvTimeoutError::Disconnected)
            ),
            "{told:?}"
        );
    }
    assert!(peer.closed_within(LONG) && called.closed_within(LONG));
    drop(out);
}

#[test]
fn an_outgoing_connection() {
    let workers = Workers::start();
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(addr).expect("listening");
        let there = listener.local_addr().expect("an address");
        let out = workers.connect(there, LONG).expect("a connection");
        let (stream, _) = listener.accept().expect("a connection");
        let mut peer = Client::over(stream);
        assert_eq!(
            (out.back().peer(), workers.server.connections.total()),
            (there, 1)
        );
        for from in [0, 1] {
            let answer = workers.call(from, out.back(), b"CALL", LONG);
            let (xid, args) = incoming(&mut peer);
            assert_eq!(args, b"CALL");
            peer.send_record(&reply(xid, b"BACK"));
            assert_eq!(end(&answer), Ok(b"BACK".to_vec()));
        }
        // It lives as long as its last owner, not as long as those who may call.
        let (again, back) = (out.clone(), out.back().clone());
        drop(out);
        let answer = workers.call(0, &back, b"", LONG);
        incoming(&mut peer);
        assert!(!peer.closed_within(SHORT));
        drop(again);
        assert_eq!(end(&answer), Err(CallError::Closed));
        assert!(peer.closed_within(LONG));
        workers.wait_idle();
    }
    workers.stop();
}

/// Nothing is served there: a call, a record above the bound for replies and the peer's end close it.
#[test]
fn an_outgoing_connection_takes_replies_only() {
    let workers = Workers::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    let there = listener.local_addr().expect("an address");
    let null = record(1, &Login::root(), [100_003, 3, 0], &[]);
    let call = [&mark(null.len() as u32, true)[..], &null].concat();
    let announced = mark(REPLY_MAX as u32 + 1, true).to_vec();
    let old_version = [mark(12, true), [0; 4], [0; 4], [9; 4]].concat();
    for bytes in [call, announced, old_version] {
        let out = workers.connect(there, LONG).expect("a connection");
        let mut peer = Client::over(listener.accept().expect("a connection").0);
        let answer = workers.call(1, out.back(), b"", LONG);
        incoming(&mut peer);
        peer.send_raw(&bytes).expect("sending");
        assert_eq!(end(&answer), Err(CallError::Closed));
        assert!(
            peer.try_record(LONG).is_ok_and(|record| record.is_none()),
            "answered"
        );
        assert!(!out.back().is_open());
        workers.wait_idle();
    }
    workers.stop();
}

#[test]
fn nobody_to_connect_to() {
    let workers = Workers::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    let there = listener.local_addr().expect("an address");
    drop(listener);
    let refused = workers.connect(there, LONG).map(drop);
    assert_eq!(refused, Err(Errno(libc::ECONNREFUSED)));
    workers.wait_idle();
    workers.stop();
}

/// Where the queue of new connections is full, the kernel does not answer at all.
#[test]
fn a_peer_that_does_not_answer() {
    let workers = Workers::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    rustix::net::listen(&listener, 0).expect("listen");
    let there = listener.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&there, SHORT) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue never fills");
    }
    let late = workers.connect(there, SHORT).map(drop);
    assert_eq!(late, Err(Errno::ETIMEDOUT));
    workers.wait_idle();
    workers.stop();
}

#[test]
fn outgoing_connections_count() {
    let workers = Workers::with(|config| config.limits.connections_per_client = 2);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
    let there = listener.local_addr().expect("an address");
    let (client, _, _) = workers.client();
    let first = workers.connect(there, LONG).expect("a connection");
    assert_eq!(workers.connect(there, LONG).map(drop), Err(Errno::EMFILE));
    drop((first, client));
    workers.wait_idle();
    let both = [(); 2].map(|()| workers.connect(there, LONG).expect("a connection"));
    assert_eq!(workers.server.connections.total(), 2);
    drop(both);
    workers.wait_idle();
    workers.stop();
}
