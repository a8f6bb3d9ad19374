//! The per-worker executor: tasks, timers, the clock, and the loop that drives one io_uring.
//!
//! One worker is one thread with one [`Ring`]. A turn of the loop takes completions, runs ready
//! tasks, then calls `io_uring_enter(2)` once: it submits network and disk requests together and
//! waits only when nothing is ready. Other threads reach a worker through its [`Remote`].

use std::cell::{Cell, RefCell};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::errno::Result;
use crate::uring::{Left, Ring, RingConfig};

/// Most task polls in one turn before completions are looked at again.
const POLLS_PER_TURN: usize = 256;
/// Ended timers that may lie in the heap beside the running ones before it is rebuilt.
const STALE_TIMERS: usize = 1024;
/// Longest sleep in one turn, so that a lost wake-up heals itself.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Longest sleep while calls wait for a thread of the blocking pool.
const RELIEF_WAIT: Duration = Duration::from_millis(1);

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inbox {
    wakes: Vec<u32>,
    jobs: Vec<Job>,
    /// The worker has ended.
    closed: bool,
}

/// The part of a worker that other threads may touch.
pub struct Remote {
    index: usize,
    inbox: Mutex<Inbox>,
    pending: AtomicBool,
    asleep: AtomicBool,
    kick: crate::uring::Kick,
}

impl Remote {
    /// A mailbox for worker `index`; the worker itself starts later with [`run`].
    pub fn new(index: usize) -> Result<Arc<Self>> {
        Ok(Arc::new(Remote {
            index,
            inbox: Mutex::default(),
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            kick: crate::uring::Kick::new()?,
        }))
    }

    /// The worker's number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Runs `job` on the worker's thread soon. When the worker has ended it is dropped instead, with what it owns.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.closed {
            // What it owns may post in its turn.
            drop(inbox);
            return drop(job);
        }
        inbox.jobs.push(Box::new(job));
        drop(inbox);
        self.notify();
    }

    /// The worker ends: jobs that wait, and those to come, are dropped.
    fn close(&self) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.closed = true;
        let jobs = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        drop(jobs);
    }

    fn wake(&self, task: u32) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wakes
            .push(task);
        self.notify();
    }

    fn notify(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            let sent = try_with(|w| w.ring.send_message(&self.kick)).unwrap_or(false);
            if !sent {
                self.kick.write_eventfd();
            }
        }
    }
}

struct TaskWaker {
    remote: Arc<Remote>,
    task: u32,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let local = try_with(|w| {
            let mine = Arc::ptr_eq(&w.remote, &self.remote);
            if mine {
                w.ready.borrow_mut().push_back(self.task);
            }
            mine
        });
        if local != Some(true) {
            self.remote.wake(self.task);
        }
    }
}

struct Task {
    future: Option<LocalFuture>,
    live: bool,
    wake: Arc<TaskWaker>,
    waker: Waker,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Deadline(std::cmp::Reverse<(Instant, u64)>);

#[derive(Default)]
struct Timers {
    heap: BinaryHeap<Deadline>,
    wakers: HashMap<u64, Waker>,
    next: u64,
}

impl Timers {
    /// Forgets a timer. Its place in the heap goes when its time comes, or when most of the heap is
    /// such places: time-outs are many and long, and hardly any ever fires.
    fn remove(&mut self, id: u64) -> Option<Waker> {
        let waker = self.wakers.remove(&id);
        if self.heap.len() > 2 * self.wakers.len() + STALE_TIMERS {
            let wakers = &self.wakers;
            self.heap
                .retain(|Deadline(std::cmp::Reverse((_, id)))| wakers.contains_key(id));
        }
        waker
    }
}

/// One worker thread's executor state.
pub struct Worker {
    remote: Arc<Remote>,
    ring: Ring,
    tasks: RefCell<Vec<Task>>,
    free: RefCell<Vec<u32>>,
    live: Cell<usize>,
    ready: RefCell<VecDeque<u32>>,
    timers: RefCell<Timers>,
    now: Cell<Instant>,
    /// No task starts any more.
    ending: Cell<bool>,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

fn try_with<R>(f: impl FnOnce(&Worker) -> R) -> Option<R> {
    WORKER
        .try_with(|w| w.try_borrow().ok().and_then(|w| w.as_deref().map(f)))
        .ok()
        .flatten()
}

/// Calls `f` with this thread's worker.
///
/// # Panics
/// Outside a worker thread: a programming error, never reachable from input.
fn with<R>(f: impl FnOnce(&Worker) -> R) -> R {
    WORKER.with_borrow(|w| f(w.as_deref().expect("not on a worker thread")))
}

/// Calls `f` with this thread's ring.
///
/// # Panics
/// Outside a worker thread.
pub fn with_ring<R>(f: impl FnOnce(&Ring) -> R) -> R {
    with(|w| f(&w.ring))
}

/// Calls `f` with this thread's ring, if this is a worker thread whose loop still runs.
pub fn try_with_ring<R>(f: impl FnOnce(&Ring) -> R) -> Option<R> {
    try_with(|w| f(&w.ring))
}

/// The worker's mailbox address.
pub fn remote() -> Arc<Remote> {
    with(|w| w.remote.clone())
}

/// The time at the start of this turn of the loop: cheap, and one clock for everything in it.
pub fn now() -> Instant {
    try_with(|w| w.now.get()).unwrap_or_else(Instant::now)
}

/// Wall clock time, for timestamps that leave the process.
pub fn wall_clock() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// Number of tasks alive on this worker, the calling one included.
pub fn live_tasks() -> usize {
    with(|w| w.live.get())
}

impl Worker {
    fn poll_task(&self, index: u32) {
        let (mut future, waker) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(index as usize) else {
                return;
            };
            task.wake.queued.store(false, Ordering::Release);
            // None: the task is finished, or is being polled further up this very stack.
            let Some(future) = task.future.take() else {
                return;
            };
            (future, task.waker.clone())
        };
        let done = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        if done {
            drop(future);
            self.tasks.borrow_mut()[index as usize].live = false;
            self.free.borrow_mut().push(index);
            self.live.set(self.live.get() - 1);
        } else {
            self.tasks.borrow_mut()[index as usize].future = Some(future);
        }
    }

    fn insert(&self, future: LocalFuture) -> u32 {
        self.live.set(self.live.get() + 1);
        if let Some(index) = self.free.borrow_mut().pop() {
            let mut tasks = self.tasks.borrow_mut();
            let task = &mut tasks[index as usize];
            task.future = Some(future);
            task.live = true;
            return index;
        }
        let mut tasks = self.tasks.borrow_mut();
        let index = tasks.len() as u32;
        let wake = Arc::new(TaskWaker {
            remote: self.remote.clone(),
            task: index,
            queued: AtomicBool::new(false),
        });
        let waker = Waker::from(wake.clone());
        tasks.push(Task {
            future: Some(future),
            live: true,
            wake,
            waker,
        });
        index
    }

    fn take_inbox(&self) {
        if !self.remote.pending.swap(false, Ordering::SeqCst) {
            return;
        }
        let inbox = std::mem::take(
            &mut *self
                .remote
                .inbox
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.ready.borrow_mut().extend(inbox.wakes);
        for job in inbox.jobs {
            job();
        }
    }

    /// Wakes expired timers; returns the time until the next.
    fn fire_timers(&self) -> Option<Duration> {
        let now = self.now.get();
        loop {
            let waker = {
                let mut timers = self.timers.borrow_mut();
                let &Deadline(std::cmp::Reverse((at, id))) = timers.heap.peek()?;
                if timers.wakers.contains_key(&id) && at > now {
                    return Some(at - now);
                }
                timers.heap.pop();
                timers.wakers.remove(&id)
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Drops every future. None starts any more.
    fn drop_tasks(&self) {
        self.ending.set(true);
        let mut tasks = self.tasks.borrow_mut();
        let futures: Vec<_> = tasks.iter_mut().filter_map(|t| t.future.take()).collect();
        drop(tasks);
        drop(futures);
    }

    fn turn(&self, finished: &Cell<bool>) -> Result<()> {
        self.now.set(Instant::now());
        self.ring.reap();
        self.take_inbox();
        self.fire_timers();
        for _ in 0..POLLS_PER_TURN {
            let Some(index) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            self.poll_task(index);
        }
        if finished.get() {
            return Ok(());
        }
        // After the polls: they may have set a timer that comes before all others, and taken time.
        if !self.timers.borrow().heap.is_empty() {
            self.now.set(Instant::now());
        }
        let next_timer = self.fire_timers();
        let idle = self.ready.borrow().is_empty();
        if !idle {
            return self.ring.enter(None);
        }
        self.remote.asleep.store(true, Ordering::SeqCst);
        let mut longest = LONGEST_WAIT;
        if self.ring.threads.queued() > 0 {
            self.ring.threads.relieve(self.now.get());
            longest = RELIEF_WAIT;
        }
        let wait = if self.remote.pending.load(Ordering::SeqCst) {
            None
        } else {
            Some(next_timer.unwrap_or(longest).min(longest))
        };
        let entered = self.ring.enter(wait);
        self.remote.asleep.store(false, Ordering::SeqCst);
        entered
    }
}

/// Starts a task; it is polled for the first time at once, so short work never touches the queue. At the worker's end the
/// future is dropped instead.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let worker = WORKER.with_borrow(|w| w.clone().expect("not on a worker thread"));
    if worker.ending.get() {
        return;
    }
    let index = worker.insert(Box::pin(future));
    worker.poll_task(index);
}

/// Runs `main` on a new worker on this thread until it finishes, then drops every other task,
/// cancels what is in flight and waits for it.
///
/// # Errors
/// The ring cannot be made, or `io_uring_enter(2)` fails for good.
pub fn run<T: 'static>(
    remote: &Arc<Remote>,
    config: &RingConfig,
    main: impl Future<Output = T> + 'static,
) -> Result<T> {
    let ring = Ring::new(config, &remote.kick)?;
    let worker = Rc::new(Worker {
        remote: remote.clone(),
        ring,
        tasks: RefCell::default(),
        free: RefCell::default(),
        live: Cell::new(0),
        ready: RefCell::default(),
        timers: RefCell::default(),
        now: Cell::new(Instant::now()),
        ending: Cell::new(false),
    });
    let nested = WORKER.replace(Some(worker.clone()));
    assert!(nested.is_none(), "one worker per thread");
    let finished = Rc::new(Cell::new(false));
    let result = Rc::new(RefCell::new(None));
    {
        let (finished, result) = (finished.clone(), result.clone());
        spawn(async move {
            let value = main.await;
            *result.borrow_mut() = Some(value);
            finished.set(true);
        });
    }
    let mut outcome = Ok(());
    while outcome.is_ok() && !finished.get() {
        outcome = worker.turn(&finished);
    }
    // Futures go first: dropping them orphans and cancels what they had in flight.
    worker.drop_tasks();
    worker.take_inbox();
    let mut left = worker.ring.shut_down();
    // Files that the kernel gave back only now are taken out of the ring.
    worker.take_inbox();
    remote.close();
    left.timers = worker.timers.borrow().wakers.len();
    if left != Left::default() {
        tracing::warn!(worker = remote.index, ?left, "left over at the end");
    }
    worker.ring.counters.ended(left);
    WORKER.set(None);
    outcome?;
    let value = result.borrow_mut().take();
    Ok(value.expect("main finished"))
}

/// Future of [`sleep`].
pub struct Sleep {
    at: Instant,
    id: Option<u64>,
}

/// Completes `duration` from now.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        at: now() + duration,
        id: None,
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.at {
            return Poll::Ready(());
        }
        let at = self.at;
        let id = with(|w| {
            let mut timers = w.timers.borrow_mut();
            let id = self.id.unwrap_or_else(|| {
                timers.next += 1;
                let id = timers.next;
                timers.heap.push(Deadline(std::cmp::Reverse((at, id))));
                id
            });
            timers.wakers.insert(id, cx.waker().clone());
            id
        });
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = try_with(|w| w.timers.borrow_mut().remove(id));
            drop(waker);
        }
    }
}

/// Runs `future` for at most `duration`; `None` when time ran out (the future is dropped).
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut sleep = std::pin::pin!(sleep(duration));
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Lets other ready tasks and completions go first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A one-value channel inside one worker or from another thread into it.
pub mod oneshot {
    use super::{Context, Future, Pin, PoisonError, Poll, Waker};
    use std::sync::{Arc, Mutex};

    struct State<T> {
        value: Option<T>,
        waker: Option<Waker>,
        closed: bool,
    }

    /// The sending side; dropping it unsent completes the receiver with `None`.
    pub struct Sender<T>(Arc<Mutex<State<T>>>);

    /// The receiving side, a future.
    pub struct Receiver<T>(Arc<Mutex<State<T>>>);

    /// A new channel.
    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let state = Arc::new(Mutex::new(State {
            value: None,
            waker: None,
            closed: false,
        }));
        (Sender(state.clone()), Receiver(state))
    }

    impl<T> Sender<T> {
        /// Delivers the value.
        pub fn send(self, value: T) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).value = Some(value);
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waker = {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                state.closed = true;
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Option<T>;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(value) = state.value.take() {
                return Poll::Ready(Some(value));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }
}

/// Runs one future on a worker of its own on this thread: for start-up work and tests.
///
/// # Errors
/// As [`run`].
pub fn block_on<T: 'static>(
    config: &RingConfig,
    main: impl Future<Output = T> + 'static,
) -> Result<T> {
    run(&Remote::new(0)?, config, main)
}
