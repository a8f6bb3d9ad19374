//! The way to one client: in version 4.0 a connection of the server's own to where the client wants
//! its callbacks (RFC 7530 10.2), later the connections of a session's backchannel (RFC 8881
//! 2.10.3.1, 2.10.6). A call fails rather than waits when there is no way; nobody else waits for it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use vfs::exec;
use vfs::exec::oneshot::Receiver;
use vfs::order::Turn;

use super::queue::Queue;
use super::wire::{CB_COMPOUND, CB_NULL, CB_VERSION, CbArgs, CbCompound, CbDone, CbReply};
use super::{CbError, session};
use crate::conn::{self, OutConn};
use crate::nfs4::state::client::{Callback4, Client, Principal, SeqStatus};
use crate::nfs4::types::Sessionid4;
use crate::rpc::auth::Credential;
use crate::rpc::auth::sys::AuthSys;
use crate::rpc::calls::{CallError, Procedure};
use crate::rpc::uaddr::callback_addr;
use crate::server::Shared;
use crate::xdr::{Enc, Encode};

/// Longest arguments of a callback: a filehandle, an owner, and little more.
const ARGS_MAX: usize = 4096;
/// How long nobody connects again after that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the first call to a 4.0 client is tried after it introduced itself.
const PROBES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// Connections tried for one call.
pub(super) const CONNS_TRIED: usize = 3;

#[derive(Default)]
struct Own {
    conn: Option<OutConn>,
    /// CB_NULL came back.
    proven: bool,
    /// Connecting failed: not again before.
    not_before: Option<Instant>,
    /// Counts where callbacks are wanted.
    generation: u64,
}

/// The way to one client.
#[derive(Default)]
pub struct Channel {
    queue: Queue,
    own: Mutex<Own>,
    connecting: Turn,
}

/// How long a client may take to answer.
pub(super) fn patience(server: &Shared) -> Duration {
    (server.state.config.lease / 10).max(Duration::from_secs(1))
}

/// `work`, unless it is to end before.
async fn unless<T>(ended: Receiver<()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut ended, mut work) = (pin!(ended), pin!(work));
    std::future::poll_fn(|cx| {
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

pub(super) fn encoded(value: &impl Encode) -> Result<Vec<u8>, CbError> {
    let mut bytes = Vec::new();
    let put = Enc::new(&mut bytes, ARGS_MAX).put(value);
    put.map(|()| bytes).map_err(|_| CbError::Refused)
}

impl Channel {
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Callbacks under way.
    pub fn running(&self) -> usize {
        self.queue.running()
    }

    /// The client is gone: every call ends at once, and none begins. Not under its mutex.
    pub fn close(&self) {
        self.queue.close();
        let conn = self.own().conn.take();
        drop(conn);
    }

    /// A session is gone: its calls end at once.
    pub fn end_session(&self, id: &Sessionid4) {
        self.queue.end_session(id);
    }

    /// Calls the client and waits for its answer, its turn among the client's calls included.
    ///
    /// # Errors
    /// See [`CbError`].
    pub async fn call(
        &self,
        server: &Arc<Shared>,
        client: &Arc<Client>,
        args: &CbArgs<'_>,
    ) -> Result<CbDone, CbError> {
        let (place, ended) = self.queue.enter().await?;
        let work = async {
            if client.has_sessions() {
                session::call(server, client, &place, args).await
            } else {
                self.call_own(server, client, args).await
            }
        };
        unless(ended, work).await.unwrap_or(Err(CbError::Closed))
    }

    async fn call_own(
        &self,
        server: &Arc<Shared>,
        client: &Arc<Client>,
        args: &CbArgs<'_>,
    ) -> Result<CbDone, CbError> {
        let callback = client.lock().callback.clone().ok_or(CbError::Down)?;
        let bytes = encoded(&CbCompound {
            minor: 0,
            ident: callback.ident,
            sequence: None,
            op: Some(args),
        })?;
        let exchanged = self.exchange(server, client, &callback, CB_COMPOUND, &bytes);
        let answer = exchanged.await?;
        let reply = CbReply::decode(&answer, false).map_err(|_| CbError::Garbage)?;
        reply.op.ok_or(CbError::Garbage)
    }

    /// One call over the own connection, made anew if it was closed. What is called may run twice.
    async fn exchange(
        &self,
        server: &Arc<Shared>,
        client: &Client,
        callback: &Callback4,
        procedure: u32,
        args: &[u8],
    ) -> Result<Vec<u8>, CbError> {
        let what = Procedure {
            prog: callback.program,
            vers: CB_VERSION,
            proc: procedure,
        };
        let cred = credential(client.principal);
        for _ in 0..CONNS_TRIED {
            let conn = match self.connection(server, client, callback).await {
                Ok(conn) => conn,
                Err(error) => return Err(self.lost(client, error)),
            };
            let back = conn.back();
            match back.call(what, &cred, args, patience(server)).await {
                Ok(answer) => {
                    client.clear(SeqStatus::CB_PATH_DOWN);
                    return Ok(answer);
                }
                Err(CallError::Busy | CallError::TooLong) => return Err(CbError::Busy),
                Err(CallError::Refused(_)) => return Err(self.lost(client, CbError::Refused)),
                Err(CallError::Closed) => self.forget(back.id()),
                Err(CallError::TimedOut | CallError::Garbage) => {
                    self.forget(back.id());
                    break;
                }
            }
        }
        self.own().not_before = exec::now().checked_add(PAUSE);
        Err(self.lost(client, CbError::Lost))
    }

    /// The open connection, or a new one.
    async fn connection(
        &self,
        server: &Arc<Shared>,
        client: &Client,
        callback: &Callback4,
    ) -> Result<OutConn, CbError> {
        let from = SocketAddr::new(client.address, 0);
        let to = callback_addr(&callback.netid, &callback.addr, &from).ok_or(CbError::Down)?;
        let _alone = self.connecting.take().await;
        let generation = {
            let own = self.own();
            if let Some(conn) = own.conn.as_ref().filter(|conn| conn.back().is_open()) {
                return Ok(conn.clone());
            }
            if own.not_before.is_some_and(|at| exec::now() < at) {
                return Err(CbError::Down);
            }
            own.generation
        };
        let connected = conn::connect(server, None, to, patience(server)).await;
        let mut own = self.own();
        match connected {
            Ok(conn) if own.generation == generation && !self.queue.is_closed() => {
                let old = own.conn.replace(conn.clone());
                drop(own);
                drop(old);
                Ok(conn)
            }
            Ok(_) => Err(CbError::Down),
            Err(error) => {
                tracing::debug!(client = client.number, %to, %error, "no callback connection");
                own.not_before = exec::now().checked_add(PAUSE);
                Err(CbError::Down)
            }
        }
    }

    fn forget(&self, id: u64) {
        let mut own = self.own();
        let old = own.conn.take_if(|conn| conn.back().id() == id);
        drop(own);
        drop(old);
    }

    /// No way: RENEW tells a client that holds delegations (RFC 7530 16.28.4), which then introduces
    /// itself anew.
    fn lost(&self, client: &Client, error: CbError) -> CbError {
        let delegated = client.lock().holdings.counts().delegations > 0;
        if delegated {
            client.raise(SeqStatus::CB_PATH_DOWN);
        }
        error
    }

    /// Whether the client answers callbacks, as far as is known: it can be given delegations.
    pub fn is_up(&self, client: &Client) -> bool {
        let down = SeqStatus::CB_PATH_DOWN | SeqStatus::BACKCHANNEL_FAULT;
        if client.status().intersects(down) {
            return false;
        }
        if client.has_sessions() {
            return client.back_conn().is_some();
        }
        self.own().proven
    }

    /// Where a 4.0 client wants its callbacks is confirmed: tries whether it answers there.
    pub fn confirmed(server: &Arc<Shared>, client: &Arc<Client>) {
        let (generation, old) = {
            let mut own = client.channel.own();
            own.generation += 1;
            own.proven = false;
            own.not_before = None;
            (own.generation, own.conn.take())
        };
        drop(old);
        let (server, client) = (server.clone(), client.clone());
        exec::spawn(async move { client.channel.probe(&server, &client, generation).await });
    }

    async fn probe(&self, server: &Arc<Shared>, client: &Arc<Client>, generation: u64) {
        let callback = client.lock().callback.clone();
        let Some(callback) = callback else { return };
        for pause in PROBES {
            exec::sleep(pause).await;
            if self.own().generation != generation {
                return;
            }
            let Ok((_place, ended)) = self.queue.enter().await else {
                return;
            };
            let call = self.exchange(server, client, &callback, CB_NULL, &[]);
            let answered = unless(ended, call).await;
            let mut own = self.own();
            match answered {
                Some(Ok(_)) if own.generation == generation => {
                    own.proven = true;
                    return;
                }
                Some(Err(_)) => own.not_before = None,
                Some(Ok(_)) | None => return,
            }
        }
    }
}

/// Callbacks of 4.0 have the flavor of SETCLIENTID (RFC 7530 3.3.3), and come from the server itself.
fn credential(principal: Principal) -> Credential {
    let server = AuthSys {
        stamp: 0,
        machinename: b"ringnfs",
        uid: 0,
        gid: 0,
        gids: Default::default(),
    };
    match principal {
        Principal::Nobody => Credential::none(),
        Principal::Sys(_) => Credential::sys(&server).unwrap_or_else(|_| Credential::none()),
    }
}
