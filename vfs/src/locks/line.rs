//! The line of one file: lock requests that wait for others' locks to go, first come first served.
//! Who may try is told so once, and for a short time nobody who came later takes its place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mirror::Mirror;
use super::range::{Held, Ranges};
use super::{Holder, OwnerId};

/// Most requests that wait for one file.
pub const LINE_MAX: usize = 1024;
/// How long the place of who was told to try is kept, from the first moment somebody else asks.
pub const KEPT: Duration = Duration::from_secs(1);

/// Called when a waiting request may be tried now. It runs on the thread that let go of the lock,
/// possibly under its client's mutex: it may only wake or queue something.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// How a request in line stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Others hold what it wants, or come first.
    Waiting,
    /// It may be tried: its range is kept for it.
    Ready,
    /// Its lock was granted, or it did not come in time: it is in line no more.
    Gone,
}

struct Waiter {
    serial: u64,
    holder: Holder,
    wanted: Held,
    ready: bool,
    /// Only the host is in the way, as far as was asked.
    held_up: bool,
    /// Set once it is ready and somebody else asks.
    until: Option<Instant>,
    notify: Notify,
}

impl Waiter {
    fn conflicts(&self, owner: OwnerId, wanted: &Held) -> bool {
        self.holder.owner != owner
            && self.wanted.range.overlaps(&wanted.range)
            && self.wanted.kind.conflicts(wanted.kind)
    }
}

/// The line.
#[derive(Default)]
pub(super) struct Line(VecDeque<Waiter>);

impl Line {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A request joins at the end. False when the line is full.
    pub(super) fn join(
        &mut self,
        serial: u64,
        holder: Holder,
        wanted: Held,
        notify: Notify,
    ) -> bool {
        if self.0.len() >= LINE_MAX {
            return false;
        }
        self.0.push_back(Waiter {
            serial,
            holder,
            wanted,
            ready: false,
            held_up: false,
            until: None,
            notify,
        });
        true
    }

    pub(super) fn leave(&mut self, serial: u64) {
        self.0.retain(|w| w.serial != serial);
    }

    /// The owner got a lock: what it waited for within that is granted.
    pub(super) fn granted(&mut self, owner: OwnerId, got: &Held) {
        self.0.retain(|w| {
            let same = w.holder.owner == owner && got.range.contains(&w.wanted.range);
            !(same && (got.kind == w.wanted.kind || got.kind == super::LockKind::Write))
        });
    }

    pub(super) fn place(&self, serial: u64) -> Place {
        match self.0.iter().find(|w| w.serial == serial) {
            None => Place::Gone,
            Some(w) if w.ready => Place::Ready,
            Some(_) => Place::Waiting,
        }
    }

    /// Somebody waits for the host.
    pub(super) fn held_up(&self) -> bool {
        self.0.iter().any(|w| w.held_up)
    }

    /// Those who wait for the host are to ask it again.
    pub(super) fn ask_again(&mut self) {
        for w in &mut self.0 {
            w.held_up = false;
        }
    }

    /// As [`Line::ask_again`], of those who would be in the way of a request that only came now.
    pub(super) fn ask_before(&mut self, owner: OwnerId, wanted: &Held) {
        for w in &mut self.0 {
            w.held_up &= !w.conflicts(owner, wanted);
        }
    }

    /// The owner was called and came, but the host was quicker: it keeps its place.
    pub(super) fn hold_up(&mut self, owner: OwnerId, wanted: &Held) {
        let own = |w: &&mut Waiter| w.ready && w.holder.owner == owner && w.wanted == *wanted;
        for w in self.0.iter_mut().filter(own) {
            (w.ready, w.held_up, w.until) = (false, true, None);
        }
    }

    /// Who may try now: nobody holds what it wants, nobody before it wants that. In order. Whom only the
    /// host keeps from it is not asked about again before [`Line::ask_again`].
    pub(super) fn call(&mut self, ranges: &Ranges, mirror: Option<&Mirror>) -> Vec<Notify> {
        let mut called = Vec::new();
        for at in 0..self.0.len() {
            let w = &self.0[at];
            let owner = w.holder.owner;
            if w.ready || w.held_up || ranges.conflict(owner, w.wanted).is_some() {
                continue;
            }
            let mut before = self.0.iter().take(at);
            if before.any(|first| first.conflicts(owner, &w.wanted)) {
                continue;
            }
            if mirror.is_some_and(|m| m.find(w.wanted).is_some()) {
                self.0[at].held_up = true;
                continue;
            }
            called.push(w.notify.clone());
            self.0[at].ready = true;
        }
        called
    }

    /// Time passes: whoever was ready and did not come in time leaves the line.
    pub(super) fn lapse(&mut self, now: Instant) {
        self.0.retain_mut(|w| {
            if !w.ready {
                return true;
            }
            let end = now.checked_add(KEPT).unwrap_or(now);
            now < *w.until.get_or_insert(end)
        });
    }

    /// For whom a range that somebody else wants is kept.
    pub(super) fn keeps(&self, owner: OwnerId, wanted: &Held) -> Option<(Holder, Held)> {
        let mut ready = self.0.iter().filter(|w| w.ready);
        let found = ready.find(|w| w.conflicts(owner, wanted))?;
        Some((found.holder, found.wanted))
    }
}
