//! The registered buffer pool: size classes carved out of arenas that are registered with the
//! ring, so that a payload goes from socket to file, or back, without a copy in user space.
//!
//! Arenas are mapped on demand up to a limit set at start, of which every class has its first
//! arena to itself; a class that is exhausted makes callers of [`Pool::get`] wait in line. Memory
//! is zeroed by the kernel once and reused afterwards.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::ops::{Deref, DerefMut, Range};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::Submitter;

/// Capacities of the size classes in bytes: a power of two of payload plus room for an RPC header. A pool
/// has those up to the length it is made for.
pub const CLASSES: [usize; 8] = [
    1 << 10,
    (4 << 10) + 1024,
    (16 << 10) + 1024,
    (64 << 10) + 1024,
    (256 << 10) + 1024,
    (1 << 20) + HEAD_BYTES,
    (2 << 20) + HEAD_BYTES,
    (4 << 20) + HEAD_BYTES,
];

/// Room the largest classes have beside the data of a READ or WRITE, for what goes with it.
pub const HEAD_BYTES: usize = 4096;

/// The largest buffer any pool has.
pub const LARGEST: usize = CLASSES[CLASSES.len() - 1];

/// Bytes an arena of a small class takes; large classes take four buffers at a time, or two.
const ARENA_BYTES: usize = 1 << 20;
const ARENAS: u32 = 1024;

#[derive(Default)]
struct Class {
    free: Vec<Raw>,
    /// Buffers there are, free or not.
    count: usize,
    /// Who waits for one, by ticket. The first is woken for every buffer that comes back.
    waiting: VecDeque<(u64, Waker)>,
    tickets: u64,
}

impl Class {
    fn first_waker(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }
}

#[derive(Clone, Copy)]
struct Raw {
    ptr: NonNull<u8>,
    arena: Option<u16>,
}

struct Arena {
    ptr: NonNull<libc::c_void>,
    len: usize,
}

struct Inner {
    classes: RefCell<[Class; CLASSES.len()]>,
    arenas: RefCell<Vec<Arena>>,
    mapped: Cell<usize>,
    limit: usize,
    /// How many of the classes there are.
    used: usize,
    registered: Cell<bool>,
    out: Cell<usize>,
    leaked: Cell<bool>,
}

/// One worker's pool; clones share it.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

/// One buffer, back in its pool when dropped.
pub struct Buf {
    raw: Raw,
    class: u8,
    len: usize,
    pool: Rc<Inner>,
}

impl Pool {
    /// A pool of at most `limit` bytes, with classes for up to `largest`, whose arenas are registered
    /// with the ring. Without sparse buffer registration (or over `RLIMIT_MEMLOCK`) buffers work
    /// unregistered.
    pub(super) fn register(submitter: &Submitter<'_>, limit: usize, largest: usize) -> Self {
        let registered = submitter.register_buffers_sparse(ARENAS).is_ok();
        if !registered {
            tracing::warn!("registered buffers are not available: plain reads and writes instead");
        }
        let classes = std::array::from_fn(|_| Class::default());
        Pool(Rc::new(Inner {
            classes: RefCell::new(classes),
            arenas: RefCell::default(),
            mapped: Cell::new(0),
            limit,
            used: (CLASSES.len() - 1).min(CLASSES.partition_point(|&c| c < largest)) + 1,
            registered: Cell::new(registered),
            out: Cell::new(0),
            leaked: Cell::new(false),
        }))
    }

    /// Bytes of its largest buffers.
    pub fn largest(&self) -> usize {
        CLASSES[self.0.used - 1]
    }

    /// The class that holds `len` bytes; `None` above [`Pool::largest`].
    fn class_for(&self, len: usize) -> Option<usize> {
        CLASSES[..self.0.used].iter().position(|&c| c >= len)
    }

    /// A buffer for `len` bytes at once, if there is one and nobody waits for it. Its length is `len`.
    pub fn try_get(&self, len: usize) -> Option<Buf> {
        let class = self.class_for(len)?;
        let free = self.0.classes.borrow()[class].waiting.is_empty();
        free.then(|| self.take(class, len)).flatten()
    }

    fn take(&self, class: usize, len: usize) -> Option<Buf> {
        let raw = self.0.classes.borrow_mut()[class].free.pop();
        let raw = match raw {
            Some(raw) => raw,
            None => {
                self.grow(class)?;
                self.0.classes.borrow_mut()[class].free.pop()?
            }
        };
        self.0.out.set(self.0.out.get() + 1);
        Some(Buf {
            raw,
            class: class as u8,
            len,
            pool: self.0.clone(),
        })
    }

    /// A buffer for `len` bytes, waiting in line for one.
    ///
    /// # Errors
    /// `EINVAL` above [`Pool::largest`], `ENOMEM` when there is no memory for the first of its class.
    pub async fn get(&self, len: usize) -> crate::Result<Buf> {
        let class = self.class_for(len).ok_or(crate::Errno::EINVAL)?;
        Waiting {
            pool: self.clone(),
            class,
            len,
            ticket: None,
        }
        .await
    }

    /// Buffers handed out and not yet back.
    pub fn outstanding(&self) -> usize {
        self.0.out.get()
    }

    /// Bytes mapped so far.
    pub fn mapped(&self) -> usize {
        self.0.mapped.get()
    }

    /// Keeps the memory for good: something in the kernel may still write to it.
    pub(super) fn leak(&self) {
        self.0.leaked.set(true);
    }

    /// Bytes of one arena of a class.
    fn arena_len(class: usize) -> usize {
        let size = CLASSES[class];
        // Registering it takes all of its memory at once.
        let least = if size > 2 * ARENA_BYTES { 2 } else { 4 };
        (size * (ARENA_BYTES / size).max(least)).next_multiple_of(4096)
    }

    /// May a class map another arena? Its first always; more only out of what the others' first
    /// ones leave, or a class could starve another for good.
    fn may_grow(&self, class: usize) -> bool {
        let classes = self.0.classes.borrow();
        if classes[class].count == 0 {
            return true;
        }
        let unmapped = (0..self.0.used).filter(|&c| classes[c].count == 0);
        let reserved: usize = unmapped.map(Self::arena_len).sum();
        self.0.mapped.get() + reserved + Self::arena_len(class) <= self.0.limit
    }

    fn grow(&self, class: usize) -> Option<()> {
        if !self.may_grow(class) {
            return None;
        }
        let size = CLASSES[class];
        let len = Self::arena_len(class);
        let count = len / size;
        let arena = Arena::map(len)?;
        let index = self.register_arena(&arena);
        let mut classes = self.0.classes.borrow_mut();
        for i in 0..count {
            // SAFETY: i * size + size <= len, inside the mapping made above, which lives until the
            // pool's last clone and last buffer are gone.
            let ptr = unsafe { arena.ptr.cast::<u8>().add(i * size) };
            classes[class].free.push(Raw { ptr, arena: index });
        }
        classes[class].count += count;
        self.0.mapped.set(self.0.mapped.get() + len);
        self.0.arenas.borrow_mut().push(arena);
        Some(())
    }

    fn register_arena(&self, arena: &Arena) -> Option<u16> {
        let index = self.0.arenas.borrow().len() as u32;
        if !self.0.registered.get() || index >= ARENAS {
            return None;
        }
        let iov = libc::iovec {
            iov_base: arena.ptr.as_ptr(),
            iov_len: arena.len,
        };
        let update = crate::exec::try_with_ring(|ring| {
            ring.with_submitter(|s| {
                // SAFETY: the mapping outlives the ring: the pool is dropped after it, and unmaps
                // only when no buffer is left.
                unsafe { s.register_buffers_update(index, &[iov], None) }
            })
        });
        match update {
            Some(Ok(_)) => Some(index as u16),
            Some(Err(e)) => {
                tracing::warn!(error = %e, "cannot register more buffers: unregistered from here on");
                self.0.registered.set(false);
                None
            }
            None => None,
        }
    }
}

/// Future of [`Pool::get`].
struct Waiting {
    pool: Pool,
    class: usize,
    len: usize,
    ticket: Option<u64>,
}

impl Future for Waiting {
    type Output = crate::Result<Buf>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let first = {
            let classes = this.pool.0.classes.borrow();
            let front = classes[this.class].waiting.front();
            front.map(|(ticket, _)| *ticket) == this.ticket
        };
        if first {
            let buf = this.pool.take(this.class, this.len);
            let none_at_all = this.pool.0.classes.borrow()[this.class].count == 0;
            if let Some(buf) = buf {
                return Poll::Ready(Ok(buf));
            } else if none_at_all {
                return Poll::Ready(Err(crate::Errno::ENOMEM));
            }
        }
        let mut classes = this.pool.0.classes.borrow_mut();
        let class = &mut classes[this.class];
        let waker = cx.waker().clone();
        let known = class.waiting.iter_mut().find(|w| Some(w.0) == this.ticket);
        match known {
            Some(entry) => entry.1 = waker,
            None => {
                class.tickets += 1;
                this.ticket = Some(class.tickets);
                class.waiting.push_back((class.tickets, waker));
            }
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    /// Leaves the line, served or not. The next may have missed a wake-up that went to this one.
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let next = {
            let mut classes = self.pool.0.classes.borrow_mut();
            let class = &mut classes[self.class];
            class.waiting.retain(|(t, _)| *t != ticket);
            class.first_waker().filter(|_| !class.free.is_empty())
        };
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

impl Arena {
    fn map(len: usize) -> Option<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping, no address asked for.
        let ptr = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
        if ptr == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(ptr).map(|ptr| Arena { ptr, len })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.leaked.get() {
            return;
        }
        for arena in self.arenas.get_mut() {
            // SAFETY: mapped by Arena::map with this length; every Buf holds an Rc of this Inner,
            // so none is left.
            unsafe { libc::munmap(arena.ptr.as_ptr(), arena.len) };
        }
    }
}

impl Buf {
    /// Most bytes it can hold.
    pub fn capacity(&self) -> usize {
        CLASSES[self.class as usize]
    }

    /// Sets the length, at most the capacity.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity());
    }

    /// Index of the registered buffer it is part of.
    pub(crate) fn registered(&self) -> Option<u16> {
        self.raw.arena
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.raw.ptr.as_ptr()
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: len <= capacity bytes of an initialised mapping that this Buf alone owns.
        unsafe { std::slice::from_raw_parts(self.raw.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and &mut self makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.raw.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.pool.out.set(self.pool.out.get() - 1);
        let waker = {
            let mut classes = self.pool.classes.borrow_mut();
            let class = &mut classes[self.class as usize];
            class.free.push(self.raw);
            class.first_waker()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A range of a shared buffer.
#[derive(Clone)]
pub struct Slice {
    buf: Rc<Buf>,
    start: usize,
    end: usize,
}

impl Slice {
    /// The bytes `range` of `buf`, clipped to its length.
    pub fn new(buf: Rc<Buf>, range: Range<usize>) -> Self {
        let end = range.end.min(buf.len());
        Slice {
            start: range.start.min(end),
            end,
            buf,
        }
    }

    /// The slice of `buf` that `part`, a borrow out of it, covers; `None` if it is not inside.
    pub fn of(buf: &Rc<Buf>, part: &[u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(buf.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= buf.len()).then(|| Slice {
            buf: buf.clone(),
            start,
            end,
        })
    }

    /// Drops the first `n` bytes from the slice.
    pub fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    pub(crate) fn registered(&self) -> Option<u16> {
        self.buf.registered()
    }

    /// Cuts the slice after its first `n` bytes: what follows them.
    pub fn split_off(&mut self, n: usize) -> Slice {
        let cut = (self.start + n).min(self.end);
        let rest = Slice {
            buf: self.buf.clone(),
            start: cut,
            end: self.end,
        };
        self.end = cut;
        rest
    }

    /// Halves the slice, to one byte at least (test builds).
    pub(crate) fn halve(&mut self) {
        self.end = self.start + (self.end - self.start).div_ceil(2);
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }
}
