//! Operations on open files: attributes, data, syncs, space.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rustix::fs::{AtFlags, FallocateFlags, Statx, StatxFlags};
use rustix::io::{IoSlice, IoSliceMut, ReadWriteFlags};

use super::IoPolicy;
use super::blocking;
use super::buf::{Buf, Slice};
use super::counters::Call;
use super::fixed::{OpenFd, Target, on_target, target};
use super::op::{Op, run};
use super::personality::{Personality, personality};
use crate::attr::Attr;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec;

/// Under the adaptive policy, what the ring would only hand to a kernel thread takes the cheaper way.
pub(crate) fn adaptive() -> bool {
    exec::with_ring(|r| r.policy() == IoPolicy::Adaptive)
}

pub(super) fn count_inline(call: Call) {
    exec::with_ring(|r| r.counters.inline(call));
}

/// Attributes every [`Attr`] needs.
const STATX_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

struct StatxOp {
    file: Arc<OpenFd>,
    out: Box<std::mem::MaybeUninit<libc::statx>>,
}

impl Op for StatxOp {
    type Output = Result<Attr>;
    const CODE: u8 = opcode::Statx::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let out = self.out.as_mut_ptr().cast::<types::statx>();
        opcode::Statx::new(types::Fd(self.file.as_raw_fd()), c"".as_ptr(), out)
            .flags(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)
            .mask(STATX_MASK.bits())
            .build()
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res)?;
        // SAFETY: the kernel filled the whole structure, as the result says. rustix's Statx has
        // the layout of the kernel's struct statx, as has libc's.
        let statx = unsafe { &*self.out.as_ptr().cast::<Statx>() };
        Ok(Attr::from(statx))
    }
}

/// Attributes of an open file, inline where the policy allows (a held inode's statx does not sleep
/// on a local file system).
///
/// # Errors
/// `statx(2)`.
pub async fn statx(file: &Arc<OpenFd>) -> Result<Attr> {
    if adaptive() && !file.waits() {
        return statx_now(file);
    }
    run(StatxOp {
        file: file.clone(),
        out: Box::new(std::mem::MaybeUninit::zeroed()),
    })
    .await
}

/// Attributes of an open file by a plain system call.
///
/// # Errors
/// `statx(2)`.
pub fn statx_now(file: &OpenFd) -> Result<Attr> {
    exec::try_with_ring(|r| r.counters.inline(Call::Statx));
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let statx = rustix::fs::statx(file, c"", flags, STATX_MASK)?;
    Ok(Attr::from(&statx))
}

/// What the ring would try in place first goes to a kernel thread at once where even that may wait: FUSE asks its
/// daemon although it was told not to wait.
fn off_worker(entry: squeue::Entry, file: &OpenFd) -> squeue::Entry {
    match file.waits() {
        true => exec::with_ring(|r| r.to_thread(entry)),
        false => entry,
    }
}

struct ReadOp {
    target: Target,
    file: Arc<OpenFd>,
    buf: Buf,
    range: std::ops::Range<usize>,
    offset: u64,
}

impl Op for ReadOp {
    type Output = (Result<usize>, Buf);
    const CODE: u8 = opcode::Read::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let len = self.range.len() as u32;
        // SAFETY: the range was clipped to the buffer's capacity when the op was made.
        let ptr = unsafe { self.buf.ptr().add(self.range.start) };
        let entry = match self.buf.registered() {
            Some(index) => on_target!(self.target, |fd| {
                opcode::ReadFixed::new(fd, ptr, len, index)
                    .offset(self.offset)
                    .build()
            }),
            None => on_target!(self.target, |fd| {
                opcode::Read::new(fd, ptr, len).offset(self.offset).build()
            }),
        };
        off_worker(entry, &self.file)
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        (Errno::check(res).map(|n| n as usize), self.buf)
    }

    fn shorten(&mut self) {
        self.range.end = self.range.start + self.range.len().div_ceil(2);
    }
}

/// Longest read that is tried inline. A longer one costs more than its trip through the ring, where the
/// copy goes to the registered buffer's pages without translating them one by one.
const INLINE_READ: usize = 64 << 10;

/// Reads into `buf[range]` at `offset`; may come back short. The buffer always comes back.
///
/// # Errors
/// `read(2)`.
pub async fn read(
    file: &Arc<OpenFd>,
    mut buf: Buf,
    range: std::ops::Range<usize>,
    offset: u64,
) -> (Result<usize>, Buf) {
    let end = range.end.min(buf.capacity());
    let range = range.start.min(end)..end;
    if adaptive() && !file.waits() && range.len() <= INLINE_READ {
        let len = buf.len();
        buf.set_len(end);
        let slice = &mut buf[range.clone()];
        let read = rustix::io::preadv2(
            file,
            &mut [IoSliceMut::new(slice)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        buf.set_len(len);
        match read {
            Ok(n) => {
                count_inline(Call::Preadv2);
                return (Ok(n), buf);
            }
            // Not in the cache, or no NOWAIT on this file system: the ring knows what to do.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP) => {}
            Err(e) => return (Err(e.into()), buf),
        }
    }
    let target = target(file);
    exec::with_ring(|r| {
        r.counters
            .data_op(target.slot().is_some(), buf.registered().is_some())
    });
    run(ReadOp {
        target,
        file: file.clone(),
        buf,
        range,
        offset,
    })
    .await
}

struct WriteOp {
    target: Target,
    _file: Arc<OpenFd>,
    data: Slice,
    offset: u64,
    personality: Personality,
}

impl Op for WriteOp {
    type Output = Result<usize>;
    const CODE: u8 = opcode::Write::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let (ptr, len) = (self.data.as_ptr(), self.data.len() as u32);
        let entry = match self.data.registered() {
            Some(index) => on_target!(self.target, |fd| {
                opcode::WriteFixed::new(fd, ptr, len, index)
                    .offset(self.offset)
                    .build()
            }),
            None => on_target!(self.target, |fd| {
                opcode::Write::new(fd, ptr, len).offset(self.offset).build()
            }),
        };
        entry.personality(self.personality.id())
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(|n| n as usize)
    }

    fn shorten(&mut self) {
        self.data.halve();
    }
}

/// Whether a change of a regular file goes to a pool thread instead of io-wq, where it could hold up others, or others
/// it (see [`super::relief`]).
pub(super) fn apart(file: &OpenFd) -> bool {
    file.waits() || exec::with_ring(|r| r.apart())
}

/// Writes `data` at `offset` as `cred` (who pays quota and clears setuid bits); may come back short.
///
/// # Errors
/// `write(2)`.
pub async fn write(file: &Arc<OpenFd>, data: Slice, offset: u64, cred: &Cred) -> Result<usize> {
    if !apart(file) {
        let target = target(file);
        exec::with_ring(|r| {
            r.counters
                .data_op(target.slot().is_some(), data.registered().is_some())
        });
        let personality = personality(cred)?;
        let wrote = run(WriteOp {
            target,
            _file: file.clone(),
            data: data.clone(),
            offset,
            personality,
        })
        .await;
        if wrote != Err(Errno::ECANCELED) {
            return wrote;
        }
    }
    // The buffers belong to their worker.
    let (file, data) = (file.clone(), data.to_vec());
    let write = move || Ok(rustix::io::pwrite(&*file, &data, offset)?);
    blocking::run(cred, Call::Pwrite, write).await
}

/// Tries to write without sleeping, as the server: only for callers whose identity makes no
/// difference. `None` where the file system would have to wait.
///
/// # Errors
/// `pwritev2(2)`: `EOPNOTSUPP` where the file system never writes without waiting (ext4).
pub fn write_now(file: &OpenFd, data: &[u8], offset: u64) -> Result<Option<usize>> {
    match rustix::io::pwritev2(file, &[IoSlice::new(data)], offset, ReadWriteFlags::NOWAIT) {
        Ok(n) => {
            count_inline(Call::Pwritev2);
            Ok(Some(n))
        }
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

struct FsyncOp {
    target: Target,
    _file: Arc<OpenFd>,
    data_only: bool,
}

impl Op for FsyncOp {
    type Output = Result<()>;
    const CODE: u8 = opcode::Fsync::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let flags = if self.data_only {
            types::FsyncFlags::DATASYNC
        } else {
            types::FsyncFlags::empty()
        };
        on_target!(self.target, |fd| opcode::Fsync::new(fd)
            .flags(flags)
            .build())
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(drop)
    }
}

/// Makes a file's data (and unless `data_only`, its metadata) stable.
///
/// # Errors
/// `fsync(2)`: every error is final, the pages may be clean afterwards.
pub async fn fsync(file: &Arc<OpenFd>, data_only: bool) -> Result<()> {
    run(FsyncOp {
        target: target(file),
        _file: file.clone(),
        data_only,
    })
    .await
}

struct FallocateOp {
    target: Target,
    _file: Arc<OpenFd>,
    mode: i32,
    offset: u64,
    len: u64,
    personality: Personality,
}

impl Op for FallocateOp {
    type Output = Result<()>;
    const CODE: u8 = opcode::Fallocate::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        on_target!(self.target, |fd| {
            opcode::Fallocate::new(fd, self.len)
                .offset(self.offset)
                .mode(self.mode)
                .build()
        })
        .personality(self.personality.id())
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(drop)
    }
}

/// `fallocate(2)` on an open file as `cred`.
///
/// # Errors
/// `fallocate(2)`.
pub async fn fallocate(
    file: &Arc<OpenFd>,
    mode: i32,
    offset: u64,
    len: u64,
    cred: &Cred,
) -> Result<()> {
    if !apart(file) {
        let personality = personality(cred)?;
        let done = run(FallocateOp {
            target: target(file),
            _file: file.clone(),
            mode,
            offset,
            len,
            personality,
        })
        .await;
        if done != Err(Errno::ECANCELED) {
            return done;
        }
    }
    let file = file.clone();
    let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
    let allocate = move || Ok(rustix::fs::fallocate(&*file, flags, offset, len)?);
    blocking::run(cred, Call::Fallocate, allocate).await
}

struct FadviseOp {
    target: Target,
    _file: Arc<OpenFd>,
    offset: u64,
    len: u32,
    advice: i32,
}

impl Op for FadviseOp {
    type Output = Result<()>;
    const CODE: u8 = opcode::Fadvise::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        on_target!(self.target, |fd| {
            opcode::Fadvise::new(fd, self.len as libc::off_t, self.advice)
                .offset(self.offset)
                .build()
        })
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(drop)
    }
}

/// `posix_fadvise(2)` on an open file; what reads ahead or writes back does so on a kernel thread. The
/// opcode knows 32 bits of length: a longer range counts up to the end of the file.
///
/// # Errors
/// `posix_fadvise(2)`.
pub async fn fadvise(file: &Arc<OpenFd>, offset: u64, len: u64, advice: i32) -> Result<()> {
    run(FadviseOp {
        target: target(file),
        _file: file.clone(),
        offset,
        len: u32::try_from(len).unwrap_or(0),
        advice,
    })
    .await
}
