//! The Network Status Monitor (Open Group XNFS, chapter 11): who restarted. This server monitors the
//! hosts that lock here and tells them when it restarts itself; it monitors for nobody else.

pub mod notify;
pub mod proc;
pub mod types;
pub mod udp;

use std::net::IpAddr;

use crate::nlm::state::HostKey;
pub use proc::dispatch;

/// Restarts, of this server and of NLM's hosts.
pub struct Nsm {
    /// State number of this run: odd, above that of the previous one.
    pub state: i32,
    /// Hosts that were monitored before this start.
    before: Vec<HostKey>,
}

impl Nsm {
    /// Of a run with this state number, after one that monitored these hosts.
    #[must_use]
    pub fn new(state: i32, before: Vec<HostKey>) -> Self {
        Nsm { state, before }
    }

    /// The host locked before this start, so that it may reclaim. Of those that have changed either
    /// their address or their name since, the other counts.
    #[must_use]
    pub fn was_monitored(&self, ip: IpAddr, name: &[u8]) -> bool {
        let mut before = self.before.iter();
        before.any(|host| host.ip == ip || *host.name == *name)
    }
}
