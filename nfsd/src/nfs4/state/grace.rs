//! The grace period: who may reclaim what it held before the restart, and when everybody else may go on
//! (RFC 8881 8.4.2 and 8.4.3, RFC 7530 9.6.2 and 9.6.3).
//!
//! ```text
//! Waiting --all complete, or time over--> Ending --Grace::ended--> Over
//! ```
//!
//! In `Ending` the clients that did not reclaim are being struck from the recovery store. No new client may begin to
//! reclaim and nobody may get new state until that is on disk: otherwise a crash in between would let such a client
//! reclaim, after the next restart, what others got in the meantime (the second edge condition of RFC 8881 8.4.3). The
//! first, a partition and a lost lease before the restart, is met by [`ClientRecord::may_reclaim`].
//!
//! Who got back only a part before grace ended loses the right to the rest, too: in 4.1 a client that has not sent
//! RECLAIM_COMPLETE, in 4.0 one that did nothing but reclaim until then ([`Grace::goes_on`]).

use crate::nfs4::recovery::{Class, ClientKey, ClientRecord, Ending};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Once the time is over, grace goes on while the last reclaim is less than this ago, up to twice the time.
pub const QUIET: Duration = Duration::from_secs(5);

/// Why a reclaim is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `NFS4ERR_NO_GRACE`: grace is over, or the client said that it has reclaimed all, or others may have held in the
    /// meantime what it reclaims.
    NoGrace,
    /// `NFS4ERR_RECLAIM_BAD` (RFC 8881 15.1.9.4): the client held nothing before the restart.
    ReclaimBad,
}

/// A reclaim under way. Grace does not end before it is dropped: keep it until what is reclaimed is granted.
#[derive(Debug)]
#[must_use]
pub struct Reclaim(Arc<AtomicUsize>);

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What to do for the grace period now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing; look again at this time, or when a client has completed.
    Wait(Instant),
    /// Write this to the recovery store, then call [`Grace::ended`]; on an error look again later.
    End(Ending),
    /// Nothing, ever.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Ending,
    Over,
}

#[derive(Debug)]
struct Known {
    principal: Arc<str>,
    may_reclaim: bool,
    /// Has reclaimed something.
    reclaimed: bool,
    /// Has done something else since then.
    went_on: bool,
    /// Has sent RECLAIM_COMPLETE.
    complete: bool,
}

impl Known {
    fn awaited(&self) -> bool {
        self.may_reclaim && !self.complete
    }
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Clients with a record from before the restart.
    known: HashMap<ClientKey, Known>,
    /// Those of them grace waits for.
    awaited: usize,
    /// There were hosts of NLM too: they cannot say that they have reclaimed all.
    hosts: bool,
    last_reclaim: Option<Instant>,
}

/// The grace period of one run of the server.
#[derive(Debug)]
pub struct Grace {
    /// Set until the end is on disk.
    open: AtomicBool,
    inner: Mutex<Inner>,
    under_way: Arc<AtomicUsize>,
    /// When it ends, if nobody reclaims towards the end.
    until: Instant,
    /// When it ends at the latest.
    latest: Instant,
}

impl Grace {
    /// Begins now, given the records of clients found at the start. When none of them may reclaim, there is no grace
    /// period: the first [`Grace::step`] then only clears away what was found.
    ///
    /// `time` is to be at least the lease time of the server's previous run (RFC 8881 8.4.2.1).
    pub fn new(records: &[(ClientKey, ClientRecord)], time: Duration, now: Instant) -> Grace {
        let known: HashMap<_, _> = records
            .iter()
            .map(|(key, record)| {
                let known = Known {
                    principal: record.principal.clone(),
                    may_reclaim: record.may_reclaim,
                    reclaimed: false,
                    went_on: false,
                    complete: false,
                };
                (key.clone(), known)
            })
            .collect();
        let awaited = known.values().filter(|known| known.awaited()).count();
        let phase = match known.len() {
            0 => Phase::Over,
            _ => Phase::Waiting,
        };
        Grace {
            open: AtomicBool::new(awaited > 0),
            inner: Mutex::new(Inner {
                phase,
                known,
                awaited,
                hosts: false,
                last_reclaim: None,
            }),
            under_way: Arc::default(),
            until: now + time,
            latest: now + 2 * time,
        }
    }

    /// The same with hosts of NLM that may reclaim: it lasts its whole time.
    pub fn and_hosts(mut self, hosts: bool) -> Grace {
        if hosts {
            let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            (inner.hosts, inner.phase) = (true, Phase::Waiting);
            self.open = AtomicBool::new(true);
        }
        self
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new state must be refused with `NFS4ERR_GRACE`. One relaxed load: it only ever turns false, and
    /// whoever still sees true refuses once too often.
    pub fn in_grace(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether this client may reclaim now. What is returned must be kept until the reclaim is done.
    ///
    /// # Errors
    /// See [`Refused`]. A client whose principal is not the recorded one held nothing.
    pub fn may_reclaim(
        &self,
        client: &ClientKey,
        principal: &str,
        now: Instant,
    ) -> Result<Reclaim, Refused> {
        if !self.in_grace() {
            return Err(Refused::NoGrace);
        }
        let mut inner = self.inner();
        let waiting = inner.phase == Phase::Waiting;
        let known = inner.known.get_mut(client).ok_or(Refused::ReclaimBad)?;
        if !known.principal.is_empty() && *known.principal != *principal {
            return Err(Refused::ReclaimBad);
        }
        if !waiting || !known.awaited() {
            return Err(Refused::NoGrace);
        }
        (known.reclaimed, known.went_on) = (true, false);
        inner.last_reclaim = Some(now);
        // Under the mutex, so that `step` sees it or this sees the phase `step` left.
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Ok(Reclaim(self.under_way.clone()))
    }

    /// As [`Grace::may_reclaim`], for a host of NLM that was monitored before the restart.
    ///
    /// # Errors
    /// [`Refused::NoGrace`].
    pub fn may_reclaim_host(&self, now: Instant) -> Result<Reclaim, Refused> {
        let mut inner = self.inner();
        if !self.in_grace() || inner.phase != Phase::Waiting {
            return Err(Refused::NoGrace);
        }
        inner.last_reclaim = Some(now);
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Ok(Reclaim(self.under_way.clone()))
    }

    /// The client has sent RECLAIM_COMPLETE for all file systems: it may not reclaim any more. Whether it was sent
    /// before is for the caller to know. True when grace can end now: take a [`Grace::step`] soon.
    pub fn reclaim_complete(&self, client: &ClientKey) -> bool {
        if !self.in_grace() {
            return false;
        }
        let mut inner = self.inner();
        let Some(known) = inner.known.get_mut(client) else {
            return false;
        };
        let counts = known.awaited();
        known.complete = true;
        inner.awaited -= usize::from(counts);
        counts && inner.awaited == 0 && !inner.hosts
    }

    /// A 4.0 client does something else than reclaim. Nothing else says that it has reclaimed all it wants.
    pub fn goes_on(&self, client: &ClientKey) {
        if let Some(known) = self.inner().known.get_mut(client) {
            known.went_on = known.reclaimed;
        }
    }

    /// The client is gone (DESTROY_CLIENTID, lease expired, administrator): it may not reclaim, and grace does not wait
    /// for it. Its record is for the caller to remove. True when grace can end now.
    pub fn forget(&self, client: &ClientKey) -> bool {
        if !self.in_grace() {
            return false;
        }
        let mut inner = self.inner();
        let Some(known) = inner.known.remove(client) else {
            return false;
        };
        let counts = known.awaited();
        inner.awaited -= usize::from(counts);
        counts && inner.awaited == 0 && !inner.hosts
    }

    /// Clients grace still waits for.
    pub fn awaited(&self) -> usize {
        match self.in_grace() {
            true => self.inner().awaited,
            false => 0,
        }
    }

    /// The time left if nobody completes or reclaims any more; `None` when not in grace.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let end = self.end(&self.inner());
        self.in_grace().then(|| end.saturating_duration_since(now))
    }

    /// When time ends it.
    fn end(&self, inner: &Inner) -> Instant {
        let quiet = inner.last_reclaim.map(|last| last + QUIET);
        quiet.map_or(self.until, |quiet| quiet.clamp(self.until, self.latest))
    }

    /// What is to be done now. Ends grace when its time has come.
    pub fn step(&self, now: Instant) -> Step {
        let mut inner = self.inner();
        if inner.phase == Phase::Over {
            return Step::Over;
        }
        if inner.phase == Phase::Waiting {
            let end = self.end(&inner);
            if (inner.awaited > 0 || inner.hosts) && now < end {
                return Step::Wait(end);
            }
            if self.under_way.load(Ordering::Acquire) > 0 {
                return Step::Wait(now);
            }
            inner.phase = Phase::Ending;
        }
        let mut ending = Ending::default();
        for (key, known) in &inner.known {
            match key.class() {
                _ if known.complete => {}
                _ if !known.reclaimed => ending.drop.push(key.clone()),
                Class::V40 if known.went_on => {}
                // It may have more to reclaim, which others can get from now on.
                Class::V40 | Class::V41 => ending.distrust.push(key.clone()),
            }
        }
        ending.drop.sort_unstable();
        ending.distrust.sort_unstable();
        Step::End(ending)
    }

    /// What [`Step::End`] said is on disk: grace is over.
    pub fn ended(&self) {
        let mut inner = self.inner();
        if inner.phase == Phase::Ending {
            inner.phase = Phase::Over;
            inner.known = HashMap::new();
            inner.awaited = 0;
            self.open.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
