//! One client connection: bytes to records, records to requests, replies to bytes.
//!
//! Small requests arrive through multishot recv into provided buffers and are copied, once, into a
//! buffer of their size. The rest of a long record (a WRITE), and those that follow it, are received
//! straight into the buffer their data is written to the file from. Replies leave in the order they get
//! ready, many per send; a READ payload is sent from the buffer it was read into. A client that does not
//! take its replies is not read from.

mod back;
mod out;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use vfs::uring::fixed::OpenFd;
use vfs::uring::net_ops::{self, Patience, RecvBuf, RecvMulti, SEGMENTS_MAX, Segment};
use vfs::uring::op::Stream;
use vfs::uring::{Buf, Slice};
use vfs::{Errno, exec};

pub use self::back::{BackConn, of_this_worker};
pub use self::out::{OutConn, connect};

use crate::config::Limits;
use crate::cx::{Client, Reply};
use crate::rpc::calls::{self, Calls};
use crate::rpc::record::{MARK_LEN, MAX_FRAGMENT, RecordReader, Step, mark, whole_record};
use crate::server::Shared;
use crate::{request, xdr};

/// Replies up to this size are gathered in one buffer; longer ones become segments of their own.
const GATHER_BYTES: usize = 8 << 10;
/// A payload up to this size is copied behind its header rather than sent from where it is.
const COPY_BYTES: usize = 512;
/// Most bytes of a buffer that is kept to gather replies in again.
const SPARE_BYTES: usize = 256 << 10;
/// Replies of this size together are sent at once.
const PROMPT_BYTES: usize = 128 << 10;
/// Bytes of one send: progress of a slow client shows at least this often.
const SEND_BYTES: usize = 2 << 20;
/// A longer payload is sent in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// A record with at least this much outstanding is received straight into its buffer.
const DIRECT_BYTES: usize = 32 << 10;

thread_local! {
    /// Buffers that were sent, to gather replies in again: fresh memory costs page faults.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Spare buffers of one worker.
const SPARES: usize = 32;

fn take_spare() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.pop().unwrap_or_default())
}

fn keep_spare(sent: Segment) {
    if let Segment::Bytes(mut bytes) = sent
        && bytes.capacity() <= SPARE_BYTES
    {
        bytes.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(bytes);
            }
        });
    }
}

/// Replies and calls waiting to be sent.
#[derive(Default)]
struct Out {
    queue: VecDeque<Segment>,
    /// Small replies, not yet a segment.
    gathered: Vec<u8>,
    bytes: usize,
}

/// One connection.
pub struct Conn {
    /// The peer.
    pub client: Rc<Client>,
    /// The server.
    pub server: Arc<Shared>,
    socket: Arc<OpenFd>,
    out: RefCell<Out>,
    in_flight: Cell<usize>,
    writing: Cell<bool>,
    closed: Cell<bool>,
    /// When the client last took bytes, while there are any for it.
    progress: Cell<Instant>,
    /// Since when part of a record is here and the rest is not.
    partial_since: Cell<Option<Instant>>,
    reader: RefCell<Option<Waker>>,
    /// This server opened it, to make calls: only replies may come.
    outgoing: bool,
    calls: RefCell<Calls<exec::oneshot::Sender<back::Answer>>>,
}

/// Input of the parser: what was received, and how far it is used up.
enum Chunk {
    Provided(RecvBuf, usize),
    Copied(Vec<u8>, usize),
}

/// A record being put together.
struct Partial {
    buf: Buf,
    filled: usize,
}

/// A complete record: `buf[start..]`.
struct Record {
    buf: Buf,
    start: usize,
}

struct Reader {
    conn: Rc<Conn>,
    stream: Option<Stream<RecvMulti>>,
    backlog: VecDeque<Chunk>,
    frames: RecordReader,
    partial: Option<Partial>,
    /// Length of the record before, if it was a long one and nothing was received since.
    long: Option<usize>,
    max_record: u32,
    limits: Limits,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    Closed,
    Failed(Errno),
    Protocol(String),
}

impl From<Errno> for End {
    fn from(e: Errno) -> Self {
        End::Failed(e)
    }
}

impl Conn {
    /// An accepted connection, on this worker; [`Conn::serve`] runs it.
    pub fn new(server: Arc<Shared>, socket: OwnedFd, peer: SocketAddr) -> Rc<Self> {
        let back = BackConn::new(exec::remote(), peer);
        Conn::build(server, socket, back, false)
    }

    /// A connection this server opened, on this worker; [`Conn::serve`] runs it.
    pub(crate) fn outgoing(server: Arc<Shared>, socket: OwnedFd, back: BackConn) -> Rc<Self> {
        Conn::build(server, socket, back, true)
    }

    fn build(server: Arc<Shared>, socket: OwnedFd, back: BackConn, outgoing: bool) -> Rc<Self> {
        let here = rustix::net::getsockname(&socket).ok();
        let here = here.and_then(|addr| SocketAddr::try_from(addr).ok());
        let conn = Rc::new(Conn {
            client: Client::new(back.peer(), here, back),
            server,
            socket: Arc::new(OpenFd::new_socket(socket)),
            out: RefCell::default(),
            in_flight: Cell::new(0),
            writing: Cell::new(false),
            closed: Cell::new(false),
            progress: Cell::new(exec::now()),
            partial_since: Cell::new(None),
            reader: RefCell::default(),
            outgoing,
            calls: RefCell::new(back::none_waiting()),
        });
        conn.enlist();
        conn
    }

    /// Whether this server opened it.
    pub fn is_outgoing(&self) -> bool {
        self.outgoing
    }

    /// Serves the connection until it ends.
    pub async fn serve(self: Rc<Self>, limits: Limits) {
        let most = if self.outgoing {
            calls::REPLY_MAX
        } else {
            exec::with_ring(|ring| ring.pool.largest())
        };
        let max_record = limits.record_bytes.min(most as u64) as u32;
        let mut reader = Reader {
            conn: self.clone(),
            stream: None,
            backlog: VecDeque::new(),
            frames: RecordReader::new(max_record),
            partial: None,
            long: None,
            max_record,
            limits,
        };
        let end = reader.run().await;
        match end {
            End::Closed => tracing::debug!(client = %self.client.addr, "connection closed"),
            End::Failed(e) => {
                tracing::debug!(client = %self.client.addr, error = %e, "connection failed")
            }
            End::Protocol(what) => {
                tracing::info!(client = %self.client.addr, what, "connection closed: not RPC")
            }
        }
        // Requests that still run finish; their replies go out if the client still reads (half close).
        drop(reader);
        self.hang_up();
        while self.in_flight.get() > 0 || self.writing.get() {
            self.parked().await;
        }
        self.close();
    }

    /// Waits for [`Conn::wake_reader`].
    async fn parked(&self) {
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                *self.reader.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Ends the connection: whatever waits on the socket comes back.
    pub fn close(&self) {
        if !self.closed.replace(true) {
            // ENOTCONN: the peer was faster.
            let _ = rustix::net::shutdown(self.socket.as_fd(), rustix::net::Shutdown::Both);
        }
        let mut out = self.out.borrow_mut();
        *out = Out::default();
        drop(out);
        self.hang_up();
        self.wake_reader();
    }

    /// Ends a connection that made no progress for too long; called about once a second.
    pub fn check_progress(&self, half_record: Duration, send_stalled: Duration) {
        let now = exec::now();
        let late = |since: Instant, most: Duration| now.saturating_duration_since(since) > most;
        if self.writing.get() && late(self.progress.get(), send_stalled) {
            tracing::info!(client = %self.client.addr, "client takes no replies: connection closed");
            self.close();
        }
        if self
            .partial_since
            .get()
            .is_some_and(|since| late(since, half_record))
        {
            tracing::info!(client = %self.client.addr, "rest of a request never came: connection closed");
            self.close();
        }
    }

    /// Requests being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Replies are on their way.
    pub fn is_writing(&self) -> bool {
        self.writing.get()
    }

    fn much_to_send(&self) -> bool {
        self.out.borrow().bytes >= PROMPT_BYTES
    }

    fn busy(&self, limits: &Limits) -> bool {
        self.in_flight.get() >= limits.records_in_flight as usize
            || self.out.borrow().bytes + self.client.held.get() >= limits.reply_bytes as usize
    }

    /// Queues a reply with its record mark; it goes out with the others of this turn.
    pub fn send(self: &Rc<Self>, reply: Reply) {
        if self.closed.get() {
            return;
        }
        let payload = reply.payload.as_ref().map_or(0, |p| p.len());
        let pad = xdr::pad_len(payload);
        let len = reply.bytes.len() + payload + pad;
        let mark = mark(len as u32, true);
        let mut out = self.out.borrow_mut();
        out.bytes += MARK_LEN + len;
        out.gathered.extend_from_slice(&mark);
        if reply.bytes.len() <= GATHER_BYTES {
            out.gathered.extend_from_slice(&reply.bytes);
        } else {
            out.seal();
            out.queue.push_back(Segment::Bytes(reply.bytes));
        }
        if let Some(payload) = reply.payload {
            out.payload(payload, pad);
        }
        drop(out);
        if !self.writing.replace(true) {
            self.progress.set(exec::now());
            exec::spawn(self.clone().write());
        }
    }

    async fn write(self: Rc<Self>) {
        // Replies that get ready in the same turn share one send, unless there is much to send.
        if !self.much_to_send() {
            exec::yield_now().await;
        }
        loop {
            let batch = self.out.borrow_mut().take_batch();
            if batch.is_empty() || self.closed.get() {
                break;
            }
            if let Err(e) = self.send_batch(batch).await {
                tracing::debug!(client = %self.client.addr, error = %e, "send failed");
                self.close();
                break;
            }
        }
        self.writing.set(false);
        self.wake_reader();
    }

    async fn send_batch(&self, mut batch: Vec<Segment>) -> vfs::Result<()> {
        let mut skip = 0;
        while !batch.is_empty() {
            let (sent, back) = net_ops::send(&self.socket, batch, skip).await;
            batch = back;
            let sent = sent?;
            if sent == 0 {
                return Err(Errno::EPIPE);
            }
            self.progress.set(exec::now());
            let mut done = skip + sent;
            let whole = batch
                .iter()
                .take_while(|s| {
                    done >= s.len() && {
                        done -= s.len();
                        true
                    }
                })
                .count();
            batch.drain(..whole).for_each(keep_spare);
            skip = done;
            let mut out = self.out.borrow_mut();
            out.bytes = out.bytes.saturating_sub(sent);
            drop(out);
            self.wake_reader();
        }
        Ok(())
    }

    /// Starts a request; it runs at once as far as it can.
    fn dispatch(self: &Rc<Self>, record: Record) {
        let asked = request::reply_bytes(record.buf.get(record.start..).unwrap_or_default());
        let held = record.buf.len() + asked.min(self.server.io_max) as usize;
        self.client.held.set(self.client.held.get() + held);
        self.in_flight.set(self.in_flight.get() + 1);
        let running = Running(self.clone(), held);
        exec::spawn(async move {
            let reply = request::run(&running.0, record.buf, record.start).await;
            if let Some(reply) = reply {
                running.0.send(reply);
            }
        });
    }
}

/// A request in flight; it counts until dropped, however it ends.
struct Running(Rc<Conn>, usize);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        let held = &self.0.client.held;
        held.set(held.get().saturating_sub(self.1));
        self.0.wake_reader();
    }
}

impl Out {
    /// Makes a segment of what was gathered.
    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.queue.push_back(Segment::Bytes(std::mem::replace(
                &mut self.gathered,
                take_spare(),
            )));
        }
    }

    fn payload(&mut self, payload: Slice, pad: usize) {
        // A small payload is cheaper copied than as two more segments.
        if payload.len() <= COPY_BYTES {
            self.gathered.extend_from_slice(&payload);
        } else {
            self.seal();
            self.queue.push_back(Segment::Payload(payload));
        }
        self.gathered.extend_from_slice(&[0; 3][..pad]);
    }

    fn take_batch(&mut self) -> Vec<Segment> {
        self.seal();
        let mut batch = Vec::with_capacity(self.queue.len().min(SEGMENTS_MAX));
        let mut bytes = 0;
        while bytes < SEND_BYTES && batch.len() < SEGMENTS_MAX {
            let Some(mut segment) = self.queue.pop_front() else {
                break;
            };
            if let Segment::Payload(payload) = &mut segment
                && payload.len() > PIECE_BYTES
            {
                let rest = payload.split_off(PIECE_BYTES);
                self.queue.push_front(Segment::Payload(rest));
            }
            bytes += segment.len();
            batch.push(segment);
        }
        batch
    }
}

impl Chunk {
    fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Chunk::Provided(buf, used) => buf.with(|bytes| f(&bytes[*used..])),
            Chunk::Copied(bytes, used) => f(&bytes[*used..]),
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Chunk::Provided(_, used) | Chunk::Copied(_, used) => *used += n,
        }
    }

    fn is_empty(&self) -> bool {
        self.with(<[u8]>::is_empty)
    }

    /// Frees a provided buffer by copying what is left in it.
    fn into_copied(self) -> Chunk {
        match self {
            Chunk::Provided(..) => Chunk::Copied(self.with(<[u8]>::to_vec), 0),
            copied @ Chunk::Copied(..) => copied,
        }
    }
}

impl Reader {
    async fn run(&mut self) -> End {
        loop {
            let mut chunk = match self.input().await {
                Ok(chunk) => chunk,
                Err(end) => return end,
            };
            if let Err(end) = self.consume(&mut chunk).await {
                return end;
            }
        }
    }

    /// The next bytes, once the connection may be read from.
    async fn input(&mut self) -> Result<Chunk, End> {
        loop {
            while self.conn.busy(&self.limits) && !self.conn.closed.get() {
                self.pause().await;
                if self.conn.busy(&self.limits) {
                    self.conn.parked().await;
                }
            }
            if self.conn.closed.get() {
                return Err(End::Closed);
            }
            if let Some(chunk) = self.backlog.pop_front() {
                return Ok(chunk);
            }
            if let Some(len) = self.long.take() {
                self.receive_long(len).await?;
                continue;
            }
            let stream = self
                .stream
                .get_or_insert_with(|| net_ops::recv_multi(&self.conn.socket));
            match stream.next().await {
                Some(Ok(Some(buf))) => return Ok(Chunk::Provided(buf, 0)),
                Some(Ok(None)) => return Err(End::Closed),
                Some(Err(Errno::ENOBUFS)) => {
                    // Every provided buffer is in use: others give theirs back within this turn.
                    self.stream = None;
                    exec::sleep(Duration::from_millis(1)).await;
                }
                Some(Err(Errno::ECANCELED)) | None => self.stream = None,
                Some(Err(Errno::ECONNRESET)) => return Err(End::Closed),
                Some(Err(e)) => return Err(End::Failed(e)),
            }
        }
    }

    /// Stops receiving; what has arrived is kept outside the shared buffers.
    async fn pause(&mut self) {
        let backlog = std::mem::take(&mut self.backlog);
        self.backlog = backlog.into_iter().map(Chunk::into_copied).collect();
        self.stop_stream().await;
    }

    async fn stop_stream(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        stream.cancel();
        while let Some(item) = stream.next().await {
            if let Ok(Some(buf)) = item {
                self.backlog
                    .push_back(Chunk::Provided(buf, 0).into_copied());
            }
        }
    }

    /// Takes every record out of `chunk`.
    async fn consume(&mut self, chunk: &mut Chunk) -> Result<(), End> {
        loop {
            self.note_partial();
            if self.frames.at_start() && !chunk.is_empty() {
                while let Some(record) = self.whole(chunk)? {
                    self.conn.dispatch(record);
                    if self.conn.busy(&self.limits) {
                        return self.put_back(chunk);
                    }
                    if self.conn.much_to_send() {
                        // The client gets to work on this while the next request is worked on here.
                        exec::yield_now().await;
                    }
                }
            }
            let step = chunk.with(|bytes| self.frames.next(bytes));
            match step.map_err(|e| End::Protocol(e.to_string()))? {
                Step::NeedMore => {
                    self.note_partial();
                    return Ok(());
                }
                Step::Data {
                    range, remaining, ..
                } => {
                    let (start, end) = (range.start, range.end);
                    // Waiting for the rest of a long record happens here.
                    self.note_partial();
                    self.reserve(end - start + remaining as usize).await?;
                    let Some(partial) = &mut self.partial else {
                        return Err(Errno::ENOMEM.into());
                    };
                    let at = partial.filled;
                    chunk.with(|bytes| {
                        partial.buf[at..at + end - start].copy_from_slice(&bytes[start..end])
                    });
                    partial.filled += end - start;
                    chunk.advance(end);
                    if remaining as usize >= DIRECT_BYTES
                        && chunk.is_empty()
                        && self.backlog.is_empty()
                    {
                        self.receive_direct().await?;
                    }
                }
                Step::RecordEnd { consumed, .. } => {
                    chunk.advance(consumed);
                    let Some(partial) = self.partial.take() else {
                        return Err(End::Protocol("empty record".to_owned()));
                    };
                    let mut buf = partial.buf;
                    let len = partial.filled;
                    buf.set_len(len);
                    self.note_partial();
                    self.conn.dispatch(Record { buf, start: 0 });
                    // The stream was stopped for a long record: more of its kind may follow.
                    let stopped = self.stream.is_none() && self.backlog.is_empty();
                    if stopped && chunk.is_empty() && len >= DIRECT_BYTES {
                        self.long = Some(len);
                    }
                    if self.conn.busy(&self.limits) {
                        return self.put_back(chunk);
                    }
                }
            }
        }
    }

    fn note_partial(&self) {
        let since = &self.conn.partial_since;
        if self.frames.at_start() {
            since.set(None);
        } else if since.get().is_none() {
            since.set(Some(exec::now()));
        }
    }

    /// The rest of a chunk waits until the connection is less busy.
    fn put_back(&mut self, chunk: &mut Chunk) -> Result<(), End> {
        if !chunk.is_empty() {
            let rest = chunk.with(<[u8]>::to_vec);
            self.backlog.push_front(Chunk::Copied(rest, 0));
        }
        Ok(())
    }

    /// The record at the start of the chunk, if all of it is there and a buffer is free.
    fn whole(&mut self, chunk: &mut Chunk) -> Result<Option<Record>, End> {
        let pool = exec::with_ring(|ring| ring.pool.clone());
        let max = self.max_record;
        let copied = chunk.with(|bytes| {
            let data = whole_record(bytes, max)?;
            let mut buf = pool.try_get(data.len())?;
            buf.copy_from_slice(data);
            Some(buf)
        });
        let Some(buf) = copied else { return Ok(None) };
        if buf.is_empty() {
            return Err(End::Protocol("empty record".to_owned()));
        }
        chunk.advance(MARK_LEN + buf.len());
        Ok(Some(Record { buf, start: 0 }))
    }

    /// Makes room for `more` bytes in the record being put together.
    async fn reserve(&mut self, more: usize) -> Result<(), End> {
        let filled = self.partial.as_ref().map_or(0, |p| p.filled);
        let need = filled + more;
        if self
            .partial
            .as_ref()
            .is_some_and(|p| p.buf.capacity() >= need)
        {
            if let Some(partial) = &mut self.partial {
                partial.buf.set_len(need);
            }
            return Ok(());
        }
        let pool = exec::with_ring(|ring| ring.pool.clone());
        let mut buf = match pool.try_get(need) {
            Some(buf) => buf,
            None => {
                // Others hold the memory: leave the shared receive buffers to them meanwhile.
                self.pause().await;
                pool.get(need).await?
            }
        };
        if let Some(old) = self.partial.take() {
            buf[..filled].copy_from_slice(&old.buf[..filled]);
        }
        self.partial = Some(Partial { buf, filled });
        Ok(())
    }

    /// Receives the rest of a long fragment into its place, past the shared buffers.
    async fn receive_direct(&mut self) -> Result<(), End> {
        self.stop_stream().await;
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let Some(mut partial) = self.partial.take() else {
            return Ok(());
        };
        let want = self.frames.pending();
        let end = partial.filled + want as usize;
        partial.buf = self.rest(partial.buf, partial.filled, end).await?;
        partial.filled = end;
        self.frames.took(want);
        self.partial = Some(partial);
        Ok(())
    }

    /// Receives what `buf` lacks up to `end`.
    async fn rest(&self, mut buf: Buf, mut filled: usize, end: usize) -> Result<Buf, End> {
        while filled < end {
            let (got, back) =
                net_ops::recv(&self.conn.socket, buf, filled..end, Patience::Much).await;
            buf = back;
            filled += match got? {
                0 => return Err(End::Closed),
                n => n,
            };
        }
        Ok(buf)
    }

    /// After a long record: takes more of its kind straight into long buffers, mark included, until something else
    /// comes. No buffer is held while nothing does.
    async fn receive_long(&mut self, mut len: usize) -> Result<(), End> {
        let socket = self.conn.socket.clone();
        while !self.conn.busy(&self.limits) {
            let pool = exec::with_ring(|ring| ring.pool.clone());
            let Some(buf) = pool.try_get(MARK_LEN + len) else {
                return Ok(());
            };
            let (got, mut buf) =
                net_ops::recv(&socket, buf, 0..MARK_LEN + len, Patience::None).await;
            let filled = match got {
                Err(Errno::EAGAIN) => {
                    drop(buf);
                    net_ops::readable(&socket).await?;
                    continue;
                }
                Ok(0) => return Err(End::Closed),
                got => got?,
            };
            let record = buf.first_chunk().map(|word| u32::from_be_bytes(*word));
            let whole = record.and_then(|word| last_fragment(word, self.max_record));
            let least = filled.max(DIRECT_BYTES);
            let fits = whole.filter(|n| filled >= MARK_LEN && (least..=buf.capacity()).contains(n));
            let Some(whole) = fits else {
                self.backlog
                    .push_back(Chunk::Copied(buf[..filled].to_vec(), 0));
                return Ok(());
            };
            buf.set_len(whole);
            self.conn.partial_since.set(Some(exec::now()));
            let buf = self.rest(buf, filled, whole).await?;
            self.conn.partial_since.set(None);
            self.conn.dispatch(Record {
                buf,
                start: MARK_LEN,
            });
            len = whole - MARK_LEN;
        }
        self.long = Some(len);
        Ok(())
    }
}

/// Length with its mark of a record of one fragment, if `word` announces one.
fn last_fragment(word: u32, max_record: u32) -> Option<usize> {
    let len = word & MAX_FRAGMENT;
    (word >> 31 == 1 && len > 0 && len <= max_record).then(|| MARK_LEN + len as usize)
}
