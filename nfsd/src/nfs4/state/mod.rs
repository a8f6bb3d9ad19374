//! What NFSv4 clients hold: client records, sessions, stateids, owners, opens, locks, delegations.
//!
//! Pure: everything takes the time it is, nothing waits, no lock is held when a function returns
//! unless a guard says so. Lock order: the client table's shard, then one client, then one file's
//! `vfs::locks::FileLocks`; never two clients at once.

pub mod client;
pub mod copy;
pub mod deleg;
pub mod grace;
pub mod holdings;
pub mod lock;
pub mod open;
pub mod owner;
pub mod stateid;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::nfs4::types::Clientid4;
use client::Client;
use copy::Notifier;
use deleg::Recaller;

/// Limits and times of the state.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long state lives without a word from its client.
    pub lease: Duration,
    /// Most client records.
    pub clients: usize,
    /// Most opens, lock sets and delegations of one client.
    pub states_per_client: usize,
    /// Most sessions of one client.
    pub sessions_per_client: usize,
    /// Most slots of a session.
    pub slots: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lease: Duration::from_secs(90),
            clients: 16 << 10,
            states_per_client: 1 << 20,
            sessions_per_client: 16,
            slots: 1024,
        }
    }
}

const SHARDS: usize = 16;

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
    by_number: [RwLock<HashMap<u32, Arc<Client>>>; SHARDS],
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
            by_number: Default::default(),
        }
    }

    fn shard(&self, number: u32) -> &RwLock<HashMap<u32, Arc<Client>>> {
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
}
