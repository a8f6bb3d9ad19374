//! Processes of the server's host that open a delegated file (`host_locks`): this process is one of them.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tests::daemon::{Setup, TestServer};
use tests::need::not_chosen;

use super::callbacks::{delegated, file, give_back, hear_recall, open_file, session};

const READ: u32 = 1;
const WRITE: u32 = 2;
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(300);
/// For what must.
const LONG: Duration = Duration::from_secs(60);

/// Opens a file as a process of the host would; what it reads then is sent.
fn open(path: PathBuf, write: bool) -> Receiver<String> {
    let (sender, opened) = mpsc::channel();
    thread::spawn(move || {
        let mut file = opener(&path, write);
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        sender.send(text)
    });
    opened
}

fn opener(path: &Path, write: bool) -> File {
    let file = OpenOptions::new().read(true).write(write).open(path);
    file.expect("open")
}

/// Loud when the kernel or its privileges do not let the server ask.
fn asks(test: &str, server: &TestServer) -> bool {
    let asks = !server.log().contains("fanotify:");
    if !asks {
        not_chosen(test, "the server may not use fanotify here");
    }
    asks
}

#[test]
fn an_open_on_the_host_recalls() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let path = server.export().join("f");
    let mut a = session(&server, "a");
    let deleg = delegated(&mut a, &fh, READ);
    if !asks("nfs4::host_opens::an_open_on_the_host_recalls", &server) {
        return;
    }
    assert_eq!(server.stat("locks.watched_opens"), 1);
    let reader = open(path.clone(), false);
    assert_eq!(reader.recv_timeout(LONG).as_deref(), Ok("data"));
    assert!(
        a.callback_within(SHORT).is_none(),
        "who reads is in nobody's way"
    );
    let writer = open(path.clone(), true);
    hear_recall(&mut a, &fh, &deleg);
    assert!(writer.recv_timeout(SHORT).is_err(), "held");
    give_back(&mut a, &fh, &deleg);
    assert_eq!(writer.recv_timeout(LONG).as_deref(), Ok("data"));
    assert_eq!(server.stat("locks.watched_opens"), 0);
    // The same of one for writing, by who reads.
    let fh = file(&server, "g", b"more");
    let path = server.export().join("g");
    let deleg = delegated(&mut a, &fh, READ | WRITE);
    let reader = open(path, false);
    hear_recall(&mut a, &fh, &deleg);
    assert!(reader.recv_timeout(SHORT).is_err(), "held");
    give_back(&mut a, &fh, &deleg);
    assert_eq!(reader.recv_timeout(LONG).as_deref(), Ok("more"));
    drop(a);
    server.forget_clients();
    server.wait_idle();
}

#[test]
fn what_the_host_has_open_is_not_delegated() {
    let server = TestServer::start();
    let mut a = session(&server, "a");
    for (name, write, access, given) in [
        ("f", false, READ, true),
        ("g", false, READ | WRITE, false),
        ("h", true, READ, false),
    ] {
        let fh = file(&server, name, b"data");
        let local = opener(&server.export().join(name), write);
        let (_, deleg) = open_file(&mut a, &fh, access).expect("open");
        if !asks(
            "nfs4::host_opens::what_the_host_has_open_is_not_delegated",
            &server,
        ) {
            return;
        }
        assert_eq!(deleg.is_some(), given, "{name}");
        drop(local);
    }
    let fh = file(&server, "i", b"data");
    let deleg = delegated(&mut a, &fh, READ | WRITE);
    give_back(&mut a, &fh, &deleg);
}

#[test]
fn who_is_held_goes_on_in_the_end() {
    let mut server = Setup::default().args(&["--lease-time", "6s"]).start();
    let (mut a, fh) = (session(&server, "a"), file(&server, "f", b"data"));
    let path = server.export().join("f");
    let deleg = delegated(&mut a, &fh, READ);
    if !asks("nfs4::host_opens::who_is_held_goes_on_in_the_end", &server) {
        return;
    }
    // Never returned, and revoked.
    let writer = open(path, true);
    hear_recall(&mut a, &fh, &deleg);
    assert_eq!(writer.recv_timeout(LONG).as_deref(), Ok("data"));
    // The server goes.
    let mut b = session(&server, "b");
    let fh = file(&server, "g", b"more");
    let deleg = delegated(&mut b, &fh, READ | WRITE);
    let reader = open(server.export().join("g"), false);
    hear_recall(&mut b, &fh, &deleg);
    server.kill9();
    assert_eq!(reader.recv_timeout(LONG).as_deref(), Ok("more"));
}

#[test]
fn an_export_may_keep_its_delegations_to_itself() {
    let server = Setup::options("rw,no_root_squash,insecure,no_host_locks").start();
    let fh = file(&server, "f", b"data");
    let mut a = session(&server, "a");
    delegated(&mut a, &fh, READ | WRITE);
    let writer = open(server.export().join("f"), true);
    assert_eq!(writer.recv_timeout(LONG).as_deref(), Ok("data"));
    assert!(a.callback_within(SHORT).is_none());
    assert_eq!(server.stat("locks.watched_opens"), 0);
}
