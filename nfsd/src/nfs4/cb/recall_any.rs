//! CB_RECALL_ANY: clients are asked to keep fewer delegations, whichever they need least (RFC 8881
//! 20.6). Version 4.0 has no such word: there the server would have to choose.

use std::sync::Arc;

use vfs::exec;

use super::wire::{CbArgs, CbRecallAny4args, RCA4_TYPES};
use crate::nfs4::state::client::Client;
use crate::server::Shared;

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

/// When there are more than `max`, asks every client with sessions for its part. Only on a worker.
pub fn check(server: &Arc<Shared>, max: usize) {
    let held = |client: Arc<Client>| {
        let held = client.lock().holdings.counts().delegations;
        (client, held)
    };
    let clients: Vec<_> = server.state.clients().into_iter().map(held).collect();
    let total = clients.iter().map(|(_, held)| held).sum();
    for (client, held) in clients {
        let keep = keep(held, total, max);
        // One such call at a time: it is answered before anything is returned.
        if keep < held && client.has_sessions() && client.channel.running() == 0 {
            exec::spawn(send(server.clone(), client, keep));
        }
    }
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

    #[test]
    fn within_the_limit_all_are_kept() {
        assert_eq!(keep(10, 100, 100), 10);
        assert_eq!(keep(0, 0, 0), 0);
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
