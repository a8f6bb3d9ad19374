//! The recovery database over the socket: a disk that is full makes clients wait, a damaged file is said at the start.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nfsd::nfs4::status::Nfsstat4 as S;
use tests::daemon::{Setup, TestServer, binary, fresh_dir};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need;

use super::recovery::Host;

/// Writes to the file until the disk has no more.
fn fill(path: &std::path::Path) {
    let mut file = File::create(path).expect("a file");
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let _ = file.sync_all();
}

#[test]
fn a_full_disk_makes_clients_wait() {
    if !need::have(
        "nfs4::recovery_store::a_full_disk_makes_clients_wait",
        &[LOOP],
    ) {
        return;
    }
    let dir = fresh_dir();
    let small = LoopFs::new(&dir.path().join("small"), Fs::Ext4, 8, &[], "noatime");
    let path = small.dir().display().to_string();
    let setup = Setup::config(&format!("recovery_db = \"{path}/recovery.redb\""));
    let mut server = setup.start();
    fill(&small.dir().join("fill"));
    // What the file has room for already still goes in.
    let mut waiting = None;
    for n in 0..20_000 {
        let name = format!("{n} {}", "x".repeat(900));
        let mut host = Host::new(&server, 1, &name);
        match host.complete() {
            S::Ok => {}
            status => {
                assert_eq!(status, S::Delay);
                waiting = Some((host, name));
                break;
            }
        }
    }
    let (mut host, name) = waiting.expect("the disk was not full");
    assert_eq!(host.complete(), S::Delay, "still full");
    assert_eq!(host.open("file").err(), Some(S::Grace), "not recorded");
    assert!(server.alive());
    server.client().null();
    fs::remove_file(small.dir().join("fill")).expect("there");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match host.complete() {
            S::Ok => break,
            status => assert_eq!(status, S::Delay),
        }
        assert!(Instant::now() < end, "there is room again");
        std::thread::sleep(Duration::from_millis(50));
    }
    let file = host.open("file").expect("recorded");
    drop(host);
    server.kill9();
    server.start_again();
    let mut host = Host::new(&server, 1, &name);
    host.reclaim(&file.fh).expect("held before");
    drop(host);
    drop(server);
}

#[test]
fn a_damaged_database_is_said_at_the_start() {
    let mut server = TestServer::start();
    let mut host = Host::ready(&server, 1, "a");
    host.open("file").expect("made");
    drop(host);
    server.stop();
    let database = server.dir().join("state/recovery.redb");
    let whole = fs::read(&database).expect("the database");
    // At the start of the file, and behind its first page.
    for from in [0, 4096] {
        let mut bytes = whole.clone();
        for byte in bytes.iter_mut().skip(from).step_by(7) {
            *byte ^= 0x5a;
        }
        fs::write(&database, &bytes).expect("damaged");
        let output = Command::new(binary())
            .arg("serve")
            .arg(server.export())
            .args(["--listen", "127.0.0.1:0"])
            .arg("--state-dir")
            .arg(server.dir().join("state"))
            .arg("--runtime-dir")
            .arg(server.dir().join("runtime"))
            .output()
            .expect("a server");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("recovery.redb") && said.contains("move the file away"),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
    }
    // As it says.
    fs::remove_file(&database).expect("there");
    server.start_again();
    let mut host = Host::ready(&server, 1, "a");
    host.open("file").expect("nothing to reclaim");
}
