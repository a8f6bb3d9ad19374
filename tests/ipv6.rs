//! Clients that are called back over IPv6: NLM_GRANTED, and delegations of version 4.0.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nfsd::nlm::types::NlmStat;
use tests::client::nlm::Host;
use tests::need::{GUEST, have};
use tests::netns::{HOST6, Rig};
use tests::server::{Config, Kind, Server};
use tests::version::Version;

use crate::locking::{delegations_returned, two_with};

/// The server finds the host's lock manager by rpcbind's GETADDR and calls it there.
#[test]
fn a_host_is_called() {
    let config = Config::default();
    if !have("ipv6::a_host_is_called", &[GUEST]) || config.kind != Kind::Ringnfs {
        return;
    }
    let rig = Rig::new();
    rig.sh("for i in a b; do ip -6 addr add fd99::aa:$i/128 dev lo nodad; done");
    let mut server = Server::start(&rig, &config);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let at = SocketAddr::new(ip(HOST6), server.target.port);
    let (mut a, mut b) = rig.within(|| {
        let a = Host::at(ip("fd99::aa:a"), at, "alpha");
        (a, Host::at(ip("fd99::aa:b"), at, "beta"))
    });
    let root = a.mount(server.target.export.as_ref());
    let fh = a.client.new_file(&root, b"file", 0o666);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.lock(&fh, 1, (0, 10)), NlmStat::Denied);
    assert_eq!(b.wait(&fh, 7, (5, 10)), NlmStat::Blocked);
    b.is_left_alone();
    a.unlock(&fh, 1, (0, 0));
    assert_eq!(b.granted(), (5, 10));
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
    // After a restart both are told, over IPv6, too.
    server.kill9();
    server.start_again();
    for host in [&a, &b] {
        assert_eq!(host.called().what[0], nfsd::nsm::types::SM_PROG);
    }
}

/// Two kernel clients: who waits is called and so has its lock when it is unlocked.
#[test]
fn waiting_locks_v3() {
    let test = "ipv6::waiting_locks_v3";
    if !Version::V3.wanted(test, true) {
        return;
    }
    let mut config = Config::default();
    config.args.extend(["--log".into(), "debug".into()]);
    let versions = [Version::V3; 2];
    let Some((bed, other)) = two_with(test, versions, "proto=tcp6", config) else {
        return;
    };
    bed.guest.ok(
        10,
        "grep ' /mnt/nfs nfs ' /proc/mounts | grep -F proto=tcp6",
    );
    for n in 0..3 {
        let holder = bed.guest.start(&format!(
            "$RIG/guest locks /mnt/nfs/f w:0:10 mark:$RIG/held-{n} until:$RIG/waits-{n} append:one"
        ));
        let waiter = other.start(&format!(
            "await $RIG/held-{n}
             (await $RIG/tried-{n}; sleep 1; : >$RIG/waits-{n}) &
             $RIG/guest locks /mnt/nfs/f '!r:0:1' mark:$RIG/tried-{n} W:5:10 append:two; wait"
        ));
        holder.ok(60);
        waiter.ok(120);
    }
    assert_eq!(bed.guest.ok(10, "cat /mnt/nfs/f"), "one\ntwo\n".repeat(3));
    // A client that is not called asks again after a while; the log would tell.
    let log = bed.server.log(usize::MAX);
    assert!(!log.contains("NLM_GRANTED"), "calls failed");
}

/// A 4.0 client gives back its delegation when another one writes.
#[test]
fn recall_v4_0() {
    let test = "ipv6::recall_v4_0";
    if !Version::V4_0.wanted(test, true) {
        return;
    }
    let config = Config::default();
    let ours = config.kind == Kind::Ringnfs;
    let versions = [Version::V4_0; 2];
    let Some((bed, other)) = two_with(test, versions, "proto=tcp6", config) else {
        return;
    };
    let (a, b) = (&*bed.guest, &other);
    a.ok(
        10,
        "grep ' /mnt/nfs nfs4 ' /proc/mounts | grep -F proto=tcp6",
    );
    a.ok(
        10,
        "cd /mnt/nfs; mkdir -m 777 d; for i in $(seq 10); do echo old >d/f$i; done",
    );
    // The way back is tried when the first file is opened; until it has answered there are none.
    std::thread::sleep(Duration::from_secs(1));
    a.ok(
        30,
        "cd /mnt/nfs/d; for n in 1 2 3; do cat f* >/dev/null; done",
    );
    b.ok(
        60,
        "cd /mnt/nfs/d; for i in $(seq 10); do grep -qx old f$i; echo new >f$i; done",
    );
    a.ok(
        30,
        "cd /mnt/nfs/d; for i in $(seq 10); do grep -qx new f$i; done",
    );
    let returned = delegations_returned(a);
    assert!(returned > 0 || !ours, "no delegation was recalled");
    eprintln!("{test}: {returned} delegations returned");
}
