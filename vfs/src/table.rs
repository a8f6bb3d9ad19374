//! The table of files the server holds open, found by file system and kernel handle. Bounded:
//! files nobody uses leave by CLOCK, and their descriptors close with them.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::file::File;
use crate::locks::LockTable;
use crate::sys::KernelHandle;

const SHARDS: usize = 64;
/// Files looked at for one that may leave: when nearly all are in use, a new one must not wait for
/// a walk over all of them.
const STEPS_MAX: usize = 256;

#[derive(Default)]
struct Shard {
    index: HashTable<usize>,
    slots: Vec<Option<Arc<File>>>,
    free: Vec<usize>,
    hand: usize,
}

/// Files by identity.
pub struct FileTable {
    shards: Vec<Mutex<Shard>>,
    per_shard: usize,
    /// What is open, locked and delegated of all files.
    pub locks: Arc<LockTable>,
}

fn hash(id: u64, handle: &KernelHandle) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    id.hash(&mut hasher);
    handle.bytes.as_slice().hash(&mut hasher);
    hasher.finish()
}

impl Shard {
    fn find(&self, hash: u64, id: u64, handle: &KernelHandle) -> Option<usize> {
        let same = |&slot: &usize| {
            self.slots[slot]
                .as_ref()
                .is_some_and(|f| f.mount.id == id && f.handle == *handle)
        };
        self.index.find(hash, same).copied()
    }

    /// Takes out what is in `slot`.
    fn remove(&mut self, hash: u64, slot: usize) -> Option<Arc<File>> {
        if let Ok(entry) = self.index.find_entry(hash, |&s| s == slot) {
            entry.remove();
        }
        self.free.push(slot);
        self.slots[slot].take()
    }

    /// Takes one file out that nobody else holds.
    fn evict(&mut self) -> Option<File> {
        for _ in 0..(2 * self.slots.len()).min(STEPS_MAX) {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(file) = &self.slots[slot] else {
                continue;
            };
            if Arc::strong_count(file) > 1 || file.take_referenced() || file.must_stay() {
                continue;
            }
            let hash = hash(file.mount.id, &file.handle);
            // A name cache may have found it just now: then it stays, or there would be two of it.
            match self.slots[slot].take().map(Arc::try_unwrap) {
                Some(Ok(file)) => {
                    self.remove(hash, slot);
                    return Some(file);
                }
                Some(Err(shared)) => self.slots[slot] = Some(shared),
                None => {}
            }
        }
        None
    }
}

impl FileTable {
    /// A table of about `limit` files; more only while that many are in use at once.
    pub fn new(limit: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        FileTable {
            shards,
            per_shard: (limit / SHARDS).max(4),
            locks: Arc::default(),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Not the top bits, which the hash table tells entries apart by, nor the low ones, which choose
        // the bucket.
        let index = (hash >> 40) as usize % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, if it is held; `id` is [`crate::Mount::id`].
    pub fn get(&self, id: u64, handle: &KernelHandle) -> Option<Arc<File>> {
        let hash = hash(id, handle);
        let shard = self.shard(hash);
        let slot = shard.find(hash, id, handle)?;
        let file = shard.slots[slot].clone()?;
        file.set_referenced();
        Some(file)
    }

    /// The held file of this identity, or else `new`, in one step.
    pub fn get_or_insert(&self, new: File) -> Arc<File> {
        let id = new.mount.id;
        let hash_of_new = hash(id, &new.handle);
        let mut shard = self.shard(hash_of_new);
        if let Some(slot) = shard.find(hash_of_new, id, &new.handle)
            && let Some(file) = &shard.slots[slot]
        {
            let file = file.clone();
            file.set_referenced();
            drop(shard);
            return file;
        }
        let mut evicted = Vec::new();
        while shard.index.len() >= self.per_shard {
            match shard.evict() {
                Some(file) => evicted.push(file),
                None => break,
            }
        }
        let file = Arc::new(new);
        let slot = match shard.free.pop() {
            Some(slot) => slot,
            None => {
                shard.slots.push(None);
                shard.slots.len() - 1
            }
        };
        shard.slots[slot] = Some(file.clone());
        let Shard { index, slots, .. } = &mut *shard;
        index.insert_unique(hash_of_new, slot, |&s| {
            slots[s].as_ref().map_or(0, |f| hash(f.mount.id, &f.handle))
        });
        drop(shard);
        // Closing descriptors takes time: outside the lock.
        drop(evicted);
        file
    }

    /// Lets go of a file: whoever still uses it may finish, nobody new finds it.
    pub fn forget(&self, file: &File) {
        let hash = hash(file.mount.id, &file.handle);
        let removed = {
            let mut shard = self.shard(hash);
            let slot = shard.find(hash, file.mount.id, &file.handle);
            // Not a later one of the same identity.
            let slot = slot.filter(|&slot| {
                let held = shard.slots[slot].as_ref();
                held.is_some_and(|held| std::ptr::eq(&raw const **held, file))
            });
            slot.and_then(|slot| shard.remove(hash, slot))
        };
        drop(removed);
    }

    /// The last name of a file is gone: it leaves the table, now or with its last pin. True when that
    /// is now.
    pub(crate) fn removed(&self, file: &File) -> bool {
        let leaves = file.set_removed();
        if leaves {
            self.forget(file);
        }
        leaves
    }

    /// Files held.
    pub fn len(&self) -> usize {
        let count = |s: &Mutex<Shard>| s.lock().unwrap_or_else(PoisonError::into_inner).index.len();
        self.shards.iter().map(count).sum()
    }

    /// No files are held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// More files are held than the limit: too many are in use, or dirty.
    pub(crate) fn crowded(&self) -> bool {
        self.len() > self.per_shard * SHARDS
    }

    /// Every file held now.
    pub fn files(&self) -> Vec<Arc<File>> {
        self.files_where(|_| true)
    }

    /// Every file held now that `wanted` chooses.
    pub(crate) fn files_where(&self, wanted: impl Fn(&File) -> bool) -> Vec<Arc<File>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.slots.iter().flatten().filter(|f| wanted(f)).cloned());
        }
        all
    }
}
