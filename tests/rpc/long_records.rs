//! Long records, WRITEs, among short ones: received past the shared buffers, and what an end in the middle of one leaves.

use std::time::Duration;

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Write3Args;
use nfsd::nfs3::types::{Data3, NfsFh3, StableHow};
use tests::client::nfs3::nfs3;
use tests::client::{Client, framed};
use tests::daemon::{Setup, TestServer, policies};

const SOON: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

fn write<'a>(file: &'a [u8], offset: u64, data: &'a [u8]) -> Write3Args<'a> {
    Write3Args {
        file: NfsFh3(file),
        offset,
        count: data.len() as u32,
        stable: StableHow::Unstable,
        data: Data3(data),
    }
}

/// A random number below `most`, the same ones in every run.
fn random(state: &mut u32, most: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state as usize % most
}

/// WRITEs of every size and other calls in any order, their bytes cut into segments of any size.
fn mixed(server: &TestServer, seed: u32, pieces: usize) {
    const LENGTHS: [usize; 8] = [1, 700, 32_000, 32_768, 70_000, 300_000, MIB, MIB];
    let mut state = seed;
    let (mut client, root) = server.mounted();
    let name = format!("f{seed}");
    let file = client.new_file(&root, name.as_bytes(), 0o644);
    let (mut stream, mut expected, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..40_u8 {
        // Long runs of long ones, as clients send them, and some of everything.
        let calm = n / 10 % 2 == 0;
        let len = if calm {
            MIB
        } else {
            LENGTHS[random(&mut state, 8)]
        };
        let data: Vec<u8> = (0..len).map(|i| (i % 249) as u8 ^ n).collect();
        let args = write(&file, expected.len() as u64, &data);
        let (xid, record) = client.build(nfs3(Proc3::Write), &args);
        expected.extend_from_slice(&data);
        calls.push((xid, Some(len)));
        if len % 4 == 0 && n % 3 == 0 {
            let cut = random(&mut state, record.len());
            stream.extend(nfsd::rpc::record::mark(cut as u32, false));
            stream.extend_from_slice(&record[..cut]);
            stream.extend(framed(&record[cut..]));
        } else {
            stream.extend(framed(&record));
        }
        if !calm {
            let (xid, record) = client.build(nfs3(Proc3::Null), &());
            stream.extend(framed(&record));
            calls.push((xid, None));
        }
    }
    let mut writer = client.stream().try_clone().expect("a second descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(1 + random(&mut state, pieces)));
                std::io::Write::write_all(&mut writer, now).expect("sending");
                rest = later;
                if random(&mut state, 64) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        for (xid, len) in calls {
            match len {
                Some(len) => {
                    let wrote = client.finish_write(xid).expect("WRITE");
                    assert_eq!(wrote.count as usize, len);
                }
                None => client.answer(xid).outcome().expect("NULL"),
            }
        }
    });
    let found = std::fs::read(server.export().join(name)).expect("the file");
    assert!(found == expected, "seed {seed}, pieces up to {pieces}");
}

#[test]
fn long_records_among_others() {
    for policy in policies() {
        for limits in [
            "",
            "[limits]\nrecords_in_flight = 1",
            "[limits]\nreply_bytes = \"1MiB\"",
        ] {
            let server = Setup::config(limits).policy(&policy).start();
            for (seed, pieces) in [(1, 3 * MIB), (2, 200_000), (3, 40_000), (4, 2000)] {
                mixed(&server, seed, pieces);
            }
            server.wait_idle();
            assert_eq!(server.stat("buffers.out"), 0);
        }
    }
}

/// A server that does not wait long for the rest of a record, and a client that has written three megabytes to a file.
fn written(policy: &str) -> (TestServer, Client, Vec<u8>, Vec<u8>) {
    let setup = Setup::config("[timeouts]\nhalf_record = \"1s\"");
    let server = setup.policy(policy).start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    let data: Vec<u8> = (0..MIB).map(|i| (i % 241) as u8).collect();
    for _ in 0..3 {
        let wrote = client.write(&file, 0, &data, StableHow::Unstable);
        assert_eq!(wrote.expect("WRITE").count as usize, MIB);
    }
    (server, client, file.to_vec(), data)
}

/// Between long records a connection holds no buffers, and it can wait for ever.
#[test]
fn silence_after_long_records() {
    for policy in policies() {
        let (mut server, mut client, file, data) = written(&policy);
        assert_eq!(server.stat("buffers.out"), 0);
        std::thread::sleep(Duration::from_millis(2500));
        client.null();
        let wrote = client.write(&file, 0, &data, StableHow::Unstable);
        assert_eq!(wrote.expect("WRITE").count as usize, MIB);
        // It also ends with the server, though nothing comes.
        server.signal(rustix::process::Signal::TERM);
        assert!(client.closed_within(SOON));
        assert!(server.wait_end(SOON).success());
        assert!(!server.log().contains("left over"), "{}", server.log());
    }
}

/// A WRITE of which not everything came is none: the file stays as it was, whatever ends the record.
#[test]
fn long_records_that_never_end() {
    for policy in policies() {
        let (mut server, mut client, file, data) = written(&policy);
        let path = server.export().join("file");
        let other = vec![0xee; MIB];
        let cuts = [1, 4, 5, 100, 40_000, 262_144, 500_000, MIB + 100];
        for ends in ["close", "half close", "silence"] {
            // Silence takes a second or two.
            let few = if ends == "silence" { 3 } else { 1 };
            for cut in cuts.into_iter().step_by(few) {
                let (_, record) = client.build(nfs3(Proc3::Write), &write(&file, 0, &other));
                client.send_raw(&framed(&record)[..cut]).expect("sending");
                match ends {
                    "close" => (),
                    "half close" => client.half_close(),
                    _ => assert!(client.closed_within(SOON), "{cut} bytes of a record"),
                }
                drop(client);
                server.wait_idle();
                assert_eq!(server.stat("buffers.out"), 0, "{cut} bytes, {ends}");
                let found = std::fs::read(&path).expect("the file");
                assert!(found == data, "{cut} bytes, {ends}");
                // The next one has been in the midst of long records, too.
                client = server.client();
                let wrote = client.write(&file, 0, &data, StableHow::Unstable);
                assert_eq!(wrote.expect("WRITE").count as usize, MIB);
            }
        }
        // The server ends in the middle of one.
        let (_, record) = client.build(nfs3(Proc3::Write), &write(&file, 0, &other));
        client
            .send_raw(&framed(&record)[..500_000])
            .expect("sending");
        server.signal(rustix::process::Signal::TERM);
        assert!(server.wait_end(SOON).success());
        assert!(!server.log().contains("left over"), "{}", server.log());
        assert!(std::fs::read(&path).expect("the file") == data);
    }
}
