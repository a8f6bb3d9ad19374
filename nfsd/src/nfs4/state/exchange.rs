//! EXCHANGE_ID's decisions (RFC 8881 18.35.4). The cases are numbered as in the RFC's list.

use std::sync::Arc;
use std::time::Instant;

use super::State;
use super::client::{Client, Who};
use super::table::{Gone, Name};
use crate::nfs4::status::Nfsstat4;

/// What EXCHANGE_ID found or made.
pub struct Exchanged {
    /// The record.
    pub client: Arc<Client>,
    /// It is confirmed (`EXCHGID4_FLAG_CONFIRMED_R`).
    pub confirmed: bool,
    /// Number of the next CREATE_SESSION (`eir_sequenceid`).
    pub sequence: u32,
}

impl Exchanged {
    fn of(client: Arc<Client>) -> Self {
        let sequence = client.lock().create.next();
        Exchanged {
            confirmed: client.is_confirmed(),
            sequence,
            client,
        }
    }
}

impl State {
    /// EXCHANGE_ID. `update`: `EXCHGID4_FLAG_UPD_CONFIRMED_REC_A`.
    ///
    /// # Errors
    /// `CLID_INUSE`; `NOENT`, `NOT_SAME`, `PERM` of an update; `DELAY` when there are too many clients.
    pub fn exchange_id(
        &self,
        who: &Who<'_>,
        update: bool,
        now: Instant,
    ) -> Result<Exchanged, Nfsstat4> {
        let mut gone = Gone::default();
        let mut table = self.table();
        let confirmed = table.confirmed(&Name::new(who.minor, who.owner)).cloned();
        let found = match (confirmed, update) {
            // 7: nothing to update.
            (None, true) => Err(Nfsstat4::Noent),
            // 1 and 4: new, or in place of an unconfirmed record.
            (None, false) => self.add(&mut table, who, now, &mut gone),
            (Some(old), true) => updated(old, who),
            (Some(old), false) if old.principal != who.principal => {
                // 3: two clients of one name.
                let late = self.is_late(&old, now) && !old.is_busy();
                if !late && old.lock().has_state() {
                    Err(Nfsstat4::ClidInuse)
                } else {
                    self.expire_linked(&mut table, &old, &mut gone);
                    self.add(&mut table, who, now, &mut gone)
                }
            }
            // 2: asked again.
            (Some(old), false) if old.verifier == who.verifier => Ok(old),
            // 5: the client restarted. The old record stays until the new one is confirmed.
            (Some(_), false) => self.add(&mut table, who, now, &mut gone),
        };
        drop(table);
        gone.bury(self);
        found.map(Exchanged::of)
    }
}

/// Cases 6, 8 and 9. There is nothing about a record that an update changes here.
fn updated(old: Arc<Client>, who: &Who<'_>) -> Result<Arc<Client>, Nfsstat4> {
    if old.principal != who.principal {
        return Err(Nfsstat4::Perm);
    }
    if old.verifier != who.verifier {
        return Err(Nfsstat4::NotSame);
    }
    Ok(old)
}
