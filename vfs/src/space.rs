//! Where a file has data and where holes, and changes of that: SEEK, READ_PLUS, ALLOCATE, DEALLOCATE,
//! IO_ADVISE (RFC 7862 section 15). Those that change something are stable after [`Vfs::settle`].

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::SeekFrom;

use crate::access::{Need, Permit};
use crate::cred::Cred;
use crate::data::OFFSET_MAX;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;
use crate::vfs::{Changed, Vfs, Wcc};

/// What SEEK looks for (RFC 7862 15.11 `data_content4`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "RFC 7862 words")]
pub enum What {
    Data,
    Hole,
}

/// Where SEEK ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sought {
    /// Nothing of the kind is there but, for holes, the one every file ends with.
    pub eof: bool,
    /// Where it begins; the file's size at `eof`.
    pub offset: u64,
}

/// A piece of a file, of one kind throughout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Data, or a hole that reads as zeros.
    pub what: What,
    /// Where it begins.
    pub offset: u64,
    /// Its length, in bytes.
    pub len: u64,
}

/// Most segments of one answer.
pub const SEGMENTS_MAX: usize = 64;

/// Largest block of a file system, in bytes.
const BLOCK_MAX: u64 = 64 << 10;

/// How a client is going to use a range (`posix_fadvise(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "posix_fadvise(2) words")]
pub enum Advice {
    WillNeed,
    DontNeed,
}

/// Where the next data begins at or after `offset`; `None` if there is none.
pub(crate) fn next_data(fd: &OpenFd, offset: u64) -> Result<Option<u64>> {
    // The position this sets is nobody's: every other use of the descriptor names its offset.
    match rustix::fs::seek(fd.as_fd(), SeekFrom::Data(offset)) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Where the next hole begins at or after `offset`, the one behind the end included; `None` beyond the
/// end.
pub(crate) fn next_hole(fd: &OpenFd, offset: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(fd.as_fd(), SeekFrom::Hole(offset)) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn seek(fd: &OpenFd, offset: u64, what: What) -> Result<Sought> {
    let size = rustix::fs::fstat(fd)?.st_size.unsigned_abs();
    if offset >= size {
        return Err(Errno::ENXIO);
    }
    let found = match what {
        What::Data => next_data(fd, offset)?,
        What::Hole => next_hole(fd, offset)?,
    };
    let offset = found.unwrap_or(size);
    Ok(Sought {
        // The file may have shrunk or grown meanwhile.
        eof: found.is_none() || offset >= size,
        offset,
    })
}

/// The pieces of `offset..end`, none beyond the end of the file.
fn segments(fd: &OpenFd, offset: u64, end: u64) -> Result<Vec<Segment>> {
    let size = rustix::fs::fstat(fd)?.st_size.unsigned_abs();
    let end = end.min(size);
    let mut found = Vec::new();
    let mut at = offset;
    while at < end && found.len() < SEGMENTS_MAX {
        let data = next_data(fd, at)?.unwrap_or(end).min(end);
        let (what, to) = if data > at {
            (What::Hole, data)
        } else {
            (What::Data, next_hole(fd, at)?.unwrap_or(end).min(end))
        };
        if to <= at {
            break;
        }
        found.push(Segment {
            what,
            offset: at,
            len: to - at,
        });
        at = to;
    }
    Ok(found)
}

/// # Errors
/// `EINVAL` for an empty range, `EFBIG` for one no file can have.
fn range(offset: u64, len: u64) -> Result<()> {
    match offset.checked_add(len) {
        _ if len == 0 => Err(Errno::EINVAL),
        Some(end) if end <= OFFSET_MAX => Ok(()),
        _ => Err(Errno::EFBIG),
    }
}

impl Vfs {
    /// The next data or hole at or after `offset` (RFC 7862 15.11).
    ///
    /// # Errors
    /// `ENXIO` for an offset at or beyond the end; `EISDIR`, `EINVAL` for what is no regular file;
    /// `EACCES`; `lseek(2)`.
    pub async fn seek(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        what: What,
    ) -> Result<Sought> {
        let fd = self.readable(permit, cred, file).await?;
        if offset > OFFSET_MAX {
            return Err(Errno::ENXIO);
        }
        blocking::run(&Cred::root(), Call::Lseek, move || seek(&fd, offset, what)).await
    }

    /// Data and holes between `offset` and `offset + len`, in order and without gaps, at most
    /// [`SEGMENTS_MAX`] and none beyond the end of the file (RFC 7862 15.10). For callers that have
    /// permission to read already. What it says may have changed when the data is read.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what is no regular file; `lseek(2)`.
    pub async fn extents(&self, file: &Arc<File>, offset: u64, len: u64) -> Result<Vec<Segment>> {
        let fd = file.data_fd(false).await?;
        if offset > OFFSET_MAX {
            return Ok(Vec::new());
        }
        let end = offset.saturating_add(len);
        blocking::run(&Cred::root(), Call::Lseek, move || {
            segments(&fd, offset, end)
        })
        .await
    }

    /// The descriptor of a file `cred` may read.
    pub(crate) async fn readable(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
    ) -> Result<Arc<OpenFd>> {
        let fd = file.data_fd(false).await?;
        if permit == Permit::Judge {
            let attr = self.getattr(file).await?;
            permit.check(file, &attr, cred, Need::ReadData).await?;
        }
        Ok(fd)
    }

    /// Runs `op`, a change of `file`'s data or size by `cred`; wcc around it. A sync afterwards covers
    /// it.
    pub(crate) async fn change_data<T, F: Future<Output = Result<T>>>(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
        op: impl FnOnce(Arc<OpenFd>) -> F,
    ) -> Changed<T> {
        let mut change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        let changed = async {
            let fd = file.data_fd(true).await?;
            permit.check(file, &before, cred, Need::WriteData).await?;
            // Dirty throughout, and again after: as for a write.
            file.wrote_unstable();
            let writing = file.change.writing();
            let result = op(fd).await;
            drop(writing);
            file.wrote_unstable();
            result
        };
        let result = changed.await;
        change.made();
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }

    /// Reserves space for a range and extends the file to its end (RFC 7862 15.1). Its contents stay.
    ///
    /// Errors: `EINVAL` for an empty range, `EFBIG`, `ENOSPC`, `EDQUOT`, `EOPNOTSUPP` where the file
    /// system cannot; `EACCES`, `EISDIR`; `fallocate(2)`.
    pub async fn allocate(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        len: u64,
    ) -> Changed<()> {
        let change = self.change_data(permit, cred, file, |fd| async move {
            range(offset, len)?;
            file_ops::fallocate(&fd, 0, offset, len, cred).await
        });
        change.await
    }

    /// Makes a range read as zeros and frees its space; the size stays, also for a range that ends
    /// beyond it (RFC 7862 15.4). Errors: as [`Vfs::allocate`].
    pub async fn deallocate(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        len: u64,
    ) -> Changed<()> {
        let change = self.change_data(permit, cred, file, |fd| async move {
            if len == 0 {
                return Err(Errno::EINVAL);
            }
            // There is nothing behind the end, and offsets there may be more than the file system knows;
            // the block the end lies in goes as a whole.
            let size = self.getattr(file).await?.size;
            let end = offset.saturating_add(len);
            let end = end.min(size.next_multiple_of(BLOCK_MAX));
            if end <= offset {
                return Ok(());
            }
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            file_ops::fallocate(&fd, mode, offset, end - offset, cred).await
        });
        change.await
    }

    /// Passes on how a range is going to be used (RFC 7862 15.5); a length of 0 is up to the end. Only
    /// what concerns the range itself: the read-ahead modes belong to a descriptor, which all clients
    /// share here.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what is no regular file; `posix_fadvise(2)`.
    pub async fn advise(
        &self,
        file: &Arc<File>,
        offset: u64,
        len: u64,
        advice: Advice,
    ) -> Result<()> {
        let fd = file.data_fd(false).await?;
        let offset = offset.min(OFFSET_MAX);
        let len = len.min(OFFSET_MAX - offset);
        let advice = match advice {
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        };
        file_ops::fadvise(&fd, offset, len, advice).await
    }
}
