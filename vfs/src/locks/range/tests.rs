//! Ranges against an array of bytes: a universe of sixteen, at the beginning, in the middle and at
//! the very end of what 64 bits reach.

use proptest::prelude::*;

use super::*;

const BYTES: u64 = 16;
const OWNERS: u64 = 4;
const BASES: [u64; 5] = [
    0,
    1 << 33,
    i64::MAX as u64 - 7,
    u64::MAX - 16,
    u64::MAX - 15,
];

fn holder(n: u64) -> Holder {
    Holder {
        client: ClientId(n / 2),
        owner: OwnerId(n),
    }
}

fn range(first: u64, last: u64) -> Range {
    Range { first, last }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, Range, Option<LockKind>),
    Leave(u64),
}

fn kind() -> impl Strategy<Value = LockKind> {
    prop_oneof![Just(LockKind::Read), Just(LockKind::Write)]
}

fn steps() -> impl Strategy<Value = (u64, Vec<Step>)> {
    let base = prop::sample::select(&BASES[..]);
    base.prop_flat_map(|base| {
        let at = (0..BYTES, 0..BYTES)
            .prop_map(move |(a, b)| range(base + a.min(b), base + a.max(b)));
        let step = prop_oneof![
            12 => (0..OWNERS, at, prop::option::weighted(0.7, kind())).prop_map(|(o, r, k)| Step::Set(o, r, k)),
            1 => (0..OWNERS).prop_map(Step::Leave),
        ];
        (Just(base), prop::collection::vec(step, 1..60))
    })
}

type Bytes = [[Option<LockKind>; BYTES as usize]; OWNERS as usize];

/// Runs of equal bytes.
fn runs(bytes: &[Option<LockKind>], base: u64) -> Vec<Held> {
    let mut out: Vec<Held> = Vec::new();
    for (at, kind) in bytes.iter().enumerate() {
        let (at, Some(kind)) = (base + at as u64, *kind) else {
            continue;
        };
        match out.last_mut() {
            Some(h) if h.kind == kind && h.range.last + 1 == at => h.range.last = at,
            _ => out.push(Held {
                range: range(at, at),
                kind,
            }),
        }
    }
    out
}

fn naive_conflict(bytes: &Bytes, base: u64, owner: u64, wanted: Held) -> Option<(Holder, Held)> {
    let mut all: Vec<_> = (0..OWNERS)
        .filter(|o| *o != owner)
        .flat_map(|o| {
            runs(&bytes[o as usize], base)
                .into_iter()
                .map(move |h| (o, h))
        })
        .filter(|(_, h)| h.range.overlaps(&wanted.range) && h.kind.conflicts(wanted.kind))
        .collect();
    all.sort_by_key(|(o, h)| (h.range.first, *o));
    all.first().map(|(o, h)| (holder(*o), *h))
}

proptest! {
    #[test]
    fn like_an_array_of_bytes((base, steps) in steps()) {
        let mut ranges = Ranges::default();
        let mut bytes: Bytes = Default::default();
        for owner in 0..OWNERS {
            ranges.enter(holder(owner));
        }
        for step in steps {
            match step {
                Step::Set(owner, at, kind) => {
                    if let Some(kind) = kind {
                        let wanted = Held { range: at, kind };
                        let found = ranges.conflict(OwnerId(owner), wanted);
                        prop_assert_eq!(found, naive_conflict(&bytes, base, owner, wanted));
                        if found.is_some() {
                            continue;
                        }
                    }
                    ranges.set(OwnerId(owner), at, kind).expect("room");
                    let (a, b) = ((at.first - base) as usize, (at.last - base) as usize);
                    bytes[owner as usize][a..=b].fill(kind);
                }
                Step::Leave(owner) => {
                    ranges.leave(OwnerId(owner));
                    ranges.enter(holder(owner));
                    bytes[owner as usize] = Default::default();
                }
            }
            let mut count = 0;
            for owner in 0..OWNERS {
                let expected = runs(&bytes[owner as usize], base);
                prop_assert_eq!(ranges.held(OwnerId(owner)), &expected[..]);
                count += expected.len();
            }
            prop_assert_eq!(ranges.len(), count, "the index has as many");
            let of_byte = |at: usize| bytes.iter().map(|owner| owner[at]).max().flatten();
            let reachable = |at: usize| base + at as u64 <= HOST_LAST;
            let expected: Vec<_> = (0..BYTES as usize).filter(|at| reachable(*at)).map(of_byte).collect();
            let cover = ranges.cover(range(base, base + (BYTES - 1)), std::iter::empty());
            let spread = cover.iter().flat_map(|p| {
                let count = p.range.last - p.range.first + 1;
                std::iter::repeat_n(p.kind, count as usize)
            });
            prop_assert_eq!(spread.collect::<Vec<_>>(), expected);
            prop_assert!(cover.windows(2).all(|two| two[0].kind != two[1].kind));
        }
        for owner in 0..OWNERS {
            ranges.leave(OwnerId(owner));
        }
        prop_assert!(ranges.is_empty() && ranges.index.is_empty());
    }
}

#[test]
fn offsets_and_lengths_of_the_wire() {
    let all = u64::MAX;
    let ends = |offset, length| Range::new(offset, length).map(|r| (r.offset(), r.last()));
    assert_eq!(ends(0, 0), None);
    assert_eq!(ends(5, 1), Some((5, 5)));
    assert_eq!(ends(0, all), Some((0, all)));
    assert_eq!(ends(5, all), Some((5, all)), "to the end");
    assert_eq!(ends(all, all), Some((all, all)));
    assert_eq!(
        ends(5, all - 5),
        Some((5, all - 1)),
        "the last byte but one"
    );
    assert_eq!(ends(5, all - 4), None, "2^64 is too far");
    assert_eq!(ends(all, 1), None);
    for (offset, length) in [(0, all), (7, 9), (7, all), (all - 1, 1)] {
        let range = Range::new(offset, length).expect("good");
        assert_eq!((range.offset(), range.length()), (offset, length));
    }
    assert_eq!(Range::from(3), Range::new(3, all).expect("good"));
}

#[test]
fn there_is_an_end_to_ranges() {
    let mut ranges = Ranges::default();
    let (a, b) = (OwnerId(1), OwnerId(2));
    ranges.enter(holder(1));
    ranges.enter(holder(2));
    for n in 0..OWNER_RANGES_MAX as u64 {
        let at = range(4 * n, 4 * n + 2);
        ranges.set(a, at, Some(LockKind::Read)).expect("room");
    }
    let beyond = range(u64::MAX, u64::MAX);
    assert_eq!(ranges.set(a, beyond, Some(LockKind::Read)), Err(Full));
    assert_eq!(
        ranges.set(a, range(1, 1), None),
        Err(Full),
        "it would split"
    );
    assert_eq!(ranges.held(a).len(), OWNER_RANGES_MAX);
    assert_eq!(ranges.set(b, beyond, Some(LockKind::Read)), Ok(()));
    // What needs no more room goes on: growing, shrinking, joining.
    assert_eq!(ranges.set(a, range(2, 2), None), Ok(()));
    assert_eq!(
        ranges.set(a, range(0, u64::MAX), Some(LockKind::Read)),
        Ok(())
    );
    assert_eq!((ranges.held(a).len(), ranges.len()), (1, 2));
    ranges.leave(a);
    assert_eq!(ranges.len(), 1);
}

#[test]
fn the_last_guard_takes_the_ranges_with_it() {
    let mut ranges = Ranges::default();
    ranges.enter(holder(1));
    ranges.enter(holder(1));
    ranges
        .set(OwnerId(1), range(1, 2), Some(LockKind::Write))
        .expect("room");
    ranges.leave(OwnerId(1));
    assert_eq!(ranges.len(), 1);
    ranges.leave(OwnerId(1));
    assert!(ranges.is_empty());
}
