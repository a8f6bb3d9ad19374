//! The change attribute (RFC 8881 5.8.1.4): a number that moves whenever a file does.
//!
//! It is the ctime in nanoseconds, so that it needs no memory of its own: a restart or an eviction
//! from the table of files gives the same number for the same state.
//!
//! **Fine timestamps** (Linux 6.13 on ext4, XFS, btrfs, tmpfs): after statx(2) has shown a ctime, the
//! next change gets another one, whatever the clock's tick. Two states that anybody saw thus differ by
//! their ctime alone. One thing is left: a write sets the ctime before it copies the data. Who looks
//! in between must not take the number of the finished write for the state it saw; it gets the number
//! below, unless that very ctime was seen while nothing was being written.
//!
//! **Coarse timestamps** (all others): two changes within one tick carry one ctime. Changes that come
//! through the server are counted, and each moves the number by one. Until the tick has passed, the
//! number also grows with the clock, by a 64th of the time since the ctime; a state seen for the first
//! time after that gets a number above all of those ([`Grain::top`]). A server that restarts within the
//! tick has forgotten the count, but looks later, and so gives a higher number; one that restarts after
//! it gives the number above all. In neither case does a number come back that another state had. What
//! a local process changes within the tick in which a client looked cannot be seen on such kernels.
//!
//! **A clock set back** gives later changes a smaller ctime. As long as the server remembers a higher
//! number it counts on from there. After a restart the numbers go back with the clock, but to ones
//! that no state had, but for a coincidence of nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::attr::{Attr, Time};
use crate::errno::Result;
use crate::exec;
use crate::file::File;
use crate::mount::Mount;
use crate::uring::file_ops;

const SECOND: u64 = 1_000_000_000;

/// A time in nanoseconds since the epoch, held between 0 and `u64::MAX`.
pub(crate) fn nanos(t: Time) -> u64 {
    u64::try_from(t.sec)
        .unwrap_or(0)
        .saturating_mul(SECOND)
        .saturating_add(u64::from(t.nsec))
}

/// How far apart two ctimes of different ticks are, at least.
struct Grain {
    /// Nanoseconds after which no other change gets the same ctime.
    tick: u64,
    /// What is added to a ctime whose tick has passed: more than a 64th of `tick`, less than a tick
    /// of the kernel (1 ms to 10 ms, or a second where inodes have no room for more).
    top: u64,
}

impl Grain {
    fn of(ctime: u64) -> Self {
        if ctime.is_multiple_of(SECOND) {
            Grain {
                tick: 2 * SECOND,
                top: SECOND / 2,
            }
        } else {
            Grain {
                tick: 20_000_000,
                top: 500_000,
            }
        }
    }

    /// The number of a state seen at `now` for the first time.
    fn number(ctime: u64, now: u64) -> u64 {
        let grain = Grain::of(ctime);
        // A ctime in the future has had no time at all.
        let since = now.saturating_sub(ctime);
        let add = if since > grain.tick {
            grain.top
        } else {
            since / 64
        };
        ctime.saturating_add(add)
    }
}

/// What was going on when somebody began to look at a file: taken before its statx(2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Look {
    /// [`ChangeAttr::writing`].
    writing: u64,
    /// Changes made so far; only looked at where timestamps are coarse.
    changes: u64,
}

#[derive(Default)]
struct Counted {
    ctime: u64,
    changes: u64,
    number: u64,
}

/// What the change attribute of one file needs to remember, owned by the file.
#[derive(Default)]
pub(crate) struct ChangeAttr {
    /// The highest number given out.
    high: AtomicU64,
    /// Writes of data begun (upper half) and not yet ended (lower half).
    writing: AtomicU64,
    counted: Mutex<Counted>,
}

/// Data of a file is being written, until this is dropped.
pub(crate) struct Writing<'a>(&'a ChangeAttr);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ChangeAttr {
    pub(crate) fn writing(&self) -> Writing<'_> {
        self.writing.fetch_add(1 << 32 | 1, Ordering::AcqRel);
        Writing(self)
    }

    /// Nothing was written since `look`, or at that time.
    fn still(&self, look: Look) -> bool {
        look.writing as u32 == 0 && self.writing.load(Ordering::Acquire) == look.writing
    }

    /// The number where every state that was seen has a ctime of its own.
    fn fine(&self, ctime: u64, look: Look, now: impl FnOnce() -> u64) -> u64 {
        let high = self.high.load(Ordering::Acquire);
        if ctime == high {
            return ctime;
        }
        if ctime > high {
            if !self.still(look) {
                return ctime - 1;
            }
            self.high.fetch_max(ctime, Ordering::AcqRel);
            return ctime;
        }
        if let Some(number) = self.counted(ctime) {
            return number;
        }
        if high <= now() {
            // Overtaken by somebody who looked later.
            return ctime;
        }
        // The clock was set back.
        self.count(ctime, 0, |above| high.saturating_add(1).max(above))
    }

    /// What [`ChangeAttr::count`] gave this ctime last.
    fn counted(&self, ctime: u64) -> Option<u64> {
        let last = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (last.ctime == ctime && last.number != 0).then_some(last.number)
    }

    /// The number where several states may share a ctime.
    fn coarse(&self, ctime: u64, look: Look, now: impl FnOnce() -> u64) -> u64 {
        self.count(ctime, look.changes, |above| {
            Grain::number(ctime, now()).max(above)
        })
    }

    /// The number of this state if it was the last one seen, or else one from `choose`, which is told
    /// the least it may be.
    fn count(&self, ctime: u64, changes: u64, choose: impl FnOnce(u64) -> u64) -> u64 {
        let mut last = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if (last.ctime, last.changes) != (ctime, changes) || last.number == 0 {
            let number = choose(last.number.saturating_add(1));
            *last = Counted {
                ctime,
                changes,
                number,
            };
            self.high.fetch_max(number, Ordering::AcqRel);
        }
        last.number
    }
}

fn wall_nanos() -> u64 {
    let since = exec::wall_clock().duration_since(UNIX_EPOCH);
    since.map_or(0, |t| t.as_nanos() as u64)
}

/// The kernel and this type of file system give a change after a statx(2) a ctime of its own.
pub(crate) fn fine_ctime(fs_type: i64) -> bool {
    let kernel = rustix::system::uname();
    crate::sys::MULTIGRAIN.contains(&fs_type)
        && at_least(&kernel.release().to_string_lossy(), 6, 13)
}

fn at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    match (number(), number()) {
        (Some(a), Some(b)) => (a, b) >= (major, minor),
        _ => false,
    }
}

/// Timestamps here are fine; inodes without room for nanoseconds have nothing fine about them.
pub(crate) fn is_fine(mount: &Mount, attr: &Attr) -> bool {
    mount.fine_ctime && attr.ctime.nsec != 0
}

/// The number of a file on `mount` that the server does not hold.
pub(crate) fn number_unheld(mount: &Mount, attr: &Attr) -> u64 {
    let ctime = nanos(attr.ctime);
    if is_fine(mount, attr) {
        ctime
    } else {
        Grain::number(ctime, wall_nanos())
    }
}

impl File {
    /// Begins to look: before statx(2).
    pub(crate) fn look(&self) -> Look {
        Look {
            writing: self.change.writing.load(Ordering::Acquire),
            changes: self.changes.made(),
        }
    }

    /// Gives attributes that statx(2) brought after `look` their number.
    pub(crate) fn number(&self, look: Look, mut attr: Attr) -> Attr {
        let ctime = nanos(attr.ctime);
        attr.change = if is_fine(&self.mount, &attr) {
            self.change.fine(ctime, look, wall_nanos)
        } else {
            self.change.coarse(ctime, look, wall_nanos)
        };
        attr
    }

    /// Attributes now.
    ///
    /// # Errors
    /// `statx(2)`.
    pub(crate) async fn attr(&self) -> Result<Attr> {
        let look = self.look();
        Ok(self.number(look, file_ops::statx(self.path()).await?))
    }

    /// As [`File::attr`], by a plain system call.
    pub(crate) fn attr_now(&self) -> Result<Attr> {
        let look = self.look();
        Ok(self.number(look, file_ops::statx_now(self.path())?))
    }

    /// What was going on before the server ever changed the file, if it has not.
    fn untouched(&self, attr: &Attr) -> Option<Look> {
        let look = self.look();
        let counts = !is_fine(&self.mount, attr);
        let untouched = look.writing == 0 && (!counts || look.changes == 0);
        untouched.then_some(look)
    }

    /// Attributes that were taken before the file was known to be this one: taken again if the
    /// server ever changed it.
    ///
    /// # Errors
    /// `statx(2)`.
    pub(crate) async fn attr_of_found(&self, attr: Attr) -> Result<Attr> {
        match self.untouched(&attr) {
            Some(look) => Ok(self.number(look, attr)),
            None => self.attr().await,
        }
    }

    /// As [`File::attr_of_found`], by a plain system call.
    pub(crate) fn attr_of_found_now(&self, attr: Attr) -> Result<Attr> {
        match self.untouched(&attr) {
            Some(look) => Ok(self.number(look, attr)),
            None => self.attr_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: u64 = 1_700_000_000 * SECOND + 123_456_789;

    fn look(changes: u64) -> Look {
        Look {
            writing: 0,
            changes,
        }
    }

    #[test]
    fn fine_numbers_are_the_ctime() {
        let change = ChangeAttr::default();
        let later = || T + SECOND;
        assert_eq!(change.fine(T, look(0), later), T);
        assert_eq!(change.fine(T + 9, look(0), later), T + 9);
        assert_eq!(change.fine(T, look(0), later), T, "overtaken");
        assert_eq!(change.fine(T + 9, look(0), later), T + 9, "and harmless");
        let restarted = ChangeAttr::default();
        assert_eq!(restarted.fine(T + 9, look(0), later), T + 9);
    }

    #[test]
    fn what_is_seen_during_a_write_is_not_the_written_state() {
        let change = ChangeAttr::default();
        let now = || T + SECOND;
        assert_eq!(change.fine(T, look(0), now), T);
        let seen = |change: &ChangeAttr| Look {
            writing: change.writing.load(Ordering::Acquire),
            changes: 0,
        };
        let before = seen(&change);
        let write = change.writing();
        let during = seen(&change);
        assert_eq!(change.fine(T, during, now), T, "not written yet");
        assert_eq!(change.fine(T + 50, during, now), T + 49);
        drop(write);
        assert_eq!(change.fine(T + 50, during, now), T + 49, "seen during it");
        assert_eq!(change.fine(T + 50, before, now), T + 49, "began before it");
        assert_eq!(change.fine(T + 50, seen(&change), now), T + 50);
        assert_eq!(change.fine(T + 50, during, now), T + 50, "seen quiet since");
    }

    #[test]
    fn a_clock_set_back_takes_nothing_back() {
        let change = ChangeAttr::default();
        assert_eq!(change.fine(T, look(0), || T), T);
        let hour = 3600 * SECOND;
        let now = || T - hour;
        let mut last = T;
        for step in 1..100 {
            let number = change.fine(T - hour - SECOND + step, look(0), now);
            assert!(number > last, "{step}");
            last = number;
            assert_eq!(change.fine(T - hour - SECOND + step, look(0), now), last);
        }
        let (ctime, later) = (T - hour - SECOND + 99, || T + SECOND);
        assert_eq!(change.fine(ctime, look(0), later), last, "nothing changed");
        assert!(change.fine(T + hour, look(0), || T + hour) > last);
    }

    #[test]
    fn coarse_changes_within_a_tick_differ() {
        let change = ChangeAttr::default();
        let first = change.coarse(T, look(0), || T + 100);
        assert_eq!(change.coarse(T, look(0), || T + SECOND), first, "the same");
        let second = change.coarse(T, look(1), || T + 100);
        assert!(second > first);
        assert_eq!(change.coarse(T, look(1), || T + 100), second);
        let next = change.coarse(T + 1_000_000, look(2), || T + 1_000_000);
        assert!(next > second);
    }

    #[test]
    fn a_restart_within_the_tick_hides_nothing() {
        let first = ChangeAttr::default().coarse(T, look(0), || T + 1_000);
        // Forgotten, changed once more in the same tick, seen within it and long after.
        let again = ChangeAttr::default().coarse(T, look(0), || T + 1_000_000);
        let after = ChangeAttr::default().coarse(T, look(0), || T + 90 * SECOND);
        assert!(first < again && again < after);
        let other = ChangeAttr::default().coarse(T, look(0), || T + 4_000 * SECOND);
        assert_eq!(after, other, "two starts agree on what is settled");
        assert!(after < T + 1_000_000, "the next tick is above");
    }

    #[test]
    fn whole_seconds_are_a_tick_of_a_second() {
        let t = 1_700_000_000 * SECOND;
        let early = ChangeAttr::default().coarse(t, look(0), || t + SECOND / 2);
        let late = ChangeAttr::default().coarse(t, look(0), || t + 5 * SECOND);
        assert!(t < early && early < late && late < t + SECOND);
    }

    #[test]
    fn kernels_are_told_apart() {
        for (release, yes) in [
            ("6.13.0", true),
            ("6.18.44-fc-v669", true),
            ("7.0-rc1", true),
            ("6.12.9-amd64", false),
            ("5.15", false),
            ("x", false),
        ] {
            assert_eq!(at_least(release, 6, 13), yes, "{release}");
        }
        assert_eq!(nanos(Time { sec: -5, nsec: 7 }), 7, "clamped");
        assert_eq!(
            nanos(Time {
                sec: i64::MAX,
                nsec: 1
            }),
            u64::MAX
        );
    }

    proptest! {
        /// Every state a looker sees, over restarts and ticks, has a number of its own, and the numbers
        /// grow with the states.
        #[test]
        fn states_and_numbers_grow_together(
            steps in prop::collection::vec((0u64..3, 1u64..30_000_000), 1..200),
            hertz in prop::sample::select(vec![1_000_000u64, 4_000_000, 10_000_000]),
        ) {
            let mut change = ChangeAttr::default();
            let (mut now, mut ctime, mut changes, mut state) = (T, T / hertz * hertz + 1, 0, 0u64);
            let mut last = (0, 0);
            for (step, pass) in steps {
                now += if step == 0 { pass } else { pass / 1_000 + 64 };
                match step {
                    1 => {
                        (state, changes) = (state + 1, changes + 1);
                        ctime = now / hertz * hertz + 1;
                    }
                    2 => {
                        change = ChangeAttr::default();
                        changes = 0;
                    }
                    _ => {}
                }
                let number = change.coarse(ctime, look(changes), || now);
                prop_assert!(number >= last.1);
                if state != last.0 {
                    prop_assert!(number > last.1, "state {state} hides behind {number}");
                }
                last = (state, number);
            }
        }
    }
}
