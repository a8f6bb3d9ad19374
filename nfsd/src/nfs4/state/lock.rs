//! Byte-range locks (RFC 8881 9.1 to 9.6, 18.10 to 18.12; RFC 7530 9.1 to 9.4): a set for each
//! lock-owner and open, and requests that wait in line to be called (RFC 8881 20.11).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vfs::locks::{
    Access, Conflict, FileLocks, Held, LockGuard, LockKind, Notify, OwnerId, Place, Range,
    WaitTicket, Waiting,
};

use super::holdings::{FileKey, Holdings};
use super::open::Refusal;
use super::owner::{LockOwner, Sequence, Step};
use super::stateid::{self, Home, Kind};
use crate::nfs4::Op4;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

/// Most places in line one client has.
pub const WAITS_MAX: usize = 1024;

/// Within which a request that waits is asked again: Linux does so every 30 seconds at least.
pub const ASKED_LATELY: Duration = Duration::from_secs(35);

/// A lock-owner's locks under an open.
pub struct LockSet {
    /// Key of the lock-owner.
    pub owner: u32,
    /// Key of the open.
    pub open: u32,
    /// Of its stateid.
    pub seqid: u32,
    /// The locks. Of one owner on one file they are all the same, under whatever open.
    pub guard: LockGuard,
}

impl LockSet {
    /// Which file it is of.
    #[must_use]
    pub fn file_key(&self) -> FileKey {
        FileKey::of(self.guard.file())
    }
}

/// A range locked or waited for, for administrators.
pub struct LockLine {
    /// Name of the lock-owner.
    pub owner: Arc<[u8]>,
    /// On what.
    pub file: Arc<FileLocks>,
    /// Which bytes, and how.
    pub held: Held,
    /// Since when.
    pub since: Option<Instant>,
    /// It is not locked, but waited for.
    pub waits: bool,
}

/// A place in line.
pub(super) struct Wait {
    owner: u32,
    file: FileKey,
    range: Range,
    kind: LockKind,
    ticket: WaitTicket,
    since: Instant,
}

/// What to lock.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    /// Which bytes.
    pub range: Range,
    /// How.
    pub kind: LockKind,
    /// Most states of one client.
    pub limit: usize,
}

/// The access an open must have for a lock (RFC 8881 18.10.3).
const fn needed(kind: LockKind) -> Access {
    match kind {
        LockKind::Read => Access::READ,
        LockKind::Write => Access::WRITE,
    }
}

impl Holdings {
    /// LOCK by an owner that may have no locks under this open yet. `seqid` is the owner's in 4.0.
    ///
    /// # Errors
    /// `OPENMODE`, `BAD_STATEID`, `BAD_SEQID`; the conflicts of [`LockGuard::lock`]. Nothing has
    /// changed then.
    pub fn lock_under(
        &mut self,
        home: Home,
        open_key: u32,
        name: &[u8],
        seqid: Option<u32>,
        request: LockRequest,
        now: Instant,
    ) -> Result<Stateid4, Refusal> {
        let open = self.usable(open_key)?;
        if !open.share.access().contains(needed(request.kind)) {
            return Err(Nfsstat4::Openmode.into());
        }
        let file = open.share.file().clone();
        let known = self.lock_owner_names.get(name).copied();
        if let Some(seqid) = seqid
            && let Some(owner) = known.and_then(|key| self.lock_owners.get(&key))
            && owner.sequence.step(Op4::Lock, seqid) != Ok(Step::Next)
        {
            return Err(Nfsstat4::BadSeqid.into());
        }
        let set = known.and_then(|owner| self.locks_of.get(&(owner, open_key)).copied());
        if let Some(key) = set {
            let stateid = self.lock_more(home, key, request, now)?;
            self.owner_passed(known, seqid);
            return Ok(stateid);
        }
        if self.states() >= request.limit {
            return Err(home.exhausted().into());
        }
        let owner = known.unwrap_or_else(|| self.fresh_key());
        let guard = file.locker(home.client_id(), home.owner_id(owner));
        guard.lock(request.range, request.kind, now)?;
        self.put_lock_owner(owner, name);
        let key = self.fresh_key();
        self.put_lock_owner(owner, name).sets.push(key);
        let set = LockSet {
            owner,
            open: open_key,
            seqid: 1,
            guard,
        };
        self.locks.insert(key, set);
        self.locks_of.insert((owner, open_key), key);
        if let Some(open) = self.opens.get_mut(&open_key) {
            open.sets.push(key);
        }
        self.owner_passed(Some(owner), seqid);
        self.leave_lines(owner);
        Ok(home.stateid(Kind::Lock, key, 1))
    }

    /// A request that brought an open-owner's order counts for the lock-owner as well (RFC 7530
    /// 16.10.4).
    fn owner_passed(&mut self, owner: Option<u32>, seqid: Option<u32>) {
        let owner = owner.and_then(|key| self.lock_owners.get_mut(&key));
        if let (Some(owner), Some(seqid)) = (owner, seqid) {
            owner.sequence = Sequence::starting_at(seqid.wrapping_add(1));
        }
    }

    fn put_lock_owner(&mut self, key: u32, name: &[u8]) -> &mut LockOwner {
        let names = &mut self.lock_owner_names;
        self.lock_owners.entry(key).or_insert_with(|| {
            let name: Arc<[u8]> = name.into();
            names.insert(name.clone(), key);
            LockOwner::new(name)
        })
    }

    /// LOCK of an owner that has locks under this open.
    ///
    /// # Errors
    /// As [`Holdings::lock_under`].
    pub fn lock_more(
        &mut self,
        home: Home,
        key: u32,
        request: LockRequest,
        now: Instant,
    ) -> Result<Stateid4, Refusal> {
        let set = self.locks.get_mut(&key).ok_or(Nfsstat4::BadStateid)?;
        let open = self.opens.get(&set.open).ok_or(Nfsstat4::BadStateid)?;
        if !open.share.access().contains(needed(request.kind)) {
            return Err(Nfsstat4::Openmode.into());
        }
        set.guard.lock(request.range, request.kind, now)?;
        set.seqid = stateid::next_seqid(set.seqid);
        let (owner, stateid) = (set.owner, home.stateid(Kind::Lock, key, set.seqid));
        self.leave_lines(owner);
        Ok(stateid)
    }

    /// LOCKU (RFC 8881 18.12).
    ///
    /// # Errors
    /// `BAD_STATEID`; [`Conflict::Full`].
    pub fn unlock(&mut self, home: Home, key: u32, range: Range) -> Result<Stateid4, Refusal> {
        let set = self.locks.get_mut(&key).ok_or(Nfsstat4::BadStateid)?;
        set.guard.unlock(range)?;
        set.seqid = stateid::next_seqid(set.seqid);
        Ok(home.stateid(Kind::Lock, key, set.seqid))
    }

    /// The owner of this name, as the tables of files know it; one nobody is when it has no locks.
    #[must_use]
    pub fn locker_id(&self, home: Home, name: &[u8]) -> OwnerId {
        home.owner_id(self.lock_owner_names.get(name).copied().unwrap_or(0))
    }

    /// The name of a lock-owner, for `LOCK4denied`.
    #[must_use]
    pub fn locker_name(&self, owner: OwnerId) -> Option<Arc<[u8]>> {
        let owner = self.lock_owners.get(&(owner.0 as u32));
        owner.map(|o| o.name.clone())
    }

    /// All locks, and what is waited for: owner's name, file, range, since when, and whether it is
    /// waited for.
    #[must_use]
    pub fn lock_lines(&self) -> Vec<LockLine> {
        let name = |key: u32| self.lock_owners.get(&key).map(|o| o.name.clone());
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        for set in self.locks.values() {
            // Under another open they are the same.
            if !seen.insert((set.owner, set.file_key())) {
                continue;
            }
            let since = set.guard.since();
            lines.extend(set.guard.held().into_iter().map(|held| LockLine {
                owner: name(set.owner).unwrap_or_default(),
                file: set.guard.file().clone(),
                held,
                since,
                waits: false,
            }));
        }
        for wait in self
            .waits
            .values()
            .filter(|w| w.ticket.place() != Place::Gone)
        {
            lines.push(LockLine {
                owner: name(wait.owner).unwrap_or_default(),
                file: wait.ticket.file().clone(),
                held: Held {
                    range: wait.range,
                    kind: wait.kind,
                },
                since: Some(wait.since),
                waits: true,
            });
        }
        lines
    }

    /// A set of locks, by its key.
    #[must_use]
    pub fn locks_at(&self, key: u32) -> Option<&LockSet> {
        self.locks.get(&key)
    }

    /// Takes a set out, and its owner with the last one.
    pub(super) fn remove_set(&mut self, key: u32) -> Option<LockSet> {
        let set = self.locks.remove(&key)?;
        self.locks_of.remove(&(set.owner, set.open));
        if let Some(open) = self.opens.get_mut(&set.open) {
            open.sets.retain(|of| *of != key);
        }
        if let Some(owner) = self.lock_owners.get_mut(&set.owner) {
            owner.sets.retain(|of| *of != key);
        }
        self.drop_unused(set.owner);
        Some(set)
    }

    fn drop_unused(&mut self, key: u32) {
        let owner = self.lock_owners.get(&key);
        if let Some(owner) = owner.filter(|o| o.sets.is_empty() && o.waits == 0) {
            self.lock_owner_names.remove(&owner.name);
            self.lock_owners.remove(&key);
        }
    }

    /// RELEASE_LOCKOWNER (RFC 7530 16.37).
    ///
    /// # Errors
    /// `LOCKS_HELD`.
    pub fn release_lock_owner(&mut self, name: &[u8]) -> Result<Vec<LockSet>, Nfsstat4> {
        let Some(key) = self.lock_owner_names.get(name).copied() else {
            return Ok(Vec::new());
        };
        let Some(owner) = self.lock_owners.get(&key) else {
            return Ok(Vec::new());
        };
        let sets = owner.sets.clone();
        let free = |set: &LockSet| set.guard.is_empty();
        if !sets.iter().filter_map(|k| self.locks.get(k)).all(free) {
            return Err(Nfsstat4::LocksHeld);
        }
        self.waits.retain(|_, wait| wait.owner != key);
        if let Some(owner) = self.lock_owners.get_mut(&key) {
            owner.waits = 0;
        }
        let removed = sets.iter().filter_map(|k| self.remove_set(*k)).collect();
        self.drop_unused(key);
        Ok(removed)
    }

    /// FREE_STATEID of a set of locks (RFC 8881 18.38).
    ///
    /// # Errors
    /// `LOCKS_HELD`, `BAD_STATEID`.
    pub fn free_locks(&mut self, key: u32) -> Result<LockSet, Nfsstat4> {
        let set = self.locks.get(&key).ok_or(Nfsstat4::BadStateid)?;
        if !set.guard.is_empty() {
            return Err(Nfsstat4::LocksHeld);
        }
        self.remove_set(key).ok_or(Nfsstat4::BadStateid)
    }

    /// Joins the line for a lock that was refused; `notify` is called when it may be tried. One owner
    /// asking for the same again keeps its place.
    ///
    /// # Errors
    /// [`Conflict::Full`], also when the client has [`WAITS_MAX`] places already.
    pub fn wait(
        &mut self,
        home: Home,
        name: &[u8],
        file: &Arc<FileLocks>,
        request: LockRequest,
        now: Instant,
        notify: Notify,
    ) -> Result<(), Conflict> {
        let LockRequest { range, kind, .. } = request;
        let known = self.lock_owner_names.get(name).copied();
        let same = |wait: &Wait| {
            Some(wait.owner) == known
                && (wait.file, wait.range, wait.kind) == (FileKey::of(file), range, kind)
        };
        if let Some(wait) = self.waits.values_mut().find(|wait| same(wait))
            && wait.ticket.place() != Place::Gone
        {
            wait.since = now;
            return Ok(());
        }
        if self.waits.len() >= WAITS_MAX {
            return Err(Conflict::Full);
        }
        let owner = known.unwrap_or_else(|| self.fresh_key());
        let ticket = file.wait(home.client_id(), home.owner_id(owner), range, kind, notify)?;
        self.put_lock_owner(owner, name).waits += 1;
        let wait = Wait {
            owner,
            file: FileKey::of(file),
            range,
            kind,
            ticket,
            since: now,
        };
        let key = self.fresh_key();
        self.waits.insert(key, wait);
        Ok(())
    }

    /// What an owner waits for that has asked for it again lately: others are not told when a process gives up.
    #[must_use]
    pub fn waits_of(&self, owner: OwnerId, now: Instant) -> Vec<Waiting> {
        let own = |wait: &&Wait| {
            wait.owner == owner.0 as u32
                && now.saturating_duration_since(wait.since) < ASKED_LATELY
                && wait.ticket.place() != Place::Gone
        };
        let waits = self.waits.values().filter(own);
        waits
            .map(|wait| Waiting {
                file: wait.ticket.file().clone(),
                owner,
                wanted: Held {
                    range: wait.range,
                    kind: wait.kind,
                },
            })
            .collect()
    }

    /// A request leaves the line.
    pub fn wait_no_more(&mut self, waiting: &Waiting) {
        let (owner, file) = (waiting.owner.0 as u32, FileKey::of(&waiting.file));
        let Held { range, kind } = waiting.wanted;
        self.end_waits(|wait| {
            (wait.owner, wait.file, wait.range, wait.kind) == (owner, file, range, kind)
        });
    }

    /// Forgets places that are no longer in line.
    fn leave_lines(&mut self, owner: u32) {
        if !self.waits.is_empty() {
            self.end_waits(|wait| wait.owner == owner && wait.ticket.place() == Place::Gone);
        }
    }

    /// Places whose clients have not asked again for `patience` are given up.
    pub fn lapse_waits(&mut self, now: Instant, patience: Duration) {
        let late = |wait: &Wait| now.saturating_duration_since(wait.since) >= patience;
        self.end_waits(|wait| late(wait) || wait.ticket.place() == Place::Gone);
    }

    fn end_waits(&mut self, over: impl Fn(&Wait) -> bool) {
        let ended = self.waits.iter().filter(|(_, wait)| over(wait));
        let ended: Vec<u32> = ended.map(|(key, _)| *key).collect();
        for key in ended {
            let Some(wait) = self.waits.remove(&key) else {
                continue;
            };
            if let Some(owner) = self.lock_owners.get_mut(&wait.owner) {
                owner.waits = owner.waits.saturating_sub(1);
            }
            self.drop_unused(wait.owner);
        }
    }
}
