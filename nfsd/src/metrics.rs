//! What `ringnfs stats` prints: counters of all workers, and what the server holds right now.

use std::collections::BTreeMap;
use std::sync::{PoisonError, mpsc};
use std::time::Duration;

use crate::server::Shared;
use crate::worker;

/// How long a worker may take to answer; a stuck one is left out and counted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every metric by name.
fn collect(shared: &Shared) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for counters in shared
        .counters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        counters.collect(&mut all);
    }
    let (sender, receiver) = mpsc::channel();
    for remote in &shared.remotes {
        let sender = sender.clone();
        remote.post(move || drop(sender.send(worker::gauges())));
    }
    drop(sender);
    let mut answered = 0;
    while answered < shared.remotes.len() {
        let Ok(gauges) = receiver.recv_timeout(PATIENCE) else {
            break;
        };
        answered += 1;
        for (name, value) in gauges {
            *all.entry(name.to_owned()).or_default() += value;
        }
    }
    all.insert("workers".to_owned(), shared.remotes.len() as u64);
    all.insert(
        "workers.stuck".to_owned(),
        (shared.remotes.len() - answered) as u64,
    );
    all.insert("connections".to_owned(), shared.connections.total() as u64);
    all.insert("files.open".to_owned(), shared.vfs.table.len() as u64);
    let cached = shared.vfs.table.acls_cached();
    let live = acl::live();
    all.insert("acls.cached".to_owned(), cached as u64);
    all.insert("acls.in_use".to_owned(), live.saturating_sub(cached) as u64);
    let drc = shared.drc.counts();
    all.insert("drc.entries".to_owned(), drc.entries as u64);
    all.insert("drc.bytes".to_owned(), drc.bytes as u64);
    all.insert("drc.replayed".to_owned(), drc.replayed);
    all.insert("drc.dropped".to_owned(), drc.dropped);
    all.insert("drc.untracked".to_owned(), drc.untracked);
    all
}

/// One `name value` a line.
pub fn text(shared: &Shared) -> String {
    collect(shared)
        .iter()
        .map(|(name, value)| format!("{name} {value}\n"))
        .collect()
}

/// One JSON object.
pub fn json(shared: &Shared) -> String {
    let mut text = serde_json::to_string_pretty(&collect(shared)).unwrap_or_default();
    text.push('\n');
    text
}
