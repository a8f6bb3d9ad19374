//! Leases (RFC 8881 8.3, RFC 7530 9.5): a client that is silent for longer than its lease keeps what it
//! has until somebody else wants it, the table is full, or a day has passed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::State;
use super::client::{Client, Principal};
use super::table::{Gone, Name, Table};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Clientid4;

impl Client {
    /// A request of it runs in a session: it is there, however long that takes.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.lock().sessions.iter().any(|session| session.is_busy())
    }
}

impl State {
    /// The client was heard of.
    pub fn renew(&self, client: &Client, now: Instant) {
        client.renewed.store(self.ms(now), Ordering::Release);
    }

    /// How long the client has been silent.
    #[must_use]
    pub fn silence(&self, client: &Client, now: Instant) -> Duration {
        let renewed = client.renewed.load(Ordering::Acquire);
        Duration::from_millis(self.ms(now).saturating_sub(renewed))
    }

    /// The client's lease has run out: what it still has is a courtesy.
    #[must_use]
    pub fn is_late(&self, client: &Client, now: Instant) -> bool {
        self.silence(client, now) > self.config.lease
    }

    /// Expires the client of this number if its lease has run out and somebody is in conflict with
    /// it. Whether it is gone: then what it held can be had. No lock of the state may be held.
    pub fn expire_if_courtesy(&self, number: u32, now: Instant) -> bool {
        let mut gone = Gone::default();
        let mut table = self.table();
        let Some(client) = self.client(number) else {
            return true;
        };
        if !self.is_late(&client, now) || client.is_busy() {
            return false;
        }
        self.expire_linked(&mut table, &client, &mut gone);
        drop(table);
        gone.bury(self);
        true
    }

    /// Drops a client and everything of it. No lock of the state may be held.
    pub fn expire(&self, client: &Arc<Client>) {
        let mut gone = Gone::default();
        self.expire_linked(&mut self.table(), client, &mut gone);
        gone.bury(self);
    }

    pub(super) fn expire_linked(&self, table: &mut Table, client: &Arc<Client>, gone: &mut Gone) {
        let before = gone.0.len();
        self.unlink(table, client, gone);
        if gone.0.len() > before && client.is_confirmed() {
            table.expired.push(client.clone());
            self.expired.store(table.expired.len(), Ordering::Release);
        }
    }

    /// There are clients that were expired and may still have a record in stable storage: nobody is
    /// told that he has got what was theirs (RFC 8881 8.4.3).
    #[must_use]
    pub fn any_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire) > 0
    }

    /// Calls `f` with each expired client whose record in stable storage is to be removed: all those
    /// of before, unless [`State::settled`] was told, or a new record of that name has taken its place.
    /// The table is locked meanwhile, so that what `f` begins comes before what [`State::recording`]
    /// begins for a new record of that name. Returns those `f` was called with; `None` if a new record
    /// is on its way and it is not known yet what becomes of it.
    pub fn each_expired(&self, mut f: impl FnMut(&Client)) -> Option<Vec<Arc<Client>>> {
        let mut table = self.table();
        let (mut kept, mut known) = (Vec::new(), true);
        for client in std::mem::take(&mut table.expired) {
            let name = Name::new(client.minor, &client.owner);
            let new = table.confirmed(&name);
            if new.is_some_and(|new| new.is_durable()) {
                continue;
            }
            match new.is_some_and(|new| new.recording.load(Ordering::Acquire) > 0) {
                true => known = false,
                false => f(&client),
            }
            kept.push(client);
        }
        table.expired.clone_from(&kept);
        self.expired.store(table.expired.len(), Ordering::Release);
        known.then_some(kept)
    }

    /// The records of these clients are no more in stable storage.
    pub fn settled(&self, gone: &[Arc<Client>]) {
        let mut table = self.table();
        let settled = |client: &Arc<Client>| gone.iter().any(|gone| Arc::ptr_eq(gone, client));
        table.expired.retain(|client| !settled(client));
        self.expired.store(table.expired.len(), Ordering::Release);
    }

    /// Begins to write a client's record to stable storage by `begin`; [`Client::recorded`] ends it.
    pub fn recording<T>(&self, client: &Client, begin: impl FnOnce() -> T) -> T {
        let _table = self.table();
        client.recording.fetch_add(1, Ordering::AcqRel);
        begin()
    }

    /// Once a second: expires unconfirmed records after one lease, clients that hold nothing after one
    /// lease, others after a day of silence, and looks after backchannels.
    pub fn sweep(&self, now: Instant) {
        let mut late = Vec::new();
        for client in self.clients() {
            let silent = self.silence(&client, now);
            if silent <= self.config.lease {
                self.check_back(&client);
                continue;
            }
            let keeps = client.is_confirmed() && client.lock().has_state();
            if (!keeps || silent > self.config.courtesy) && !client.is_busy() {
                late.push(client);
            }
        }
        if late.is_empty() {
            return;
        }
        let mut gone = Gone::default();
        let mut table = self.table();
        for client in late {
            // It may have come back meanwhile.
            if self.is_late(&client, now) {
                self.expire_linked(&mut table, &client, &mut gone);
            }
        }
        drop(table);
        gone.bury(self);
    }

    fn check_back(&self, client: &Client) {
        let down = {
            let inner = client.lock();
            let checked = inner.sessions.iter().map(|session| session.check_back());
            checked.fold(false, |any, down| any | down)
        };
        if down {
            client.path_lost();
        }
    }

    /// RENEW (RFC 7530 16.28).
    ///
    /// # Errors
    /// `STALE_CLIENTID` for a client ID of another boot or never given out, `EXPIRED` for one that is
    /// gone, `ACCESS` for somebody else's, `CB_PATH_DOWN` as [`Client::status`] says; the lease is
    /// renewed all the same then.
    pub fn renew_clientid(
        &self,
        clientid: Clientid4,
        principal: Principal,
        now: Instant,
    ) -> Result<(), Nfsstat4> {
        let client = self.client_40(clientid)?;
        if client.principal != principal {
            return Err(Nfsstat4::Access);
        }
        self.renew(&client, now);
        match client
            .status()
            .contains(super::client::SeqStatus::CB_PATH_DOWN)
        {
            true => Err(Nfsstat4::CbPathDown),
            false => Ok(()),
        }
    }

    /// The confirmed 4.0 client of a client ID, as its operations name it.
    ///
    /// # Errors
    /// `STALE_CLIENTID`, `EXPIRED`.
    pub fn client_40(&self, clientid: Clientid4) -> Result<Arc<Client>, Nfsstat4> {
        let number = self.number_of(clientid).ok_or(Nfsstat4::StaleClientid)?;
        match self.client(number) {
            Some(client) if !client.has_sessions() && client.is_confirmed() => Ok(client),
            Some(_) => Err(Nfsstat4::StaleClientid),
            None if self.table().was_given(number) => Err(Nfsstat4::Expired),
            None => Err(Nfsstat4::StaleClientid),
        }
    }

    /// DESTROY_CLIENTID (RFC 8881 18.50). The record in stable storage is to go as those of expired
    /// clients do.
    ///
    /// # Errors
    /// `STALE_CLIENTID`; `CLIENTID_BUSY` while the client has sessions or anything else.
    pub fn destroy_clientid(&self, clientid: Clientid4) -> Result<(), Nfsstat4> {
        let number = self.number_of(clientid).ok_or(Nfsstat4::StaleClientid)?;
        let mut gone = Gone::default();
        let mut table = self.table();
        let client = self.client(number).filter(|c| c.has_sessions());
        let client = client.ok_or(Nfsstat4::StaleClientid)?;
        if client.lock().has_state() {
            return Err(Nfsstat4::ClientidBusy);
        }
        self.expire_linked(&mut table, &client, &mut gone);
        drop(table);
        gone.bury(self);
        Ok(())
    }
}
