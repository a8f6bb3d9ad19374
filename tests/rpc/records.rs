//! Record marking: every way to cut a record, many records at once, and streams that are no records.

use std::time::{Duration, Instant};

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Getattr3Args;
use nfsd::nfs3::res::Getattr3Res;
use nfsd::nfs3::types::{NfsFh3, StableHow};
use nfsd::rpc::record::{MAX_EMPTY_FRAGMENTS, mark};
use tests::client::nfs3::nfs3;
use tests::client::{Client, framed};
use tests::daemon::{Setup, TestServer};

/// Less than the time a record may take by default, which must not be what ends a connection here.
const SOON: Duration = Duration::from_secs(40);

fn getattr(fh: &[u8]) -> Getattr3Args<'_> {
    Getattr3Args { object: NfsFh3(fh) }
}

#[track_caller]
fn answered(client: &mut Client, xid: u32) {
    let answer = client.answer(xid);
    let res: Getattr3Res = answer.results();
    res.ok().expect("GETATTR");
}

/// Two fragments cut at every place, with the bytes of the stream cut at every place too.
#[test]
fn every_split_of_a_record() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let (_, sample) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
    for cut in 0..=sample.len() {
        let (xid, record) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
        client.send_fragments(&[&record[..cut], &record[cut..]]);
        answered(&mut client, xid);
    }
    let (xid, record) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
    let bytes: Vec<&[u8]> = record.chunks(1).collect();
    client.send_fragments(&bytes);
    answered(&mut client, xid);
    // The same stream, one TCP segment after the other.
    for cut in 1..sample.len() + 4 {
        let (xid, record) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
        let stream = framed(&record);
        client.send_raw(&stream[..cut]).expect("sending");
        if cut % 8 == 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        client.send_raw(&stream[cut..]).expect("sending");
        answered(&mut client, xid);
    }
}

/// A WRITE in fragments of many sizes: its data goes through every path of the receiver.
#[test]
fn writes_in_fragments() {
    for policy in tests::daemon::policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let data: Vec<u8> = (0..700_001_u32).map(|i| (i % 251) as u8).collect();
        for size in [
            1, 3, 4, 5, 7, 100, 4095, 4096, 32_767, 32_768, 65_536, 300_000,
        ] {
            // Very small fragments only for the start of the record, where the header is.
            let args = nfsd::nfs3::args::Write3Args {
                file: NfsFh3(&file),
                offset: 0,
                count: data.len() as u32,
                stable: StableHow::Unstable,
                data: nfsd::nfs3::types::Data3(&data),
            };
            let (xid, record) = client.build(nfs3(Proc3::Write), &args);
            let (head, tail) = record.split_at(record.len().min(size * 2000));
            let mut fragments: Vec<&[u8]> = head.chunks(size).collect();
            if !tail.is_empty() {
                fragments.push(tail);
            }
            client.send_fragments(&fragments);
            let wrote = client.finish_write(xid).expect("WRITE");
            assert_eq!(wrote.count as usize, data.len(), "fragments of {size}");
            let back = client.read(&file, 0, 1 << 20).expect("READ");
            assert!(back.data == data && back.eof, "fragments of {size}");
            assert!(
                client
                    .setattr(&file, tests::client::nfs3::size(0), None)
                    .is_ok()
            );
        }
    }
}

#[test]
fn several_calls_in_one_segment() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    for calls in [2, 3, 17, 200] {
        let mut stream = Vec::new();
        let mut xids = Vec::new();
        for _ in 0..calls {
            let (xid, record) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
            stream.extend(framed(&record));
            xids.push(xid);
        }
        client.send_raw(&stream).expect("sending");
        // Asked for in another order than sent: they come by their ids.
        xids.reverse();
        xids.into_iter().for_each(|xid| answered(&mut client, xid));
    }
}

/// Ten thousand requests are in the socket before the first answer is looked at.
#[test]
fn ten_thousand_pipelined() {
    for policy in tests::daemon::policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let mut stream = Vec::new();
        let mut xids = Vec::new();
        for _ in 0..10_000 {
            let (xid, record) = client.build(nfs3(Proc3::Getattr), &getattr(&root));
            stream.extend(framed(&record));
            xids.push(xid);
        }
        let mut writer = client.stream().try_clone().expect("a second descriptor");
        std::thread::scope(|scope| {
            scope.spawn(move || std::io::Write::write_all(&mut writer, &stream).expect("sending"));
            xids.iter().for_each(|xid| answered(&mut client, *xid));
        });
        assert_eq!(server.stat("requests.in_flight"), 0);
    }
}

/// The server answers an IO that waits later than one that does not.
#[test]
fn answers_out_of_order() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    let data = vec![7; 1 << 20];
    let mut overtaken = false;
    for _ in 0..50 {
        let slow = client.start_write(&file, 0, &data, StableHow::FileSync);
        let fast = client.start(nfs3(Proc3::Null), &());
        let (first, answer) = client.next_answer();
        overtaken |= first == fast;
        answer.outcome().expect("an answer");
        client.answer(if first == fast { slow } else { fast });
        if overtaken {
            return;
        }
    }
    panic!("a NULL never overtook a stable WRITE");
}

/// A record announced longer than the limit ends the connection it came over, at once, and no other.
#[test]
fn oversized_records() {
    let server = Setup::config("[limits]\nrecord_bytes = \"64KiB\"").start();
    let mut other = server.client();
    for announced in [(64 << 10) + 1, 1 << 24, 0x7fff_ffff] {
        for last in [true, false] {
            let mut client = server.client();
            client.send_raw(&mark(announced, last)).expect("sending");
            assert!(client.closed_within(SOON), "{announced} {last}");
            other.null();
        }
    }
    // The limit is on the record, not on its fragments.
    let mut client = server.client();
    let piece = vec![0; 16 << 10];
    let mut stream = Vec::new();
    for _ in 0..5 {
        stream.extend(mark(piece.len() as u32, false));
        stream.extend_from_slice(&piece);
    }
    // It may be closed while this is still being sent.
    let _ = client.send_raw(&stream);
    assert!(client.closed_within(SOON));
    other.null();
}

/// One call of exactly the longest record is taken.
#[test]
fn the_longest_record() {
    let server = Setup::config("[limits]\nrecord_bytes = \"64KiB\"").start();
    let mut client = server.client();
    let (xid, mut record) = client.build(nfs3(Proc3::Null), &());
    record.resize(64 << 10, 0);
    client.send_record(&record);
    client.answer(xid).outcome().expect("NULL");
    record.resize(record.len() + 4, 0);
    let _ = client.send_raw(&framed(&record));
    assert!(client.closed_within(SOON));
}

#[test]
fn garbage_bytes() {
    let server = TestServer::start();
    let mut other = server.client();
    let mut state = 0x9E37_79B9_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc].repeat(40);
    let mut all = vec![http, tls, vec![0xff; 4096]];
    all.extend((0..100).map(|_| (0..64).flat_map(|_| random().to_be_bytes()).collect()));
    // Valid framing around random bytes, and around a call with every byte changed in turn.
    all.extend((0..100).map(|_| {
        let bytes: Vec<u8> = (0..40).flat_map(|_| random().to_be_bytes()).collect();
        framed(&bytes)
    }));
    let (_, call) = other.build(nfs3(Proc3::Getattr), &getattr(&[9; 30]));
    for at in 0..call.len() {
        let mut call = call.clone();
        call[at] ^= 1 << (random() % 8);
        all.push(framed(&call));
    }
    for bytes in all {
        let mut client = server.client();
        let _ = client.send_raw(&bytes);
        client.half_close();
        // Whatever it answers, it closes in the end.
        while let Ok(Some(_)) = client.try_record(SOON) {}
        assert!(client.closed_within(SOON), "{bytes:?}");
    }
    other.null();
}

/// Empty fragments carry nothing; a few are tolerated, an empty record is not a call.
#[test]
fn empty_fragments_and_records() {
    let server = TestServer::start();
    let mut other = server.client();
    let mut client = server.client();
    let (xid, record) = client.build(nfs3(Proc3::Null), &());
    client.send_fragments(&[b"", &record[..9], b"", b"", &record[9..], b""]);
    client.answer(xid).outcome().expect("NULL");
    client.send_raw(&mark(0, true)).expect("sending");
    assert!(client.closed_within(SOON), "an empty record");

    let mut client = server.client();
    let endless = mark(0, false).repeat(MAX_EMPTY_FRAGMENTS as usize + 1);
    let _ = client.send_raw(&endless);
    assert!(client.closed_within(SOON), "empty fragments without end");
    other.null();
}

/// A client that has sent a record in two pieces, slowly but within the three seconds it may take. When this thread was held up
/// for so long that it was not, the server is in the right to close the connection, and it begins again.
fn in_time(server: &TestServer) -> Client {
    loop {
        let mut slow = server.client();
        let (xid, record) = slow.build(nfs3(Proc3::Null), &());
        let stream = framed(&record);
        let began = Instant::now();
        slow.send_raw(&stream[..20]).expect("sending");
        std::thread::sleep(Duration::from_millis(300));
        let _ = slow.send_raw(&stream[20..]);
        if began.elapsed() < Duration::from_secs(2) {
            slow.answer(xid).outcome().expect("NULL");
            return slow;
        }
    }
}

/// Half a record, then silence: the connection ends after the time set for it, its buffer comes back, and nobody else
/// notices.
#[test]
fn half_a_record() {
    let server = Setup::config("[timeouts]\nhalf_record = \"3s\"").start();
    let (mut other, root) = server.mounted();
    let file = other.new_file(&root, b"file", 0o644);
    let data = vec![1; 1 << 20];
    let args = nfsd::nfs3::args::Write3Args {
        file: NfsFh3(&file),
        offset: 0,
        count: data.len() as u32,
        stable: StableHow::Unstable,
        data: nfsd::nfs3::types::Data3(&data),
    };
    let began = Instant::now();
    let start = |cut: usize| {
        let mut client = server.client();
        let (_, record) = client.build(nfs3(Proc3::Write), &args);
        client.send_raw(&framed(&record)[..cut]).expect("sending");
        (cut, client)
    };
    let cuts = [1, 3, 4, 5, 30, 1000, 40_000, 500_000, (1 << 20) + 100];
    for (cut, mut client) in cuts.map(start) {
        other.null();
        assert!(client.closed_within(SOON), "{cut} bytes of a record");
        let after = began.elapsed();
        assert!(after >= Duration::from_secs(3), "{cut}: after {after:?}");
    }
    // A whole record, however slowly it comes in time, is taken.
    let mut slow = in_time(&server);
    std::thread::sleep(Duration::from_millis(4500));
    slow.null();
    drop((slow, other));
    server.wait_idle();
    assert_eq!(server.stat("buffers.out"), 0);
}

/// A client that says it has sent everything still gets its answers.
#[test]
fn half_closed_connections_are_answered() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let xids: Vec<u32> = (0..100)
        .map(|_| client.start(nfs3(Proc3::Getattr), &getattr(&root)))
        .collect();
    client.half_close();
    xids.into_iter().for_each(|xid| answered(&mut client, xid));
    assert!(client.closed_within(SOON));
}
