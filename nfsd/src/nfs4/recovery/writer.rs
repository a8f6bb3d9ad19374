//! The thread that writes: takes what has queued up, commits it as one transaction, tells everybody waiting.

use super::file::{Backend, CLIENTS, HOSTS, META, META_CLEAN, META_EPOCH};
use super::record::{ClientKey, ClientRecord, encode_host};
use super::{BATCH_MAX, CLIENTS_MAX, Ending, HOSTS_MAX, StoreError};
use crate::nlm::state::HostKey;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use std::sync::mpsc::Receiver;
use vfs::exec::oneshot;

/// One change of the store.
#[derive(Debug)]
pub(super) enum Change {
    Put(ClientKey, ClientRecord),
    Remove(ClientKey),
    Revoke(ClientKey),
    PutHost(HostKey),
    RemoveHost(HostKey),
    EndGrace(Ending),
    /// The last one: the server stops in order.
    Close,
}

/// A change and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

type Clients<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;
type Hosts<'txn> = redb::Table<'txn, &'static [u8], u32>;

/// What became of a change that the database itself took without error.
enum Effect {
    Changed,
    /// It is so already, and was committed.
    Same,
    Refused(StoreError),
}

pub(super) struct Writer {
    pub(super) backend: Backend,
    /// Closed after an error; opened again for the next transaction.
    pub(super) database: Option<Database>,
    /// Of this start.
    pub(super) epoch: u32,
    /// The last transaction failed, which was logged.
    pub(super) failing: bool,
}

impl Writer {
    /// Until every sender is gone or [`Change::Close`] is done.
    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            batch.extend(queue.try_iter().take(BATCH_MAX - 1));
            let last = batch.iter().any(|job| matches!(job.change, Change::Close));
            let results = self.commit(&batch);
            let tell = || {
                for (job, result) in batch.into_iter().zip(results) {
                    job.done.send(result);
                }
            };
            if last {
                // Closed and unlocked before anybody hears of it, so that another server can open it at once.
                drop(self);
                return tell();
            }
            tell();
        }
    }

    /// One transaction. Returns one result for each change.
    fn commit(&mut self, batch: &[Job]) -> Vec<Result<(), StoreError>> {
        match self.transaction(batch) {
            Ok(results) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("recovery database: written again");
                }
                results
            }
            Err(error) => {
                // After an error the database refuses everything until it is opened again.
                self.database = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(
                        "recovery database: {error}; until it can be written no client gets its first state"
                    );
                }
                vec![Err(StoreError::Failed); batch.len()]
            }
        }
    }

    fn transaction(&mut self, batch: &[Job]) -> Result<Vec<Result<(), StoreError>>, redb::Error> {
        let epoch = self.epoch;
        let write = self.open()?.begin_write()?;
        let mut results = Vec::with_capacity(batch.len());
        let mut changed = false;
        {
            let mut clients = write.open_table(CLIENTS)?;
            let mut hosts = write.open_table(HOSTS)?;
            for job in batch {
                let effect = match job.change {
                    Change::Close => {
                        write.open_table(META)?.insert(META_CLEAN, 1)?;
                        Effect::Changed
                    }
                    ref change => apply(&mut clients, &mut hosts, change, epoch)?,
                };
                changed |= matches!(effect, Effect::Changed);
                results.push(match effect {
                    Effect::Refused(error) => Err(error),
                    Effect::Changed | Effect::Same => Ok(()),
                });
            }
        }
        if changed {
            write.commit()?;
        } else {
            write.abort()?;
        }
        Ok(results)
    }

    fn open(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            let database = self.backend.database()?;
            let meta = database.begin_read()?.open_table(META)?;
            let found = meta.get(META_EPOCH)?.map(|guard| guard.value());
            if found != Some(self.epoch.into()) {
                return Err(redb::Error::Corrupted(
                    "it is not the one this server started with".to_owned(),
                ));
            }
            self.database = Some(database);
        }
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

fn apply(
    clients: &mut Clients<'_>,
    hosts: &mut Hosts<'_>,
    change: &Change,
    epoch: u32,
) -> Result<Effect, redb::Error> {
    match change {
        Change::Put(key, record) => put(clients, key, record, epoch),
        Change::Remove(key) => Ok(effect(clients.remove(&*key.encode())?.is_some())),
        Change::Revoke(key) => revoke(clients, key, |_| true),
        Change::PutHost(host) => put_host(hosts, host, epoch),
        Change::RemoveHost(host) => Ok(effect(hosts.remove(&*encode_host(host))?.is_some())),
        Change::EndGrace(ending) => {
            let ended = end_grace(clients, ending, epoch)?;
            // Hosts that reclaimed nothing: others may get from now on what they had.
            let before = hosts.len()?;
            hosts.retain(|_, last| last == epoch)?;
            let changed = hosts.len()? != before;
            Ok(effect(changed || matches!(ended, Effect::Changed)))
        }
        Change::Close => Ok(Effect::Same),
    }
}

fn effect(changed: bool) -> Effect {
    match changed {
        true => Effect::Changed,
        false => Effect::Same,
    }
}

fn put(
    clients: &mut Clients<'_>,
    key: &ClientKey,
    record: &ClientRecord,
    epoch: u32,
) -> Result<Effect, redb::Error> {
    let record = ClientRecord {
        epoch,
        ..record.clone()
    };
    let (key, Some(value)) = (key.encode(), record.encode()) else {
        return Ok(Effect::Refused(StoreError::TooLong));
    };
    let old = clients.get(&*key)?;
    let same = old.as_ref().is_some_and(|old| old.value() == value);
    let new = old.is_none();
    drop(old);
    if same {
        return Ok(Effect::Same);
    }
    if new && clients.len()? >= CLIENTS_MAX {
        return Ok(Effect::Refused(StoreError::Full));
    }
    clients.insert(&*key, &*value)?;
    Ok(Effect::Changed)
}

fn put_host(hosts: &mut Hosts<'_>, host: &HostKey, epoch: u32) -> Result<Effect, redb::Error> {
    let key = encode_host(host);
    let old = hosts.get(&*key)?.map(|guard| guard.value());
    if old == Some(epoch) {
        return Ok(Effect::Same);
    }
    if old.is_none() && hosts.len()? >= HOSTS_MAX {
        return Ok(Effect::Refused(StoreError::Full));
    }
    hosts.insert(&*key, epoch)?;
    Ok(Effect::Changed)
}

/// The record as it is now; `None` also when it cannot be read, which the check at the start excludes.
fn read(clients: &Clients<'_>, key: &[u8]) -> Result<Option<ClientRecord>, redb::Error> {
    let found = clients.get(key)?;
    Ok(found.and_then(|bytes| ClientRecord::decode(bytes.value())))
}

/// Takes the right to reclaim from the client, if `which` says so of its record.
fn revoke(
    clients: &mut Clients<'_>,
    key: &ClientKey,
    which: impl FnOnce(&ClientRecord) -> bool,
) -> Result<Effect, redb::Error> {
    let key = key.encode();
    let Some(mut record) = read(clients, &key)?.filter(|r| r.may_reclaim && which(r)) else {
        return Ok(Effect::Same);
    };
    record.may_reclaim = false;
    let Some(value) = record.encode() else {
        return Ok(Effect::Refused(StoreError::TooLong));
    };
    clients.insert(&*key, &*value)?;
    Ok(Effect::Changed)
}

/// A client may have gone on since `ending` was made: what it put in this epoch is not touched.
fn end_grace(
    clients: &mut Clients<'_>,
    ending: &Ending,
    epoch: u32,
) -> Result<Effect, redb::Error> {
    let mut changed = false;
    for key in &ending.drop {
        let bytes = key.encode();
        if read(clients, &bytes)?.is_some_and(|record| record.epoch != epoch) {
            clients.remove(&*bytes)?;
            changed = true;
        }
    }
    for key in &ending.distrust {
        let unfinished = |record: &ClientRecord| record.epoch != epoch || !record.reclaim_complete;
        changed |= matches!(revoke(clients, key, unfinished)?, Effect::Changed);
    }
    Ok(effect(changed))
}
