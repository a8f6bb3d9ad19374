//! One pipelined connection: fills its slots, sends in batches, takes replies in any order.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::net::{RecvFlags, recv};

use crate::outq::OutQueue;
use crate::rpc::{LAST_FRAGMENT, Reply};
use crate::session::PATIENCE;
use crate::work::Work;

const BUFFER: usize = 256 << 10;
const SLOT_BITS: u32 = 10;
const SAMPLES: usize = 4;

/// When a row measures, in nanoseconds since `origin`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Zero of the row's time.
    pub origin: Instant,
    /// Replies count from here ...
    pub from: u64,
    /// ... to here; then nothing new is asked.
    pub to: u64,
}

impl Clock {
    /// Nanoseconds since the origin.
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// What one thread counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latency in nanoseconds of each reply inside the measured time, the wrong ones too.
    pub latency: Histogram<u64>,
    /// Wrong replies over the whole row, warm-up and drain included.
    pub errors: u64,
    /// What the first of them said.
    pub samples: Vec<String>,
}

impl Default for Tally {
    fn default() -> Tally {
        // 1 ns to 60 s at three digits: constants that hdrhistogram accepts.
        let latency =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!());
        Tally {
            latency,
            errors: 0,
            samples: Vec::new(),
        }
    }
}

impl Tally {
    /// Counts one wrong reply or failed connection.
    pub fn fault(&mut self, what: String) {
        self.errors += 1;
        if self.samples.len() < SAMPLES && !self.samples.contains(&what) {
            self.samples.push(what);
        }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Tally) {
        self.latency += other.latency;
        for what in other.samples {
            if self.samples.len() < SAMPLES && !self.samples.contains(&what) {
                self.samples.push(what);
            }
        }
        self.errors += other.errors;
    }
}

/// Connections opened so far.
static CONNECTIONS: AtomicU32 = AtomicU32::new(1);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    xid: u32,
    sent: u64,
    busy: bool,
}

/// A connection and its calls in flight.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    job: Box<dyn Work>,
    out: OutQueue,
    slots: Vec<Slot>,
    in_flight: usize,
    buf: Vec<u8>,
    filled: usize,
    /// Bytes of the current fragment that are only counted.
    skip: usize,
    last: bool,
    /// Bytes of the record so far, over all its fragments.
    record: usize,
    /// The slot whose reply is being received, its start checked already.
    answered: Option<usize>,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Conn {
    /// Connects; `depth` calls (at most 1,024) will be in flight.
    pub fn open(addr: SocketAddr, depth: usize, job: Box<dyn Work>) -> io::Result<Conn> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Conn::over(stream, depth, job))
    }

    /// Goes on with a connection that was set up before.
    pub fn over(stream: TcpStream, depth: usize, job: Box<dyn Work>) -> Conn {
        assert!(
            depth <= 1 << SLOT_BITS,
            "depth {depth} is above {}",
            1 << SLOT_BITS
        );
        let buf = vec![0; BUFFER.max(job.head() + 4)];
        // Clients do not share transaction ids: a duplicate request cache must not take one
        // connection's call for another's.
        let base = CONNECTIONS.fetch_add(1, Ordering::Relaxed) << 24;
        Conn {
            stream,
            job,
            out: OutQueue::default(),
            slots: (0..depth)
                .map(|i| Slot {
                    xid: base | i as u32,
                    ..Slot::default()
                })
                .collect(),
            in_flight: 0,
            buf,
            filled: 0,
            skip: 0,
            last: false,
            record: 0,
            answered: None,
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Calls whose replies are outstanding.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a call in every slot.
    pub fn fill(&mut self, now: u64) {
        for slot in 0..self.slots.len() {
            self.ask(slot, now);
        }
    }

    fn ask(&mut self, slot: usize, now: u64) {
        let state = &mut self.slots[slot];
        state.xid = state.xid.wrapping_add(1 << SLOT_BITS);
        state.sent = now;
        state.busy = true;
        self.in_flight += 1;
        self.job.ask(slot, state.xid, &mut self.out);
    }

    /// Sends what is queued, as far as the socket takes it; true once all is out.
    pub fn flush(&mut self, block: &[u8]) -> io::Result<bool> {
        self.out.flush(&self.stream, block, false)
    }

    /// Receives once and handles every reply that is complete. False: nothing was there (with `wait`: not in
    /// [`PATIENCE`] either).
    pub fn receive(&mut self, wait: bool, clock: &Clock, tally: &mut Tally) -> io::Result<bool> {
        let flags = if wait {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        match recv(&self.stream, &mut self.buf[self.filled..], flags) {
            Ok((_, 0)) => Err(broken(format!(
                "the server closed the connection, {} calls in flight",
                self.in_flight
            ))),
            Ok((_, n)) => {
                self.filled += n;
                let now = clock.now();
                self.replies(now, clock, tally).map(|()| true)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn replies(&mut self, now: u64, clock: &Clock, tally: &mut Tally) -> io::Result<()> {
        let mut at = 0;
        loop {
            let step = self.skip.min(self.filled - at);
            at += step;
            self.skip -= step;
            if self.skip > 0 {
                break;
            }
            if self.last
                && let Some(slot) = self.answered.take()
            {
                self.complete(slot, now, clock, tally);
            }
            let Some(mark) = self.buf[at..self.filled].first_chunk::<4>() else {
                break;
            };
            let mark = u32::from_be_bytes(*mark);
            let len = (mark & !LAST_FRAGMENT) as usize;
            let head = if self.answered.is_some() {
                0
            } else {
                len.min(self.job.head())
            };
            if self.filled - at - 4 < head {
                break;
            }
            if self.answered.is_none() {
                self.record = 0;
                self.answered = Some(self.begin(at + 4, head, len, tally)?);
            }
            self.last = mark & LAST_FRAGMENT != 0;
            self.record += len;
            at += 4 + head;
            self.skip = len - head;
        }
        self.buf.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    /// Checks the start of a reply, `head` bytes of a first fragment of `len`, and says whose it is.
    fn begin(
        &mut self,
        at: usize,
        head: usize,
        len: usize,
        tally: &mut Tally,
    ) -> io::Result<usize> {
        let mut reply = Reply::new(&self.buf[at..at + head]);
        let xid = reply
            .clone()
            .u32()
            .ok_or_else(|| broken("a fragment of no bytes"))?;
        let slot = (xid & ((1 << SLOT_BITS) - 1)) as usize;
        if !self.slots.get(slot).is_some_and(|s| s.busy && s.xid == xid) {
            return Err(broken(format!(
                "reply with xid {xid:#x}, which is not outstanding"
            )));
        }
        self.slots[slot].busy = false;
        if let Err(what) = reply
            .accept(xid)
            .and_then(|()| self.job.check(slot, reply, len))
        {
            tally.fault(what);
        }
        Ok(slot)
    }

    fn complete(&mut self, slot: usize, now: u64, clock: &Clock, tally: &mut Tally) {
        self.in_flight -= 1;
        if self.record < self.job.least() {
            tally.fault(format!("a reply of only {} bytes", self.record));
        }
        if (clock.from..clock.to).contains(&now) {
            tally.latency.saturating_record(now - self.slots[slot].sent);
        }
        if now < clock.to || self.job.unfinished(slot) {
            self.ask(slot, now);
        }
    }
}
