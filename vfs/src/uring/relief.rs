//! More io-wq threads while some are stuck: a file system that does not answer (frozen, a dead disk)
//! keeps every thread that works for it, and those of others must not run out.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use io_uring::{opcode, squeue};

use super::inflight::Key;
use super::{Ring, tag};

/// Most threads added: what is stuck beyond waits for the file system, and all others with it.
const ADDED_MAX: u32 = 4096;

/// What is remembered from one look to the next.
pub(crate) struct Relief {
    /// Threads for bounded work when nothing is stuck.
    base: u32,
    added: Cell<u32>,
    seen: RefCell<HashSet<Key>>,
}

impl Relief {
    pub(crate) fn new(base: u32) -> Self {
        Relief {
            base,
            added: Cell::new(0),
            seen: RefCell::default(),
        }
    }
}

impl Ring {
    /// Allows as many more io-wq threads as file operations have been in the kernel since the last
    /// call. To be called about once a second.
    pub fn relieve(&self) {
        let relief = &self.relief;
        let now: HashSet<Key> = self.inflight.borrow().file_keys().collect();
        let stuck = now.intersection(&relief.seen.borrow()).count();
        *relief.seen.borrow_mut() = now;
        let wanted = u32::try_from(stuck).map_or(ADDED_MAX, |n| n.min(ADDED_MAX));
        // In steps: nothing changes while a few operations are slow.
        let wanted = wanted.next_multiple_of(16) * u32::from(wanted >= relief.base / 4);
        if wanted == relief.added.get() {
            return;
        }
        // Zero leaves the number for unbounded work as it is.
        let mut limits = [relief.base + wanted, 0];
        let set = self.with_submitter(|s| s.register_iowq_max_workers(&mut limits));
        if let Err(e) = set {
            tracing::warn!(error = %e, stuck, "no more io-wq threads");
            return;
        }
        if wanted > relief.added.replace(wanted) {
            tracing::warn!(
                stuck,
                "file operations are stuck: a file system does not answer"
            );
            // New threads come with new work only: what waits already gets one by this.
            let nudge = opcode::Nop::new().build().flags(squeue::Flags::ASYNC);
            self.push(nudge.user_data(tag::CANCEL));
        }
    }
}
