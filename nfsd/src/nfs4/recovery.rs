//! The recovery store: what must be known of clients after a restart, on stable storage (RFC 8881 8.4.3,
//! RFC 7530 9.6.3.4).
//!
//! | table | content |
//! |---|---|
//! | `meta` | schema version, boot epoch, NSM state, lease time, whether the last stop was orderly |
//! | `nfs4_clients` | [`ClientKey`] to [`ClientRecord`] |
//! | `nlm_hosts` | [`HostKey`] to the boot epoch it last locked in |
//!
//! A record must be committed before its client may rely on it: [`RecoveryStore::put`] before the first OPEN is
//! answered or confirmed and at RECLAIM_COMPLETE, [`RecoveryStore::revoke`] or [`RecoveryStore::remove`] before
//! anybody gets what a client lost. Commits wait for the disk, so one thread does them, everything that has queued up
//! in one transaction; who waits is a suspended future.

mod file;
mod record;
mod writer;

pub use file::StartError;
pub use record::{Class, ClientKey, ClientRecord, OWNER_MAX, PRINCIPAL_MAX};

use crate::nfs4::state::grace::{Grace, Step};
use crate::nlm::state::HostKey;
use file::{CLIENTS, HOSTS, META, META_CLEAN, META_EPOCH, META_LEASE, META_NSM};
use redb::{Database, ReadableTable as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use vfs::exec::{self, oneshot};
use writer::{Change, Job, Writer};

/// Changes waiting to be written; further ones are refused.
const QUEUE_MAX: usize = 4096;
/// Changes in one transaction.
const BATCH_MAX: usize = 1024;
/// Clients remembered.
const CLIENTS_MAX: u64 = 100_000;
/// Hosts of NLM remembered.
const HOSTS_MAX: u64 = 100_000;
/// How often [`run_grace`] looks whether grace can end.
const TICK: Duration = Duration::from_millis(100);
/// How long [`run_grace`] waits after an error of the store.
const RETRY: Duration = Duration::from_secs(1);

/// Why a change is not on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many changes wait; try again (`NFS4ERR_DELAY`).
    #[error("too many changes of the recovery database are waiting")]
    Busy,
    /// Disk full or I/O error, which is logged once; each further change tries again (`NFS4ERR_DELAY`). The change may
    /// be there after a restart nevertheless.
    #[error("the recovery database cannot be written")]
    Failed,
    /// 100,000 clients are remembered (`NFS4ERR_RESOURCE`, `NFS4ERR_SERVERFAULT`).
    #[error("the recovery database holds no more clients")]
    Full,
    /// The principal is above [`PRINCIPAL_MAX`] bytes (`NFS4ERR_SERVERFAULT`).
    #[error("the principal is too long for the recovery database")]
    TooLong,
    /// The store was closed: the server stops (`NFS4ERR_DELAY`).
    #[error("the recovery database is closed")]
    Stopped,
}

/// A change on its way to stable storage; the result of awaiting it. It is written also when this is dropped.
#[must_use = "the change is not on stable storage before this completes"]
pub struct Pending(Result<oneshot::Receiver<Result<(), StoreError>>, StoreError>);

impl Future for Pending {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Err(error) => Poll::Ready(Err(*error)),
            Ok(done) => Pin::new(done)
                .poll(cx)
                .map(|result| result.unwrap_or(Err(StoreError::Stopped))),
        }
    }
}

/// What the end of grace changes in the store, from [`Grace::step`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Clients that reclaimed nothing: their records go.
    pub drop: Vec<ClientKey>,
    /// Clients that began to reclaim and did not say that they are done, or in 4.0 nothing else since: not after the next
    /// restart, unless they say so before.
    pub distrust: Vec<ClientKey>,
}

/// What the previous run of the server left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// It stopped in order. `false` after a crash, and at the very first start.
    pub clean: bool,
    /// Its lease time; `None` at the very first start. Grace must be at least this long.
    pub lease: Option<Duration>,
    /// Every client it remembered, for [`Grace::new`].
    pub clients: Vec<(ClientKey, ClientRecord)>,
    /// Every host of NLM it monitored: to be told, and they may reclaim.
    pub hosts: Vec<HostKey>,
    /// The state of this run in NSM: odd, above that of the previous one.
    pub nsm_state: i32,
}

/// The open store.
pub struct RecoveryStore {
    /// `None` while dropped.
    queue: Option<SyncSender<Job>>,
    epoch: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RecoveryStore {
    /// Opens the store, makes it if there is none, and begins a boot epoch, which is on stable storage when this
    /// returns. `lease` is the lease time of this run. Waits for the disk.
    ///
    /// # Errors
    /// [`StartError`], which names the file and what to do.
    pub fn open(path: &Path, lease: Duration) -> Result<(RecoveryStore, Previous), StartError> {
        let (backend, database) = file::open(path)?;
        let (epoch, previous) = begin(path, &database, lease)?;
        let writer = Writer {
            backend,
            database: Some(database),
            epoch,
            failing: false,
        };
        let store = Self::start(writer).map_err(StartError::io(path, "starting its thread"))?;
        Ok((store, previous))
    }

    fn start(writer: Writer) -> std::io::Result<RecoveryStore> {
        let (epoch, (queue, jobs)) = (writer.epoch, sync_channel(QUEUE_MAX));
        let thread = std::thread::Builder::new()
            .name("recovery".to_owned())
            .spawn(move || writer.run(&jobs))?;
        Ok(RecoveryStore {
            queue: Some(queue),
            epoch,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The boot epoch: above that of every earlier run, never 0. A new database begins at the seconds since 1970, so
    /// that no epoch comes again when a database was lost.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Remembers a client, in place of what was remembered of it; the record's epoch becomes the current one. To be
    /// done before the client gets its first state of this epoch (4.0: the first OPEN that reclaims nothing, or what it does
    /// next after its reclaims; 4.1: RECLAIM_COMPLETE) and again when the record changes. What is the same already costs
    /// no write.
    pub fn put(&self, client: ClientKey, record: ClientRecord) -> Pending {
        self.submit(Change::Put(client, record))
    }

    /// Forgets a client: DESTROY_CLIENTID, or a lease that expired with all its state given up. In the second case it
    /// must be complete before anybody gets that state (first edge condition of RFC 8881 8.4.3).
    pub fn remove(&self, client: ClientKey) -> Pending {
        self.submit(Change::Remove(client))
    }

    /// The client keeps its record but may not reclaim after the next restart: some of its state was revoked. Must be
    /// complete before anybody gets that state. A later [`RecoveryStore::put`] with `may_reclaim` takes it back, when
    /// the client has shown that it knows (FREE_STATEID of everything revoked, a new incarnation).
    pub fn revoke(&self, client: ClientKey) -> Pending {
        self.submit(Change::Revoke(client))
    }

    /// Remembers a host of NLM before it gets its first lock or share of this epoch.
    pub fn put_host(&self, host: HostKey) -> Pending {
        self.submit(Change::PutHost(host))
    }

    /// Forgets a host of NLM that holds nothing.
    pub fn remove_host(&self, host: HostKey) -> Pending {
        self.submit(Change::RemoveHost(host))
    }

    /// Writes the end of grace, hosts of NLM that have locked nothing since the start included. Records put in this epoch stay.
    pub fn end_grace(&self, ending: Ending) -> Pending {
        self.submit(Change::EndGrace(ending))
    }

    /// Notes an orderly stop, after everything before it, and closes the file. Further changes are refused.
    pub fn close(&self) -> Pending {
        self.submit(Change::Close)
    }

    fn submit(&self, change: Change) -> Pending {
        let (done, result) = oneshot::channel();
        let Some(queue) = &self.queue else {
            return Pending(Err(StoreError::Stopped));
        };
        Pending(match queue.try_send(Job { change, done }) {
            Ok(()) => Ok(result),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Stopped),
        })
    }
}

/// Waits for the thread: what was queued is written, the file is free.
impl Drop for RecoveryStore {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the recovery database panicked");
        }
    }
}

/// Begins an epoch and reads what the previous one left.
fn begin(path: &Path, database: &Database, lease: Duration) -> Result<(u32, Previous), StartError> {
    let failed = |error| StartError::redb(path, "beginning an epoch", error);
    let write = database.begin_write().map_err(|e| failed(e.into()))?;
    let (epoch, clean, previous_lease) = number(&write, lease).map_err(failed)?;
    let nsm_state = next_nsm_state(&write).map_err(failed)?;
    let Some(epoch) = epoch else {
        return Err(StartError::damaged(path, "no boot epoch is left"));
    };
    let (mut clients, mut hosts) = (Vec::new(), Vec::new());
    let read = || -> Result<bool, redb::Error> {
        for row in write.open_table(CLIENTS)?.iter()? {
            let (key, value) = row?;
            let key = ClientKey::decode(key.value());
            let (Some(key), Some(record)) = (key, ClientRecord::decode(value.value())) else {
                return Ok(false);
            };
            clients.push((key, record));
        }
        for row in write.open_table(HOSTS)?.iter()? {
            let Some(host) = record::decode_host(row?.0.value()) else {
                return Ok(false);
            };
            hosts.push(host);
        }
        Ok(true)
    };
    if !{ read }().map_err(failed)? {
        return Err(StartError::damaged(path, "a client's record is unreadable"));
    }
    write.commit().map_err(|e| failed(e.into()))?;
    let previous = Previous {
        clean,
        lease: previous_lease,
        clients,
        hosts,
        nsm_state,
    };
    Ok((epoch, previous))
}

/// Writes the next odd number: the state of a host that is up (XNFS 11.2.1).
fn next_nsm_state(write: &redb::WriteTransaction) -> Result<i32, redb::Error> {
    let mut meta = write.open_table(META)?;
    let last = meta.get(META_NSM)?.map_or(0, |guard| guard.value());
    let next = i32::try_from((last + 1) | 1).unwrap_or(1);
    meta.insert(META_NSM, next as u64)?;
    Ok(next)
}

/// Writes the next epoch and the lease time; returns the epoch, and what was there: orderly stop, lease time.
fn number(
    write: &redb::WriteTransaction,
    lease: Duration,
) -> Result<(Option<u32>, bool, Option<Duration>), redb::Error> {
    let mut meta = write.open_table(META)?;
    let get = |name| -> Result<Option<u64>, redb::Error> {
        Ok(meta.get(name)?.map(|guard| guard.value()))
    };
    let (last, clean, previous_lease) = (get(META_EPOCH)?, get(META_CLEAN)?, get(META_LEASE)?);
    let next = last.map_or_else(first_epoch, |last| last.saturating_add(1));
    let Ok(epoch) = u32::try_from(next) else {
        return Ok((None, false, None));
    };
    meta.insert(META_EPOCH, u64::from(epoch))?;
    meta.insert(META_CLEAN, 0)?;
    let millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    meta.insert(META_LEASE, millis)?;
    let previous_lease = previous_lease.map(Duration::from_millis);
    Ok((Some(epoch), clean == Some(1), previous_lease))
}

fn first_epoch() -> u64 {
    let since = exec::wall_clock().duration_since(std::time::SystemTime::UNIX_EPOCH);
    // Some epochs are left for starts, whatever the clock says (this is in 2097).
    since.map_or(1, |since| since.as_secs().clamp(1, 0xf000_0000))
}

/// Sees grace through to its end: a task of one worker, started after the listeners are bound.
pub async fn run_grace(grace: &Grace, store: &RecoveryStore) {
    loop {
        match grace.step(exec::now()) {
            Step::Over => return,
            Step::Wait(_) => exec::sleep(TICK).await,
            Step::End(ending) => {
                let (dropped, distrusted) = (ending.drop.len(), ending.distrust.len());
                match store.end_grace(ending).await {
                    Ok(()) => {
                        grace.ended();
                        tracing::info!(dropped, distrusted, "grace is over");
                    }
                    Err(StoreError::Stopped) => return,
                    Err(_) => exec::sleep(RETRY).await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
