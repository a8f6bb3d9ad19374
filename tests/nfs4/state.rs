//! Opens, locks, and reading and writing under them, of 4.0 and 4.1.

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::commit::CommitArgs;
use nfsd::nfs4::op::lock::Lock4Denied;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, Results, fattr, mode4};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::TestServer;

use super::at_export;

pub(super) const READ: u32 = 1;
pub(super) const BOTH: u32 = 3;
pub(super) const DENY_NONE: u32 = 0;
pub(super) const DENY_WRITE: u32 = 2;

/// What is opened: arguments from `openhow` on.
#[derive(Clone, Copy)]
pub(super) enum What<'a> {
    Name(&'a [u8]),
    Make(&'a [u8]),
    Empty(&'a [u8]),
    Again(DelegationOfOld),
    Fh,
}

/// No delegation was held.
#[derive(Clone, Copy)]
pub(super) struct DelegationOfOld;

impl What<'_> {
    fn bytes(self) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(encode).collect() };
        let mut out = Vec::new();
        match self {
            What::Name(name) => {
                out.extend(words(&[0, 0]));
                out.extend(encode(&Component4(name)));
            }
            What::Make(name) => {
                out.extend(words(&[1, 0]));
                out.extend(mode4(0o640));
                out.extend(words(&[0]));
                out.extend(encode(&Component4(name)));
            }
            What::Empty(name) => {
                out.extend(words(&[1, 0]));
                out.extend(fattr(&[(4, encode(&0_u64))]));
                out.extend(words(&[0]));
                out.extend(encode(&Component4(name)));
            }
            What::Again(DelegationOfOld) => out.extend(words(&[0, 1, 0])),
            What::Fh => out.extend(words(&[0, 4])),
        }
        out
    }
}

/// OPEN.
pub(super) fn open(
    ops: Ops,
    seqid: u32,
    shares: (u32, u32),
    owner: (u64, &[u8]),
    what: What<'_>,
) -> Ops {
    let mut args = encode(&seqid);
    args.extend(encode(&shares.0));
    args.extend(encode(&shares.1));
    let (clientid, owner) = owner;
    let owner = OwnerName4(owner);
    args.extend(encode(&StateOwner4 { clientid, owner }));
    args.extend(what.bytes());
    ops.op(Op4::Open, &Raw(&args))
}

/// The results of OPEN: its stateid and flags.
pub(super) fn opened(done: &mut Results) -> (Stateid4, u32) {
    let stateid = done.body(Op4::Open);
    done.more::<ChangeInfo4>();
    let rflags = done.more();
    done.more::<Bitmap4>();
    assert_eq!(done.more::<u32>(), 0, "no delegation");
    (stateid, rflags)
}

pub(super) fn read(ops: Ops, stateid: &Stateid4, count: u32) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&0_u64));
    args.extend(encode(&count));
    ops.op(Op4::Read, &Raw(&args))
}

pub(super) fn write(ops: Ops, stateid: &Stateid4, data: &[u8]) -> Ops {
    let mut args = encode(stateid);
    args.extend(encode(&0_u64));
    args.extend(encode(&2_u32));
    args.extend(encode(&Data4(data)));
    ops.op(Op4::Write, &Raw(&args))
}

fn data(done: &mut Results) -> (bool, Vec<u8>) {
    let eof = done.body(Op4::Read);
    (eof, done.more::<Data4<'_>>().0.to_vec())
}

/// LOCK, the first under an open.
pub(super) fn lock(
    ops: Ops,
    seqid: u32,
    stateid: &Stateid4,
    owner: (u64, &[u8]),
    range: (u64, u64),
) -> Ops {
    let mut args = encode(&2_u32);
    args.extend(encode(&false));
    args.extend(encode(&range.0));
    args.extend(encode(&range.1));
    args.extend(encode(&true));
    args.extend(encode(&seqid));
    args.extend(encode(stateid));
    args.extend(encode(&7_u32));
    let (clientid, owner) = owner;
    let owner = OwnerName4(owner);
    args.extend(encode(&StateOwner4 { clientid, owner }));
    ops.op(Op4::Lock, &Raw(&args))
}

/// LOCKU.
pub(super) fn unlock(ops: Ops, seqid: u32, stateid: &Stateid4) -> Ops {
    let mut args = encode(&2_u32);
    args.extend(encode(&seqid));
    args.extend(encode(stateid));
    args.extend(encode(&0_u64));
    args.extend(encode(&u64::MAX));
    ops.op(Op4::Locku, &Raw(&args))
}

pub(super) fn close(ops: Ops, seqid: u32, stateid: &Stateid4) -> Ops {
    let mut args = encode(&seqid);
    args.extend(encode(stateid));
    ops.op(Op4::Close, &Raw(&args))
}

/// A client with a session, and the root of the export.
struct Sessioned {
    session: Session,
    clientid: u64,
    root: Fh,
}

impl Sessioned {
    fn new(server: &TestServer, name: &[u8]) -> Self {
        let mut terms = Terms::new(1).named(name);
        terms.reclaim_complete = false;
        Self::on(server, &terms)
    }

    /// One that has nothing to reclaim.
    fn ready(server: &TestServer, name: &[u8]) -> Self {
        Self::on(server, &Terms::new(1).named(name))
    }

    fn on(server: &TestServer, terms: &Terms) -> Self {
        let (client, root) = at_export(server);
        let session = Session::on(client, terms);
        Sessioned {
            clientid: session.clientid,
            session,
            root,
        }
    }

    /// Runs operations behind SEQUENCE.
    fn run(&mut self, ops: Ops) -> Results {
        self.session.call(&ops)
    }

    /// Runs operations on a file.
    fn at(&mut self, fh: &[u8], ops: Ops) -> Results {
        self.session.at(fh, &ops)
    }

    fn open(&mut self, shares: (u32, u32), what: What<'_>) -> Result<(Stateid4, Fh), S> {
        let root = self.root.clone();
        let ops = open(Ops::new(), 0, shares, (0, b"owner"), what).getfh();
        let mut done = self.at(&root, ops);
        if done.status != S::Ok {
            return Err(done.status);
        }
        let (stateid, _) = opened(&mut done);
        Ok((stateid, done.fh()))
    }
}

#[test]
fn open_read_write_commit_and_close_of_4_1() {
    let server = TestServer::start();
    let mut early = Sessioned::new(&server, b"early");
    let make = What::Make(b"file");
    assert_eq!(early.open((BOTH, DENY_NONE), make).err(), Some(S::Grace));
    let mut one = Sessioned::ready(&server, b"one");
    let name = What::Name(b"file");
    assert_eq!(one.open((BOTH, DENY_NONE), name).err(), Some(S::Noent));
    let (stateid, fh) = one.open((BOTH, DENY_NONE), make).expect("made");
    let mut done = one.at(&fh, write(Ops::new(), &stateid, b"hello"));
    assert_eq!(done.body::<u32>(Op4::Write), 5);
    for stateid in [stateid, Stateid4::ANONYMOUS, Stateid4::BYPASS] {
        let mut done = one.at(&fh, read(Ops::new(), &stateid, 100));
        assert_eq!(data(&mut done), (true, b"hello".to_vec()));
    }
    let commit = CommitArgs {
        offset: 0,
        count: 0,
    };
    one.at(&fh, Ops::new().op(Op4::Commit, &commit))
        .body::<Verifier4>(Op4::Commit);
    let mut two = Sessioned::ready(&server, b"two");
    let denied = two.open((READ, DENY_WRITE), name).err();
    assert_eq!(denied, Some(S::ShareDenied));
    let (reader, _) = two.open((READ, DENY_NONE), name).expect("nobody denies");
    let mut done = two.at(&fh, write(Ops::new(), &reader, b"no"));
    assert_eq!(done.status_of(Op4::Write), S::Openmode);
    let mut done = two.at(&fh, read(Ops::new(), &stateid, 100));
    assert_eq!(done.status_of(Op4::Read), S::BadStateid, "another client's");
    let mut done = one.at(&fh, close(Ops::new(), 0, &stateid));
    assert_eq!(done.body::<Stateid4>(Op4::Close), Stateid4::INVALID);
    let mut done = one.at(&fh, close(Ops::new(), 0, &stateid));
    assert_eq!(done.status_of(Op4::Close), S::BadStateid);
    // A file is there for who has it open, with a name or without.
    std::fs::remove_file(server.export().join("file")).expect("there");
    let mut done = two.at(&fh, read(Ops::new(), &reader, 100));
    assert_eq!(data(&mut done), (true, b"hello".to_vec()));
    let mut done = two.at(&fh, close(Ops::new(), 0, &reader));
    done.body::<Stateid4>(Op4::Close);
}

#[test]
fn deny_modes_of_4_1() {
    let server = TestServer::start();
    let mut one = Sessioned::ready(&server, b"one");
    let mut two = Sessioned::ready(&server, b"two");
    let (stateid, fh) = one
        .open((BOTH, DENY_WRITE), What::Make(b"file"))
        .expect("made");
    let mut done = one.at(&fh, write(Ops::new(), &stateid, b"hello"));
    done.body::<u32>(Op4::Write);
    let mut done = two.at(&fh, write(Ops::new(), &Stateid4::ANONYMOUS, b"no"));
    assert_eq!(done.status_of(Op4::Write), S::Locked);
    // A size must wait for who denies writing.
    let refused = two.open((BOTH, DENY_NONE), What::Empty(b"file")).err();
    assert_eq!(refused, Some(S::ShareDenied));
    let kept = std::fs::read(server.export().join("file")).expect("there");
    assert_eq!(kept, b"hello");
    one.at(&fh, close(Ops::new(), 0, &stateid)).ok(Op4::Close);
    let emptied = two.open((BOTH, DENY_NONE), What::Empty(b"file"));
    assert!(emptied.is_ok());
    let kept = std::fs::read(server.export().join("file")).expect("there");
    assert_eq!(kept, b"");
    let again = What::Again(DelegationOfOld);
    assert_eq!(two.open((READ, DENY_NONE), again).err(), Some(S::NoGrace));
    let mut done = two.at(&fh, open(Ops::new(), 0, (READ, 0), (0, b"x"), What::Fh));
    opened(&mut done);
}

#[test]
fn lock_lockt_locku_free_stateid_and_test_stateid_of_4_1() {
    let server = TestServer::start();
    let mut one = Sessioned::ready(&server, b"one");
    let mut two = Sessioned::ready(&server, b"two");
    let (mine, fh) = one
        .open((BOTH, DENY_NONE), What::Make(b"file"))
        .expect("made");
    let (theirs, _) = two
        .open((BOTH, DENY_NONE), What::Name(b"file"))
        .expect("there");
    let to_end = (5, u64::MAX);
    let mut done = one.at(&fh, lock(Ops::new(), 0, &mine, (0, b"holder"), to_end));
    let locked: Stateid4 = done.body(Op4::Lock);
    let mut done = two.at(&fh, lock(Ops::new(), 0, &theirs, (0, b"l"), (0, 6)));
    assert_eq!(done.status_of(Op4::Lock), S::Denied);
    let denied: Lock4Denied<'_> = done.more();
    assert_eq!((denied.offset, denied.length), (5, u64::MAX));
    assert_eq!(denied.owner.clientid, one.clientid);
    assert_eq!(denied.owner.owner.0, b"holder");
    let mut asked = encode(&1_u32);
    asked.extend(encode(&7_u64));
    asked.extend(encode(&1_u64));
    asked.extend(encode(&0_u64));
    asked.extend(encode(&OwnerName4(b"l")));
    let test = Ops::new().op(Op4::Lockt, &Raw(&asked));
    let mut done = two.at(&fh, test.clone());
    assert_eq!(done.status_of(Op4::Lockt), S::Denied);
    assert_eq!(done.more::<Lock4Denied<'_>>().owner.owner.0, b"holder");
    for range in [(0, 0), (u64::MAX, 2)] {
        let mut done = two.at(&fh, lock(Ops::new(), 0, &theirs, (0, b"l"), range));
        assert_eq!(done.status_of(Op4::Lock), S::Inval);
    }
    let mut done = one.at(&fh, Ops::new().op(Op4::FreeStateid, &locked));
    assert_eq!(done.status_of(Op4::FreeStateid), S::LocksHeld);
    let mut done = one.at(&fh, unlock(Ops::new(), 0, &locked));
    let unlocked: Stateid4 = done.body(Op4::Locku);
    assert_eq!(unlocked.seqid, locked.seqid + 1);
    two.at(&fh, test).ok(Op4::Lockt);
    let mut done = one.at(&fh, read(Ops::new(), &locked, 1));
    assert_eq!(done.status_of(Op4::Read), S::OldStateid);
    let mut tested = encode(&2_u32);
    tested.extend(encode(&unlocked));
    tested.extend(encode(&theirs));
    let mut done = one.run(Ops::new().op(Op4::TestStateid, &Raw(&tested)));
    assert_eq!(done.body::<u32>(Op4::TestStateid), 2);
    assert_eq!((done.more(), done.more()), (S::Ok, S::BadStateid));
    one.at(&fh, Ops::new().op(Op4::FreeStateid, &unlocked))
        .ok(Op4::FreeStateid);
    let mut done = two.at(&fh, lock(Ops::new(), 0, &theirs, (0, b"l"), (0, 6)));
    done.body::<Stateid4>(Op4::Lock);
}

#[test]
fn open_downgrade_of_4_1() {
    let server = TestServer::start();
    let mut one = Sessioned::ready(&server, b"one");
    let (first, fh) = one
        .open((READ, DENY_NONE), What::Make(b"file"))
        .expect("made");
    let (second, _) = one
        .open((BOTH, DENY_NONE), What::Name(b"file"))
        .expect("there");
    assert_eq!(second.other, first.other);
    let downgrade = |stateid: &Stateid4, access: u32| {
        let mut args = encode(stateid);
        for word in [0, access, 0] {
            args.extend(encode(&word));
        }
        Ops::new().op(Op4::OpenDowngrade, &Raw(&args))
    };
    for access in [0, 2, 4] {
        let mut done = one.at(&fh, downgrade(&second, access));
        assert_eq!(done.status_of(Op4::OpenDowngrade), S::Inval, "{access}");
    }
    let mut done = one.at(&fh, downgrade(&first, READ));
    assert_eq!(done.status_of(Op4::OpenDowngrade), S::OldStateid);
    let mut done = one.at(&fh, downgrade(&second, READ));
    let third: Stateid4 = done.body(Op4::OpenDowngrade);
    assert_eq!(third.seqid, second.seqid + 1);
    let mut done = one.at(&fh, write(Ops::new(), &third, b"x"));
    assert_eq!(done.status_of(Op4::Write), S::Openmode);
}

#[test]
fn delegreturn_and_delegpurge_without_delegations() {
    let server = TestServer::start();
    let mut one = Sessioned::ready(&server, b"one");
    let (stateid, fh) = one
        .open((READ, DENY_NONE), What::Make(b"file"))
        .expect("made");
    let mut done = one.at(&fh, Ops::new().op(Op4::Delegreturn, &stateid));
    assert_eq!(done.status_of(Op4::Delegreturn), S::BadStateid);
    let clientid = one.clientid;
    let mut done = one.run(Ops::new().op(Op4::Delegpurge, &clientid));
    assert_eq!(done.status_of(Op4::Delegpurge), S::Notsupp);
}

/// Delegations do not outlive their client's own restart: what claims or purges such is not supported, and leaves nothing.
#[test]
fn delegations_from_before_the_clients_restart_are_not_supported() {
    let server = TestServer::start();
    let (mut old, root, clientid) = client_40(&server);
    let mut one = Sessioned::ready(&server, b"one");
    let claim = |number: u32, minor: u32| {
        // CLAIM_DELEGATE_PREV takes a name, CLAIM_DELEG_PREV_FH the current filehandle.
        let mut args: Vec<u8> = [1, READ, DENY_NONE].iter().flat_map(encode).collect();
        let owner = OwnerName4(b"owner");
        let clientid = if minor == 0 { clientid } else { 0 };
        args.extend(encode(&StateOwner4 { clientid, owner }));
        args.extend([0, number].iter().flat_map(encode));
        if number == 3 {
            args.extend(encode(&Component4(b"file")));
        }
        Ops::new().op(Op4::Open, &Raw(&args))
    };
    let (_, fh) = one
        .open((READ, DENY_NONE), What::Make(b"file"))
        .expect("made");
    let mut at = |fh: &[u8], ops: Ops| {
        let mut done = old.compound(0, &Ops::new().putfh(fh).then(&ops));
        done.ok(Op4::Putfh);
        done
    };
    assert_eq!(at(&root, claim(3, 0)).status_of(Op4::Open), S::Notsupp);
    // 4.0 does not know that one.
    assert_eq!(at(&fh, claim(6, 0)).status_of(Op4::Open), S::Badxdr);
    for (fh, number) in [(&root, 3), (&fh, 6)] {
        let mut done = one.at(fh, claim(number, 1));
        assert_eq!(done.status_of(Op4::Open), S::Notsupp, "{number}");
    }
    for (clientid, expected) in [
        (clientid, S::Notsupp),
        (clientid ^ 1 << 40, S::StaleClientid),
    ] {
        let mut done = at(&root, Ops::new().op(Op4::Delegpurge, &clientid));
        assert_eq!(done.status_of(Op4::Delegpurge), expected);
    }
    assert_eq!(server.stat("nfs4.opens"), 1, "that of the file made");
}

/// A 4.0 client and its root.
pub(super) fn client_40(server: &TestServer) -> (Client, Fh, u64) {
    let (mut client, root) = at_export(server);
    let clientid = client.setclientid("forty", [3; 8]);
    (client, root, clientid)
}

#[test]
fn open_confirm_release_lockowner_and_seqids_of_4_0() {
    let server = TestServer::start();
    let (mut client, root, clientid) = client_40(&server);
    let owner = (clientid, &b"owner"[..]);
    let mut at = |fh: &[u8], ops: Ops| {
        let mut done = client.compound(0, &Ops::new().putfh(fh).then(&ops));
        done.ok(Op4::Putfh);
        done
    };
    let make = open(Ops::new(), 9, (BOTH, DENY_NONE), owner, What::Make(b"f")).getfh();
    let mut done = at(&root, make.clone());
    let (stateid, rflags) = opened(&mut done);
    assert_eq!(rflags & 2, 2, "to be confirmed");
    let fh = done.fh();
    // Asked again, the same answer, the current filehandle included.
    let mut done = at(&root, make);
    assert_eq!(opened(&mut done), (stateid, rflags));
    assert_eq!(done.fh(), fh);
    let mut done = at(&fh, write(Ops::new(), &stateid, b"x"));
    assert_eq!(done.status_of(Op4::Write), S::BadStateid);
    let mut confirm = encode(&stateid);
    confirm.extend(encode(&10_u32));
    let confirm = Ops::new().op(Op4::OpenConfirm, &Raw(&confirm));
    let confirmed: Stateid4 = at(&fh, confirm.clone()).body(Op4::OpenConfirm);
    assert_eq!(
        at(&fh, confirm).body::<Stateid4>(Op4::OpenConfirm),
        confirmed
    );
    let mut done = at(&fh, write(Ops::new(), &confirmed, b"x"));
    assert_eq!(done.body::<u32>(Op4::Write), 1);
    let bad = open(Ops::new(), 20, (READ, DENY_NONE), owner, What::Name(b"f"));
    assert_eq!(at(&root, bad).status_of(Op4::Open), S::BadSeqid);
    let locker = (clientid, &b"locker"[..]);
    let mut done = at(&fh, lock(Ops::new(), 11, &confirmed, locker, (0, 5)));
    let locked: Stateid4 = done.body(Op4::Lock);
    let mut release = encode(&clientid);
    release.extend(encode(&OwnerName4(b"locker")));
    let release = Ops::new().op(Op4::ReleaseLockowner, &Raw(&release));
    let mut done = at(&fh, release.clone());
    assert_eq!(done.status_of(Op4::ReleaseLockowner), S::LocksHeld);
    at(&fh, unlock(Ops::new(), 8, &locked)).ok(Op4::Locku);
    at(&fh, release).ok(Op4::ReleaseLockowner);
    let ops = close(Ops::new(), 12, &confirmed);
    let closed: Stateid4 = at(&fh, ops.clone()).body(Op4::Close);
    assert_eq!(at(&fh, ops).body::<Stateid4>(Op4::Close), closed);
    let mut stale = confirmed;
    stale.other.0[0] ^= 1;
    let mut done = at(&fh, read(Ops::new(), &stale, 1));
    assert_eq!(done.status_of(Op4::Read), S::StaleStateid);
}
