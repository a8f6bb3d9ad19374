//! The server is told to stop, or killed, while it works.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nfsd::nfs3::Proc3;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::StableHow;
use rustix::process::Signal;
use tests::client::nfs3::{Outcome as _, nfs3};
use tests::client::{Client, PATIENCE};
use tests::daemon::{Setup, policies};

/// Within what time the server said it would be gone, when it was last told to stop.
#[track_caller]
pub(crate) fn end_bound(log: &str) -> Duration {
    let said = log.rsplit_once("all ends within ");
    let seconds = said.and_then(|(_, rest)| rest.split_whitespace().next());
    let seconds = seconds.and_then(|number| number.parse().ok());
    Duration::from_secs_f32(seconds.unwrap_or_else(|| panic!("no bound: {log}")))
}

/// SIGTERM while clients write: requests taken are answered before the connection closes, and the server ends well within
/// its time.
#[test]
fn sigterm_drains() {
    for policy in policies() {
        let mut server = Setup::config("[timeouts]\ndrain = \"60s\"")
            .policy(&policy)
            .start();
        let (mut client, root) = server.mounted();
        let files: Vec<_> = (0..8)
            .map(|n| client.new_file(&root, format!("f{n}").as_bytes(), 0o644))
            .collect();
        let data = vec![3; 256 << 10];
        let mut writers: Vec<_> = files.iter().map(|_| server.client()).collect();
        for (writer, file) in writers.iter_mut().zip(&files) {
            for n in 0..8 {
                writer.start_write(file, n * data.len() as u64, &data, StableHow::FileSync);
            }
        }
        let began = Instant::now();
        // Some of them are taken by now.
        while server.stat("requests.in_flight") == 0 && began.elapsed() < PATIENCE {}
        server.signal(Signal::TERM);
        let mut answered = 0;
        for writer in &mut writers {
            // Whole answers only, then the end of the stream.
            loop {
                match writer.try_record(2 * PATIENCE) {
                    Ok(Some(_)) => answered += 1,
                    Ok(None) => break,
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
                    Err(e) => panic!("cut in the middle of an answer: {e}"),
                }
            }
        }
        let status = server.wait_end(2 * PATIENCE);
        assert!(status.success(), "{status}\n{}", server.log());
        println!(
            "{policy}: {answered} of 64 answered, ended after {:?}",
            began.elapsed()
        );
        assert!(answered > 0);
        drop((client, writers));
        server.start_again();
        let mut client = server.client();
        for file in &files {
            let read = client.read(file, 0, 1 << 20).expect("READ");
            assert!(read.data.iter().all(|b| *b == 3));
        }
    }
}

/// Idle connections are closed at once; the server does not wait for them.
#[test]
fn sigterm_with_idle_connections() {
    let mut server = Setup::config("[timeouts]\ndrain = \"10m\"").start();
    let mut idle: Vec<_> = (0..50).map(|_| server.client()).collect();
    idle.iter_mut().for_each(Client::null);
    // One that has sent half a request is not waited for either.
    idle[0].send_raw(&[0x80, 0, 0]).expect("sending");
    server.signal(Signal::TERM);
    for client in &mut idle {
        assert!(client.closed_within(PATIENCE));
    }
    assert!(server.wait_end(PATIENCE).success());
    server.start_again();
}

/// A client that takes no replies does not hold up the end for longer than the bound the server tells.
#[test]
fn sigterm_with_a_stuck_client() {
    let times = "[timeouts]\ndrain = \"1s\"\nsend_stalled = \"10m\"";
    let mut server = Setup::config(times).start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    client
        .write(&file, 0, &vec![1; 1 << 20], StableHow::FileSync)
        .expect("WRITE");
    for _ in 0..64 {
        let args = nfsd::nfs3::args::Read3Args {
            file: nfsd::nfs3::types::NfsFh3(&file),
            offset: 0,
            count: 1 << 20,
        };
        client.start(nfs3(Proc3::Read), &args);
    }
    // No more of them is sent once the sockets are full.
    let late = Instant::now() + PATIENCE;
    while server.stat("requests.in_flight") == 0 && Instant::now() < late {}
    server.signal(Signal::TERM);
    let began = Instant::now();
    let status = server.wait_end(PATIENCE);
    let (took, log) = (began.elapsed(), server.log());
    assert!(status.success(), "{status}\n{log}");
    assert!(
        log.contains("connections closed with requests in flight"),
        "{log}"
    );
    let bound = end_bound(&log);
    println!("ended after {took:?}, {bound:?} were said");
    assert!(took < bound + PATIENCE, "{took:?}, said {bound:?}");
    drop(client);
    server.start_again();
}

/// SIGKILL at any moment of a load of everything: the server starts again on the same export, all handles are good, and
/// what was said to be stable is there.
#[test]
fn sigkill_and_start_again() {
    let mut server = Setup::default().start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"dir", 0o777);
    drop(client);
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for life in 0..6_u64 {
        let stop = AtomicBool::new(false);
        let acknowledged = AtomicUsize::new(0);
        let made = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..4)
                .map(|lane| {
                    let (dir, stop, acknowledged) = (&dir, &stop, &acknowledged);
                    let client = server.client();
                    scope.spawn(move || load(client, dir, (life, lane), stop, acknowledged))
                })
                .collect();
            // However slow the disk is, something was said to be stable.
            let end = Instant::now() + 2 * PATIENCE;
            while acknowledged.load(Ordering::Relaxed) < 4 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(150 + life * 40));
            server.kill9();
            stop.store(true, Ordering::Relaxed);
            let lanes = lanes.into_iter().map(|lane| lane.join().expect("a lane"));
            lanes.flatten().collect::<Vec<_>>()
        });
        kept.extend(made);
        server.start_again();
        let mut client = server.client();
        for (fh, data) in &kept {
            let read = client.read(fh, 0, 1 << 16).expect("READ after SIGKILL");
            assert!(read.data == *data);
        }
        assert_eq!(client.getattr(&dir).status(), Nfsstat3::Ok);
    }
    println!("{} files written stable over 6 lives", kept.len());
    assert!(kept.len() > 20);
}

/// Creates and writes until the server is gone; returns what was acknowledged as stable.
fn load(
    mut client: Client,
    dir: &[u8],
    (life, lane): (u64, u32),
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut kept = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("l{life}-{lane}-{n}");
        let data = name.repeat(100).into_bytes();
        // The server dies under any of these: a panic about a lost connection is the end of the load.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let fh = client.new_file(dir, name.as_bytes(), 0o644);
            let wrote = client.write(&fh, 0, &data, StableHow::FileSync);
            assert_eq!(wrote.expect("WRITE").count as usize, data.len());
            fh
        }));
        match done {
            Ok(fh) => {
                kept.push((fh, data));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => break,
        }
    }
    kept
}
