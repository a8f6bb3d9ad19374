//! One client record (RFC 8881 2.4, RFC 7530 9.1.1): who it is, and everything it holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::copy::Copies;
use super::holdings::Holdings;
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

/// A client record. What never changes is here, what does is behind [`Client::lock`].
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
    inner: Mutex<Inner>,
}

/// What a client holds.
#[derive(Default)]
pub struct Inner {
    /// Owners, opens, locks, delegations.
    pub holdings: Holdings,
    /// Copies that go on behind their answers (4.2).
    pub copies: Copies,
}

impl Client {
    /// The client's state. Never while another client's or a file's is held.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
