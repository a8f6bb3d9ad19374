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

/// Whether the host is in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    /// Not asked yet.
    Unknown,
    /// The pool is to find out, or is at it.
    Asked,
    /// It was, as far as was asked.
    Bars,
    /// It was not.
    Free,
}

struct Waiter {
    serial: u64,
    holder: Holder,
    wanted: Held,
    ready: bool,
    host: Host,
    /// Set once it is ready and somebody else asks.
    until: Option<Instant>,
    notify: Notify,
}

impl Waiter {
    /// Only the host is in the way, or may be.
    fn held_up(&self) -> bool {
        matches!(self.host, Host::Asked | Host::Bars)
    }

    fn ask_again(&mut self) {
        if self.host == Host::Bars {
            self.host = Host::Unknown;
        }
    }

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
            host: Host::Unknown,
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
        self.0.iter().any(Waiter::held_up)
    }

    /// Those who wait for the host are to ask it again.
    pub(super) fn ask_again(&mut self) {
        self.0.iter_mut().for_each(Waiter::ask_again);
    }

    /// As [`Line::ask_again`], of those who would be in the way of a request that only came now.
    pub(super) fn ask_before(&mut self, owner: OwnerId, wanted: &Held) {
        let before = self.0.iter_mut().filter(|w| w.conflicts(owner, wanted));
        before.for_each(Waiter::ask_again);
    }

    /// Somebody waits for the pool to ask the host.
    pub(super) fn asks(&self) -> bool {
        self.0.iter().any(|w| w.host == Host::Asked)
    }

    /// What the pool is to ask about, by serial numbers.
    pub(super) fn asked(&self) -> Vec<(u64, Held)> {
        let asked = self.0.iter().filter(|w| w.host == Host::Asked);
        asked.map(|w| (w.serial, w.wanted)).collect()
    }

    /// It has asked: whether each may come.
    pub(super) fn answered(&mut self, found: &[(u64, bool)]) {
        for (serial, free) in found {
            let asked = |w: &&mut Waiter| w.serial == *serial && w.host == Host::Asked;
            if let Some(w) = self.0.iter_mut().find(asked) {
                w.host = if *free { Host::Free } else { Host::Bars };
            }
        }
    }

    /// It will not ask.
    pub(super) fn unanswered(&mut self) {
        let asked = |w: &&mut Waiter| w.host == Host::Asked;
        self.0
            .iter_mut()
            .filter(asked)
            .for_each(|w| w.host = Host::Bars);
    }

    /// The owner was called and came, but the host was quicker: it keeps its place.
    pub(super) fn hold_up(&mut self, owner: OwnerId, wanted: &Held) {
        let own = |w: &&mut Waiter| w.ready && w.holder.owner == owner && w.wanted == *wanted;
        for w in self.0.iter_mut().filter(own) {
            (w.ready, w.host, w.until) = (false, Host::Bars, None);
        }
    }

    /// Who may try now: nobody holds what it wants, nobody before it wants that. In order. Whom only the
    /// host keeps from it is not asked about again before [`Line::ask_again`].
    pub(super) fn call(&mut self, ranges: &Ranges, mirror: Option<&Mirror>) -> Vec<Notify> {
        let mut called = Vec::new();
        for at in 0..self.0.len() {
            let w = &self.0[at];
            let owner = w.holder.owner;
            if w.ready || w.held_up() || ranges.conflict(owner, w.wanted).is_some() {
                continue;
            }
            let mut before = self.0.iter().take(at);
            if before.any(|first| first.conflicts(owner, &w.wanted)) {
                continue;
            }
            if let Some(mirror) = mirror.filter(|_| w.host != Host::Free) {
                let host = match mirror.bars(w.wanted) {
                    Some(true) => Host::Bars,
                    Some(false) => Host::Free,
                    None => Host::Asked,
                };
                self.0[at].host = host;
                if self.0[at].held_up() {
                    continue;
                }
            }
            let w = &self.0[at];
            called.push(w.notify.clone());
            (self.0[at].ready, self.0[at].host) = (true, Host::Unknown);
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
