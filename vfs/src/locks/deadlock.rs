//! Whether somebody who waits for a lock would wait in a circle (fcntl(2) EDEADLK, RFC 8881 18.10.3). Who waits for
//! what elsewhere only its protocol knows: it is asked.

use std::sync::Arc;

use super::{FileLocks, Held, Holder, OwnerId};

/// Most holders looked at; a longer circle is not found.
pub const HOLDERS_MAX: usize = 64;

/// What somebody waits for.
#[derive(Clone)]
pub struct Waiting {
    /// On which file.
    pub file: Arc<FileLocks>,
    /// Who, as that file knows it.
    pub owner: OwnerId,
    /// Which bytes, and how.
    pub wanted: Held,
}

impl FileLocks {
    /// Others that hold what excludes `wanted`, each once, at most `most`.
    pub fn in_the_way(&self, owner: OwnerId, wanted: Held, most: usize) -> Vec<Holder> {
        let state = self.lock();
        let ranges = state.ranges.as_ref();
        ranges.map_or(Vec::new(), |r| r.in_the_way(owner, wanted, most))
    }
}

/// Whether those in the way of `first` wait, in the end, for what is `own` of who would wait. `waits` says what a
/// holder waits for. No lock is held over a call of either: what changes meanwhile may or may not be seen.
pub fn is_circle(
    first: Waiting,
    own: impl Fn(Holder) -> bool,
    waits: impl Fn(Holder) -> Vec<Waiting>,
) -> bool {
    let mut seen = Vec::new();
    let mut next = vec![first];
    while let Some(one) = next.pop() {
        for holder in one.file.in_the_way(one.owner, one.wanted, HOLDERS_MAX) {
            if own(holder) {
                return true;
            }
            if seen.contains(&holder) {
                continue;
            }
            if seen.len() == HOLDERS_MAX {
                return false;
            }
            seen.push(holder);
            next.extend(waits(holder).into_iter().take(HOLDERS_MAX));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::{ClientId, LockGuard, LockKind, Range};
    use super::*;
    use proptest::prelude::*;

    fn holder(n: u64) -> Holder {
        Holder {
            client: ClientId(n),
            owner: OwnerId(n),
        }
    }

    fn wanted(kind: LockKind) -> Held {
        let range = Range::from(0);
        Held { range, kind }
    }

    fn locked(file: &Arc<FileLocks>, n: u64, kind: LockKind) -> LockGuard {
        let guard = file.locker(ClientId(n), OwnerId(n));
        let done = guard.lock(Range::from(0), kind, Instant::now());
        done.expect("free, or shared");
        guard
    }

    fn waiting(file: &Arc<FileLocks>, n: u64) -> Waiting {
        Waiting {
            file: file.clone(),
            owner: OwnerId(n),
            wanted: wanted(LockKind::Write),
        }
    }

    #[test]
    fn readers_that_both_want_to_write() {
        let file = FileLocks::alone();
        let held: Vec<_> = (1..4).map(|n| locked(&file, n, LockKind::Read)).collect();
        let waits = |waiter: u64| {
            let file = file.clone();
            move |h: Holder| match h == holder(waiter) {
                true => vec![waiting(&file, waiter)],
                false => Vec::new(),
            }
        };
        let first = || waiting(&file, 1);
        assert!(!is_circle(first(), |h| h == holder(1), |_| Vec::new()));
        // Whichever of the others it is.
        for other in [2, 3] {
            assert!(is_circle(first(), |h| h == holder(1), waits(other)));
        }
        assert!(!is_circle(first(), |h| h == holder(9), waits(2)), "others'");
        drop(held);
        assert!(!is_circle(first(), |h| h == holder(1), waits(2)), "free");
    }

    #[test]
    fn only_who_excludes_is_in_the_way() {
        let file = FileLocks::alone();
        let guard = file.locker(ClientId(1), OwnerId(1));
        let range = |at, len| Range::new(at, len).expect("a range");
        let lock = |range, kind| guard.lock(range, kind, Instant::now());
        lock(range(10, 10), LockKind::Read).expect("free");
        lock(range(30, 10), LockKind::Write).expect("free");
        let met = |at, len, kind| {
            let range = range(at, len);
            !file
                .in_the_way(OwnerId(2), Held { range, kind }, 9)
                .is_empty()
        };
        use LockKind::{Read, Write};
        assert!(!met(0, 10, Write) && !met(20, 10, Write) && !met(40, 10, Write));
        assert!(met(19, 1, Write) && !met(19, 1, Read) && met(39, 1, Read));
        assert!(met(0, 31, Read) && met(15, 1, Write));
        let own = Held {
            range: range(0, 99),
            kind: Write,
        };
        assert_eq!(file.in_the_way(OwnerId(1), own, 9), []);
        assert_eq!(file.in_the_way(OwnerId(2), own, 0), []);
    }

    proptest! {
        /// Everybody holds a file of its own, and waits for at most one other: following them says the same.
        #[test]
        fn circles_are_found(points in proptest::collection::vec(0..12_usize, 12)) {
            let files: Vec<_> = (0..12).map(|_| FileLocks::alone()).collect();
            let _held: Vec<_> = (0..12).map(|n| locked(&files[n], n as u64, LockKind::Write)).collect();
            let waits = |h: Holder| {
                let n = h.owner.0 as usize;
                // Who points at itself waits for nothing.
                match points[n] == n {
                    true => Vec::new(),
                    false => vec![waiting(&files[points[n]], n as u64)],
                }
            };
            for start in (0..12).filter(|n| points[*n] != *n) {
                let mut at = points[start];
                let mut expected = false;
                for _ in 0..12 {
                    expected |= at == start;
                    at = points[at];
                }
                let first = waiting(&files[points[start]], start as u64);
                let found = is_circle(first, |h| h == holder(start as u64), waits);
                prop_assert_eq!(found, expected, "{} {:?}", start, points);
            }
        }
    }
}
