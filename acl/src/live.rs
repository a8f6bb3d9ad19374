//! How many ACLs there are in this process: a leaked one shows.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Every [`crate::Acl`] that exists in the process now, cached ones and those of requests alike.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Part of every ACL: counts it from its making to its end. Says nothing else about it.
pub(crate) struct Counted(());

impl Counted {
    pub(crate) fn new() -> Counted {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Counted(())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartialEq for Counted {
    fn eq(&self, _: &Counted) -> bool {
        true
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
