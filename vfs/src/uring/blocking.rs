//! The bounded pool for calls that have no opcode or that the ring would only hand to a kernel
//! thread: each thread keeps the identity of its last caller and switches only when it differs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::counters::Call;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec::{self, oneshot};
use crate::sys;

type Work = Box<dyn FnOnce() + Send>;

struct State {
    queue: VecDeque<(Cred, Work)>,
    idle: usize,
    threads: usize,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    wake: Condvar,
    max_threads: usize,
    max_queue: usize,
}

/// The pool. Threads start when work finds none idle, up to a limit, and end with the last clone.
pub struct Threads(Arc<Inner>);

impl Threads {
    /// A pool of at most `max_threads` threads and `max_queue` waiting calls.
    pub fn new(max_threads: usize, max_queue: usize) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            idle: 0,
            threads: 0,
            closed: false,
        };
        Arc::new(Threads(Arc::new(Inner {
            state: Mutex::new(state),
            wake: Condvar::new(),
            max_threads: max_threads.max(1),
            max_queue: max_queue.max(1),
        })))
    }

    /// Threads that exist now.
    pub fn threads(&self) -> usize {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .threads
    }

    /// Calls waiting for a thread.
    pub fn queued(&self) -> usize {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .queue
            .len()
    }

    fn push(&self, cred: Cred, work: Work) -> Result<()> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.queue.len() >= self.0.max_queue {
            return Err(Errno::EAGAIN);
        }
        state.queue.push_back((cred, work));
        let start = state.queue.len() > state.idle && state.threads < self.0.max_threads;
        if start {
            state.threads += 1;
        }
        let wake = state.idle > 0;
        drop(state);
        if start {
            let inner = self.0.clone();
            let spawned = std::thread::Builder::new()
                .name("blocking".into())
                .spawn(move || work_loop(&inner));
            if spawned.is_err() {
                let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.threads -= 1;
                // Nobody would ever take it: the callers get EAGAIN, or EIO from a closed channel.
                if state.threads == 0 {
                    let lost = std::mem::take(&mut state.queue);
                    drop(state);
                    drop(lost);
                    return Err(Errno::EAGAIN);
                }
            }
        }
        if wake {
            self.0.wake.notify_one();
        }
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.0.wake.notify_all();
    }
}

fn work_loop(inner: &Inner) {
    let mut current = sys::ThreadIdentity::default();
    loop {
        let (cred, work) = {
            let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(item) = state.queue.pop_front() {
                    break item;
                }
                if state.closed {
                    state.threads -= 1;
                    return;
                }
                state.idle += 1;
                state = inner
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        };
        // A thread that cannot take on the identity must not do the work: the caller gets EIO when
        // the dropped work closes its channel.
        if current.become_cred(&cred).is_ok() {
            work();
        }
    }
}

/// A call on its way to the pool.
pub struct Job<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Job<T> {
    /// Waits for the result.
    pub(super) async fn run(self) -> T {
        self.0.await
    }
}

impl<T: Send + 'static> Job<Result<T>> {
    /// `work` under the identity `cred`; counted as `call`.
    pub fn new(cred: &Cred, call: Call, work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        let cred = cred.clone();
        Job(Box::pin(async move { run(&cred, call, work).await }))
    }
}

/// Runs `work` on a pool thread under the identity `cred`. Dropping the future does not stop work
/// that has begun; its result is dropped.
///
/// # Errors
/// `EAGAIN` when the queue is full, `EIO` when the thread could not take on the identity, and the
/// work's own.
pub async fn run<T: Send + 'static>(
    cred: &Cred,
    call: Call,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    exec::with_ring(|ring| {
        ring.counters.blocking(call);
        ring.threads
            .push(cred.clone(), Box::new(move || sender.send(work())))
    })?;
    receiver.await.unwrap_or(Err(Errno::EIO))
}
