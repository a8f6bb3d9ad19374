//! SETATTR: size, owner, mode and times of any file, in the order that keeps setuid bits and
//! timestamps as asked.

use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use crate::access::{Need, check};
use crate::attr::{Attr, FileKind, SetAttr, SetTime, Time};
use crate::cred::Cred;
use crate::errno::{Errno, NOT_SYNC, Result};
use crate::file::File;
use crate::mount::SELF;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops::{self, HeldPath};
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

/// # Errors
/// `EINVAL` for what the system calls would take for something else: an id of -1 (leave it alone),
/// nanoseconds out of range (some mean now, or never mind).
pub(crate) fn sane(set: &SetAttr) -> Result<()> {
    let id = |id: Option<u32>| id != Some(u32::MAX);
    let time = |set: SetTime| !matches!(set, SetTime::At(t) if t.nsec >= 1_000_000_000);
    if id(set.uid) && id(set.gid) && time(set.atime) && time(set.mtime) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Everything but the size, by plain system calls on a pool thread under the caller's identity.
pub(crate) fn apply(path: &Arc<OpenFd>, kind: FileKind, set: &SetAttr) -> Result<()> {
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

/// Takes out setting one of the times to now. utimensat(2) allows that to the owner alone, Linux NFS
/// servers to everybody who may write: a client asks for it with the size when it truncates a file.
/// The size alone does it, too.
fn without_touch(set: &SetAttr) -> (SetAttr, SetAttr) {
    let mut rest = *set;
    let mut touched = SetAttr::default();
    match (set.atime, set.mtime) {
        (SetTime::Keep, SetTime::Now) => {
            rest.mtime = SetTime::Keep;
            if set.size.is_none() {
                touched.mtime = SetTime::Now;
            }
        }
        (SetTime::Now, SetTime::Keep) => {
            rest.atime = SetTime::Keep;
            touched.atime = SetTime::Now;
        }
        _ => {}
    }
    (rest, touched)
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
        let mut change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        let result = if let Err(e) = sane(set) {
            Err(e)
        } else if guard.is_some_and(|ctime| ctime != before.ctime) {
            Err(NOT_SYNC)
        } else {
            self.set(cred, file, &before, set).await
        };
        change.made();
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
                return Err(Errno::EFBIG);
            }
            let _writing = file.change.writing();
            meta_ops::ftruncate(cred, &fd, size).await?;
        }
        let (rest, touched) = without_touch(set);
        if !touched.is_empty() && check(file, before, cred, Need::WriteData).await.is_ok() {
            self.set_metadata(cred, file, &rest).await?;
            return self.set_metadata(&Cred::root(), file, &touched).await;
        }
        let set = if touched.is_empty() { &rest } else { set };
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
        sane(set)?;
        file.acl.drop_cached();
        let (path, kind) = (file.path().clone(), file.kind());
        blocking::run(cred, Call::Setattr, move || apply(&path, kind, &rest)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_to_now_is_a_touch() {
        let now = SetTime::Now;
        let at = SetTime::At(Time { sec: 1, nsec: 2 });
        let times = |size, atime, mtime| SetAttr {
            size,
            atime,
            mtime,
            ..SetAttr::default()
        };
        let keep = SetTime::Keep;
        let none = SetAttr::default();
        for (set, expected) in [
            (times(None, keep, now), (none, times(None, keep, now))),
            (times(None, now, keep), (none, times(None, now, keep))),
            // The size alone sets the time of modification.
            (
                times(Some(0), keep, now),
                (times(Some(0), keep, keep), none),
            ),
            (times(None, now, now), (times(None, now, now), none)),
            (times(None, at, now), (times(None, at, now), none)),
            (times(None, keep, keep), (none, none)),
        ] {
            assert_eq!(without_touch(&set), expected, "{set:?}");
        }
    }
}
