//! SETATTR: size, owner, mode and times of any file, in the order that keeps setuid bits and
//! timestamps as asked.

use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use crate::access::{Need, check};
use crate::attr::{Attr, FileKind, SetAttr, SetTime, Time};
use crate::cred::Cred;
use crate::errno::{NOT_SYNC, Result};
use crate::file::File;
use crate::mount::SELF;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops::{self, HeldPath};
use crate::uring::fixed::OpenFd;
use crate::vfs::{Changed, Vfs, Wcc};

fn timespec(set: SetTime) -> Timespec {
    match set {
        SetTime::Keep => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        SetTime::Now => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        SetTime::At(t) => Timespec {
            tv_sec: t.sec,
            tv_nsec: i64::from(t.nsec),
        },
    }
}

/// Everything but the size, by plain system calls on a pool thread under the caller's identity.
fn apply(path: &Arc<OpenFd>, kind: FileKind, set: &SetAttr) -> Result<()> {
    if set.uid.is_some() || set.gid.is_some() {
        let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
        rustix::fs::chownat(path, c"", uid, gid, SELF)?;
    }
    // A symbolic link's mode means nothing and cannot be set.
    if let Some(mode) = set.mode.filter(|_| kind != FileKind::Symlink) {
        let held = HeldPath::new(path);
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(CWD, held.as_c_str(), mode, AtFlags::empty())?;
    }
    if set.atime != SetTime::Keep || set.mtime != SetTime::Keep {
        let times = Timestamps {
            last_access: timespec(set.atime),
            last_modification: timespec(set.mtime),
        };
        rustix::fs::utimensat(path, c"", &times, SELF)?;
    }
    Ok(())
}

impl Vfs {
    /// Changes attributes (RFC 1813 3.3.2). With `guard`, only if that is still the file's ctime;
    /// otherwise the error is [`NOT_SYNC`].
    pub async fn setattr(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        set: &SetAttr,
        guard: Option<Time>,
    ) -> Changed<()> {
        let _turn = file.turn.take().await;
        let change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        let result = if guard.is_some_and(|ctime| ctime != before.ctime) {
            Err(NOT_SYNC)
        } else {
            self.set(cred, file, &before, set).await
        };
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }

    async fn set(&self, cred: &Cred, file: &Arc<File>, before: &Attr, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            let fd = file.data_fd(true).await?;
            check(file, before, cred, Need::WriteData).await?;
            if size > i64::MAX as u64 {
                return Err(crate::Errno::EFBIG);
            }
            file_ops::ftruncate(cred, &fd, size).await?;
        }
        self.set_metadata(cred, file, set).await
    }

    /// Everything but the size.
    pub(crate) async fn set_metadata(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        set: &SetAttr,
    ) -> Result<()> {
        let rest = SetAttr { size: None, ..*set };
        if rest.is_empty() {
            return Ok(());
        }
        file.acl.drop_cached();
        let (path, kind) = (file.path().clone(), file.kind());
        blocking::run(cred, Call::Setattr, move || apply(&path, kind, &rest)).await
    }
}
