//! The callbacks of one client that are under way or wait for their turn: bounded, and ended at once
//! when the client or the session goes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use vfs::exec::oneshot::{Receiver, Sender, channel};

use super::CbError;
use super::slots::SLOTS_MAX;
use crate::nfs4::types::Sessionid4;

/// Most callbacks of one client under way.
pub const RUNNING_MAX: usize = SLOTS_MAX;
/// Most that wait.
pub const WAITING_MAX: usize = 256;

struct Running {
    session: Option<Sessionid4>,
    /// Dropped to end the call.
    _end: Sender<()>,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    next: u64,
    running: HashMap<u64, Running, FixedState>,
    /// Dropped to wake who waits.
    waiting: Vec<Sender<()>>,
}

/// The callbacks of one client.
#[derive(Default)]
pub struct Queue(Mutex<Inner>);

/// A callback under way; it is over when this is dropped.
pub struct Place<'q> {
    queue: &'q Queue,
    id: u64,
}

enum Entry {
    Runs(u64, Receiver<()>),
    Waits(Receiver<()>),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_enter(&self) -> Result<Entry, CbError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(CbError::Closed);
        }
        if inner.running.len() >= RUNNING_MAX {
            return inner.wait().map(Entry::Waits);
        }
        let (end, ended) = channel();
        inner.next += 1;
        let id = inner.next;
        let running = Running {
            session: None,
            _end: end,
        };
        inner.running.insert(id, running);
        Ok(Entry::Runs(id, ended))
    }

    /// Waits for its turn. The receiver is done when the call is to end.
    ///
    /// # Errors
    /// `Closed`, `Busy`.
    pub async fn enter(&self) -> Result<(Place<'_>, Receiver<()>), CbError> {
        loop {
            match self.try_enter()? {
                Entry::Runs(id, ended) => return Ok((Place { queue: self, id }, ended)),
                Entry::Waits(turn) => turn.await,
            };
        }
    }

    /// Ends everything, now and from now on.
    pub fn close(&self) {
        let ended = {
            let mut inner = self.lock();
            inner.closed = true;
            (
                std::mem::take(&mut inner.running),
                std::mem::take(&mut inner.waiting),
            )
        };
        // Waking runs no task here, but takes locks.
        drop(ended);
    }

    /// The client is gone.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends what is under way in a session.
    pub fn end_session(&self, id: &Sessionid4) {
        let ended: Vec<Running> = {
            let mut inner = self.lock();
            let of_it = |running: &Running| running.session.as_ref() == Some(id);
            let ids: Vec<u64> = inner
                .running
                .iter()
                .filter(|(_, r)| of_it(r))
                .map(|(id, _)| *id)
                .collect();
            ids.iter()
                .filter_map(|id| inner.running.remove(id))
                .collect()
        };
        drop(ended);
    }

    /// Callbacks under way.
    pub fn running(&self) -> usize {
        self.lock().running.len()
    }
}

impl Inner {
    fn wait(&mut self) -> Result<Receiver<()>, CbError> {
        if self.closed {
            return Err(CbError::Closed);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(CbError::Busy);
        }
        let (wake, woken) = channel();
        self.waiting.push(wake);
        Ok(woken)
    }
}

impl Place<'_> {
    /// The call goes over this session.
    pub fn goes_over(&self, session: Sessionid4) {
        if let Some(running) = self.queue.lock().running.get_mut(&self.id) {
            running.session = Some(session);
        }
    }

    /// Done when another callback of the client has ended.
    ///
    /// # Errors
    /// As [`Queue::enter`].
    pub fn next_end(&self) -> Result<Receiver<()>, CbError> {
        self.queue.lock().wait()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let (own, woken) = {
            let mut inner = self.queue.lock();
            let own = inner.running.remove(&self.id);
            // All: one that is woken alone may have given up meanwhile.
            (own, std::mem::take(&mut inner.waiting))
        };
        drop((own, woken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn entered(queue: &Queue) -> (Place<'_>, Receiver<()>) {
        match poll(pin!(queue.enter())) {
            Poll::Ready(Ok(entered)) => entered,
            _ => panic!("no turn"),
        }
    }

    #[test]
    fn only_so_many_run_and_the_rest_wait() {
        let queue = Queue::default();
        let mut running: Vec<_> = (0..RUNNING_MAX).map(|_| entered(&queue)).collect();
        let mut next = pin!(queue.enter());
        assert!(poll(next.as_mut()).is_pending());
        running.pop();
        assert!(matches!(poll(next.as_mut()), Poll::Ready(Ok(_))));
        // The place just had is free again: what it came to was dropped.
        running.push(entered(&queue));
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(queue.enter())).collect();
        assert!(waiting.iter_mut().all(|w| poll(w.as_mut()).is_pending()));
        assert!(matches!(
            poll(pin!(queue.enter())),
            Poll::Ready(Err(CbError::Busy))
        ));
        queue.close();
        for (_, ended) in &mut running {
            assert!(poll(pin!(ended)).is_ready());
        }
        for wait in &mut waiting {
            assert!(matches!(
                poll(wait.as_mut()),
                Poll::Ready(Err(CbError::Closed))
            ));
        }
        assert_eq!(queue.running(), 0);
        assert!(queue.is_closed());
    }

    #[test]
    fn a_session_ends_its_own() {
        let queue = Queue::default();
        let (a, mut a_ended) = entered(&queue);
        let (b, mut b_ended) = entered(&queue);
        a.goes_over([1; 16]);
        b.goes_over([2; 16]);
        queue.end_session(&[1; 16]);
        assert!(poll(pin!(&mut a_ended)).is_ready());
        assert!(poll(pin!(&mut b_ended)).is_pending());
        assert_eq!(queue.running(), 1);
        drop((a, b));
        assert_eq!(queue.running(), 0);
    }
}
