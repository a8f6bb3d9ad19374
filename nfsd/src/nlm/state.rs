//! What NLM's hosts hold and wait for: pure, no clock, nothing waits. A host is an address and the
//! name it gives itself; an owner is one process of it (`svid`) with its handle (`oh`).
//!
//! Lock order: table, then host, then file.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vfs::locks::{
    Access, ClientId, Conflict, Deny, FileLocks, Held, Hosted, LockGuard, LockKind, Notify,
    OwnerId, Place, Range, ShareGuard, WaitTicket, Waiting,
};

/// Most hosts that hold something.
pub const HOSTS_MAX: usize = 16 << 10;
/// Most files and owners together, shares included, of one host.
pub const SETS_MAX: usize = 64 << 10;
/// Most requests of one host that wait.
pub const WAITS_MAX: usize = 1024;
/// How long a host that holds nothing is remembered, and with that monitored.
pub const IDLE: Duration = Duration::from_secs(300);

/// Hosts and owners of NLM have numbers no client of NFSv4 has.
const OURS: u64 = 1 << 63;

/// Who somebody is before there is a host for it: no holder of anything.
pub const NOBODY: ClientId = ClientId(u64::MAX);

/// No room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Names a host.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct HostKey {
    /// Where it calls from.
    pub ip: IpAddr,
    /// `caller_name`.
    pub name: Box<[u8]>,
}

impl HostKey {
    /// Whether `name` may be the host's in a notification: the same, or one of them is the other
    /// without its domain. Case does not matter.
    #[must_use]
    pub fn is_called(&self, name: &[u8]) -> bool {
        let (short, long) = if name.len() < self.name.len() {
            (name, &*self.name)
        } else {
            (&*self.name, name)
        };
        let Some((head, rest)) = long.split_at_checked(short.len()) else {
            return false;
        };
        let domain = rest.is_empty() || (rest.starts_with(b".") && !short.is_empty());
        head.eq_ignore_ascii_case(short) && domain
    }
}

/// An owner as its host names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnerName {
    /// The process.
    pub svid: i32,
    /// The handle.
    pub oh: Box<[u8]>,
}

/// Identity of a file while somebody holds something on it.
type FileKey = usize;

fn file_key(file: &Arc<FileLocks>) -> FileKey {
    Arc::as_ptr(file) as usize
}

/// A request as it came, for the call that grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Version of the protocol.
    pub vers: u32,
    /// By NLM_LOCK_MSG, which is answered by calls.
    pub message: bool,
    /// The server's address it came to.
    pub here: Option<SocketAddr>,
    /// The file handle.
    pub fh: Box<[u8]>,
    /// First byte.
    pub offset: u64,
    /// Bytes, 0 for up to the end.
    pub len: u64,
}

/// A range, and who wants or has it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The owner.
    pub owner: OwnerName,
    /// Which bytes, and how.
    pub wanted: Held,
    /// The host's NSM state.
    pub state: i32,
    /// As it came.
    pub asked: Asked,
}

/// The locks of one owner on one file.
struct Set {
    name: OwnerName,
    guard: LockGuard,
    /// NSM state of its host when it last locked.
    state: i32,
    /// When it first locked.
    since: Instant,
    fh: Box<[u8]>,
}

/// A request that waits, or is granted and the host has not said that it knows.
struct Wait {
    owner: OwnerId,
    wanted: Held,
    asked: Asked,
    file: Arc<FileLocks>,
    /// `None` once granted, and while a delegation is on its way back.
    ticket: Option<WaitTicket>,
    /// It will be locked on the host as well. `None` once granted, and where the host is not to see it.
    hosted: Option<Hosted>,
    granted: bool,
    /// Calls that say so, as many as may have reached the host.
    calls: u32,
    /// The host is not called any more.
    quiet: bool,
    since: Instant,
}

impl Wait {
    fn waiting(&self) -> Waiting {
        Waiting {
            file: self.file.clone(),
            owner: self.owner,
            wanted: self.wanted,
        }
    }
}

struct Shared {
    guard: ShareGuard,
    since: Instant,
    /// NSM state its host was last known to be in: a SHARE does not say.
    state: Option<i32>,
}

#[derive(Default)]
struct Inner {
    /// Out of the table: nothing may be added.
    gone: bool,
    seen: Option<Instant>,
    /// In the recovery store.
    durable: bool,
    /// NSM state of its last lock or restart.
    state: Option<i32>,
    /// NSM state of its last restart.
    restarted: Option<i32>,
    sets: HashMap<OwnerId, Set>,
    owners: HashMap<(FileKey, OwnerName), OwnerId>,
    shares: HashMap<(FileKey, Box<[u8]>), Shared>,
    waits: HashMap<u64, Wait>,
}

/// One host.
pub struct Host {
    /// Its address and name.
    pub key: HostKey,
    /// As the files know it.
    pub id: ClientId,
    numbers: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

/// What to do about a request that waits and may be tried.
pub enum Attempt {
    /// It waits no more, or is granted and being told.
    Over,
    /// Others are first.
    Waiting,
    /// These delegations are to come back first.
    Delegated(Arc<FileLocks>, Vec<(ClientId, vfs::locks::DelegId)>),
    /// The server's host is to be asked first: [`FileLocks::claim`].
    Unasked(Arc<FileLocks>, Conflict),
    /// The lock is held now: tell the host.
    Granted(Grant),
}

/// A lock somebody waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// As it was asked for.
    pub asked: Asked,
    /// Whose.
    pub owner: OwnerName,
    /// How.
    pub kind: LockKind,
}

/// One line of what is held, for administrators.
#[derive(Clone)]
pub struct Line {
    /// The owner; a share has no `svid`.
    pub owner: OwnerName,
    /// When it was first held, or asked for.
    pub since: Instant,
    /// The file.
    pub file: Arc<FileLocks>,
    /// What.
    pub what: What,
}

/// What a [`Line`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A locked range.
    Lock(Held),
    /// A range waited for.
    Wait(Held),
    /// A share.
    Share(Access, Deny),
}

impl Inner {
    fn is_idle(&self) -> bool {
        self.sets.is_empty() && self.shares.is_empty() && self.waits.is_empty()
    }

    /// Forgets an owner that neither holds nor waits.
    fn tidy(&mut self, owner: OwnerId) {
        let idle = self.sets.get(&owner).is_some_and(|s| s.guard.is_empty());
        // What was granted it has unlocked since.
        if idle && !self.waits.values().any(|w| w.owner == owner && !w.granted) {
            self.forget(owner);
        }
    }

    fn forget(&mut self, owner: OwnerId) {
        self.waits.retain(|_, w| w.owner != owner);
        if let Some(set) = self.sets.remove(&owner) {
            self.owners
                .remove(&(file_key(set.guard.file()), set.name.clone()));
        }
    }

    fn owner(&self, file: &Arc<FileLocks>, name: &OwnerName) -> Option<OwnerId> {
        self.owners.get(&(file_key(file), name.clone())).copied()
    }
}

impl Host {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that no owner and no request of any host has had.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The owner's set on a file, made if there is none.
    fn enter(
        &self,
        inner: &mut Inner,
        file: &Arc<FileLocks>,
        request: &Request,
        now: Instant,
    ) -> Result<OwnerId, Full> {
        if let Some(owner) = inner.owner(file, &request.owner) {
            return Ok(owner);
        }
        if inner.gone || inner.sets.len() + inner.shares.len() >= SETS_MAX {
            return Err(Full);
        }
        let owner = OwnerId(OURS | self.number());
        let key = (file_key(file), request.owner.clone());
        inner.owners.insert(key, owner);
        let set = Set {
            name: request.owner.clone(),
            guard: file.locker(self.id, owner),
            state: request.state,
            since: now,
            fh: request.asked.fh.clone(),
        };
        inner.sets.insert(owner, set);
        Ok(owner)
    }

    /// Locks, at once or not at all. What the owner waited for within that has been granted.
    ///
    /// # Errors
    /// As [`LockGuard::lock`].
    pub fn lock(
        &self,
        file: &Arc<FileLocks>,
        request: &Request,
        now: Instant,
    ) -> Result<(), Conflict> {
        let mut inner = self.inner();
        let owner = self.enter(&mut inner, file, request, now);
        let owner = owner.map_err(|Full| Conflict::Full)?;
        let wanted = request.wanted;
        let done = match inner.sets.get_mut(&owner) {
            Some(set) => {
                let done = set.guard.lock(wanted.range, wanted.kind, now);
                if done.is_ok() {
                    set.state = request.state;
                    inner.state = Some(request.state);
                }
                done
            }
            None => Err(Conflict::Full),
        };
        if done.is_ok() {
            inner
                .waits
                .retain(|_, w| w.owner != owner || w.wanted != wanted);
        }
        inner.tidy(owner);
        done
    }

    /// The request joins those that wait, unless it is there already; `notify` makes what is called,
    /// given its number, when it may be tried. `at_once`: it is not the locks of others that it
    /// waits for, and it is to be tried by the caller.
    ///
    /// # Errors
    /// [`Full`].
    pub fn wait(
        &self,
        file: &Arc<FileLocks>,
        (request, hosted): (&Request, Option<Hosted>),
        now: Instant,
        at_once: bool,
        notify: impl FnOnce(u64) -> Notify,
    ) -> Result<Option<u64>, Full> {
        let mut inner = self.inner();
        let owner = self.enter(&mut inner, file, request, now)?;
        let same = |w: &Wait| w.owner == owner && w.wanted == request.wanted;
        if let Some(serial) = inner.waits.iter().find(|(_, w)| same(w)).map(|(s, _)| *s) {
            // Perhaps by another way.
            if let Some(wait) = inner.waits.get_mut(&serial) {
                wait.asked = request.asked.clone();
            }
            return Ok(None);
        }
        let joined = || {
            if inner.waits.len() >= WAITS_MAX {
                return Err(Full);
            }
            let serial = self.number();
            let Held { range, kind } = request.wanted;
            let ticket = if at_once {
                None
            } else {
                let ticket = file.wait(self.id, owner, range, kind, notify(serial));
                Some(ticket.map_err(|_| Full)?)
            };
            let wait = Wait {
                owner,
                wanted: request.wanted,
                asked: request.asked.clone(),
                file: file.clone(),
                ticket,
                hosted,
                granted: false,
                calls: 0,
                quiet: false,
                since: now,
            };
            inner.waits.insert(serial, wait);
            Ok(Some(serial))
        };
        let result = joined();
        if result.is_err() {
            inner.tidy(owner);
        }
        result
    }

    /// Tries to grant a request that waits; when it cannot be, it is in line again, and `notify` is
    /// called at its time.
    pub fn attempt(&self, serial: u64, now: Instant, notify: Notify) -> Attempt {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(wait) = inner.waits.get_mut(&serial).filter(|w| !w.granted) else {
            return Attempt::Over;
        };
        let Some(set) = inner.sets.get(&wait.owner) else {
            return Attempt::Over;
        };
        let Held { range, kind } = wait.wanted;
        match set.guard.lock(range, kind, now) {
            Ok(()) => {
                wait.granted = true;
                (wait.ticket, wait.hosted) = (None, None);
                Attempt::Granted(Grant {
                    asked: wait.asked.clone(),
                    owner: set.name.clone(),
                    kind,
                })
            }
            Err(Conflict::Deleg(held)) => Attempt::Delegated(wait.file.clone(), held),
            Err(unasked @ Conflict::Host(..)) => Attempt::Unasked(wait.file.clone(), unasked),
            Err(_) => {
                self.line_up(wait, notify);
                Attempt::Waiting
            }
        }
    }

    fn line_up(&self, wait: &mut Wait, notify: Notify) {
        let place = wait.ticket.as_ref().map(WaitTicket::place);
        if place != Some(Place::Waiting) {
            wait.ticket = None;
            let Held { range, kind } = wait.wanted;
            let again = wait.file.wait(self.id, wait.owner, range, kind, notify);
            wait.ticket = again.ok();
        }
    }

    /// The server's host was asked for a request that waits, and it is in the way: as [`Host::attempt`] that
    /// came to nothing.
    pub fn held_up(&self, serial: u64, notify: Notify) {
        let mut inner = self.inner();
        let wait = inner.waits.get_mut(&serial);
        if let Some(wait) = wait.filter(|w| !w.granted) {
            self.line_up(wait, notify);
        }
    }

    /// Whether the host has still to hear of a grant.
    pub fn is_untold(&self, serial: u64) -> bool {
        self.inner().waits.get(&serial).is_some_and(|w| w.granted)
    }

    /// Whether the host is to be called about a grant, which counts the call.
    pub fn call(&self, serial: u64) -> bool {
        let mut inner = self.inner();
        let wait = inner.waits.get_mut(&serial);
        let Some(wait) = wait.filter(|w| w.granted && !w.quiet) else {
            return false;
        };
        wait.calls = wait.calls.saturating_add(1);
        true
    }

    /// A call about a grant did not reach the host, or it will be asked again as it wishes.
    pub fn uncall(&self, serial: u64) {
        if let Some(wait) = self.inner().waits.get_mut(&serial) {
            wait.calls = wait.calls.saturating_sub(1);
        }
    }

    /// The host has heard of a grant: it wants the lock, or not. After several calls a no may be
    /// that of a host that took the lock at the first and waits no more (as Linux answers): the lock
    /// stays until the host gives it up or cancels.
    pub fn told(&self, serial: u64, wanted: bool) {
        let mut inner = self.inner();
        let wait = inner.waits.get_mut(&serial);
        let Some(wait) = wait.filter(|w| w.granted) else {
            return;
        };
        if !wanted && wait.calls > 1 {
            wait.quiet = true;
            return;
        }
        let (owner, range) = (wait.owner, wait.wanted.range);
        inner.waits.remove(&serial);
        if !wanted && let Some(set) = inner.sets.get(&owner) {
            // No room to split a range: more stays locked than should, until the host unlocks all.
            let _ = set.guard.unlock(range);
        }
        inner.tidy(owner);
    }

    /// What the process behind an owner waits for, on whichever file.
    #[must_use]
    pub fn waits_of(&self, owner: OwnerId) -> Vec<Waiting> {
        let inner = self.inner();
        let Some(name) = inner.sets.get(&owner).map(|set| &set.name) else {
            return Vec::new();
        };
        let own = |w: &&Wait| {
            let set = inner.sets.get(&w.owner);
            !w.granted && set.is_some_and(|set| set.name == *name)
        };
        let waits = inner.waits.values().filter(own);
        waits.map(Wait::waiting).collect()
    }

    /// What a request that waits wants, of the owner and file as they are known.
    #[must_use]
    pub fn waiting(&self, file: &Arc<FileLocks>, request: &Request) -> Option<Waiting> {
        let inner = self.inner();
        let owner = inner.owner(file, &request.owner)?;
        let mut waits = inner.waits.values();
        let wait = waits.find(|w| w.owner == owner && w.wanted == request.wanted && !w.granted);
        wait.map(Wait::waiting)
    }

    /// Waits no more. True if it did; what was granted and not told is unlocked.
    pub fn cancel(&self, file: &Arc<FileLocks>, name: &OwnerName, wanted: Held) -> bool {
        let mut inner = self.inner();
        let Some(owner) = inner.owner(file, name) else {
            return false;
        };
        let found = inner
            .waits
            .iter()
            .find(|(_, w)| w.owner == owner && w.wanted == wanted);
        let Some(serial) = found.map(|(serial, _)| *serial) else {
            return false;
        };
        if inner.waits.remove(&serial).is_some_and(|w| w.granted)
            && let Some(set) = inner.sets.get(&owner)
        {
            let _ = set.guard.unlock(wanted.range);
        }
        inner.tidy(owner);
        true
    }

    /// Unlocks a range, and waits for nothing in it any more.
    ///
    /// # Errors
    /// [`Full`] when it would split a range and there is no room.
    pub fn unlock(
        &self,
        file: &Arc<FileLocks>,
        name: &OwnerName,
        range: Range,
    ) -> Result<(), Full> {
        let mut inner = self.inner();
        let Some(owner) = inner.owner(file, name) else {
            return Ok(());
        };
        inner
            .waits
            .retain(|_, w| w.owner != owner || !range.contains(&w.wanted.range));
        let done = match inner.sets.get(&owner) {
            Some(set) => set.guard.unlock(range).map_err(|_| Full),
            None => Ok(()),
        };
        inner.tidy(owner);
        done
    }

    /// The file behind this handle is gone: so is all an owner has on it.
    pub fn unlock_stale(&self, fh: &[u8], name: &OwnerName) {
        let mut inner = self.inner();
        let stale = |set: &Set| *set.fh == *fh && set.name == *name;
        let found = inner.sets.iter().find(|(_, set)| stale(set));
        if let Some(owner) = found.map(|(owner, _)| *owner) {
            inner.forget(owner);
        }
    }

    /// Whether the owner could lock now.
    ///
    /// # Errors
    /// As [`FileLocks::test`].
    pub fn test(
        &self,
        file: &Arc<FileLocks>,
        name: &OwnerName,
        wanted: Held,
    ) -> Result<(), Conflict> {
        let owner = self.inner().owner(file, name);
        let owner = owner.unwrap_or(OwnerId(u64::MAX));
        file.test(self.id, owner, wanted.range, wanted.kind)
    }

    /// Opens for an owner, in place of what it has open there.
    ///
    /// # Errors
    /// As [`FileLocks::open`].
    pub fn share(
        &self,
        file: &Arc<FileLocks>,
        oh: &[u8],
        (access, deny): (Access, Deny),
        now: Instant,
    ) -> Result<(), Conflict> {
        let mut inner = self.inner();
        let key = (file_key(file), oh.into());
        if let Some(shared) = inner.shares.get_mut(&key) {
            return shared.guard.exchange(access, deny);
        }
        if inner.gone || inner.sets.len() + inner.shares.len() >= SETS_MAX {
            return Err(Conflict::Full);
        }
        let owner = OwnerId(OURS | self.number());
        let shared = Shared {
            guard: file.open(self.id, owner, access, deny)?,
            since: now,
            state: inner.state,
        };
        inner.shares.insert(key, shared);
        Ok(())
    }

    /// Ends an owner's share. Without one, nothing happens.
    pub fn unshare(&self, file: &Arc<FileLocks>, oh: &[u8]) {
        self.inner().shares.remove(&(file_key(file), oh.into()));
    }

    /// What an owner is called.
    #[must_use]
    pub fn owner_name(&self, owner: OwnerId) -> Option<OwnerName> {
        let inner = self.inner();
        inner.sets.get(&owner).map(|set| set.name.clone())
    }

    /// Whether the host is in the recovery store.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.inner().durable
    }

    /// The host is in the recovery store.
    pub fn set_durable(&self) {
        self.inner().durable = true;
    }

    /// Frees all it has; after a restart of the host into NSM state `but` not what it has locked in
    /// that state already, and nothing when that restart is known.
    pub fn free(&self, but: Option<i32>) {
        let mut inner = self.inner();
        if but.is_some() {
            if inner.restarted == but {
                return;
            }
            (inner.restarted, inner.state) = (but, but);
        }
        let since = |state| but.is_some() && state == but;
        let sets = inner.sets.iter();
        let old = sets.filter(|(_, set)| !since(Some(set.state)));
        let old: Vec<OwnerId> = old.map(|(owner, _)| *owner).collect();
        for owner in old {
            inner.forget(owner);
        }
        inner.shares.retain(|_, shared| since(shared.state));
    }

    /// Everything it holds and waits for.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let inner = self.inner();
        let mut lines = Vec::new();
        for set in inner.sets.values() {
            let line = |held| Line {
                owner: set.name.clone(),
                since: set.guard.since().unwrap_or(set.since),
                file: set.guard.file().clone(),
                what: What::Lock(held),
            };
            lines.extend(set.guard.held().into_iter().map(line));
        }
        for wait in inner.waits.values().filter(|w| !w.granted) {
            let Some(set) = inner.sets.get(&wait.owner) else {
                continue;
            };
            lines.push(Line {
                owner: set.name.clone(),
                since: wait.since,
                file: wait.file.clone(),
                what: What::Wait(wait.wanted),
            });
        }
        for ((_, oh), shared) in &inner.shares {
            lines.push(Line {
                owner: OwnerName {
                    svid: 0,
                    oh: oh.clone(),
                },
                since: shared.since,
                file: shared.guard.file().clone(),
                what: What::Share(shared.guard.access(), shared.guard.deny()),
            });
        }
        lines
    }

    /// Nothing is held or waited for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inner().is_idle()
    }
}

mod hosts;
#[cfg(test)]
mod tests;

pub use hosts::Hosts;
