//! Duplicate request cache: a retransmitted call that must not run twice gets the first answer again.
//!
//! Pure: no clock, no I/O. Shared by all workers, sharded behind short mutexes that are never held
//! while a request runs. The caller decides which procedures go through it (the non-idempotent ones).

mod shard;

use core::net::IpAddr;
use core::time::Duration;
use foldhash::quality::RandomState;
use shard::{Found, Shard};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Leading argument bytes that go into the checksum. Enough to tell calls apart, also those of a
/// client that reuses transaction ids; a WRITE is not hashed over all its data.
pub const CHECKSUM_BYTES: usize = 256;

/// What makes two calls the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Client address without port, since a client reconnects from another port. IPv4-mapped
    /// addresses are IPv4.
    addr: IpAddr,
    xid: u32,
    prog: u32,
    vers: u32,
    proc: u32,
    args_len: usize,
    args_sum: u64,
}

/// Size of the cache. All limits hold for the whole cache, rounded up to a multiple of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most calls remembered, running ones included.
    pub entries: usize,
    /// Most bytes of replies kept.
    pub bytes: usize,
    /// Most bytes of one reply; longer ones are not kept (non-idempotent replies are short).
    pub reply_bytes: usize,
    /// How long a reply is kept at most.
    pub keep: Duration,
}

impl Default for Limits {
    /// 64 Ki calls, 32 MiB of replies of at most 4 KiB, two minutes.
    fn default() -> Self {
        Self {
            entries: 1 << 16,
            bytes: 32 << 20,
            reply_bytes: 4096,
            keep: Duration::from_secs(120),
        }
    }
}

/// Counts since start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls remembered now.
    pub entries: usize,
    /// Reply bytes kept now.
    pub bytes: usize,
    /// Calls seen for the first time.
    pub new: u64,
    /// Retransmissions dropped because the first call still runs.
    pub dropped: u64,
    /// Retransmissions answered from the cache.
    pub replayed: u64,
    /// First calls that could not be remembered because every entry was still running.
    pub untracked: u64,
}

/// What to do with a call.
#[derive(Debug)]
pub enum Lookup {
    /// Not seen before: run it, then hand the reply to the guard.
    New(Guard),
    /// It is running: send nothing, the first call's reply is on its way.
    Drop,
    /// It ran: send this reply again.
    Replay(Arc<[u8]>),
}

const SHARDS: usize = 16;

/// The cache.
#[derive(Debug)]
pub struct Drc {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    keep: Duration,
    reply_bytes: usize,
}

impl Drc {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        let per_shard = |n: usize| n.div_ceil(SHARDS);
        let (entries, bytes) = (per_shard(limits.entries), per_shard(limits.bytes));
        Arc::new(Self {
            shards: core::array::from_fn(|_| Mutex::new(Shard::new(entries, bytes))),
            hasher: RandomState::default(),
            keep: limits.keep,
            reply_bytes: limits.reply_bytes.min(bytes),
        })
    }

    /// The key of a call. `args` are the encoded arguments.
    #[must_use]
    pub fn key(&self, addr: IpAddr, xid: u32, program: [u32; 3], args: &[u8]) -> Key {
        let [prog, vers, proc] = program;
        let head = args.get(..CHECKSUM_BYTES).unwrap_or(args);
        Key {
            addr: addr.to_canonical(),
            xid,
            prog,
            vers,
            proc,
            args_len: args.len(),
            args_sum: self.hasher.hash_one(head),
        }
    }

    /// Looks a call up and, if it is new, remembers that it runs. `now` is any monotonic time.
    #[must_use]
    pub fn begin(self: &Arc<Self>, key: Key, now: Duration) -> Lookup {
        let hash = self.hasher.hash_one(key);
        let oldest = now.saturating_sub(self.keep);
        match self.shard(hash).begin(key, hash, now, oldest) {
            Found::Running => Lookup::Drop,
            Found::Done(reply) => Lookup::Replay(reply),
            Found::New(entry) => Lookup::New(Guard {
                drc: Arc::clone(self),
                hash,
                entry: Some(entry),
            }),
            Found::Untracked => Lookup::New(Guard {
                drc: Arc::clone(self),
                hash,
                entry: None,
            }),
        }
    }

    /// Counts over all shards.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for shard in &self.shards {
            let c = lock(shard).counts();
            sum.entries += c.entries;
            sum.bytes += c.bytes;
            sum.new += c.new;
            sum.dropped += c.dropped;
            sum.replayed += c.replayed;
            sum.untracked += c.untracked;
        }
        sum
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The top bits: the map inside the shard uses the others.
        let index = (hash >> 60) as usize;
        lock(&self.shards[index])
    }
}

/// A panic under the lock cannot leave a shard half changed in a way that matters more than going on.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that runs. Dropped without [`Guard::complete`], the call is forgotten: a retransmission
/// runs it again.
#[derive(Debug)]
#[must_use = "dropping the guard forgets the call"]
pub struct Guard {
    drc: Arc<Drc>,
    hash: u64,
    /// `None` when the call could not be remembered.
    entry: Option<shard::EntryId>,
}

impl Guard {
    /// Keeps the reply (the whole RPC message) for retransmissions. A reply above the limit is
    /// forgotten instead.
    pub fn complete(mut self, reply: &[u8], now: Duration) {
        if reply.len() > self.drc.reply_bytes {
            return;
        }
        if let Some(entry) = self.entry.take() {
            let reply = Arc::from(reply);
            self.drc.shard(self.hash).complete(entry, reply, now);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.drc.shard(self.hash).forget(entry);
        }
    }
}

#[cfg(test)]
mod tests;
