//! The server as the caller: RPC calls to the peer of a connection, over that connection.
//!
//! NFSv4.1 clients take callbacks on the connection they opened (RFC 8881 section 2.10.3.1); the
//! calls leave between the replies, and a reply record is told from a call by its `msg_type`. A
//! [`BackConn`] may be used from any worker; the connection itself never leaves its own.
//!
//! A connection with as many requests in flight as it may have is not read from, so replies to calls
//! wait as well; a request must not wait for them longer than the time-out of its call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vfs::exec::{self, Remote, oneshot};

use super::Conn;
use crate::cx::Reply;
use crate::rpc::auth::Credential;
use crate::rpc::calls::{self, CallError, Calls, Procedure};

/// What a call comes to.
pub(super) type Answer = Result<Vec<u8>, CallError>;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// This worker's connections, by id.
    static OPEN: RefCell<BTreeMap<u64, Weak<Conn>>> = RefCell::default();
}

/// This worker's connections, oldest first.
pub fn of_this_worker() -> Vec<Rc<Conn>> {
    OPEN.with_borrow(|open| open.values().filter_map(Weak::upgrade).collect())
}

fn find(id: u64) -> Option<Rc<Conn>> {
    OPEN.with_borrow(|open| open.get(&id).and_then(Weak::upgrade))
}

struct Identity {
    id: u64,
    peer: SocketAddr,
    worker: Arc<Remote>,
    open: AtomicBool,
}

/// A connection as seen from anywhere in the server. It does not keep the connection open.
#[derive(Clone)]
pub struct BackConn(Arc<Identity>);

impl BackConn {
    /// Of a connection to `peer` that `worker` serves or is about to.
    pub(crate) fn new(worker: Arc<Remote>, peer: SocketAddr) -> Self {
        BackConn(Arc::new(Identity {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer,
            worker,
            open: AtomicBool::new(true),
        }))
    }

    /// Names the connection: never given to another one while the process lives.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Address of the other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Whether calls can be made: the connection is there and the peer has not ended its direction.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Runs `job` on the connection's worker: now, if this is it.
    pub(super) fn post(&self, job: impl FnOnce() + Send + 'static) {
        if self.is_here() {
            job();
        } else {
            self.0.worker.post(job);
        }
    }

    fn is_here(&self) -> bool {
        let on_a_worker = exec::try_with_ring(|_| ()).is_some();
        on_a_worker && Arc::ptr_eq(&exec::remote(), &self.0.worker)
    }

    /// Closes the connection, soon.
    pub(super) fn close(&self) {
        let id = self.0.id;
        self.post(move || {
            if let Some(conn) = find(id) {
                conn.close();
            }
        });
    }

    /// Calls a procedure of the peer and waits for its results: what follows the header of the
    /// accepted reply. `args` are encoded arguments. Dropping the future gives up. Only on a worker.
    ///
    /// # Errors
    /// See [`CallError`]. A connection that ends fails its calls at once; one whose peer is silent
    /// fails each after its own `patience`.
    pub async fn call(
        &self,
        what: Procedure,
        cred: &Credential,
        args: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let message = calls::message(what, cred, args)?;
        if !self.is_open() {
            return Err(CallError::Closed);
        }
        let id = self.0.id;
        if self.is_here() {
            return call_here(id, message, patience).await;
        }
        let (sender, receiver) = oneshot::channel();
        self.0.worker.post(move || {
            exec::spawn(async move { sender.send(call_here(id, message, patience).await) });
        });
        // The other worker keeps time too; this is for one that is busy, or has ended.
        outcome(exec::timeout(patience, receiver).await)
    }
}

impl std::fmt::Debug for BackConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connection {} to {}", self.0.id, self.0.peer)
    }
}

fn outcome(waited: Option<Option<Answer>>) -> Answer {
    match waited {
        None => Err(CallError::TimedOut),
        Some(None) => Err(CallError::Closed),
        Some(Some(answer)) => answer,
    }
}

async fn call_here(id: u64, message: Vec<u8>, patience: Duration) -> Answer {
    let (waiting, receiver) = find(id).ok_or(CallError::Closed)?.begin_call(message)?;
    let answer = outcome(exec::timeout(patience, receiver).await);
    drop(waiting);
    answer
}

/// A call's place among those that wait, until dropped.
struct Waiting {
    conn: Weak<Conn>,
    xid: u32,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.upgrade() {
            let unanswered = conn.calls.borrow_mut().end(self.xid);
            drop(unanswered);
        }
    }
}

/// Calls of a new connection. A start nobody can guess keeps apart what two connections of one peer
/// see.
pub(super) fn none_waiting<T>() -> Calls<T> {
    Calls::new(getrandom::u32().unwrap_or(1))
}

impl Conn {
    /// This connection, for others to call its peer.
    pub fn back(&self) -> &BackConn {
        &self.client.back
    }

    /// Calls that wait for a reply.
    pub fn calls_waiting(&self) -> usize {
        self.calls.borrow().len()
    }

    pub(super) fn enlist(self: &Rc<Self>) {
        let this = (self.back().id(), Rc::downgrade(self));
        OPEN.with_borrow_mut(|open| open.extend([this]));
    }

    fn begin_call(
        self: &Rc<Self>,
        mut message: Vec<u8>,
    ) -> Result<(Waiting, oneshot::Receiver<Answer>), CallError> {
        if !self.back().is_open() {
            return Err(CallError::Closed);
        }
        let queued = self.out.borrow().bytes + message.len();
        if queued as u64 > self.server.config.limits.reply_bytes {
            return Err(CallError::Busy);
        }
        let (sender, receiver) = oneshot::channel();
        let begun = self.calls.borrow_mut().begin(sender);
        let xid = begun.map_err(|_| CallError::Busy)?;
        calls::set_xid(&mut message, xid);
        self.send(Reply {
            bytes: message,
            payload: None,
            ..Reply::default()
        });
        let conn = Rc::downgrade(self);
        Ok((Waiting { conn, xid }, receiver))
    }

    /// A record that is not a call has come: if it is the reply somebody waits for, it is handed on.
    pub fn answered(&self, record: &[u8]) {
        if record.len() > calls::REPLY_MAX {
            tracing::info!(client = %self.client.addr, "reply too long: connection closed");
            self.close();
            return;
        }
        let waiter = calls::reply_xid(record).and_then(|xid| self.calls.borrow_mut().end(xid));
        match waiter {
            Some(waiter) => waiter.send(calls::results(record).map(<[u8]>::to_vec)),
            None => tracing::debug!(client = %self.client.addr, "reply nobody waits for"),
        }
    }

    /// No replies will come any more: whoever waits for one learns it.
    pub(super) fn hang_up(&self) {
        self.back().0.open.store(false, Ordering::Release);
        let waiting = self.calls.borrow_mut().end_all();
        drop(waiting);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.back().0.open.store(false, Ordering::Release);
        let id = self.back().id();
        // Without the list the thread is ending, and the list with it.
        let _ = OPEN.try_with(|open| open.borrow_mut().remove(&id));
    }
}
