//! CREATE_SESSION's decisions (RFC 8881 18.36.4): one slot per client record that takes each request
//! once, what a session may be, and confirmation of the client record.

use std::sync::Arc;
use std::time::Instant;

use bitflags::bitflags;

use super::client::{Client, Principal};
use super::session::{Back, CbTarget, Channel, Plan};
use super::table::Gone;
use super::{Config, State};
use crate::nfs4::compound::OPS_MAX;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, Sessionid4};

/// Least bytes of a request or a reply: one with SEQUENCE alone and a credential.
const MESSAGE_MIN: u32 = 128;

bitflags! {
    /// `csa_flags`, `csr_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CreateFlags: u32 {
        /// Kept replies survive a restart: never so here.
        const PERSIST = 1;
        /// Callbacks may go over the connection of the request.
        const CONN_BACK_CHAN = 2;
        /// RDMA: never here.
        const CONN_RDMA = 4;
    }
}

/// A CREATE_SESSION.
pub struct CreateSession {
    /// `csa_clientid`.
    pub clientid: Clientid4,
    /// `csa_sequence`.
    pub sequence: u32,
    /// `csa_flags`.
    pub flags: u32,
    /// `csa_fore_chan_attrs`.
    pub fore: Channel,
    /// `csa_back_chan_attrs`.
    pub back: Channel,
    /// `csa_cb_program` and the first usable of `csa_sec_parms`.
    pub target: CbTarget,
    /// Who asks.
    pub principal: Principal,
    /// The connection, if callbacks can go over it.
    pub conn: Option<Arc<dyn Back>>,
}

/// What CREATE_SESSION answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// `csr_sessionid`.
    pub session: Sessionid4,
    /// `csr_sequence`.
    pub sequence: u32,
    /// `csr_flags`.
    pub flags: CreateFlags,
    /// `csr_fore_chan_attrs`.
    pub fore: Channel,
    /// `csr_back_chan_attrs`.
    pub back: Channel,
}

/// The slot of a client record that CREATE_SESSION runs in. A request that failed changed nothing: the
/// next may have its number or the one after.
#[derive(Default)]
pub(super) struct CreateSlot {
    sequence: u32,
    failed: bool,
    reply: Option<Created>,
}

impl CreateSlot {
    pub(super) fn next(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// The reply of the request of this number, `None` for a new one.
    fn begin(&self, sequence: u32) -> Result<Option<Created>, Nfsstat4> {
        if sequence == self.next() || self.failed && sequence == self.next().wrapping_add(1) {
            return Ok(None);
        }
        match self.reply {
            Some(reply) if sequence == self.sequence => Ok(Some(reply)),
            _ => Err(Nfsstat4::SeqMisordered),
        }
    }
}

impl Config {
    /// What a session's fore channel is when the client asks for this.
    ///
    /// # Errors
    /// `TOOSMALL`.
    fn fore(&self, asked: &Channel) -> Result<Channel, Nfsstat4> {
        if asked.max_request < MESSAGE_MIN || asked.max_response < MESSAGE_MIN || asked.max_ops == 0
        {
            return Err(Nfsstat4::Toosmall);
        }
        let max_response = asked.max_response.min(self.message_bytes);
        Ok(Channel {
            max_request: asked.max_request.min(self.message_bytes),
            max_response,
            max_cached: asked.max_cached.min(self.cached_bytes).min(max_response),
            max_ops: asked.max_ops.min(OPS_MAX),
            slots: asked.slots.clamp(1, self.slots.max(1)),
        })
    }

    /// What its backchannel is. Callbacks are CB_SEQUENCE and one operation, and small. A session without a
    /// connection for them yet may be given one later (RFC 8881 18.34).
    ///
    /// # Errors
    /// `TOOSMALL`.
    fn back(&self, asked: &Channel) -> Result<Channel, Nfsstat4> {
        let small = asked.max_request < MESSAGE_MIN || asked.max_response < MESSAGE_MIN;
        if small || asked.max_ops < 2 {
            return Err(Nfsstat4::Toosmall);
        }
        Ok(Channel {
            max_request: asked.max_request.min(self.message_bytes),
            max_response: asked.max_response.min(self.message_bytes),
            max_cached: 0,
            max_ops: asked.max_ops.min(OPS_MAX),
            slots: asked.slots.clamp(1, 64),
        })
    }
}

impl State {
    /// CREATE_SESSION. Confirms the client record and renews its lease. The record must be in stable
    /// storage ([`Client::is_durable`]) before the client is told.
    ///
    /// # Errors
    /// `STALE_CLIENTID`, `SEQ_MISORDERED`, `CLID_INUSE`, `INVAL`, `TOOSMALL`, `NOSPC` for more sessions
    /// than a client may have.
    pub fn create_session(
        &self,
        ask: CreateSession,
        now: Instant,
    ) -> Result<(Arc<Client>, Created), Nfsstat4> {
        let number = self.number_of(ask.clientid);
        let number = number.ok_or(Nfsstat4::StaleClientid)?;
        // Held to the end: of two requests of one number, the second sees the first's reply.
        let mut table = self.table();
        let client = self.client(number).filter(|c| c.has_sessions());
        let client = client.ok_or(Nfsstat4::StaleClientid)?;
        let before = client.lock().create.begin(ask.sequence)?;
        if let Some(reply) = before {
            return Ok((client, reply));
        }
        if !client.is_confirmed() && client.principal != ask.principal {
            return Err(Nfsstat4::ClidInuse);
        }
        let planned = self.plan(&client, &ask);
        let (flags, plan) = match planned {
            Ok(plan) => plan,
            Err(status) => {
                client.lock().create.failed = true;
                return Err(status);
            }
        };
        let mut gone = Gone::default();
        if !client.is_confirmed() {
            self.confirm(&mut table, &client, &mut gone);
        }
        self.renew(&client, now);
        let session = self.sessions.add(&client, plan);
        if flags.contains(CreateFlags::CONN_BACK_CHAN)
            && let Some(conn) = ask.conn
        {
            session.bind_back(conn);
        }
        let reply = Created {
            session: session.id,
            sequence: ask.sequence,
            flags,
            fore: session.fore,
            back: session.back,
        };
        let mut inner = client.lock();
        inner.create = CreateSlot {
            sequence: ask.sequence,
            failed: false,
            reply: Some(reply),
        };
        inner.sessions.push(session);
        drop(inner);
        drop(table);
        gone.bury(self);
        Ok((client, reply))
    }

    fn plan(&self, client: &Client, ask: &CreateSession) -> Result<(CreateFlags, Plan), Nfsstat4> {
        let asked = CreateFlags::from_bits(ask.flags).ok_or(Nfsstat4::Inval)?;
        let mut fore = self.config.fore(&ask.fore)?;
        let back = self.config.back(&ask.back)?;
        if client.lock().sessions.len() >= self.config.sessions_per_client {
            return Err(Nfsstat4::Nospc);
        }
        fore.slots = self.sessions.slots_that_fit(&fore, self.config.cache_bytes);
        let flags = match ask.conn {
            Some(_) => asked & CreateFlags::CONN_BACK_CHAN,
            None => CreateFlags::empty(),
        };
        let target = ask.target.clone();
        Ok((flags, Plan { fore, back, target }))
    }
}
