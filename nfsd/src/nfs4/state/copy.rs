//! Asynchronous copies of one client (RFC 7862 4.8, 15.2.3): those that go on behind their COPY's answer,
//! and for a while those that ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vfs::order::Turn;

use super::client::Client;
use super::stateid::KEY_MAX;
use crate::fh::FileHandle;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, Stateid4, Verifier4};

/// Most copies of a client that go on at a time; more are copied piece by piece as long as the client
/// asks for it.
pub const RUNNING_MAX: usize = 8;
/// Most copies that ended and are remembered, for OFFLOAD_STATUS.
pub const ENDED_MAX: usize = 64;

/// A copy that goes on.
#[derive(Default)]
pub struct Offload {
    /// Names it among its client's.
    pub key: u32,
    /// Bytes copied so far.
    pub progress: Arc<AtomicU64>,
    /// Held while bytes are copied.
    pub turn: Turn,
    stopped: AtomicBool,
}

impl Offload {
    /// Nobody wants it any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied so far.
    pub count: u64,
    /// How it ended, once it has.
    pub ended: Option<Nfsstat4>,
}

/// The copies of one client. Those that go on are stopped when this is dropped.
#[derive(Default)]
pub struct Copies {
    /// Of the copy before.
    last: u32,
    running: BTreeMap<u32, Arc<Offload>>,
    ended: BTreeMap<u32, (u64, Nfsstat4)>,
}

impl Copies {
    /// One more copy, of which `done` bytes are copied already; `None` when there are too many.
    pub fn begin(&mut self, done: u64) -> Option<Arc<Offload>> {
        if self.running.len() >= RUNNING_MAX {
            return None;
        }
        let offload = Arc::new(Offload {
            key: self.next_key(),
            progress: Arc::new(AtomicU64::new(done)),
            ..Offload::default()
        });
        self.running.insert(offload.key, offload.clone());
        Some(offload)
    }

    fn next_key(&mut self) -> u32 {
        loop {
            self.last = match self.last {
                KEY_MAX => 1,
                last => last + 1,
            };
            let key = self.last;
            if !self.running.contains_key(&key) && !self.ended.contains_key(&key) {
                return key;
            }
        }
    }

    /// A copy ended. False if it had been cancelled, and nobody is to hear of it.
    pub fn end(&mut self, key: u32, status: Nfsstat4) -> bool {
        let Some(offload) = self.running.remove(&key) else {
            return false;
        };
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_first();
        }
        let count = offload.progress.load(Ordering::Relaxed);
        self.ended.insert(key, (count, status));
        true
    }

    /// How far a copy is.
    ///
    /// # Errors
    /// `BAD_STATEID`.
    pub fn status(&self, key: u32) -> Result<Progress, Nfsstat4> {
        if let Some(offload) = self.running.get(&key) {
            return Ok(Progress {
                count: offload.progress.load(Ordering::Relaxed),
                ended: None,
            });
        }
        let (count, status) = self.ended.get(&key).ok_or(Nfsstat4::BadStateid)?;
        Ok(Progress {
            count: *count,
            ended: Some(*status),
        })
    }

    /// Stops a copy; its stateid is gone. What it is at may still change the destination, until it gives
    /// up its turn.
    ///
    /// # Errors
    /// `BAD_STATEID`; `COMPLETE_ALREADY` for one that ended, which is forgotten.
    pub fn cancel(&mut self, key: u32) -> Result<Arc<Offload>, Nfsstat4> {
        if let Some(offload) = self.running.remove(&key) {
            offload.stop();
            return Ok(offload);
        }
        match self.ended.remove(&key) {
            Some(_) => Err(Nfsstat4::CompleteAlready),
            None => Err(Nfsstat4::BadStateid),
        }
    }

    /// How many go on.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Stops and forgets all.
    pub fn clear(&mut self) {
        self.running.values().for_each(|offload| offload.stop());
        self.running.clear();
        self.ended.clear();
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A copy that ended, for CB_OFFLOAD (RFC 7862 16.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose.
    pub clientid: Clientid4,
    /// The destination.
    pub fh: FileHandle,
    /// Of the copy.
    pub stateid: Stateid4,
    /// How it ended.
    pub status: Nfsstat4,
    /// Bytes copied, not stable yet.
    pub count: u64,
    /// As of before the copy: if COMMIT gives another one, it has to be done again.
    pub verifier: Verifier4,
}

/// The way to clients: filled in by the callbacks. Never waits.
pub trait Notifier: Send + Sync {
    /// The client can be told; if not, nothing is copied behind its back.
    fn reaches(&self, client: &Client) -> bool;
    /// Tells the client (CB_OFFLOAD).
    fn offloaded(&self, ended: Ended);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_seen_until_it_is_forgotten() {
        let mut copies = Copies::default();
        let one = copies.begin(5).expect("room");
        one.progress.fetch_add(7, Ordering::Relaxed);
        let on = |count, ended| Ok(Progress { count, ended });
        assert_eq!(copies.status(one.key), on(12, None));
        assert!(copies.end(one.key, Nfsstat4::Nospc));
        assert!(!copies.end(one.key, Nfsstat4::Ok), "only once");
        assert_eq!(copies.status(one.key), on(12, Some(Nfsstat4::Nospc)));
        let mut cancel = |key| copies.cancel(key).map(|offload| offload.key);
        assert_eq!(cancel(one.key), Err(Nfsstat4::CompleteAlready));
        assert_eq!(cancel(one.key), Err(Nfsstat4::BadStateid));
        assert_eq!(copies.status(one.key), Err(Nfsstat4::BadStateid));
        assert_eq!(copies.status(77), Err(Nfsstat4::BadStateid));
    }

    #[test]
    fn copies_are_bounded_and_stop_with_their_client() {
        let mut copies = Copies::default();
        let all: Vec<_> = (0..RUNNING_MAX)
            .map(|_| copies.begin(0).expect("room"))
            .collect();
        assert!(copies.begin(0).is_none());
        assert!(copies.cancel(all[0].key).is_ok());
        assert!(all[0].is_stopped() && !all[1].is_stopped());
        assert!(!copies.end(all[0].key, Nfsstat4::Ok), "cancelled");
        assert_eq!(copies.running(), RUNNING_MAX - 1);
        drop(copies);
        assert!(all.iter().all(|offload| offload.is_stopped()));
    }

    #[test]
    fn ends_are_bounded_and_keys_go_round() {
        let mut copies = Copies::default();
        copies.last = KEY_MAX - 2;
        let mut keys = Vec::new();
        for _ in 0..ENDED_MAX + 3 {
            let key = copies.begin(0).expect("room").key;
            assert!(copies.end(key, Nfsstat4::Ok));
            keys.push(key);
        }
        assert_eq!(keys[..3], [KEY_MAX - 1, KEY_MAX, 1]);
        assert_eq!(copies.ended.len(), ENDED_MAX);
        assert_eq!(copies.running(), 0);
    }
}
