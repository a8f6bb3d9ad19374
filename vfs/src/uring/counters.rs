//! Counters that prove what the engine does: SQEs by opcode, inline and blocking calls by system
//! call, registered files and buffers, batch sizes. One set per worker, one writer each.

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
    enters: AtomicU64,
    batches: [AtomicU64; BATCHES.len() + 1],
    sq_full: AtomicU64,
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
            sq_full: zero(),
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

/// One writer: a plain add, seen by readers soon.
fn bump(counter: &AtomicU64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

impl Counters {
    pub(crate) fn sqe(&self, code: u8) {
        if let Some(counter) = self.sqes.get(usize::from(code)) {
            bump(counter);
        }
    }

    pub(crate) fn inline(&self, call: Call) {
        bump(&self.inline[call as usize]);
    }

    pub(crate) fn blocking(&self, call: Call) {
        bump(&self.blocking[call as usize]);
    }

    pub(crate) fn enter(&self, batch: u64) {
        bump(&self.enters);
        let bucket = BATCHES
            .iter()
            .position(|&b| batch <= b)
            .unwrap_or(BATCHES.len());
        bump(&self.batches[bucket]);
    }

    pub(crate) fn sq_full(&self) {
        bump(&self.sq_full);
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
        let mut add = |name: String, counter: &AtomicU64| {
            let value = counter.load(Ordering::Relaxed);
            if value > 0 {
                *out.entry(name).or_default() += value;
            }
        };
        for (i, counter) in self.sqes.iter().enumerate() {
            add(
                format!("sqe.{}", OPCODES.get(i).unwrap_or(&"other")),
                counter,
            );
        }
        for (i, name) in CALLS.iter().enumerate() {
            add(format!("inline.{name}"), &self.inline[i]);
            add(format!("blocking.{name}"), &self.blocking[i]);
        }
        add("ring.enter".to_owned(), &self.enters);
        for (i, counter) in self.batches.iter().enumerate() {
            let bound = BATCHES.get(i).map_or("more".to_owned(), |b| b.to_string());
            add(format!("ring.batch_le_{bound}"), counter);
        }
        add("ring.sq_full".to_owned(), &self.sq_full);
        add("data.registered_file".to_owned(), &self.registered_file);
        add("data.plain_file".to_owned(), &self.plain_file);
        add("data.registered_buffer".to_owned(), &self.registered_buffer);
        add("data.plain_buffer".to_owned(), &self.plain_buffer);
        add("wake.eventfd".to_owned(), &self.eventfd);
        add("wake.message".to_owned(), &self.message);
    }
}
