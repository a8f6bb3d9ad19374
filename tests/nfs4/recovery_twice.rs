//! One restart after the other: what a client may reclaim after the second depends on what it did, and what was taken
//! from it, between them (RFC 8881 8.4.3, RFC 7530 9.6.3.4).

use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nlm::types::NlmStat;
use tests::client::nfs4::Ops;
use tests::client::nlm::Host as NlmHost;
use tests::daemon::{Setup, TestServer};

use super::recovery::{Host, LONG, Link, Open, at_once, refused};

const READ: u32 = 1;
const READ_DELEG: u32 = 1;
const RECALLABLE_STATE_REVOKED: u32 = 0x40;

/// Leases are short, grace mostly too, but for what must be done in time on a machine with other work and a slow disk. One
/// worker: what one request leaves to be done is begun before the next one runs.
fn server(lease: &str, grace: &str) -> TestServer {
    let args = [
        "--lease-time",
        lease,
        "--grace-time",
        grace,
        "--threads",
        "1",
    ];
    Setup::default().args(&args).start()
}

fn again(server: &mut TestServer) {
    server.kill9();
    server.start_again();
}

/// Whatever was given to the store before is on disk: a client's first open waits for its own record.
fn settle(server: &TestServer, name: &str) {
    open_at_last(&mut Host::ready(server, 0, name), name, &mut []);
}

/// Opens a file as soon as it is not put off any more, while `others` renew their leases.
#[track_caller]
fn open_at_last(host: &mut Host, name: &str, others: &mut [&mut Host]) -> Open {
    let end = Instant::now() + LONG;
    loop {
        match host.open(name) {
            Ok(open) => return open,
            Err(status) => assert!(matches!(status, S::Grace | S::Delay), "{status}"),
        }
        assert!(Instant::now() < end, "never");
        host.renew();
        others.iter_mut().for_each(|other| other.renew());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// 4.0 has no RECLAIM_COMPLETE. Who goes on after its reclaims, within grace or later, has got all it wants, and gets it
/// after the next restart, too.
#[test]
fn who_goes_on_after_its_reclaims_of_4_0_keeps_the_right() {
    at_once([false, true], |late| {
        let mut server = server("10s", "10s");
        let mut a = Host::ready(&server, 0, "a");
        let mut file = a.open("file").expect("made");
        assert_eq!(a.lock(&mut file, false), S::Ok);
        again(&mut server);
        let mut a = Host::new(&server, 0, "a");
        let mut mine = a.reclaim(&file.fh).expect("held before");
        assert_eq!(a.lock(&mut mine, true), S::Ok);
        if !late {
            a.renew();
        }
        let mut b = Host::ready(&server, 0, "b");
        open_at_last(&mut b, "other", &mut []);
        if late {
            a.renew();
            settle(&server, "c");
        }
        again(&mut server);
        let mut a = Host::new(&server, 0, "a");
        let mut mine = a.reclaim(&file.fh).expect("held twice");
        assert_eq!(a.lock(&mut mine, true), S::Ok, "late: {late}");
    });
}

/// The same client, cut off in the middle: what it had not reclaimed was another's in between. Also its part is lost then,
/// but only until it shows that it knows.
#[test]
fn who_is_cut_off_in_its_reclaims_of_4_0_does_not_go_on_after_the_next_restart() {
    let mut server = server("10s", "10s");
    let mut a = Host::ready(&server, 0, "a");
    let mut file = a.open("file").expect("made");
    let other = a.open("other").expect("made");
    assert_eq!(a.lock(&mut file, false), S::Ok);
    again(&mut server);
    let mut a = Host::new(&server, 0, "a");
    a.reclaim(&other.fh).expect("held before");
    // The lock is not asked for, and comes to somebody who returns it before the next restart.
    let mut b = Host::ready(&server, 0, "b");
    let mut got = open_at_last(&mut b, "file", &mut []);
    assert_eq!(b.lock(&mut got, false), S::Ok);
    again(&mut server);
    let mut a = Host::new(&server, 0, "a");
    assert!(refused(a.reclaim(&file.fh)));
    assert!(refused(a.reclaim(&other.fh)));
    // It has heard, and begins anew.
    let mut b = Host::new(&server, 0, "b");
    b.reclaim(&file.fh).expect("held before");
    let mine = open_at_last(&mut a, "other", &mut [&mut b]);
    again(&mut server);
    let mut a = Host::new(&server, 0, "a");
    a.reclaim(&mine.fh).expect("held before");
    assert_eq!(a.open("new").err(), Some(S::Grace));
}

/// A delegation of 4.0 is revoked after it was reclaimed. The client goes on, and gets more, and has no way to know.
#[test]
fn a_delegation_revoked_after_its_reclaim_is_not_reclaimed_in_4_0() {
    let mut server = server("10s", "10s");
    let mut a = Host::ready(&server, 0, "a");
    let file = a.open("file").expect("made");
    again(&mut server);
    let mut a = Host::new(&server, 0, "a");
    let mine = a.reclaim_as(&file.fh, (READ, 0), READ_DELEG);
    assert!(mine.expect("held before").deleg.is_some());
    let mut b = Host::ready(&server, 0, "b");
    open_at_last(&mut b, "file", &mut [&mut a]);
    a.open("more").expect("it is there");
    a.renew();
    settle(&server, "c");
    again(&mut server);
    let mut a = Host::new(&server, 0, "a");
    assert!(refused(a.reclaim_as(&file.fh, (READ, 0), READ_DELEG)));
}

/// When a delegation is revoked, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revoked {
    /// Before RECLAIM_COMPLETE.
    InGrace,
    /// After.
    Later,
    /// After, and the client has freed it.
    Seen,
}

/// RECLAIM_COMPLETE and whatever else is written about a client do not give back the right that a revocation took.
/// FREE_STATEID of what was revoked does (RFC 8881 8.4.3, 10.5).
#[test]
fn a_client_does_not_reclaim_until_it_has_freed_what_was_revoked() {
    at_once([Revoked::InGrace, Revoked::Later, Revoked::Seen], |when| {
        // All complete, or one would wait for a minute.
        let mut server = server("6s", "60s");
        let mut a = Host::ready(&server, 1, "a");
        let (file, kept) = (a.open("file").expect("made"), a.open("kept").expect("made"));
        let mut b = Host::ready(&server, 1, "b");
        b.open("b's").expect("made");
        again(&mut server);
        let mut a = Host::new(&server, 1, "a");
        let mut b = Host::new(&server, 1, "b");
        let mine = a.reclaim_as(&file.fh, (READ, 0), READ_DELEG);
        let (deleg, _) = mine.expect("held before").deleg.expect("delegated");
        a.reclaim(&kept.fh).expect("held before");
        if when == Revoked::InGrace {
            // As far as the server knows, the other one had it open, too.
            let end = Instant::now() + LONG;
            while b.reclaim(&file.fh).err() == Some(S::Delay) {
                assert!(Instant::now() < end, "never revoked");
                a.renew();
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        assert_eq!((a.complete(), b.complete()), (S::Ok, S::Ok));
        if when != Revoked::InGrace {
            open_at_last(&mut b, "file", &mut [&mut a]);
        }
        a.renew();
        assert_ne!(status(&a) & RECALLABLE_STATE_REVOKED, 0, "{when:?}");
        if when == Revoked::Seen {
            let free = Ops::new().op(Op4::FreeStateid, &deleg);
            assert_eq!(a.at(&file.fh, free).status, S::Ok);
            a.renew();
            assert_eq!(status(&a) & RECALLABLE_STATE_REVOKED, 0);
        }
        settle(&server, "c");
        again(&mut server);
        let mut a = Host::new(&server, 1, "a");
        let reclaimed = a.reclaim(&kept.fh);
        assert_eq!(refused(reclaimed), when != Revoked::Seen, "{when:?}");
    });
}

fn status(host: &Host) -> u32 {
    match &host.link {
        Link::New(session) => session.status,
        Link::Old(..) => 0,
    }
}

/// A host of NLM that did not reclaim before the end of grace does not after the next restart.
#[test]
fn what_a_host_of_nlm_did_not_reclaim_in_time_is_never_reclaimed() {
    let mut server = server("10s", "10s");
    let mut a = NlmHost::new(server.addr(), "alpha");
    let root = a.mount(&server.export());
    let file = a.client.new_file(&root, b"file", 0o666);
    assert_eq!(a.lock(&file, 1, (0, 10)), NlmStat::Granted);
    again(&mut server);
    let mut b = Host::ready(&server, 0, "b");
    let mut got = open_at_last(&mut b, "file", &mut []);
    assert_eq!(b.lock(&mut got, false), S::Ok);
    again(&mut server);
    a.reconnect(server.addr());
    let reclaimed = a.lock_with(&file, 1, (0, 10), |args| args.reclaim = true);
    assert_eq!(reclaimed, NlmStat::DeniedGracePeriod);
    let mut b = Host::new(&server, 0, "b");
    let mut again = b.reclaim(&got.fh).expect("held before");
    assert_eq!(b.lock(&mut again, true), S::Ok);
}
