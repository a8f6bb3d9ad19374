//! Order among operations on one file: a fair asynchronous lock for directory changes, and the
//! bookkeeping that tells whether a change had the file to itself.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct State {
    held: bool,
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

/// An asynchronous lock, first come first served, usable from every worker.
#[derive(Clone, Default)]
pub struct Turn(Arc<Mutex<State>>);

/// Holds the lock until dropped.
pub struct TurnGuard(Turn);

/// Future of [`Turn::take`].
pub struct Take {
    turn: Turn,
    ticket: Option<u64>,
    done: bool,
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the lock.
    pub fn take(&self) -> Take {
        Take {
            turn: self.clone(),
            ticket: None,
            done: false,
        }
    }

    /// Wakes whoever is first in line, who stays in line until it polls.
    fn wake_first(&self) {
        let waker = self.state().waiting.front().map(|(_, w)| w.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Take {
    type Output = TurnGuard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TurnGuard> {
        let turn = self.turn.clone();
        let mut state = turn.state();
        let first = match self.ticket {
            None => state.waiting.is_empty(),
            Some(ticket) => state.waiting.front().is_some_and(|(t, _)| *t == ticket),
        };
        if first && !state.held {
            state.held = true;
            if self.ticket.take().is_some() {
                state.waiting.pop_front();
            }
            self.done = true;
            return Poll::Ready(TurnGuard(self.turn.clone()));
        }
        match self.ticket {
            Some(ticket) => {
                if let Some(entry) = state.waiting.iter_mut().find(|(t, _)| *t == ticket) {
                    entry.1 = cx.waker().clone();
                }
            }
            None => {
                let ticket = state.next;
                state.next += 1;
                state.waiting.push_back((ticket, cx.waker().clone()));
                self.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let wake = {
            let mut state = self.turn.state();
            state.waiting.retain(|(t, _)| *t != ticket);
            !state.held
        };
        // The wake-up meant for this one may have been spent: pass it on.
        if wake {
            self.turn.wake_first();
        }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.0.state().held = false;
        self.0.wake_first();
    }
}

#[derive(Default)]
struct Counts {
    running: u32,
    started: u64,
}

/// Counts changes of one file in progress, so that "attributes before" are only given to a client
/// when nothing else the server did fell between them and "attributes after".
#[derive(Clone, Default)]
pub struct Changes(Arc<(Mutex<Counts>, AtomicU64)>);

/// One change in progress.
pub struct Change {
    changes: Changes,
    serial: u64,
    began_alone: bool,
    /// Counted when it is made; not again.
    counts: bool,
}

impl Changes {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of changes so far, if none is running.
    pub fn quiet(&self) -> Option<u64> {
        let counts = self.counts();
        (counts.running == 0).then_some(counts.started)
    }

    /// A change begins: take the "before" attributes after this.
    pub fn begin(&self) -> Change {
        self.start(true)
    }

    /// As [`Changes::begin`], for what changes nothing itself or counts by [`Changes::happened`].
    pub fn attend(&self) -> Change {
        self.start(false)
    }

    /// The number of changes made so far: those begun and at their end.
    pub fn made(&self) -> u64 {
        self.0.1.load(Ordering::Acquire)
    }

    /// One change was made.
    pub fn happened(&self) {
        self.0.1.fetch_add(1, Ordering::AcqRel);
    }

    fn start(&self, counts_itself: bool) -> Change {
        let mut counts = self.counts();
        let began_alone = counts.running == 0;
        counts.running += 1;
        counts.started += 1;
        Change {
            changes: self.clone(),
            serial: counts.started,
            began_alone,
            counts: counts_itself,
        }
    }
}

impl Change {
    /// It is made: take the "after" attributes after this.
    pub fn made(&mut self) {
        if std::mem::take(&mut self.counts) {
            self.changes.happened();
        }
    }

    /// True if no other change overlapped up to now: ask after taking the "after" attributes.
    pub fn alone(&self) -> bool {
        self.began_alone && self.changes.counts().started == self.serial
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.made();
        self.changes.counts().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(take: &mut Take) -> Option<TurnGuard> {
        match Pin::new(take).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(guard) => Some(guard),
            Poll::Pending => None,
        }
    }

    #[test]
    fn first_come_first_served() {
        let turn = Turn::default();
        let (mut a, mut b, mut c) = (turn.take(), turn.take(), turn.take());
        let guard = poll(&mut a).expect("free");
        assert!(poll(&mut b).is_none() && poll(&mut c).is_none());
        drop(guard);
        assert!(poll(&mut c).is_none(), "b came first");
        let guard = poll(&mut b).expect("b's turn");
        drop(guard);
        assert!(poll(&mut c).is_some());
    }

    #[test]
    fn a_dropped_waiter_leaves_the_line() {
        let turn = Turn::default();
        let (mut a, mut b, mut c) = (turn.take(), turn.take(), turn.take());
        let guard = poll(&mut a).expect("free");
        assert!(poll(&mut b).is_none() && poll(&mut c).is_none());
        drop(guard);
        drop(b);
        assert!(poll(&mut c).is_some());
    }

    #[test]
    fn overlap_is_noticed_from_both_sides() {
        let changes = Changes::default();
        let first = changes.begin();
        assert!(first.alone());
        let second = changes.begin();
        assert!(!first.alone() && !second.alone());
        drop(first);
        assert!(!second.alone(), "it overlapped once");
        drop(second);
        assert!(changes.begin().alone());
        assert_eq!(changes.made(), 3);
        let mut last = changes.begin();
        last.made();
        drop(last);
        drop(changes.attend());
        assert_eq!(changes.made(), 4, "each once, and none that only attended");
    }
}
