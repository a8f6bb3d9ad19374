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
    all.insert("iowq.threads".to_owned(), iowq_threads());
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
    for (name, value) in state(shared) {
        all.insert(name.to_owned(), value);
    }
    all
}

/// io-wq threads of this process: the kernel makes them for what cannot be completed in place, and ends them when they
/// have had nothing to do for a while. It names them `iou-wrk-` and their submitter, and says no more about them.
fn iowq_threads() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = tasks.filter_map(|task| std::fs::read(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(b"iou-wrk-")).count() as u64
}

/// What NFSv4 clients hold, and what is held on files by anybody.
fn state(shared: &Shared) -> [(&'static str, u64); 19] {
    let (records, held) = (shared.state.counts(), shared.state.held());
    let files = shared.vfs.table.locks.counts();
    let opens = shared.opens.get().and_then(Option::as_ref);
    let watched = opens.map_or(0, |opens| opens.len());
    [
        ("nfs4.clients", records.clients as u64),
        ("nfs4.clients_unconfirmed", records.unconfirmed as u64),
        ("nfs4.client_names", records.names as u64),
        ("nfs4.sessions", records.sessions as u64),
        ("nfs4.reply_bytes_reserved", records.reserved as u64),
        ("nfs4.open_owners", held.open_owners as u64),
        ("nfs4.lock_owners", held.lock_owners as u64),
        ("nfs4.opens", held.opens as u64),
        ("nfs4.lock_sets", held.lock_sets as u64),
        ("nfs4.delegations", held.delegations as u64),
        ("nfs4.waits", held.waits as u64),
        ("nfs4.copies", held.copies as u64),
        ("locks.files", files.files),
        ("locks.shares", files.shares),
        ("locks.ranges", files.ranges),
        ("locks.delegations", files.delegations),
        ("locks.waiters", files.waiters),
        ("locks.on_host", files.mirrors),
        ("locks.watched_opens", watched as u64),
    ]
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
