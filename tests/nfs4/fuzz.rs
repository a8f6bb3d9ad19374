//! Mutated COMPOUNDs against a running server: valid ones, outside and inside sessions, with bytes, operations and
//! lengths changed. The server answers each or closes the connection, answers with what an operation may answer, lives,
//! and has leaked nothing at the end.
//!
//! `RINGNFS_FUZZ_SEED` repeats a run, `RINGNFS_FUZZ_COMPOUNDS` is its length; `RINGNFS_SOAK=1` makes it long.

#[path = "fuzz/newer.rs"]
mod newer;

use std::os::unix::fs::OpenOptionsExt as _;

use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::{Flags, create_session::*, exchange_id::*, row, sequence::SequenceArgs};
use nfsd::nfs4::status::{Nfsstat4, permitted};
use nfsd::nfs4::types::*;
use nfsd::nfs4::{MINOR_MAX, Op4};
use nfsd::xdr::Dec;
use rustix::fs::OFlags;
use tests::client::nfs4::{COMPOUND, Ops, Raw, fattr, mode4};
use tests::client::{Answer, Client, Fh, PATIENCE, encode, framed};
use tests::daemon::{Setup, TestServer, fresh_dir};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need::{have, number, soak};

/// Reproducible numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// An operation: number and arguments.
type Part = (u32, Vec<u8>);

fn part(op: Op4, args: Vec<u8>) -> Part {
    (op.wire(), args)
}

fn bare(op: Op4) -> Part {
    part(op, Vec::new())
}

fn name(op: Op4, name: &str) -> Part {
    part(op, encode(&Component4(name.as_bytes())))
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// What compounds are made of.
struct Material {
    root: Fh,
    dir: Fh,
    file: Fh,
    link: Fh,
    clientid: u64,
    /// Stateids that answers brought.
    stateids: Vec<Stateid4>,
    /// In a session: client IDs with the number of their next CREATE_SESSION, and sessions.
    clients: Vec<(u64, u32)>,
    sessions: Vec<Sessionid4>,
    /// The export is a small file system of its own, which may be filled.
    bounded: bool,
}

/// Names there are and names there are not.
const NAMES: [&str; 7] = ["dir", "file", "link", "a", "b", "new", "."];

impl Material {
    fn stateid(&self, n: &mut Numbers) -> Vec<u8> {
        let special = [Stateid4::ANONYMOUS, Stateid4::BYPASS, Stateid4::CURRENT];
        let known = [special.as_slice(), &self.stateids].concat();
        encode(&n.of(&known))
    }

    fn owner(&self, n: &mut Numbers) -> Vec<u8> {
        let clientid = self.clientid;
        encode(&StateOwner4 {
            clientid,
            owner: OwnerName4(n.of(&[b"one".as_slice(), b"two"])),
        })
    }

    fn fh(&self, n: &mut Numbers) -> Part {
        let fh = n.of(&[
            &self.root, &self.dir, &self.dir, &self.file, &self.file, &self.link,
        ]);
        part(Op4::Putfh, encode(&NfsFh4(fh)))
    }

    /// OPEN of a name, creating it or not, or of the current file.
    fn open(&self, n: &mut Numbers) -> Part {
        let seqid = encode(&(n.below(4) as u32));
        let shares = join(&[
            &encode(&(1 + n.below(3) as u32)),
            &encode(&(n.below(4) as u32)),
        ]);
        let how = match n.below(4) {
            0 => join(&[&encode(&1_u32), &encode(&0_u32), &mode4(0o640)]),
            1 => join(&[&encode(&1_u32), &encode(&1_u32), &mode4(0o600)]),
            2 => join(&[&encode(&1_u32), &encode(&2_u32), &[7; 8]]),
            _ => encode(&0_u32),
        };
        let claim = match n.below(5) {
            0 => encode(&4_u32),
            _ => join(&[
                &encode(&0_u32),
                &encode(&Component4(n.of(&NAMES).as_bytes())),
            ]),
        };
        part(
            Op4::Open,
            join(&[&seqid, &shares, &self.owner(n), &how, &claim]),
        )
    }

    /// LOCK, LOCKT or LOCKU.
    fn lock(&self, n: &mut Numbers) -> Part {
        let kind = encode(&(1 + n.below(2) as u32));
        let range = join(&[
            &encode(&n.of(&[0_u64, 10, u64::MAX])),
            &encode(&n.of(&[1_u64, 100, u64::MAX])),
        ]);
        let (seqid, stateid) = (encode(&(n.below(4) as u32)), self.stateid(n));
        match n.below(4) {
            0 => part(Op4::Lockt, join(&[&kind, &range, &self.owner(n)])),
            1 => part(Op4::Locku, join(&[&kind, &seqid, &stateid, &range])),
            2 => {
                let owner = join(&[&encode(&true), &seqid, &stateid, &seqid, &self.owner(n)]);
                part(Op4::Lock, join(&[&kind, &encode(&false), &range, &owner]))
            }
            _ => {
                let owner = join(&[&encode(&false), &stateid, &seqid]);
                part(Op4::Lock, join(&[&kind, &encode(&false), &range, &owner]))
            }
        }
    }

    fn io(&self, n: &mut Numbers) -> Part {
        let at = encode(&n.of(&[0_u64, 4095, 1 << 40]));
        let stateid = self.stateid(n);
        match n.below(4) {
            0 => part(
                Op4::Read,
                join(&[&stateid, &at, &encode(&n.of(&[0_u32, 1, 5000, u32::MAX]))]),
            ),
            1 => {
                let data = encode(&Data4(&[b'x'; 300][..n.below(300)]));
                part(
                    Op4::Write,
                    join(&[&stateid, &at, &encode(&(n.below(3) as u32)), &data]),
                )
            }
            2 => part(Op4::Commit, join(&[&at, &encode(&0_u32)])),
            _ => part(Op4::Close, join(&[&encode(&(n.below(4) as u32)), &stateid])),
        }
    }

    /// Attributes asked for, set and compared.
    fn attributes(&self, n: &mut Numbers) -> Part {
        let all = Bitmap4::of(&[
            bit::TYPE,
            bit::SIZE,
            bit::FSID,
            bit::OWNER,
            bit::MODE,
            bit::SPACE_FREE,
        ]);
        let size = fattr(&[(bit::SIZE, encode(&(n.next() % 100_000)))]);
        match n.below(6) {
            0 => part(Op4::Getattr, encode(&all)),
            1 => part(Op4::Setattr, join(&[&self.stateid(n), &size])),
            2 => part(Op4::Setattr, join(&[&self.stateid(n), &mode4(0o755)])),
            3 => part(Op4::Verify, size),
            4 => part(Op4::Nverify, mode4(0o755)),
            _ => {
                let place = [0, n.of(&[0, 512, 1 << 40])]
                    .map(|word: u64| encode(&word))
                    .concat();
                let sizes = join(&[&encode(&1000_u32), &encode(&(n.below(9000) as u32))]);
                part(Op4::Readdir, join(&[&place, &sizes, &encode(&all)]))
            }
        }
    }

    fn names(&self, n: &mut Numbers) -> Part {
        let one = n.of(&NAMES);
        match n.below(7) {
            0 => name(Op4::Lookup, one),
            1 => name(Op4::Remove, one),
            2 => name(Op4::Link, one),
            3 => name(Op4::Secinfo, one),
            4 => {
                let other = n.of(&NAMES);
                let both = [one, other].map(|name| encode(&Component4(name.as_bytes())));
                part(Op4::Rename, both.concat())
            }
            5 => {
                let dir = encode(&NfsFtype4::Dir);
                part(
                    Op4::Create,
                    join(&[&dir, &encode(&Component4(one.as_bytes())), &mode4(0o755)]),
                )
            }
            _ => {
                let link = join(&[&encode(&NfsFtype4::Lnk), &encode(&Linktext4(b"file"))]);
                part(
                    Op4::Create,
                    join(&[&link, &encode(&Component4(one.as_bytes())), &mode4(0o755)]),
                )
            }
        }
    }

    /// Operations on clients and state without a filehandle.
    fn state(&self, n: &mut Numbers) -> Part {
        match n.below(5) {
            0 => part(Op4::Renew, encode(&self.clientid)),
            1 => part(Op4::ReleaseLockowner, self.owner(n)),
            2 => part(Op4::TestStateid, join(&[&encode(&1_u32), &self.stateid(n)])),
            3 => part(Op4::FreeStateid, self.stateid(n)),
            _ => part(Op4::ReclaimComplete, encode(&n.of(&[true, false]))),
        }
    }

    /// A few operations that make sense.
    fn compound(&self, n: &mut Numbers) -> Vec<Part> {
        let mut parts = vec![self.fh(n)];
        for _ in 0..=n.below(6) {
            let plain = [
                Op4::Getfh,
                Op4::Savefh,
                Op4::Restorefh,
                Op4::Lookupp,
                Op4::Readlink,
                Op4::Putrootfh,
            ];
            if !self.sessions.is_empty() && n.below(4) == 0 {
                parts.extend(self.newer(n));
                continue;
            }
            if !self.sessions.is_empty() && n.below(30) == 0 {
                parts.push(self.of_sessions(n));
                continue;
            }
            parts.push(match n.below(12) {
                0 => bare(n.of(&plain)),
                1 => self.fh(n),
                2 => self.state(n),
                3 => part(Op4::Access, encode(&(n.next() as u32))),
                4 | 5 => self.open(n),
                6 => self.lock(n),
                7 | 8 => self.io(n),
                9 => self.attributes(n),
                _ => self.names(n),
            });
        }
        parts
    }
}

/// Changes one thing.
fn mutate(parts: &mut Vec<Part>, n: &mut Numbers) {
    let (at, other) = (n.below(parts.len()), n.below(parts.len()));
    match n.below(9) {
        0 => parts.swap(at, other),
        1 if parts.len() > 1 => drop(parts.remove(at)),
        2 => parts.insert(at, parts[other].clone()),
        3 => {
            let any = 3 + n.below(75) as u32;
            parts[at].0 = n.of(&[0, 2, 76, 10_044, u32::MAX, any]);
        }
        kind => {
            let args = &mut parts[at].1;
            if args.is_empty() {
                return args.extend([0; 4]);
            }
            let byte = n.below(args.len());
            match kind {
                4 => args[byte] ^= 1 << n.below(8),
                5 => args.truncate(byte),
                6 => args.extend_from_within(byte..),
                _ => {
                    let word = n.of(&[0, 1, u32::MAX, i32::MAX as u32, 1 << 20, n.0 as u32]);
                    let words = args.len() / 4;
                    if let Some(slot) = args.chunks_exact_mut(4).nth(byte.min(words * 4) / 4) {
                        slot.copy_from_slice(&word.to_be_bytes());
                    }
                }
            }
        }
    }
}

fn ops(parts: &[Part]) -> Ops {
    parts
        .iter()
        .fold(Ops::new(), |ops, (number, args)| ops.raw(*number, args))
}

/// What an answer says that can be checked without knowing the results: the last one, if it failed, has no body, and a
/// status that its operation may have.
fn check(answer: &Answer, minor: u32, sent: u32) -> Option<Nfsstat4> {
    answer.outcome().ok()?;
    let bytes = answer.bytes();
    let mut dec = Dec::new(bytes);
    let status: Nfsstat4 = dec.get().expect("a status");
    let _: Tag4<'_> = dec.get().expect("the tag");
    let count = dec.u32().expect("a number of results");
    assert!(count <= sent, "{count} results of {sent} operations");
    if status == Nfsstat4::Ok || count == 0 {
        return Some(status);
    }
    let mut last = Dec::new(&bytes[bytes.len() - 8..]);
    let (number, own) = (last.u32().expect("8 bytes"), last.get::<Nfsstat4>());
    let op = Op4::from_wire(number);
    let body = |op| row(op).is_some_and(|row| row.flags.contains(Flags::FAIL_BODY));
    if let (Some(op), Ok(own)) = (op, own)
        && !body(op)
        && own == status
    {
        assert!(
            permitted(op, minor, status),
            "{op} answers {status} in 4.{minor}"
        );
    }
    Some(status)
}

/// Sends a COMPOUND; its answer, unless the server closes the connection, which is replaced then.
fn send(server: &TestServer, client: &mut Client, args: &[u8]) -> Option<Answer> {
    let (xid, record) = client.build(COMPOUND, &Raw(args));
    let sent = client.send_raw(&framed(&record));
    let mut received = sent.and_then(|()| client.try_record(PATIENCE));
    // Sessions made on the way have callbacks on this connection, which nobody answers.
    while let Ok(Some(record)) = &received
        && record.get(4..8) == Some(&[0; 4])
    {
        received = client.try_record(PATIENCE);
    }
    match received {
        Ok(Some(record)) => {
            assert_eq!(
                record.get(..4),
                Some(&xid.to_be_bytes()[..]),
                "another answer"
            );
            Some(Answer { record })
        }
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => panic!("no answer: {e}"),
        Ok(None) | Err(_) => {
            *client = server.client();
            None
        }
    }
}

/// A server whose export is a small XFS, which can clone, if there may be one.
fn on_small_disk() -> (Option<LoopFs>, TestServer) {
    let dir = fresh_dir();
    let mount = || LoopFs::try_new(&dir.path().join("export"), Fs::Xfs, 400, &[], "noatime");
    let disk = have("mutated_compounds_in_sessions: a disk to fill", &[LOOP]).then(mount);
    // Flushing it would be most of the time.
    let setup = Setup::options("rw,async,no_root_squash,insecure");
    (disk.flatten(), setup.start_in(dir))
}

fn material(server: &TestServer) -> Material {
    let (_, root) = super::at_export(server);
    let mut material = Material {
        dir: Fh::new(),
        file: Fh::new(),
        link: Fh::new(),
        root,
        clientid: 0,
        stateids: Vec::new(),
        clients: Vec::new(),
        sessions: Vec::new(),
        bounded: false,
    };
    material.renew(server);
    material
}

impl Material {
    /// The session in use, besides those that answers brought.
    fn know(&mut self, session: &Session) {
        self.clientid = session.clientid;
        if !self.sessions.contains(&session.id) {
            self.sessions.truncate(4);
            self.sessions.insert(0, session.id);
            self.clients.truncate(4);
            self.clients.insert(0, (session.clientid, session.next));
        }
    }

    /// Mutated operations remove files, and move them; those of the names are other ones then.
    fn renew(&mut self, server: &TestServer) {
        populate(server);
        let mut client = server.client();
        let mut fh = |name: &str| {
            let ops = Ops::new().putfh(&self.root).lookup(name.as_bytes());
            let mut done = client.compound(0, &ops.getfh());
            done.ok(Op4::Putfh);
            done.ok(Op4::Lookup);
            done.fh()
        };
        (self.dir, self.file, self.link) = (fh("dir"), fh("file"), fh("link"));
    }
}

/// What was removed comes back, and files there are go, with the room they take though they may be open.
fn populate(server: &TestServer) {
    let export = server.export();
    for dir in [export.clone(), export.join("dir")] {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                // Where a delegation is out nobody gives it back: not wait for that.
                let at_once = OFlags::NONBLOCK.bits() as i32;
                let mut how = std::fs::File::options();
                let how = how.write(true).truncate(true).custom_flags(at_once);
                let _ = how.open(entry.path());
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    let _ = std::fs::create_dir(export.join("dir"));
    let _ = std::fs::write(export.join("file"), [b'y'; 10_000]);
    let _ = std::os::unix::fs::symlink("file", export.join("link"));
}

/// A run's numbers and its length. The seed is part of the output of a test that fails.
fn run_of(name: &str) -> (Numbers, u64) {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let seed = number("RINGNFS_FUZZ_SEED", since.as_nanos() as u64);
    println!("{name}: RINGNFS_FUZZ_SEED={seed}");
    let length = if soak() { 300_000 } else { 3000 };
    (Numbers(seed), number("RINGNFS_FUZZ_COMPOUNDS", length))
}

/// After everything the server still serves.
fn alive(server: &mut TestServer, answered: u64, length: u64) {
    assert!(server.alive());
    assert!(
        answered * 2 > length,
        "only {answered} of {length} answered"
    );
    let (mut client, root) = super::at_export(server);
    let mut done = client.compound(0, &Ops::new().putfh(&root).getattr(&[bit::TYPE]));
    done.ok(Op4::Putfh);
    assert_eq!(done.attrs().get::<NfsFtype4>(bit::TYPE), NfsFtype4::Dir);
}

/// Keeps the stateid of the first OPEN of an answer.
fn learn(material: &mut Material, parts: &[Part], answer: &Answer) {
    let Some(at) = parts
        .iter()
        .position(|(number, _)| *number == Op4::Open.wire())
    else {
        return;
    };
    let (bytes, open) = (
        answer.bytes(),
        [Op4::Open.wire(), 0].map(u32::to_be_bytes).concat(),
    );
    let found = bytes.windows(8).position(|window| window == open);
    let stateid = found.and_then(|found| Dec::new(&bytes[found + 8..]).get::<Stateid4>().ok());
    if let Some(stateid) = stateid {
        material.stateids.truncate(20);
        material
            .stateids
            .insert(at.min(material.stateids.len()), stateid);
    }
}

/// Establishes a 4.0 client ID.
fn setclientid(client: &mut Client) -> u64 {
    let location = [b"tcp".as_slice(), b"127.0.0.1.0.9"]
        .map(|text| encode(&Component4(text)))
        .concat();
    let args = join(&[
        &[3; 8],
        &encode(&OwnerName4(b"fuzz")),
        &encode(&0x4000_0000_u32),
        &location,
        &encode(&1_u32),
    ]);
    let mut done = client.compound(0, &Ops::new().raw(Op4::Setclientid.wire(), &args));
    let (clientid, confirm): (u64, Verifier4) = (done.body(Op4::Setclientid), done.more());
    let confirmed = join(&[&encode(&clientid), &encode(&confirm)]);
    let ops = Ops::new().raw(Op4::SetclientidConfirm.wire(), &confirmed);
    client.compound(0, &ops).ok(Op4::SetclientidConfirm);
    clientid
}

#[test]
fn mutated_compounds_of_4_0() {
    let mut server = TestServer::start();
    let mut material = material(&server);
    let (mut n, length) = run_of("mutated_compounds_of_4_0");
    let mut client = server.client();
    material.clientid = setclientid(&mut client);
    let (mut answered, mut succeeded) = (0, 0);
    for round in 0..length {
        if round % 50 == 0 {
            material.renew(&server);
        }
        let mut parts = material.compound(&mut n);
        for _ in 0..n.below(6).saturating_sub(2) {
            mutate(&mut parts, &mut n);
        }
        let mut args = ops(&parts).args(0, b"fuzz");
        if n.below(20) == 0 {
            let at = n.below(args.len());
            args[at] ^= 1 << n.below(8);
        }
        // Only those whose header is as it was can be compared with what was sent.
        let whole = args[..16] == ops(&parts).args(0, b"fuzz")[..16];
        let Some(answer) = send(&server, &mut client, &args) else {
            continue;
        };
        answered += 1;
        if whole && check(&answer, 0, parts.len() as u32) == Some(Nfsstat4::Ok) {
            succeeded += 1;
        }
        if answer.outcome().is_ok() {
            learn(&mut material, &parts, &answer);
        }
    }
    assert!(
        succeeded > length / 50,
        "only {succeeded} compounds succeeded whole"
    );
    alive(&mut server, answered, length);
}

/// A session with one slot.
struct Session {
    minor: u32,
    id: Sessionid4,
    seq: u32,
    clientid: u64,
    /// Number of the client's next CREATE_SESSION.
    next: u32,
}

impl Session {
    fn new(client: &mut Client, minor: u32, verifier: u64) -> Session {
        let args = ExchangeIdArgs {
            clientowner: ClientOwner4 {
                verifier: verifier.to_be_bytes(),
                ownerid: OwnerName4(b"fuzz"),
            },
            flags: 0,
            state_protect: StateProtect4A::None,
            client_impl_id: Default::default(),
        };
        let mut done = client.compound(minor, &Ops::new().op(Op4::ExchangeId, &args));
        let id: ExchangeIdRes<'_> = done.body(Op4::ExchangeId);
        let (clientid, sequence) = (id.clientid, id.sequenceid);
        let channel = ChannelAttrs4 {
            headerpadsize: 0,
            maxrequestsize: 1 << 20,
            maxresponsesize: 1 << 20,
            maxresponsesize_cached: 4096,
            maxoperations: 64,
            maxrequests: 4,
            rdma_ird: Default::default(),
        };
        let args = CreateSessionArgs {
            clientid,
            sequence,
            flags: 0,
            fore_chan_attrs: channel.clone(),
            back_chan_attrs: channel,
            cb_program: 0x4000_0000,
            sec_parms: [CallbackSecParms4::None].into_iter().collect(),
        };
        let mut done = client.compound(minor, &Ops::new().op(Op4::CreateSession, &args));
        let made: CreateSessionRes = done.body(Op4::CreateSession);
        Session {
            minor,
            id: made.sessionid,
            seq: 1,
            clientid,
            next: sequence.wrapping_add(1),
        }
    }

    fn sequence(&self, n: &mut Numbers) -> Part {
        let args = SequenceArgs {
            sessionid: self.id,
            sequenceid: self.seq,
            slotid: 0,
            highest_slotid: 0,
            cachethis: n.below(4) == 0,
        };
        part(Op4::Sequence, encode(&args))
    }

    /// Whether SEQUENCE came first in an answer and succeeded: the slot has moved on.
    fn moved(answer: &Answer) -> bool {
        let mut dec = Dec::new(answer.bytes());
        let first = (|| -> nfsd::xdr::Result<_> {
            dec.u32()?;
            dec.get::<Tag4<'_>>()?;
            Ok((dec.u32()?, dec.u32()?, dec.u32()?))
        })();
        matches!(first, Ok((1.., op, 0)) if op == Op4::Sequence.wire())
    }
}

#[test]
fn mutated_compounds_in_sessions() {
    let (disk, mut server) = on_small_disk();
    let mut material = material(&server);
    material.bounded = disk.is_some();
    let (mut n, length) = run_of("mutated_compounds_in_sessions");
    let mut client = server.client();
    let mut session = Session::new(&mut client, 2, 0);
    let (mut answered, mut succeeded, mut sessions) = (0, 0, 1);
    for round in 0..length {
        if round % 50 == 0 {
            material.renew(&server);
        }
        material.know(&session);
        // Some stand alone, without a session; they may well end this one.
        let alone = n.below(15) == 0;
        let mut parts = if alone {
            vec![material.of_sessions(&mut n)]
        } else {
            material.compound(&mut n)
        };
        for _ in 0..n.below(6).saturating_sub(2) {
            mutate(&mut parts, &mut n);
        }
        if !alone {
            parts.insert(0, session.sequence(&mut n));
        }
        // Now and then SEQUENCE, too.
        if n.below(20) == 0 {
            mutate(&mut parts, &mut n);
        }
        let args = ops(&parts).args(session.minor, b"");
        let answer = send(&server, &mut client, &args);
        let Some(answer) = answer.filter(|answer| answer.outcome().is_ok()) else {
            session = Session::new(&mut client, session.minor, session.clientid);
            sessions += 1;
            continue;
        };
        answered += 1;
        if check(&answer, session.minor, parts.len() as u32) == Some(Nfsstat4::Ok) {
            succeeded += 1;
        }
        material.learn_newer(answer.bytes());
        if Session::moved(&answer) {
            session.seq = session.seq.wrapping_add(1);
            learn(&mut material, &parts, &answer);
        } else if !alone {
            let minor = 1 + n.below(MINOR_MAX as usize) as u32;
            session = Session::new(&mut client, minor, n.next() % 3);
            sessions += 1;
        }
    }
    println!("{answered} answered, {succeeded} whole, {sessions} sessions");
    assert!(
        succeeded > length / 50,
        "only {succeeded} compounds succeeded whole"
    );
    alive(&mut server, answered, length);
}
