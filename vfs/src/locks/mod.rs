//! One conflict table per file, whatever protocol the request came by: share reservations,
//! byte-range locks and the requests that wait for them, delegations. Nothing here waits or reads a
//! clock. What somebody holds is a guard; when the guard goes, exactly that goes, and whoever waited
//! for it is told.

mod deadlock;
mod deleg;
mod errand;
mod guard;
mod line;
mod mirror;
mod range;
mod share;
mod table;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use deadlock::{HOLDERS_MAX, Waiting, is_circle};
pub use deleg::{DelegKind, DelegState, HOLD_OFF, Refused, WAITING_MAX};
pub use errand::Claim;
pub use guard::{DelegGuard, LockGuard, NeverOpened, Passing, ShareGuard, WaitTicket};
pub use line::{KEPT, LINE_MAX, Notify, Place};
pub use mirror::{HOST, HostFile, Hosted};
pub use range::{FILE_RANGES_MAX, Held, LockKind, OWNER_RANGES_MAX, Range};
pub use share::{Access, Deny};
pub use table::{Counts, LockTable};

use deleg::Delegs;
use line::Line;
use mirror::Mirror;
use range::Ranges;
use share::{Opened, Shares};
use table::Key;

/// Who opens or locks, unique in the process: one owner of one client, under one protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OwnerId(pub u64);

/// The client an owner belongs to, to be recalled from or expired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// A delegation, unique among its client's; the client's side chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DelegId(pub u64);

/// Whose something is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holder {
    /// The client.
    pub client: ClientId,
    /// The owner of that client.
    pub owner: OwnerId,
}

/// Why a request cannot be granted now. It names the first holder found; there may be others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// An open denies this access, or has the access that this one would deny.
    Share(Holder),
    /// A range is locked, or kept for somebody who waited for it (RFC 8881 18.10.4 `LOCK4denied`).
    Lock(Holder, Held),
    /// These delegations, never empty, must come back first. One that its client does not know has
    /// been given back meanwhile: try again.
    Deleg(Vec<(ClientId, DelegId)>),
    /// The host is to be asked first: [`FileLocks::claim`], [`FileLocks::tested`]. Who wants what.
    Host(Holder, Held),
    /// No room for another range or another request in line (`ENOLCK`).
    Full,
}

// What the last change left behind, to be read without the mutex.
const BUSY: u32 = 1;
const READ_DELEG: u32 = 2;
const WRITE_DELEG: u32 = 4;
const DENY_READ: u32 = 8;
const DENY_WRITE: u32 = 16;
const LINE: u32 = 32;
/// Somebody in line waits for the host.
const HELD_UP: u32 = 64;

#[derive(Default)]
struct State {
    shares: Shares,
    delegs: Delegs,
    ranges: Option<Box<Ranges>>,
    line: Option<Box<Line>>,
    mirror: Option<Box<Mirror>>,
    serial: u64,
}

impl State {
    fn ranges(&mut self) -> &mut Ranges {
        self.ranges.get_or_insert_default()
    }

    /// A number no other entry of the file has.
    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn flags(&self) -> u32 {
        let idle = self.shares.is_empty()
            && self.mirror.is_none()
            && self.delegs.is_empty()
            && self.ranges.as_ref().is_none_or(|r| r.is_empty())
            && self.line.as_ref().is_none_or(|l| l.is_empty());
        let denied = self.shares.denied();
        [
            (BUSY, !idle),
            (READ_DELEG, self.delegs.has(DelegKind::Read)),
            (WRITE_DELEG, self.delegs.has(DelegKind::Write)),
            (DENY_READ, denied.contains(Deny::READ)),
            (DENY_WRITE, denied.contains(Deny::WRITE)),
            (LINE, self.line.is_some()),
            (HELD_UP, self.line.as_ref().is_some_and(|l| l.held_up())),
        ]
        .into_iter()
        .fold(
            0,
            |flags, (flag, set)| if set { flags | flag } else { flags },
        )
    }

    /// After a change: who in line may try, and nothing kept for what is not there.
    fn settle(&mut self) -> Vec<Notify> {
        let none = Ranges::default();
        let called = match &mut self.line {
            Some(line) => {
                let ranges = self.ranges.as_deref().unwrap_or(&none);
                line.call(ranges, self.mirror.as_deref())
            }
            None => Vec::new(),
        };
        self.line.take_if(|line| line.is_empty());
        self.ranges.take_if(|ranges| ranges.is_empty());
        let mut back = self.delegs.take_called();
        if back.is_empty() {
            return called;
        }
        back.extend(called);
        back
    }

    /// Delegations first: their holder may have closed since, without a word.
    fn may_open(
        &self,
        client: ClientId,
        access: Access,
        deny: Deny,
        except: Option<u64>,
    ) -> Result<(), Conflict> {
        recall(self.delegs.against_open(client, access, deny))?;
        match self.shares.conflict(access, deny, except) {
            Some(holder) => Err(Conflict::Share(holder)),
            None => Ok(()),
        }
    }

    fn may_lock(&self, holder: Holder, wanted: Held) -> Result<(), Conflict> {
        let write = wanted.kind == LockKind::Write;
        recall(self.delegs.against_io(Some(holder.client), write))?;
        let held = self.ranges.as_ref();
        if let Some((theirs, held)) = held.and_then(|r| r.conflict(holder.owner, wanted)) {
            return Err(Conflict::Lock(theirs, held));
        }
        let line = self.line.as_ref();
        match line.and_then(|l| l.keeps(holder.owner, &wanted)) {
            Some((theirs, kept)) => Err(Conflict::Lock(theirs, kept)),
            None => Ok(()),
        }
    }

    fn may_delegate(&self, client: ClientId, kind: DelegKind, now: Instant) -> Result<(), Refused> {
        self.delegs.may_grant(client, kind, now)?;
        let write = kind == DelegKind::Write;
        let opened = if write {
            self.shares.any_other(client)
        } else {
            self.shares.other(client, Access::WRITE, Deny::READ)
        };
        // NLM's come without an open.
        let locked = || {
            let ranges = self.ranges.as_ref();
            ranges.is_some_and(|r| r.any_other(client, !write))
        };
        if opened || locked() {
            Err(Refused::Contention)
        } else {
            Ok(())
        }
    }
}

fn recall(delegs: Vec<(ClientId, DelegId)>) -> Result<(), Conflict> {
    if delegs.is_empty() {
        Ok(())
    } else {
        Err(Conflict::Deleg(delegs))
    }
}

/// What everybody holds on one file. Shared by all who know the file, also through several mounts.
///
/// Its mutex is short and innermost: under it nothing else is locked and nothing is called but a
/// [`HostFile`] that does not wait.
pub struct FileLocks {
    state: Mutex<State>,
    flags: AtomicU32,
    /// Changes that run without an open and have been allowed.
    passing: AtomicU32,
    home: Option<(Arc<LockTable>, Key)>,
}

impl FileLocks {
    fn new(home: Option<(Arc<LockTable>, Key)>) -> Self {
        FileLocks {
            state: Mutex::default(),
            flags: AtomicU32::new(0),
            passing: AtomicU32::new(0),
            home,
        }
    }

    /// A table in no [`LockTable`]: for tests, and for a file that outlived its server.
    pub fn alone() -> Arc<Self> {
        Arc::new(FileLocks::new(None))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every change goes through here: afterwards the flags say what is there, and whoever may try
    /// is told.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, called, unused, errands) = {
            let mut state = self.lock();
            let result = change(&mut state);
            let called = state.settle();
            let errands = state.start_errands();
            let unused = state.take_unused_mirror();
            let flags = state.flags();
            let before = self.flags.swap(flags, SeqCst);
            if let Some((table, _)) = &self.home {
                table.lined(before & LINE != 0, flags & LINE != 0);
                const DELEG: u32 = READ_DELEG | WRITE_DELEG;
                table.delegated(before & DELEG != 0, flags & DELEG != 0);
                table.written(before & WRITE_DELEG != 0, flags & WRITE_DELEG != 0);
                table.held_up(before & HELD_UP != 0, flags & HELD_UP != 0);
            }
            (result, called, unused, errands)
        };
        // Closes a descriptor.
        drop(unused);
        if let Some((pool, errands)) = errands {
            errands.start(&pool);
        }
        for notify in called {
            notify();
        }
        result
    }

    /// Which file it is: its file system ([`crate::Mount::fsid`]) and its kernel handle's type and
    /// bytes.
    pub fn place(&self) -> Option<(u64, i32, &[u8])> {
        self.home.as_ref().map(|(_, key)| key.place())
    }

    /// Somebody holds or waits for something.
    pub fn busy(&self) -> bool {
        self.flags.load(SeqCst) & BUSY != 0
    }

    /// Opens the file: nobody's deny mode forbids it, the owner's own included (RFC 7530 9.9), it
    /// denies nothing anybody has, and no other client's delegation stands against it.
    ///
    /// # Errors
    /// [`Conflict::Deleg`], [`Conflict::Share`].
    pub fn open(
        self: &Arc<Self>,
        client: ClientId,
        owner: OwnerId,
        access: Access,
        deny: Deny,
    ) -> Result<ShareGuard, Conflict> {
        let opened = Opened::new(access, deny);
        let holder = Holder { client, owner };
        let serial = self.with(|state| {
            state.may_open(client, access, deny, None)?;
            let serial = state.serial();
            state.shares.insert(serial, opened, holder);
            Ok(serial)
        })?;
        Ok(ShareGuard::new(self.clone(), serial, holder, opened))
    }

    /// The locks of one owner, at first none. A second guard of an owner stands for the same locks:
    /// they go with the last.
    pub fn locker(self: &Arc<Self>, client: ClientId, owner: OwnerId) -> LockGuard {
        let holder = Holder { client, owner };
        self.with(|state| state.ranges().enter(holder));
        LockGuard::new(self.clone(), holder)
    }

    /// Whether the owner could lock the range now (LOCKT, NLM_TEST).
    ///
    /// # Errors
    /// [`Conflict::Deleg`], [`Conflict::Lock`], [`Conflict::Host`].
    pub fn test(
        &self,
        client: ClientId,
        owner: OwnerId,
        range: Range,
        kind: LockKind,
    ) -> Result<(), Conflict> {
        let (holder, wanted) = (Holder { client, owner }, Held { range, kind });
        let state = self.lock();
        state.may_lock(holder, wanted)?;
        state.host_allows(holder, wanted)
    }

    /// Joins the line for a lock that is held by others: `notify` is called, once and possibly before
    /// this returns, when it may be tried. Dropping the ticket leaves the line.
    ///
    /// # Errors
    /// [`Conflict::Full`].
    pub fn wait(
        self: &Arc<Self>,
        client: ClientId,
        owner: OwnerId,
        range: Range,
        kind: LockKind,
        notify: Notify,
    ) -> Result<WaitTicket, Conflict> {
        let holder = Holder { client, owner };
        let wanted = Held { range, kind };
        let serial = self.with(|state| {
            let serial = state.serial();
            let line = state.line.get_or_insert_default();
            line.join(serial, holder, wanted, notify).then_some(serial)
        });
        let serial = serial.ok_or(Conflict::Full)?;
        Ok(WaitTicket::new(self.clone(), serial))
    }

    /// Who in line waits for the host is told if it has made room. [`LockTable::ask_host`] does it for
    /// all files.
    pub fn ask_host(&self) {
        if self.flags.load(SeqCst) & HELD_UP == 0 {
            return;
        }
        self.with(|state| {
            if let Some(line) = &mut state.line {
                line.ask_again();
            }
        });
    }

    /// Time passes: who was called from the line and did not come in time loses its place, and the
    /// next is called. [`LockTable::lapse`] does it for all files.
    pub fn lapse(&self, now: Instant) {
        if self.flags.load(SeqCst) & LINE == 0 {
            return;
        }
        self.with(|state| {
            if let Some(line) = &mut state.line {
                line.lapse(now);
            }
        });
    }

    /// Whether [`FileLocks::delegate`] would do it now.
    ///
    /// # Errors
    /// The same.
    pub fn delegable(
        &self,
        client: ClientId,
        kind: DelegKind,
        now: Instant,
    ) -> Result<(), Refused> {
        self.lock().may_delegate(client, kind, now)
    }

    /// Delegates the file to `client`, which names the delegation `id`.
    ///
    /// # Errors
    /// Others have it open (for reading: in a way that allows writing or denies reading), locked or
    /// delegated; the client has a delegation already; one was recalled within [`HOLD_OFF`].
    pub fn delegate(
        self: &Arc<Self>,
        client: ClientId,
        id: DelegId,
        kind: DelegKind,
        now: Instant,
    ) -> Result<DelegGuard, Refused> {
        let serial = self.with(|state| {
            state.may_delegate(client, kind, now)?;
            let serial = state.serial();
            state.delegs.insert(serial, client, id, kind);
            Ok(serial)
        })?;
        let granted = DelegGuard::new(self.clone(), serial, client, id, kind);
        // Either it sees the delegation, or it is seen here.
        if self.passing.load(SeqCst) > 0 {
            return Err(Refused::Contention);
        }
        Ok(granted)
    }

    /// Marks a delegation that somebody conflicts with as recalled. True for the first to do so: that
    /// one sends CB_RECALL. The file is not delegated again for [`HOLD_OFF`].
    pub fn recall(&self, client: ClientId, id: DelegId, now: Instant) -> bool {
        self.with(|state| state.delegs.recall(client, id, now))
    }

    /// Has `notify` called once some delegation of the file is given back or revoked. False, and no
    /// call, when none of `held` is in force any more. With more than [`WAITING_MAX`] who wait, the
    /// first of them is told before its time.
    pub fn when_back(&self, held: &[(ClientId, DelegId)], notify: Notify) -> bool {
        self.with(|state| state.delegs.wait(held, notify))
    }

    /// Takes note of a change without an open (NFSv3, special stateids, names and attributes) until
    /// the value is dropped: no delegation is granted meanwhile. First this, then [`FileLocks::io`]
    /// or [`FileLocks::change`], then the change.
    pub fn passing(self: &Arc<Self>) -> Passing {
        Passing::new(self.clone())
    }

    /// Whether a READ or WRITE without an open may go on: by NFSv3 or with a special stateid, deny
    /// modes stand against it (RFC 8881 8.2.3); not against a READ with the `bypass` stateid. Of a
    /// file without those and without delegations, this is one atomic load.
    ///
    /// # Errors
    /// [`Conflict::Deleg`]; [`Conflict::Share`] for `NFS4ERR_LOCKED`.
    pub fn io(&self, client: Option<ClientId>, write: bool, bypass: bool) -> Result<(), Conflict> {
        let against = if write {
            READ_DELEG | WRITE_DELEG | DENY_WRITE
        } else {
            WRITE_DELEG | DENY_READ
        };
        if self.flags.load(SeqCst) & against == 0 {
            return Ok(());
        }
        let access = if write { Access::WRITE } else { Access::READ };
        let state = self.lock();
        recall(state.delegs.against_io(client, write))?;
        if bypass && !write {
            return Ok(());
        }
        match state.shares.conflict(access, Deny::NONE, None) {
            Some(holder) => Err(Conflict::Share(holder)),
            None => Ok(()),
        }
    }

    /// Whether attributes or names of the file (SETATTR, REMOVE, RENAME, LINK) may change. Without
    /// delegations, one atomic load.
    ///
    /// # Errors
    /// [`Conflict::Deleg`].
    pub fn change(&self, client: Option<ClientId>) -> Result<(), Conflict> {
        if self.flags.load(SeqCst) & (READ_DELEG | WRITE_DELEG) == 0 {
            return Ok(());
        }
        recall(self.lock().delegs.against_change(client))
    }

    /// Who else has the file delegated for writing and must be asked for its size and change
    /// attribute (CB_GETATTR, RFC 8881 10.4.3). Without such, one atomic load.
    pub fn writer(&self, client: Option<ClientId>) -> Option<(ClientId, DelegId)> {
        if self.flags.load(SeqCst) & WRITE_DELEG == 0 {
            return None;
        }
        self.lock().delegs.writer(client)
    }

    fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            files: u64::from(self.busy()),
            shares: state.shares.len() as u64,
            ranges: state.ranges.as_ref().map_or(0, |r| r.len()) as u64,
            delegations: state.delegs.len() as u64,
            waiters: state.line.as_ref().map_or(0, |l| l.len()) as u64,
            mirrors: u64::from(state.mirror.is_some()),
        }
    }
}

impl Drop for FileLocks {
    fn drop(&mut self) {
        if let Some((table, key)) = self.home.take() {
            table.remove(&key, self);
        }
    }
}

#[cfg(any(test, feature = "model"))]
pub mod model;
#[cfg(test)]
mod tests;
