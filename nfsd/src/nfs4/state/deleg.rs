//! Delegations of one client (RFC 8881 10.4, 10.5; RFC 7530 10.4): granted, asked back, returned, or
//! revoked and then kept until the client has seen it (RFC 8881 10.5).

use std::sync::Arc;
use std::time::Instant;

use vfs::Pin;
use vfs::locks::{ClientId, DelegGuard, DelegId, DelegKind, DelegState, FileLocks, Refused};

use super::client::Client;
use super::holdings::{FileKey, Holdings};
use super::stateid::{Home, Kind};
use crate::host::opens::Watch;
use crate::nfs4::cb::getattr::Said;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

/// A delegation.
pub struct Deleg {
    /// Of its stateid.
    pub seqid: u32,
    /// What holds it in the file's table.
    pub guard: DelegGuard,
    /// The filehandle it was granted under, for CB_RECALL.
    pub fh: Box<[u8]>,
    /// Keeps the file. Only tests have none.
    pub pin: Option<Pin>,
    /// Processes of the host recall it.
    pub watch: Option<Watch>,
    /// What its holder said of the file (CB_GETATTR).
    pub said: Said,
}

impl Deleg {
    /// Which file it is of.
    #[must_use]
    pub fn file_key(&self) -> FileKey {
        FileKey::of(self.guard.file())
    }

    /// It is no longer in force.
    #[must_use]
    pub fn revoked(&self) -> bool {
        self.guard.state() == DelegState::Revoked
    }
}

/// Which delegation of which client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DelegRef {
    /// [`super::client::Client::number`].
    pub client: u32,
    /// Its key: [`Holdings::deleg_at`].
    pub key: u32,
}

impl DelegRef {
    /// From what a file's table says. `None` for another protocol's.
    #[must_use]
    pub fn of(client: ClientId, id: DelegId) -> Option<Self> {
        Some(DelegRef {
            client: u32::try_from(client.0).ok()?,
            key: u32::try_from(id.0).ok()?,
        })
    }
}

/// Somebody to call when a lock may be tried (CB_NOTIFY_LOCK, RFC 8881 20.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// [`super::client::Client::number`].
    pub client: u32,
    /// Name of the lock-owner.
    pub owner: Arc<[u8]>,
    /// The file.
    pub fh: Arc<[u8]>,
}

/// The way to clients: filled in by the callbacks. Neither waits nor calls back into the state: it
/// may be called under a client's or a file's mutex.
pub trait Recaller: Send + Sync {
    /// Asks delegations back that somebody conflicts with, those that have not been asked for yet.
    fn recall(&self, conflicts: &[DelegRef]);
    /// The client answers callbacks: it may be given delegations.
    fn reaches(&self, client: &Client) -> bool;
    /// Tells that a lock may be tried.
    fn notify_lock(&self, waiter: &Waiter);
}

/// What to delegate.
pub struct DelegRequest<'a> {
    /// Which file.
    pub locks: &'a Arc<FileLocks>,
    /// For reading or for everything.
    pub kind: DelegKind,
    /// Its filehandle.
    pub fh: &'a [u8],
    /// Keeps the file.
    pub pin: Option<Pin>,
    /// Processes of the host shall recall it.
    pub watch: Option<Watch>,
    /// Most states of one client.
    pub limit: usize,
    /// Change attribute of the file.
    pub change: u64,
}

impl Holdings {
    /// Delegates a file.
    ///
    /// # Errors
    /// As [`FileLocks::delegate`]; `Contention` when there is no room.
    pub fn delegate(
        &mut self,
        home: Home,
        request: DelegRequest<'_>,
        now: Instant,
    ) -> Result<Stateid4, Refused> {
        if self.states() >= request.limit {
            return Err(Refused::Contention);
        }
        let key = self.fresh_key();
        let (client, id) = (home.client_id(), DelegId(key.into()));
        let guard = request.locks.delegate(client, id, request.kind, now)?;
        let deleg = Deleg {
            seqid: 1,
            guard,
            fh: request.fh.into(),
            pin: request.pin,
            watch: request.watch,
            said: Said::new(request.change),
        };
        self.delegs.insert(key, deleg);
        Ok(home.stateid(Kind::Deleg, key, 1))
    }

    /// A delegation, by its key.
    #[must_use]
    pub fn deleg_at(&self, key: u32) -> Option<&Deleg> {
        self.delegs.get(&key)
    }

    /// The same, to be changed.
    pub fn deleg_at_mut(&mut self, key: u32) -> Option<&mut Deleg> {
        self.delegs.get_mut(&key)
    }

    /// All of them, revoked ones included.
    pub fn delegs(&self) -> impl Iterator<Item = (u32, &Deleg)> {
        self.delegs.iter().map(|(key, deleg)| (*key, deleg))
    }

    /// DELEGRETURN. What is returned lets go of the file: drop it without holding the client.
    ///
    /// # Errors
    /// `BAD_STATEID`.
    pub fn return_deleg(&mut self, key: u32) -> Result<Deleg, Nfsstat4> {
        self.delegs.remove(&key).ok_or(Nfsstat4::BadStateid)
    }

    /// Takes a delegation away that was not returned in time. A client with sessions is told, and
    /// frees the stateid (RFC 8881 10.2.1, 18.38); one without has no way to.
    pub fn revoke_deleg(&mut self, home: Home, key: u32) -> Option<Deleg> {
        if home.minor == 0 {
            return self.delegs.remove(&key);
        }
        if let Some(deleg) = self.delegs.get_mut(&key) {
            deleg.guard.revoke();
            // The file is no longer the client's to keep.
            deleg.pin = None;
            deleg.watch = None;
        }
        None
    }

    /// Some delegation was revoked and has not been freed yet
    /// (`SEQ4_STATUS_RECALLABLE_STATE_REVOKED`).
    #[must_use]
    pub fn any_revoked(&self) -> bool {
        self.delegs.values().any(Deleg::revoked)
    }

    /// FREE_STATEID of a delegation (RFC 8881 18.38): only a revoked one can be freed.
    ///
    /// # Errors
    /// `LOCKS_HELD`, `BAD_STATEID`.
    pub fn free_deleg(&mut self, key: u32) -> Result<Deleg, Nfsstat4> {
        match self.delegs.get(&key) {
            None => Err(Nfsstat4::BadStateid),
            Some(deleg) if !deleg.revoked() => Err(Nfsstat4::LocksHeld),
            Some(_) => self.return_deleg(key),
        }
    }
}
