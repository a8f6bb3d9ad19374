//! The host's part: what NFS clients lock is locked on the file itself as well, so that processes of the
//! host, and other servers of a cluster file system, see it. The table decides between NFS owners, the
//! kernel between them all and the host. One open file description stands for all NFS owners: a range is
//! locked exclusively there if any of them has it so, else shared if any has it at all.

use std::sync::Arc;

use super::errand::Slow;
use super::range::{Held, LockKind, Piece, Range, Ranges, raised};
use super::{ClientId, Conflict, FileLocks, Holder, OwnerId, State};
use crate::errno::{self, Errno};
use crate::uring::blocking::Threads;

/// Who holds what a process of the host, or another host, has locked.
pub const HOST: ClientId = ClientId(u64::MAX - 1);

/// Most locks of the host that are listed of one file.
const LISTED_MAX: usize = 256;

/// A file as the kernel locks it, through one open file description.
pub trait HostFile: Send + Sync {
    /// Locks the range, whatever the description held there before, or unlocks it.
    ///
    /// # Errors
    /// `EAGAIN` when somebody else has it; `fcntl(2)` `F_OFD_SETLK`.
    fn set(&self, range: Range, kind: Option<LockKind>) -> errno::Result<()>;

    /// A lock of somebody else that excludes this one, with the number of its process or 0.
    ///
    /// # Errors
    /// `fcntl(2)` `F_OFD_GETLK`.
    fn find(&self, wanted: Held) -> errno::Result<Option<(Held, u32)>>;
}

/// A file as it is locked on the host.
#[derive(Clone)]
pub(super) struct Hand {
    file: Arc<dyn HostFile>,
    /// It can be locked exclusively.
    writes: bool,
}

/// What stands on the host for the locks of one file.
pub(super) struct Mirror {
    pub(super) hand: Hand,
    /// Who is about to lock.
    users: u32,
    /// Something could not be unlocked.
    behind: bool,
    /// The pool does all that.
    pub(super) slow: Option<Box<Slow>>,
}

/// What a lock about to be entered took on the host.
pub(super) struct Taken {
    was: Vec<Piece>,
    is: Vec<Piece>,
}

/// The parts of `to` that are otherwise in `is`; both cover the same.
fn differing<'a>(is: &'a [Piece], to: &'a [Piece]) -> impl Iterator<Item = &'a Piece> {
    to.iter().filter(|piece| {
        let from = is.partition_point(|p| p.range.last() < piece.range.offset());
        let mut there = is[from..]
            .iter()
            .take_while(|p| p.range.overlaps(&piece.range));
        there.any(|p| p.kind != piece.kind)
    })
}

impl Hand {
    pub(super) fn set(&self, piece: &Piece) -> errno::Result<()> {
        // Of a file nobody can write.
        let kind = piece.kind.map(|kind| match self.writes {
            true => kind,
            false => LockKind::Read,
        });
        self.file.set(piece.range, kind)
    }

    /// Makes `to` of `is`. How many calls that took, and whether all went well.
    fn change(&self, is: &[Piece], to: &[Piece]) -> (usize, errno::Result<()>) {
        let mut calls = 0;
        for piece in differing(is, to) {
            if let Err(e) = self.set(piece) {
                return (calls, Err(e));
            }
            calls += 1;
        }
        (calls, Ok(()))
    }

    /// Makes `is` of `was`, for `wanted`, or leaves it; true if it could not be left as it was.
    pub(super) fn take(
        &self,
        was: &[Piece],
        is: &[Piece],
        wanted: Held,
    ) -> (Result<(), Conflict>, bool) {
        let mut behind = false;
        // Who had it may be gone by the time it is asked for.
        for _ in 0..2 {
            let (calls, done) = self.change(was, is);
            let Err(e) = done else {
                return (Ok(()), behind);
            };
            behind |= calls > 0 && self.change(is, was).1.is_err();
            if e != Errno::EAGAIN {
                return (Err(Conflict::Full), behind);
            }
            if let Err(conflict) = self.conflict(wanted) {
                return (Err(conflict), behind);
            }
        }
        let (client, owner) = (HOST, OwnerId(0));
        let conflict = Conflict::Lock(Holder { client, owner }, wanted);
        (Err(conflict), behind)
    }

    /// What somebody else holds that excludes this.
    pub(super) fn find(&self, wanted: Held) -> Option<(Holder, Held)> {
        let (held, pid) = self.file.find(wanted).ok().flatten()?;
        let owner = OwnerId(pid.into());
        let client = HOST;
        Some((Holder { client, owner }, held))
    }

    pub(super) fn conflict(&self, wanted: Held) -> Result<(), Conflict> {
        match self.find(wanted) {
            Some((holder, held)) => Err(Conflict::Lock(holder, held)),
            None => Ok(()),
        }
    }

    /// All that `from` has locked is locked through this one instead, which can be locked exclusively.
    pub(super) fn take_over(&self, from: &Hand, all: &[Piece]) {
        let locked = || all.iter().filter(|piece| piece.kind.is_some());
        if !Arc::ptr_eq(&self.file, &from.file) {
            for piece in locked() {
                // Both share it: never refused.
                let _ = self.file.set(piece.range, Some(LockKind::Read));
            }
            let _ = from.file.set(Range::from(0), None);
        }
        for piece in locked() {
            let _ = self.set(piece);
        }
    }

    /// The host's own locks within a range, in order.
    fn list(&self, range: Range, found: &mut Vec<(Held, u32)>) {
        let (kind, mut open) = (LockKind::Write, vec![range]);
        while let Some(range) = open.pop()
            && found.len() < LISTED_MAX
        {
            let Ok(Some((held, pid))) = self.file.find(Held { range, kind }) else {
                continue;
            };
            found.push((held, pid));
            open.extend(range.without(&held.range));
        }
        found.sort_by_key(|(held, _)| held.range.offset());
    }
}

impl Mirror {
    /// Makes less of what is locked.
    pub(super) fn shrink(&mut self, is: &[Piece], to: &[Piece]) {
        if let Some(slow) = &mut self.slow {
            return slow.lower(differing(is, to).map(|piece| piece.range));
        }
        if let (_, Err(e)) = self.hand.change(is, to) {
            tracing::debug!(error = %e, "a lock of the host's file stays for now");
            self.behind = true;
        }
    }

    /// Whether somebody else holds what excludes this; `None` if the pool is to find out.
    pub(super) fn bars(&self, wanted: Held) -> Option<bool> {
        let at_once = self.slow.is_none();
        at_once.then(|| self.hand.find(wanted).is_some())
    }

    /// Puts everything there anew, as far as others allow.
    fn renew(&mut self, all: &[Piece]) {
        if let Some(slow) = &mut self.slow {
            return slow.lower(all.iter().map(|piece| piece.range));
        }
        let done: Vec<_> = all.iter().map(|piece| self.hand.set(piece)).collect();
        let left = |(piece, done): (&Piece, &errno::Result<()>)| {
            done.is_err() && piece.kind != Some(LockKind::Write)
        };
        self.behind = all.iter().zip(&done).any(left);
    }

    /// All that is locked moves to a description that can be locked exclusively.
    fn move_to(&mut self, to: Hand, all: &[Piece]) {
        match &mut self.slow {
            Some(slow) => slow.move_to(to),
            None => {
                to.take_over(&self.hand, all);
                self.hand = to;
            }
        }
    }

    /// The pool has something to do.
    #[cfg(test)]
    pub(super) fn is_at_it(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| slow.is_at_it())
    }

    fn is_unused(&self) -> bool {
        let idle = self.slow.as_ref().is_none_or(|slow| slow.is_idle());
        self.users == 0 && !self.behind && idle
    }
}

impl State {
    /// How the host is to have a range locked: for all owners, and where a lock is to be granted.
    pub(super) fn cover(&self, range: Range) -> Vec<Piece> {
        let none = Ranges::default();
        let slow = self.mirror.as_ref().and_then(|m| m.slow.as_deref());
        let claimed = slow.into_iter().flat_map(Slow::granted);
        let ranges = self.ranges.as_deref().unwrap_or(&none);
        ranges.cover(range, claimed)
    }

    /// Whether the host lets it be locked.
    pub(super) fn host_allows(&self, holder: Holder, wanted: Held) -> Result<(), Conflict> {
        match &self.mirror {
            Some(mirror) if mirror.slow.is_some() => Err(Conflict::Host(holder, wanted)),
            Some(mirror) => mirror.hand.conflict(wanted),
            None => Ok(()),
        }
    }

    /// Locks on the host what is about to be entered.
    pub(super) fn take_on_host(
        &mut self,
        holder: Holder,
        wanted: Held,
    ) -> Result<Option<Taken>, Conflict> {
        if self.mirror.is_none() {
            return Ok(None);
        }
        let was = self.cover(wanted.range);
        let is = raised(&was, wanted.kind);
        let Some(mirror) = &mut self.mirror else {
            return Ok(None);
        };
        if mirror.slow.is_some() {
            return match was == is {
                true => Ok(Some(Taken { was, is })),
                false => Err(Conflict::Host(holder, wanted)),
            };
        }
        let (taken, behind) = mirror.hand.take(&was, &is, wanted);
        mirror.behind |= behind;
        taken.map(|()| Some(Taken { was, is }))
    }

    /// The lock is entered, or was not: the host's follows.
    pub(super) fn taken_on_host(&mut self, wanted: Held, taken: Option<Taken>, entered: bool) {
        let Some(Taken { was, is }) = taken else {
            return;
        };
        let now = match (entered, wanted.kind) {
            (true, LockKind::Write) => return,
            (true, LockKind::Read) => self.cover(wanted.range),
            (false, _) => was,
        };
        if let Some(mirror) = &mut self.mirror {
            mirror.shrink(&is, &now);
        }
    }

    /// A change that unlocks within `range`, on the host as well.
    pub(super) fn unlocks<T>(
        &mut self,
        range: Option<Range>,
        change: impl FnOnce(&mut Ranges) -> T,
    ) -> T {
        let Some(range) = range.filter(|_| self.mirror.is_some()) else {
            return change(self.ranges());
        };
        let is = self.cover(range);
        let result = change(self.ranges());
        let to = self.cover(range);
        if let Some(mirror) = &mut self.mirror {
            mirror.shrink(&is, &to);
        }
        result
    }

    /// Takes the mirror away once nobody needs it, to be dropped without the mutex.
    pub(super) fn take_unused_mirror(&mut self) -> Option<Box<Mirror>> {
        let behind = self.mirror.as_ref().is_some_and(|m| m.behind);
        if behind {
            let all = self.cover(Range::from(0));
            self.mirror.as_mut()?.renew(&all);
        }
        let locked = self.ranges.as_ref().is_some_and(|r| !r.is_free());
        self.mirror.take_if(|m| !locked && m.is_unused())
    }
}

impl FileLocks {
    /// From now on, as long as the value lives and beyond that while anything is locked, locks are locked
    /// on the host as well. `writes`: `file` can be locked exclusively. With a `pool`, that is what calls of
    /// `file` are made by, because they may wait; else they must not.
    pub fn hosted(
        self: &Arc<Self>,
        file: Arc<dyn HostFile>,
        writes: bool,
        pool: Option<Arc<Threads>>,
    ) -> Hosted {
        let hand = Hand { file, writes };
        self.with(|state| {
            let all = match &state.mirror {
                Some(mirror) if mirror.hand.writes || !writes => Vec::new(),
                _ => state.cover(Range::from(0)),
            };
            match &mut state.mirror {
                Some(mirror) => {
                    mirror.users += 1;
                    if writes && !mirror.hand.writes {
                        mirror.move_to(hand, &all);
                    }
                }
                none => {
                    let mut mirror = Mirror {
                        hand,
                        users: 1,
                        behind: false,
                        slow: pool.map(|pool| Box::new(Slow::new(pool, self))),
                    };
                    // Locked while the host was not to see it.
                    if all.iter().any(|piece| piece.kind.is_some()) {
                        mirror.renew(&all);
                    }
                    *none = Some(Box::new(mirror));
                }
            }
        });
        Hosted(self.clone())
    }

    /// Another [`Hosted`], if locks are locked on the host now.
    pub(super) fn hosted_again(self: &Arc<Self>) -> Option<Hosted> {
        let mut state = self.lock();
        state.mirror.as_mut()?.users += 1;
        Some(Hosted(self.clone()))
    }

    /// Locks of the file that processes of the host hold, with their numbers or 0. Empty while NFS clients
    /// lock nothing there, and where asking may take its time.
    pub fn host_locks(&self) -> Vec<(Held, u32)> {
        let mut found = Vec::new();
        if let Some(mirror) = &self.lock().mirror
            && mirror.slow.is_none()
        {
            mirror.hand.list(Range::from(0), &mut found);
        }
        found
    }
}

/// Locks of the file are locked on the host as well.
#[must_use = "a lock is locked on the host as well only while this lives"]
pub struct Hosted(Arc<FileLocks>);

impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.with(|state| {
            if let Some(mirror) = &mut state.mirror {
                mirror.users = mirror.users.saturating_sub(1);
            }
        });
    }
}
