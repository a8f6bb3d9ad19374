//! `--rpcbind` with a real rpcbind, in a network of its own: what is registered while the server runs, what afterwards,
//! beside a system's own rpc.statd, and without rpcbind.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use tests::image::{Fs, Image};
use tests::need::{GUEST, Need, have};
use tests::netns::{HOST, HOST6, Rig};
use tests::server::{self, Config, Kind, Server};
use tests::uml::{Boot, Guest};

use crate::locking::{NLM_CLIENT, NLM_START};

const RPCBIND: &[Need] = &[
    Need::Program("rpcbind", "rpcbind"),
    Need::Program("rpcinfo", "rpcbind"),
];

/// Program, version, transport: what the server registers, all at its one port.
const OURS: [&str; 10] = [
    "100003 3 tcp",
    "100003 4 tcp",
    "100005 1 tcp",
    "100005 3 tcp",
    "100021 1 tcp",
    "100021 3 tcp",
    "100021 4 tcp",
    "100024 1 tcp",
    "100024 1 udp",
    "100227 3 tcp",
];

fn ready(test: &str) -> Option<Config> {
    let mut config = Config {
        kind: Kind::Ringnfs,
        ..Config::default()
    };
    config.args.push("--rpcbind".to_owned());
    have(test, &[GUEST, NLM_CLIENT, RPCBIND]).then_some(config)
}

/// What rpcbind has, but for itself: program, version, transport and port.
fn registered(rig: &Rig) -> BTreeSet<String> {
    let list = rig.sh("rpcinfo -p 127.0.0.1");
    let lines = list.lines().skip(1);
    let line = |l: &str| l.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    lines
        .map(line)
        .filter(|l| !l.starts_with("100000 "))
        .collect()
}

fn ours() -> BTreeSet<String> {
    OURS.iter().map(|what| format!("{what} 2049")).collect()
}

/// Where rpcbind says that the status monitor is, over all transports.
fn status(rig: &Rig) -> String {
    rig.sh("rpcinfo | awk '$1 == 100024 { print $2, $3, $4 }' | sort")
}

#[test]
fn registered_while_it_runs() {
    let Some(config) = ready("rpcbind::registered_while_it_runs") else {
        return;
    };
    let rig = Rig::new();
    rig.sh("rpcbind -w");
    assert_eq!(registered(&rig), BTreeSet::new());
    let mut server = Server::start(&rig, &config);
    wait_for(&rig, &ours());
    // Each answers where it is said to be, over either family.
    for (program, version) in [(100_003, 3), (100_005, 3), (100_021, 4), (100_024, 1)] {
        let said = rig.sh(&format!(
            "rpcinfo -T tcp {HOST} {program} {version}; rpcinfo -T tcp6 {HOST6} {program} {version}"
        ));
        assert_eq!(said.matches("ready and waiting").count(), 2, "{said}");
    }
    // What one that was killed has left is replaced, and not put back in the end.
    server.kill9();
    assert_eq!(registered(&rig), ours());
    server.start_again();
    wait_for(&rig, &ours());
    assert_eq!(server.terminate(Duration::from_secs(30)), Some(0));
    assert_eq!(registered(&rig), BTreeSet::new());
}

/// The port answers a moment before rpcbind knows of it.
fn wait_for(rig: &Rig, wanted: &BTreeSet<String>) {
    for _ in 0..200 {
        if registered(rig) == *wanted {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(registered(rig), *wanted);
}

/// The machine has a rpc.statd of its own: clients find ours as long as the server runs, and the machine's then. A client
/// that asks rpcbind for everything mounts, locks and waits.
#[test]
fn beside_a_status_monitor() {
    let Some(config) = ready("rpcbind::beside_a_status_monitor") else {
        return;
    };
    let rig = Rig::new();
    rig.place(env!("CARGO_BIN_EXE_guest").as_ref());
    rig.sh("rpcbind -w; rpc.statd --no-notify");
    let before = registered(&rig);
    assert!(
        before.iter().any(|l| l.starts_with("100024 1 udp ")),
        "{before:?}"
    );
    let before6 = status(&rig);
    let mut server = Server::start(&rig, &config);
    wait_for(&rig, &ours());
    let guest = Guest::boot(&rig, &Boot::default());
    guest.ok(60, NLM_START);
    let (host, export) = (&server.target.host, &server.target.export);
    let said = guest.ok(
        120,
        &format!(
            "mkdir -p /mnt/nfs; mount -t nfs -o vers=3,proto=tcp {host}:{export} /mnt/nfs
             $RIG/guest locks /mnt/nfs/f w:0:10 mark:/tmp/held until:/tmp/go append:one &
             await /tmp/held
             (await /tmp/tried; sleep 1; : >/tmp/go) &
             $RIG/guest locks /mnt/nfs/f '!w:0:10' mark:/tmp/tried W:0:10 append:two
             wait; cat /mnt/nfs/f; umount /mnt/nfs"
        ),
    );
    assert_eq!(said, "one\ntwo\n");
    drop(guest);
    assert_eq!(server.terminate(Duration::from_secs(30)), Some(0));
    assert_eq!(registered(&rig), before);
    assert_eq!(status(&rig), before6);
    let answers = rig.sh("rpcinfo -T udp 127.0.0.1 100024 1");
    assert!(answers.contains("ready and waiting"), "{answers}");
    // It can be started again: what was put back is not in its way.
    rig.sh("kill $(cat /run/rpc.statd.pid); sleep 0.5; rpc.statd --no-notify");
    let answers = rig.sh("rpcinfo -T tcp 127.0.0.1 100024 1");
    assert!(answers.contains("ready and waiting"), "{answers}");
}

/// Asked to register where there is no rpcbind, it says so and what to do; not asked, it serves.
#[test]
fn without_rpcbind() {
    let test = "rpcbind::without_rpcbind";
    if ready(test).is_none() {
        return;
    }
    let rig = Rig::new();
    let image = Image::new(&rig, "export", Fs::Ext4, 64);
    let state = rig.dir().join("state");
    let out = rig
        .command(server::ringnfs())
        .arg("serve")
        .arg(image.dir())
        .args(["--listen", "127.0.0.1:2049", "--rpcbind"])
        .arg("--state-dir")
        .arg(&state)
        .arg("--runtime-dir")
        .arg(&state)
        .stdin(Stdio::null())
        .output()
        .expect("the server");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(!out.status.success(), "{said}");
    assert!(
        said.contains("cannot reach rpcbind") && said.contains("leave out --rpcbind"),
        "{said}"
    );
    drop(image);
    let config = Config {
        kind: Kind::Ringnfs,
        ..Config::default()
    };
    let mut server = Server::start(&rig, &config);
    assert_eq!(server.terminate(Duration::from_secs(30)), Some(0));
}
