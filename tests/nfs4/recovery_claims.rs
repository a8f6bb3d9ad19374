//! Everything a client can hold is reclaimed as it was, after each kind of restart: delegations and what is claimed under
//! them, deny modes, locks in pieces, locks of NLM beside those of version 4; and grace lasts exactly as long as somebody
//! may come (RFC 8881 8.4.2, 10.2.1, RFC 7530 9.6.2).

use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{CbOp4, CbRecall4args};
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use nfsd::nlm::types::NlmStat;
use tests::client::encode;
use tests::client::nfs4::{Ops, Raw};
use tests::client::nlm::Host as NlmHost;
use tests::client::session::Terms;
use tests::daemon::{Setup, TestServer};

use super::recovery::{BOTH, Host, LONG, Link, Open, at_once, hasty};

const READ: u32 = 1;
const WRITE: u32 = 2;
/// Delegations, and locks.
const FOR_READING: u32 = 1;
const FOR_WRITING: u32 = 2;
const EOF: u64 = u64::MAX;

/// Locks of one owner under one open.
struct Locks<'o> {
    open: &'o mut Open,
    owner: &'static [u8],
    /// Once there is one.
    stateid: Option<Stateid4>,
    seqid: u32,
}

impl<'o> Locks<'o> {
    fn new(open: &'o mut Open, owner: &'static [u8]) -> Self {
        Locks {
            open,
            owner,
            stateid: None,
            seqid: 0,
        }
    }

    /// LOCK.
    #[track_caller]
    fn lock(&mut self, host: &mut Host, kind: u32, range: (u64, u64), reclaim: bool) -> S {
        let mut args = encode(&kind);
        args.extend(encode(&reclaim));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        args.extend(encode(&self.stateid.is_none()));
        match &self.stateid {
            Some(stateid) => args.extend(encode(stateid)),
            None => {
                args.extend(encode(&self.open.seqid));
                args.extend(encode(&self.open.stateid));
                self.open.seqid += 1;
            }
        }
        args.extend(encode(&self.seqid));
        if self.stateid.is_none() {
            let (clientid, owner) = (host.link.clientid(), OwnerName4(self.owner));
            args.extend(encode(&StateOwner4 { clientid, owner }));
        }
        self.seqid += 1;
        let mut done = host.at(&self.open.fh, Ops::new().op(Op4::Lock, &Raw(&args)));
        if done.status == S::Ok {
            self.stateid = Some(done.body(Op4::Lock));
        }
        done.status
    }

    /// LOCKU.
    #[track_caller]
    fn unlock(&mut self, host: &mut Host, range: (u64, u64)) {
        let mut args = encode(&FOR_WRITING);
        args.extend(encode(&self.seqid));
        args.extend(encode(&self.stateid.expect("locked")));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        self.seqid += 1;
        let mut done = host.at(&self.open.fh, Ops::new().op(Op4::Locku, &Raw(&args)));
        self.stateid = Some(done.body(Op4::Locku));
    }
}

/// Whether a range can be locked (LOCKT).
#[track_caller]
fn is_free(host: &mut Host, fh: &[u8], kind: u32, range: (u64, u64)) -> bool {
    let mut args = encode(&kind);
    args.extend(encode(&range.0));
    args.extend(encode(&range.1));
    let (clientid, owner) = (host.link.clientid(), OwnerName4(b"asks"));
    args.extend(encode(&StateOwner4 { clientid, owner }));
    match host.at(fh, Ops::new().op(Op4::Lockt, &Raw(&args))).status {
        S::Ok => true,
        status => {
            assert_eq!(status, S::Denied);
            false
        }
    }
}

/// Killed, or stopped in order.
fn restart(server: &mut TestServer, killed: bool) {
    if killed {
        server.kill9();
        server.start_again();
    } else {
        server.restart();
    }
}

/// OPEN by name, with shares, of a file that is there.
#[track_caller]
fn open_shared(host: &mut Host, name: &str, shares: (u32, u32)) -> Result<Open, S> {
    let mut how: Vec<u8> = [0_u32, 0].iter().flat_map(encode).collect();
    how.extend(encode(&Component4(name.as_bytes())));
    let root = host.root.clone();
    host.open_by(&root, shares, &how)
}

/// The locks of a process that locked, unlocked in the middle and turned a part into a read lock: the client asks for each
/// piece, and nobody has got more or less than before.
#[test]
fn locks_in_pieces_come_back_as_they_were() {
    let pieces = [
        (FOR_WRITING, (0, 40)),
        (FOR_READING, (60, 20)),
        (FOR_WRITING, (80, 20)),
        (FOR_WRITING, (1 << 40, EOF)),
    ];
    at_once(
        [(0, true), (1, true), (1, false), (2, true)],
        |(minor, killed)| {
            let mut server = hasty();
            let mut a = Host::ready(&server, minor, "a");
            let mut file = a.open("file").expect("made");
            let fh = file.fh.clone();
            let mut locks = Locks::new(&mut file, b"process");
            assert_eq!(locks.lock(&mut a, FOR_WRITING, (0, 100), false), S::Ok);
            assert_eq!(locks.lock(&mut a, FOR_READING, (60, 20), false), S::Ok);
            locks.unlock(&mut a, (40, 20));
            assert_eq!(
                locks.lock(&mut a, FOR_WRITING, (1 << 40, EOF), false),
                S::Ok
            );
            drop(a);
            restart(&mut server, killed);
            let mut a = Host::new(&server, minor, "a");
            let mut open = a.reclaim(&fh).expect("held before");
            let mut locks = Locks::new(&mut open, b"process");
            for (kind, range) in pieces {
                assert_eq!(locks.lock(&mut a, kind, range, true), S::Ok, "{range:?}");
            }
            assert_eq!(a.complete(), S::Ok);
            let mut b = Host::ready(&server, minor, "b");
            b.open_in_time("other", &mut [&mut a]);
            for (kind, (offset, length), free) in [
                (FOR_READING, (0, 40), false),
                (FOR_READING, (39, 1), false),
                (FOR_WRITING, (40, 20), true),
                (FOR_READING, (60, 20), true),
                (FOR_WRITING, (60, 1), false),
                (FOR_WRITING, (79, 1), false),
                (FOR_READING, (80, 1), false),
                (FOR_READING, (99, 1), false),
                (FOR_WRITING, (100, (1 << 40) - 100), true),
                (FOR_READING, (1 << 40, 1), false),
                (FOR_READING, (1 << 50, EOF), false),
            ] {
                let found = is_free(&mut b, &fh, kind, (offset, length));
                assert_eq!(found, free, "4.{minor}: {kind} {offset} {length}");
            }
            // They still are one owner's, to be unlocked at once.
            locks.unlock(&mut a, (0, EOF));
            assert!(is_free(&mut b, &fh, FOR_WRITING, (0, EOF)));
        },
    );
}

/// Deny modes hold from the reclaim on: against other reclaims, and against everybody after grace.
#[test]
fn deny_modes_come_back_and_hold() {
    at_once([0, 1], |minor| {
        let mut server = hasty();
        let mut a = Host::ready(&server, minor, "a");
        let file = a.open("file").expect("made").fh;
        let other = a.open("other").expect("made").fh;
        let mut b = Host::ready(&server, minor, "b");
        open_shared(&mut b, "file", (READ, 0)).expect("shared");
        restart(&mut server, true);
        let mut a = Host::new(&server, minor, "a");
        let mut b = Host::new(&server, minor, "b");
        a.reclaim_as(&other, (READ, WRITE), 0).expect("held before");
        b.reclaim_as(&file, (READ, 0), 0).expect("held before");
        // Only one of the two can be true, and the first was believed.
        for shares in [(WRITE, 0), (BOTH, 0)] {
            let got = b.reclaim_as(&other, shares, 0);
            assert_eq!(got.err(), Some(S::ReclaimConflict), "4.{minor} {shares:?}");
        }
        let got = a.reclaim_as(&file, (WRITE, READ), 0);
        assert_eq!(got.err(), Some(S::ReclaimConflict));
        b.reclaim_as(&other, (READ, 0), 0).expect("not denied");
        assert_eq!((a.complete(), b.complete()), (S::Ok, S::Ok));
        let mut c = Host::ready(&server, minor, "c");
        c.open_in_time("new", &mut [&mut a, &mut b]);
        let got = open_shared(&mut c, "other", (WRITE, 0));
        assert_eq!(got.err(), Some(S::ShareDenied));
        let got = open_shared(&mut c, "file", (READ, READ));
        assert_eq!(got.err(), Some(S::ShareDenied));
        open_shared(&mut c, "other", (READ, 0)).expect("not denied");
    });
}

/// A delegation comes back with its file (CLAIM_PREVIOUS), lets read and write as before, keeps others out, and what was
/// opened under it is claimed when it goes (CLAIM_DELEGATE_CUR, CLAIM_DELEG_CUR_FH), locks and all.
#[test]
fn delegations_come_back_and_are_turned_into_opens() {
    at_once(
        [
            (0, FOR_READING),
            (1, FOR_READING),
            (1, FOR_WRITING),
            (2, FOR_WRITING),
        ],
        |(minor, kind)| {
            let mut server = hasty();
            let mut a = Host::ready(&server, minor, "a");
            let file = a.open("file").expect("made").fh;
            restart(&mut server, true);
            let mut a = Host::by(&server, "a", &Terms::new(minor).called_back());
            let shares = (if kind == FOR_WRITING { BOTH } else { READ }, 0);
            let open = a.reclaim_as(&file, shares, kind).expect("held before");
            let (deleg, at_once) = open.deleg.expect("delegated before");
            // A session can be called back from its beginning on; but the kernel may close the killed server's files
            // late, and until then somebody has this one open.
            assert!(minor > 0 || at_once, "to be returned at once");
            assert_eq!(a.read(&file, &deleg), S::Ok, "4.{minor} {kind}");
            // Not while others may have something to reclaim.
            let root = a.root.clone();
            let mut by_name: Vec<u8> = encode(&0_u32);
            by_name.extend(encode(&2_u32));
            by_name.extend(encode(&deleg));
            by_name.extend(encode(&Component4(b"file")));
            assert_eq!(a.open_by(&root, shares, &by_name).err(), Some(S::Grace));
            assert_eq!(a.complete(), S::Ok);
            let mut b = Host::ready(&server, minor, "b");
            b.open_in_time("other", &mut [&mut a]);
            assert_eq!(
                open_shared(&mut b, "file", (WRITE, 0)).err(),
                Some(S::Delay)
            );
            if let Link::New(session) = &mut a.link {
                let recall = session.callback();
                let args: CbRecall4args<'_> = recall.args(CbOp4::Recall);
                assert_eq!((args.stateid, args.fh.0), (deleg, file.as_slice()));
                session.answer(&recall, S::Ok, &());
            }
            let mut under = a.open_by(&root, shares, &by_name).expect("delegated");
            let mut locks = Locks::new(&mut under, b"process");
            assert_eq!(locks.lock(&mut a, kind, (0, 10), false), S::Ok);
            if minor > 0 {
                let mut by_file: Vec<u8> = encode(&0_u32);
                by_file.extend(encode(&5_u32));
                by_file.extend(encode(&deleg));
                a.open_by(&file, shares, &by_file).expect("delegated");
            }
            let back = a.at(&file, Ops::new().op(Op4::Delegreturn, &deleg));
            assert_eq!(back.status, S::Ok);
            assert!(a.open_by(&root, shares, &by_name).is_err(), "returned");
            b.open("file").expect("returned");
            assert!(!is_free(&mut b, &file, FOR_WRITING, (5, 1)));
        },
    );
}

/// Hosts of NLM and clients of version 4 reclaim in the same grace, in either order, and never the same range.
#[test]
fn nlm_and_version_4_reclaim_in_one_grace() {
    let reclaim = |args: &mut nfsd::nlm::types::LockArgs<'_>| args.reclaim = true;
    at_once([(0, true), (1, true), (1, false)], |(minor, host_first)| {
        let mut server = hasty();
        let mut host = NlmHost::new(server.addr(), "alpha");
        let root = host.mount(&server.export());
        let file3 = host.client.new_file(&root, b"file", 0o666);
        let mut a = Host::ready(&server, minor, "a");
        let mut file = a.open("file").expect("there");
        let fh = file.fh.clone();
        let mut locks = Locks::new(&mut file, b"process");
        assert_eq!(locks.lock(&mut a, FOR_WRITING, (100, 10), false), S::Ok);
        assert_eq!(host.lock(&file3, 1, (0, 10)), NlmStat::Granted);
        restart(&mut server, true);
        host.reconnect(server.addr());
        let mut a = Host::new(&server, minor, "a");
        let grace = NlmStat::DeniedGracePeriod;
        assert_eq!(host.lock(&file3, 1, (50, 1)), grace);
        let back = |host: &mut NlmHost| host.lock_with(&file3, 1, (0, 10), reclaim);
        if host_first {
            assert_eq!(back(&mut host), NlmStat::Granted);
        }
        let mut open = a.reclaim(&fh).expect("held before");
        let mut locks = Locks::new(&mut open, b"process");
        assert_eq!(locks.lock(&mut a, FOR_WRITING, (100, 10), true), S::Ok);
        if host_first {
            let mut more = a.reclaim(&fh).expect("held before");
            let mut locks = Locks::new(&mut more, b"another");
            let got = locks.lock(&mut a, FOR_WRITING, (5, 1), true);
            assert_eq!(got, S::ReclaimConflict);
        } else {
            assert_eq!(back(&mut host), NlmStat::Granted);
            let taken = host.lock_with(&file3, 2, (105, 1), reclaim);
            assert_eq!(taken, NlmStat::Denied);
        }
        assert_eq!(a.complete(), S::Ok);
        // A host cannot say that it has reclaimed all: only time ends this.
        assert_eq!(a.open("new").err(), Some(S::Grace));
        let mut b = Host::ready(&server, minor, "b");
        b.open_in_time("new", &mut [&mut a]);
        for (range, free) in [((0, 10), false), ((10, 90), true), ((100, 10), false)] {
            assert_eq!(is_free(&mut b, &fh, FOR_READING, range), free, "{range:?}");
        }
        assert_eq!(host.lock(&file3, 1, (105, 1)), NlmStat::Denied);
    });
}

/// Grace goes on while a single client may come, and is over when the last one has completed or is gone: never earlier,
/// and long before its time.
#[test]
fn grace_ends_with_the_last_client() {
    for last_leaves in [false, true] {
        let mut server = Setup::default().args(&["--grace-time", "600s"]).start();
        let names = ["a", "b", "c"];
        let files: Vec<_> = names
            .iter()
            .map(|name| Host::ready(&server, 1, name).open(name).expect("made").fh)
            .collect();
        restart(&mut server, true);
        let mut other = Host::ready(&server, 1, "other");
        let mut hosts = Vec::new();
        for (n, (name, fh)) in names.iter().zip(&files).enumerate() {
            assert_eq!(other.open("new").err(), Some(S::Grace), "{name} is awaited");
            let mut host = Host::new(&server, 1, name);
            if n == 2 && last_leaves {
                let Link::New(session) = host.link else {
                    panic!("a session");
                };
                drop(session.end());
                break;
            }
            host.reclaim(fh).expect("held before");
            assert_eq!(other.open("new").err(), Some(S::Grace), "{name} is awaited");
            assert_eq!(host.complete(), S::Ok);
            hosts.push(host);
        }
        other.open_in_time("new", &mut []);
        for (host, fh) in hosts.iter_mut().zip(&files) {
            assert_eq!(host.reclaim(fh).err(), Some(S::NoGrace));
        }
    }
}

/// A client that was returning a delegation when the server restarted has no more of it, though it reclaims it: it answers
/// the recall with BAD_STATEID. It is not punished for that: it may reclaim everything after the next restart.
#[test]
fn a_reclaimed_delegation_its_client_does_not_know_is_forgotten() {
    let mut server = hasty();
    let mut a = Host::ready(&server, 1, "a");
    let file = a.open("file").expect("made").fh;
    restart(&mut server, true);
    let mut a = Host::by(&server, "a", &Terms::new(1).called_back());
    let open = a.reclaim_as(&file, (BOTH, 0), FOR_WRITING);
    assert!(open.expect("held before").deleg.is_some());
    assert_eq!(a.complete(), S::Ok);
    let mut b = Host::ready(&server, 1, "b");
    b.open_in_time("other", &mut [&mut a]);
    let end = Instant::now() + LONG;
    while b.open("file").err() == Some(S::Delay) {
        assert!(Instant::now() < end, "never");
        if let Link::New(session) = &mut a.link
            && let Some(recall) = session.callback_within(Duration::from_millis(50))
        {
            session.answer(&recall, S::BadStateid, &());
        }
        a.renew();
    }
    restart(&mut server, true);
    let mut a = Host::new(&server, 1, "a");
    a.reclaim(&file).expect("held before");
}
