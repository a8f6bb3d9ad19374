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
        }
    }

    /// Calls `f` with each client expired since the last time, unless its name has a confirmed record
    /// again: its record in stable storage is to be removed. The table is locked meanwhile, so that
    /// what `f` begins comes before what a new record of that name begins.
    pub fn each_expired(&self, mut f: impl FnMut(&Client)) {
        let mut table = self.table();
        for client in std::mem::take(&mut table.expired) {
            let name = Name::new(client.minor, &client.owner);
            if table.confirmed(&name).is_none() {
                f(&client);
            }
        }
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

    /// DESTROY_CLIENTID (RFC 8881 18.50). The record that is gone, to be removed from stable storage.
    ///
    /// # Errors
    /// `STALE_CLIENTID`; `CLIENTID_BUSY` while the client has sessions or anything else.
    pub fn destroy_clientid(&self, clientid: Clientid4) -> Result<Arc<Client>, Nfsstat4> {
        let number = self.number_of(clientid).ok_or(Nfsstat4::StaleClientid)?;
        let mut gone = Gone::default();
        let mut table = self.table();
        let client = self.client(number).filter(|c| c.has_sessions());
        let client = client.ok_or(Nfsstat4::StaleClientid)?;
        if client.lock().has_state() {
            return Err(Nfsstat4::ClientidBusy);
        }
        self.unlink(&mut table, &client, &mut gone);
        drop(table);
        gone.bury(self);
        Ok(client)
    }
}
