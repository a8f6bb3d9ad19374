//! What a request is about: file, range and owner of its arguments; and who may lock there.

use std::time::Instant;

use vfs::locks::{ClientId, DelegId, FileLocks, Held, Hosted, LockKind, Range};
use vfs::{FileKind, exec};

use crate::conflict;
use crate::cx::{Cx, Opened};
use crate::host;
use crate::nfs3::status::Nfsstat3;
use crate::nlm::state::OwnerName;
use crate::nlm::types::{Lock, NlmStat};

/// The file behind a handle.
///
/// # Errors
/// `STALE_FH`, `DENIED` for who may not use the export, `FAILED`, `DENIED_NOLOCKS` when that is not
/// known now.
pub async fn file(cx: &Cx, fh: &[u8]) -> Result<Opened, NlmStat> {
    let opened = cx.open(fh).await.map_err(|status| match status {
        Nfsstat3::Badhandle | Nfsstat3::Stale => NlmStat::StaleFh,
        Nfsstat3::Acces => NlmStat::Denied,
        Nfsstat3::Jukebox => NlmStat::DeniedNolocks,
        _ => NlmStat::Failed,
    })?;
    match opened.file.kind() {
        FileKind::Regular => Ok(opened),
        _ => Err(NlmStat::Failed),
    }
}

/// Whether the client that has what is asked for is gone: one whose lease has run out makes room.
///
/// # Errors
/// `DENIED_NOLOCKS` when that cannot be written yet.
pub async fn gone(cx: &Cx, client: ClientId) -> Result<bool, NlmStat> {
    let gone = Box::pin(conflict::expired(&cx.server, client)).await;
    gone.map_err(|_| NlmStat::DeniedNolocks)
}

/// Asks delegations back: true if one has come by `end`.
pub async fn returned(
    cx: &Cx,
    file: &FileLocks,
    held: &[(ClientId, DelegId)],
    end: Instant,
) -> bool {
    let left = end.saturating_duration_since(exec::now());
    Box::pin(conflict::returned(&cx.server, file, held, left)).await
}

/// Before a lock is asked for: see [`host::locks`].
///
/// # Errors
/// `DENIED_NOLOCKS`.
pub async fn on_host(opened: &Opened, kind: LockKind) -> Result<Option<Hosted>, NlmStat> {
    let hosted = Box::pin(host::locks(opened, kind)).await;
    hosted.map_err(|_| NlmStat::DeniedNolocks)
}

/// The range of a lock.
///
/// # Errors
/// `FBIG`.
pub fn wanted(lock: &Lock<'_>, exclusive: bool) -> Result<Held, NlmStat> {
    let range = match lock.len {
        0 => Some(Range::from(lock.offset)),
        // Up to the last byte there can be, which is the end as well.
        len if lock.offset.wrapping_add(len) == 0 => Some(Range::from(lock.offset)),
        len => Range::new(lock.offset, len),
    };
    let kind = if exclusive {
        LockKind::Write
    } else {
        LockKind::Read
    };
    let range = range.ok_or(NlmStat::Fbig)?;
    Ok(Held { range, kind })
}

/// The owner of a lock.
pub fn owner(lock: &Lock<'_>) -> OwnerName {
    OwnerName {
        svid: lock.svid,
        oh: lock.oh.0.into(),
    }
}

/// Whether the caller may lock: who may read or write the file, and its owner; anybody with
/// `insecure_locks` (exports(5)).
///
/// # Errors
/// `DENIED`; `ROFS` for a write lock on a read-only export, as on Linux; `FAILED`.
pub async fn permitted(cx: &Cx, opened: &Opened, writes: bool) -> Result<(), NlmStat> {
    if writes && opened.options.read_only() {
        return Err(NlmStat::Rofs);
    }
    if opened.options.insecure_locks() {
        return Ok(());
    }
    let rights = cx.server.vfs.access(&opened.cred, &opened.file).await;
    let (rights, attr) = rights.map_err(|_| NlmStat::Failed)?;
    if rights.read || rights.write || attr.uid == opened.cred.uid() {
        Ok(())
    } else {
        Err(NlmStat::Denied)
    }
}
