//! Counters that prove what the engine does: SQEs by opcode, inline and blocking calls by system
//! call, registered files and buffers, batch sizes, io-wq. One set per worker, one writer each.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! calls {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// System calls made outside the ring.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "the names are the system calls'")]
        pub enum Call { $($variant),* }

        /// Names of [`Call`], in order.
        pub const CALLS: &[&str] = &[$($name),*];
    };
}

calls! {
    Statx = "statx", Preadv2 = "preadv2", Pwritev2 = "pwritev2", Openat = "openat",
    NameToHandle = "name_to_handle_at", OpenByHandle = "open_by_handle_at", Getdents = "getdents64",
    Readlink = "readlinkat", Statfs = "fstatfs", Mkdirat = "mkdirat", Unlinkat = "unlinkat",
    Renameat = "renameat2", Linkat = "linkat", Symlinkat = "symlinkat", Mknodat = "mknodat",
    Setattr = "chown/chmod/utimensat", Ftruncate = "ftruncate", Getxattr = "getxattr",
    Setxattr = "setxattr", Fsync = "fsync", Getgrouplist = "getgrouplist",
    Lseek = "lseek", CopyFileRange = "copy_file_range", Ficlonerange = "ioctl_ficlonerange",
    Listxattr = "listxattr", Removexattr = "removexattr", Quotactl = "quotactl_fd",
    Pwrite = "pwrite", Fallocate = "fallocate",
}

/// Names of io_uring opcodes by number.
const OPCODES: &[&str] = &[
    "nop",
    "readv",
    "writev",
    "fsync",
    "read_fixed",
    "write_fixed",
    "poll_add",
    "poll_remove",
    "sync_file_range",
    "sendmsg",
    "recvmsg",
    "timeout",
    "timeout_remove",
    "accept",
    "async_cancel",
    "link_timeout",
    "connect",
    "fallocate",
    "openat",
    "close",
    "files_update",
    "statx",
    "read",
    "write",
    "fadvise",
    "madvise",
    "send",
    "recv",
    "openat2",
    "epoll_ctl",
    "splice",
    "provide_buffers",
    "remove_buffers",
    "tee",
    "shutdown",
    "renameat",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "msg_ring",
    "fsetxattr",
    "setxattr",
    "fgetxattr",
    "getxattr",
    "socket",
    "uring_cmd",
    "send_zc",
    "sendmsg_zc",
    "read_multishot",
    "waitid",
    "futex_wait",
    "futex_wake",
    "futex_waitv",
    "fixed_fd_install",
    "ftruncate",
    "bind",
    "listen",
    "recv_zc",
    "epoll_wait",
    "readv_fixed",
    "writev_fixed",
    "pipe",
];

/// Opcodes no kernel completes in place: each is handed to an io-wq thread as it is submitted. Of the others (read, write,
/// open, fadvise) nothing tells which were.
const ALWAYS_ON_THREADS: &[&str] = &[
    "fsync",
    "fallocate",
    "statx",
    "renameat",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "setxattr",
    "getxattr",
    "ftruncate",
];

/// Upper bounds of the batch size histogram (SQEs per enter).
pub const BATCHES: [u64; 7] = [0, 1, 2, 4, 8, 16, 32];

/// What a worker held when it had ended: nothing, unless something was lost or is stuck in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Operations the kernel did not give back in time.
    pub operations: usize,
    /// Buffers of the pool.
    pub buffers: usize,
    /// Buffers of multishot recv.
    pub recv_buffers: usize,
    /// Slots of registered files that something still pins.
    pub pinned_files: usize,
    /// Timers of futures that were dropped.
    pub timers: usize,
}

/// One worker's counters.
pub struct Counters {
    sqes: [AtomicU64; 64],
    inline: [AtomicU64; CALLS.len()],
    blocking: [AtomicU64; CALLS.len()],
    /// `io_uring_enter(2)` calls.
    enters: AtomicU64,
    /// Those calls, by how many entries were to be submitted.
    batches: [AtomicU64; BATCHES.len() + 1],
    /// Entries submitted: `submitted / enters` is the mean batch.
    submitted: AtomicU64,
    /// Times the submission queue was full.
    sq_full: AtomicU64,
    /// Calls made while the kernel held back completions for which the queue had no room.
    cq_overflow: AtomicU64,
    /// Completions the kernel had no memory to hold back. Their operations never end.
    cq_lost: AtomicU64,
    /// Entries that asked for an io-wq thread (`IOSQE_ASYNC`).
    to_thread: AtomicU64,
    registered_file: AtomicU64,
    plain_file: AtomicU64,
    registered_buffer: AtomicU64,
    plain_buffer: AtomicU64,
    eventfd: AtomicU64,
    message: AtomicU64,
    left: OnceLock<Left>,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Counters {
            sqes: std::array::from_fn(|_| zero()),
            inline: std::array::from_fn(|_| zero()),
            blocking: std::array::from_fn(|_| zero()),
            enters: zero(),
            batches: std::array::from_fn(|_| zero()),
            submitted: zero(),
            sq_full: zero(),
            cq_overflow: zero(),
            cq_lost: zero(),
            to_thread: zero(),
            registered_file: zero(),
            plain_file: zero(),
            registered_buffer: zero(),
            plain_buffer: zero(),
            eventfd: zero(),
            message: zero(),
            left: OnceLock::new(),
        }
    }
}

fn bump(counter: &AtomicU64) {
    add(counter, 1);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One writer: a plain add, seen by readers soon.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(get(counter).wrapping_add(n), Ordering::Relaxed);
}

impl Counters {
    /// An entry is published, with the opcode it was built with.
    pub(crate) fn sqe(&self, opcode: u32) {
        if let Some(counter) = self.sqes.get(opcode as usize) {
            bump(counter);
        }
    }

    /// It carries `IOSQE_ASYNC`.
    pub(crate) fn to_thread(&self) {
        bump(&self.to_thread);
    }

    pub(crate) fn inline(&self, call: Call) {
        bump(&self.inline[call as usize]);
    }

    pub(crate) fn blocking(&self, call: Call) {
        bump(&self.blocking[call as usize]);
    }

    /// `io_uring_enter(2)` is called with `batch` entries to submit. Counted before, as it may sleep long.
    pub(crate) fn enter(&self, batch: u64) {
        bump(&self.enters);
        add(&self.submitted, batch);
        let bucket = BATCHES
            .iter()
            .position(|&b| batch <= b)
            .unwrap_or(BATCHES.len());
        bump(&self.batches[bucket]);
    }

    /// So many entries of that batch were not taken, and come again.
    pub(crate) fn not_taken(&self, entries: u64) {
        add(&self.submitted, entries.wrapping_neg());
    }

    pub(crate) fn sq_full(&self) {
        bump(&self.sq_full);
    }

    /// The kernel holds back completions; `lost` are gone since the ring was made.
    pub(crate) fn cq_overflow(&self, lost: u32) {
        bump(&self.cq_overflow);
        self.cq_lost.store(lost.into(), Ordering::Relaxed);
    }

    /// A read or write: did it use a registered file, and a registered buffer?
    pub(crate) fn data_op(&self, file: bool, buffer: bool) {
        bump(if file {
            &self.registered_file
        } else {
            &self.plain_file
        });
        bump(if buffer {
            &self.registered_buffer
        } else {
            &self.plain_buffer
        });
    }

    pub(crate) fn wakes_by_eventfd(&self) {
        bump(&self.eventfd);
    }

    pub(crate) fn wakes_by_message(&self) {
        bump(&self.message);
    }

    /// The worker has ended.
    pub(crate) fn ended(&self, left: Left) {
        // There is one end.
        let _ = self.left.set(left);
    }

    /// What the worker held at its end; `None` before.
    pub fn left(&self) -> Option<Left> {
        self.left.get().copied()
    }

    /// SQEs sent with this opcode so far.
    pub fn sqes(&self, code: u8) -> u64 {
        self.sqes
            .get(usize::from(code))
            .map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Adds every counter that is not zero to `out` under its name.
    pub fn collect(&self, out: &mut BTreeMap<String, u64>) {
        let mut add = |name: String, value: u64| {
            if value > 0 {
                *out.entry(name).or_default() += value;
            }
        };
        let mut to_thread = get(&self.to_thread);
        for (i, counter) in self.sqes.iter().enumerate() {
            let name = OPCODES.get(i).unwrap_or(&"other");
            add(format!("sqe.{name}"), get(counter));
            if ALWAYS_ON_THREADS.contains(name) {
                to_thread += get(counter);
            }
        }
        for (i, name) in CALLS.iter().enumerate() {
            add(format!("inline.{name}"), get(&self.inline[i]));
            add(format!("blocking.{name}"), get(&self.blocking[i]));
        }
        add("ring.enter".to_owned(), get(&self.enters));
        for (i, counter) in self.batches.iter().enumerate() {
            let bound = BATCHES.get(i).map_or("more".to_owned(), |b| b.to_string());
            add(format!("ring.batch_le_{bound}"), get(counter));
        }
        let rest = [
            ("ring.submitted", &self.submitted),
            ("ring.sq_full", &self.sq_full),
            ("ring.cq_overflow", &self.cq_overflow),
            ("ring.cq_lost", &self.cq_lost),
            ("data.registered_file", &self.registered_file),
            ("data.plain_file", &self.plain_file),
            ("data.registered_buffer", &self.registered_buffer),
            ("data.plain_buffer", &self.plain_buffer),
            ("wake.eventfd", &self.eventfd),
            ("wake.message", &self.message),
        ];
        for (name, counter) in rest {
            add(name.to_owned(), get(counter));
        }
        // At least so many: those of which it is certain.
        add("iowq.punts_min".to_owned(), to_thread);
    }
}
