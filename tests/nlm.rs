//! Every procedure of NLM and NSM over a socket, with hosts that have a lock manager of their own to be called.

mod grants;
mod refusals;
mod versions;

use std::time::Duration;

use nfsd::nlm::types::{
    CallerName, FshAccess, FshMode, NLM_PROGRAM, NLM_V4, Netobj, NlmProc, NlmStat, Notify, Res,
    TestArgs, UnlockArgs,
};
use nfsd::nsm::types::{
    Mon, MonId, MyId, SM_PROG, SmName, SmProc, SmRes, SmStat, SmStatRes, StatChge,
};
use nfsd::rpc::msg::Refusal;
use tests::client::nlm::{COOKIE, Host};
use tests::client::{Fh, Login, encode};
use tests::daemon::{Setup, TestServer};

/// Two hosts and a file both know.
fn two(server: &TestServer) -> (Host, Host, Fh) {
    let (mut a, b) = (
        Host::new(server.addr(), "alpha"),
        Host::new(server.addr(), "beta"),
    );
    let root = a.mount(&server.export());
    let file = a.client.new_file(&root, b"file", 0o666);
    (a, b, file)
}

/// FREE_ALL.
fn free_all(host: &mut Host, name: &str) {
    let args = encode(&Notify {
        name: CallerName(name.as_bytes()),
        state: 3,
    });
    host.call(NlmProc::FreeAll, &args).results::<()>();
}

#[test]
fn locks_conflict_and_go() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted, "its own");
    assert_eq!(a.lock(&fh, 2, (9, 1)), NlmStat::Denied);
    assert_eq!(b.lock(&fh, 1, (9, 1)), NlmStat::Denied);
    assert_eq!(b.lock(&fh, 1, (10, 0)), NlmStat::Granted);
    assert_eq!(a.test(&fh, 1, (0, 10)), Ok(()));
    let held = Err((NlmStat::Denied, Some((1, 0, 10))));
    assert_eq!(b.test(&fh, 1, (5, 0)), held);
    let held = Err((NlmStat::Denied, Some((1, 10, 0))));
    assert_eq!(a.test(&fh, 3, (1 << 40, 1)), held);
    let shared = |args: &mut nfsd::nlm::types::LockArgs<'_>| args.exclusive = false;
    assert_eq!(a.lock_with(&fh, 1, (0, 10), shared), NlmStat::Granted);
    assert_eq!(b.lock_with(&fh, 2, (0, 10), shared), NlmStat::Granted);
    assert_eq!(b.unlock(&fh, 2, (0, 0)), NlmStat::Granted);
    assert_eq!(b.unlock(&fh, 2, (0, 0)), NlmStat::Granted, "nothing there");
    assert_eq!(a.unlock(&fh, 1, (3, 4)), NlmStat::Granted);
    assert_eq!(b.lock(&fh, 2, (3, 4)), NlmStat::Granted);
    assert_eq!(b.lock(&fh, 2, (2, 4)), NlmStat::Denied);
    a.unlock(&fh, 1, (0, 0));
    assert_eq!(b.lock(&fh, 2, (0, 10)), NlmStat::Granted);
}

#[test]
fn errors_of_every_procedure() {
    let server = TestServer::start();
    let (mut a, _b, fh) = two(&server);
    let root = a.mount(&server.export());
    assert_eq!(a.lock(b"garbage", 1, (0, 1)), NlmStat::StaleFh);
    assert_eq!(a.unlock(b"garbage", 1, (0, 1)), NlmStat::StaleFh);
    assert_eq!(a.cancel(b"garbage", 1, (0, 1)), NlmStat::StaleFh);
    assert_eq!(a.test(b"garbage", 1, (0, 1)), Err((NlmStat::StaleFh, None)));
    assert_eq!(a.lock(&root, 1, (0, 1)), NlmStat::Failed, "a directory");
    assert_eq!(a.lock(&fh, 1, (u64::MAX, 2)), NlmStat::Fbig);
    assert_eq!(a.lock(&fh, 1, (u64::MAX, 1)), NlmStat::Granted);
    assert_eq!(a.unlock(&fh, 1, (u64::MAX, 2)), NlmStat::Fbig);
    assert_eq!(a.unlock(&fh, 1, (0, 0)), NlmStat::Granted);
    assert_eq!(a.cancel(&fh, 1, (0, 1)), NlmStat::Denied, "nothing waits");
    let reclaim = |args: &mut nfsd::nlm::types::LockArgs<'_>| args.reclaim = true;
    let late = a.lock_with(&fh, 1, (0, 1), reclaim);
    assert_eq!(late, NlmStat::DeniedGracePeriod);
    // We are nobody's client.
    let granted = encode(&TestArgs {
        cookie: Netobj(COOKIE),
        exclusive: true,
        alock: a.range(&fh, 1, (0, 1)),
    });
    let answer = a.call(NlmProc::Granted, &granted);
    assert_eq!(answer.results::<Res<'_>>().stat, NlmStat::Denied);
    for proc in NlmProc::ALL.iter().filter(|p| **p != NlmProc::Null) {
        let cut = a.call(*proc, b"cut");
        let ignored = (NlmProc::TestRes..=NlmProc::UnlockRes).contains(proc);
        let expected = if ignored {
            Ok(())
        } else {
            Err(Refusal::GarbageArgs)
        };
        assert_eq!(cut.outcome(), expected, "{proc}");
    }
    for proc in [16, 19, 24] {
        let answer = a.client.call([NLM_PROGRAM, NLM_V4, proc], &());
        assert_eq!(answer.outcome(), Err(Refusal::ProcUnavail));
    }
}

#[test]
fn who_may_lock() {
    let server = Setup::exports(
        "@DIR@/export *(rw,no_root_squash,insecure,fsid=1)\n@DIR@/export/free *(rw,insecure,insecure_locks,fsid=2)\n\
         @DIR@/export/ro *(ro,no_root_squash,insecure,fsid=3)\n",
    );
    let dir = tests::daemon::fresh_dir();
    for name in ["export/free", "export/ro"] {
        std::fs::create_dir(dir.path().join(name)).expect("mkdir");
        std::fs::write(dir.path().join(name).join("f"), "x").expect("a file");
    }
    let server = server.start_in(dir);
    let (mut a, _b, fh) = two(&server);
    let root = a.mount(&server.export());
    a.client.set_login(Login::user(1000, 1000));
    assert_eq!(a.lock(&fh, 1, (0, 1)), NlmStat::Granted);
    let own = a.client.new_file(&root, b"own", 0);
    assert_eq!(a.lock(&own, 1, (0, 1)), NlmStat::Granted, "the owner may");
    a.client.set_login(Login::root());
    let closed = a.client.new_file(&root, b"closed", 0o600);
    a.client.set_login(Login::user(1000, 1000));
    assert_eq!(a.lock(&closed, 1, (0, 1)), NlmStat::Denied);
    assert_eq!(
        a.test(&closed, 1, (0, 1)),
        Err((NlmStat::DeniedNolocks, None))
    );
    let ro = a.mount(&server.export().join("ro"));
    let ro = a.client.lookup(&ro, b"f").expect("LOOKUP").fh;
    assert_eq!(a.lock(&ro, 1, (0, 1)), NlmStat::Rofs);
    let shared = |args: &mut nfsd::nlm::types::LockArgs<'_>| args.exclusive = false;
    assert_eq!(a.lock_with(&ro, 1, (0, 1), shared), NlmStat::Granted);
}

#[test]
fn who_waits_is_called() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (5, 10)), NlmStat::Blocked);
    assert_eq!(b.wait(&fh, 7, (5, 10)), NlmStat::Blocked, "asked again");
    b.is_left_alone();
    a.unlock(&fh, 1, (0, 0));
    let called = b.called();
    let args: TestArgs<'_> = called.args();
    assert_eq!(called.what, [NLM_PROGRAM, NLM_V4, 5]);
    assert_eq!(
        (args.exclusive, args.alock),
        (true, b.range(&fh, 7, (5, 10)))
    );
    b.is_left_alone();
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Denied);
    assert_eq!(b.unlock(&fh, 7, (0, 0)), NlmStat::Granted);
    assert_eq!(a.lock(&fh, 1, (5, 1)), NlmStat::Granted);
    a.unlock(&fh, 1, (0, 0));
}

/// A server of several addresses calls from the one that it was asked at: a Linux host takes no call from elsewhere.
#[test]
fn who_waits_is_called_from_where_it_asked() {
    let setup = Setup {
        listen: vec!["0.0.0.0:0".to_owned()],
        ..Setup::default()
    };
    let server = setup.start();
    for last in [9, 77] {
        let at = std::net::SocketAddr::from(([127, 0, 7, last], server.addr().port()));
        let (mut a, mut b) = (Host::new(at, "alpha"), Host::new(at, "beta"));
        let root = a.mount(&server.export());
        let fh = a.client.new_file(&root, &[b'f', last], 0o666);
        assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
        assert_eq!(b.wait(&fh, 7, (5, 10)), NlmStat::Blocked);
        a.unlock(&fh, 1, (0, 0));
        let called = b.called();
        assert_eq!(
            (called.what, called.from),
            ([NLM_PROGRAM, NLM_V4, 5], at.ip())
        );
        let unlock = encode(&UnlockArgs {
            cookie: Netobj(COOKIE),
            alock: b.range(&fh, 7, (0, 0)),
        });
        b.call(NlmProc::UnlockMsg, &unlock).results::<()>();
        let called = b.called();
        assert_eq!(
            (called.what[2], called.from),
            (NlmProc::UnlockRes.wire(), at.ip())
        );
    }
}

#[test]
fn a_grant_is_told_until_it_is_heard() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (0, 0)), NlmStat::Blocked);
    b.answer_next(None);
    b.answer_next(Some(NlmStat::DeniedGracePeriod));
    a.unlock(&fh, 1, (0, 0));
    for _ in 0..3 {
        assert_eq!(b.granted(), (0, 0));
        assert_eq!(a.lock(&fh, 1, (0, 1)), NlmStat::Denied, "b's meanwhile");
    }
    b.is_left_alone();
    b.unlock(&fh, 7, (0, 0));
    // Who does not want it any more does not get it.
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (0, 0)), NlmStat::Blocked);
    b.answer_next(Some(NlmStat::Denied));
    a.unlock(&fh, 1, (0, 0));
    b.granted();
    while a.lock(&fh, 1, (0, 1)) != NlmStat::Granted {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_cancels_is_not_called() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (0, 5)), NlmStat::Blocked);
    assert_eq!(b.wait(&fh, 8, (5, 5)), NlmStat::Blocked);
    assert_eq!(b.cancel(&fh, 7, (0, 4)), NlmStat::Denied, "another range");
    assert_eq!(b.cancel(&fh, 7, (0, 5)), NlmStat::Granted);
    assert_eq!(b.cancel(&fh, 7, (0, 5)), NlmStat::Denied);
    a.unlock(&fh, 1, (0, 0));
    assert_eq!(b.granted(), (5, 5));
    b.is_left_alone();
    assert_eq!(a.lock(&fh, 1, (0, 5)), NlmStat::Granted);
}

#[test]
fn shares_deny() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let (share, unshare) = (NlmProc::Share, NlmProc::Unshare);
    let reads = (FshAccess::Read, FshMode::Write);
    let writes = (FshAccess::Write, FshMode::None);
    assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Granted);
    assert_eq!(a.share(share, &fh, b"2", reads), NlmStat::Granted);
    assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Denied);
    let write = |host: &mut Host, fh: &[u8]| {
        let stable = nfsd::nfs3::types::StableHow::FileSync;
        host.client.write(fh, 0, b"x", stable).is_ok()
    };
    assert!(!write(&mut b, &fh), "WRITE of version 3");
    assert_eq!(a.share(unshare, &fh, b"1", reads), NlmStat::Granted);
    assert_eq!(
        b.share(share, &fh, b"1", writes),
        NlmStat::Denied,
        "one left"
    );
    assert_eq!(a.share(unshare, &fh, b"2", reads), NlmStat::Granted);
    assert_eq!(a.share(unshare, &fh, b"2", reads), NlmStat::Granted, "none");
    assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Granted);
    assert!(write(&mut b, &fh));
    assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Denied);
    assert_eq!(a.share(share, b"x", b"1", reads), NlmStat::StaleFh);
    assert_eq!(a.share(unshare, b"x", b"1", reads), NlmStat::StaleFh);
}

#[test]
fn a_host_frees_its_own() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let unmonitored = encode(&a.lock_args(&fh, 1, (0, 10), false));
    let answer = a.call(NlmProc::NmLock, &unmonitored);
    assert_eq!(answer.results::<Res<'_>>().stat, NlmStat::Granted);
    free_all(&mut b, "alpha");
    assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Denied, "not b's to free");
    free_all(&mut a, "alpha");
    assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Granted);
    // SM_NOTIFY: the same, but for what is locked in the new state.
    assert_eq!(a.lock(&fh, 1, (20, 10)), NlmStat::Granted);
    a.state = 3;
    assert_eq!(a.lock(&fh, 2, (40, 10)), NlmStat::Granted);
    b.notify("alpha", 3);
    assert_eq!(b.lock(&fh, 1, (20, 10)), NlmStat::Denied);
    a.notify("alpha", 3);
    assert_eq!(b.lock(&fh, 1, (20, 10)), NlmStat::Granted);
    assert_eq!(b.lock(&fh, 1, (40, 10)), NlmStat::Denied);
    assert_eq!(a.lock(&fh, 2, (0, 1)), NlmStat::Denied, "b keeps its own");
}

/// Shares say nothing of a host's state, and a restart is told several times (sm-notify(8)).
#[test]
fn a_restart_told_again_frees_nothing() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    let reads = (FshAccess::Read, FshMode::Write);
    let writes = (FshAccess::Write, FshMode::None);
    let share = NlmProc::Share;
    for state in [3, 5] {
        assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Granted);
        assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Denied);
        a.notify("alpha", state);
        assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Granted);
        b.share(NlmProc::Unshare, &fh, b"1", writes);
        assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Granted);
        a.notify("alpha.example.org", state);
        assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Denied);
    }
}

#[test]
fn restarts_heard_by_udp() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    let socket = std::net::UdpSocket::bind((a.ip, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time-out");
    let send = |program: [u32; 3], args: &[u8]| {
        let call = tests::client::record(7, &Login::None, program, args);
        socket.send_to(&call, server.addr()).expect("sent");
        let mut answer = [0; 1000];
        let len = socket.recv(&mut answer).expect("an answer");
        answer[..len].to_vec()
    };
    let args = encode(&StatChge {
        mon_name: SmName(b"alpha"),
        state: 3,
    });
    let answer = send([SM_PROG, 1, SmProc::Notify.wire()], &args);
    assert_eq!(answer, nfsd::rpc::msg::success_header(7));
    assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Granted);
    let none = tests::client::Answer {
        record: send([NLM_PROGRAM, 4, 0], b""),
    };
    assert_eq!(none.outcome(), Err(Refusal::ProgUnavail));
}

#[test]
fn the_status_monitor() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut call = |proc: SmProc, args: Vec<u8>| {
        client.call([SM_PROG, 1, proc.wire()], &tests::client::nfs4::Raw(&args))
    };
    call(SmProc::Null, vec![]).results::<()>();
    call(SmProc::SimuCrash, vec![]).results::<()>();
    let name = SmName(b"somebody");
    let my_id = MyId {
        my_name: name,
        my_prog: 1,
        my_vers: 1,
        my_proc: 1,
    };
    let mon_id = MonId {
        mon_name: name,
        my_id,
    };
    let mon = Mon {
        mon_id,
        private: [0; 16],
    };
    let refused = SmStatRes {
        res: SmRes::Fail,
        state: 1,
    };
    let answer = call(SmProc::Stat, encode(&name));
    assert_eq!(answer.results::<SmStatRes>(), refused);
    let answer = call(SmProc::Mon, encode(&mon));
    assert_eq!(answer.results::<SmStatRes>(), refused);
    let state = SmStat { state: 1 };
    let answer = call(SmProc::Unmon, encode(&mon_id));
    assert_eq!(answer.results::<SmStat>(), state);
    let answer = call(SmProc::UnmonAll, encode(&my_id));
    assert_eq!(answer.results::<SmStat>(), state);
    for proc in [
        SmProc::Stat,
        SmProc::Mon,
        SmProc::Unmon,
        SmProc::UnmonAll,
        SmProc::Notify,
    ] {
        let cut = call(proc, b"cut!".to_vec());
        assert_eq!(cut.outcome(), Err(Refusal::GarbageArgs), "{proc}");
    }
    let none = client.call([SM_PROG, 1, 7], &());
    assert_eq!(none.outcome(), Err(Refusal::ProcUnavail));
}

#[test]
fn a_restarted_server_tells_and_takes_back() {
    let times = ["--lease-time", "10s", "--grace-time", "10s"];
    let mut server = Setup::default().args(&times).start();
    let (mut a, mut b, fh) = two(&server);
    let reads = (FshAccess::Read, FshMode::Write);
    let share = NlmProc::Share;
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(a.share(share, &fh, b"1", reads), NlmStat::Granted);
    server.kill9();
    // It is told until it answers.
    a.answer_next(None);
    a.answer_next(None);
    server.start_again();
    a.reconnect(server.addr());
    b.reconnect(server.addr());
    let grace = NlmStat::DeniedGracePeriod;
    assert_eq!(b.lock(&fh, 1, (50, 1)), grace);
    assert_eq!(b.wait(&fh, 1, (50, 1)), grace);
    assert_eq!(b.test(&fh, 1, (50, 1)), Err((grace, None)));
    let reclaim = |args: &mut nfsd::nlm::types::LockArgs<'_>| args.reclaim = true;
    let unknown = b.lock_with(&fh, 1, (50, 1), reclaim);
    assert_eq!(unknown, grace, "b held nothing");
    assert_eq!(b.share(share, &fh, b"1", reads), grace);
    assert_eq!(b.share_with(share, &fh, b"1", reads, true), grace);
    assert_eq!(a.share(share, &fh, b"1", reads), grace, "not reclaimed");
    assert_eq!(a.lock_with(&fh, 1, (0, 10), reclaim), NlmStat::Granted);
    let again = a.share_with(share, &fh, b"1", reads, true);
    assert_eq!(again, NlmStat::Granted);
    // Nor is anything given back meanwhile.
    assert_eq!(a.unlock(&fh, 1, (0, 10)), grace);
    assert_eq!(a.cancel(&fh, 1, (0, 10)), grace);
    assert_eq!(a.share(NlmProc::Unshare, &fh, b"1", reads), grace);
    for _ in 0..3 {
        let called = a.called();
        assert_eq!(called.what, [SM_PROG, 1, SmProc::Notify.wire()]);
        assert_eq!(called.args::<StatChge<'_>>().state, 3);
    }
    while b.lock(&fh, 1, (50, 1)) == grace {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(b.lock(&fh, 1, (50, 1)), NlmStat::Granted);
    assert_eq!(b.lock(&fh, 1, (0, 1)), NlmStat::Denied);
    let writes = (FshAccess::Write, FshMode::None);
    assert_eq!(b.share(share, &fh, b"1", writes), NlmStat::Denied);
    assert_eq!(a.lock_with(&fh, 1, (0, 10), reclaim), grace, "over");
    assert_eq!(a.share_with(share, &fh, b"1", reads, true), grace, "over");
    a.is_left_alone();
    // What it had at its start, a call among it, is no measure of what it should have at its end.
    server.kill9();
}

#[test]
fn what_is_locked_is_listed() {
    let server = TestServer::start();
    let (mut a, mut b, fh) = two(&server);
    assert_eq!(a.lock(&fh, 1, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&fh, 7, (5, 0)), NlmStat::Blocked);
    let reads = (FshAccess::Read, FshMode::Write);
    a.share(NlmProc::Share, &fh, b"x", reads);
    let text = server.control("locks").expect("a list");
    for part in [
        &server.export().display().to_string(),
        "lock write 0 to 9, nlm",
        "\"alpha\" owner \"1 owner\"",
        "wait write 5 to the end, nlm",
        "\"beta\" owner \"7 owner\"",
        "share read denies write, nlm",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
    let json = server.control("locks json").expect("a list");
    assert!(json.contains("\"what\": \"wait\"") && json.contains("\"last\": 9"));
    b.cancel(&fh, 7, (5, 0));
}
