//! Listings of small directories, remembered as long as the directory's timestamps prove that no
//! name in it changed. Attributes of the entries come from the held files: asked anew when the
//! server itself changed a file since, or after [`RECENT`] for changes by local processes.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::acl_cache::settled;
use crate::attr::{Attr, Time};
use crate::errno::Result;
use crate::exec;
use crate::file::File;
use crate::sys::KernelHandle;

/// Largest directory remembered whole, in entries.
pub(crate) const ENTRIES_MAX: usize = 1024;
/// How old the attributes of a READDIRPLUS entry may be with regard to changes that did not come
/// through this server. GETATTR and all other replies are always current.
const RECENT: Duration = Duration::from_millis(100);

/// An entry as the directory has it.
pub(crate) struct Known {
    pub(crate) name: Arc<[u8]>,
    pub(crate) fileid: u64,
    pub(crate) cookie: u64,
    pub(crate) handle: Option<Arc<KernelHandle>>,
    pub(crate) file: Weak<File>,
}

/// A whole directory, in its order.
pub(crate) struct Listing {
    stamp: (Time, Time),
    pub(crate) entries: Vec<Known>,
}

/// One directory's remembered listing, owned by the directory.
#[derive(Default)]
pub struct ListingCache(Mutex<Option<Arc<Listing>>>);

fn stamp(attr: &Attr) -> (Time, Time) {
    (attr.mtime, attr.ctime)
}

impl ListingCache {
    /// The listing, if the directory that has `attr` now is still the same.
    pub(crate) fn get(&self, attr: &Attr) -> Option<Arc<Listing>> {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().filter(|l| l.stamp == stamp(attr)).cloned()
    }

    /// Remembers a listing read from `since` on, while the directory had `before` and then `after`.
    pub(crate) fn put(&self, before: &Attr, after: &Attr, entries: Vec<Known>, since: SystemTime) {
        let fits = entries.len() <= ENTRIES_MAX;
        if fits && stamp(before) == stamp(after) && settled(after.mtime.max(after.ctime), since) {
            let listing = Arc::new(Listing {
                stamp: stamp(after),
                entries,
            });
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing);
        }
    }
}

struct Seen {
    attr: Attr,
    at: Instant,
    changes: u64,
}

/// Attributes of a file as last seen for a listing, owned by the file.
#[derive(Default)]
pub struct RecentAttr(Mutex<Option<Seen>>);

impl RecentAttr {
    /// Attributes of `file`, not older than [`RECENT`] and never older than a change of its own.
    pub(crate) async fn get(file: &File) -> Result<Attr> {
        let now = exec::now();
        let quiet = file.changes.quiet();
        if let Some(seen) = &*file.recent.0.lock().unwrap_or_else(PoisonError::into_inner)
            && quiet == Some(seen.changes)
            && now.saturating_duration_since(seen.at) < RECENT
        {
            return Ok(seen.attr);
        }
        let attr = file.attr().await?;
        if let Some(changes) = quiet.filter(|_| file.changes.quiet() == quiet) {
            let seen = Some(Seen {
                attr,
                at: now,
                changes,
            });
            *file.recent.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
        Ok(attr)
    }
}
