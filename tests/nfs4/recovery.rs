//! Restarts over the socket: who may reclaim what, when everybody else may go on, and what must never be reclaimed
//! (RFC 8881 8.4.2 and 8.4.3, RFC 7530 9.6.2 and 9.6.3).

use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, Results, mode4};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::{Setup, TestServer};

pub(super) const BOTH: u32 = 3;
const PERSIST: u32 = 1;
const RESTART_RECLAIM_NEEDED: u32 = 0x100;
/// For what comes by itself; the grace period of the tests that must not wait for its end is longer.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// A client that can come again after a restart of the server.
pub(super) struct Host {
    pub(super) link: Link,
    pub(super) root: Fh,
    owners: u32,
}

pub(super) enum Link {
    Old(Client, u64),
    New(Box<Session>),
}

/// An open file.
pub(super) struct Open {
    pub(super) fh: Fh,
    pub(super) stateid: Stateid4,
    /// Next of its owner (4.0).
    pub(super) seqid: u32,
    /// A delegation, and whether it is to be returned at once.
    pub(super) deleg: Option<(Stateid4, bool)>,
}

impl Host {
    /// Introduces itself as `name`, and says no more.
    #[track_caller]
    pub(super) fn new(server: &TestServer, minor: u32, name: &str) -> Host {
        Host::by(server, name, &Terms::new(minor))
    }

    /// The same, on these terms.
    #[track_caller]
    pub(super) fn by(server: &TestServer, name: &str, terms: &Terms) -> Host {
        let mut link = match terms.minor {
            0 => old(server.client(), name),
            _ => {
                let terms = Terms {
                    owner: name.as_bytes().to_vec(),
                    verifier: [7; 8],
                    reclaim_complete: false,
                    ..terms.clone()
                };
                Link::New(Box::new(Session::on(server.client(), &terms)))
            }
        };
        let path = server.export();
        let walk = Ops::new().putrootfh().walk(path.to_str().expect("text"));
        let mut done = link.call(&walk.getfh());
        done.ok(Op4::Putrootfh);
        while done.left > 1 {
            done.ok(Op4::Lookup);
        }
        Host {
            root: done.fh(),
            link,
            owners: 0,
        }
    }

    /// The same, and it has nothing to reclaim.
    #[track_caller]
    pub(super) fn ready(server: &TestServer, minor: u32, name: &str) -> Host {
        let mut host = Host::new(server, minor, name);
        assert_eq!(host.complete(), S::Ok);
        host
    }

    /// RECLAIM_COMPLETE, which 4.0 has not.
    #[track_caller]
    pub(super) fn complete(&mut self) -> S {
        match &self.link {
            Link::Old(..) => S::Ok,
            Link::New(_) => {
                let all = Ops::new().op(Op4::ReclaimComplete, &false);
                self.link.call(&all).status
            }
        }
    }

    #[track_caller]
    pub(super) fn at(&mut self, fh: &[u8], ops: Ops) -> Results {
        let mut done = self.link.call(&Ops::new().putfh(fh).then(&ops));
        done.ok(Op4::Putfh);
        done
    }

    /// Opens a file of the export for reading and writing, and makes it.
    #[track_caller]
    pub(super) fn open(&mut self, name: &str) -> Result<Open, S> {
        let mut how = encode(&1_u32);
        how.extend(encode(&0_u32));
        how.extend(mode4(0o640));
        how.extend(encode(&0_u32));
        how.extend(encode(&Component4(name.as_bytes())));
        let root = self.root.clone();
        self.open_by(&root, (BOTH, 0), &how)
    }

    /// Opens a file as before the restart (CLAIM_PREVIOUS).
    #[track_caller]
    pub(super) fn reclaim(&mut self, fh: &[u8]) -> Result<Open, S> {
        self.reclaim_as(fh, (BOTH, 0), 0)
    }

    /// The same with what was shared and denied, and with what was delegated (1 for reading, 2 for writing).
    #[track_caller]
    pub(super) fn reclaim_as(
        &mut self,
        fh: &[u8],
        shares: (u32, u32),
        deleg: u32,
    ) -> Result<Open, S> {
        let how: Vec<u8> = [0, 1, deleg].iter().flat_map(encode).collect();
        self.open_by(fh, shares, &how)
    }

    /// OPEN in a directory or of a file: how to create and the claim are given.
    #[track_caller]
    pub(super) fn open_by(
        &mut self,
        fh: &[u8],
        (access, deny): (u32, u32),
        how: &[u8],
    ) -> Result<Open, S> {
        self.owners += 1;
        let (seqid, owner) = (1_u32, format!("owner {}", self.owners));
        let mut args: Vec<u8> = [seqid, access, deny].iter().flat_map(encode).collect();
        let owner = OwnerName4(owner.as_bytes());
        let clientid = self.link.clientid();
        args.extend(encode(&StateOwner4 { clientid, owner }));
        args.extend_from_slice(how);
        let mut done = self.at(fh, Ops::new().op(Op4::Open, &Raw(&args)).getfh());
        if done.status != S::Ok {
            return Err(done.status);
        }
        let stateid: Stateid4 = done.body(Op4::Open);
        done.more::<ChangeInfo4>();
        let rflags: u32 = done.more();
        done.more::<Bitmap4>();
        let deleg = delegation(&mut done);
        let mut open = Open {
            fh: done.fh(),
            stateid,
            seqid: seqid + 1,
            deleg,
        };
        if rflags & 2 != 0 {
            let mut confirm = encode(&stateid);
            confirm.extend(encode(&open.seqid));
            let confirm = Ops::new().op(Op4::OpenConfirm, &Raw(&confirm));
            open.stateid = self.at(&open.fh, confirm).body(Op4::OpenConfirm);
            open.seqid += 1;
        }
        Ok(open)
    }

    /// LOCK of everything for writing, by an owner of its own.
    #[track_caller]
    pub(super) fn lock(&mut self, open: &mut Open, reclaim: bool) -> S {
        self.owners += 1;
        let mut args = encode(&2_u32);
        args.extend(encode(&reclaim));
        args.extend(encode(&0_u64));
        args.extend(encode(&u64::MAX));
        args.extend(encode(&true));
        args.extend(encode(&open.seqid));
        args.extend(encode(&open.stateid));
        args.extend(encode(&0_u32));
        let (clientid, owner) = (self.link.clientid(), format!("locker {}", self.owners));
        let owner = OwnerName4(owner.as_bytes());
        args.extend(encode(&StateOwner4 { clientid, owner }));
        open.seqid += 1;
        self.at(&open.fh, Ops::new().op(Op4::Lock, &Raw(&args)))
            .status
    }

    /// REMOVE from the export.
    #[track_caller]
    fn remove(&mut self, name: &str) -> S {
        let root = self.root.clone();
        let name = Component4(name.as_bytes());
        self.at(&root, Ops::new().op(Op4::Remove, &name)).status
    }

    #[track_caller]
    pub(super) fn read(&mut self, fh: &[u8], stateid: &Stateid4) -> S {
        let mut args = encode(stateid);
        args.extend(encode(&0_u64));
        args.extend(encode(&1_u32));
        self.at(fh, Ops::new().op(Op4::Read, &Raw(&args))).status
    }

    /// Renews the lease: what fails does not in 4.0.
    #[track_caller]
    pub(super) fn renew(&mut self) {
        let renew = match &self.link {
            Link::Old(_, clientid) => Ops::new().op(Op4::Renew, clientid),
            Link::New(_) => Ops::new(),
        };
        let status = self.link.call(&renew).status;
        // Who has a delegation and cannot be called is told (RFC 7530 16.28.4).
        assert!(matches!(status, S::Ok | S::CbPathDown), "{status}");
    }

    /// Opens a file once grace is over; the leases of `others` do not run out meanwhile.
    #[track_caller]
    pub(super) fn open_in_time(&mut self, name: &str, others: &mut [&mut Host]) -> Open {
        let end = Instant::now() + LONG;
        loop {
            match self.open(name) {
                Ok(open) => return open,
                Err(status) => assert_eq!(status, S::Grace),
            }
            self.renew();
            others.iter_mut().for_each(|other| other.renew());
            assert!(Instant::now() < end, "grace goes on");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Link {
    #[track_caller]
    fn call(&mut self, ops: &Ops) -> Results {
        match self {
            Link::Old(client, _) => client.compound(0, ops),
            Link::New(session) => session.call(ops),
        }
    }

    pub(super) fn clientid(&self) -> u64 {
        match self {
            Link::Old(_, clientid) => *clientid,
            Link::New(session) => session.clientid,
        }
    }
}

/// `open_delegation4`.
#[track_caller]
pub(super) fn delegation(done: &mut Results) -> Option<(Stateid4, bool)> {
    let kind: u32 = done.more();
    if kind == 0 {
        return None;
    }
    let deleg = (done.more(), done.more());
    if kind == 2 {
        assert_eq!(done.more::<u32>(), 1, "a size");
        done.more::<u64>();
    }
    for _ in 0..3 {
        done.more::<u32>();
    }
    done.more::<Tag4<'_>>();
    Some(deleg)
}

#[track_caller]
fn old(mut client: Client, name: &str) -> Link {
    let clientid = client.setclientid(name, [7; 8]);
    Link::Old(client, clientid)
}

/// One whose grace ends by itself, and whose clients can be expired, while a test waits for it. What must be done within
/// grace takes less on a machine with other work and a slow disk, too.
pub(super) fn hasty() -> TestServer {
    let setup = Setup::default();
    setup
        .args(&["--lease-time", "10s", "--grace-time", "10s"])
        .start()
}

/// All cases at once: what takes long is waiting.
pub(super) fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let test = &test;
            scope.spawn(move || test(case));
        }
    });
}

pub(super) fn refused<T>(result: Result<T, S>) -> bool {
    matches!(result.err(), Some(S::NoGrace | S::ReclaimBad))
}

#[test]
fn open_lock_and_reclaim_complete_in_grace_of_4_1() {
    let mut server = TestServer::start();
    let mut a = Host::ready(&server, 1, "a");
    let mut file = a.open("file").expect("made");
    assert_eq!(a.lock(&mut file, false), S::Ok);
    let mut b = Host::ready(&server, 2, "b");
    let other = b.open("other").expect("made");
    server.kill9();
    server.start_again();
    let mut a = Host::new(&server, 1, "a");
    let mut b = Host::new(&server, 2, "b");
    let mut c = Host::new(&server, 1, "c");
    // A session does not live over a restart, so that nobody has to be told of one by SEQUENCE.
    if let Link::New(session) = &a.link {
        assert_eq!(session.created.flags & PERSIST, 0);
        assert_eq!(session.status & RESTART_RECLAIM_NEEDED, 0);
    }
    for host in [&mut a, &mut b, &mut c] {
        assert_eq!(host.open("file").err(), Some(S::Grace));
        assert_eq!(host.read(&file.fh, &Stateid4::ANONYMOUS), S::Grace);
        assert_eq!(host.read(&file.fh, &file.stateid), S::BadStateid);
    }
    assert_eq!(c.reclaim(&file.fh).err(), Some(S::ReclaimBad));
    assert_eq!(c.complete(), S::Ok);
    assert_eq!(c.open("file").err(), Some(S::Grace), "others may reclaim");
    assert_eq!(c.remove("file"), S::Grace, "who had it open may come");
    let mut again = a.reclaim(&file.fh).expect("held before");
    assert_eq!(a.lock(&mut again, false), S::Grace);
    assert_eq!(a.lock(&mut again, true), S::Ok);
    assert_eq!(a.read(&again.fh, &again.stateid), S::Ok);
    assert_eq!(a.complete(), S::Ok);
    assert_eq!(a.complete(), S::CompleteAlready);
    assert_eq!(a.reclaim(&file.fh).err(), Some(S::NoGrace));
    assert_eq!(a.lock(&mut again, true), S::NoGrace);
    assert_eq!(a.open("new").err(), Some(S::Grace), "one is awaited");
    b.reclaim(&other.fh).expect("held before");
    assert_eq!(b.complete(), S::Ok);
    // Early: it would take 90 s by itself.
    let mut seen = c.open_in_time("file", &mut []);
    assert_eq!(c.lock(&mut seen, false), S::Denied);
    let mut d = Host::new(&server, 1, "d");
    assert_eq!(d.reclaim(&file.fh).err(), Some(S::NoGrace));
    assert_eq!(d.open("file").err(), Some(S::Grace), "nothing said yet");
    assert_eq!(d.complete(), S::Ok);
    d.open("file").expect("grace is over");
    b.open("new").expect("grace is over");
    assert_eq!(b.remove("file"), S::Ok);
    assert_eq!(a.read(&again.fh, &again.stateid), S::Ok, "still open");
}

/// Its holder may have data nobody else has seen: a delegation is given back even to a client that cannot be called, to
/// be returned at once.
#[test]
fn open_reclaims_a_delegation_without_a_way_back() {
    let mut server = TestServer::start();
    let mut a = Host::ready(&server, 1, "a");
    let file = a.open("file").expect("made");
    server.kill9();
    server.start_again();
    let mut a = Host::new(&server, 1, "a");
    for kind in [1_u32, 2] {
        let again = a.reclaim_as(&file.fh, (BOTH, 0), kind).expect("held");
        let (deleg, at_once) = again.deleg.expect("the delegation");
        assert!(at_once, "to be returned at once");
        let back = a.at(&file.fh, Ops::new().op(Op4::Delegreturn, &deleg));
        assert_eq!(back.status, S::Ok);
    }
}

#[test]
fn open_lock_and_renew_in_grace_of_4_0() {
    let mut server = hasty();
    let mut a = Host::ready(&server, 0, "a");
    let mut file = a.open("file").expect("made");
    assert_eq!(a.lock(&mut file, false), S::Ok);
    let clientid = a.link.clientid();
    server.kill9();
    server.start_again();
    let mut stranger = server.client();
    let renew = Ops::new().op(Op4::Renew, &clientid);
    assert_eq!(stranger.compound(0, &renew).status, S::StaleClientid);
    drop(stranger);
    let mut a = Host::new(&server, 0, "a");
    let mut c = Host::new(&server, 0, "c");
    assert_eq!(a.read(&file.fh, &file.stateid), S::StaleStateid);
    assert_eq!(a.lock(&mut file, true), S::StaleStateid);
    let mut again = a.reclaim(&file.fh).expect("held before");
    assert_eq!(a.lock(&mut again, true), S::Ok);
    assert_eq!(a.open("new").err(), Some(S::Grace));
    assert_eq!(c.reclaim(&file.fh).err(), Some(S::ReclaimBad));
    // Nothing but time ends it.
    let mut seen = c.open_in_time("file", &mut [&mut a]);
    assert_eq!(c.lock(&mut seen, false), S::Denied);
    assert_eq!(a.reclaim(&file.fh).err(), Some(S::NoGrace));
    assert_eq!(a.lock(&mut again, true), S::NoGrace);
    a.open("new").expect("grace is over");
}

#[test]
fn no_grace_when_there_is_nothing_to_reclaim() {
    let mut server = TestServer::start();
    let mut a = Host::ready(&server, 1, "a");
    if let Link::New(session) = a.link {
        drop(session.end());
    }
    server.kill9();
    server.start_again();
    a = Host::ready(&server, 1, "b");
    a.open("file").expect("at once");
    let mut old = Host::ready(&server, 0, "b");
    old.open("file").expect("at once");
}

#[test]
fn an_orderly_stop_takes_nothing_from_anybody() {
    for minor in [0, 1] {
        let mut server = TestServer::start();
        let mut a = Host::ready(&server, minor, "a");
        let mut file = a.open("file").expect("made");
        assert_eq!(a.lock(&mut file, false), S::Ok);
        drop(a);
        server.restart();
        let mut a = Host::new(&server, minor, "a");
        assert_eq!(a.open("file").err(), Some(S::Grace));
        let mut again = a.reclaim(&file.fh).expect("held before");
        assert_eq!(a.lock(&mut again, true), S::Ok);
    }
}

#[test]
fn killed_again_within_grace() {
    for minor in [0, 1] {
        let mut server = TestServer::start();
        let mut a = Host::ready(&server, minor, "a");
        let mut file = a.open("file").expect("made");
        assert_eq!(a.lock(&mut file, false), S::Ok);
        for said in [false, false, true] {
            server.kill9();
            server.start_again();
            let mut a = Host::new(&server, minor, "a");
            if said {
                let mut again = a.reclaim(&file.fh).expect("still held");
                assert_eq!(a.lock(&mut again, true), S::Ok);
                assert_eq!(a.complete(), S::Ok);
            } else {
                a.reclaim(&file.fh).expect("still held");
            }
        }
        server.kill9();
        server.start_again();
        let mut a = Host::new(&server, minor, "a");
        let mut again = a.reclaim(&file.fh).expect("said to be all, and held");
        assert_eq!(a.lock(&mut again, true), S::Ok);
    }
}

/// What a client does between two restarts while others get what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Introduces,
    ReclaimsPart,
}

/// The second edge condition of RFC 8881 8.4.3: grace went by without the client, somebody else had the lock, the
/// server restarts again.
#[test]
fn what_was_not_reclaimed_in_time_is_never_reclaimed() {
    use Between::{Introduces, Nothing, ReclaimsPart};
    at_once(
        [
            (0, Nothing),
            (0, Introduces),
            (0, ReclaimsPart),
            (1, Nothing),
            (1, Introduces),
            (1, ReclaimsPart),
        ],
        |(minor, between)| {
            let what = format!("4.{minor} {between:?}");
            let mut server = hasty();
            let mut a = Host::ready(&server, minor, "a");
            let mut file = a.open("file").expect("made");
            let other = a.open("other").expect("made");
            assert_eq!(a.lock(&mut file, false), S::Ok);
            server.kill9();
            server.start_again();
            let mut a = (between != Nothing).then(|| Host::new(&server, minor, "a"));
            if let (Some(a), ReclaimsPart) = (&mut a, between) {
                a.reclaim(&other.fh).expect("held before");
            }
            let mut b = Host::ready(&server, minor, "b");
            let mut got = b.open_in_time("file", &mut []);
            assert_eq!(b.lock(&mut got, false), S::Ok, "{what}");
            server.kill9();
            server.start_again();
            let mut a = Host::new(&server, minor, "a");
            assert!(refused(a.reclaim(&file.fh)), "{what}");
            let mut b = Host::new(&server, minor, "b");
            let mut again = b.reclaim(&file.fh).expect("held before");
            assert_eq!(b.lock(&mut again, true), S::Ok, "{what}");
        },
    );
}

/// The first edge condition of RFC 8881 8.4.3: the lease ran out, somebody else had the lock, the server restarts. It is
/// killed as soon as the other one has its answer.
#[test]
fn what_an_expired_client_held_is_never_reclaimed() {
    at_once([0, 1], |minor| {
        let mut server = hasty();
        let mut a = Host::ready(&server, minor, "a");
        let mut file = a.open("file").expect("made");
        assert_eq!(a.lock(&mut file, false), S::Ok);
        let mut b = Host::ready(&server, minor, "b");
        let mut got = b.open("file").expect("shared");
        let end = Instant::now() + LONG;
        loop {
            match b.lock(&mut got, false) {
                S::Ok => break,
                status => assert_eq!(status, S::Denied),
            }
            assert!(Instant::now() < end, "it is not expired");
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill9();
        server.start_again();
        let mut a = Host::new(&server, minor, "a");
        assert!(refused(a.reclaim(&file.fh)), "4.{minor}");
        let mut b = Host::new(&server, minor, "b");
        let mut again = b.reclaim(&file.fh).expect("held before");
        assert_eq!(b.lock(&mut again, true), S::Ok, "4.{minor}");
    });
}
