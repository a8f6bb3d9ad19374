//! Many clients and many opens: what each takes of the server's memory, which is bounded, and how long a stateid takes to
//! be found among them, which is printed only. `RINGNFS_SCALE_CLIENTS` and `RINGNFS_SCALE_OPENS` say how many; `RINGNFS_SOAK=1` is 10,000 and 1,000,000.

use std::time::Instant;

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::sequence::{SequenceArgs, SequenceRes};
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, Results};
use tests::client::session::{Created, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::TestServer;
use tests::need::{number, soak};

use super::hammer::{files, resident};
use super::state::{DENY_NONE, READ, What, open, opened};

/// OPENs of one COMPOUND.
const BATCH: usize = 50;
/// Connections clients are made over.
const THREADS: usize = 32;
/// Looked up at a time.
const LOOKED_UP: usize = 100;
/// Most bytes a client with a session of one slot takes, and an open: half as much again as they do, and what the
/// allocator may take besides.
const CLIENT: u64 = 3000;
const OPEN: u64 = 350;
const BESIDES: u64 = 1 << 20;

/// A client with a session of one slot; all share one connection.
struct Member {
    created: Created,
    number: u32,
    /// Something it has open.
    stateid: Stateid4,
}

fn member(client: &mut Client) -> Member {
    let mut terms = Terms::new(1);
    (terms.slots, terms.cached, terms.message, terms.ops) = (1, 512, 64 << 10, 128);
    let known = client.exchange_id(&terms, 0).expect("EXCHANGE_ID");
    let created = client.create_session(&terms, known.clientid, known.sequence);
    let mut member = Member {
        created: created.expect("CREATE_SESSION"),
        number: 0,
        stateid: Stateid4::ANONYMOUS,
    };
    let all = Ops::new().op(Op4::ReclaimComplete, &false);
    member.call(client, &all).ok(Op4::ReclaimComplete);
    member
}

/// So many of them, made over several connections: each waits for the disk.
fn many(server: &TestServer, count: usize) -> Vec<Member> {
    std::thread::scope(|scope| {
        let part = |thread| {
            let count = count / THREADS + usize::from(thread < count % THREADS);
            scope.spawn(move || {
                let mut client = server.client();
                let made = (0..count).map(|_| member(&mut client));
                made.collect::<Vec<Member>>()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(part).collect();
        let made = threads.into_iter().map(|thread| thread.join());
        made.flat_map(|made| made.expect("no panic")).collect()
    })
}

impl Member {
    fn call(&mut self, client: &mut Client, ops: &Ops) -> Results {
        self.number += 1;
        let sequence = SequenceArgs {
            sessionid: self.created.id,
            sequenceid: self.number,
            slotid: 0,
            highest_slotid: 0,
            cachethis: false,
        };
        let ops = Ops::new().op(Op4::Sequence, &sequence).then(ops);
        let mut done = client.compound(1, &ops);
        done.body::<SequenceRes>(Op4::Sequence);
        done
    }

    /// Opens these files.
    fn open(&mut self, client: &mut Client, files: &[&Fh]) {
        let one = |ops: Ops, fh: &&Fh| {
            let shares = (READ, DENY_NONE);
            open(ops.putfh(fh), 0, shares, (0, b"owner"), What::Fh)
        };
        let ops = files.iter().fold(Ops::new(), one);
        let mut done = self.call(client, &ops);
        for _ in files {
            done.ok(Op4::Putfh);
            self.stateid = opened(&mut done).0;
        }
        done.end();
    }

    /// TEST_STATEID of what it has open, so many times over.
    fn look_up(&mut self, client: &mut Client) {
        let mut args = encode(&(LOOKED_UP as u32));
        (0..LOOKED_UP).for_each(|_| args.extend(encode(&self.stateid)));
        let mut done = self.call(client, &Ops::new().op(Op4::TestStateid, &Raw(&args)));
        assert_eq!(done.body::<u32>(Op4::TestStateid), LOOKED_UP as u32);
        for _ in 0..LOOKED_UP {
            assert_eq!(done.more::<S>(), S::Ok);
        }
    }
}

/// Nanoseconds per stateid looked up, those of many clients.
fn look_up(client: &mut Client, members: &mut [Member]) -> u128 {
    let step = (members.len() / 500).max(1);
    let start = Instant::now();
    let mut count = 0;
    for member in members.iter_mut().step_by(step) {
        member.look_up(client);
        count += LOOKED_UP as u128;
    }
    start.elapsed().as_nanos() / count
}

/// Bytes each of `count` took, which are not more than `most`.
#[track_caller]
fn each((before, after): (u64, u64), count: usize, most: u64) -> u64 {
    let (grown, count) = (after.saturating_sub(before), count as u64);
    let bound = count * most + BESIDES;
    assert!(grown <= bound, "{count} took {grown} bytes, not {bound}");
    grown / count
}

#[test]
fn memory_of_many_clients_and_open_files() {
    let (clients, opens) = if soak() {
        (10_000, 1_000_000)
    } else {
        (500, 10_000)
    };
    let clients = number("RINGNFS_SCALE_CLIENTS", clients) as usize;
    let opens = number("RINGNFS_SCALE_OPENS", opens) as usize;
    let server = TestServer::start();
    // Nobody opens a file twice.
    let count = (opens / 500).max(opens / clients).clamp(10, 2000);
    let files = files(&server, count);
    let mut client = server.client();
    // What the first ones take is their connections' as well.
    drop(many(&server, THREADS));
    let empty = resident(&server);
    let start = Instant::now();
    let mut members = many(&server, clients);
    let (with_clients, took) = (resident(&server), start.elapsed());
    // Few opens first, to see what many change.
    for (i, member) in members.iter_mut().enumerate() {
        member.open(&mut client, &[&files[i % files.len()]]);
    }
    let few = look_up(&mut client, &mut members);
    let with_few = resident(&server);
    let start = Instant::now();
    let more = opens.saturating_sub(clients) / clients;
    let more = more.min(files.len() - 1);
    for (i, member) in members.iter_mut().enumerate() {
        let wanted: Vec<&Fh> = (1..=more).map(|k| &files[(i + k) % files.len()]).collect();
        wanted
            .chunks(BATCH)
            .for_each(|some| member.open(&mut client, some));
    }
    let (with_opens, opening) = (resident(&server), start.elapsed());
    let total = clients * (more + 1);
    assert_eq!(server.stat("nfs4.opens"), total as u64);
    assert_eq!(server.stat("locks.shares"), total as u64);
    let many = look_up(&mut client, &mut members);
    println!(
        "{clients} clients with a session: {} bytes each, {took:?}; {total} opens of {} files: {} bytes each, {:?} each; \
         a stateid looked up in {few} ns with {clients} opens, in {many} ns with {total}",
        each((empty, with_clients), clients, CLIENT),
        files.len(),
        each((with_few, with_opens), clients * more, OPEN),
        opening / (clients * more).max(1) as u32,
    );
    drop(client);
    let start = Instant::now();
    server.forget_clients();
    println!(
        "all forgotten in {:?}; resident {} KiB at first, {} KiB with all, {} KiB at last",
        start.elapsed(),
        empty >> 10,
        with_opens >> 10,
        resident(&server) >> 10
    );
}
