//! Socket operations: connect, multishot accept and recv, recv into a place of one's own, gathered sends.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types};

use super::buf::{Buf, Slice};
use super::fixed::{OpenFd, Target, on_target, target};
use super::op::{MultiOp, Op, Stream, run, stream};
use super::recv_ring;
use crate::errno::{Errno, Result};
use crate::exec;

/// Multishot accept on a listening socket.
pub struct Accept {
    listener: Arc<OwnedFd>,
}

impl Op for Accept {
    type Output = ();
    const CODE: u8 = opcode::AcceptMulti::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
    }

    fn complete(self, _: i32, _: u32) {}

    fn discard(&mut self, res: i32, flags: u32) {
        drop(self.item(res, flags));
    }
}

impl MultiOp for Accept {
    type Item = Result<OwnedFd>;

    fn item(&mut self, res: i32, _: u32) -> Result<OwnedFd> {
        // SAFETY: a successful accept hands over a descriptor that is ours alone.
        Errno::check(res).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

/// Accepts connections until cancelled or failed; then start again.
pub fn accept(listener: &Arc<OwnedFd>) -> Stream<Accept> {
    stream(Accept {
        listener: listener.clone(),
    })
}

/// An address as the kernel takes it.
enum Name {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<SocketAddr> for Name {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Name::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(addr.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(addr) => Name::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: addr.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: addr.ip().octets(),
                },
                sin6_scope_id: addr.scope_id(),
            }),
        }
    }
}

struct Connect {
    socket: OwnedFd,
    name: Name,
}

impl Op for Connect {
    type Output = Result<OwnedFd>;
    const CODE: u8 = opcode::Connect::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let (name, len) = match &self.name {
            Name::V4(name) => ((&raw const *name).cast(), size_of_val(name)),
            Name::V6(name) => ((&raw const *name).cast(), size_of_val(name)),
        };
        opcode::Connect::new(types::Fd(self.socket.as_raw_fd()), name, len as u32).build()
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(|_| self.socket)
    }
}

/// Connects `socket`, which comes back connected or is closed. It may take as long as TCP retries:
/// dropping the future gives up and closes the socket.
///
/// # Errors
/// `connect(2)`.
pub async fn connect(socket: OwnedFd, to: SocketAddr) -> Result<OwnedFd> {
    let name = to.into();
    run(Connect { socket, name }).await
}

/// Received bytes in a provided buffer, which goes back to the kernel when this is dropped.
pub struct RecvBuf {
    bid: u16,
    len: usize,
    /// The number means something only on the worker it came to: not `Send`.
    worker: PhantomData<*const ()>,
}

impl RecvBuf {
    /// Calls `f` with the bytes.
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        exec::with_ring(|ring| f(ring.recv.bytes(self.bid, self.len)))
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        exec::try_with_ring(|ring| ring.recv.give_back(self.bid));
    }
}

/// Multishot recv into provided buffers.
pub struct RecvMulti {
    target: Target,
    _socket: Arc<OpenFd>,
}

impl Op for RecvMulti {
    type Output = ();
    const CODE: u8 = opcode::RecvMulti::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        on_target!(self.target, |fd| opcode::RecvMulti::new(
            fd,
            recv_ring::GROUP
        )
        .build())
    }

    fn complete(self, _: i32, _: u32) {}

    fn discard(&mut self, res: i32, flags: u32) {
        drop(self.item(res, flags));
    }
}

impl MultiOp for RecvMulti {
    /// Bytes, `None` at the end of the stream, or an error: `ENOBUFS` when no buffer was free,
    /// `ECANCELED` after [`Stream::cancel`].
    type Item = Result<Option<RecvBuf>>;

    fn item(&mut self, res: i32, flags: u32) -> Self::Item {
        let buf = cqueue::buffer_select(flags).map(|bid| {
            exec::try_with_ring(|ring| ring.recv.taken());
            RecvBuf {
                bid,
                len: res.max(0) as usize,
                worker: PhantomData,
            }
        });
        let len = Errno::check(res)?;
        Ok(buf.filter(|_| len > 0))
    }
}

/// Receives from a socket until the end, an error, or [`Stream::cancel`].
pub fn recv_multi(socket: &Arc<OpenFd>) -> Stream<RecvMulti> {
    stream(RecvMulti {
        target: target(socket),
        _socket: socket.clone(),
    })
}

struct Recv {
    target: Target,
    _socket: Arc<OpenFd>,
    buf: Buf,
    range: std::ops::Range<usize>,
    patience: Patience,
}

impl Op for Recv {
    type Output = (Result<usize>, Buf);
    const CODE: u8 = opcode::Recv::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        // SAFETY: the range was clipped to the buffer's capacity when the op was made.
        let ptr = unsafe { self.buf.ptr().add(self.range.start) };
        let (flags, ioprio) = match self.patience {
            Patience::Much => (0, POLL_FIRST),
            Patience::None => (libc::MSG_DONTWAIT, 0),
        };
        on_target!(self.target, |fd| {
            opcode::Recv::new(fd, ptr, self.range.len() as u32)
                .flags(flags)
                .ioprio(ioprio)
                .build()
        })
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        (Errno::check(res).map(|n| n as usize), self.buf)
    }

    fn shorten(&mut self) {
        self.range.end = self.range.start + self.range.len().div_ceil(2);
    }
}

/// `IORING_RECVSEND_POLL_FIRST` (`io_uring_enter(2)`): wait first, then receive.
const POLL_FIRST: u16 = 1;

/// With this much to take, [`Patience::Much`] need not wait for more. A segment has up to 64 KiB.
const MUCH: usize = 256 << 10;

/// How [`recv`] deals with a socket that has less than asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Wait for all of it, but at most 256 KiB, the end of the stream or an error, rather than be woken for every
    /// segment: all of a long range takes several calls. One at a time on a socket.
    Much,
    /// Take what is there now; `EAGAIN` if that is nothing.
    None,
}

/// A socket that counts as readable only from some bytes on (`SO_RCVLOWAT`, `socket(7)`); from one byte on when this
/// is dropped.
struct LowWater(Arc<OpenFd>);

impl LowWater {
    fn new(socket: &Arc<OpenFd>, bytes: usize) -> LowWater {
        let this = LowWater(socket.clone());
        this.set(bytes.clamp(1, MUCH) as libc::c_int);
        this
    }

    /// Where it cannot be set, receiving works all the same, with more turns.
    fn set(&self, bytes: libc::c_int) {
        let len = size_of_val(&bytes) as libc::socklen_t;
        // SAFETY: `bytes` has `len` bytes and outlives the call.
        unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                (&raw const bytes).cast(),
                len,
            )
        };
    }
}

impl Drop for LowWater {
    fn drop(&mut self) {
        self.set(1);
    }
}

/// Receives into `buf[range]`, perhaps less than all of it; 0 bytes mean the end of the stream. The buffer always
/// comes back.
///
/// # Errors
/// `recv(2)`.
pub async fn recv(
    socket: &Arc<OpenFd>,
    buf: Buf,
    range: std::ops::Range<usize>,
    patience: Patience,
) -> (Result<usize>, Buf) {
    let end = range.end.min(buf.capacity());
    let range = range.start.min(end)..end;
    // Never more than is asked for: the rest of a record may be all that comes.
    let _low = (patience == Patience::Much).then(|| LowWater::new(socket, range.len()));
    run(Recv {
        target: target(socket),
        _socket: socket.clone(),
        buf,
        range,
        patience,
    })
    .await
}

struct Readable {
    target: Target,
    _socket: Arc<OpenFd>,
}

impl Op for Readable {
    type Output = Result<()>;
    const CODE: u8 = opcode::PollAdd::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        on_target!(self.target, |fd| opcode::PollAdd::new(
            fd,
            libc::POLLIN as u32
        )
        .build())
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        Errno::check(res).map(drop)
    }
}

/// Waits until a socket has something to receive, has ended or has failed; no buffer is held meanwhile.
///
/// # Errors
/// `poll(2)`.
pub async fn readable(socket: &Arc<OpenFd>) -> Result<()> {
    run(Readable {
        target: target(socket),
        _socket: socket.clone(),
    })
    .await
}

/// One piece of a reply.
pub enum Segment {
    /// Encoded bytes.
    Bytes(Vec<u8>),
    /// Payload in a pool buffer, sent from where it is.
    Payload(Slice),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Bytes(b) => b,
            Segment::Payload(s) => s,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// No bytes left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct Send {
    target: Target,
    _socket: Arc<OpenFd>,
    segments: Vec<Segment>,
    /// Bytes of the first segment that went out before.
    skip: usize,
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
    limit: usize,
}

impl Op for Send {
    type Output = (Result<usize>, Vec<Segment>);
    const CODE: u8 = opcode::SendMsg::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let mut skip = self.skip;
        let mut room = self.limit;
        for segment in &self.segments {
            let bytes = &segment.bytes()[skip..];
            skip = 0;
            let len = bytes.len().min(room);
            room -= len;
            let base = bytes.as_ptr().cast_mut().cast();
            self.iovecs.push(libc::iovec {
                iov_base: base,
                iov_len: len,
            });
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len();
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
        on_target!(self.target, |fd| {
            opcode::SendMsg::new(fd, &raw const self.header)
                .flags(flags)
                .build()
        })
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        (Errno::check(res).map(|n| n as usize), self.segments)
    }

    fn shorten(&mut self) {
        let total: usize = self.segments.iter().map(Segment::len).sum();
        self.limit = (total - self.skip).div_ceil(2);
    }
}

/// Most segments of one send (`IOV_MAX`).
pub const SEGMENTS_MAX: usize = 1024;

/// Sends the segments, the first one from byte `skip` on, in one gathered call; may come back
/// short. The segments always come back.
///
/// # Errors
/// `sendmsg(2)`; `EINVAL` above [`SEGMENTS_MAX`].
pub async fn send(
    socket: &Arc<OpenFd>,
    segments: Vec<Segment>,
    skip: usize,
) -> (Result<usize>, Vec<Segment>) {
    if segments.len() > SEGMENTS_MAX || segments.first().is_some_and(|s| s.len() < skip) {
        return (Err(Errno::EINVAL), segments);
    }
    let iovecs = Vec::with_capacity(segments.len());
    // SAFETY: an all-zero msghdr is a valid, empty one.
    let header = unsafe { std::mem::zeroed() };
    let target = target(socket);
    run(Send {
        target,
        _socket: socket.clone(),
        segments,
        skip,
        iovecs,
        header,
        limit: usize::MAX,
    })
    .await
}
