//! SETCLIENTID's and SETCLIENTID_CONFIRM's decisions (RFC 7530 16.33.5, 16.34.5).

use std::sync::Arc;
use std::time::Instant;

use super::State;
use super::client::{Callback4, Client, Principal, Who};
use super::table::{Gone, Name, Update};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, Verifier4};

/// Why a SETCLIENTID is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `CLID_INUSE`, by the client with these callbacks.
    InUse(Option<Callback4>),
    /// Any other status.
    Status(Nfsstat4),
}

impl State {
    /// SETCLIENTID: the client ID, and the verifier that confirms it.
    ///
    /// # Errors
    /// See [`Refused`]; `DELAY` when there are too many clients.
    pub fn setclientid(
        &self,
        who: &Who<'_>,
        callback: Callback4,
        now: Instant,
    ) -> Result<(Clientid4, Verifier4), Refused> {
        let mut gone = Gone::default();
        let mut table = self.table();
        let name = Name::new(0, who.owner);
        let old = table.confirmed(&name).cloned();
        if let Some(old) = &old
            && old.principal != who.principal
            && !self.is_late(old, now)
        {
            let inner = old.lock();
            if inner.has_state() {
                return Err(Refused::InUse(inner.callback.clone()));
            }
        }
        let confirm = table.next_confirm();
        let same =
            |old: &&Arc<Client>| old.verifier == who.verifier && old.principal == who.principal;
        let answer = if let Some(old) = old.as_ref().filter(same) {
            // The client did not restart: its callbacks change.
            if let Some(fresh) = table.records(&name).and_then(|r| r.unconfirmed.clone()) {
                self.unlink(&mut table, &fresh, &mut gone);
            }
            if let Some(records) = table.records(&name) {
                records.update = Some(Update { confirm, callback });
            }
            Ok(old.clientid)
        } else {
            // It is new, or restarted: what is confirmed stays until this is.
            let made = self.add(&mut table, who, now, &mut gone);
            made.map(|client| {
                let mut inner = client.lock();
                inner.confirm = confirm;
                inner.callback = Some(callback);
                client.clientid
            })
        };
        drop(table);
        gone.bury(self);
        let clientid = answer.map_err(Refused::Status)?;
        Ok((clientid, confirm))
    }

    /// SETCLIENTID_CONFIRM. Renews the lease. The record must be in stable storage
    /// ([`Client::is_durable`]) before the client is told.
    ///
    /// # Errors
    /// `STALE_CLIENTID`, `CLID_INUSE`.
    pub fn setclientid_confirm(
        &self,
        clientid: Clientid4,
        confirm: Verifier4,
        principal: Principal,
        now: Instant,
    ) -> Result<Arc<Client>, Nfsstat4> {
        let number = self.number_of(clientid).ok_or(Nfsstat4::StaleClientid)?;
        let mut gone = Gone::default();
        let mut table = self.table();
        let client = self.client(number).filter(|c| !c.has_sessions());
        let client = client.ok_or(Nfsstat4::StaleClientid)?;
        if client.principal != principal {
            return Err(Nfsstat4::ClidInuse);
        }
        let matches = client.lock().confirm == confirm;
        if !client.is_confirmed() {
            if !matches {
                return Err(Nfsstat4::StaleClientid);
            }
            self.confirm(&mut table, &client, &mut gone);
        } else if !matches {
            let name = Name::new(0, &client.owner);
            let records = table.records(&name).ok_or(Nfsstat4::StaleClientid)?;
            let update = records.update.take_if(|update| update.confirm == confirm);
            let update = update.ok_or(Nfsstat4::StaleClientid)?;
            let mut inner = client.lock();
            inner.confirm = confirm;
            inner.callback = Some(update.callback);
            drop(inner);
            client.clear(super::client::SeqStatus::CB_PATH_DOWN);
        }
        self.renew(&client, now);
        drop(table);
        gone.bury(self);
        Ok(client)
    }
}
