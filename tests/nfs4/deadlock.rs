//! Locks that would be waited for in a circle: by clients of 4.1, by hosts of NLM, by some of each.

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use nfsd::nlm::types::NlmStat;
use tests::client::nfs4::{Ops, Raw};
use tests::client::nlm::Host;
use tests::client::session::Session;
use tests::client::{Fh, encode};
use tests::daemon::TestServer;

use super::hammer::files;
use super::state::{BOTH, DENY_NONE, What, open, opened};

const WRITE_LT: u32 = 2;
const WRITEW_LT: u32 = 4;
const READ_LT: u32 = 1;

/// A client of 4.1 with a lock-owner, and what it has open and locked of each file.
struct Locker {
    session: Session,
    files: Vec<(Fh, Stateid4, Option<Stateid4>)>,
}

impl Locker {
    fn new(server: &TestServer, files: &[Fh]) -> Locker {
        let mut session = Session::new(server.client(), 1);
        let files = files
            .iter()
            .map(|fh| {
                let ops = open(Ops::new(), 0, (BOTH, DENY_NONE), (0, b"o"), What::Fh);
                let (stateid, _) = opened(&mut session.at(fh, &ops));
                (fh.clone(), stateid, None)
            })
            .collect();
        Locker { session, files }
    }

    fn lock(&mut self, file: usize, locktype: u32, range: (u64, u64)) -> S {
        let (fh, open, locked) = &mut self.files[file];
        let mut args = encode(&locktype);
        args.extend(encode(&false));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        args.extend(encode(&locked.is_none()));
        if locked.is_none() {
            args.extend(encode(&0_u32));
        }
        args.extend(encode(&locked.unwrap_or(*open)));
        args.extend(encode(&0_u32));
        if locked.is_none() {
            let owner = OwnerName4(b"locker");
            args.extend(encode(&StateOwner4 { clientid: 0, owner }));
        }
        let mut done = self.session.at(fh, &Ops::new().op(Op4::Lock, &Raw(&args)));
        if done.status == S::Ok {
            *locked = Some(done.body(Op4::Lock));
            return S::Ok;
        }
        done.status
    }

    fn unlock(&mut self, file: usize) {
        let (fh, _, locked) = &mut self.files[file];
        let mut args = encode(&WRITE_LT);
        args.extend(encode(&0_u32));
        args.extend(encode(&locked.expect("locked")));
        args.extend(encode(&0_u64));
        args.extend(encode(&u64::MAX));
        let mut done = self.session.at(fh, &Ops::new().op(Op4::Locku, &Raw(&args)));
        *locked = Some(done.body(Op4::Locku));
    }
}

const ALL: (u64, u64) = (0, u64::MAX);

#[test]
fn of_version_4() {
    let server = TestServer::start();
    let files = files(&server, 3);
    let [mut a, mut b, mut c] = [(); 3].map(|()| Locker::new(&server, &files));
    assert_eq!(a.lock(0, WRITE_LT, ALL), S::Ok);
    assert_eq!(b.lock(1, WRITE_LT, ALL), S::Ok);
    assert_eq!(c.lock(2, WRITE_LT, ALL), S::Ok);
    assert_eq!(a.lock(1, WRITEW_LT, ALL), S::Denied);
    assert_eq!(b.lock(2, WRITEW_LT, ALL), S::Denied, "no circle yet");
    // Who only looks in does not wait; who waits is told.
    assert_eq!(c.lock(0, WRITE_LT, ALL), S::Denied);
    assert_eq!(c.lock(0, WRITEW_LT, ALL), S::Deadlock);
    assert_eq!(server.stat("locks.waiters"), 2, "it does not wait");
    // It keeps what it has, and so it goes on for the others once it gives up.
    assert_eq!(b.lock(2, WRITEW_LT, ALL), S::Denied);
    c.unlock(2);
    assert_eq!(b.lock(2, WRITEW_LT, ALL), S::Ok);
    assert_eq!(c.lock(0, WRITEW_LT, ALL), S::Denied, "a waits for b alone");
    b.unlock(1);
    assert_eq!(a.lock(1, WRITEW_LT, ALL), S::Ok);
}

#[test]
fn of_readers_that_both_want_to_write() {
    let server = TestServer::start();
    let files = files(&server, 1);
    let [mut a, mut b, mut c] = [(); 3].map(|()| Locker::new(&server, &files));
    for locker in [&mut a, &mut b, &mut c] {
        assert_eq!(locker.lock(0, READ_LT, (0, 10)), S::Ok);
    }
    assert_eq!(a.lock(0, WRITEW_LT, (0, 5)), S::Denied);
    assert_eq!(b.lock(0, WRITEW_LT, (0, 5)), S::Deadlock);
    b.unlock(0);
    c.unlock(0);
    assert_eq!(a.lock(0, WRITEW_LT, (0, 5)), S::Ok);
}

#[test]
fn of_version_3_and_of_both() {
    let server = TestServer::start();
    let files = files(&server, 2);
    let mut a = Locker::new(&server, &files);
    let (mut b, mut c) = (Host::new(server.addr(), "b"), Host::new(server.addr(), "c"));
    let root = b.mount(&server.export());
    let three: Vec<Fh> = [&b"f0"[..], b"f1"]
        .map(|name| b.client.lookup(&root, name).expect("the file").fh)
        .to_vec();
    // Two hosts; another process of one of them is somebody else.
    assert_eq!(b.lock(&three[0], 7, (0, 10)), NlmStat::Granted);
    assert_eq!(c.lock(&three[1], 7, (0, 10)), NlmStat::Granted);
    assert_eq!(b.wait(&three[1], 7, (0, 10)), NlmStat::Blocked);
    assert_eq!(c.wait(&three[0], 8, (0, 10)), NlmStat::Blocked);
    assert_eq!(c.wait(&three[0], 7, (0, 10)), NlmStat::Deadlck);
    assert_eq!(c.cancel(&three[0], 8, (0, 10)), NlmStat::Granted);
    assert_eq!(c.unlock(&three[1], 7, (0, 10)), NlmStat::Granted);
    assert_eq!(b.granted(), (0, 10));
    // One of version 4 in it.
    assert_eq!(b.unlock(&three[1], 7, (0, 10)), NlmStat::Granted);
    assert_eq!(a.lock(1, WRITE_LT, (0, 10)), S::Ok);
    assert_eq!(a.lock(0, WRITEW_LT, (0, 10)), S::Denied);
    assert_eq!(b.wait(&three[1], 7, (0, 10)), NlmStat::Deadlck);
    assert_eq!(b.unlock(&three[0], 7, (0, 10)), NlmStat::Granted);
    assert_eq!(a.lock(0, WRITEW_LT, (0, 10)), S::Ok);
    assert_eq!(server.stat("locks.waiters"), 0);
}
