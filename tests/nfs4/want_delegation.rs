//! WANT_DELEGATION (RFC 8881 18.49): delegations without an OPEN, why there are none, and after a restart.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{CbOp4, CbRecall4args};
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, Results};
use tests::client::session::{Session, Terms};
use tests::client::{Fh, Login, encode};
use tests::daemon::{Setup, TestServer};

use super::at_export;
use super::callbacks::{
    LONG, READ, WRITE, file, give_back, hear_recall, open_at_last, open_file, session,
};
use super::recovery::{Host, Link, delegation, hasty};

const WANT_READ: u32 = 0x100;
const WANT_WRITE: u32 = 0x200;
const WANT_ANY: u32 = 0x300;
const WANT_NONE: u32 = 0x400;
const WANT_CANCEL: u32 = 0x500;
/// Offer it later: when there is room, when nobody is in the way.
const WHEN: u32 = 0x3_0000;

/// `why_no_delegation4`.
const CONTENTION: u32 = 1;
const RESOURCE: u32 = 2;
const NOT_SUPP_FTYPE: u32 = 3;
const WRITE_NOT_SUPP_FTYPE: u32 = 4;
const NOT_SUPP_UPGRADE: u32 = 5;
const NOT_SUPP_DOWNGRADE: u32 = 6;
const CANCELLED: u32 = 7;
const IS_DIR: u32 = 8;

/// By `CLAIM_FH`.
fn want(bits: u32) -> Ops {
    claim(bits, &[4])
}

fn claim(bits: u32, claim: &[u32]) -> Ops {
    let mut args = encode(&bits);
    args.extend(claim.iter().flat_map(encode));
    Ops::new().op(Op4::WantDelegation, &Raw(&args))
}

/// What came of it: one for writing or not, and its stateid; or why there is none.
#[derive(Debug, PartialEq)]
enum Got {
    Deleg(bool, Stateid4),
    None(u32),
}

#[track_caller]
fn got(mut done: Results) -> Result<Got, S> {
    match done.status_of(Op4::WantDelegation) {
        S::Ok => {}
        status => return Err(status),
    }
    let kind: u32 = done.more();
    if kind == 3 {
        let why: u32 = done.more();
        if why == CONTENTION || why == RESOURCE {
            assert!(!done.more::<bool>(), "nothing is offered later");
        }
        done.end();
        return Ok(Got::None(why));
    }
    let stateid: Stateid4 = done.more();
    assert!(!done.more::<bool>(), "not recalled at once");
    if kind == 2 {
        assert_eq!((done.more::<u32>(), done.more::<u64>()), (1, u64::MAX));
    }
    for _ in 0..3 {
        done.more::<u32>();
    }
    done.more::<Tag4<'_>>();
    done.end();
    assert!(kind == 1 || kind == 2, "never OPEN_DELEGATE_NONE: {kind}");
    Ok(Got::Deleg(kind == 2, stateid))
}

#[track_caller]
fn ask(session: &mut Session, fh: &Fh, ops: &Ops) -> Result<Got, S> {
    got(session.at(fh, ops))
}

/// Asks until there is one: a process that this one is just starting has its files open for a moment.
#[track_caller]
fn given(session: &mut Session, fh: &Fh, bits: u32) -> (bool, Stateid4) {
    let end = Instant::now() + LONG;
    loop {
        match ask(session, fh, &want(bits)) {
            Ok(Got::Deleg(write, stateid)) => return (write, stateid),
            Ok(Got::None(CONTENTION)) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_delegation_without_an_open() {
    let server = TestServer::start();
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    // Access bits, and NO_DELEG among others, are to be ignored.
    let (write, of_a) = given(&mut a, &fh, WANT_ANY | WHEN | READ | WRITE);
    assert!(!write, "either is one for reading");
    let (write, of_b) = given(&mut b, &fh, WANT_READ);
    assert!(!write, "many may read");
    assert_eq!(server.stat("nfs4.opens"), 0);
    // It lets read, by the current stateid as well, and is recalled like any other.
    let read = |stateid: &Stateid4| {
        let args = [encode(stateid), encode(&0_u64), encode(&4_u32)].concat();
        Ops::new().op(Op4::Read, &Raw(&args))
    };
    assert_eq!(a.at(&fh, &read(&of_a)).status, S::Ok);
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    hear_recall(&mut a, &fh, &of_a);
    give_back(&mut a, &fh, &of_a);
    open_at_last(&mut b, &fh, WRITE);
    give_back(&mut b, &fh, &of_b);
    // For writing, with what follows it in the request.
    let other = file(&server, "g", b"data");
    let current = Stateid4 {
        seqid: 1,
        other: Other([0; 12]),
    };
    let with_read = want(WANT_WRITE | WANT_NONE).then(&read(&current));
    let end = Instant::now() + LONG;
    // Refused, there is no current stateid.
    while a.at(&other, &with_read).status != S::Ok {
        assert!(Instant::now() < end, "never");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        ask(&mut b, &other, &want(WANT_READ)),
        Ok(Got::None(CONTENTION))
    );
    // Asking recalls nothing from others (RFC 8881 18.49.4); opening does.
    assert_eq!(open_file(&mut b, &other, READ).map(|_| ()), Err(S::Delay));
    let callback = a.callback();
    let stateid = callback.args::<CbRecall4args<'_>>(CbOp4::Recall).stateid;
    a.answer(&callback, S::Ok, &());
    give_back(&mut a, &other, &stateid);
    open_at_last(&mut b, &other, READ);
    assert_eq!(server.stat("locks.delegations"), 0);
}

#[test]
fn why_there_is_none() {
    let server = TestServer::start();
    let dir = server.export();
    let (_, root) = at_export(&server);
    let (fh, used) = (file(&server, "f", b"data"), file(&server, "g", b"data"));
    let secret = file(&server, "secret", b"data");
    symlink("f", dir.join("link")).expect("a link");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let mut done = a.at(&root, &Ops::new().lookup(b"link").getfh());
    done.ok(Op4::Lookup);
    let link = done.fh();
    open_file(&mut b, &used, READ | WRITE).expect("open");
    let none = |why| Ok(Got::None(why));
    for (fh, bits, expected) in [
        (&root, WANT_READ, none(IS_DIR)),
        (&root, WANT_WRITE, none(IS_DIR)),
        (&link, WANT_ANY, none(NOT_SUPP_FTYPE)),
        (&link, WANT_WRITE, none(WRITE_NOT_SUPP_FTYPE)),
        (&used, WANT_READ | WHEN, none(CONTENTION)),
        (&used, WANT_WRITE, none(CONTENTION)),
        (&fh, WANT_CANCEL, none(CANCELLED)),
        // Nothing wanted, and what means nothing.
        (&fh, 0, Err(S::Inval)),
        (&fh, READ | WRITE, Err(S::Inval)),
        (&fh, WANT_NONE, Err(S::Inval)),
        (&fh, WANT_READ | 4, Err(S::Inval)),
        (&fh, 0x900, Err(S::Inval)),
    ] {
        assert_eq!(ask(&mut a, fh, &want(bits)), expected, "{bits:x}");
    }
    // One does not become another.
    let (_, reads) = given(&mut a, &fh, WANT_READ);
    let again = [WANT_WRITE, WANT_READ].map(|bits| ask(&mut a, &fh, &want(bits)));
    assert_eq!(again, [none(NOT_SUPP_UPGRADE), none(RESOURCE)]);
    give_back(&mut a, &fh, &reads);
    let (write, writes) = given(&mut a, &fh, WANT_WRITE);
    assert!(write);
    let again = ask(&mut a, &fh, &want(WANT_READ));
    assert_eq!(again, none(NOT_SUPP_DOWNGRADE));
    give_back(&mut a, &fh, &writes);
    // Who could not open it gets none, nor who cannot be called back.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(dir.join("secret"), mode).expect("chmod");
    a.client.set_login(Login::user(1000, 1000));
    for bits in [WANT_READ, WANT_WRITE] {
        assert_eq!(ask(&mut a, &secret, &want(bits)), none(RESOURCE));
    }
    let mut deaf = Session::new(server.client(), 1);
    assert_eq!(ask(&mut deaf, &fh, &want(WANT_READ)), none(RESOURCE));
    // What the other one's OPEN came with.
    assert_eq!(server.stat("locks.delegations"), 1);
    drop((a, b, deaf));
    let server = Setup::options("ro,no_root_squash,insecure").start();
    let fh = file(&server, "f", b"data");
    let mut a = session(&server, "a");
    assert_eq!(ask(&mut a, &fh, &want(WANT_WRITE)), none(RESOURCE));
    assert!(!given(&mut a, &fh, WANT_ANY).0);
}

#[test]
fn errors_of_want_delegation() {
    let server = TestServer::start();
    let (mut plain, root) = at_export(&server);
    let fh = file(&server, "f", b"data");
    let mut a = session(&server, "a");
    for (ops, expected) in [
        // From before the client's own restart.
        (claim(WANT_READ, &[6]), S::Notsupp),
        // There was no restart of the server.
        (claim(WANT_READ, &[1, 1]), S::NoGrace),
        // Claims of OPEN alone.
        (claim(WANT_READ, &[0]), S::Badxdr),
        (claim(WANT_READ, &[5, 0, 0, 0, 0]), S::Badxdr),
        (claim(WANT_READ, &[1, 9]), S::Badxdr),
    ] {
        assert_eq!(ask(&mut a, &fh, &ops), Err(expected), "{ops:?}");
    }
    let mut done = a.call(&want(WANT_READ));
    assert_eq!(done.status_of(Op4::WantDelegation), S::Nofilehandle);
    // The pseudo file system has directories only.
    let mut done = a.call(&Ops::new().putrootfh().then(&want(WANT_READ)));
    done.ok(Op4::Putrootfh);
    assert_eq!(got(done), Ok(Got::None(IS_DIR)));
    // Before the client has said that there is nothing it wants back.
    let fh = file(&server, "g", b"data");
    let terms = Terms {
        reclaim_complete: false,
        ..Terms::new(1).named(b"new").called_back()
    };
    let mut new = Session::on(server.client(), &terms);
    assert_eq!(ask(&mut new, &fh, &want(WANT_READ)), Err(S::Grace));
    // Not in 4.0.
    let done = plain.compound(0, &Ops::new().putfh(&root).then(&want(WANT_READ)));
    assert_eq!(done.status, S::OpIllegal);
    assert_eq!(server.stat("locks.delegations"), 0);
}

/// One held before a restart of the server comes back without an open, in grace and before RECLAIM_COMPLETE only.
#[test]
fn one_from_before_a_restart_of_the_server() {
    let mut server = hasty();
    let mut a = Host::ready(&server, 1, "a");
    let fh = a.open("file").expect("made").fh;
    let other = a.open("other").expect("made").fh;
    server.kill9();
    server.start_again();
    let mut a = Host::by(&server, "a", &Terms::new(1).called_back());
    let mut b = Host::by(&server, "b", &Terms::new(1).called_back());
    let root = a.root.clone();
    for (at, bits, claims, expected) in [
        (&fh, WANT_READ, &[4][..], S::Grace),
        (&fh, 0, &[1, 1], S::Inval),
        (&fh, WANT_READ, &[1, 0], S::Inval),
        (&root, WANT_READ, &[1, 1], S::WrongType),
    ] {
        let mut done = a.at(at, claim(bits, claims));
        let status = done.status_of(Op4::WantDelegation);
        assert_eq!(status, expected, "{claims:?}");
    }
    // This one had nothing.
    let mut done = b.at(&fh, claim(WANT_READ, &[1, 1]));
    assert_eq!(done.status_of(Op4::WantDelegation), S::ReclaimBad);
    let mut done = a.at(&fh, claim(WANT_WRITE, &[1, 2]));
    done.ok(Op4::WantDelegation);
    // To be returned at once, if the kernel has not closed the file for the killed server yet.
    let (deleg, _) = delegation(&mut done).expect("held before");
    assert_eq!(a.read(&fh, &deleg), S::Ok);
    // Only one can have it for writing; with an open it is reclaimed by OPEN.
    let mut done = a.at(&fh, claim(WANT_READ, &[1, 1]));
    assert_eq!(done.status_of(Op4::WantDelegation), S::ReclaimBad);
    a.reclaim(&other).expect("held before");
    assert_eq!(a.complete(), S::Ok);
    let mut done = a.at(&other, claim(WANT_READ, &[1, 1]));
    assert_eq!(done.status_of(Op4::WantDelegation), S::NoGrace);
    let Link::New(session) = &mut a.link else {
        panic!("a session");
    };
    give_back(session, &fh, &deleg);
}

/// What two clients say they had cannot both be true: the first was believed.
#[test]
fn reclaims_that_contradict_each_other() {
    let mut server = hasty();
    let mut a = Host::ready(&server, 1, "a");
    let fh = a.open("file").expect("made").fh;
    let mut b = Host::ready(&server, 1, "b");
    b.open("other").expect("made");
    server.kill9();
    server.start_again();
    let mut a = Host::by(&server, "a", &Terms::new(1).called_back());
    let mut b = Host::by(&server, "b", &Terms::new(1).called_back());
    a.at(&fh, claim(WANT_WRITE, &[1, 2]))
        .ok(Op4::WantDelegation);
    let mut done = b.at(&fh, claim(WANT_READ, &[1, 1]));
    assert_eq!(done.status_of(Op4::WantDelegation), S::ReclaimConflict);
}
