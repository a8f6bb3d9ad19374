//! The bounded pool for calls that have no opcode or that the ring would only hand to a kernel
//! thread: each thread keeps the identity of its last caller and switches only when it differs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Call;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec::{self, oneshot};
use crate::sys;

type Work = Box<dyn FnOnce() + Send>;

struct State {
    queue: VecDeque<(Cred, Work)>,
    threads: usize,
    /// Threads there may be now.
    limit: usize,
    idle: usize,
    /// Idle threads that were called and have not come yet.
    called: usize,
    /// When a thread last took work, or work came to an empty queue.
    moved: Instant,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    wake: Condvar,
    queued: AtomicUsize,
    max_threads: usize,
    max_queue: usize,
    /// Threads that are set to work at once: as many as there are cores to run them.
    eager: usize,
}

/// The pool. It works with as many threads as there are cores, each taking one call after the
/// other; when those are held up in their calls, [`Threads::relieve`] adds more, up to a limit. They
/// end with the last clone.
pub struct Threads(Arc<Inner>);

/// Work that waits this long while nothing moves gets another thread.
const HELD_UP: Duration = Duration::from_micros(500);
/// When nothing moves for this long although every thread is there, they are stuck: a file system
/// does not answer. Those who wait for others get threads besides.
const STUCK: Duration = Duration::from_secs(1);
/// Most threads besides.
const ADDED_MAX: usize = 4096;

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    /// A pool of at most `max_threads` threads and `max_queue` waiting calls.
    pub fn new(max_threads: usize, max_queue: usize) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            threads: 0,
            limit: max_threads.max(1),
            idle: 0,
            called: 0,
            moved: exec::now(),
            closed: false,
        };
        Arc::new(Threads(Arc::new(Inner {
            state: Mutex::new(state),
            wake: Condvar::new(),
            queued: AtomicUsize::new(0),
            max_threads: max_threads.max(1),
            max_queue: max_queue.max(1),
            eager: std::thread::available_parallelism().map_or(2, NonZero::get),
        })))
    }

    /// Threads that exist now.
    pub fn threads(&self) -> usize {
        self.0.state().threads
    }

    /// Calls waiting for a thread.
    pub fn queued(&self) -> usize {
        self.0.queued.load(Ordering::Relaxed)
    }

    fn push(&self, cred: Cred, work: Work) -> Result<()> {
        let state = self.0.state();
        if state.queue.len() >= self.0.max_queue {
            return Err(Errno::EAGAIN);
        }
        self.put(state, cred, work)
    }

    /// Work as the server itself, also where the queue is full: for what is bounded elsewhere.
    ///
    /// # Errors
    /// `EAGAIN` when there is no thread to be had.
    pub(crate) fn add(&self, work: Work) -> Result<()> {
        self.put(self.0.state(), Cred::root(), work)
    }

    fn put(&self, mut state: MutexGuard<'_, State>, cred: Cred, work: Work) -> Result<()> {
        if state.queue.is_empty() {
            state.moved = exec::now();
        }
        state.queue.push_back((cred, work));
        self.0.queued.store(state.queue.len(), Ordering::Relaxed);
        if state.threads - state.idle + state.called < self.0.eager {
            return self.another(state);
        }
        Ok(())
    }

    /// Adds a thread if work waits and nothing has moved for [`HELD_UP`]. Workers call it each turn.
    pub(crate) fn relieve(&self, now: Instant) {
        let mut state = self.0.state();
        let still = now.saturating_duration_since(state.moved);
        let held_up = still > HELD_UP;
        if still > STUCK && state.threads >= state.limit {
            let most = self.0.max_threads;
            let wanted = state.threads + state.queue.len() + most;
            state.limit = wanted.min(most + ADDED_MAX);
        }
        if held_up && !state.queue.is_empty() && state.called == 0 {
            // No thread to be had means that those there are have to do.
            let _ = self.another(state);
        }
    }

    /// Calls an idle thread, or starts one.
    fn another(&self, state: MutexGuard<'_, State>) -> Result<()> {
        another(&self.0, state)
    }
}

/// Calls an idle thread of the pool, or starts one if it may have more.
fn another(inner: &Arc<Inner>, mut state: MutexGuard<'_, State>) -> Result<()> {
    if state.idle > state.called {
        state.called += 1;
        drop(state);
        inner.wake.notify_one();
        return Ok(());
    }
    if state.threads >= state.limit {
        return Ok(());
    }
    state.threads += 1;
    drop(state);
    let own = inner.clone();
    let spawned = std::thread::Builder::new()
        .name("blocking".into())
        .spawn(move || work_loop(&own));
    if spawned.is_err() {
        let mut state = inner.state();
        state.threads -= 1;
        // Nobody would ever take it: the callers get EAGAIN, or EIO from a closed channel.
        if state.threads == 0 {
            let lost = std::mem::take(&mut state.queue);
            inner.queued.store(0, Ordering::Relaxed);
            drop(state);
            drop(lost);
            return Err(Errno::EAGAIN);
        }
    }
    Ok(())
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.wake.notify_all();
    }
}

thread_local! {
    static IDENTITY: RefCell<sys::ThreadIdentity> = RefCell::default();
}

/// Makes this pool thread act as `cred` from here on.
///
/// # Errors
/// Those of the identity's system calls; the thread's identity is then nobody's to rely on.
pub(crate) fn become_caller(cred: &Cred) -> Result<()> {
    IDENTITY.with_borrow_mut(|identity| identity.become_cred(cred))
}

fn work_loop(inner: &Arc<Inner>) {
    loop {
        let (cred, work) = {
            let mut state = inner.state();
            loop {
                if let Some(item) = state.queue.pop_front() {
                    inner.queued.store(state.queue.len(), Ordering::Relaxed);
                    state.moved = exec::now();
                    // Where threads are stuck, this one may soon be, and nobody is to wait for that to show.
                    if state.limit > inner.max_threads && !state.queue.is_empty() {
                        let _ = another(inner, state);
                    }
                    break item;
                }
                // Threads that were stuck and came back are too many.
                if state.closed || state.idle >= inner.max_threads {
                    state.threads -= 1;
                    if state.threads <= inner.max_threads {
                        state.limit = inner.max_threads;
                    }
                    return;
                }
                state.idle += 1;
                state = inner
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                state.called = state.called.saturating_sub(1);
            }
        };
        // A thread that cannot take on the identity must not do the work: the caller gets EIO when
        // the dropped work closes its channel.
        if become_caller(&cred).is_ok() {
            work();
        }
    }
}

/// Closes a descriptor on a pool thread; here, where there is none.
pub(crate) fn close_later(fd: Arc<OwnedFd>) {
    let close = Box::new(move || drop(fd));
    // However many wait there: there are no more than descriptors. Leaking them would be worse than a wait.
    let _ = exec::try_with_ring(|ring| ring.threads.add(close));
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
    #[cfg(feature = "fault-injection")]
    let work = super::fault::plan_call(work);
    let (sender, receiver) = oneshot::channel();
    exec::with_ring(|ring| {
        ring.counters.blocking(call);
        ring.threads
            .push(cred.clone(), Box::new(move || sender.send(work())))
    })?;
    receiver.await.unwrap_or(Err(Errno::EIO))
}
