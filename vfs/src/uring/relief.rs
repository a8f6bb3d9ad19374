//! More io-wq threads while some are stuck: a file system that does not answer (frozen, a dead disk)
//! keeps every thread that works for it, and those of others must not run out. Nor must others stand in line behind
//! what is stuck: io-wq changes regular files whose inodes hash alike, into 64 buckets for all file systems together,
//! one after the other.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use io_uring::opcode;

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
    /// What stands in line or is stuck has been asked back.
    asked_back: RefCell<HashSet<Key>>,
    apart: Cell<bool>,
}

impl Relief {
    pub(crate) fn new(base: u32) -> Self {
        Relief {
            base,
            added: Cell::new(0),
            seen: RefCell::default(),
            asked_back: RefCell::default(),
            apart: Cell::new(false),
        }
    }
}

/// Whether io-wq runs operations of this opcode on regular files one after the other where inodes hash alike.
fn in_line(code: u8) -> bool {
    [
        opcode::Write::CODE,
        opcode::Fallocate::CODE,
        opcode::Ftruncate::CODE,
    ]
    .contains(&code)
}

impl Ring {
    /// Whether what io-wq would let stand in line behind something stuck goes to pool threads.
    pub fn apart(&self) -> bool {
        self.relief.apart.get()
    }

    /// While changes of files are `stuck`, those to come go to pool threads. Of the stuck ones, those that only stand in
    /// line come back with `ECANCELED` when asked, nothing done, and go there as well; but not those the kernel has
    /// handed to one thread together with the one that is stuck. The others are not disturbed: no local file system lets
    /// itself be interrupted there.
    fn set_apart(&self, stuck: impl Iterator<Item = (Key, u8)>) {
        let stuck: HashSet<Key> = stuck.map(|(key, _)| key).collect();
        self.relief.apart.set(!stuck.is_empty());
        let asked = self.relief.asked_back.replace(stuck.clone());
        for key in stuck.difference(&asked) {
            self.cancel(*key);
        }
    }

    /// Allows as many more io-wq threads as file operations have been in the kernel since the last
    /// call. To be called about once a second.
    pub fn relieve(&self) {
        let relief = &self.relief;
        let now: HashMap<Key, u8> = self.inflight.borrow().file_keys().collect();
        let seen = relief.seen.replace(now.keys().copied().collect());
        let stuck = now.keys().filter(|key| seen.contains(key)).count();
        self.set_apart(
            now.into_iter()
                .filter(|(key, code)| seen.contains(key) && in_line(*code)),
        );
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
            let nudge = self.to_thread(opcode::Nop::new().build());
            self.push(nudge.user_data(tag::CANCEL));
        }
    }
}
