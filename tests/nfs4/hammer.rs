//! Many clients on few files over sockets: OPEN, OPEN_DOWNGRADE and CLOSE with deny modes, LOCK, LOCKU and LOCKT, OPENs
//! of one owner that nobody has confirmed. Nothing is granted that somebody else's deny mode or lock forbids; afterwards
//! nothing is left, and the server takes no more memory than before.
//!
//! `RINGNFS_SOAK=1` makes them long; `RINGNFS_HAMMER_CYCLES` says how long.

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw};
use tests::client::session::Session;
use tests::client::{Client, Fh, encode};
use tests::daemon::TestServer;
use tests::need::{number, soak};

#[path = "hammer/locks.rs"]
mod locks;

use self::locks::{At, LockModel, Locked};
use super::at_export;
use super::state::{What, client_40, close, open, opened};

const CLIENTS: usize = 64;
const FILES: usize = 8;
const THREADS: usize = 8;
const CONNECTIONS: usize = 16;
/// Bytes of a remembered reply of 4.0, its own aside.
const REMEMBERED: u64 = 192;
/// Bytes the server may have grown by when nobody is left, whatever was done: tables and buffers that have been larger.
const GROWTH: u64 = 3 << 20;
/// And for each cycle, so that what keeps half a kilobyte of each is found out.
const GROWTH_EACH: u64 = 128;

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % n
    }
}

fn cycles(default: u64, long: u64) -> u64 {
    number("RINGNFS_HAMMER_CYCLES", if soak() { long } else { default })
}

/// Bytes of memory the server has.
pub(super) fn resident(server: &TestServer) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    size.and_then(|size| size.parse::<u64>().ok())
        .expect("VmRSS in kB")
        << 10
}

/// Bytes of replies kept for requests that come twice. There are bounds for them, which are above what is done here.
fn remembered(server: &TestServer) -> u64 {
    server.stat("drc.bytes") + server.stat("drc.entries") * REMEMBERED
}

/// Nothing was kept of so many cycles.
#[track_caller]
fn bounded(before: u64, after: u64, cycles: u64) {
    let most = GROWTH + cycles * GROWTH_EACH;
    let grown = after.saturating_sub(before);
    assert!(
        grown < most,
        "{cycles} cycles took {grown} bytes, not {most}"
    );
}

/// What must be as before: descriptors, registered files, buffers.
fn resources(server: &TestServer) -> Vec<(String, u64)> {
    server.forget_clients();
    server.wait_idle();
    let fds = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("descriptors");
    let mut all = vec![("descriptors".to_owned(), fds.count() as u64)];
    let names = ["files.open", "files.registered", "buffers.out", "tasks"];
    all.extend(names.map(|name| (name.to_owned(), server.stat(name))));
    all
}

/// Files of the export, and their handles.
pub(super) fn files(server: &TestServer, count: usize) -> Vec<Fh> {
    let (mut client, root) = at_export(server);
    let handle = |i| {
        let name = format!("f{i}");
        fs::write(server.export().join(&name), b"data").expect("a file");
        let ops = Ops::new().putfh(&root).lookup(name.as_bytes()).getfh();
        let mut done = client.compound(0, &ops);
        done.ok(Op4::Putfh);
        done.ok(Op4::Lookup);
        done.fh()
    };
    (0..count).map(handle).collect()
}

/// Access and deny bits a client has for sure.
type Shares = (u32, u32);

/// What each client has for sure of one file: added to once it knows, taken away before it asks to.
type Model = Mutex<HashMap<usize, Shares>>;

/// One client: its session and what it has open.
struct Player<'a> {
    number: usize,
    session: Session,
    open: HashMap<usize, (Stateid4, Vec<Shares>)>,
    locked: HashMap<usize, Locked>,
    files: &'a [Fh],
    models: &'a [(Model, LockModel)],
    counts: &'a Counts,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    denied: AtomicU64,
    locked: AtomicU64,
    refused: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn seen(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn union(all: &[Shares]) -> Shares {
    let both = |sum: Shares, one: &Shares| (sum.0 | one.0, sum.1 | one.1);
    all.iter().fold((0, 0), both)
}

impl Player<'_> {
    /// Says what it has; nobody else may have what that excludes.
    fn claim(&self, file: usize, shares: Shares) {
        let mut model = self.models[file].0.lock().expect("no panic before");
        for (other, has) in model.iter().filter(|(other, _)| **other != self.number) {
            assert!(
                shares.0 & has.1 == 0 && shares.1 & has.0 == 0,
                "{} has {shares:?} and {other} has {has:?}",
                self.number
            );
        }
        match shares {
            (0, 0) => model.remove(&self.number),
            shares => model.insert(self.number, shares),
        };
    }

    fn step(&mut self, dice: &mut Dice) {
        let file = dice.below(self.files.len() as u64) as usize;
        match (dice.below(16), self.open.contains_key(&file)) {
            (8..=15, true) => self.lock(file, dice),
            (0..=3, _) | (_, false) => {
                let deny = if dice.below(4) == 0 { dice.below(4) } else { 0 };
                self.open_more(file, (1 + dice.below(3) as u32, deny as u32));
            }
            (4 | 5, true) => self.downgrade(file, dice),
            _ => self.close(file),
        }
    }

    fn lock(&mut self, file: usize, dice: &mut Dice) {
        let (open, all) = &self.open[&file];
        let mut at = At {
            client: self.number,
            session: &mut self.session,
            fh: &self.files[file],
            model: &self.models[file].1,
            open: *open,
            access: union(all).0,
        };
        match self.locked.entry(file).or_default().step(&mut at, dice) {
            Some(true) => count(&self.counts.locked),
            Some(false) => count(&self.counts.refused),
            None => {}
        }
    }

    fn open_more(&mut self, file: usize, shares: Shares) {
        let ops = open(Ops::new(), 0, shares, (0, b"owner"), What::Fh);
        let mut done = self.session.at(&self.files[file], &ops);
        if done.status != S::Ok {
            assert_eq!(done.status, S::ShareDenied);
            count(&self.counts.denied);
            return;
        }
        let (stateid, _) = opened(&mut done);
        let (had, all) = self.open.entry(file).or_insert((stateid, Vec::new()));
        let expected = if all.is_empty() { 1 } else { had.seqid + 1 };
        assert_eq!((stateid.seqid, stateid.other), (expected, had.other));
        *had = stateid;
        all.push(shares);
        let now = union(all);
        count(&self.counts.opened);
        self.claim(file, now);
    }

    /// To what one of its OPENs asked for.
    fn downgrade(&mut self, file: usize, dice: &mut Dice) {
        let (stateid, all) = self.open.get_mut(&file).expect("open");
        let to = all[dice.below(all.len() as u64) as usize];
        *all = vec![to];
        let mut args = encode(stateid);
        for word in [0, to.0, to.1] {
            args.extend(encode(&word));
        }
        self.claim(file, to);
        let ops = Ops::new().op(Op4::OpenDowngrade, &Raw(&args));
        let mut done = self.session.at(&self.files[file], &ops);
        let next: Stateid4 = done.body(Op4::OpenDowngrade);
        let (stateid, _) = self.open.get_mut(&file).expect("open");
        assert_eq!(next.seqid, stateid.seqid + 1);
        *stateid = next;
    }

    fn close(&mut self, file: usize) {
        let (stateid, _) = self.open.remove(&file).expect("open");
        self.claim(file, (0, 0));
        if let Some(mut locked) = self.locked.remove(&file) {
            locked.let_go(self.number, &self.models[file].1);
        }
        let ops = close(Ops::new(), 0, &stateid);
        let mut done = self.session.at(&self.files[file], &ops);
        done.body::<Stateid4>(Op4::Close);
    }
}

/// All clients play for so many steps together; half of them close what they have, the other half is gone at once.
fn play(server: &TestServer, files: &[Fh], steps: u64) -> Counts {
    let models: Vec<(Model, LockModel)> = (0..FILES).map(|_| Default::default()).collect();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (models, counts) = (&models, &counts);
            scope.spawn(move || {
                let player = |number| Player {
                    number,
                    session: Session::new(server.client(), 1),
                    open: HashMap::new(),
                    locked: HashMap::new(),
                    files,
                    models,
                    counts,
                };
                let numbers = (0..CLIENTS).filter(|n| n % THREADS == thread);
                let mut players: Vec<_> = numbers.map(player).collect();
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (thread as u64 + 1));
                for _ in 0..steps / THREADS as u64 {
                    let one = dice.below(players.len() as u64) as usize;
                    players[one].step(&mut dice);
                }
                for player in &mut players {
                    if player.number % 16 < 8 {
                        let open: Vec<usize> = player.open.keys().copied().collect();
                        open.into_iter().for_each(|file| player.close(file));
                    }
                }
                for player in players.into_iter().filter(|player| player.open.is_empty()) {
                    player.session.end();
                }
            });
        }
    });
    counts
}

#[test]
fn opens_deny_modes_and_locks_of_64_clients() {
    let server = TestServer::start();
    let files = files(&server, FILES);
    let steps = cycles(10_000, 3_000_000);
    play(&server, &files, (steps / 5).max(2000));
    let before = (resources(&server), resident(&server));
    let start = Instant::now();
    let counts = play(&server, &files, steps);
    let took = start.elapsed();
    let enough = [
        (&counts.opened, 16),
        (&counts.denied, 200),
        (&counts.locked, 50),
        (&counts.refused, 100),
    ];
    let few = |(counter, part): &(&AtomicU64, u64)| seen(counter) <= steps / part;
    assert!(!enough.iter().any(few), "{counts:?}");
    let open = server.state();
    assert_eq!(open.get("nfs4.opens"), open.get("locks.shares"));
    // All clients and what they have go with this.
    assert_eq!(resources(&server), before.0);
    let after = resident(&server);
    println!(
        "{steps} cycles in {took:?}: {counts:?}; resident {} KiB before, {} KiB after",
        before.1 >> 10,
        after >> 10
    );
    bounded(before.1, after, steps);
    // Nobody is in the way any more.
    let mut last = Session::new(server.client(), 1);
    for file in &files {
        let ops = open_all();
        assert_eq!(last.at(file, &ops).status, S::Ok);
    }
}

/// OPEN for everything, with everything denied to others.
fn open_all() -> Ops {
    open(Ops::new(), 0, (3, 3), (0, b"last"), What::Fh)
}

/// One OPEN of an owner that others use at the same time, and now and then what follows it.
fn one_of_many(
    client: &mut Client,
    root: &Fh,
    clientid: u64,
    owner: &[u8],
    dice: &mut Dice,
) -> bool {
    let name = [&b"f0"[..], b"f1"][dice.below(2) as usize];
    let seqid = dice.below(3) as u32;
    let at = Ops::new().putfh(root);
    let ops = open(at, seqid, (1, 0), (clientid, owner), What::Name(name));
    let mut done = client.compound(0, &ops.getfh());
    done.ok(Op4::Putfh);
    if done.status != S::Ok {
        let expected = [S::BadSeqid, S::Delay];
        assert!(expected.contains(&done.status), "{}", done.status);
        return false;
    }
    let (stateid, _) = opened(&mut done);
    let fh = done.fh();
    let next = seqid + 1;
    let follows = match dice.below(64) {
        0 => {
            let args = [encode(&stateid), encode(&next)].concat();
            Ops::new().op(Op4::OpenConfirm, &Raw(&args))
        }
        1..=8 => close(Ops::new(), next, &stateid),
        _ => return true,
    };
    let done = client.compound(0, &Ops::new().putfh(&fh).then(&follows));
    let expected = [S::Ok, S::BadSeqid, S::BadStateid, S::OldStateid, S::Delay];
    assert!(expected.contains(&done.status), "{}", done.status);
    true
}

/// Owners one after the other, each used over all connections at once.
fn unconfirmed(server: &TestServer, cycles: u64) -> u64 {
    const EACH: u64 = 40;
    let (first, root, clientid) = client_40(server);
    let opened = AtomicU64::new(0);
    let owners = cycles.div_ceil(EACH * CONNECTIONS as u64);
    std::thread::scope(|scope| {
        for thread in 0..CONNECTIONS as u64 {
            let (root, opened) = (&root, &opened);
            scope.spawn(move || {
                let mut client = server.client();
                let mut dice = Dice(0x1234_5678_9abc_def1 ^ (thread + 1));
                for owner in 0..owners {
                    let owner = owner.to_be_bytes();
                    for _ in 0..EACH {
                        let did = one_of_many(&mut client, root, clientid, &owner, &mut dice);
                        opened.fetch_add(did.into(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    drop(first);
    // An owner has one open of each of the two files at most.
    let state = server.state();
    let of = |name: &str| state.get(name).copied().unwrap_or(0);
    assert!(of("nfs4.opens") <= 2 * owners, "{state:?}");
    assert!(of("nfs4.open_owners") <= owners, "{state:?}");
    assert_eq!(of("nfs4.opens"), of("locks.shares"), "{state:?}");
    opened.into_inner()
}

#[test]
fn open_of_one_unconfirmed_owner_over_many_connections() {
    let server = TestServer::start();
    files(&server, 2);
    let count = cycles(10_000, 2_000_000);
    unconfirmed(&server, (count / 5).max(2000));
    let before = (resources(&server), resident(&server), remembered(&server));
    let opened = unconfirmed(&server, count);
    assert!(opened > count / 20, "next to nothing was opened: {opened}");
    assert_eq!(resources(&server), before.0);
    let (after, replies) = (
        resident(&server),
        remembered(&server).saturating_sub(before.2),
    );
    println!(
        "{count} cycles: {opened} opened; resident {} KiB before, {} KiB after, {} KiB more of replies",
        before.1 >> 10,
        after >> 10,
        replies >> 10
    );
    bounded(before.1, after.saturating_sub(replies), count);
}
