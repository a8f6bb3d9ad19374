//! Locks of files as processes of the host see them: see [`crate::locks::HostFile`].

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::errno::{self, Errno};
use crate::exec;
use crate::file::File;
use crate::locks::{
    Claim, Conflict, DelegKind, FileLocks, Held, HostFile, Hosted, LockKind, Range,
};
use crate::sys::{self, FileLock};
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops::HeldPath;

/// As fcntl(2) has it; `None` beyond what it can lock.
fn file_lock(range: Range, kind: Option<LockKind>) -> Option<FileLock> {
    Some(FileLock {
        kind: match kind {
            Some(LockKind::Read) => libc::F_RDLCK,
            Some(LockKind::Write) => libc::F_WRLCK,
            None => libc::F_UNLCK,
        },
        first: i64::try_from(range.offset()).ok()?,
        last: i64::try_from(range.last()).unwrap_or(i64::MAX),
        pid: 0,
    })
}

/// As the table has it.
fn held(lock: FileLock) -> Option<Held> {
    let first = u64::try_from(lock.first).ok()?;
    let length = match lock.last {
        i64::MAX => u64::MAX,
        last => u64::try_from(last).ok()?.checked_sub(first)? + 1,
    };
    Some(Held {
        range: Range::new(first, length)?,
        kind: match lock.kind {
            libc::F_RDLCK => LockKind::Read,
            _ => LockKind::Write,
        },
    })
}

/// The file system has no such locks: there, those of clients stay among clients.
fn unlockable(e: Errno) -> bool {
    [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL].contains(&e.0)
}

impl HostFile for OpenFd {
    fn set(&self, range: Range, kind: Option<LockKind>) -> errno::Result<()> {
        let Some(lock) = file_lock(range, kind) else {
            return Ok(());
        };
        match sys::set_lock(self.as_fd(), lock) {
            Err(e) if unlockable(e) => Ok(()),
            other => other,
        }
    }

    fn find(&self, wanted: Held) -> errno::Result<Option<(Held, u32)>> {
        let Some(lock) = file_lock(wanted.range, Some(wanted.kind)) else {
            return Ok(None);
        };
        let found = sys::find_lock(self.as_fd(), lock)?;
        let pid = |lock: FileLock| u32::try_from(lock.pid).unwrap_or(0);
        Ok(found.and_then(|lock| Some((held(lock)?, pid(lock)))))
    }
}

/// Of a file nobody here can write: shared locks are all the host gets to see.
fn unwritable(e: Errno) -> bool {
    let all = [libc::EROFS, libc::ETXTBSY, libc::EPERM, libc::EACCES];
    all.contains(&e.0)
}

impl File {
    /// A name of the file that lasts as long as the value.
    pub fn held_path(&self) -> HeldPath {
        HeldPath::new(self.path())
    }

    /// Whether no process of the host has the file open in a way that a delegation of this kind forbids:
    /// for writing, or at all. What this server has open counts in doubt.
    ///
    /// # Errors
    /// `open(2)`; `fcntl(2)` `F_SETLEASE`: `EINVAL` where the file system has no leases.
    pub async fn delegable(&self, kind: DelegKind) -> errno::Result<bool> {
        match self.only_write_fd() {
            Some(fd) => sys::could_lease(fd.as_fd(), true),
            None => {
                let fd = self.data_fd(false).await?;
                sys::could_lease(fd.as_fd(), kind == DelegKind::Write)
            }
        }
    }

    /// Locks of the file are the kernel's own. A test build may take them for others.
    fn locks_at_once(&self) -> bool {
        #[cfg(feature = "fault-injection")]
        if crate::uring::fault::slow_locks() {
            return false;
        }
        self.mount.locks_at_once()
    }

    /// Makes locks of the file be locked on the host as well, at least while the value returned lives. Only
    /// on a worker.
    ///
    /// # Errors
    /// `open(2)`.
    pub async fn hosted(&self, kind: LockKind) -> errno::Result<Hosted> {
        let (fd, writes) = match kind {
            LockKind::Read => (self.data_fd(false).await?, false),
            LockKind::Write => match self.data_fd(true).await {
                Ok(fd) => (fd, true),
                Err(e) if unwritable(e) => (self.data_fd(false).await?, false),
                Err(e) => return Err(e),
            },
        };
        let fd: Arc<OpenFd> = fd;
        let slow = !self.locks_at_once();
        let pool = slow.then(|| exec::with_ring(|ring| ring.threads.clone()));
        Ok(self.locks().hosted(fd, writes, pool))
    }
}

impl FileLocks {
    /// After a refusal to lock: where the host is to be asked first, that is done, and it may be tried again
    /// while the value lives. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// `refused`, if it was for another reason; [`Conflict::Lock`] of the host; [`Conflict::Full`].
    pub async fn claim(self: &Arc<Self>, refused: Conflict) -> Result<Claim, Conflict> {
        let Conflict::Host(holder, wanted) = refused else {
            return Err(refused);
        };
        let (claim, answer) = self.begin_claim(wanted);
        let taken = answer.await.unwrap_or(Err(Conflict::Full));
        if matches!(taken, Err(Conflict::Lock(..))) {
            self.hold_up(holder, &wanted);
        }
        taken.map(|()| claim)
    }

    /// What came of [`FileLocks::test`], after the host has been asked, where that is still to be done.
    ///
    /// # Errors
    /// As [`FileLocks::test`].
    pub async fn tested(&self, tested: Result<(), Conflict>) -> Result<(), Conflict> {
        match tested {
            Err(Conflict::Host(_, wanted)) => {
                let answer = self.begin_find(wanted).await;
                answer.unwrap_or(Err(Conflict::Full))
            }
            known => known,
        }
    }

    /// Waits until what has been unlocked is unlocked on the host as well, or cannot be. Nearly always that is
    /// so already.
    pub async fn settled(&self) {
        if let Some(settling) = self.begin_settling() {
            settling.await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::locks::LockGuard;

    /// As a request does it.
    pub(crate) async fn lock(guard: &LockGuard, wanted: Held) -> Result<(), Conflict> {
        let mut claim = None;
        loop {
            let locked = guard.lock(wanted.range, wanted.kind, exec::now());
            drop(claim.take());
            let Err(refused) = locked else { break };
            claim = Some(guard.file().claim(refused).await?);
        }
        guard.file().settled().await;
        Ok(())
    }
}
