//! Laws of the duplicate request cache.

use super::*;
use proptest::prelude::*;

const ADDR: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Limits of one entry per shard times `n`.
fn drc(entries: usize, bytes: usize) -> Arc<Drc> {
    Drc::new(Limits {
        entries,
        bytes,
        reply_bytes: 1000,
        keep: secs(100),
    })
}

fn key(drc: &Drc, xid: u32) -> Key {
    drc.key(ADDR, xid, [1, 2, 3], b"args")
}

fn begin(drc: &Arc<Drc>, xid: u32) -> Lookup {
    drc.begin(key(drc, xid), secs(0))
}

fn guard(lookup: Lookup) -> Guard {
    match lookup {
        Lookup::New(guard) => guard,
        other => panic!("{other:?}"),
    }
}

fn replayed(lookup: Lookup) -> Vec<u8> {
    match lookup {
        Lookup::Replay(reply) => reply.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_runs_once() {
    let drc = drc(1000, 1 << 20);
    let first = guard(begin(&drc, 7));
    assert!(matches!(begin(&drc, 7), Lookup::Drop));
    first.complete(b"reply", secs(1));
    assert_eq!(replayed(begin(&drc, 7)), b"reply");
    let c = drc.counts();
    assert_eq!(
        (c.entries, c.bytes, c.new, c.dropped, c.replayed),
        (1, 5, 1, 1, 1)
    );
}

#[test]
fn an_abandoned_call_runs_again() {
    let drc = drc(1000, 1 << 20);
    drop(guard(begin(&drc, 7)));
    assert_eq!(drc.counts().entries, 0);
    guard(begin(&drc, 7)).complete(&[0; 1001], secs(0));
    assert_eq!(
        drc.counts().entries,
        0,
        "a reply above the limit is not kept"
    );
    guard(begin(&drc, 7)).complete(b"r", secs(0));
    assert_eq!(replayed(begin(&drc, 7)), b"r");
}

#[test]
fn every_part_of_the_key_counts() {
    let drc = drc(1000, 1 << 20);
    let other: IpAddr = "10.0.0.1".parse().unwrap();
    let long = [7; CHECKSUM_BYTES + 8];
    let keys = [
        drc.key(ADDR, 1, [1, 2, 3], b"args"),
        drc.key(other, 1, [1, 2, 3], b"args"),
        drc.key(ADDR, 2, [1, 2, 3], b"args"),
        drc.key(ADDR, 1, [9, 2, 3], b"args"),
        drc.key(ADDR, 1, [1, 9, 3], b"args"),
        drc.key(ADDR, 1, [1, 2, 9], b"args"),
        drc.key(ADDR, 1, [1, 2, 3], b"argt"),
        drc.key(ADDR, 1, [1, 2, 3], &long),
        drc.key(ADDR, 1, [1, 2, 3], &long[1..]),
    ];
    for (i, k) in keys.iter().enumerate() {
        guard(drc.begin(*k, secs(0))).complete(&[i as u8], secs(0));
    }
    for (i, k) in keys.iter().enumerate() {
        assert_eq!(replayed(drc.begin(*k, secs(0))), [i as u8]);
    }
}

#[test]
fn mapped_addresses_are_the_same_client() {
    let drc = drc(1000, 1 << 20);
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    assert_eq!(key(&drc, 1), drc.key(mapped, 1, [1, 2, 3], b"args"));
}

#[test]
fn replies_expire() {
    let drc = drc(1000, 1 << 20);
    let k = key(&drc, 7);
    guard(drc.begin(k, secs(5))).complete(b"r", secs(10));
    assert_eq!(replayed(drc.begin(k, secs(110))), b"r");
    assert!(matches!(drc.begin(k, secs(111)), Lookup::New(_)));
}

#[test]
fn use_does_not_make_a_reply_younger() {
    let drc = drc(0, 0);
    let mut shard = Shard::new(9, 1 << 20);
    for xid in [1, 2] {
        let Found::New(entry) = shard.begin(key(&drc, xid), 0, secs(0), secs(0)) else {
            panic!("not new");
        };
        shard.complete(entry, Arc::from(&b"r"[..]), secs(u64::from(xid) * 10));
    }
    // Used last, but completed first.
    assert!(matches!(
        shard.begin(key(&drc, 1), 0, secs(15), secs(5)),
        Found::Done(_)
    ));
    assert!(matches!(
        shard.begin(key(&drc, 1), 0, secs(15), secs(15)),
        Found::New(_)
    ));
    assert!(matches!(
        shard.begin(key(&drc, 2), 0, secs(15), secs(15)),
        Found::Done(_)
    ));
}

#[test]
fn least_recently_used_goes_first() {
    // One shard's worth: keys are spread, so look at the shard alone.
    let drc = drc(0, 0);
    let mut shard = Shard::new(3, 1 << 20);
    let mut run = |xid: u32| {
        let found = shard.begin(key(&drc, xid), u64::from(xid), secs(0), secs(0));
        match found {
            Found::New(entry) => {
                shard.complete(entry, Arc::from(&b"abcd"[..]), secs(0));
                "new"
            }
            Found::Done(_) => "done",
            _ => "other",
        }
    };
    assert_eq!(
        [1, 2, 3, 1, 4].map(&mut run),
        ["new", "new", "new", "done", "new"]
    );
    assert_eq!([1, 3, 4, 2].map(&mut run), ["done", "done", "done", "new"]);
}

#[test]
fn running_calls_are_never_evicted() {
    let drc = drc(SHARDS, 1 << 20);
    let guards: Vec<Guard> = (0..500).map(|xid| guard(begin(&drc, xid))).collect();
    let c = drc.counts();
    assert_eq!((c.entries, c.untracked), (SHARDS, 500 - SHARDS as u64));
    for g in guards {
        g.complete(b"r", secs(0));
    }
    assert_eq!(drc.counts().entries, SHARDS);
    drop(guard(begin(&drc, 1000)));
    assert_eq!(drc.counts().entries, SHARDS - 1, "a finished one made room");
}

#[test]
fn workers_race_for_one_call() {
    let drc = drc(1000, 1 << 20);
    let ran = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for xid in 0..2000 {
                    if let Lookup::New(guard) = begin(&drc, xid % 500) {
                        ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        guard.complete(b"r", secs(0));
                    }
                }
            });
        }
    });
    assert_eq!(ran.into_inner(), 500);
}

proptest! {
    /// Random calls against a simple model: what the cache keeps is right, and the limits hold.
    #[test]
    fn model(ops in proptest::collection::vec((0_u32..40, 0_u8..4, 0_usize..40), 1..300)) {
        let drc = drc(0, 0);
        let (max_entries, max_bytes) = (8, 100);
        let mut shard = Shard::new(max_entries, max_bytes);
        let mut running = std::collections::HashMap::new();
        for (xid, what, len) in ops {
            let found = shard.begin(key(&drc, xid), u64::from(xid % 7), secs(0), secs(0));
            match found {
                Found::Running => prop_assert!(running.contains_key(&xid)),
                Found::Done(reply) => {
                    prop_assert!(!running.contains_key(&xid));
                    prop_assert!(reply.iter().all(|b| u32::from(*b) == xid));
                }
                Found::Untracked => prop_assert_eq!(running.len(), max_entries),
                Found::New(entry) => {
                    prop_assert!(!running.contains_key(&xid));
                    match what {
                        0 => shard.forget(entry),
                        1 => { running.insert(xid, entry); }
                        _ => shard.complete(entry, Arc::from(vec![xid as u8; len]), secs(0)),
                    }
                }
            }
            let c = shard.counts();
            prop_assert!(c.entries <= max_entries && c.bytes <= max_bytes);
        }
        for (xid, entry) in running.drain() {
            shard.complete(entry, Arc::from(vec![xid as u8; 4]), secs(0));
        }
        shard.begin(key(&drc, 99), 99, secs(9), secs(9));
        prop_assert_eq!((shard.counts().entries, shard.counts().bytes), (1, 0));
    }
}
