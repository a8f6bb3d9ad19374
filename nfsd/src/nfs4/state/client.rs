//! One client record (RFC 8881 2.4, RFC 7530 9.1.1): who it is, and everything it holds.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitflags::bitflags;

use super::copy::Copies;
use super::create::CreateSlot;
use super::holdings::Holdings;
use super::session::Session;
use crate::nfs4::cb::channel::Channel as CbChannel;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Clientid4, Verifier4};
use crate::rpc::auth::Identity;

/// Who makes a request, as far as state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// AUTH_NONE.
    Nobody,
    /// AUTH_SYS: the user.
    Sys(u32),
}

impl From<&Identity> for Principal {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::None => Self::Nobody,
            Identity::Unix(unix) => Self::Sys(unix.uid),
        }
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody => f.write_str("none"),
            Self::Sys(uid) => write!(f, "sys:{uid}"),
        }
    }
}

bitflags! {
    /// `sr_status_flags` of SEQUENCE (RFC 8881 18.46.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SeqStatus: u32 {
        /// No session of the client has a working backchannel.
        const CB_PATH_DOWN = 0x1;
        /// The lease expired and all state is lost.
        const EXPIRED_ALL_STATE_REVOKED = 0x8;
        /// The lease expired and some state is lost.
        const EXPIRED_SOME_STATE_REVOKED = 0x10;
        /// An administrator revoked state.
        const ADMIN_STATE_REVOKED = 0x20;
        /// A delegation was revoked.
        const RECALLABLE_STATE_REVOKED = 0x40;
        /// The server restarted: there is state to reclaim.
        const RESTART_RECLAIM_NEEDED = 0x100;
        /// This session has no working backchannel.
        const CB_PATH_DOWN_SESSION = 0x200;
        /// The backchannel does not make sense to the server.
        const BACKCHANNEL_FAULT = 0x400;
    }
}

/// A client as it introduces itself.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Minor version of the request.
    pub minor: u32,
    /// The name it gives itself (`nfs_client_id4.id`, `co_ownerid`).
    pub owner: &'a [u8],
    /// Tells its boots apart.
    pub verifier: Verifier4,
    /// Who asks.
    pub principal: Principal,
    /// From where.
    pub address: IpAddr,
}

/// Where a 4.0 client takes callbacks (`cb_client4` and `callback_ident`, RFC 7530 16.33).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback4 {
    /// RPC program.
    pub program: u32,
    /// Network id, such as `tcp`.
    pub netid: Box<[u8]>,
    /// Universal address.
    pub addr: Box<[u8]>,
    /// Sent with each callback.
    pub ident: u32,
}

/// A client record. What never changes is here, what does is atomic or behind [`Client::lock`].
pub struct Client {
    /// Number within this boot: the low half of its client ID, and in each of its stateids.
    pub number: u32,
    /// Its client ID.
    pub clientid: Clientid4,
    /// Made by SETCLIENTID (0) or by EXCHANGE_ID (1 and above).
    pub minor: u32,
    /// The name it gave itself (`nfs_client_id4.id`, `co_ownerid`).
    pub owner: Box<[u8]>,
    /// Tells its boots apart.
    pub verifier: Verifier4,
    /// Who made the record.
    pub principal: Principal,
    /// From where it was made.
    pub address: IpAddr,
    pub(super) confirmed: AtomicBool,
    durable: AtomicBool,
    tainted: AtomicBool,
    pub(super) recording: AtomicU32,
    reclaimed: AtomicBool,
    status: AtomicU32,
    /// Milliseconds on the clock of the state.
    pub(super) renewed: AtomicU64,
    /// The way to call it back.
    pub channel: CbChannel,
    inner: Mutex<Inner>,
}

/// What changes about a client, and what it holds.
#[derive(Default)]
pub struct Inner {
    /// Its sessions (4.1).
    pub sessions: Vec<Arc<Session>>,
    /// Its opens, locks and delegations.
    pub holdings: Holdings,
    /// Copies that go on behind their answers (4.2).
    pub copies: Copies,
    /// Where it takes callbacks (4.0).
    pub callback: Option<Callback4>,
    /// Of its last SETCLIENTID that was or can be confirmed (4.0).
    pub(super) confirm: Verifier4,
    /// The last CREATE_SESSION (4.1).
    pub(super) create: CreateSlot,
    /// No longer in the table: it must not get anything any more.
    pub(super) gone: bool,
}

impl Inner {
    /// Something would be lost with the client.
    #[must_use]
    pub fn has_state(&self) -> bool {
        !self.sessions.is_empty() || !self.holdings.is_empty() || self.copies.running() > 0
    }
}

impl Client {
    pub(super) fn new(number: u32, epoch: u32, who: &Who<'_>, now: u64) -> Self {
        Client {
            number,
            clientid: u64::from(epoch) << 32 | u64::from(number),
            minor: who.minor,
            owner: who.owner.into(),
            verifier: who.verifier,
            principal: who.principal,
            address: who.address,
            confirmed: AtomicBool::new(false),
            durable: AtomicBool::new(false),
            tainted: AtomicBool::new(false),
            recording: AtomicU32::new(0),
            reclaimed: AtomicBool::new(false),
            status: AtomicU32::new(0),
            renewed: AtomicU64::new(now),
            channel: CbChannel::default(),
            inner: Mutex::default(),
        }
    }

    /// The client's state. Never while another client's or a file's is held. Before adding to it, use
    /// [`Client::live`].
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's state, to add to it.
    ///
    /// # Errors
    /// `EXPIRED`: the client was dropped after the request found it.
    pub fn live(&self) -> Result<MutexGuard<'_, Inner>, Nfsstat4> {
        let inner = self.lock();
        if inner.gone {
            return Err(Nfsstat4::Expired);
        }
        Ok(inner)
    }

    /// Made by EXCHANGE_ID.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        self.minor > 0
    }

    /// CREATE_SESSION or SETCLIENTID_CONFIRM has shown that the client got its ID.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// The record is in stable storage.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }

    /// Its record is on its way to stable storage.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire) > 0
    }

    /// Some of its state was, or is about to be, revoked, and it has not seen that: it may not reclaim after a
    /// restart.
    #[must_use]
    pub fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Acquire)
    }

    /// Begins and ends that.
    pub fn taint(&self, tainted: bool) {
        self.tainted.store(tainted, Ordering::Release);
    }

    /// What [`super::State::recording`] began is over; `stable` if the record is in stable storage now.
    pub fn recorded(&self, stable: bool) {
        if stable {
            self.durable.store(true, Ordering::Release);
        }
        self.recording.fetch_sub(1, Ordering::AcqRel);
    }

    /// RECLAIM_COMPLETE was sent (4.1): the client may get new state.
    #[must_use]
    pub fn reclaim_is_complete(&self) -> bool {
        self.reclaimed.load(Ordering::Acquire)
    }

    /// RECLAIM_COMPLETE for all file systems.
    ///
    /// # Errors
    /// `COMPLETE_ALREADY`.
    pub fn reclaim_complete(&self) -> Result<(), Nfsstat4> {
        self.clear(SeqStatus::RESTART_RECLAIM_NEEDED);
        match self.reclaimed.swap(true, Ordering::AcqRel) {
            false => Ok(()),
            true => Err(Nfsstat4::CompleteAlready),
        }
    }

    /// What SEQUENCE tells the client.
    #[must_use]
    pub fn status(&self) -> SeqStatus {
        SeqStatus::from_bits_truncate(self.status.load(Ordering::Acquire))
    }

    /// Begins to tell the client.
    pub fn raise(&self, status: SeqStatus) {
        self.status.fetch_or(status.bits(), Ordering::AcqRel);
    }

    /// Ends to tell the client.
    pub fn clear(&self, status: SeqStatus) {
        // Mostly there is nothing to clear, and the word stays shared between cores.
        if self.status().intersects(status) {
            self.status.fetch_and(!status.bits(), Ordering::AcqRel);
        }
    }
}
