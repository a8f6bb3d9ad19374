//! One shard of the duplicate request cache: a hash table of slots and their age order.

use super::{Counts, Key};
use core::time::Duration;
use hashbrown::HashTable;
use std::sync::Arc;

/// Names a running entry. A running entry is never evicted, so the slot stays its own until the
/// guard that holds this gives it up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryId(u32);

/// What a lookup found.
pub(super) enum Found {
    New(EntryId),
    Untracked,
    Running,
    Done(Arc<[u8]>),
}

/// No slot.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Slot {
    key: Key,
    hash: u64,
    /// `None` while the call runs.
    reply: Option<Arc<[u8]>>,
    /// Time of completion.
    since: Duration,
    /// Neighbours in the list of finished calls.
    older: u32,
    newer: u32,
}

/// Finished calls form a list from `oldest` to `newest` by last use; running calls are in no list.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    max_entries: usize,
    max_bytes: usize,
    counts: Counts,
}

impl Shard {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NIL,
            newest: NIL,
            // Slot numbers are u32 and NIL is taken.
            max_entries: max_entries.clamp(1, NIL as usize - 1),
            max_bytes,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            entries: self.table.len(),
            ..self.counts
        }
    }

    /// Finds or inserts in one step, so that of two copies of a call only one can be new.
    pub(super) fn begin(&mut self, key: Key, hash: u64, now: Duration, oldest: Duration) -> Found {
        self.expire(oldest);
        let slots = &self.slots;
        let found = self
            .table
            .find(hash, |i| slots[*i as usize].key == key)
            .copied();
        if let Some(index) = found {
            if !self.expired(index, oldest) {
                return self.hit(index);
            }
            self.unlink(index);
            self.remove(index);
        }
        self.counts.new += 1;
        if self.table.len() >= self.max_entries && !self.evict_oldest() {
            self.counts.untracked += 1;
            return Found::Untracked;
        }
        Found::New(EntryId(self.insert(key, hash, now)))
    }

    fn hit(&mut self, index: u32) -> Found {
        let Some(reply) = self.slots[index as usize].reply.clone() else {
            self.counts.dropped += 1;
            return Found::Running;
        };
        self.counts.replayed += 1;
        // Most recently used now; its age still counts from completion.
        self.unlink(index);
        self.link_newest(index);
        Found::Done(reply)
    }

    fn insert(&mut self, key: Key, hash: u64, now: Duration) -> u32 {
        let slot = Slot {
            key,
            hash,
            reply: None,
            since: now,
            older: NIL,
            newer: NIL,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                // Below max_entries, which fits.
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table
            .insert_unique(hash, index, |i| slots[*i as usize].hash);
        index
    }

    /// The call finished with this reply.
    pub(super) fn complete(&mut self, entry: EntryId, reply: Arc<[u8]>, now: Duration) {
        let len = reply.len();
        while self.counts.bytes + len > self.max_bytes && self.evict_oldest() {}
        let slot = &mut self.slots[entry.0 as usize];
        slot.reply = Some(reply);
        slot.since = now;
        self.counts.bytes += len;
        self.link_newest(entry.0);
    }

    /// The call ended without a reply.
    pub(super) fn forget(&mut self, entry: EntryId) {
        self.remove(entry.0);
    }

    /// Removes replies completed before `oldest`, from the least recently used end.
    fn expire(&mut self, oldest: Duration) {
        while self.oldest != NIL && self.expired(self.oldest, oldest) {
            self.evict_oldest();
        }
    }

    fn expired(&self, index: u32, oldest: Duration) -> bool {
        let slot = &self.slots[index as usize];
        slot.reply.is_some() && slot.since < oldest
    }

    fn evict_oldest(&mut self) -> bool {
        let index = self.oldest;
        if index == NIL {
            return false;
        }
        self.unlink(index);
        self.remove(index);
        true
    }

    /// Removes a slot that is in no list.
    fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if let Some(reply) = slot.reply.take() {
            self.counts.bytes -= reply.len();
        }
        if let Ok(found) = self.table.find_entry(slot.hash, |i| *i == index) {
            found.remove();
        }
        self.free.push(index);
    }

    fn link_newest(&mut self, index: u32) {
        let newest = self.newest;
        let slot = &mut self.slots[index as usize];
        (slot.older, slot.newer) = (newest, NIL);
        match self.slots.get_mut(newest as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let (older, newer) = (slot.older, slot.newer);
        match self.slots.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}
