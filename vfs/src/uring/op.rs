//! `trait Op`: one operation, its way to the kernel, and the futures that wait for it.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use io_uring::squeue;

use super::blocking::Job;
use super::inflight::{AnyOp, Key, Outcome};
use crate::exec;

/// The way an operation takes this time; callers never know which.
pub enum Entry<T> {
    /// Through the ring: [`Op::sqe`] will be asked for the entry.
    Sqe,
    /// Done already, by a system call that could not sleep.
    Inline(T),
    /// On a thread of the blocking pool.
    Blocking(Job<T>),
}

/// One operation. It owns everything its SQE points at.
pub trait Op: Sized + 'static {
    /// What the caller gets.
    type Output: 'static;

    /// The opcode, for counters and fault injection.
    const CODE: u8;

    /// Chooses the way. Called once, before the operation has its final address.
    fn entry(&mut self) -> Entry<Self::Output> {
        Entry::Sqe
    }

    /// The submission entry. Called once, at the operation's final address.
    fn sqe(&mut self) -> squeue::Entry;

    /// The result: `res` is the CQE's, negative for an errno.
    fn complete(self, res: i32, flags: u32) -> Self::Output;

    /// Frees what a completion nobody waits for carries.
    fn discard(&mut self, _res: i32, _flags: u32) {}

    /// Test builds: ask for half of the bytes, to come back short.
    fn shorten(&mut self) {}
}

impl<T: Op> AnyOp for T {
    fn code(&self) -> u8 {
        T::CODE
    }

    fn sqe(&mut self) -> squeue::Entry {
        Op::sqe(self)
    }

    fn discard(&mut self, res: i32, flags: u32) {
        Op::discard(self, res, flags);
    }

    #[cfg(feature = "fault-injection")]
    fn shorten(&mut self) {
        Op::shorten(self);
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Runs one operation to its end.
pub async fn run<T: Op>(mut op: T) -> T::Output {
    match op.entry() {
        Entry::Inline(output) => output,
        Entry::Blocking(job) => job.run().await,
        Entry::Sqe => InFlight::<T>::submit(op).await,
    }
}

/// A single-shot operation the kernel holds. Dropping it cancels the operation. Its key means
/// something only on its own worker: not `Send`.
struct InFlight<T: Op> {
    key: Option<Key>,
    op: PhantomData<*const T>,
}

impl<T: Op> InFlight<T> {
    fn submit(op: T) -> Self {
        let key = exec::with_ring(|ring| ring.submit(Box::new(op)));
        InFlight {
            key: Some(key),
            op: PhantomData,
        }
    }
}

impl<T: Op> Unpin for InFlight<T> {}

impl<T: Op> Future for InFlight<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let outcome = exec::with_ring(|ring| ring.inflight.borrow_mut().take(key, cx.waker()));
        let Outcome::Done(op, res, flags) = outcome else {
            return Poll::Pending;
        };
        self.key = None;
        match op.into_any().downcast::<T>() {
            Ok(op) => Poll::Ready(op.complete(res, flags)),
            Err(_) => unreachable!("a generation names one op"),
        }
    }
}

impl<T: Op> Drop for InFlight<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            abandon(key);
        }
    }
}

fn abandon(key: Key) {
    // Without a running loop the ring is being torn down and takes care of its slab itself.
    let abandoned = exec::try_with_ring(|ring| ring.inflight.borrow_mut().abandon(key)).flatten();
    if abandoned.is_some_and(|a| a.finish()) {
        exec::try_with_ring(|ring| ring.cancel(key));
    }
}

/// A multishot operation: one submission, many completions.
pub trait MultiOp: Op {
    /// One completion.
    type Item;

    /// Turns a completion into an item.
    fn item(&mut self, res: i32, flags: u32) -> Self::Item;
}

/// Completions of a multishot operation, in order. Its key means something only on its own worker:
/// not `Send`.
pub struct Stream<T: MultiOp> {
    key: Key,
    op: PhantomData<*const T>,
}

/// Starts a multishot operation.
pub fn stream<T: MultiOp>(op: T) -> Stream<T> {
    Stream {
        key: exec::with_ring(|ring| ring.submit(Box::new(op))),
        op: PhantomData,
    }
}

impl<T: MultiOp> Stream<T> {
    /// The next item; ready with `None` once the kernel has ended the operation.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        let next = exec::with_ring(|ring| {
            ring.inflight
                .borrow_mut()
                .next(self.key, cx.waker(), |op, res, flags| {
                    op.as_any_mut()
                        .downcast_mut::<T>()
                        .map(|op| op.item(res, flags))
                })
        });
        match next {
            Ok(item) => Poll::Ready(item),
            Err(true) => Poll::Ready(None),
            Err(false) => Poll::Pending,
        }
    }

    /// The next item; `None` once the kernel has ended the operation.
    pub async fn next(&mut self) -> Option<T::Item> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Asks the kernel to end it; what came before still arrives, then `None`.
    pub fn cancel(&self) {
        exec::with_ring(|ring| ring.cancel(self.key));
    }
}

impl<T: MultiOp> Drop for Stream<T> {
    fn drop(&mut self) {
        abandon(self.key);
    }
}
