//! What NFSv4 clients hold: client records, sessions, stateids, owners, opens, locks, delegations.
//!
//! Pure: everything takes the time it is, nothing waits, no lock is held when a function returns
//! unless a guard says so. Lock order: the table of client records, then one client or one shard, then
//! one file's `vfs::locks::FileLocks`; never two clients at once.

pub mod client;
pub mod copy;
pub mod create;
pub mod deleg;
pub mod exchange;
pub mod grace;
pub mod holdings;
pub mod lease;
pub mod lock;
pub mod open;
pub mod owner;
pub mod session;
pub mod setclientid;
pub mod slot;
pub mod stateid;
mod table;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::nfs4::types::Clientid4;
use client::Client;
use copy::Notifier;
use deleg::Recaller;
use session::Sessions;
use table::Table;

/// Limits and times of the state.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long state lives without a word from its client.
    pub lease: Duration,
    /// How long a client that is silent for longer keeps what nobody else wants.
    pub courtesy: Duration,
    /// Most client records.
    pub clients: usize,
    /// Most client records that are not confirmed.
    pub unconfirmed: usize,
    /// Most opens, lock sets and delegations of one client.
    pub states_per_client: usize,
    /// Most sessions of one client.
    pub sessions_per_client: usize,
    /// Most slots of a session.
    pub slots: u32,
    /// Most bytes of a request or a reply, with its RPC header.
    pub message_bytes: u32,
    /// Most bytes of a reply that is kept.
    pub cached_bytes: u32,
    /// Bytes of kept replies all sessions may have, from which on new sessions get few slots.
    pub cache_bytes: usize,
    /// Names the server to its clients, the same after each start (`so_major_id`, `eir_server_scope`).
    pub server_owner: Box<[u8]>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lease: Duration::from_secs(90),
            courtesy: Duration::from_secs(24 * 3600),
            clients: 16 << 10,
            unconfirmed: 4 << 10,
            states_per_client: 1 << 20,
            sessions_per_client: 16,
            slots: 1024,
            message_bytes: (1 << 20) + 4096,
            cached_bytes: 8 << 10,
            cache_bytes: 1 << 30,
            server_owner: Box::default(),
        }
    }
}

const SHARDS: usize = 16;

type Shard = RwLock<HashMap<u32, Arc<Client>, foldhash::fast::RandomState>>;

/// All state of all clients.
pub struct State {
    /// Number of this start of the server: what an earlier one gave out is stale.
    pub epoch: u32,
    /// Limits and times.
    pub config: Config,
    /// The way to clients, once there is one.
    pub recaller: OnceLock<Box<dyn Recaller>>,
    /// Tells clients of copies that ended, once there is a way to them.
    pub notifier: OnceLock<Box<dyn Notifier>>,
    /// When the clock of the state began.
    base: OnceLock<Instant>,
    table: Mutex<Table>,
    /// How many there are in `Table::expired`.
    expired: AtomicUsize,
    by_number: [Shard; SHARDS],
    sessions: Sessions,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Client records.
    pub clients: usize,
    /// Of those, how many are not confirmed.
    pub unconfirmed: usize,
    /// Names clients gave themselves.
    pub names: usize,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of replies sessions may keep.
    pub reserved: usize,
}

impl State {
    /// Nothing yet, in boot `epoch`.
    #[must_use]
    pub fn new(epoch: u32, config: Config) -> Self {
        State {
            epoch,
            config,
            recaller: OnceLock::new(),
            notifier: OnceLock::new(),
            base: OnceLock::new(),
            table: Mutex::default(),
            expired: AtomicUsize::new(0),
            by_number: Default::default(),
            sessions: Sessions::default(),
        }
    }

    /// Milliseconds since the first time anybody asked.
    fn ms(&self, now: Instant) -> u64 {
        let base = self.base.get_or_init(|| now);
        now.saturating_duration_since(*base).as_millis() as u64
    }

    fn shard(&self, number: u32) -> &Shard {
        &self.by_number[number as usize % SHARDS]
    }

    /// The client record of this number, confirmed or not.
    #[must_use]
    pub fn client(&self, number: u32) -> Option<Arc<Client>> {
        let shard = self.shard(number).read();
        shard
            .unwrap_or_else(PoisonError::into_inner)
            .get(&number)
            .cloned()
    }

    /// The number in a client ID, if this boot gave it out.
    #[must_use]
    pub fn number_of(&self, clientid: Clientid4) -> Option<u32> {
        ((clientid >> 32) as u32 == self.epoch).then_some(clientid as u32)
    }

    /// All client records there are now.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<Client>> {
        let mut all = Vec::new();
        for shard in &self.by_number {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().cloned());
        }
        all
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let table = self.table();
        let clients = |shard: &Shard| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        Counts {
            clients: self.by_number.iter().map(clients).sum(),
            unconfirmed: table.fresh.len(),
            names: table.names.len(),
            sessions: self.sessions.len(),
            reserved: self.sessions.reserved(),
        }
    }
}

/// What all clients hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Held {
    pub open_owners: usize,
    pub lock_owners: usize,
    pub opens: usize,
    pub lock_sets: usize,
    pub waits: usize,
    pub delegations: usize,
    pub copies: usize,
}

impl State {
    /// What all clients hold together. Looks at each of them: for metrics and tests.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut all = Held::default();
        for client in self.clients() {
            let inner = client.lock();
            let one = inner.holdings.counts();
            all.open_owners += one.open_owners;
            all.lock_owners += one.lock_owners;
            all.opens += one.opens;
            all.lock_sets += one.lock_sets;
            all.waits += one.waits;
            all.delegations += one.delegations;
            all.copies += inner.copies.running();
        }
        all
    }
}

#[cfg(test)]
mod tests;
