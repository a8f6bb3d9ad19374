//! All hosts, found by address and name or by number.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vfs::locks::ClientId;

use super::{Full, HOSTS_MAX, Host, HostKey, IDLE, Inner, OURS};

#[derive(Default)]
struct Table {
    by_key: HashMap<HostKey, Arc<Host>>,
    by_id: HashMap<ClientId, Arc<Host>>,
    last: u64,
}

/// All hosts.
#[derive(Default)]
pub struct Hosts {
    table: Mutex<Table>,
    numbers: Arc<AtomicU64>,
}

impl Hosts {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host, made if there is none.
    ///
    /// # Errors
    /// [`Full`].
    pub fn host(&self, ip: IpAddr, name: &[u8], now: Instant) -> Result<Arc<Host>, Full> {
        let key = HostKey {
            ip,
            name: name.into(),
        };
        let mut table = self.table();
        if let Some(host) = table.by_key.get(&key) {
            host.inner().seen = Some(now);
            return Ok(host.clone());
        }
        if table.by_key.len() >= HOSTS_MAX {
            return Err(Full);
        }
        table.last += 1;
        let host = Arc::new(Host {
            key: key.clone(),
            id: ClientId(OURS | table.last),
            numbers: self.numbers.clone(),
            inner: Mutex::new(Inner {
                seen: Some(now),
                ..Inner::default()
            }),
        });
        table.by_key.insert(key, host.clone());
        table.by_id.insert(host.id, host.clone());
        Ok(host)
    }

    /// The host, if it is known.
    #[must_use]
    pub fn known(&self, ip: IpAddr, name: &[u8]) -> Option<Arc<Host>> {
        let key = HostKey {
            ip,
            name: name.into(),
        };
        self.table().by_key.get(&key).cloned()
    }

    /// The host the files know by this number.
    #[must_use]
    pub fn by_id(&self, id: ClientId) -> Option<Arc<Host>> {
        self.table().by_id.get(&id).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.table().by_key.values().cloned().collect()
    }

    /// Whom a notification from `ip` about `name` concerns: who calls itself that there. As names
    /// differ for many reasons, one that nobody has is that of the only one there.
    #[must_use]
    pub fn called(&self, ip: IpAddr, name: &[u8]) -> Vec<Arc<Host>> {
        let all = self.all();
        let is_called = |host: &&Arc<Host>| host.key.is_called(name);
        let (there, elsewhere): (Vec<_>, Vec<_>) = all.iter().partition(|h| h.key.ip == ip);
        let mut called: Vec<_> = there.iter().copied().filter(is_called).collect();
        if called.is_empty() && there.len() == 1 && !elsewhere.iter().any(is_called) {
            called = there;
        }
        called.into_iter().cloned().collect()
    }

    /// Forgets hosts that have held nothing for a while, and tells which: they are not monitored any
    /// more.
    pub fn sweep(&self, now: Instant) -> Vec<HostKey> {
        let mut table = self.table();
        let idle = |host: &Host| {
            let mut inner = host.inner();
            let old = inner.seen.is_none_or(|seen| now >= seen + IDLE);
            inner.gone = old && inner.is_idle();
            inner.gone
        };
        let gone: Vec<Arc<Host>> = table
            .by_key
            .values()
            .filter(|host| idle(host))
            .cloned()
            .collect();
        for host in &gone {
            table.by_key.remove(&host.key);
            table.by_id.remove(&host.id);
        }
        gone.iter()
            .filter(|host| host.is_durable())
            .map(|host| host.key.clone())
            .collect()
    }
}
