//! The conflict tables of all files, found by file system and kernel handle: one inode has one, by
//! whatever mount it is reached. A table lives as long as somebody holds it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::FileLocks;
use crate::sys::KernelHandle;

const SHARDS: usize = 64;

/// Which file.
#[derive(PartialEq, Eq)]
pub(super) struct Key {
    fsid: u64,
    kind: i32,
    bytes: Box<[u8]>,
}

impl Key {
    pub(super) fn place(&self) -> (u64, i32, &[u8]) {
        (self.fsid, self.kind, &self.bytes)
    }

    fn hash(&self) -> u64 {
        hash(self.fsid, &self.bytes)
    }
}

fn hash(fsid: u64, bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    fsid.hash(&mut hasher);
    bytes.hash(&mut hasher);
    hasher.finish()
}

type Shard = HashTable<(u64, Weak<FileLocks>)>;

/// How much is held, counted when asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Files somebody holds or waits for something on.
    pub files: u64,
    /// Share reservations.
    pub shares: u64,
    /// Locked ranges.
    pub ranges: u64,
    /// Delegations, revoked ones included.
    pub delegations: u64,
    /// Lock requests in line.
    pub waiters: u64,
    /// Files whose locks are locked on the host as well.
    pub mirrors: u64,
}

/// Every file's conflict table.
pub struct LockTable {
    shards: Vec<Mutex<Shard>>,
    /// Files with a line.
    lines: AtomicUsize,
    /// Files with a delegation in force.
    delegated: AtomicUsize,
    /// Those with one for writing.
    writers: AtomicUsize,
    /// Files with somebody in line who waits for the host.
    held_up: AtomicUsize,
}

impl Default for LockTable {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        LockTable {
            shards,
            lines: AtomicUsize::new(0),
            delegated: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            held_up: AtomicUsize::new(0),
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(files: &AtomicUsize, before: bool, after: bool) {
    match (before, after) {
        (false, true) => files.fetch_add(1, Relaxed),
        (true, false) => files.fetch_sub(1, Relaxed),
        _ => return,
    };
}

/// The file of a handle in its shard. The others were only looked at, but may turn out to be the last of
/// their kind: to be dropped when the shard is not locked.
fn find(
    shard: &Shard,
    hash: u64,
    fsid: u64,
    handle: &KernelHandle,
) -> (Option<Arc<FileLocks>>, Vec<Arc<FileLocks>>) {
    let same = |file: &FileLocks| {
        file.home.as_ref().is_some_and(|(_, key)| {
            key.fsid == fsid && key.kind == handle.kind && *key.bytes == *handle.bytes
        })
    };
    let (mut found, mut others) = (None, Vec::new());
    for (_, file) in shard.iter_hash(hash).filter(|(h, _)| *h == hash) {
        match file.upgrade() {
            Some(file) if same(&file) => found = Some(file),
            Some(file) => others.push(file),
            None => {}
        }
    }
    (found, others)
}

impl LockTable {
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(hash >> 40) as usize % SHARDS])
    }

    /// The table of the file with this handle on file system `fsid` ([`crate::Mount::fsid`]).
    pub fn file(self: &Arc<Self>, fsid: u64, handle: &KernelHandle) -> Arc<FileLocks> {
        let hash = hash(fsid, &handle.bytes);
        let mut shard = self.shard(hash);
        let (found, others) = find(&shard, hash, fsid, handle);
        let file = found.unwrap_or_else(|| {
            let key = Key {
                fsid,
                kind: handle.kind,
                bytes: handle.bytes.as_slice().into(),
            };
            let file = Arc::new(FileLocks::new(Some((self.clone(), key))));
            let weak = Arc::downgrade(&file);
            shard.insert_unique(hash, (hash, weak), |(hash, _)| *hash);
            file
        });
        drop(shard);
        drop(others);
        file
    }

    /// As [`LockTable::file`], if there is one already: nobody has anything on any other file.
    pub fn known(&self, fsid: u64, handle: &KernelHandle) -> Option<Arc<FileLocks>> {
        let hash = hash(fsid, &handle.bytes);
        let (found, others) = find(&self.shard(hash), hash, fsid, handle);
        drop(others);
        found
    }

    /// The last holder of `file` is gone.
    pub(super) fn remove(&self, key: &Key, file: &FileLocks) {
        let hash = key.hash();
        let this = |(_, weak): &(u64, Weak<FileLocks>)| std::ptr::eq(weak.as_ptr(), file);
        if let Ok(entry) = self.shard(hash).find_entry(hash, this) {
            entry.remove();
        }
    }

    /// Tables there are, whether anything is held or not.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A file's line came or went.
    pub(super) fn lined(&self, before: bool, after: bool) {
        count(&self.lines, before, after);
    }

    /// A file has delegations now, or none any more.
    pub(super) fn delegated(&self, before: bool, after: bool) {
        count(&self.delegated, before, after);
    }

    /// A file is delegated for writing now, or no longer.
    pub(super) fn written(&self, before: bool, after: bool) {
        count(&self.writers, before, after);
    }

    /// Whether any file is delegated for writing: one load.
    pub fn any_writer(&self) -> bool {
        self.writers.load(Relaxed) > 0
    }

    /// Somebody in a file's line waits for the host, or nobody any more.
    pub(super) fn held_up(&self, before: bool, after: bool) {
        count(&self.held_up, before, after);
    }

    /// Files with somebody in line who waits for a process of the host: nobody tells when that unlocks,
    /// so [`LockTable::ask_host`] must be called now and then.
    pub fn waits_for_host(&self) -> usize {
        self.held_up.load(Relaxed)
    }

    /// [`FileLocks::ask_host`] for every file where that matters.
    pub fn ask_host(&self) {
        if self.waits_for_host() > 0 {
            self.for_each(FileLocks::ask_host);
        }
    }

    /// Every file that has something on the host.
    pub fn mirrored(&self) -> Vec<Arc<FileLocks>> {
        let mut files = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            files.extend(shard.iter().filter_map(|(_, f)| f.upgrade()));
        }
        files.retain(|file| file.counts().mirrors > 0);
        files
    }

    /// Whether any file is delegated: one load, to save looking for files that might be.
    pub fn any_delegated(&self) -> bool {
        self.delegated.load(Relaxed) > 0
    }

    fn for_each(&self, mut each: impl FnMut(&FileLocks)) {
        for shard in &self.shards {
            let files: Vec<_> = lock(shard)
                .iter()
                .filter_map(|(_, f)| f.upgrade())
                .collect();
            for file in files.iter().filter(|file| file.busy()) {
                each(file);
            }
        }
    }

    /// What is held on all files. Looks at every one: for metrics and tests.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.for_each(|file| {
            let one = file.counts();
            all.files += one.files;
            all.shares += one.shares;
            all.ranges += one.ranges;
            all.delegations += one.delegations;
            all.waiters += one.waiters;
            all.mirrors += one.mirrors;
        });
        all
    }

    /// [`FileLocks::lapse`] for every file with a line: to be called about once a second.
    pub fn lapse(&self, now: Instant) {
        if self.lines.load(Relaxed) > 0 {
            self.for_each(|file| file.lapse(now));
        }
    }
}
