//! Delegations are asked back (RFC 8881 10.4.5, 20.2; RFC 7530 10.4.6): CB_RECALL until the client
//! has heard it, and after one lease without a return the delegation is revoked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use vfs::exec;

use super::CbError;
use super::wire::{CbArgs, CbDone, CbRecall4args};
use crate::nfs4::durable;
use crate::nfs4::state::client::{Client, SeqStatus};
use crate::nfs4::state::deleg::DelegRef;
use crate::nfs4::state::stateid::{Home, Kind};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{NfsFh4, Stateid4};
use crate::server::Shared;

/// Most delegations asked back at a time. What is not asked for now is when somebody tries again.
pub const RECALLS_MAX: usize = 64 << 10;
/// After DELAY, and when the client could not be reached.
const AGAIN: Duration = Duration::from_secs(1);
/// The client may not have seen the reply that grants the delegation: it is asked again soon, then less often.
const UNKNOWN_AGAIN: Duration = Duration::from_millis(200);
/// How often is looked whether a delegation is back.
const LOOK: Duration = Duration::from_millis(500);

/// What to do about a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send CB_RECALL.
    Send,
    /// Nothing before that time.
    Wait(Instant),
    /// The client had its time.
    Revoke,
    /// The client had its time, and says that it does not have it: it took it for returned when the server restarted.
    Forget,
}

/// One delegation asked back.
#[derive(Clone, Copy, Debug)]
pub struct Recall {
    deadline: Instant,
    /// When to send next; `None` once the client has heard it.
    send: Option<Instant>,
    unknown: u32,
}

impl Recall {
    /// Asked back `now`, to be returned within `lease`.
    #[must_use]
    pub fn new(now: Instant, lease: Duration) -> Self {
        Recall {
            deadline: now.checked_add(lease).unwrap_or(now),
            send: Some(now),
            unknown: 0,
        }
    }

    /// What to do `now`.
    #[must_use]
    pub fn step(&self, now: Instant) -> Step {
        match self.send {
            _ if now >= self.deadline && self.unknown > 0 => Step::Forget,
            _ if now >= self.deadline => Step::Revoke,
            Some(at) if now >= at => Step::Send,
            Some(at) => Step::Wait(at.min(self.deadline)),
            None => Step::Wait(self.deadline),
        }
    }

    /// What CB_RECALL came to.
    pub fn answered(&mut self, answer: Result<CbDone, CbError>, now: Instant) {
        let later = |pause: Duration| now.checked_add(pause);
        self.send = match answer {
            Ok(CbDone::Failed(Nfsstat4::Delay)) => later(AGAIN),
            Ok(CbDone::Failed(Nfsstat4::BadStateid | Nfsstat4::Badhandle)) => {
                // However long that reply takes: who never hears of the recall holds the file for a whole lease.
                self.unknown = self.unknown.saturating_add(1);
                later(UNKNOWN_AGAIN.saturating_mul(self.unknown).min(AGAIN))
            }
            // Whatever else it says, it has heard it.
            Ok(_) | Err(CbError::Garbage) => {
                self.unknown = 0;
                None
            }
            Err(_) => later(AGAIN),
        };
    }
}

/// Delegations asked back.
#[derive(Default)]
pub struct Recalls(Mutex<HashMap<DelegRef, Recall, FixedState>>);

impl Recalls {
    fn all(&self) -> MutexGuard<'_, HashMap<DelegRef, Recall, FixedState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if it was not asked for yet.
    fn begin(&self, deleg: DelegRef, recall: Recall) -> bool {
        let mut all = self.all();
        if all.len() >= RECALLS_MAX || all.contains_key(&deleg) {
            return false;
        }
        all.insert(deleg, recall);
        true
    }

    fn step(&self, deleg: DelegRef, now: Instant) -> Option<Step> {
        self.all().get(&deleg).map(|recall| recall.step(now))
    }

    fn answered(&self, deleg: DelegRef, answer: Result<CbDone, CbError>, now: Instant) {
        if let Some(recall) = self.all().get_mut(&deleg) {
            recall.answered(answer, now);
        }
    }
}

/// Asks delegations back that have not been asked for yet; does not wait. Only on a worker, without
/// a lock of the state.
pub fn recall(server: &Arc<Shared>, conflicts: &[DelegRef]) {
    let (now, lease) = (exec::now(), server.state.config.lease);
    for deleg in conflicts {
        // One that is not there has been returned meanwhile.
        if mark(server, *deleg, now)
            && server
                .callbacks
                .recalls
                .begin(*deleg, Recall::new(now, lease))
        {
            exec::spawn(pursue(server.clone(), *deleg));
        }
    }
}

/// Notes in the file's table that the delegation is asked back; true while it is in force.
fn mark(server: &Shared, deleg: DelegRef, now: Instant) -> bool {
    let Some(client) = server.state.client(deleg.client) else {
        return false;
    };
    let inner = client.lock();
    let Some(held) = inner.holdings.deleg_at(deleg.key).filter(|d| !d.revoked()) else {
        return false;
    };
    held.guard.recall(now);
    true
}

/// A delegation on its way back, ended however the task ends.
struct Pursued<'s>(&'s Shared, DelegRef);

impl Drop for Pursued<'_> {
    fn drop(&mut self) {
        self.0.callbacks.recalls.all().remove(&self.1);
    }
}

async fn pursue(server: Arc<Shared>, deleg: DelegRef) {
    let pursued = Pursued(&server, deleg);
    while let Some((client, stateid, fh)) = outstanding(&server, deleg) {
        if server.stopping.load(std::sync::atomic::Ordering::Acquire) {
            break;
        }
        let now = exec::now();
        match server.callbacks.recalls.step(deleg, now) {
            Some(Step::Send) => {
                let args = CbArgs::Recall(CbRecall4args {
                    stateid,
                    truncate: false,
                    fh: NfsFh4(&fh),
                });
                let answer = client.channel.call(&server, &client, &args).await;
                tracing::debug!(client = client.number, ?answer, "CB_RECALL");
                server
                    .callbacks
                    .recalls
                    .answered(deleg, answer, exec::now());
            }
            Some(Step::Wait(until)) => {
                let pause = until.saturating_duration_since(now).min(LOOK);
                exec::sleep(pause).await;
            }
            Some(Step::Revoke) => revoke(&server, &client, deleg).await,
            Some(Step::Forget) => {
                tracing::info!(
                    client = client.number,
                    "delegation its client does not have"
                );
                let gone = client.lock().holdings.return_deleg(deleg.key);
                drop(gone);
            }
            None => break,
        }
    }
    drop(pursued);
}

/// What CB_RECALL says of a delegation that is still in force.
fn outstanding(server: &Shared, deleg: DelegRef) -> Option<(Arc<Client>, Stateid4, Box<[u8]>)> {
    let client = server.state.client(deleg.client)?;
    let inner = client.lock();
    let held = inner
        .holdings
        .deleg_at(deleg.key)
        .filter(|d| !d.revoked())?;
    let stateid = home(server, &client).stateid(Kind::Deleg, deleg.key, held.seqid);
    let fh = held.fh.clone();
    drop(inner);
    Some((client, stateid, fh))
}

fn home(server: &Shared, client: &Client) -> Home {
    Home {
        epoch: server.state.epoch,
        client: client.number,
        minor: client.minor,
    }
}

/// Takes a delegation away. Before anybody else gets the file it is written down, so that the client
/// does not reclaim it after a restart (RFC 8881 8.4.3).
async fn revoke(server: &Arc<Shared>, client: &Arc<Client>, deleg: DelegRef) {
    if let Err(error) = durable::revoked(server, client).await {
        tracing::warn!(client = client.number, %error, "delegation not revoked yet");
        exec::sleep(AGAIN).await;
        return;
    }
    tracing::info!(client = client.number, address = %client.address, "delegation revoked");
    let removed = {
        let mut inner = client.lock();
        let removed = inner.holdings.revoke_deleg(home(server, client), deleg.key);
        if inner.holdings.any_revoked() {
            client.raise(SeqStatus::RECALLABLE_STATE_REVOKED);
        }
        removed
    };
    drop(removed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(90);

    #[test]
    fn recalled_once_heard_and_revoked_after_a_lease() {
        let start = Instant::now();
        let mut recall = Recall::new(start, LEASE);
        assert_eq!(recall.step(start), Step::Send);
        recall.answered(Ok(CbDone::Ok), start);
        let end = start + LEASE;
        assert_eq!(recall.step(start), Step::Wait(end));
        assert_eq!(recall.step(end - Duration::from_nanos(1)), Step::Wait(end));
        assert_eq!(recall.step(end), Step::Revoke);
    }

    #[test]
    fn sent_again_until_heard() {
        let start = Instant::now();
        let mut recall = Recall::new(start, LEASE);
        for answer in [
            Ok(CbDone::Failed(Nfsstat4::Delay)),
            Err(CbError::Down),
            Err(CbError::Lost),
            Err(CbError::Busy),
        ] {
            recall.answered(answer, start);
            assert_eq!(recall.step(start), Step::Wait(start + AGAIN), "{answer:?}");
            assert_eq!(recall.step(start + AGAIN), Step::Send);
        }
    }

    #[test]
    fn a_client_may_not_know_the_delegation_yet() {
        let start = Instant::now();
        let mut recall = Recall::new(start, LEASE);
        let mut now = start;
        for _ in 0..20 {
            recall.answered(Ok(CbDone::Failed(Nfsstat4::BadStateid)), now);
            let Step::Wait(next) = recall.step(now) else {
                panic!("not sent again");
            };
            assert!(next > now && next <= now + AGAIN);
            now = next;
            assert_eq!(recall.step(now), Step::Send);
        }
        recall.answered(Ok(CbDone::Failed(Nfsstat4::Badhandle)), now);
        assert_eq!(recall.step(now), Step::Wait(now + AGAIN));
        // It does not have it: nothing is taken from it.
        assert_eq!(recall.step(start + LEASE), Step::Forget);
        recall.answered(Ok(CbDone::Ok), now);
        assert_eq!(recall.step(now), Step::Wait(start + LEASE), "heard");
        assert_eq!(recall.step(start + LEASE), Step::Revoke);
    }

    #[test]
    fn one_recall_of_one_delegation() {
        let recalls = Recalls::default();
        let now = Instant::now();
        let deleg = |key| DelegRef { client: 1, key };
        assert!(recalls.begin(deleg(1), Recall::new(now, LEASE)));
        assert!(!recalls.begin(deleg(1), Recall::new(now, LEASE)));
        assert!(recalls.begin(deleg(2), Recall::new(now, LEASE)));
        assert_eq!(recalls.len(), 2);
        assert_eq!(recalls.step(deleg(3), now), None);
    }

    proptest! {
        /// Whatever a client answers and when, it has its lease, and not more.
        #[test]
        fn nobody_is_revoked_early_or_spared(answers in proptest::collection::vec((0..8_u8, 0..5_000_u64), 0..60)) {
            let start = Instant::now();
            let mut recall = Recall::new(start, LEASE);
            let mut now = start;
            for (answer, ms) in answers {
                let over = now >= start + LEASE;
                prop_assert_eq!(matches!(recall.step(now), Step::Revoke | Step::Forget), over);
                if let Step::Wait(until) = recall.step(now) {
                    prop_assert!(until > now && until <= start + LEASE);
                }
                recall.answered(match answer {
                    0 => Ok(CbDone::Ok),
                    1 => Ok(CbDone::Failed(Nfsstat4::Delay)),
                    2 => Ok(CbDone::Failed(Nfsstat4::BadStateid)),
                    3 => Ok(CbDone::Failed(Nfsstat4::Serverfault)),
                    4 => Err(CbError::Down),
                    5 => Err(CbError::Garbage),
                    _ => Err(CbError::Lost),
                }, now);
                now += Duration::from_millis(ms);
            }
            prop_assert!(matches!(recall.step(start + LEASE), Step::Revoke | Step::Forget));
        }
    }
}
