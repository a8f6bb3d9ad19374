//! CB_GETATTR: what the holder of a delegation for writing knows better than the server (RFC 8881
//! 10.4.3, 20.1): whether the file changed, and how long it is.

use std::sync::Arc;
use std::time::Duration;

use vfs::locks::{ClientId, DelegState, FileLocks};
use vfs::{Attr, Time, exec};

use super::wire::{CHANGE, CbArgs, CbAttrs, CbDone, CbGetattr4args, SIZE};
use crate::conflict::{self, Blocked};
use crate::nfs4::state::deleg::DelegRef;
use crate::nfs4::types::{Bitmap4, NfsFh4};
use crate::server::Shared;

/// How long the request of another client waits for the holder's answer. Without one, the holder is
/// asked for the delegation itself.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What was answered last about a file modified by the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Modified {
    said: CbAttrs,
    change: u64,
    at: Time,
}

/// What the holder of a delegation has said of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Change attribute when it was delegated.
    granted: u64,
    last: Option<Modified>,
}

impl Said {
    /// The file was delegated with this change attribute.
    #[must_use]
    pub fn new(granted: u64) -> Self {
        Said {
            granted,
            last: None,
        }
    }

    /// The holder says `said` of the file: what others see of it then. Its change attribute moves
    /// once for each state of the file the holder tells of (RFC 8881 10.4.3).
    pub fn apply(&mut self, said: CbAttrs, attr: &mut Attr, now: Time) {
        let changed = said.change.is_some_and(|change| change != self.granted);
        let resized = said.size.is_some_and(|size| size != attr.size);
        let news = match &self.last {
            Some(last) => last.said != said,
            None => changed || resized,
        };
        if news {
            let before = self.last.map_or(0, |last| last.change).max(attr.change);
            self.last = Some(Modified {
                said,
                change: before.wrapping_add(1),
                at: now,
            });
        }
        if let Some(last) = &self.last {
            attr.change = attr.change.max(last.change);
            attr.size = said.size.unwrap_or(attr.size);
            (attr.mtime, attr.ctime) = (last.at, last.at);
        }
    }
}

/// Puts into `attr` what another client than `own` that has the file delegated for writing knows of
/// it. True if the attributes must be read again: the delegation came back meanwhile.
///
/// # Errors
/// [`Blocked::Recalled`]: it does not answer, and is asked for the delegation. How long that is waited
/// for, `patience` says.
pub async fn refresh(
    server: &Arc<Shared>,
    locks: &FileLocks,
    own: Option<ClientId>,
    attr: &mut Attr,
    patience: Duration,
) -> Result<bool, Blocked> {
    let Some((client, id)) = locks.writer(own) else {
        return Ok(false);
    };
    if let Some(deleg) = DelegRef::of(client, id)
        && let Some(said) = ask(server, deleg).await
    {
        let since = exec::wall_clock().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let now = Time {
            sec: since.as_secs() as i64,
            nsec: since.subsec_nanos(),
        };
        if let Some(client) = server.state.client(deleg.client)
            && let Some(held) = client.lock().holdings.deleg_at_mut(deleg.key)
        {
            held.said.apply(said, attr, now);
            return Ok(false);
        }
        return Ok(true);
    }
    let held = [(client, id)];
    match conflict::returned(server, locks, &held, patience).await {
        true => Ok(true),
        false => Err(Blocked::Recalled),
    }
}

/// What the holder of `deleg` says of the file. `None` when it does not answer in time, or has been
/// asked for the delegation already; also when that is no longer there.
async fn ask(server: &Arc<Shared>, deleg: DelegRef) -> Option<CbAttrs> {
    let client = server.state.client(deleg.client)?;
    let fh = {
        let inner = client.lock();
        let held = inner.holdings.deleg_at(deleg.key)?;
        let granted = held.guard.state() == DelegState::Granted;
        granted.then(|| held.fh.clone())?
    };
    let args = CbArgs::Getattr(CbGetattr4args {
        fh: NfsFh4(&fh),
        asked: Bitmap4::of(&[CHANGE, SIZE]),
    });
    let call = client.channel.call(server, &client, &args);
    let answer = exec::timeout(PATIENCE, call).await;
    tracing::debug!(client = client.number, ?answer, "CB_GETATTR");
    match answer {
        Some(Ok(CbDone::Attrs(attrs))) => Some(attrs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfs::FileKind;

    fn attr(change: u64, size: u64) -> Attr {
        let at = Time { sec: 1, nsec: 0 };
        Attr {
            kind: FileKind::Regular,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            size,
            used: size,
            rdev: (0, 0),
            dev: (0, 0),
            fileid: 9,
            blksize: 4096,
            atime: at,
            mtime: at,
            ctime: at,
            btime: None,
            mount_root: false,
            change,
        }
    }

    fn said(change: u64, size: u64) -> CbAttrs {
        CbAttrs {
            change: Some(change),
            size: Some(size),
        }
    }

    #[test]
    fn the_change_attribute_moves_once_for_each_state_told_of() {
        let now = |sec| Time { sec, nsec: 0 };
        let mut seen = Said::new(50);
        let mut look = |said, sec| {
            let mut attr = attr(50, 4);
            seen.apply(said, &mut attr, now(sec));
            (attr.change, attr.size, attr.mtime.sec)
        };
        assert_eq!(look(said(50, 4), 2), (50, 4, 1), "not modified");
        assert_eq!(look(said(51, 4), 3), (51, 4, 3));
        assert_eq!(look(said(51, 4), 4), (51, 4, 3), "the same");
        assert_eq!(look(said(51, 8), 5), (52, 8, 5));
        assert_eq!(look(said(50, 4), 6), (53, 4, 6), "back again is a change");
        assert_eq!(look(CbAttrs::default(), 7), (54, 4, 7), "nothing said");
    }

    #[test]
    fn what_was_written_back_counts() {
        let mut seen = Said::new(50);
        let mut first = attr(50, 4);
        seen.apply(said(51, 9), &mut first, Time { sec: 2, nsec: 0 });
        let mut later = attr(700, 9);
        seen.apply(said(51, 9), &mut later, Time { sec: 3, nsec: 0 });
        assert_eq!((later.change, later.size), (700, 9));
    }
}
