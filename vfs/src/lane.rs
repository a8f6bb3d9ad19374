//! Changes of one directory, one after the other on one pool thread: whoever comes while the lane
//! runs is taken along, so that a busy directory costs one wake-up for many changes and its lock in
//! the kernel is never fought over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec::{self, oneshot};
use crate::file::File;
use crate::uring::blocking;
use crate::uring::counters::Call;

type Work = Box<dyn FnOnce() + Send>;

/// Changes of one run; then others (renames) get their turn.
const RUN_MAX: usize = 64;

#[derive(Default)]
struct State {
    led: bool,
    line: VecDeque<(Cred, Work)>,
}

/// One directory's lane, owned by the directory.
#[derive(Clone, Default)]
pub struct Lane(Arc<Mutex<State>>);

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what waits, on a pool thread. True when nothing is left and the lane has no leader.
    fn drain(&self) -> bool {
        for _ in 0..RUN_MAX {
            let next = {
                let mut state = self.state();
                let next = state.line.pop_front();
                state.led = next.is_some();
                next
            };
            let Some((cred, work)) = next else {
                return true;
            };
            // Not under a wrong identity: the dropped work closes its channel.
            if blocking::become_caller(&cred).is_ok() {
                work();
            }
        }
        false
    }
}

/// Runs `work` as `cred` as the only change of `dir` at that time.
///
/// # Errors
/// `EIO` when the server stops, and the work's own.
pub(crate) async fn run<T: Send + 'static>(
    dir: &Arc<File>,
    cred: &Cred,
    call: Call,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, wait) = oneshot::channel();
    let lead = {
        let mut state = dir.lane.state();
        let work: Work = Box::new(move || done.send(work()));
        state.line.push_back((cred.clone(), work));
        !std::mem::replace(&mut state.led, true)
    };
    if lead {
        // A task of its own: the caller may be dropped while others wait in the line.
        exec::spawn(lead_lane(dir.clone(), call));
    }
    wait.await.unwrap_or(Err(Errno::EIO))
}

async fn lead_lane(dir: Arc<File>, call: Call) {
    let mut leader = Leader(Some(dir.lane.clone()));
    loop {
        let _turn = dir.turn.take().await;
        // Each piece of work counts for itself.
        let _change = dir.changes.attend();
        let lane = dir.lane.clone();
        match blocking::run(&Cred::root(), call, move || Ok(lane.drain())).await {
            Ok(true) => break,
            Ok(false) => {}
            // The pool takes no more: who waits is told so by the leader's end.
            Err(_) => return,
        }
    }
    leader.0 = None;
}

/// Ends a lane whose leader did not come to the end of its line: whoever waits gets an error.
struct Leader(Option<Lane>);

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(lane) = &self.0 else { return };
        let line = {
            let mut state = lane.state();
            state.led = false;
            std::mem::take(&mut state.line)
        };
        drop(line);
    }
}
