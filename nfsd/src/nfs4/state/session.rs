//! Sessions (RFC 8881 2.10): their channels, the connections callbacks go over, and the table of
//! sessions, by which each request finds its client.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use arrayvec::ArrayVec;

use super::State;
use super::client::{Client, SeqStatus};
use super::slot::{Print, Seen, SlotGuard, Slots};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Sessionid4;
use crate::rpc::auth::sys::MAX_GIDS;

/// Most connections of one session's backchannel.
pub const BACK_MAX: usize = 16;

/// A connection callbacks can be sent over, as the state sees it.
pub trait Back: Any + Send + Sync {
    /// Names the connection: never given to another one.
    fn id(&self) -> u64;
    /// It can still be used.
    fn is_open(&self) -> bool;
}

/// What goes over one channel of a session at most (`channel_attrs4` without RDMA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Bytes of a request, with its RPC header.
    pub max_request: u32,
    /// Bytes of a reply, with its RPC header.
    pub max_response: u32,
    /// Bytes of a reply that is kept for retransmissions.
    pub max_cached: u32,
    /// Operations of a request.
    pub max_ops: u32,
    /// Slots: requests at a time.
    pub slots: u32,
}

/// The credential of callbacks (`callback_sec_parms4`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CbSec {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS with these parameters.
    Sys {
        /// Arbitrary number.
        stamp: u32,
        /// Name of the machine.
        machine: Box<[u8]>,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        gids: ArrayVec<u32, MAX_GIDS>,
    },
}

/// How a session's callbacks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CbTarget {
    /// RPC program.
    pub program: u32,
    /// Credential.
    pub sec: CbSec,
}

/// Which way a connection is to be used (`channel_dir_from_client4`, RFC 8881 18.34).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Requests.
    pub fore: bool,
    /// Callbacks.
    pub back: bool,
}

struct Backchannel {
    target: CbTarget,
    conns: Vec<Arc<dyn Back>>,
    /// It had a connection once.
    was_up: bool,
}

/// A session.
pub struct Session {
    /// Its name.
    pub id: Sessionid4,
    /// Whose it is.
    pub client: Arc<Client>,
    /// Requests.
    pub fore: Channel,
    /// Callbacks.
    pub back: Channel,
    pub(super) slots: Slots,
    backchannel: Mutex<Backchannel>,
    path_down: AtomicBool,
    /// Bytes of kept replies it may have, counted in `reserved` of the table.
    cache_bytes: usize,
    reserved: Arc<AtomicUsize>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reserved.fetch_sub(self.cache_bytes, Ordering::AcqRel);
    }
}

impl Session {
    fn backchannel(&self) -> MutexGuard<'_, Backchannel> {
        let lock = self.backchannel.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Highest slot a request may use.
    #[must_use]
    pub fn highest_slot(&self) -> u32 {
        self.slots.len().saturating_sub(1)
    }

    /// A request runs in it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.slots.any_busy()
    }

    /// As if the reply of no request had been kept.
    #[cfg(test)]
    pub(crate) fn forget_replies(&self) {
        for slot in 0..self.slots.len() {
            if let Ok(mut slot) = self.slots.get(slot) {
                slot.forget();
            }
        }
    }

    /// How its callbacks are made.
    #[must_use]
    pub fn callback(&self) -> CbTarget {
        self.backchannel().target.clone()
    }

    /// Its callbacks are made like this from now on (BACKCHANNEL_CTL).
    pub fn set_callback(&self, target: CbTarget) {
        self.backchannel().target = target;
        self.client.clear(SeqStatus::BACKCHANNEL_FAULT);
    }

    /// An open connection for callbacks, the one bound last.
    #[must_use]
    pub fn back_conn(&self) -> Option<Arc<dyn Back>> {
        let backchannel = self.backchannel();
        let mut conns = backchannel.conns.iter().rev();
        conns.find(|conn| conn.is_open()).cloned()
    }

    /// Callbacks may go over this connection, too.
    pub fn bind_back(&self, conn: Arc<dyn Back>) {
        let mut backchannel = self.backchannel();
        let id = conn.id();
        backchannel.conns.retain(|c| c.id() != id && c.is_open());
        if backchannel.conns.len() >= BACK_MAX {
            backchannel.conns.remove(0);
        }
        backchannel.conns.push(conn);
        backchannel.was_up = true;
        drop(backchannel);
        self.path_down.store(false, Ordering::Release);
        self.client.clear(SeqStatus::CB_PATH_DOWN);
    }

    /// Forgets closed connections. Whether a backchannel that was there has none left.
    pub(super) fn check_back(&self) -> bool {
        let mut backchannel = self.backchannel();
        backchannel.conns.retain(|conn| conn.is_open());
        let down = backchannel.was_up && backchannel.conns.is_empty();
        self.path_down.store(down, Ordering::Release);
        down
    }

    /// A callback over it failed: the client is told until it binds a connection.
    pub fn callback_failed(&self, conn: u64) {
        self.backchannel().conns.retain(|c| c.id() != conn);
        if self.check_back() {
            self.client.path_lost();
        }
    }

    /// What SEQUENCE tells about this session and its client.
    #[must_use]
    pub fn status(&self) -> SeqStatus {
        let status = self.client.status();
        match self.path_down.load(Ordering::Acquire) {
            true => status | SeqStatus::CB_PATH_DOWN_SESSION,
            false => status,
        }
    }
}

impl Client {
    /// A session has no backchannel left: tells the client when none has.
    pub(super) fn path_lost(&self) {
        let inner = self.lock();
        if inner.sessions.iter().all(|s| s.back_conn().is_none()) {
            self.raise(SeqStatus::CB_PATH_DOWN);
        }
    }

    /// Any open connection for callbacks, and the session it belongs to.
    #[must_use]
    pub fn back_conn(&self) -> Option<(Arc<Session>, Arc<dyn Back>)> {
        let inner = self.lock();
        let mut sessions = inner.sessions.iter().rev();
        sessions.find_map(|s| Some((s.clone(), s.back_conn()?)))
    }
}

type Shard = RwLock<HashMap<u64, Arc<Session>, foldhash::fast::RandomState>>;
const SHARDS: usize = 16;

/// All sessions, by the number in their name.
#[derive(Default)]
pub(super) struct Sessions {
    shards: [Shard; SHARDS],
    next: AtomicU64,
    reserved: Arc<AtomicUsize>,
}

fn number_of(id: &Sessionid4) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What a new session is made of.
pub(super) struct Plan {
    pub fore: Channel,
    pub back: Channel,
    pub target: CbTarget,
}

impl Sessions {
    fn shard(&self, number: u64) -> &Shard {
        &self.shards[number as usize % SHARDS]
    }

    pub(super) fn get(&self, id: &Sessionid4) -> Option<Arc<Session>> {
        let number = number_of(id);
        let shard = self.shard(number).read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        shard.get(&number).filter(|s| s.id == *id).cloned()
    }

    /// Slots of a session that wants `channel`: fewer when much is reserved for kept replies already.
    pub(super) fn slots_that_fit(&self, channel: &Channel, budget: usize) -> u32 {
        const LEAST: usize = 8;
        let free = budget.saturating_sub(self.reserved.load(Ordering::Acquire));
        let fit = free / (channel.max_cached as usize).max(1);
        channel.slots.min(fit.max(LEAST) as u32)
    }

    pub(super) fn add(&self, client: &Arc<Client>, plan: Plan) -> Arc<Session> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&client.clientid.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        let cache_bytes = plan.fore.slots as usize * plan.fore.max_cached as usize;
        self.reserved.fetch_add(cache_bytes, Ordering::AcqRel);
        let session = Arc::new(Session {
            id,
            client: client.clone(),
            fore: plan.fore,
            back: plan.back,
            slots: Slots::new(plan.fore.slots),
            backchannel: Mutex::new(Backchannel {
                target: plan.target,
                conns: Vec::new(),
                was_up: false,
            }),
            path_down: AtomicBool::new(false),
            cache_bytes,
            reserved: self.reserved.clone(),
        });
        let shard = self.shard(number).write();
        let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
        shard.insert(number, session.clone());
        session
    }

    pub(super) fn remove(&self, id: &Sessionid4) -> Option<Arc<Session>> {
        let number = number_of(id);
        let shard = self.shard(number).write();
        let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
        match shard.get(&number) {
            Some(session) if session.id == *id => shard.remove(&number),
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        let len = |shard: &Shard| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(len).sum()
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }
}

/// A SEQUENCE, and what else of its request matters.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// `sa_sessionid`.
    pub session: Sessionid4,
    /// `sa_sequenceid`.
    pub sequence: u32,
    /// `sa_slotid`.
    pub slot: u32,
    /// `sa_cachethis`.
    pub keep: bool,
    /// Tells the request from others.
    pub print: Print,
    /// Bytes of the request with its RPC header.
    pub request_bytes: usize,
    /// Bytes of the reply with its RPC header if nothing follows SEQUENCE.
    pub reply_bytes: usize,
}

/// What a SEQUENCE turned out to be.
pub enum Turn {
    /// A new request: it runs in this slot.
    New(SlotGuard),
    /// A retransmission: the results as they were sent.
    Replay(Arc<[u8]>),
    /// A retransmission of what was not kept: SEQUENCE succeeds, what follows it does not run.
    Unkept(Arc<Session>),
}

impl State {
    /// The session of this name.
    #[must_use]
    pub fn session(&self, id: &Sessionid4) -> Option<Arc<Session>> {
        self.sessions.get(id)
    }

    /// SEQUENCE (RFC 8881 18.46.3). Renews the lease.
    ///
    /// # Errors
    /// `BADSESSION`, `TOO_MANY_OPS`, `REQ_TOO_BIG`, `REP_TOO_BIG`, `REP_TOO_BIG_TO_CACHE`, `BADSLOT`,
    /// `DELAY`, `SEQ_MISORDERED`, `SEQ_FALSE_RETRY`.
    pub fn sequence(&self, ask: &Sequence, now: Instant) -> Result<Turn, Nfsstat4> {
        let session = self.sessions.get(&ask.session);
        let session = session.ok_or(Nfsstat4::Badsession)?;
        let fore = &session.fore;
        if ask.print.ops > fore.max_ops {
            return Err(Nfsstat4::TooManyOps);
        }
        if ask.request_bytes > fore.max_request as usize {
            return Err(Nfsstat4::ReqTooBig);
        }
        if ask.reply_bytes > fore.max_response as usize {
            return Err(Nfsstat4::RepTooBig);
        }
        if ask.keep && ask.reply_bytes > fore.max_cached as usize {
            return Err(Nfsstat4::RepTooBigToCache);
        }
        let mut slot = session.slots.get(ask.slot)?;
        let seen = slot.begin(ask.sequence, ask.print, ask.keep)?;
        drop(slot);
        self.renew(&session.client, now);
        Ok(match seen {
            Seen::New => Turn::New(SlotGuard {
                session,
                slot: ask.slot,
                done: false,
            }),
            Seen::Again(reply) => Turn::Replay(reply),
            Seen::Unkept => Turn::Unkept(session),
        })
    }

    /// DESTROY_SESSION (RFC 8881 18.37). Requests that run in it go on and end.
    ///
    /// # Errors
    /// `BADSESSION`.
    pub fn destroy_session(&self, id: &Sessionid4) -> Result<(), Nfsstat4> {
        let session = self.sessions.remove(id).ok_or(Nfsstat4::Badsession)?;
        let mut inner = session.client.lock();
        inner.sessions.retain(|s| s.id != *id);
        Ok(())
    }

    /// BIND_CONN_TO_SESSION (RFC 8881 18.34): which ways the connection is used from now on. Requests
    /// are taken from every connection, so only the backchannel is kept.
    ///
    /// # Errors
    /// `BADSESSION`; `INVAL` for a connection that can only be used for callbacks and takes none.
    pub fn bind(
        &self,
        id: &Sessionid4,
        wanted: Direction,
        must_back: bool,
        conn: Option<Arc<dyn Back>>,
        now: Instant,
    ) -> Result<Direction, Nfsstat4> {
        let session = self.sessions.get(id).ok_or(Nfsstat4::Badsession)?;
        self.renew(&session.client, now);
        let bound = match conn {
            Some(conn) if wanted.back => {
                session.bind_back(conn);
                true
            }
            _ if must_back => return Err(Nfsstat4::Inval),
            _ => false,
        };
        Ok(Direction {
            fore: wanted.fore,
            back: bound,
        })
    }
}
