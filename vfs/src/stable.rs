//! Stable storage: group commit per file, and the write verifier that changes whenever written
//! data may have been lost (RFC 1813 3.3.7, 3.3.21).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::errno::{Errno, Result};
use crate::exec::{self, oneshot};
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;

/// How durable written data must be, or is (RFC 1813 3.3.7 `stable_how`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stable {
    /// May still be in memory.
    Unstable,
    /// The data and what is needed to read it back is on stable storage.
    DataSync,
    /// Data and all metadata are on stable storage.
    FileSync,
}

/// The write verifier: different after every start and after every failed writeback.
pub struct Verifier(AtomicU64);

impl Verifier {
    /// Starts from `seed`, which must differ between starts of the server.
    pub fn new(seed: u64) -> Self {
        Verifier(AtomicU64::new(seed))
    }

    /// The verifier as the wire carries it.
    pub fn get(&self) -> [u8; 8] {
        self.0.load(Ordering::Acquire).to_be_bytes()
    }

    /// Data acknowledged as unstable may be lost: clients must send it again.
    pub fn change(&self) {
        self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::AcqRel);
    }
}

struct Waiting {
    data_only: bool,
    done: oneshot::Sender<Result<()>>,
}

#[derive(Default)]
struct State {
    running: bool,
    line: Vec<Waiting>,
}

/// Callers of one file that wait for stable storage share fsyncs: whoever comes while one runs
/// waits for the next, which covers all of them.
#[derive(Clone, Default)]
pub struct GroupSync(Arc<Mutex<State>>);

impl GroupSync {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once everything written to `fd`'s file before this call is on stable storage.
    ///
    /// # Errors
    /// `fsync(2)`. The verifier has then changed already.
    pub async fn sync(
        &self,
        fd: &Arc<OpenFd>,
        data_only: bool,
        verifier: &Arc<Verifier>,
    ) -> Result<()> {
        self.begin(fd, data_only, verifier).done().await
    }

    /// As [`GroupSync::sync`], under way when this returns: several files can be on their way to stable
    /// storage at once, in one commit of their file system's journal.
    pub fn begin(&self, fd: &Arc<OpenFd>, data_only: bool, verifier: &Arc<Verifier>) -> Syncing {
        let (done, wait) = oneshot::channel();
        let lead = {
            let mut state = self.state();
            state.line.push(Waiting { data_only, done });
            !std::mem::replace(&mut state.running, true)
        };
        if lead {
            // A task of its own: the caller may be dropped while others wait for its fsync.
            exec::spawn(self.clone().lead(fd.clone(), verifier.clone()));
        }
        Syncing(wait)
    }

    async fn lead(self, fd: Arc<OpenFd>, verifier: Arc<Verifier>) {
        let mut leader = Leader {
            sync: self,
            line: Vec::new(),
            leads: true,
        };
        loop {
            {
                let mut state = leader.sync.state();
                leader.line = std::mem::take(&mut state.line);
                if leader.line.is_empty() {
                    // In one step: from here on another worker's caller may lead.
                    state.running = false;
                    drop(state);
                    leader.leads = false;
                    return;
                }
            }
            let data_only = leader.line.iter().all(|w| w.data_only);
            let result = file_ops::fsync(&fd, data_only).await;
            if result.is_err() {
                verifier.change();
            }
            for waiting in leader.line.drain(..) {
                waiting.done.send(result);
            }
        }
    }
}

/// A file on its way to stable storage.
#[must_use = "it is there when this is done"]
pub struct Syncing(oneshot::Receiver<Result<()>>);

impl Syncing {
    /// Waits until it is there.
    ///
    /// # Errors
    /// As [`GroupSync::sync`].
    pub async fn done(self) -> Result<()> {
        self.0.await.unwrap_or(Err(Errno::EIO))
    }
}

/// The running fsync loop; if its worker stops, whoever waits gets an error and the next caller
/// leads.
struct Leader {
    sync: GroupSync,
    line: Vec<Waiting>,
    leads: bool,
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.leads {
            return;
        }
        let failed = {
            let mut state = self.sync.state();
            state.running = false;
            std::mem::take(&mut state.line)
        };
        // Wakes them: not under the lock.
        drop(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a leader's last look at the line and its end, another worker's caller may have begun
    /// to lead.
    #[test]
    fn a_leader_that_gave_up_leaves_the_next_ones_line_alone() {
        let (done, _wait) = oneshot::channel();
        let group = GroupSync::default();
        {
            let mut state = group.state();
            state.running = true;
            state.line.push(Waiting {
                data_only: true,
                done,
            });
        }
        let leader = |leads| Leader {
            sync: group.clone(),
            line: Vec::new(),
            leads,
        };
        drop(leader(false));
        assert!(group.state().running && group.state().line.len() == 1);
        drop(leader(true));
        assert!(!group.state().running && group.state().line.is_empty());
    }
}
