//! Many connections: what an idle one costs, and limits on their number.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::client::{Client, PATIENCE};
use tests::daemon::{Setup, TestServer};

/// Bytes of memory the process really uses.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|n| n.parse::<u64>().ok()).expect("VmRSS") * 1024
}

/// Lets this process have that many descriptors; false if it may not.
fn descriptors(wanted: u64) -> bool {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|n| n >= wanted) {
        return true;
    }
    let maximum = now.maximum.map(|most| most.max(wanted));
    let limit = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).is_ok()
}

const IDLE: usize = 10_000;

#[test]
fn ten_thousand_idle_connections() {
    if !descriptors(IDLE as u64 + 1000) {
        tests::need::not_run("ten_thousand_idle_connections", "10,000 descriptors");
        return;
    }
    let config = "[limits]\nconnections = 20000\nconnections_per_client = 20000";
    let server = Setup::config(config).start();
    let (mut client, root) = server.mounted();
    client.attr(&root);
    let before = resident(server.pid());
    let mut idle = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let stream = TcpStream::connect(server.addr());
        idle.push(stream.unwrap_or_else(|e| panic!("connection {n}: {e}")));
    }
    while server.stat("connections") < IDLE as u64 + 1 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let silent = resident(server.pid()).saturating_sub(before) / IDLE as u64;
    // Each has asked once, too.
    let idle: Vec<Client> = idle
        .into_iter()
        .map(|stream| {
            let mut client = Client::over(stream);
            client.null();
            client
        })
        .collect();
    let used = resident(server.pid()).saturating_sub(before) / IDLE as u64;
    println!("an idle connection: {silent} bytes before its first request, {used} after");
    assert!(used < 64 << 10, "{used} bytes for an idle connection");
    client.attr(&root);
    drop((idle, client));
    server.wait_idle();
}

#[test]
fn no_more_connections_than_allowed() {
    let server = Setup::config("[limits]\nconnections = 5").start();
    let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
    clients.iter_mut().for_each(Client::null);
    let mut sixth = server.client();
    assert!(sixth.closed_within(PATIENCE));
    clients.iter_mut().for_each(Client::null);
    clients.pop();
    // One has left: there is room again, as soon as the server has noticed.
    while server.stat("connections") > 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.client().null();
}

#[test]
fn no_more_connections_of_one_client_than_allowed() {
    let config = "[limits]\nconnections = 100\nconnections_per_client = 3";
    let setup = Setup {
        listen: vec!["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()],
        ..Setup::config(config)
    };
    let server = setup.start();
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(Client::null);
    let mut fourth = server.client();
    assert!(fourth.closed_within(PATIENCE));
    Client::connect(server.addrs()[1]).null();
    clients.iter_mut().for_each(Client::null);
}

/// Connections that come and go, also in the middle of a request, leave nothing behind.
#[test]
fn connections_come_and_go() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    client.new_file(&root, b"file", 0o644);
    for n in 0..300 {
        let mut client = server.client();
        match n % 4 {
            0 => client.null(),
            1 => drop(client),
            2 => {
                let name = format!("n{n}");
                let how = nfsd::nfs3::types::Createhow3::Guarded(Default::default());
                let args = nfsd::nfs3::args::Create3Args {
                    where_: tests::client::nfs3::at(&root, name.as_bytes()),
                    how,
                };
                client.start(tests::client::nfs3::nfs3(nfsd::nfs3::Proc3::Create), &args);
                // Gone before the answer.
            }
            _ => {
                let _ = client.send_raw(&[0x80, 0, 1, 0, 1, 2, 3]);
            }
        }
    }
    client.attr(&root);
    drop(client);
    server.wait_idle();
}
