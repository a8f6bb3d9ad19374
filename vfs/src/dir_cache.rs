//! Names looked up before, per directory: an entry holds as long as the directory's timestamps
//! prove that no name in it changed since, whoever would have changed it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use hashbrown::HashMap;

use crate::acl_cache::settled;
use crate::attr::{Attr, Time};
use crate::file::File;

/// Names remembered per directory; over it the cache starts anew.
const NAMES_MAX: usize = 8192;

/// When a directory's names last changed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    mtime: Time,
    ctime: Time,
}

impl Stamp {
    fn of(attr: &Attr) -> Self {
        Stamp {
            mtime: attr.mtime,
            ctime: attr.ctime,
        }
    }
}

#[derive(Default)]
struct Names {
    stamp: Stamp,
    map: HashMap<Box<[u8]>, Option<Weak<File>>, foldhash::fast::FixedState>,
}

/// A remembered answer.
pub(crate) enum Known {
    /// The name leads to this file.
    Here(Arc<File>),
    /// There is no such name.
    Absent,
}

/// One directory's cache, owned by the directory.
#[derive(Default)]
pub struct DirCache(Mutex<Option<Box<Names>>>);

impl DirCache {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Names>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer for `name` in the directory that has `attr` now.
    pub(crate) fn get(&self, attr: &Attr, name: &[u8]) -> Option<Known> {
        let names = self.lock();
        let names = names.as_ref().filter(|n| n.stamp == Stamp::of(attr))?;
        match names.map.get(name)? {
            Some(file) => file.upgrade().map(Known::Here),
            None => Some(Known::Absent),
        }
    }

    /// Remembers an answer found from `since` on, while the directory had `attr` before and after the look-up.
    pub(crate) fn put(
        &self,
        attr: &Attr,
        name: &[u8],
        file: Option<&Arc<File>>,
        since: SystemTime,
    ) {
        if !settled(attr.mtime.max(attr.ctime), since) {
            return;
        }
        let mut slot = self.lock();
        let names = slot.get_or_insert_default();
        if names.stamp != Stamp::of(attr) || names.map.len() >= NAMES_MAX {
            names.map.clear();
            names.stamp = Stamp::of(attr);
        }
        names.map.insert(name.into(), file.map(Arc::downgrade));
    }
}
