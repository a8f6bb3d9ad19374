//! Clients that do not take their replies, or take them slowly.

use std::io::Read as _;
use std::time::{Duration, Instant};

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Read3Args;
use nfsd::nfs3::res::Read3Res;
use nfsd::nfs3::types::{NfsFh3, StableHow};
use tests::client::nfs3::nfs3;
use tests::client::{Client, Fh, PATIENCE, framed};
use tests::daemon::{Setup, TestServer, policies};

const SIZE: usize = 1 << 20;

/// A server with a file of 1 MiB.
fn bed(config: &str, policy: &str) -> (TestServer, Client, Fh) {
    let server = Setup::config(config).policy(policy).start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    client
        .write(&file, 0, &vec![42; SIZE], StableHow::FileSync)
        .expect("WRITE");
    (server, client, file)
}

/// Requests for `count` megabytes as one stream of bytes.
fn reads(client: &mut Client, file: &[u8], count: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..count {
        let args = Read3Args {
            file: NfsFh3(file),
            offset: 0,
            count: SIZE as u32,
        };
        let (_, record) = client.build(nfs3(Proc3::Read), &args);
        stream.extend(framed(&record));
    }
    stream
}

/// A client asks for gigabytes and takes none of it: the server holds a bounded part, serves the others as before, ends
/// the connection when its time is up, and has everything back.
#[test]
fn a_client_that_stops_reading() {
    for policy in policies() {
        let config = "[timeouts]\nsend_stalled = \"2s\"\n[limits]\nreply_bytes = \"8MiB\"";
        let (server, mut other, file) = bed(config, &policy);
        let mut stuck: Vec<Client> = (0..4).map(|_| server.client()).collect();
        let began = Instant::now();
        for client in &mut stuck {
            let stream = reads(client, &file, 500);
            client.send_raw(&stream).expect("sending requests");
        }
        // Others are served all the time, and what is held for the stuck ones stays bounded.
        let mut most = 0;
        while server.stat("connections") > 1 {
            for _ in 0..20 {
                other.null();
                let read = other.read(&file, 0, 4096).expect("READ");
                assert!(read.data.iter().all(|b| *b == 42));
            }
            most = most.max(server.stat("buffers.out"));
            assert!(began.elapsed() < 3 * PATIENCE, "never closed");
        }
        assert!(
            began.elapsed() >= Duration::from_secs(2),
            "closed too early"
        );
        // Eight of a megabyte each, a record for each of those, and what the sockets' own buffers let go.
        assert!(most <= 4 * 2 * (8 + 4), "{most} buffers");
        println!("{policy}: at most {most} buffers for 4 stuck clients");
        for client in &mut stuck {
            let mut rest = Vec::new();
            let _ = client.stream().read_to_end(&mut rest);
            assert!(
                rest.len() < 500 * SIZE,
                "everything was sent to a client that was not reading"
            );
        }
        drop((stuck, other));
        server.wait_idle();
        assert_eq!(server.stat("buffers.out"), 0);
    }
}

/// A slow client is not a stuck one: it gets every byte.
#[test]
fn a_slow_reader_gets_everything() {
    for policy in policies() {
        // Far more than the pauses, in case this thread is held up, but less than all of them.
        let config = "[timeouts]\nsend_stalled = \"4s\"\n[limits]\nreply_bytes = \"1MiB\"";
        let (server, mut other, file) = bed(config, &policy);
        let mut slow = server.client();
        const COUNT: usize = 40;
        let stream = reads(&mut slow, &file, COUNT);
        slow.send_raw(&stream).expect("sending requests");
        let began = Instant::now();
        for n in 0..COUNT {
            if n % 4 == 0 {
                std::thread::sleep(Duration::from_millis(450));
            }
            let (_, answer) = slow.next_answer();
            let read: Read3Res<'_> = answer.results();
            let read = read.ok().expect("READ");
            assert!(read.data.0.len() == SIZE && read.data.0.iter().all(|b| *b == 42));
        }
        assert!(began.elapsed() > Duration::from_secs(4), "not slow");
        slow.null();
        other.null();
    }
}

/// A client that sends and sends but never reads small answers either is stopped being read from.
#[test]
fn small_answers_pile_up_only_so_far() {
    let config = "[timeouts]\nsend_stalled = \"2s\"\n[limits]\nreply_bytes = \"1MiB\"";
    let (server, mut other, _) = bed(config, "adaptive");
    let mut client = server.client();
    let (_, record) = client.build(nfs3(Proc3::Null), &());
    let stream = framed(&record).repeat(20_000);
    let timeout = Some(Duration::from_secs(1));
    client
        .stream()
        .set_write_timeout(timeout)
        .expect("a timeout");
    let mut sent = 0_usize;
    // Until the server takes no more, or closes.
    while client.send_raw(&stream).is_ok() {
        sent += stream.len();
        assert!(
            sent < 1 << 30,
            "a gigabyte of requests taken without an answer read"
        );
    }
    other.null();
    while server.stat("connections") > 1 {
        std::thread::sleep(Duration::from_millis(50));
        other.null();
    }
}

/// More requests in flight than the limit: the rest waits in the socket, and all are answered.
#[test]
fn requests_in_flight_are_bounded() {
    let config = "[limits]\nrecords_in_flight = 4";
    let (server, _, file) = bed(config, "ring");
    let mut client = server.client();
    let stream = reads(&mut client, &file, 100);
    let mut writer = client.stream().try_clone().expect("a second descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer, &stream).expect("sending"));
        for n in 0..100 {
            let (_, answer) = client.next_answer();
            assert_eq!(answer.outcome(), Ok(()));
            if n % 10 == 0 {
                assert!(server.stat("requests.in_flight") <= 4);
            }
        }
    });
}

/// A client that takes nothing cannot take the buffers of all others with it: also where memory is short, they are served
/// while it is stuck.
#[test]
fn a_stuck_client_does_not_starve_others() {
    for policy in policies() {
        let config = "[timeouts]\nsend_stalled = \"10m\"\n\
            [limits]\nbuffers_bytes = \"64MiB\"\nreply_bytes = \"4MiB\"";
        let (server, mut other, file) = bed(config, &policy);
        let mut stuck: Vec<Client> = (0..3).map(|_| server.client()).collect();
        for client in &mut stuck {
            let stream = reads(client, &file, 300);
            client.send_raw(&stream).expect("sending requests");
        }
        std::thread::sleep(Duration::from_millis(500));
        // The stuck ones have their ten minutes; nobody waits for that.
        for _ in 0..20 {
            let read = other.read(&file, 0, SIZE as u32).expect("READ");
            assert_eq!(read.data.len(), SIZE);
            let mut fresh = server.client();
            let wrote = fresh.write(&file, 0, &read.data, StableHow::Unstable);
            assert_eq!(wrote.expect("WRITE").count as usize, SIZE);
        }
        // The last of the fresh ones may just be leaving.
        let end = Instant::now() + PATIENCE;
        while server.stat("connections") > 4 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            server.stat("connections"),
            4,
            "the stuck ones are still there"
        );
    }
}

/// A server with little memory for buffers makes everybody wait a little, and nobody fail.
#[test]
fn little_memory_for_buffers() {
    let (server, mut client, file) = bed("[limits]\nbuffers_bytes = \"16MiB\"", "ring");
    let handles: Vec<_> = (0..16).map(|_| (server.client(), file.clone())).collect();
    std::thread::scope(|scope| {
        for (mut client, file) in handles {
            scope.spawn(move || {
                for _ in 0..5 {
                    let read = client.read(&file, 0, SIZE as u32).expect("READ");
                    assert_eq!(read.data.len(), SIZE);
                    let wrote = client.write(&file, 0, &read.data, StableHow::Unstable);
                    assert_eq!(wrote.expect("WRITE").count as usize, SIZE);
                }
            });
        }
    });
    client.commit(&file, 0, 0).expect("COMMIT");
}
