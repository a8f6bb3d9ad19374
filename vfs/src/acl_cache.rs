//! ACLs of files, remembered per file as long as its ctime proves them current.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use acl::posix::Acl;

use crate::acls::Which;
use crate::attr::{Attr, Time};

/// Two changes within this time may carry the same timestamp (the kernel's tick, at most 10 ms).
const TICK: Duration = Duration::from_millis(20);
/// The same where inodes have no room for more than seconds.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// True if whatever changed the file at `at` cannot be followed by another change with the same
/// timestamp any more, judged at the wall clock time `now`: when one began to look, so that what
/// changes while one looks has another timestamp, too.
pub(crate) fn settled(at: Time, now: SystemTime) -> bool {
    let Ok(since_epoch) = now.duration_since(SystemTime::UNIX_EPOCH) else {
        return false;
    };
    let Ok(sec) = u64::try_from(at.sec) else {
        return true;
    };
    let tick = if at.nsec == 0 { COARSE_TICK } else { TICK };
    since_epoch > Duration::new(sec, at.nsec) + tick
}

struct Cached {
    ctime: Time,
    acl: Option<Arc<Acl>>,
}

#[derive(Default)]
struct Slots {
    access: Option<Cached>,
    default: Option<Cached>,
}

impl Slots {
    fn slot(&mut self, which: Which) -> &mut Option<Cached> {
        match which {
            Which::Access => &mut self.access,
            Which::Default => &mut self.default,
        }
    }
}

/// The cached ACLs of one file, owned by the file.
#[derive(Default)]
pub struct AclCache(Mutex<Slots>);

impl AclCache {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known: `Some(None)` means the file has no such ACL.
    pub fn get(&self, which: Which, attr: &Attr) -> Option<Option<Arc<Acl>>> {
        let mut slots = self.slots();
        let cached = slots.slot(which).as_ref();
        cached
            .filter(|c| c.ctime == attr.ctime)
            .map(|c| c.acl.clone())
    }

    /// Remembers what was read from `since` on, when the file had `attr`, if its ctime tells it from
    /// later ones. What is known of another state goes in any case.
    pub fn put(&self, which: Which, attr: &Attr, acl: Option<Arc<Acl>>, since: SystemTime) {
        let new = settled(attr.ctime, since).then_some(Cached {
            ctime: attr.ctime,
            acl,
        });
        let old = std::mem::replace(self.slots().slot(which), new);
        drop(old);
    }

    /// Forgets both: the server itself is about to change the file.
    pub fn drop_cached(&self) {
        let old = std::mem::take(&mut *self.slots());
        drop(old);
    }

    /// How many ACLs it holds.
    pub fn held(&self) -> usize {
        let slots = self.slots();
        [&slots.access, &slots.default]
            .into_iter()
            .flatten()
            .filter(|cached| cached.acl.is_some())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_change_is_not_settled() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(5_000);
        assert!(!settled(
            Time {
                sec: 4,
                nsec: 990_000_000
            },
            now
        ));
        assert!(settled(
            Time {
                sec: 4,
                nsec: 900_000_000
            },
            now
        ));
        assert!(
            !settled(Time { sec: 9, nsec: 0 }, now),
            "a time in the future proves nothing"
        );
        assert!(settled(Time { sec: -1, nsec: 0 }, now));
        // A timestamp of whole seconds says nothing of what happened within them.
        assert!(!settled(Time { sec: 4, nsec: 0 }, now));
        assert!(settled(Time { sec: 2, nsec: 0 }, now));
    }
}
