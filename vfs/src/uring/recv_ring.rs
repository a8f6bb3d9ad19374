//! Provided buffers for multishot recv: one ring of equal buffers per worker. A buffer is the
//! kernel's until a completion names it, ours until it is given back.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::errno::Result;

/// Bytes of one provided buffer.
pub const BUF_SIZE: usize = 32 << 10;
/// The buffer group of every multishot recv.
pub(crate) const GROUP: u16 = 1;

/// A worker's ring of provided buffers.
pub struct RecvRing {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    count: u16,
    tail: Cell<u16>,
    held: Cell<usize>,
    leaked: Cell<bool>,
}

fn layouts(count: u16) -> Option<(Layout, Layout)> {
    let entries =
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), 4096).ok()?;
    let data = Layout::from_size_align(usize::from(count) * BUF_SIZE, 4096).ok()?;
    Some((entries, data))
}

impl RecvRing {
    /// Registers `count` buffers (rounded up to a power of two, at most 32768).
    ///
    /// # Errors
    /// `io_uring_register(2)`: `ENOMEM`, or `EINVAL` before Linux 5.19.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16) -> Result<Self> {
        let count = count.clamp(2, 1 << 15).next_power_of_two();
        let (entries_layout, data_layout) = layouts(count).ok_or(crate::Errno::EINVAL)?;
        // SAFETY: both layouts have a size above zero.
        let (entries, data) = unsafe { (alloc_zeroed(entries_layout), alloc_zeroed(data_layout)) };
        let (Some(entries), Some(data)) = (NonNull::new(entries), NonNull::new(data)) else {
            handle_alloc_error(data_layout)
        };
        let this = RecvRing {
            entries: entries.cast(),
            data,
            count,
            tail: Cell::new(0),
            held: Cell::new(usize::from(count)),
            leaked: Cell::new(false),
        };
        // SAFETY: the entries are page aligned, zeroed, and freed only after the ring is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)?
        };
        (0..count).for_each(|bid| this.give_back(bid));
        Ok(this)
    }

    /// The first `len` bytes of a buffer a completion named.
    ///
    /// The caller holds the buffer: between the completion and [`RecvRing::give_back`].
    pub(crate) fn bytes(&self, bid: u16, len: usize) -> &[u8] {
        let index = usize::from(bid % self.count);
        // SAFETY: index < count and len is clipped: inside the data allocation, which the kernel
        // does not write to while the buffer is not in the ring.
        unsafe {
            std::slice::from_raw_parts(self.data.as_ptr().add(index * BUF_SIZE), len.min(BUF_SIZE))
        }
    }

    /// Returns a buffer to the kernel, once per completion that named it.
    pub(crate) fn give_back(&self, bid: u16) {
        let tail = self.tail.get();
        let slot = usize::from(tail % self.count);
        // SAFETY: slot < count, bid < count; the kernel reads an entry only after the tail below is
        // published; the tail lies in the first entry's reserved field (io_uring_register(2)).
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(
                self.data
                    .as_ptr()
                    .add(usize::from(bid % self.count) * BUF_SIZE) as u64,
            );
            entry.set_len(BUF_SIZE as u32);
            entry.set_bid(bid % self.count);
            let shared = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(shared).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
        self.held.set(self.held.get().saturating_sub(1));
    }

    /// A completion took a buffer out of the ring.
    pub(crate) fn taken(&self) {
        self.held.set(self.held.get() + 1);
    }

    /// Keeps the memory for good: a recv is stuck in the kernel.
    pub(super) fn leak(&self) {
        self.leaked.set(true);
    }

    /// Buffers taken and not yet given back.
    pub fn outstanding(&self) -> usize {
        self.held.get()
    }
}

impl Drop for RecvRing {
    fn drop(&mut self) {
        if self.leaked.get() {
            return;
        }
        let Some((entries_layout, data_layout)) = layouts(self.count) else {
            return;
        };
        // SAFETY: allocated in `register` with these layouts; the ring fd is closed before (field
        // order in `Ring`) and every recv has ended, else this would be leaked.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout);
            dealloc(self.data.as_ptr(), data_layout);
        }
    }
}
