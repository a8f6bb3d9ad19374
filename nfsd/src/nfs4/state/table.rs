//! The table of client records: by owner name for confirmed and unconfirmed ones, by number for all.
//! Finding a record and making one is one step under one lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, RwLockWriteGuard};
use std::time::Instant;

use super::State;
use super::client::{Callback4, Client, Who};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Verifier4;

/// The name a client gave itself. The ways to introduce oneself have a name space each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Made by EXCHANGE_ID.
    sessions: bool,
    owner: Box<[u8]>,
}

impl Name {
    pub(super) fn new(minor: u32, owner: &[u8]) -> Self {
        Name {
            sessions: minor > 0,
            owner: owner.into(),
        }
    }
}

/// A change of a confirmed 4.0 record that awaits its SETCLIENTID_CONFIRM.
pub(super) struct Update {
    pub confirm: Verifier4,
    pub callback: Callback4,
}

/// The records of one name.
#[derive(Default)]
pub(super) struct Records {
    pub confirmed: Option<Arc<Client>>,
    /// Never together with `update`.
    pub unconfirmed: Option<Arc<Client>>,
    pub update: Option<Update>,
}

/// All records.
#[derive(Default)]
pub(super) struct Table {
    pub names: HashMap<Name, Records>,
    /// Unconfirmed records by number, which is their age.
    pub fresh: BTreeMap<u32, Arc<Client>>,
    /// Expired, and not known to be gone from stable storage.
    pub expired: Vec<Arc<Client>>,
    clients: usize,
    last: u32,
    confirms: u64,
}

/// Records no longer in the table, whose state goes once the table's lock does.
#[must_use]
#[derive(Default)]
pub(super) struct Gone(pub Vec<Arc<Client>>);

impl Table {
    /// A verifier for SETCLIENTID_CONFIRM that no other has.
    pub(super) fn next_confirm(&mut self) -> Verifier4 {
        self.confirms += 1;
        self.confirms.to_be_bytes()
    }

    /// A record had this number once.
    pub(super) fn was_given(&self, number: u32) -> bool {
        (1..=self.last).contains(&number)
    }

    pub(super) fn records(&mut self, name: &Name) -> Option<&mut Records> {
        self.names.get_mut(name)
    }

    /// The confirmed record of a name.
    pub(super) fn confirmed(&self, name: &Name) -> Option<&Arc<Client>> {
        self.names.get(name)?.confirmed.as_ref()
    }
}

impl State {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_mut(
        &self,
        number: u32,
    ) -> RwLockWriteGuard<'_, HashMap<u32, Arc<Client>, foldhash::fast::RandomState>> {
        let shard = self.shard(number).write();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    /// A new unconfirmed record, in place of the unconfirmed one of its name.
    ///
    /// # Errors
    /// `DELAY`: there are too many, and none can be spared.
    pub(super) fn add(
        &self,
        table: &mut Table,
        who: &Who<'_>,
        now: Instant,
        gone: &mut Gone,
    ) -> Result<Arc<Client>, Nfsstat4> {
        let name = Name::new(who.minor, who.owner);
        if let Some(old) = table.records(&name).and_then(|r| r.unconfirmed.clone()) {
            self.unlink(table, &old, gone);
        }
        self.make_room(table, now, gone)?;
        // Never 0, and not the number of a record that is still there.
        loop {
            table.last = table.last.wrapping_add(1);
            if table.last != 0 && self.client(table.last).is_none() {
                break;
            }
        }
        let client = Client::new(table.last, self.epoch, who, self.ms(now));
        let client = Arc::new(client);
        let records = table.names.entry(name).or_default();
        records.update = None;
        records.unconfirmed = Some(client.clone());
        table.fresh.insert(client.number, client.clone());
        table.clients += 1;
        let mut shard = self.shard_mut(client.number);
        shard.insert(client.number, client.clone());
        Ok(client)
    }

    /// Takes a record out of the table.
    pub(super) fn unlink(&self, table: &mut Table, client: &Arc<Client>, gone: &mut Gone) {
        let name = Name::new(client.minor, &client.owner);
        let is = |slot: &Option<Arc<Client>>| slot.as_ref().is_some_and(|c| Arc::ptr_eq(c, client));
        if let Some(records) = table.names.get_mut(&name) {
            if is(&records.confirmed) {
                records.confirmed = None;
                records.update = None;
            }
            if is(&records.unconfirmed) {
                records.unconfirmed = None;
            }
            if records.confirmed.is_none() && records.unconfirmed.is_none() {
                table.names.remove(&name);
            }
        }
        table.fresh.remove(&client.number);
        if self
            .shard_mut(client.number)
            .remove(&client.number)
            .is_some()
        {
            table.clients -= 1;
            gone.0.push(client.clone());
        }
    }

    /// An unconfirmed record becomes the confirmed one of its name; what was is gone.
    pub(super) fn confirm(&self, table: &mut Table, client: &Arc<Client>, gone: &mut Gone) {
        let name = Name::new(client.minor, &client.owner);
        let old = table.confirmed(&name).cloned();
        if let Some(old) = old {
            self.unlink(table, &old, gone);
        }
        let records = table.names.entry(name).or_default();
        records.unconfirmed = None;
        records.update = None;
        records.confirmed = Some(client.clone());
        table.fresh.remove(&client.number);
        client.confirmed.store(true, Ordering::Release);
    }

    /// Makes room for one more record: the oldest unconfirmed one goes, or the client silent for
    /// longest past its lease.
    fn make_room(&self, table: &mut Table, now: Instant, gone: &mut Gone) -> Result<(), Nfsstat4> {
        let full = table.clients >= self.config.clients;
        if !full && table.fresh.len() < self.config.unconfirmed {
            return Ok(());
        }
        if let Some(oldest) = table.fresh.values().next().cloned() {
            self.unlink(table, &oldest, gone);
            return Ok(());
        }
        let all = table.names.values().filter_map(|r| r.confirmed.as_ref());
        let silent = all.filter(|client| self.is_late(client, now) && !client.is_busy());
        let silent = silent.min_by_key(|client| client.renewed.load(Ordering::Acquire));
        let silent = silent.cloned().ok_or(Nfsstat4::Delay)?;
        // Stable storage must come along.
        if table.expired.len() >= self.config.clients {
            return Err(Nfsstat4::Delay);
        }
        self.expire_linked(table, &silent, gone);
        Ok(())
    }
}

impl Gone {
    /// Drops what the clients held. The table must not be locked.
    pub(super) fn bury(self, state: &State) {
        for client in self.0 {
            let mut inner = client.lock();
            inner.gone = true;
            let sessions = std::mem::take(&mut inner.sessions);
            let holdings = std::mem::take(&mut inner.holdings);
            inner.copies.clear();
            drop(inner);
            client.channel.close();
            for session in &sessions {
                state.sessions.remove(&session.id);
            }
            drop((sessions, holdings));
        }
    }
}
