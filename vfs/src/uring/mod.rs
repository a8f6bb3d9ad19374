//! The io_uring engine: one ring per worker, an in-flight slab that owns every operation the
//! kernel knows about, and the loop's single `io_uring_enter(2)`.
//!
//! Ownership: an operation is boxed, enters the slab before its SQE is published, and leaves on
//! its final CQE, also when its future is dropped (then it stays as an orphan, is cancelled, and
//! frees what it owns when the kernel lets go). Slab keys carry a generation.

pub mod blocking;
pub mod buf;
pub mod counters;
mod features;
pub mod file_ops;
pub mod fixed;
mod inflight;
mod kick;
pub mod meta_ops;
pub mod net_ops;
pub mod op;
pub mod personality;
pub mod recv_ring;
mod relief;

#[cfg(feature = "fault-injection")]
pub mod fault;
#[cfg(feature = "send-bench")]
pub mod send_bench;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

pub use self::buf::{Buf, Slice};
pub use self::counters::{Counters, Left};
pub use self::features::Features;
pub use self::kick::Kick;
pub use self::op::{Entry, Op, run, stream};

use self::inflight::{AnyOp, Inflight, Key};
use crate::errno::{Errno, Result};

/// Completions that belong to the loop itself, not to an operation in the slab.
mod tag {
    pub const EVENTFD: u64 = u64::MAX;
    pub const MESSAGE_SENT: u64 = u64::MAX - 1;
    pub const MESSAGE: u64 = u64::MAX - 2;
    pub const CANCEL: u64 = u64::MAX - 3;
    pub const FIRST: u64 = CANCEL;
}

/// At a ring's end: how long nothing may come back of what is cancelled before it is given up.
pub const UNMOVED: Duration = Duration::from_secs(2);
/// Longest of the turns in which that is waited for.
const TURN: Duration = Duration::from_millis(20);

/// How operations that could run as a plain system call reach the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoPolicy {
    /// Everything with an opcode goes through the ring.
    Ring,
    /// What provably cannot sleep runs inline; what the ring would only hand to an io-wq thread
    /// may take the cheaper way.
    #[default]
    Adaptive,
}

/// Sizes of one worker's ring.
#[derive(Clone)]
pub struct RingConfig {
    /// Submission queue entries (a power of two, 8..=4096).
    pub entries: u32,
    /// Slots of the registered file table.
    pub fixed_files: u32,
    /// Bytes of the worker's buffer pool.
    pub pool_bytes: usize,
    /// Bytes of the longest buffer asked of it: a record, or what a READ takes; up to [`buf::LARGEST`].
    pub buffer_bytes: usize,
    /// Buffers of [`recv_ring::BUF_SIZE`] bytes for multishot recv (a power of two).
    pub recv_buffers: u16,
    /// Most io-wq threads: for bounded work (regular files) and unbounded work. Syncs of different files
    /// share journal commits only when they wait in the kernel together.
    pub iowq: [u32; 2],
    /// Personalities kept registered.
    pub personalities: usize,
    /// Routing of operations.
    pub policy: IoPolicy,
    /// The blocking pool, shared by all workers.
    pub threads: Arc<blocking::Threads>,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig {
            entries: 512,
            fixed_files: 16 << 10,
            pool_bytes: 64 << 20,
            buffer_bytes: (1 << 20) + buf::HEAD_BYTES,
            recv_buffers: 128,
            iowq: [64, 16],
            personalities: 1024,
            policy: IoPolicy::default(),
            threads: blocking::Threads::new(8, 4096),
        }
    }
}

/// One worker's ring and everything registered with it.
pub struct Ring {
    // Field order is drop order: the ring goes before what it may still point at.
    ring: RefCell<IoUring>,
    inflight: RefCell<Inflight>,
    /// The registered buffer pool.
    pub pool: buf::Pool,
    /// Provided buffers of multishot recv.
    pub recv: recv_ring::RecvRing,
    /// The registered file table.
    pub fixed: fixed::FixedFiles,
    /// Registered credentials.
    pub personalities: personality::Personalities,
    /// What was asked of the kernel.
    pub counters: Arc<Counters>,
    /// What this kernel can do.
    pub features: Features,
    /// The blocking pool.
    pub threads: Arc<blocking::Threads>,
    policy: IoPolicy,
    kick: Kick,
    relief: relief::Relief,
    message_broken: Cell<bool>,
    /// The kernel holds the read on the eventfd.
    eventfd_armed: Cell<bool>,
    #[cfg(feature = "fault-injection")]
    held: RefCell<HeldBack>,
}

/// Operations to be held back, and completions that are.
#[cfg(feature = "fault-injection")]
#[derive(Default)]
struct HeldBack {
    planned: Vec<(Key, fault::Held)>,
    done: Vec<(Key, fault::Held, i32, u32)>,
}

impl Ring {
    /// Sets up a ring on the calling thread, which becomes its only submitter.
    ///
    /// # Errors
    /// `io_uring_setup(2)` and `io_uring_register(2)` errors, for example `ENOSYS`, `EPERM`.
    pub fn new(config: &RingConfig, kick: &Kick) -> Result<Self> {
        let (ring, defer) = build(config.entries)?;
        let features = Features::probe(&ring, defer)?;
        let counters = Arc::new(Counters::default());
        let submitter = ring.submitter();
        submitter.register_iowq_max_workers(&mut config.iowq.clone())?;
        let fixed = fixed::FixedFiles::register(&submitter, config.fixed_files);
        let pool = buf::Pool::register(&submitter, config.pool_bytes, config.buffer_bytes);
        let recv = recv_ring::RecvRing::register(&submitter, config.recv_buffers)?;
        let this = Ring {
            inflight: RefCell::new(Inflight::default()),
            pool,
            recv,
            fixed,
            personalities: personality::Personalities::new(config.personalities),
            counters,
            features,
            policy: config.policy,
            threads: config.threads.clone(),
            kick: kick.clone(),
            relief: relief::Relief::new(config.iowq[0]),
            message_broken: Cell::new(false),
            eventfd_armed: Cell::new(false),
            #[cfg(feature = "fault-injection")]
            held: RefCell::default(),
            ring: RefCell::new(ring),
        };
        this.kick
            .set_ring(std::os::fd::AsRawFd::as_raw_fd(&*this.ring.borrow()));
        this.arm_eventfd();
        Ok(this)
    }

    /// The routing policy.
    pub fn policy(&self) -> IoPolicy {
        self.policy
    }

    /// Operations the kernel still holds.
    pub fn in_flight(&self) -> usize {
        self.inflight.borrow().len()
    }

    /// Calls `f` with the ring's registration interface.
    pub(crate) fn with_submitter<R>(&self, f: impl FnOnce(&io_uring::Submitter<'_>) -> R) -> R {
        f(&self.ring.borrow().submitter())
    }

    /// Puts `op` in the slab and publishes its SQE.
    pub(crate) fn submit(&self, mut op: Box<dyn AnyOp>) -> Key {
        #[cfg(feature = "fault-injection")]
        let (injected, hold) = fault::plan(op.code(), &mut *op);
        #[cfg(not(feature = "fault-injection"))]
        let injected: Option<i32> = None;
        let mut inflight = self.inflight.borrow_mut();
        let sqe = match injected {
            Some(_) => opcode::Nop::new().build(),
            // The box does not move again: the pointers in the SQE stay true.
            None => op.sqe(),
        };
        let key = inflight.insert(op, injected);
        drop(inflight);
        #[cfg(feature = "fault-injection")]
        if let Some(held) = hold {
            self.held.borrow_mut().planned.push((key, held));
        }
        self.push(sqe.user_data(key.pack()));
        key
    }

    /// Has an io-wq thread take the entry at once.
    fn to_thread(&self, entry: squeue::Entry) -> squeue::Entry {
        self.counters.to_thread();
        entry.flags(squeue::Flags::ASYNC)
    }

    /// Asks the kernel to give `key` back early.
    pub(crate) fn cancel(&self, key: Key) {
        let sqe = opcode::AsyncCancel::new(key.pack())
            .build()
            .user_data(tag::CANCEL);
        self.push(sqe);
    }

    /// Where every entry is published, and counted as what it is.
    fn push(&self, sqe: squeue::Entry) {
        self.counters.sqe(sqe.get_opcode());
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: every pointer in `sqe` leads into an op that the in-flight slab owns (or into
            // nothing, for the loop's own entries), and stays valid until the final CQE.
            if unsafe { ring.submission().push(&sqe) }.is_ok() {
                return;
            }
            // Full: hand over what is there. EBUSY and EAGAIN pass once the kernel caught up; reaping
            // here could re-enter the caller, so completions wait in the (NODROP) queue.
            self.counters.sq_full();
            let pending = self.begin_enter(&mut ring);
            let submitted = ring.submit();
            self.end_enter(pending, &submitted);
            if let Err(e) = submitted {
                tracing::debug!(error = %e, "submission queue full");
                std::thread::yield_now();
            }
        }
    }

    /// Counts what is about to be submitted, and returns how many entries that are.
    fn begin_enter(&self, ring: &mut IoUring) -> usize {
        let sq = ring.submission();
        let (pending, overflow) = (sq.len(), sq.cq_overflow());
        drop(sq);
        self.counters.enter(pending as u64);
        if overflow {
            self.counters.cq_overflow(ring.completion().overflow());
        }
        pending
    }

    /// Puts the count right where not all of it was taken.
    fn end_enter(&self, pending: usize, taken: &std::io::Result<usize>) {
        let taken = *taken.as_ref().unwrap_or(&0);
        if taken < pending {
            self.counters.not_taken((pending - taken) as u64);
        }
    }

    /// One `io_uring_enter(2)`: submits everything and runs completions; waits up to `wait` for one.
    ///
    /// # Errors
    /// Only those that mean the ring is unusable.
    pub fn enter(&self, wait: Option<Duration>) -> Result<()> {
        let mut ring = self.ring.borrow_mut();
        let pending = self.begin_enter(&mut ring);
        let waiting = wait.is_some() && ring.completion().is_empty();
        let timespec = types::Timespec::from(wait.unwrap_or_default());
        let args = types::SubmitArgs::new().timespec(&timespec);
        const GETEVENTS: u32 = 1;
        const EXT_ARG: u32 = 8;
        // SAFETY: `args` and `timespec` outlive the call; the flags match the argument's type.
        let entered = unsafe {
            if waiting {
                ring.submitter()
                    .enter(pending as u32, 1, GETEVENTS | EXT_ARG, Some(&args))
            } else {
                ring.submitter()
                    .enter::<libc::sigset_t>(pending as u32, 0, GETEVENTS, None)
            }
        };
        self.end_enter(pending, &entered);
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match Errno::from(e) {
                Errno::ETIMEDOUT | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY => Ok(()),
                Errno(libc::ETIME) => Ok(()),
                fatal => Err(fatal),
            },
        }
    }

    /// Takes every completion that is there and wakes who waits for it.
    pub fn reap(&self) {
        #[cfg(feature = "fault-injection")]
        self.let_go(false);
        let mut batch = [(0u64, 0i32, 0u32); 64];
        loop {
            let mut n = 0;
            {
                let mut ring = self.ring.borrow_mut();
                for cqe in ring.completion() {
                    batch[n] = (cqe.user_data(), cqe.result(), cqe.flags());
                    n += 1;
                    if n == batch.len() {
                        break;
                    }
                }
            }
            for &(user_data, res, flags) in &batch[..n] {
                if user_data >= tag::FIRST {
                    self.own_completion(user_data, res);
                } else {
                    self.complete(Key::unpack(user_data), res, flags);
                }
            }
            if n < batch.len() {
                return;
            }
        }
    }

    fn complete(&self, key: Key, res: i32, flags: u32) {
        #[cfg(feature = "fault-injection")]
        if self.hold(key, res, flags) {
            return;
        }
        let after = self.inflight.borrow_mut().complete(key, res, flags);
        // Wakers and orphaned ops run foreign code: only now, with the slab released.
        after.finish();
    }

    /// Keeps the completion of an operation that is to be held.
    #[cfg(feature = "fault-injection")]
    fn hold(&self, key: Key, res: i32, flags: u32) -> bool {
        let mut held = self.held.borrow_mut();
        let Some(at) = held.planned.iter().position(|(k, _)| *k == key) else {
            return false;
        };
        let (_, until) = held.planned.swap_remove(at);
        if until.over() {
            return false;
        }
        until.begin();
        held.done.push((key, until, res, flags));
        true
    }

    /// Completes what need not be held any longer, or everything.
    #[cfg(feature = "fault-injection")]
    fn let_go(&self, all: bool) {
        let over: Vec<_> = self
            .held
            .borrow_mut()
            .done
            .extract_if(.., |(_, until, ..)| all || until.over())
            .collect();
        for (key, _, res, flags) in over {
            self.complete(key, res, flags);
        }
    }

    fn own_completion(&self, user_data: u64, res: i32) {
        match user_data {
            tag::EVENTFD => {
                self.eventfd_armed.set(false);
                self.counters.wakes_by_eventfd();
                // Not while shutting down.
                if res >= 0 && self.kick.ring().is_some() {
                    self.arm_eventfd();
                }
            }
            tag::MESSAGE => self.counters.wakes_by_message(),
            tag::MESSAGE_SENT if res < 0 => {
                // The kernel cannot message this kind of ring: wake everybody by eventfd from now on.
                self.message_broken.set(true);
                Kick::write_all();
            }
            _ => {}
        }
    }

    fn arm_eventfd(&self) {
        let (fd, ptr) = self.kick.read_target();
        let sqe = opcode::Read::new(types::Fd(fd), ptr, 8)
            .build()
            .user_data(tag::EVENTFD);
        self.eventfd_armed.set(true);
        self.push(sqe);
    }

    /// Wakes another worker through its ring; false if it must be woken by its eventfd instead.
    pub(crate) fn send_message(&self, to: &Kick) -> bool {
        if self.message_broken.get() || !self.features.msg_ring {
            return false;
        }
        let Some(fd) = to.ring() else { return false };
        let sqe = opcode::MsgRingData::new(types::Fd(fd), 0, tag::MESSAGE, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(tag::MESSAGE_SENT);
        self.push(sqe);
        true
    }

    /// Cancels everything in flight and waits (bounded) until the kernel gave it back. What is
    /// still stuck then is leaked on purpose: the kernel may yet write into it. Returns what is held still; nobody but
    /// the kernel should.
    pub fn shut_down(&self) -> Left {
        self.kick.clear_ring();
        #[cfg(feature = "fault-injection")]
        self.let_go(true);
        let keys = self.inflight.borrow().keys();
        for key in keys {
            self.cancel(key);
        }
        let eventfd = opcode::AsyncCancel::new(tag::EVENTFD).build();
        self.push(eventfd.user_data(tag::CANCEL));
        // At least once: messages to other workers may still be in the queue.
        if self.enter(None).is_ok() {
            self.reap();
        }
        let mut patience = UNMOVED.as_millis() / TURN.as_millis();
        while patience > 0 && (self.in_flight() > 0 || self.eventfd_armed.get()) {
            let before = self.in_flight();
            if self.enter(Some(TURN)).is_err() {
                break;
            }
            self.reap();
            patience -= u128::from(self.in_flight() == before);
        }
        let left = Left {
            operations: self.in_flight(),
            buffers: self.pool.outstanding(),
            recv_buffers: self.recv.outstanding(),
            pinned_files: self.fixed.pinned(),
            timers: 0,
        };
        if left.operations > 0 {
            let stuck = left.operations;
            tracing::warn!(stuck, "requests stuck in the kernel at shutdown");
            self.inflight.borrow_mut().leak();
            self.pool.leak();
            self.recv.leak();
        }
        left
    }
}

fn build(entries: u32) -> Result<(IoUring, bool)> {
    let mut last = Errno::EINVAL;
    for defer in [true, false] {
        let mut builder = IoUring::builder();
        builder
            .setup_cqsize(entries * 8)
            .setup_submit_all()
            .setup_clamp();
        if defer {
            builder.setup_single_issuer().setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, defer)),
            Err(e) => last = e.into(),
        }
        if last != Errno::EINVAL {
            break;
        }
    }
    Err(last)
}
