//! How a sleeping worker is woken: by a message to its ring, or by its eventfd.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::errno::Result;

struct Inner {
    eventfd: OwnedFd,
    ring: AtomicI32,
    /// Where the kernel writes the eventfd's count; nobody reads it.
    count: AtomicU64,
}

/// A worker's wake-up address, shared with every thread.
#[derive(Clone)]
pub struct Kick(Arc<Inner>);

/// Every kick there is, for the one time messages turn out not to work.
static ALL: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl Kick {
    /// Makes the eventfd.
    ///
    /// # Errors
    /// `eventfd(2)`: `EMFILE`, `ENFILE`.
    pub fn new() -> Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let eventfd = rustix::event::eventfd(0, flags)?;
        let inner = Arc::new(Inner {
            eventfd,
            ring: AtomicI32::new(-1),
            count: AtomicU64::new(0),
        });
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|k| k.strong_count() > 0);
        all.push(Arc::downgrade(&inner));
        Ok(Kick(inner))
    }

    pub(crate) fn set_ring(&self, fd: RawFd) {
        self.0.ring.store(fd, Ordering::Release);
    }

    pub(crate) fn clear_ring(&self) {
        self.set_ring(-1);
    }

    pub(crate) fn ring(&self) -> Option<RawFd> {
        let fd = self.0.ring.load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }

    /// The eventfd and the eight bytes its count is read into. They live as long as any clone;
    /// the ring keeps one.
    pub(crate) fn read_target(&self) -> (RawFd, *mut u8) {
        (self.0.eventfd.as_raw_fd(), self.0.count.as_ptr().cast())
    }

    /// Wakes the worker from any thread.
    pub fn write_eventfd(&self) {
        // A full counter (EAGAIN) still wakes: nothing to do about any error here.
        let _ = rustix::io::write(&self.0.eventfd, &1u64.to_ne_bytes());
    }

    pub(crate) fn write_all() {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        for inner in all.iter().filter_map(Weak::upgrade) {
            Kick(inner).write_eventfd();
        }
    }
}
