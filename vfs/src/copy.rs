//! COPY and CLONE (RFC 7862 15.2, 15.13): the server moves the data, holes stay holes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;

use crate::access::Permit;
use crate::cred::Cred;
use crate::data::OFFSET_MAX;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::space::{next_data, next_hole};
use crate::sys;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::fixed::OpenFd;
use crate::vfs::{Changed, Vfs};

/// Most bytes of data one visit of a pool thread copies: its thread belongs to others again after it,
/// and who drops the copy waits for no more than that.
const VISIT: u64 = 8 << 20;
/// Most pieces, data or hole, of one visit.
const PIECES: usize = 64;
/// Most bytes in user space at once where the kernel does not copy between two file systems.
const BUFFER: usize = 256 << 10;

/// A range of one file and where it goes in another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyRange {
    /// Where it begins in the source.
    pub from: u64,
    /// Where it goes in the destination.
    pub to: u64,
    /// Bytes; 0 is up to the end of the source.
    pub count: u64,
}

impl CopyRange {
    /// With the count that is meant, in a source of `size` bytes.
    ///
    /// # Errors
    /// `EINVAL` for what ends beyond the source; `EFBIG` for what no destination can hold.
    fn within(mut self, size: u64) -> Result<Self> {
        let rest = size.checked_sub(self.from).ok_or(Errno::EINVAL)?;
        if self.count == 0 {
            self.count = rest;
        }
        if self.count > rest {
            return Err(Errno::EINVAL);
        }
        match self.to.checked_add(self.count) {
            Some(end) if end <= OFFSET_MAX => Ok(self),
            _ => Err(Errno::EFBIG),
        }
    }

    /// Within one file, source and destination share bytes.
    fn overlaps(&self) -> bool {
        self.from.abs_diff(self.to) < self.count
    }

    fn skip(&mut self, n: u64) {
        self.from += n;
        self.to += n;
        self.count -= n;
    }
}

/// Bytes of one kind that were copied.
enum Piece {
    Data(u64),
    Hole(u64),
}

/// One copy on its way, as the pool threads see it.
#[derive(Clone)]
struct Job {
    source: Arc<OpenFd>,
    target: Arc<OpenFd>,
    /// Bytes done, for whoever wants to know.
    progress: Arc<AtomicU64>,
}

impl Job {
    /// Copies the first pieces of `left`: what is left after that. An error only if there were none.
    fn visit(&self, left: CopyRange) -> Result<CopyRange> {
        let (mut rest, mut data, mut hole) = (left, 0, 0);
        for _ in 0..PIECES {
            if rest.count == 0 || data >= VISIT {
                break;
            }
            let n = match self.piece(rest, VISIT - data) {
                Ok(Piece::Hole(n)) => {
                    hole = n;
                    n
                }
                Ok(Piece::Data(n)) => {
                    (data, hole) = (data + n, 0);
                    n
                }
                // The next visit meets it again.
                Err(_) if rest != left => break,
                Err(e) => return Err(e),
            };
            rest.skip(n);
        }
        if hole > 0 {
            self.reach(rest.to - hole, hole)?;
        }
        self.progress
            .fetch_add(left.count - rest.count, Ordering::Relaxed);
        Ok(rest)
    }

    /// Copies the first piece of `left`, of `most` bytes if it is data.
    fn piece(&self, left: CopyRange, most: u64) -> Result<Piece> {
        let begins = next_data(&self.source, left.from)?;
        let hole = begins.map_or(left.count, |at| (at - left.from).min(left.count));
        if hole > 0 {
            self.clear(left.to, hole)?;
            return Ok(Piece::Hole(hole));
        }
        let ends = next_hole(&self.source, left.from)?;
        let len = ends.map_or(left.count, |at| at.saturating_sub(left.from));
        match self.data(left, len.min(left.count).min(most))? {
            // Somebody cuts the source off.
            0 => Err(Errno::EIO),
            n => Ok(Piece::Data(n)),
        }
    }

    /// Copies up to `len` bytes.
    fn data(&self, at: CopyRange, len: u64) -> Result<u64> {
        let (mut from, mut to) = (at.from, at.to);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (source, target) = (self.source.as_fd(), self.target.as_fd());
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), len) {
            // Nothing, but not the end: file systems without pages of their own (procfs) do that.
            Ok(0) => self.through_memory(at, len),
            Ok(n) => Ok(n as u64),
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::INVAL,
            ) => self.through_memory(at, len),
            Err(e) => Err(e.into()),
        }
    }

    fn through_memory(&self, at: CopyRange, len: usize) -> Result<u64> {
        let mut buf = vec![0; len.min(BUFFER)];
        let n = rustix::io::pread(&*self.source, &mut buf, at.from)?;
        self.write_all(&buf[..n], at.to)?;
        Ok(n as u64)
    }

    fn write_all(&self, mut data: &[u8], mut to: u64) -> Result<()> {
        while !data.is_empty() {
            let n = rustix::io::pwrite(&*self.target, data, to)?;
            data = data.get(n..).filter(|_| n > 0).ok_or(Errno::EIO)?;
            to += n as u64;
        }
        Ok(())
    }

    /// Makes `len` bytes at `to` read as zeros, without space where that can be.
    fn clear(&self, to: u64, len: u64) -> Result<()> {
        match self.punch(to, len) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.zeros(to, len),
            done => done,
        }
    }

    fn punch(&self, to: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&*self.target, flags, to, len)?)
    }

    /// The destination reaches to the end of the hole of `len` bytes at `to`. Not by ftruncate(2), which
    /// could cut off what somebody else appends just now: the last byte, which is this copy's to write,
    /// brings the size; its block goes again.
    fn reach(&self, to: u64, len: u64) -> Result<()> {
        let size = rustix::fs::fstat(&*self.target)?.st_size.unsigned_abs();
        if size < to + len {
            self.write_all(&[0], to + len - 1)?;
            // Without holes, the block stays.
            let _ = self.punch(to, len);
        }
        Ok(())
    }

    /// Zeros over what is there; nothing has to be written beyond its end.
    fn zeros(&self, to: u64, len: u64) -> Result<()> {
        let size = rustix::fs::fstat(&*self.target)?.st_size.unsigned_abs();
        let end = (to + len).min(size);
        let zeros = vec![0; BUFFER];
        let mut at = to;
        while at < end {
            let n = (end - at).min(BUFFER as u64);
            self.write_all(&zeros[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }
}

impl Vfs {
    /// Copies a range of `source` into `target` as `cred`, also between file systems: the bytes copied,
    /// unstable. Fewer than asked when an error came after the first; the next copy meets it again.
    /// `progress`, this copy's alone, grows as bytes are copied; dropping the future stops the copy soon.
    ///
    /// Errors: `EINVAL` for a range beyond the end of the source, and for ranges of one file that share
    /// bytes; `EISDIR`, `EINVAL` for what is no regular file; `EFBIG`, `EACCES`, `ENOSPC`, `EDQUOT`;
    /// `copy_file_range(2)`.
    pub async fn copy(
        &self,
        permit: Permit,
        cred: &Cred,
        source: &Arc<File>,
        target: &Arc<File>,
        range: CopyRange,
        progress: &Arc<AtomicU64>,
    ) -> Changed<u64> {
        let copy = self.change_data(permit, cred, target, |into| async move {
            let from = self.readable(permit, cred, source).await?;
            let size = self.getattr(source).await?.size;
            let mut left = range.within(size)?;
            if Arc::ptr_eq(source, target) && left.overlaps() {
                return Err(Errno::EINVAL);
            }
            let asked = left.count;
            let job = Job {
                source: from,
                target: into,
                progress: progress.clone(),
            };
            let start = progress.load(Ordering::Relaxed);
            while left.count > 0 {
                let job = job.clone();
                let visit = blocking::run(cred, Call::CopyFileRange, move || job.visit(left));
                left = match visit.await {
                    Ok(rest) => rest,
                    Err(e) => {
                        let done = progress.load(Ordering::Relaxed) - start;
                        return if done > 0 { Ok(done) } else { Err(e) };
                    }
                };
            }
            Ok(asked)
        });
        copy.await
    }

    /// Makes a range of `target` share the blocks of `source` (RFC 7862 15.13); the whole of it or
    /// nothing. Ranges are aligned to [`crate::Limits::clone_blksize`], unless they end at the end of
    /// the source.
    ///
    /// Errors: `EXDEV` for two file systems, `EOPNOTSUPP` where blocks cannot be shared, `EINVAL` for
    /// ranges that are not aligned, end beyond the source or share bytes; `EISDIR`, `EACCES`, `EFBIG`,
    /// `ENOSPC`, `EDQUOT`; `ioctl_ficlonerange(2)`.
    pub async fn clone_range(
        &self,
        permit: Permit,
        cred: &Cred,
        source: &Arc<File>,
        target: &Arc<File>,
        range: CopyRange,
    ) -> Changed<()> {
        let clone = self.change_data(permit, cred, target, |into| async move {
            let from = self.readable(permit, cred, source).await?;
            let size = self.getattr(source).await?.size;
            let whole = range.within(size)?;
            if Arc::ptr_eq(source, target) && whole.overlaps() {
                return Err(Errno::EINVAL);
            }
            // The kernel's 0 is up to the end as well, but an empty rest is nothing to it.
            if whole.count == 0 {
                return Ok(());
            }
            blocking::run(cred, Call::Ficlonerange, move || {
                let (from, into) = ((*from).as_fd(), (*into).as_fd());
                sys::clone_range(from, whole.from, range.count, into, whole.to)
            })
            .await
        });
        clone.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64, count: u64) -> CopyRange {
        CopyRange { from, to, count }
    }

    #[test]
    fn a_count_of_zero_is_up_to_the_end() {
        assert_eq!(range(3, 9, 0).within(10), Ok(range(3, 9, 7)));
        assert_eq!(range(10, 9, 0).within(10), Ok(range(10, 9, 0)));
        assert_eq!(range(3, 9, 7).within(10), Ok(range(3, 9, 7)));
        for bad in [
            range(3, 9, 8),
            range(11, 0, 0),
            range(u64::MAX, 0, 1),
            range(1, 0, u64::MAX),
        ] {
            assert_eq!(bad.within(10), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(range(0, u64::MAX, 1).within(10), Err(Errno::EFBIG));
        assert_eq!(range(0, OFFSET_MAX, 1).within(10), Err(Errno::EFBIG));
    }

    #[test]
    fn overlap_is_seen_from_both_sides() {
        assert!(range(0, 5, 6).overlaps() && range(5, 0, 6).overlaps());
        assert!(!range(0, 5, 5).overlaps() && !range(5, 0, 5).overlaps());
        assert!(range(4, 4, 1).overlaps() && !range(4, 4, 0).overlaps());
    }
}
