//! Everything one client holds: owners, opens, byte-range locks, delegations. Found by the key in a
//! stateid; what is held on a file is a guard of `vfs::locks`, so that it goes with its entry.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use vfs::locks::{Access, DelegKind, FileLocks};

use super::deleg::Deleg;
use super::lock::{LockSet, Wait};
use super::open::Open;
use super::owner::{Answer, LockOwner, OpenOwner, Step};
use super::stateid::{self, Home, KEY_MAX, Kind, Name};
use crate::nfs4::Op4;
use crate::nfs4::status::Nfsstat4;

/// Most open-owners with nothing open that are remembered for a retransmission (4.0).
pub const IDLE_MAX: usize = 256;

/// Things by key: keys are this server's own choice.
pub(super) type Keyed<T> = HashMap<u32, T, FixedState>;

/// Which file: the address of its table, which lives as long as anything is held on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey(usize);

impl FileKey {
    /// Of the file with this table.
    #[must_use]
    pub fn of(locks: &Arc<FileLocks>) -> Self {
        FileKey(Arc::as_ptr(locks) as usize)
    }
}

/// What one client holds.
#[derive(Default)]
pub struct Holdings {
    last_key: u32,
    pub(super) open_owners: Keyed<OpenOwner>,
    pub(super) open_owner_names: HashMap<Arc<[u8]>, u32>,
    pub(super) lock_owners: Keyed<LockOwner>,
    pub(super) lock_owner_names: HashMap<Arc<[u8]>, u32>,
    pub(super) opens: Keyed<Open>,
    /// The open of an owner and a file.
    pub(super) open_of: HashMap<(u32, FileKey), u32, FixedState>,
    /// What owners closed last, and whose it was.
    pub(super) closed: Keyed<u32>,
    pub(super) locks: Keyed<LockSet>,
    /// The set of a lock-owner under an open.
    pub(super) locks_of: HashMap<(u32, u32), u32, FixedState>,
    pub(super) waits: Keyed<Wait>,
    pub(super) delegs: Keyed<Deleg>,
    idle: VecDeque<(u32, u64)>,
    stamp: u64,
}

/// How much a client holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub open_owners: usize,
    pub lock_owners: usize,
    pub opens: usize,
    pub lock_sets: usize,
    pub waits: usize,
    pub delegations: usize,
}

/// An owner whose requests have an order (4.0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnerKey {
    /// An open-owner.
    Open(u32),
    /// A lock-owner.
    Lock(u32),
}

impl Holdings {
    /// Nothing is held that a client must give back first (RFC 8881 18.50.3).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.locks.is_empty() && self.delegs.is_empty()
    }

    /// How much there is, everything counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            open_owners: self.open_owners.len(),
            lock_owners: self.lock_owners.len(),
            opens: self.opens.len(),
            lock_sets: self.locks.len(),
            waits: self.waits.len(),
            delegations: self.delegs.len(),
        }
    }

    /// Lets everything go. What is returned closes files: drop it without holding the client.
    pub fn clear(&mut self) -> Holdings {
        let empty = Holdings {
            // A stateid from before names nothing made after.
            last_key: self.last_key,
            ..Holdings::default()
        };
        std::mem::replace(self, empty)
    }

    /// Opens, lock sets, delegations.
    pub(super) fn states(&self) -> usize {
        self.opens.len() + self.locks.len() + self.delegs.len() + self.waits.len()
    }

    /// A key nothing has.
    pub(super) fn fresh_key(&mut self) -> u32 {
        loop {
            self.last_key = self.last_key % KEY_MAX + 1;
            let key = self.last_key;
            let used = self.opens.contains_key(&key)
                || self.open_owners.contains_key(&key)
                || self.locks.contains_key(&key)
                || self.lock_owners.contains_key(&key)
                || self.delegs.contains_key(&key)
                || self.closed.contains_key(&key)
                || self.waits.contains_key(&key);
            if !used {
                return key;
            }
        }
    }

    /// Holds a stateid to what it names: there, of a kind in `kinds`, not revoked, its `seqid` the
    /// latest, and of `file` if one is given (RFC 8881 8.2.4, RFC 7530 9.1.4.2).
    ///
    /// # Errors
    /// `BAD_STATEID`, `OLD_STATEID`, `DELEG_REVOKED`.
    pub fn check(
        &self,
        home: Home,
        name: Name,
        seqid: u32,
        kinds: &[Kind],
        file: Option<FileKey>,
    ) -> Result<(), Nfsstat4> {
        if (name.epoch, name.client) != (home.epoch, home.client) || !kinds.contains(&name.kind) {
            return Err(Nfsstat4::BadStateid);
        }
        let found = match name.kind {
            Kind::Open => self.opens.get(&name.key).map(|o| (o.seqid, o.file_key())),
            Kind::Lock => self.locks.get(&name.key).map(|l| (l.seqid, l.file_key())),
            Kind::Deleg => self.delegs.get(&name.key).map(|d| (d.seqid, d.file_key())),
            Kind::Copy => None,
        };
        let (now, of) = found.ok_or(Nfsstat4::BadStateid)?;
        stateid::check_seqid(seqid, now, home.minor)?;
        if file.is_some_and(|file| file != of) {
            return Err(Nfsstat4::BadStateid);
        }
        if let Some(deleg) = self.delegs.get(&name.key)
            && name.kind == Kind::Deleg
            && deleg.revoked()
        {
            return Err(Nfsstat4::DelegRevoked);
        }
        Ok(())
    }

    /// What a stateid lets its holder do with `file` (RFC 8881 9.1.2, 10.4): that of locks what the
    /// open they are under does.
    ///
    /// # Errors
    /// As [`Holdings::check`].
    pub fn io_access(
        &self,
        home: Home,
        name: Name,
        seqid: u32,
        file: FileKey,
    ) -> Result<Access, Nfsstat4> {
        let kinds = [Kind::Open, Kind::Lock, Kind::Deleg];
        self.check(home, name, seqid, &kinds, Some(file))?;
        let open = match name.kind {
            Kind::Open => Some(name.key),
            Kind::Lock => self.locks.get(&name.key).map(|set| set.open),
            Kind::Deleg | Kind::Copy => None,
        };
        match (open, self.delegs.get(&name.key)) {
            (Some(key), _) => Ok(self.usable(key)?.share.access()),
            (None, Some(deleg)) if deleg.guard.kind() == DelegKind::Read => Ok(Access::READ),
            (None, Some(_)) => Ok(Access::BOTH),
            (None, None) => Err(Nfsstat4::BadStateid),
        }
    }

    /// The user an open, or the one locks are under, was judged for, if it was one alone.
    #[must_use]
    pub fn judged(&self, name: Name) -> Option<u32> {
        let open = match name.kind {
            Kind::Open => name.key,
            Kind::Lock => self.locks.get(&name.key)?.open,
            Kind::Deleg | Kind::Copy => return None,
        };
        self.opens.get(&open)?.user
    }

    /// The owner whose request one with this stateid is (4.0), also of an open just closed.
    #[must_use]
    pub fn owner_of(&self, name: Name) -> Option<OwnerKey> {
        match name.kind {
            Kind::Open => {
                let open = self.opens.get(&name.key).map(|open| open.owner);
                let closed = || self.closed.get(&name.key).copied();
                open.or_else(closed).map(OwnerKey::Open)
            }
            Kind::Lock => self.locks.get(&name.key).map(|l| OwnerKey::Lock(l.owner)),
            Kind::Deleg | Kind::Copy => None,
        }
    }

    /// The place of a request in the order of its owner's (RFC 7530 9.1.7). When it is the next one,
    /// the last one can be forgotten.
    ///
    /// # Errors
    /// `BAD_SEQID`; `BAD_STATEID` for an owner that is gone.
    pub fn step(&mut self, owner: OwnerKey, op: Op4, seqid: u32) -> Result<Step, Nfsstat4> {
        match owner {
            OwnerKey::Open(key) => {
                self.stamp += 1;
                let owner = self.open_owners.get_mut(&key);
                let owner = owner.ok_or(Nfsstat4::BadStateid)?;
                owner.stamp = self.stamp;
                let step = owner.sequence.step(op, seqid);
                if step == Ok(Step::Next)
                    && let Some(closed) = owner.closed.take()
                {
                    self.closed.remove(&closed);
                }
                if step != Ok(Step::Next) {
                    self.rest(key);
                }
                step
            }
            OwnerKey::Lock(key) => {
                let owner = self.lock_owners.get(&key);
                owner.ok_or(Nfsstat4::BadStateid)?.sequence.step(op, seqid)
            }
        }
    }

    /// A request that was the next one is answered.
    pub fn answered(&mut self, owner: OwnerKey, seqid: u32, answer: Answer) {
        let sequence = match owner {
            OwnerKey::Open(key) => self.open_owners.get_mut(&key).map(|o| &mut o.sequence),
            OwnerKey::Lock(key) => self.lock_owners.get_mut(&key).map(|o| &mut o.sequence),
        };
        if let Some(sequence) = sequence {
            sequence.done(seqid, answer);
        }
    }

    /// No request of this open-owner runs any more. With nothing open, it is remembered only among
    /// the last [`IDLE_MAX`].
    pub fn rest(&mut self, key: u32) {
        let Some(owner) = self.open_owners.get(&key).filter(|o| o.opens == 0) else {
            return;
        };
        self.idle.push_back((key, owner.stamp));
        while self.idle.len() > IDLE_MAX {
            let Some((key, stamp)) = self.idle.pop_front() else {
                break;
            };
            let idle = |o: &&OpenOwner| o.opens == 0 && o.stamp == stamp;
            if self.open_owners.get(&key).filter(idle).is_some() {
                self.forget_open_owner(key);
            }
        }
    }

    pub(super) fn forget_open_owner(&mut self, key: u32) {
        if let Some(owner) = self.open_owners.remove(&key) {
            self.open_owner_names.remove(&owner.name);
            if let Some(closed) = owner.closed {
                self.closed.remove(&closed);
            }
        }
    }
}

#[cfg(any(test, feature = "model"))]
pub mod model;
#[cfg(test)]
mod tests;
