//! READ, WRITE and COMMIT on regular files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::access::{Need, Permit, check};
use crate::attr::Attr;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::file::File;
use crate::stable::Stable;
use crate::uring::buf::HEAD_BYTES;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;
use crate::uring::{Buf, Slice};
use crate::vfs::{Changed, Vfs, Wcc};

/// Highest offset Linux knows (`s_maxbytes` at most).
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;

/// Data read.
pub struct ReadData {
    /// The bytes; its length is what was read.
    pub buf: Buf,
    /// The read reached the end of the file.
    pub eof: bool,
}

/// Outcome of a read.
pub struct ReadDone {
    /// The data.
    pub result: Result<ReadData>,
    /// Attributes after the read.
    pub attr: Option<Attr>,
}

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes written, possibly fewer than asked.
    pub count: u32,
    /// How stable they are now.
    pub committed: Stable,
}

async fn fill(fd: &Arc<OpenFd>, mut buf: Buf, offset: u64, count: usize) -> (Result<usize>, Buf) {
    let mut done = 0;
    while done < count {
        let (read, back) = file_ops::read(fd, buf, done..count, offset + done as u64).await;
        buf = back;
        match read {
            Ok(0) => break,
            Ok(n) => done += n,
            // What was read before the error is good; the error comes with the next request.
            Err(_) if done > 0 => break,
            Err(e) => return (Err(e), buf),
        }
    }
    (Ok(done), buf)
}

impl Vfs {
    /// Reads up to `count` bytes (RFC 1813 3.3.6); no more than the worker's largest buffers are for
    /// ([`crate::uring::RingConfig::buffer_bytes`]). Attributes are taken after the data, so that the
    /// end-of-file flag and the size agree; the permission decision on them comes before the reply.
    pub async fn read(&self, cred: &Cred, file: &Arc<File>, offset: u64, count: u32) -> ReadDone {
        self.read_as(Some(cred), file, offset, count).await
    }

    /// As [`Vfs::read`], for a caller whose permission was decided when it opened the file
    /// ([`Vfs::open_check`]).
    pub async fn read_open(&self, file: &Arc<File>, offset: u64, count: u32) -> ReadDone {
        self.read_as(None, file, offset, count).await
    }

    /// Reads; decides whether `judged` may.
    async fn read_as(
        &self,
        judged: Option<&Cred>,
        file: &Arc<File>,
        offset: u64,
        count: u32,
    ) -> ReadDone {
        let data = self.read_data(file, offset, count).await;
        let attr = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => {
                return ReadDone {
                    result: Err(e),
                    attr: None,
                };
            }
        };
        let allowed = match judged {
            Some(cred) => check(file, &attr, cred, Need::ReadData).await,
            None => Ok(()),
        };
        let result = allowed.and(data).map(|buf| {
            let end = offset.saturating_add(buf.len() as u64);
            ReadData {
                eof: end >= attr.size,
                buf,
            }
        });
        ReadDone {
            result,
            attr: Some(attr),
        }
    }

    async fn read_data(&self, file: &Arc<File>, offset: u64, count: u32) -> Result<Buf> {
        let fd = file.data_fd(false).await?;
        let count = u64::from(count).min(OFFSET_MAX.saturating_sub(offset)) as usize;
        let pool = exec::with_ring(|ring| ring.pool.clone());
        let count = count.min(pool.largest().saturating_sub(HEAD_BYTES).max(1));
        let buf = match pool.try_get(count) {
            Some(buf) => buf,
            None => pool.get(count).await?,
        };
        let (done, mut buf) = fill(&fd, buf, offset.min(OFFSET_MAX), count).await;
        buf.set_len(done?);
        Ok(buf)
    }

    /// Writes `data` at `offset` and makes it as stable as asked (RFC 1813 3.3.7).
    pub async fn write(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        data: Slice,
        stable: Stable,
    ) -> Changed<Written> {
        self.write_as(Permit::Judge, cred, file, offset, data, stable)
            .await
    }

    /// As [`Vfs::write`], for a caller whose permission was decided when it opened the file
    /// ([`Vfs::open_check`]). It still writes as `cred`, who pays quota and loses setuid bits.
    pub async fn write_open(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        data: Slice,
        stable: Stable,
    ) -> Changed<Written> {
        self.write_as(Permit::Opened, cred, file, offset, data, stable)
            .await
    }

    async fn write_as(
        &self,
        permit: Permit,
        cred: &Cred,
        file: &Arc<File>,
        offset: u64,
        data: Slice,
        stable: Stable,
    ) -> Changed<Written> {
        let mut change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        let result = match permit.check(file, &before, cred, Need::WriteData).await {
            Ok(()) => {
                self.write_data(cred, file, &before, offset, data, stable)
                    .await
            }
            Err(e) => Err(e),
        };
        change.made();
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }

    async fn write_data(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        before: &Attr,
        offset: u64,
        data: Slice,
        stable: Stable,
    ) -> Result<Written> {
        let fd = file.data_fd(true).await?;
        let len = data.len();
        if offset > OFFSET_MAX || len as u64 > OFFSET_MAX - offset {
            return Err(Errno::EFBIG);
        }
        // Counted before, so that the file is dirty throughout, and again after: a sync that overlaps
        // this write must not take it for covered.
        if stable == Stable::Unstable {
            file.wrote_unstable();
        }
        let written = self.write_all(cred, file, before, &fd, offset, data).await;
        if stable == Stable::Unstable {
            file.wrote_unstable();
        }
        let done = written?;
        if stable != Stable::Unstable {
            file.group
                .sync(&fd, stable == Stable::DataSync, &self.verifier)
                .await?;
        }
        Ok(Written {
            count: done as u32,
            committed: stable,
        })
    }

    /// Writes as much as the file system takes: all of it unless an error comes in between.
    async fn write_all(
        &self,
        cred: &Cred,
        file: &File,
        before: &Attr,
        fd: &Arc<OpenFd>,
        offset: u64,
        mut data: Slice,
    ) -> Result<usize> {
        let _writing = file.change.writing();
        let len = data.len();
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let wrote = match self.write_inline(cred, file, before, fd, &data, at) {
                Ok(None) => file_ops::write(fd, data.clone(), at, cred).await,
                Ok(Some(n)) => Ok(n),
                Err(e) => Err(e),
            };
            match wrote {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    data.advance(n);
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        if len > 0 && done == 0 {
            return Err(Errno::EIO);
        }
        Ok(done)
    }

    /// Under the adaptive policy, a write by the superuser that need not sleep happens at once. Others
    /// go under their own identity, which only the ring (or a pool thread) has: quota, reserved
    /// blocks and setuid bits depend on it.
    fn write_inline(
        &self,
        cred: &Cred,
        file: &File,
        before: &Attr,
        fd: &OpenFd,
        data: &[u8],
        offset: u64,
    ) -> Result<Option<usize>> {
        let adaptive = exec::with_ring(|r| r.policy() == crate::uring::IoPolicy::Adaptive);
        let worth = file.mount.nowait_write.load(Ordering::Relaxed);
        if !adaptive || !worth || !cred.is_root() || before.mode & 0o6000 != 0 {
            return Ok(None);
        }
        match file_ops::write_now(fd, data, offset) {
            Err(Errno::EOPNOTSUPP) => {
                file.mount.nowait_write.store(false, Ordering::Relaxed);
                Ok(None)
            }
            wrote => wrote,
        }
    }

    /// Makes what was written unstable stable (RFC 1813 3.3.21). The whole file is synced: the range
    /// is advice.
    pub async fn commit(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        _offset: u64,
        _count: u32,
    ) -> Changed<()> {
        let change = file.changes.attend();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        let result = match check(file, &before, cred, Need::WriteData).await {
            Ok(()) => self.commit_data(file).await,
            Err(e) => Err(e),
        };
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }

    async fn commit_data(&self, file: &Arc<File>) -> Result<()> {
        let covered = file.writes();
        let fd = match file.kind() {
            crate::FileKind::Regular => file.sync_fd().await?,
            crate::FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        };
        let synced = file.group.sync(&fd, true, &self.verifier).await;
        // Also after an error: it has been reported, and the pages are clean now (fsync(2)).
        file.synced_up_to(covered);
        synced
    }
}
