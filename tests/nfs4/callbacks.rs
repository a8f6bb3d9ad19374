//! Delegations and what clients are called for: recall, revocation, locks that may be tried, attributes that only the
//! holder knows; by sessions, by 4.0 and from version 3.

use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::cb::wire::{CbGetattr4args, CbNotifyLock4args, CbOp4, CbRecall4args};
use nfsd::nfs4::op::bind_conn_to_session::{BindConnToSessionArgs, ChannelDirFromClient4};
use nfsd::nfs4::op::setclientid::{
    CbClient4, NetName4, Netaddr4, NfsClientId4, SetclientidArgs, SetclientidRes,
};
use nfsd::nfs4::op::setclientid_confirm::SetclientidConfirmArgs;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use nfsd::nlm::types::NlmStat;
use nfsd::rpc::uaddr::{netid, universal_addr};
use tests::client::callbacks::{Called, Listener, PROGRAM};
use tests::client::nfs4::{Ops, Raw, Results, fattr, mode4};
use tests::client::nlm::Host;
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::{Setup, TestServer};

use super::at_export;

pub(super) const READ: u32 = 1;
pub(super) const WRITE: u32 = 2;
const WRITEW_LT: u32 = 4;
const CB_PATH_DOWN: u32 = 1;
const RECALLABLE_STATE_REVOKED: u32 = 0x40;
/// For what must not happen.
pub(super) const SHORT: Duration = Duration::from_millis(300);
/// For what must.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// OPEN of the current file.
fn open(ops: Ops, seqid: u32, access: u32, clientid: u64, name: Option<&[u8]>) -> Ops {
    let mut args = encode(&seqid);
    args.extend(encode(&access));
    args.extend(encode(&0_u32));
    let owner = OwnerName4(b"owner");
    args.extend(encode(&StateOwner4 { clientid, owner }));
    args.extend(encode(&0_u32));
    match name {
        Some(name) => {
            args.extend(encode(&0_u32));
            args.extend(encode(&Component4(name)));
        }
        None => args.extend(encode(&4_u32)),
    }
    ops.op(Op4::Open, &Raw(&args))
}

/// A delegation: for writing, and its stateid.
pub(super) type Deleg = Option<(bool, Stateid4)>;

/// The results of a successful OPEN.
#[track_caller]
fn opened(done: &mut Results) -> (Stateid4, u32, Deleg) {
    let stateid = done.body(Op4::Open);
    done.more::<ChangeInfo4>();
    let rflags = done.more();
    done.more::<Bitmap4>();
    let kind: u32 = done.more();
    if kind == 0 || kind == 3 {
        return (stateid, rflags, None);
    }
    let deleg: Stateid4 = done.more();
    assert!(!done.more::<bool>(), "not recalled at once");
    if kind == 2 {
        assert_eq!(done.more::<u32>(), 1);
        done.more::<u64>();
    }
    for _ in 0..3 {
        done.more::<u32>();
    }
    done.more::<Tag4<'_>>();
    (stateid, rflags, Some((kind == 2, deleg)))
}

/// A file in the export, and its handle.
pub(super) fn file(server: &TestServer, name: &str, data: &[u8]) -> Fh {
    std::fs::write(server.export().join(name), data).expect("a file");
    let (mut client, dir) = at_export(server);
    let mut done = client.compound(0, &Ops::new().putfh(&dir).lookup(name.as_bytes()).getfh());
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    done.fh()
}

pub(super) fn session(server: &TestServer, name: &str) -> Session {
    Session::on(
        server.client(),
        &Terms::new(1).named(name.as_bytes()).called_back(),
    )
}

#[track_caller]
pub(super) fn open_file(
    session: &mut Session,
    fh: &Fh,
    access: u32,
) -> Result<(Stateid4, Deleg), S> {
    let clientid = session.clientid;
    let ops = open(Ops::new().putfh(fh), 0, access, clientid, None);
    let done = session.call(&ops);
    open_results(done)
}

#[track_caller]
fn open_results(mut done: Results) -> Result<(Stateid4, Deleg), S> {
    done.ok(Op4::Putfh);
    match done.status {
        S::Ok => {
            let (stateid, _, deleg) = opened(&mut done);
            Ok((stateid, deleg))
        }
        status => Err(status),
    }
}

#[track_caller]
pub(super) fn delegated(session: &mut Session, fh: &Fh, access: u32) -> Stateid4 {
    let (_, deleg) = open_file(session, fh, access).expect("open");
    let (write, stateid) = deleg.expect("a delegation");
    assert_eq!(write, access & WRITE != 0);
    stateid
}

#[track_caller]
pub(super) fn give_back(session: &mut Session, fh: &Fh, stateid: &Stateid4) {
    let ops = Ops::new().putfh(fh).op(Op4::Delegreturn, stateid);
    let mut done = session.call(&ops);
    done.ok(Op4::Putfh);
    done.ok(Op4::Delegreturn);
}

/// Takes the CB_RECALL of a delegation and says that it was heard.
#[track_caller]
pub(super) fn hear_recall(session: &mut Session, fh: &Fh, stateid: &Stateid4) {
    let callback = session.callback();
    let args: CbRecall4args<'_> = callback.args(CbOp4::Recall);
    assert_eq!((args.stateid, args.fh.0), (*stateid, fh.as_slice()));
    session.answer(&callback, S::Ok, &());
}

/// Opens until it is no longer put off; how long that took.
#[track_caller]
pub(super) fn open_at_last(session: &mut Session, fh: &Fh, access: u32) -> Duration {
    let start = Instant::now();
    while start.elapsed() < LONG {
        match open_file(session, fh, access) {
            Ok(_) => return start.elapsed(),
            Err(S::Delay) => std::thread::sleep(Duration::from_millis(20)),
            Err(status) => panic!("{status}"),
        }
    }
    panic!("never opened")
}

#[test]
fn an_open_for_writing_recalls_those_for_reading() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b, mut c) = (
        session(&server, "a"),
        session(&server, "b"),
        session(&server, "c"),
    );
    let of_a = delegated(&mut a, &fh, READ);
    let of_b = delegated(&mut b, &fh, READ);
    let clientid = c.clientid;
    let put_off = c.start(0, &open(Ops::new().putfh(&fh), 0, WRITE, clientid, None));
    hear_recall(&mut a, &fh, &of_a);
    hear_recall(&mut b, &fh, &of_b);
    give_back(&mut a, &fh, &of_a);
    give_back(&mut b, &fh, &of_b);
    // In time, it was not even put off.
    let done = c.finish(put_off);
    if done.status == S::Delay {
        open_at_last(&mut c, &fh, WRITE);
    } else {
        assert_eq!(done.status, S::Ok);
    }
    // A file that was recalled is not delegated again at once.
    let other = open_file(&mut a, &fh, READ).expect("open");
    assert_eq!(other.1, None);
    assert_eq!(a.callback_within(SHORT).map(|c| c.op), None, "once");
}

#[test]
fn one_for_writing_is_recalled_by_who_reads() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let of_a = delegated(&mut a, &fh, READ | WRITE);
    assert_eq!(open_file(&mut b, &fh, READ).map(|_| ()), Err(S::Delay));
    hear_recall(&mut a, &fh, &of_a);
    assert_eq!(open_file(&mut b, &fh, READ).map(|_| ()), Err(S::Delay));
    give_back(&mut a, &fh, &of_a);
    open_at_last(&mut b, &fh, READ);
    // Recalled once, however often somebody asked.
    assert_eq!(a.callback_within(SHORT).map(|c| c.op), None);
}

#[test]
fn one_that_is_never_returned_is_revoked_after_a_lease() {
    let lease = Duration::from_secs(6);
    let server = Setup::config("lease_time = \"6s\"\n").start();
    let (fh, other) = (file(&server, "f", b"data"), file(&server, "g", b"data"));
    let (mut a, mut b, mut c) = (
        session(&server, "a"),
        session(&server, "b"),
        session(&server, "c"),
    );
    let of_a = delegated(&mut a, &fh, READ);
    let start = Instant::now();
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    // A client in the way is in nobody's but the opener's.
    open_file(&mut c, &other, WRITE).expect("another file");
    // It goes on renewing its lease, and does not say a word about the delegation.
    let mut revoked = false;
    while !revoked && start.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(100));
        a.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
        b.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
        revoked = a.status & RECALLABLE_STATE_REVOKED != 0;
        assert!(!revoked || start.elapsed() >= lease, "too early");
    }
    assert!(revoked, "never revoked");
    open_at_last(&mut b, &fh, WRITE);
    // What is left of it is there to be seen, and to be freed.
    let ops = Ops::new().op(
        Op4::TestStateid,
        &Raw(&[&encode(&1_u32)[..], &encode(&of_a)].concat()),
    );
    let mut done = a.call(&ops);
    done.ok(Op4::TestStateid);
    assert_eq!(done.more::<u32>(), 1);
    assert_eq!(done.more::<S>(), S::DelegRevoked);
    let mut done = a.call(&Ops::new().putfh(&fh).op(Op4::Delegreturn, &of_a));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Delegreturn), S::DelegRevoked);
    a.call(&Ops::new().op(Op4::FreeStateid, &of_a))
        .ok(Op4::FreeStateid);
    a.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
    assert_eq!(a.status & RECALLABLE_STATE_REVOKED, 0);
}

#[test]
fn a_client_that_is_gone_is_in_nobodys_way_for_longer_than_its_lease() {
    let server = Setup::config("lease_time = \"1s\"\n").start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    delegated(&mut a, &fh, READ);
    drop(a);
    open_at_last(&mut b, &fh, WRITE);
}

#[test]
fn recall_is_repeated_for_who_does_not_know_the_delegation_yet() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let of_a = delegated(&mut a, &fh, READ);
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    for status in [S::BadStateid, S::Badhandle, S::Delay] {
        let callback = a.callback();
        callback.args::<CbRecall4args<'_>>(CbOp4::Recall);
        a.answer(&callback, status, &());
    }
    hear_recall(&mut a, &fh, &of_a);
    give_back(&mut a, &fh, &of_a);
    open_at_last(&mut b, &fh, WRITE);
}

#[test]
fn version_3_recalls_too() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let mut a = session(&server, "a");
    let of_a = delegated(&mut a, &fh, READ);
    let (mut three, root) = server.mounted();
    let export = server.export();
    let thread = std::thread::spawn(move || {
        use nfsd::nfs3::status::Nfsstat3;
        use nfsd::nfs3::types::StableHow;
        let found = three.lookup(&root, b"f").expect("the file").fh;
        loop {
            match three.write(&found, 0, b"new", StableHow::FileSync) {
                Err(refused) if refused.status == Nfsstat3::Jukebox => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                other => return other.is_ok(),
            }
        }
    });
    hear_recall(&mut a, &fh, &of_a);
    assert_eq!(std::fs::read(export.join("f")).expect("data"), b"data");
    give_back(&mut a, &fh, &of_a);
    assert!(thread.join().expect("no panic"));
    assert_eq!(std::fs::read(export.join("f")).expect("data"), b"newa");
}

#[test]
fn names_and_attributes_recall() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let change = |name: &str| {
        let at = Ops::new().putfh(&dir);
        let target = encode(&Component4(name.as_bytes()));
        match name {
            "remove" => at.op(Op4::Remove, &Raw(&target)),
            "rename" => {
                let new = encode(&Component4(b"renamed"));
                let at = at.bare(Op4::Savefh);
                at.op(Op4::Rename, &Raw(&[target, new].concat()))
            }
            "replace" => {
                std::fs::write(server.export().join("source"), b"").expect("a file");
                let old = encode(&Component4(b"source"));
                let at = at.bare(Op4::Savefh);
                at.op(Op4::Rename, &Raw(&[old, target].concat()))
            }
            "link" => {
                let at = at.lookup(name.as_bytes()).bare(Op4::Savefh).putfh(&dir);
                at.op(Op4::Link, &Component4(b"linked"))
            }
            _ => {
                let args = [encode(&Stateid4::ANONYMOUS), mode4(0o600)].concat();
                at.lookup(name.as_bytes()).op(Op4::Setattr, &Raw(&args))
            }
        }
    };
    for name in ["remove", "rename", "replace", "link", "setattr"] {
        let fh = file(&server, name, b"data");
        let of_a = delegated(&mut a, &fh, READ);
        let ops = change(name);
        assert_eq!(b.call(&ops).status, S::Delay, "{name}");
        hear_recall(&mut a, &fh, &of_a);
        give_back(&mut a, &fh, &of_a);
        assert_eq!(b.call(&ops).status, S::Ok, "{name}");
    }
    // Its own do not stand in a client's way.
    let fh = file(&server, "own", b"data");
    let own = delegated(&mut a, &fh, READ);
    let args = [encode(&Stateid4::ANONYMOUS), mode4(0o600)].concat();
    let done = a.call(&Ops::new().putfh(&fh).op(Op4::Setattr, &Raw(&args)));
    assert_eq!(done.status, S::Ok);
    give_back(&mut a, &fh, &own);
}

#[test]
fn without_a_backchannel_nothing_is_delegated() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let mut a = Session::on(server.client(), &Terms::new(1).named(b"a"));
    assert_eq!(open_file(&mut a, &fh, READ).expect("open").1, None);
    // Once a connection is bound, it is.
    let bind = |session: &mut Session| {
        let args = BindConnToSessionArgs {
            sessid: session.created.id,
            dir: ChannelDirFromClient4::ForeOrBoth,
            use_conn_in_rdma_mode: false,
        };
        let ops = Ops::new().op(Op4::BindConnToSession, &args);
        session.outside(&ops).ok(Op4::BindConnToSession);
    };
    bind(&mut a);
    let of_a = delegated(&mut a, &fh, READ);
    // The connection goes: the client learns that it cannot be called, over the next.
    a.client = server.client();
    let start = Instant::now();
    while a.status & CB_PATH_DOWN == 0 {
        assert!(start.elapsed() < LONG, "never told");
        std::thread::sleep(Duration::from_millis(50));
        a.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
    }
    bind(&mut a);
    a.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
    assert_eq!(a.status & CB_PATH_DOWN, 0);
    // And is recalled over the new one.
    let mut b = session(&server, "b");
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    hear_recall(&mut a, &fh, &of_a);
    give_back(&mut a, &fh, &of_a);
    open_at_last(&mut b, &fh, WRITE);
}

#[test]
fn a_recall_goes_on_over_the_next_connection() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let of_a = delegated(&mut a, &fh, READ);
    let args = BindConnToSessionArgs {
        sessid: a.created.id,
        dir: ChannelDirFromClient4::Back,
        use_conn_in_rdma_mode: false,
    };
    let mut second = server.client();
    let ops = Ops::new().op(Op4::BindConnToSession, &args);
    second.compound(1, &ops).ok(Op4::BindConnToSession);
    // The one bound last is used first; it goes while the client is being called.
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    let lost = second.try_record(LONG).expect("a record").expect("a call");
    drop(second);
    hear_recall(&mut a, &fh, &of_a);
    assert!(!lost.is_empty());
    give_back(&mut a, &fh, &of_a);
    open_at_last(&mut b, &fh, WRITE);
}

#[test]
fn destroying_the_session_does_not_wait_for_callbacks() {
    // What is left of the recall ends with the lease.
    let server = Setup::config("lease_time = \"5s\"\n").start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    delegated(&mut a, &fh, READ);
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    a.callback().args::<CbRecall4args<'_>>(CbOp4::Recall);
    let id = a.created.id;
    a.outside(&Ops::new().op(Op4::DestroySession, &id))
        .ok(Op4::DestroySession);
}

/// LOCK of everything for writing, under an open, by a client that waits.
#[track_caller]
pub(super) fn lock_all(session: &mut Session, fh: &Fh, open: &Stateid4) -> Results {
    let mut args = encode(&WRITEW_LT);
    args.extend(encode(&false));
    args.extend(encode(&0_u64));
    args.extend(encode(&u64::MAX));
    args.extend(encode(&true));
    args.extend(encode(&0_u32));
    args.extend(encode(open));
    args.extend(encode(&0_u32));
    let owner = OwnerName4(b"locker");
    let clientid = session.clientid;
    args.extend(encode(&StateOwner4 { clientid, owner }));
    session.call(&Ops::new().putfh(fh).op(Op4::Lock, &Raw(&args)))
}

#[track_caller]
pub(super) fn unlock_all(session: &mut Session, fh: &Fh, locked: &Stateid4) {
    let mut args = encode(&WRITEW_LT);
    args.extend(encode(&0_u32));
    args.extend(encode(locked));
    args.extend(encode(&0_u64));
    args.extend(encode(&u64::MAX));
    let done = session.call(&Ops::new().putfh(fh).op(Op4::Locku, &Raw(&args)));
    assert_eq!(done.status, S::Ok);
}

/// A lock by NLM recalls a delegation, and whoever waits is woken whichever protocol the lock was of.
#[test]
fn locks_of_version_3_and_4_wait_for_each_other() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let mut a = session(&server, "a");
    let mut b = Host::new(server.addr(), "b");
    let root = b.mount(&server.export());
    let three = b.client.lookup(&root, b"f").expect("the file").fh;
    let (opened, deleg) = open_file(&mut a, &fh, READ | WRITE).expect("open");
    let (_, deleg) = deleg.expect("a delegation");
    assert_eq!(b.wait(&three, 7, (5, 10)), NlmStat::Blocked);
    hear_recall(&mut a, &fh, &deleg);
    b.is_left_alone();
    give_back(&mut a, &fh, &deleg);
    assert_eq!(b.granted(), (5, 10));
    assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Denied);
    assert_eq!(b.unlock(&three, 7, (0, 0)), NlmStat::Granted);
    let callback = a.callback();
    callback.args::<CbNotifyLock4args<'_>>(CbOp4::NotifyLock);
    a.answer(&callback, S::Ok, &());
    let mut done = lock_all(&mut a, &fh, &opened);
    done.ok(Op4::Putfh);
    let locked: Stateid4 = done.body(Op4::Lock);
    assert_eq!(b.lock(&three, 7, (5, 10)), NlmStat::Denied);
    let held = Err((NlmStat::Denied, Some((0, 0, 0))));
    assert_eq!(b.test(&three, 7, (5, 10)), held);
    assert_eq!(b.wait(&three, 7, (5, 10)), NlmStat::Blocked);
    let text = server.control("locks").expect("a list");
    assert!(text.contains("lock write 0 to the end, 4.1") && text.contains("owner \"locker\""));
    unlock_all(&mut a, &fh, &locked);
    assert_eq!(b.granted(), (5, 10));
}

#[test]
fn who_waits_for_a_lock_is_told() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    // One that everybody has open for writing is not delegated.
    let lock = |session: &mut Session, open: &Stateid4| lock_all(session, &fh, open);
    let (of_a, deleg) = open_file(&mut a, &fh, READ | WRITE).expect("open");
    if let Some((_, stateid)) = deleg {
        give_back(&mut a, &fh, &stateid);
    }
    let (of_b, _) = open_file(&mut b, &fh, READ | WRITE).expect("open");
    let mut done = lock(&mut a, &of_a);
    done.ok(Op4::Putfh);
    let locked: Stateid4 = done.body(Op4::Lock);
    assert_eq!(lock(&mut b, &of_b).status, S::Denied);
    unlock_all(&mut a, &fh, &locked);
    let callback = b.callback();
    let told: CbNotifyLock4args<'_> = callback.args(CbOp4::NotifyLock);
    assert_eq!(
        (told.fh.0, told.owner.owner.0),
        (fh.as_slice(), &b"locker"[..])
    );
    assert_eq!(told.owner.clientid, b.clientid);
    b.answer(&callback, S::Ok, &());
    assert_eq!(lock(&mut b, &of_b).status, S::Ok);
}

#[test]
fn the_holder_for_writing_is_asked_for_size_and_change() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let asked = [bit::CHANGE, bit::SIZE];
    let get = Ops::new().putfh(&fh).getattr(&asked);
    let own = |session: &mut Session| {
        let mut done = session.call(&get);
        done.ok(Op4::Putfh);
        let attrs = done.attrs();
        (attrs.get::<u64>(bit::CHANGE), attrs.get::<u64>(bit::SIZE))
    };
    let before = own(&mut a);
    assert_eq!(before.1, 4);
    let of_a = delegated(&mut a, &fh, READ | WRITE);
    assert_eq!(own(&mut a), before, "nobody is asked for its own");
    // What the holder says in turn, and what the other client must see.
    let ask = |a: &mut Session, b: &mut Session, change: u64, size: u64| {
        let xid = b.start(0, &get);
        let callback = a.callback();
        let args: CbGetattr4args<'_> = callback.args(CbOp4::Getattr);
        assert_eq!(
            (args.fh.0, args.asked),
            (fh.as_slice(), Bitmap4::of(&asked))
        );
        let said = fattr(&[(bit::CHANGE, encode(&change)), (bit::SIZE, encode(&size))]);
        a.answer(&callback, S::Ok, &Raw(&said));
        let mut done = b.finish(xid);
        done.ok(Op4::Putfh);
        let attrs = done.attrs();
        (attrs.get::<u64>(bit::CHANGE), attrs.get::<u64>(bit::SIZE))
    };
    assert_eq!(ask(&mut a, &mut b, before.0, 4), before, "not modified");
    let first = ask(&mut a, &mut b, before.0 + 1, 10);
    assert!(first.0 > before.0 && first.1 == 10, "{first:?}");
    assert_eq!(
        ask(&mut a, &mut b, before.0 + 1, 10),
        first,
        "the same, as long as it says the same"
    );
    let second = ask(&mut a, &mut b, before.0 + 2, 12);
    assert!(second.0 > first.0 && second.1 == 12, "{second:?}");
    give_back(&mut a, &fh, &of_a);
}

/// A confirmed client of version 4.0, and its connection for callbacks.
pub(super) fn plain(server: &TestServer, listener: &Listener) -> (Client, u64, Called) {
    let (client, clientid) = introduce(server, listener);
    let mut called = listener.accept();
    called.prove();
    (client, clientid, called)
}

pub(super) fn introduce(server: &TestServer, listener: &Listener) -> (Client, u64) {
    let mut client = server.client();
    let addr = universal_addr(&listener.addr());
    let args = SetclientidArgs {
        client: NfsClientId4 {
            verifier: [1; 8],
            id: OwnerName4(b"plain"),
        },
        callback: CbClient4 {
            program: PROGRAM,
            location: Netaddr4 {
                netid: NetName4(netid(&listener.addr()).as_bytes()),
                addr: NetName4(addr.as_bytes()),
            },
        },
        callback_ident: 77,
    };
    let mut done = client.compound(0, &Ops::new().op(Op4::Setclientid, &args));
    let SetclientidRes { clientid, confirm } = done.body(Op4::Setclientid);
    let args = SetclientidConfirmArgs { clientid, confirm };
    let mut done = client.compound(0, &Ops::new().op(Op4::SetclientidConfirm, &args));
    done.ok(Op4::SetclientidConfirm);
    (client, clientid)
}

/// Opens a file of the export with 4.0, confirming the owner the first time.
#[track_caller]
pub(super) fn open_plain(
    client: &mut Client,
    clientid: u64,
    dir: &Fh,
    seqid: &mut u32,
    (name, access): (&str, u32),
) -> Deleg {
    let ops = Ops::new().putfh(dir);
    let ops = open(ops, *seqid, access, clientid, Some(name.as_bytes()));
    let mut done = client.compound(0, &ops.getfh());
    *seqid += 1;
    done.ok(Op4::Putfh);
    let (stateid, rflags, deleg) = opened(&mut done);
    let fh = done.fh();
    if rflags & 2 != 0 {
        let args = [encode(&stateid), encode(&*seqid)].concat();
        let mut done = client.compound(0, &Ops::new().putfh(&fh).op(Op4::OpenConfirm, &Raw(&args)));
        *seqid += 1;
        done.ok(Op4::Putfh);
        done.ok(Op4::OpenConfirm);
    }
    deleg
}

#[test]
fn version_4_0_is_called_over_a_connection_of_its_own() {
    called_over_a_connection_of_its_own(&TestServer::start(), &Listener::new());
}

/// Its universal address is one of network id `tcp6` (RFC 5665 5.2.3.4).
#[test]
fn version_4_0_is_called_over_ipv6() {
    let setup = Setup {
        listen: vec!["[::1]:0".to_owned()],
        ..Setup::default()
    };
    let listener = Listener::at("[::1]:0");
    assert_eq!(netid(&listener.addr()), "tcp6");
    called_over_a_connection_of_its_own(&setup.start(), &listener);
}

fn called_over_a_connection_of_its_own(server: &TestServer, listener: &Listener) {
    let (_, dir) = at_export(server);
    let (first, fh) = (file(server, "e", b"data"), file(server, "f", b"data"));
    assert_ne!(first, fh);
    let (mut client, clientid, mut called) = plain(server, listener);
    let mut seqid = 1;
    let deleg = open_plain(&mut client, clientid, &dir, &mut seqid, ("e", READ));
    assert_eq!(deleg, None, "the owner was not confirmed");
    // CB_NULL was answered; that the server has noticed may take a moment.
    let start = Instant::now();
    let stateid = loop {
        if let Some((write, stateid)) =
            open_plain(&mut client, clientid, &dir, &mut seqid, ("f", READ))
        {
            assert!(!write);
            break stateid;
        }
        assert!(start.elapsed() < LONG, "never delegated");
        std::thread::sleep(Duration::from_millis(20));
    };
    // One for writing would be recalled by the holder's own GETATTR, which does not say whose it is.
    let deleg = open_plain(&mut client, clientid, &dir, &mut seqid, ("e", READ | WRITE));
    assert_eq!(deleg, None);
    let mut b = session(server, "b");
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    let callback = called.callback();
    assert_eq!((callback.minor, callback.ident), (0, 77));
    let args: CbRecall4args<'_> = callback.args(CbOp4::Recall);
    assert_eq!((args.stateid, args.fh.0), (stateid, fh.as_slice()));
    // The connection goes before the answer: the recall comes again over a new one.
    drop(called);
    let mut called = listener.accept();
    let callback = called.callback();
    callback.args::<CbRecall4args<'_>>(CbOp4::Recall);
    called.answer(&callback, S::Ok, &());
    let ops = Ops::new().putfh(&fh).op(Op4::Delegreturn, &stateid);
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putfh);
    done.ok(Op4::Delegreturn);
    open_at_last(&mut b, &fh, WRITE);
}

#[test]
fn version_4_0_without_an_answer_gets_no_delegation() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    file(&server, "f", b"data");
    let listener = Listener::new();
    let (mut client, clientid) = introduce(&server, &listener);
    let _silent = listener.accept();
    let mut seqid = 1;
    for _ in 0..3 {
        let deleg = open_plain(&mut client, clientid, &dir, &mut seqid, ("f", READ));
        assert_eq!(deleg, None);
    }
}

/// What follows OPEN in its request, and the holder's other requests on that connection, are the holder's own: it is
/// not asked about what it has.
#[test]
fn version_4_0_is_not_called_about_its_own_delegation() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    file(&server, "e", b"data");
    let fh = file(&server, "f", b"data");
    let listener = Listener::new();
    let (mut client, clientid, mut called) = plain(&server, &listener);
    let mut seqid = 1;
    open_plain(&mut client, clientid, &dir, &mut seqid, ("e", READ));
    let start = Instant::now();
    let asked = [bit::CHANGE, bit::SIZE];
    let stateid = loop {
        let ops = open(Ops::new().putfh(&dir), seqid, READ, clientid, Some(b"f"));
        let mut done = client.compound(0, &ops.getattr(&asked));
        seqid += 1;
        done.ok(Op4::Putfh);
        let (_, _, deleg) = opened(&mut done);
        done.ok(Op4::Getattr);
        if let Some((write, stateid)) = deleg {
            assert!(!write);
            break stateid;
        }
        assert!(start.elapsed() < LONG, "never delegated");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut done = client.compound(0, &Ops::new().putfh(&fh).getattr(&asked));
    done.ok(Op4::Putfh);
    assert_eq!(done.attrs().get::<u64>(bit::SIZE), 4);
    let remove = Ops::new().putfh(&dir).op(Op4::Remove, &Component4(b"f"));
    assert_eq!(client.compound(0, &remove).status, S::Ok);
    let asked = called.0.try_record(SHORT);
    assert!(!matches!(asked, Ok(Some(_))), "nobody else has asked");
    let ops = Ops::new().putfh(&fh).op(Op4::Delegreturn, &stateid);
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putfh);
    done.ok(Op4::Delegreturn);
}
