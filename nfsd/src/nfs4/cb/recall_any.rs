//! CB_RECALL_ANY: clients are asked to keep fewer delegations, whichever they need least (RFC 8881
//! 20.6). Version 4.0 has no such word: there the server chooses, and recalls the oldest.

use std::sync::Arc;

use vfs::exec;
use vfs::locks::DelegState;

use super::recall::recall;
use super::wire::{CbArgs, CbRecallAny4args, RCA4_TYPES};
use crate::nfs4::state::client::Client;
use crate::nfs4::state::deleg::DelegRef;
use crate::server::Shared;

/// Most delegations of one client of 4.0 that are recalled at a time: each is a call.
const AT_ONCE: usize = 64;

/// What to keep of `held` when there are `total` and may be `max`: a tenth below its part, so that
/// there is room for a while.
#[must_use]
pub fn keep(held: usize, total: usize, max: usize) -> usize {
    if total <= max {
        return held;
    }
    let part = held as u128 * max as u128 * 9 / (total as u128 * 10);
    part as usize
}

/// Which of a client's delegations to recall so that it has `excess` fewer, by their keys: the oldest
/// ones. Those on their way back count.
fn oldest(held: impl Iterator<Item = (u32, DelegState)>, excess: usize) -> Vec<u32> {
    let (mut granted, mut coming) = (Vec::new(), 0);
    for (key, state) in held {
        match state {
            DelegState::Granted => granted.push(key),
            DelegState::Recalled(_) => coming += 1,
            DelegState::Revoked => {}
        }
    }
    let count = excess.saturating_sub(coming).min(AT_ONCE);
    if count < granted.len() && count > 0 {
        granted.select_nth_unstable(count);
    }
    granted.truncate(count);
    granted
}

/// When there are more than `max`, asks every client for its part. Only on a worker.
pub fn check(server: &Arc<Shared>, max: usize) {
    ask(server, |_| max);
}

/// Asks every client for half of what it holds: memory is scarce. False if nobody holds anything. Only
/// on a worker.
pub fn relieve(server: &Arc<Shared>) -> bool {
    let held = ask(server, |total| total / 2);
    if held > 0 {
        tracing::info!(
            held,
            "memory is scarce: clients are asked for half of their delegations"
        );
    }
    held > 0
}

/// How many delegations there are; `max` says how many there may be of so many.
fn ask(server: &Arc<Shared>, max: impl Fn(usize) -> usize) -> usize {
    let held = |client: Arc<Client>| {
        let held = client.lock().holdings.counts().delegations;
        (client, held)
    };
    let clients: Vec<_> = server.state.clients().into_iter().map(held).collect();
    let total = clients.iter().map(|(_, held)| held).sum();
    let max = max(total);
    for (client, held) in clients {
        let keep = keep(held, total, max);
        if keep >= held {
            continue;
        }
        if client.minor == 0 {
            recall_some(server, &client, held - keep);
        } else if client.has_sessions() && client.channel.running() == 0 {
            // One such call at a time: it is answered before anything is returned.
            exec::spawn(send(server.clone(), client, keep));
        }
    }
    total
}

/// Recalls so many delegations of a client of 4.0. Who cannot be called would lose them: nothing is in
/// their way, so they stay.
fn recall_some(server: &Arc<Shared>, client: &Arc<Client>, excess: usize) {
    if !client.channel.is_up(client) {
        return;
    }
    let keys = {
        let inner = client.lock();
        let held = inner.holdings.delegs();
        oldest(held.map(|(key, held)| (key, held.guard.state())), excess)
    };
    tracing::debug!(
        client = client.number,
        count = keys.len(),
        "the oldest recalled"
    );
    let named = |key| DelegRef {
        client: client.number,
        key,
    };
    let all: Vec<_> = keys.into_iter().map(named).collect();
    recall(server, &all);
}

/// Asks a client to keep at most so many delegations.
pub async fn send(server: Arc<Shared>, client: Arc<Client>, keep: usize) {
    let args = CbArgs::RecallAny(CbRecallAny4args {
        keep: u32::try_from(keep).unwrap_or(u32::MAX),
        types: RCA4_TYPES,
    });
    let answer = client.channel.call(&server, &client, &args).await;
    tracing::debug!(client = client.number, keep, ?answer, "CB_RECALL_ANY");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    #[test]
    fn within_the_limit_all_are_kept() {
        assert_eq!(keep(10, 100, 100), 10);
        assert_eq!(keep(0, 0, 0), 0);
        assert_eq!(keep(1, 1, 0), 0, "half of one is none");
    }

    #[test]
    fn the_oldest_are_recalled_once() {
        let (granted, recalled) = (DelegState::Granted, DelegState::Recalled(Instant::now()));
        let held = [
            (9, granted),
            (2, granted),
            (1, recalled),
            (7, granted),
            (3, DelegState::Revoked),
            (5, granted),
        ];
        let of = |excess| {
            let mut keys = oldest(held.into_iter(), excess);
            keys.sort_unstable();
            keys
        };
        assert!(of(0).is_empty());
        assert!(of(1).is_empty(), "one is coming back already");
        assert_eq!(of(3), [2, 5]);
        assert_eq!(of(5), [2, 5, 7, 9]);
        assert_eq!(of(50), [2, 5, 7, 9]);
        let many = (0..1000).rev().map(|key| (key, granted));
        let mut keys = oldest(many, 900);
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..AT_ONCE as u32));
    }

    proptest! {
        #[test]
        fn what_is_kept_fits(held in proptest::collection::vec(0..10_000_usize, 1..50), max in 0..100_000_usize) {
            let total = held.iter().sum();
            let kept: usize = held.iter().map(|held| keep(*held, total, max)).sum();
            prop_assert!(kept <= max.max(total.min(max)));
            prop_assert_eq!(kept == total, total <= max);
        }
    }
}
