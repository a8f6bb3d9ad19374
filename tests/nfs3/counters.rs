//! What the server says it asks of the kernel (`ringnfs stats`), held to what a workload must have asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nfsd::nfs3::types::{Createhow3, StableHow};
use nfsd::nfs4::Op4;
use nfsd::nfs4::op::allocate::RangeArgs;
use nfsd::nfs4::types::Stateid4;
use tests::client::nfs3::{mode, size};
use tests::client::nfs4::Ops;
use tests::client::session::Session;
use tests::daemon::{Setup, TestServer};
use vfs::uring::counters::BATCHES;

/// Files the workload makes.
const FILES: usize = 8;
/// READs and WRITEs of each.
const PIECES: u64 = 8;
/// Bytes of each.
const PIECE: usize = 8192;
/// Somebody else than the server.
const ACL: &str = "u::rw-,u:1001:rw-,g::r--,m::rw-,o::---";

type Stats = BTreeMap<String, u64>;

/// Procedures of NFSv3 for everything there is an opcode for, and ALLOCATE of NFSv4.2, which alone needs fallocate(2).
fn work(server: &TestServer) {
    let (mut c, root) = server.mounted();
    for n in 0..FILES {
        let name = format!("file{n}").into_bytes();
        let (other, moved) = (
            [&name[..], b".link"].concat(),
            [&name[..], b".new"].concat(),
        );
        let file = c.new_file(&root, &name, 0o600);
        for piece in 0..PIECES {
            let data = [n as u8; PIECE];
            let at = piece * PIECE as u64;
            let stable = [StableHow::Unstable, StableHow::FileSync][(piece % 2) as usize];
            c.write(&file, at, &data, stable).expect("WRITE");
        }
        c.commit(&file, 0, 0).expect("COMMIT");
        for piece in 0..PIECES {
            let read = c.read(&file, piece * PIECE as u64, PIECE as u32);
            assert_eq!(read.expect("READ").data, [n as u8; PIECE]);
        }
        c.setattr(&file, size(100), None).expect("SETATTR");
        c.attr(&file);
        c.lookup(&root, &name).expect("LOOKUP");
        c.setacl(&file, Some(ACL), None);
        c.acls(&file);
        c.link(&file, &root, &other).expect("LINK");
        c.rename((&root, &name), (&root, &moved)).expect("RENAME");
        c.remove(&root, &other).expect("REMOVE");
    }
    let exclusive = Createhow3::Exclusive([7; 8]);
    c.create(&root, b"exclusive", exclusive).expect("CREATE");
    c.mkdir(&root, b"d", mode(0o755)).expect("MKDIR");
    c.rmdir(&root, b"d").expect("RMDIR");
    c.symlink(&root, b"s", b"target").expect("SYMLINK");

    let mut session = Session::new(server.client(), 2);
    for n in 0..FILES {
        let path = server.export().join(format!("file{n}.new"));
        let fh = session.walk(path.to_str().expect("text"));
        let range = RangeArgs {
            stateid: Stateid4::ANONYMOUS,
            offset: 0,
            length: 1 << 20,
        };
        let mut done = session.call(&Ops::new().putfh(&fh).op(Op4::Allocate, &range));
        done.ok(Op4::Putfh);
        done.ok(Op4::Allocate);
        done.end();
    }
    session.end();
}

/// Opcodes every one of which the work needs so often at least, when all that can goes through the ring.
const SENT: [(&str, u64); 14] = [
    ("accept", 1),
    ("recv", 1),
    ("sendmsg", FILES as u64),
    ("openat", FILES as u64),
    ("openat2", FILES as u64),
    ("statx", FILES as u64 * PIECES),
    ("fsync", FILES as u64 * PIECES / 2),
    ("mkdirat", 1),
    ("unlinkat", FILES as u64 + 1),
    ("renameat", FILES as u64),
    ("linkat", FILES as u64),
    ("symlinkat", 1),
    ("setxattr", FILES as u64 + 1),
    ("getxattr", FILES as u64),
];

/// Opcodes in whose place a pool thread may come where something is stuck for a second, with that call.
const SENT_OR_APART: [(&str, &str, u64); 3] = [
    ("write_fixed", "pwrite", FILES as u64 * PIECES),
    ("fallocate", "fallocate", FILES as u64),
    ("ftruncate", "ftruncate", FILES as u64),
];

/// Calls that have an opcode: under `ring`, nobody makes them.
const NEVER: [&str; 11] = [
    "inline.statx",
    "inline.preadv2",
    "inline.pwritev2",
    "inline.getxattr",
    "blocking.openat",
    "blocking.mkdirat",
    "blocking.unlinkat",
    "blocking.renameat2",
    "blocking.linkat",
    "blocking.symlinkat",
    "blocking.setxattr",
];

/// Opcodes nobody uses under `adaptive` on a local file system.
const NOT_SENT: [&str; 9] = [
    "statx",
    "getxattr",
    "setxattr",
    "mkdirat",
    "unlinkat",
    "renameat",
    "linkat",
    "symlinkat",
    "ftruncate",
];

fn of(stats: &Stats, name: &str) -> u64 {
    stats.get(name).copied().unwrap_or(0)
}

fn sum(stats: &Stats, prefix: &str) -> u64 {
    let all = stats.iter().filter(|(name, _)| name.starts_with(prefix));
    all.map(|(_, n)| n).sum()
}

/// The counters between two turns of the workers: every entry is published and submitted.
fn settled(server: &TestServer) -> Stats {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = server.stats();
        let enters = of(&stats, "ring.enter") == sum(&stats, "ring.batch_le_")
            && of(&stats, "ring.submitted") == sum(&stats, "sqe.");
        if enters {
            return stats;
        }
        assert!(Instant::now() < end, "sums that differ: {stats:#?}");
    }
}

/// What the batches say is what was submitted, as far as they say it.
fn batches_agree(stats: &Stats) {
    let (mut least, mut most, mut below) = (0, 0, 0);
    for bound in BATCHES {
        let turns = of(stats, &format!("ring.batch_le_{bound}"));
        least += turns * below;
        most += turns * bound;
        below = bound + 1;
    }
    let larger = of(stats, "ring.batch_le_more");
    least += larger * below;
    let submitted = of(stats, "ring.submitted");
    assert!(least <= submitted, "{stats:#?}");
    assert!(submitted <= most || larger > 0, "{stats:#?}");
}

/// READs and WRITEs that went through the ring used registered files and registered buffers.
fn data_is_registered(stats: &Stats) {
    let by = |kind: &str| of(stats, &format!("data.{kind}"));
    let (file, buffer) = (by("registered_file"), by("registered_buffer"));
    let all = file + by("plain_file");
    assert_eq!(buffer + by("plain_buffer"), all, "{stats:#?}");
    let fixed = of(stats, "sqe.read_fixed") + of(stats, "sqe.write_fixed");
    assert_eq!(fixed, buffer, "{stats:#?}");
    assert!(file * 10 >= all * 9, "{stats:#?}");
    assert!(buffer * 10 >= all * 9, "{stats:#?}");
}

#[test]
fn under_ring_everything_with_an_opcode_is_sent() {
    let server = Setup::default().policy("ring").start();
    work(&server);
    let stats = settled(&server);
    batches_agree(&stats);
    for (op, least) in SENT {
        assert!(
            of(&stats, &format!("sqe.{op}")) >= least,
            "{op}: {stats:#?}"
        );
    }
    let truncates = !server.log().contains("not in this kernel: Ftruncate");
    for (op, call, least) in SENT_OR_APART {
        let sent = of(&stats, &format!("sqe.{op}"));
        let called = of(&stats, &format!("blocking.{call}"));
        assert!(sent + called >= least, "{op}: {stats:#?}");
        assert!(
            sent > 0 || op == "ftruncate" && !truncates,
            "{op}: {stats:#?}"
        );
    }
    let reads = of(&stats, "sqe.read_fixed");
    assert_eq!(reads, FILES as u64 * PIECES, "{stats:#?}");
    for call in NEVER {
        assert_eq!(of(&stats, call), 0, "{call}: {stats:#?}");
    }
    data_is_registered(&stats);
    let punted = of(&stats, "sqe.statx") + of(&stats, "sqe.fsync");
    assert!(of(&stats, "iowq.punts_min") >= punted, "{stats:#?}");
    assert!(of(&stats, "iowq.threads") > 0, "{stats:#?}");
}

#[test]
fn under_adaptive_the_cheaper_way_is_taken() {
    let server = Setup::default().policy("adaptive").start();
    work(&server);
    let stats = settled(&server);
    batches_agree(&stats);
    for (name, least) in [
        ("inline.statx", FILES as u64 * PIECES),
        ("inline.preadv2", 1),
        ("inline.getxattr", FILES as u64),
        ("blocking.openat", FILES as u64),
        ("blocking.mkdirat", 1),
        ("blocking.unlinkat", FILES as u64 + 1),
        ("blocking.renameat2", FILES as u64),
        ("blocking.linkat", FILES as u64),
        ("blocking.symlinkat", 1),
        ("blocking.setxattr", FILES as u64 + 1),
        ("blocking.ftruncate", FILES as u64),
        ("sqe.openat2", 1),
        ("sqe.openat", FILES as u64),
        ("sqe.fsync", FILES as u64 * PIECES / 2),
        ("sqe.write_fixed", 1),
        ("sqe.fallocate", 1),
        ("iowq.threads", 1),
    ] {
        assert!(of(&stats, name) >= least, "{name}: {stats:#?}");
    }
    for op in NOT_SENT {
        assert_eq!(of(&stats, &format!("sqe.{op}")), 0, "{op}: {stats:#?}");
    }
    // What is not in the cache goes through the ring.
    let reads = of(&stats, "inline.preadv2") + of(&stats, "sqe.read_fixed");
    assert_eq!(reads, FILES as u64 * PIECES, "{stats:#?}");
    data_is_registered(&stats);
}
