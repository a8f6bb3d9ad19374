//! Access ACLs of files, remembered per file as long as its ctime proves them current.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use acl::posix::Acl;

use crate::attr::{Attr, Time};

/// Two changes within this time may carry the same timestamp (the kernel's tick, at most 10 ms).
const TICK: Duration = Duration::from_millis(20);

/// True if whatever changed the file at `at` cannot be followed by another change with the same
/// timestamp any more, judged at the wall clock time `now`.
pub(crate) fn settled(at: Time, now: SystemTime) -> bool {
    let Ok(since_epoch) = now.duration_since(SystemTime::UNIX_EPOCH) else {
        return false;
    };
    let Ok(sec) = u64::try_from(at.sec) else {
        return true;
    };
    since_epoch > Duration::new(sec, at.nsec) + TICK
}

struct Cached {
    ctime: Time,
    acl: Option<Arc<Acl>>,
}

/// The cached access ACL of one file, owned by the file.
#[derive(Default)]
pub struct AclCache(Mutex<Option<Cached>>);

impl AclCache {
    /// What is known: `Some(None)` means the file has no ACL beyond its mode.
    pub fn get(&self, attr: &Attr) -> Option<Option<Arc<Acl>>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached
            .as_ref()
            .filter(|c| c.ctime == attr.ctime)
            .map(|c| c.acl.clone())
    }

    /// Remembers what was read while the file had `attr`, if its ctime tells it from later ones.
    pub fn put(&self, attr: &Attr, acl: Option<Arc<Acl>>, now: SystemTime) {
        if settled(attr.ctime, now) {
            let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *cached = Some(Cached {
                ctime: attr.ctime,
                acl,
            });
        }
    }

    /// Forgets it: the server itself is about to change the file.
    pub fn drop_cached(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    }
}
