//! What somebody holds on a file: each guard takes exactly its own away when it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::deleg::{DelegKind, DelegState};
use super::line::Place;
use super::mirror::Hosted;
use super::range::{Held, LockKind, Range, Ranges};
use super::share::{Access, Deny, Opened};
use super::{ClientId, Conflict, DelegId, FileLocks, Holder, OwnerId};

/// A downgrade to what the file was never opened with (RFC 7530 16.19.4: `NFS4ERR_INVAL`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeverOpened;

/// One open, or one NLM share. NLM may have several of one owner: each counts.
pub struct ShareGuard {
    file: Arc<FileLocks>,
    serial: u64,
    holder: Holder,
    opened: Opened,
}

impl ShareGuard {
    pub(super) fn new(file: Arc<FileLocks>, serial: u64, holder: Holder, opened: Opened) -> Self {
        ShareGuard {
            file,
            serial,
            holder,
            opened,
        }
    }

    /// The file it is of.
    pub fn file(&self) -> &Arc<FileLocks> {
        &self.file
    }

    /// Whose it is.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// What it may do.
    pub fn access(&self) -> Access {
        self.opened.union().0
    }

    /// What it denies to others.
    pub fn deny(&self) -> Deny {
        self.opened.union().1
    }

    /// Puts `opened` in the place of what it is, in one step, if `allowed`.
    fn put(
        &mut self,
        opened: Opened,
        allowed: impl FnOnce(&super::State) -> Result<(), Conflict>,
    ) -> Result<(), Conflict> {
        let (old, serial, holder) = (self.opened, self.serial, self.holder);
        self.file.with(|state| {
            allowed(state)?;
            state.shares.remove(serial, old);
            state.shares.insert(serial, opened, holder);
            Ok(())
        })?;
        self.opened = opened;
        Ok(())
    }

    /// The same owner opens the file again: access and deny become the union (RFC 8881 9.8). Its own
    /// deny mode counts against it like anybody's (RFC 7530 9.9).
    ///
    /// # Errors
    /// As [`FileLocks::open`]; nothing has changed then.
    pub fn upgrade(&mut self, access: Access, deny: Deny) -> Result<(), Conflict> {
        let client = self.holder.client;
        let opened = self.opened.and(access, deny);
        self.put(opened, |state| state.may_open(client, access, deny, None))
    }

    /// Takes another access and deny in place of the present: NLM_SHARE of an owner that has one. The
    /// share itself does not count against it.
    ///
    /// # Errors
    /// As [`FileLocks::open`]; nothing has changed then.
    pub fn exchange(&mut self, access: Access, deny: Deny) -> Result<(), Conflict> {
        let (client, own) = (self.holder.client, Some(self.serial));
        let opened = Opened::new(access, deny);
        self.put(opened, |state| state.may_open(client, access, deny, own))
    }

    /// OPEN_DOWNGRADE: back to what some of the opens amount to (RFC 7530 16.19, RFC 8881 18.18).
    ///
    /// # Errors
    /// There are no such; nothing has changed then.
    pub fn downgrade(&mut self, access: Access, deny: Deny) -> Result<(), NeverOpened> {
        let opened = self.opened.down_to(access, deny).ok_or(NeverOpened)?;
        self.put(opened, |_| Ok(())).map_err(|_| NeverOpened)
    }
}

impl Drop for ShareGuard {
    fn drop(&mut self) {
        let (serial, opened) = (self.serial, self.opened);
        self.file.with(|state| state.shares.remove(serial, opened));
    }
}

/// All byte-range locks of one owner on one file.
pub struct LockGuard {
    file: Arc<FileLocks>,
    holder: Holder,
}

impl LockGuard {
    pub(super) fn new(file: Arc<FileLocks>, holder: Holder) -> Self {
        LockGuard { file, holder }
    }

    /// The file they are on.
    pub fn file(&self) -> &Arc<FileLocks> {
        &self.file
    }

    /// Whose they are.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Locks a range, as a whole or not at all; what the owner holds there already changes its kind.
    /// Of the owner's requests in line, those within the range are done.
    ///
    /// # Errors
    /// [`Conflict::Deleg`], [`Conflict::Lock`], [`Conflict::Host`], [`Conflict::Full`]; what was held is
    /// untouched.
    pub fn lock(&self, range: Range, kind: LockKind, now: Instant) -> Result<(), Conflict> {
        let (holder, wanted) = (self.holder, Held { range, kind });
        let mut called = Vec::new();
        let result = self.file.with(|state| {
            if let Some(line) = &mut state.line {
                // Who is next in line comes before a request that only came now.
                line.lapse(now);
                line.ask_before(holder.owner, &wanted);
                called = state.settle();
            }
            state.may_lock(holder, wanted)?;
            let taken = state.take_on_host(holder, wanted);
            if let (Err(Conflict::Lock(..)), Some(line)) = (&taken, &mut state.line) {
                line.hold_up(holder.owner, &wanted);
            }
            let taken = taken?;
            let set = state.ranges().set(holder.owner, range, Some(kind));
            state.taken_on_host(wanted, taken, set.is_ok());
            set.map_err(|_| Conflict::Full)?;
            state.ranges().stamp(holder.owner, now);
            if let Some(line) = &mut state.line {
                line.granted(holder.owner, &wanted);
            }
            Ok(())
        });
        for notify in called {
            notify();
        }
        result
    }

    /// Unlocks a range, whatever of it is locked; on the host at the latest once
    /// [`FileLocks::settled`].
    ///
    /// # Errors
    /// [`Conflict::Full`] when it would split a range and there is no room for another.
    pub fn unlock(&self, range: Range) -> Result<(), Conflict> {
        let owner = self.holder.owner;
        let unlock = |ranges: &mut Ranges| ranges.set(owner, range, None);
        let set = self.file.with(|state| state.unlocks(Some(range), unlock));
        set.map_err(|_| Conflict::Full)
    }

    /// What is locked, sorted; neighbours of one kind are one.
    pub fn held(&self) -> Vec<Held> {
        let state = self.file.lock();
        let ranges = state.ranges.as_ref();
        ranges.map_or(Vec::new(), |r| r.held(self.holder.owner).to_vec())
    }

    /// Since when something has been locked without a break; `None` while nothing is.
    pub fn since(&self) -> Option<Instant> {
        let state = self.file.lock();
        let ranges = state.ranges.as_ref();
        ranges.and_then(|r| r.since(self.holder.owner))
    }

    /// Nothing is locked (CLOSE: else `NFS4ERR_LOCKS_HELD`).
    pub fn is_empty(&self) -> bool {
        let state = self.file.lock();
        let ranges = state.ranges.as_ref();
        ranges.is_none_or(|r| r.held(self.holder.owner).is_empty())
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let owner: OwnerId = self.holder.owner;
        self.file.with(|state| {
            let held = state.ranges().hull(owner);
            state.unlocks(held, |ranges| ranges.leave(owner));
        });
    }
}

/// A place in the line of those who wait for a lock.
pub struct WaitTicket {
    file: Arc<FileLocks>,
    serial: u64,
    /// What is waited for will be locked on the host as well.
    _hosted: Option<Hosted>,
}

impl WaitTicket {
    pub(super) fn new(file: Arc<FileLocks>, serial: u64) -> Self {
        WaitTicket {
            _hosted: file.hosted_again(),
            file,
            serial,
        }
    }

    /// The file it waits for.
    pub fn file(&self) -> &Arc<FileLocks> {
        &self.file
    }

    /// How the request stands.
    pub fn place(&self) -> Place {
        let state = self.file.lock();
        let line = state.line.as_ref();
        line.map_or(Place::Gone, |line| line.place(self.serial))
    }
}

impl Drop for WaitTicket {
    fn drop(&mut self) {
        let serial = self.serial;
        self.file.with(|state| {
            if let Some(line) = &mut state.line {
                line.leave(serial);
            }
        });
    }
}

/// A delegation. Dropping it is its return, or the end of what is left of a revoked one.
pub struct DelegGuard {
    file: Arc<FileLocks>,
    serial: u64,
    client: ClientId,
    id: DelegId,
    kind: DelegKind,
}

impl DelegGuard {
    pub(super) fn new(
        file: Arc<FileLocks>,
        serial: u64,
        client: ClientId,
        id: DelegId,
        kind: DelegKind,
    ) -> Self {
        DelegGuard {
            file,
            serial,
            client,
            id,
            kind,
        }
    }

    /// The file it is of.
    pub fn file(&self) -> &Arc<FileLocks> {
        &self.file
    }

    /// Who holds it.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// What its client calls it.
    pub fn id(&self) -> DelegId {
        self.id
    }

    /// What it allows.
    pub fn kind(&self) -> DelegKind {
        self.kind
    }

    /// How it stands.
    pub fn state(&self) -> DelegState {
        self.file.lock().delegs.state(self.serial)
    }

    /// [`FileLocks::recall`] of this one.
    pub fn recall(&self, now: Instant) -> bool {
        self.file.recall(self.client, self.id, now)
    }

    /// From now on it conflicts with nothing.
    pub fn revoke(&self) {
        let serial = self.serial;
        self.file.with(|state| state.delegs.revoke(serial));
    }
}

impl Drop for DelegGuard {
    fn drop(&mut self) {
        let serial = self.serial;
        self.file.with(|state| state.delegs.remove(serial));
    }
}

/// A change without an open is under way.
#[must_use = "the change is over when this is dropped"]
pub struct Passing(Arc<FileLocks>);

impl Passing {
    pub(super) fn new(file: Arc<FileLocks>) -> Self {
        file.passing.fetch_add(1, SeqCst);
        Passing(file)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.passing.fetch_sub(1, SeqCst);
    }
}
