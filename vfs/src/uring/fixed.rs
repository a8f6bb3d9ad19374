//! Registered files: which descriptor sits in which slot of this ring's sparse table.
//!
//! A file is installed at first use and evicted by CLOCK. While an operation uses a slot it is
//! pinned: an SQE that is queued but not yet submitted must never meet another file in its slot.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use io_uring::{Submitter, types};

use crate::exec::{self, Remote};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An open descriptor that rings may register. The last owner closes it and takes it out of every
/// ring it was installed in.
pub struct OpenFd {
    /// Gone only while it is being dropped.
    fd: Option<Arc<OwnedFd>>,
    id: u64,
    /// Rings may register it.
    registers: bool,
    /// Closing it may wait for the file system.
    written: bool,
    /// Any call on it may wait for another host or a process.
    waits: AtomicBool,
    /// Rings that installed it, by worker.
    installed: std::sync::Mutex<Vec<Arc<Remote>>>,
}

impl OpenFd {
    /// Takes ownership of a descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        OpenFd {
            fd: Some(Arc::new(fd)),
            id,
            registers: true,
            written: false,
            waits: AtomicBool::new(false),
            installed: std::sync::Mutex::default(),
        }
    }

    /// Takes ownership of a descriptor open for writing: its close(2) may have to wait for the file
    /// system (a frozen one for ever), so it happens on the blocking pool.
    pub fn new_written(fd: OwnedFd) -> Self {
        let mut file = OpenFd::new(fd);
        file.written = true;
        file
    }

    /// Takes ownership of a socket, on a worker. Before Linux 6.13 a file that leaves the table is closed only when every
    /// request on a registered file that began before has ended: one that waits for a client would keep all removed
    /// files, and their space, from being freed. There it is not registered.
    pub fn new_socket(fd: OwnedFd) -> Self {
        let mut socket = OpenFd::new(fd);
        socket.registers = exec::with_ring(|ring| ring.features.lone_files);
        socket
    }

    /// Calls on it may wait for another host or a process (a FUSE daemon), be it for attributes or for
    /// its close(2): from now on no worker makes them itself.
    pub fn set_waits(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// See [`OpenFd::set_waits`].
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Remembers a ring once, however often the file is evicted there and comes back.
    fn installed_by(&self, remote: Arc<Remote>) {
        let installed = self.installed.lock();
        let mut installed = installed.unwrap_or_else(std::sync::PoisonError::into_inner);
        if !installed.iter().any(|known| Arc::ptr_eq(known, &remote)) {
            installed.push(remote);
        }
    }
}

impl std::os::fd::AsFd for OpenFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("taken only by drop"),
        }
    }
}

impl AsRawFd for OpenFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The last reference to a written file, on its way to a thread that may wait.
struct Closing(Option<Arc<OwnedFd>>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            super::blocking::close_later(fd);
        }
    }
}

impl Drop for OpenFd {
    fn drop(&mut self) {
        let id = self.id;
        // Outlives every ring's reference, so that none of them is the last.
        let elsewhere = self.written || self.waits();
        let closing = Arc::new(Closing(self.fd.take().filter(|_| elsewhere)));
        let installed = self.installed.get_mut();
        for remote in installed
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .drain(..)
        {
            let closing = closing.clone();
            remote.post(move || {
                exec::try_with_ring(|ring| ring.with_submitter(|s| ring.fixed.forget(s, id)));
                drop(closing);
            });
        }
    }
}

struct Slot {
    id: u64,
    pins: Rc<Cell<u32>>,
    referenced: bool,
    doomed: bool,
}

#[derive(Default)]
struct Table {
    slots: Vec<Option<Slot>>,
    by_id: HashMap<u64, u32, foldhash::fast::FixedState>,
    free: Vec<u32>,
    hand: usize,
}

/// One ring's registered file table.
pub struct FixedFiles {
    table: RefCell<Table>,
    /// Slots that were forgotten while pinned, to clear later.
    doomed: Cell<usize>,
}

/// A pinned slot: the file stays in it until this is dropped.
pub struct Pin {
    slot: u32,
    pins: Rc<Cell<u32>>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.set(self.pins.get() - 1);
    }
}

/// How an SQE names a file: by slot when it is registered, else by descriptor.
pub enum Target {
    /// A pinned slot.
    Slot(Pin),
    /// A descriptor that whoever built the operation keeps open.
    Fd(RawFd),
}

impl Target {
    pub(crate) fn slot(&self) -> Option<types::Fixed> {
        match self {
            Target::Slot(pin) => Some(types::Fixed(pin.slot)),
            Target::Fd(_) => None,
        }
    }

    pub(crate) fn fd(&self) -> types::Fd {
        match self {
            Target::Slot(_) => types::Fd(-1),
            Target::Fd(fd) => types::Fd(*fd),
        }
    }
}

/// Builds an SQE against a [`Target`]: the opcode's constructor takes either kind of descriptor.
macro_rules! on_target {
    ($target:expr, |$fd:ident| $build:expr) => {
        match $target.slot() {
            Some($fd) => $build,
            None => {
                let $fd = $target.fd();
                $build
            }
        }
    };
}
pub(crate) use on_target;

impl FixedFiles {
    pub(super) fn register(submitter: &Submitter<'_>, slots: u32) -> Self {
        let mut table = Table::default();
        match submitter.register_files_sparse(slots) {
            Ok(()) => {
                table.slots.resize_with(slots as usize, || None);
                table.free = (0..slots).rev().collect();
            }
            Err(e) => tracing::warn!(error = %e, "registered files are not available"),
        }
        FixedFiles {
            table: RefCell::new(table),
            doomed: Cell::new(0),
        }
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.table.borrow().by_id.len()
    }

    /// Slots that operations pin.
    pub fn pinned(&self) -> usize {
        let table = self.table.borrow();
        let slots = table.slots.iter().flatten();
        slots.filter(|slot| slot.pins.get() > 0).count()
    }

    /// Takes slots whose file is closed out of the table.
    fn forget(&self, submitter: &Submitter<'_>, id: u64) {
        let mut table = self.table.borrow_mut();
        let Some(slot) = table.by_id.remove(&id) else {
            return;
        };
        let entry = &mut table.slots[slot as usize];
        if entry.as_ref().is_some_and(|s| s.pins.get() > 0) {
            if let Some(s) = entry {
                s.doomed = true;
            }
            self.doomed.set(self.doomed.get() + 1);
            return;
        }
        *entry = None;
        clear(submitter, &mut table, slot);
    }

    fn sweep_doomed(&self, submitter: &Submitter<'_>) {
        let mut table = self.table.borrow_mut();
        for slot in 0..table.slots.len() {
            let ready = table.slots[slot]
                .as_ref()
                .is_some_and(|s| s.doomed && s.pins.get() == 0);
            if ready {
                table.slots[slot] = None;
                clear(submitter, &mut table, slot as u32);
                self.doomed.set(self.doomed.get() - 1);
            }
        }
    }

    /// Picks a slot by CLOCK; `None` if every one is pinned.
    fn evict(&self, submitter: &Submitter<'_>, table: &mut Table) -> Option<u32> {
        let len = table.slots.len();
        for _ in 0..2 * len {
            let slot = table.hand;
            table.hand = (table.hand + 1) % len;
            let Some(entry) = table.slots[slot].as_mut() else {
                continue;
            };
            if entry.pins.get() > 0 || std::mem::take(&mut entry.referenced) {
                continue;
            }
            if entry.doomed {
                self.doomed.set(self.doomed.get() - 1);
            } else {
                let id = entry.id;
                table.by_id.remove(&id);
            }
            table.slots[slot] = None;
            clear(submitter, table, slot as u32);
            return table.free.pop();
        }
        None
    }
}

fn clear(submitter: &Submitter<'_>, table: &mut Table, slot: u32) {
    match submitter.register_files_update(slot, &[-1]) {
        Ok(_) => table.free.push(slot),
        // The slot is lost rather than reused with a stranger's file in it.
        Err(e) => tracing::warn!(slot, error = %e, "cannot clear a registered file"),
    }
}

/// Names `file` for an SQE on this worker's ring, registering it if that is possible.
pub fn target(file: &OpenFd) -> Target {
    if !file.registers {
        return Target::Fd(file.as_raw_fd());
    }
    exec::with_ring(|ring| {
        if ring.fixed.doomed.get() > 0 {
            ring.with_submitter(|s| ring.fixed.sweep_doomed(s));
        }
        let mut table = ring.fixed.table.borrow_mut();
        if let Some(&slot) = table.by_id.get(&file.id)
            && let Some(entry) = table.slots[slot as usize].as_mut()
        {
            entry.referenced = true;
            entry.pins.set(entry.pins.get() + 1);
            return Target::Slot(Pin {
                slot,
                pins: entry.pins.clone(),
            });
        }
        if table.slots.is_empty() {
            return Target::Fd(file.as_raw_fd());
        }
        ring.with_submitter(|s| {
            let free = table.free.pop();
            let Some(slot) = free.or_else(|| ring.fixed.evict(s, &mut table)) else {
                return Target::Fd(file.as_raw_fd());
            };
            if let Err(e) = s.register_files_update(slot, &[file.as_raw_fd()]) {
                tracing::debug!(error = %e, "cannot register a file");
                table.free.push(slot);
                return Target::Fd(file.as_raw_fd());
            }
            let pins = Rc::new(Cell::new(1));
            table.slots[slot as usize] = Some(Slot {
                id: file.id,
                pins: pins.clone(),
                referenced: true,
                doomed: false,
            });
            table.by_id.insert(file.id, slot);
            file.installed_by(exec::remote());
            Target::Slot(Pin { slot, pins })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_evicts_and_installs_again_is_remembered_once() {
        let file = OpenFd::new(std::fs::File::open("/dev/null").expect("open").into());
        let (a, b) = (Remote::new(0).expect("a"), Remote::new(1).expect("b"));
        for remote in [&a, &b, &a, &a] {
            file.installed_by(remote.clone());
        }
        assert_eq!(file.installed.lock().map(|i| i.len()).ok(), Some(2));
    }
}
