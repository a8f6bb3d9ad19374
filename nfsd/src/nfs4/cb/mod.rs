//! Callbacks: what the server asks of its clients (RFC 7530 section 10, RFC 8881 section 20, RFC 7862
//! section 16).
//!
//! A callback is a future of its own: no request waits for one longer than it says itself, and a
//! client that does not answer delays nobody but itself.

pub mod channel;
pub mod getattr;
pub mod notify_lock;
pub mod offload;
pub mod queue;
pub mod recall;
pub mod recall_any;
mod session;
pub mod slots;
pub mod wire;

use std::sync::{Arc, Weak};

use vfs::exec;

use crate::nfs3::types::StableHow;
use crate::nfs4::state::client::Client;
use crate::nfs4::state::copy::{Ended, Notifier};
use crate::nfs4::state::deleg::{DelegRef, Recaller, Waiter};
use crate::nfs4::status::Nfsstat4;
use crate::server::Shared;
use recall::Recalls;
use wire::{OffloadInfo4, WriteResponse4};

/// Why a callback has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CbError {
    /// There is no way to the client now.
    #[error("no way to the client")]
    Down,
    /// The client, or the session of the call, is gone.
    #[error("the client is gone")]
    Closed,
    /// Too many callbacks wait for the client already.
    #[error("too many callbacks wait")]
    Busy,
    /// No reply: whether it ran is not known.
    #[error("no reply")]
    Lost,
    /// The client takes no such callbacks.
    #[error("the client refuses callbacks")]
    Refused,
    /// The reply is not one.
    #[error("the reply is not one")]
    Garbage,
}

/// What goes on towards all clients.
#[derive(Default)]
pub struct Callbacks {
    /// Delegations asked back.
    pub recalls: Recalls,
}

/// The way from the state to the clients.
struct Way(Weak<Shared>);

impl Way {
    /// Runs `job` on some worker, later: whoever calls may hold a lock.
    fn post(&self, which: u32, job: impl FnOnce(&Arc<Shared>) + Send + 'static) {
        let Some(server) = self.0.upgrade() else {
            return;
        };
        // One client's callbacks leave from one worker.
        let worker = which as usize % server.remotes.len().max(1);
        if let Some(remote) = server.remotes.get(worker).cloned() {
            remote.post(move || job(&server));
        }
    }
}

impl Recaller for Way {
    fn recall(&self, conflicts: &[DelegRef]) {
        for deleg in conflicts {
            let deleg = *deleg;
            self.post(deleg.client, move |server| recall::recall(server, &[deleg]));
        }
    }

    fn reaches(&self, client: &Client) -> bool {
        client.channel.is_up(client)
    }

    fn notify_lock(&self, waiter: &Waiter) {
        let waiter = waiter.clone();
        self.post(waiter.client, move |server| {
            let server = server.clone();
            exec::spawn(async move { notify_lock::send(&server, &waiter).await });
        });
    }
}

impl Notifier for Way {
    fn reaches(&self, client: &Client) -> bool {
        client.channel.is_up(client)
    }

    fn offloaded(&self, ended: Ended) {
        let which = ended.clientid as u32;
        self.post(which, move |server| {
            let Some(client) = server.state.client(which) else {
                return;
            };
            let server = server.clone();
            exec::spawn(async move {
                let info = match ended.status {
                    Nfsstat4::Ok => OffloadInfo4::Done(WriteResponse4 {
                        callback_id: None,
                        count: ended.count,
                        committed: StableHow::Unstable.wire(),
                        verifier: ended.verifier,
                    }),
                    status => OffloadInfo4::Failed(status, ended.count),
                };
                let sent = offload::send(&server, &client, &ended.fh, ended.stateid, info).await;
                if let Err(error) = sent {
                    // It asks by OFFLOAD_STATUS.
                    tracing::debug!(client = which, %error, "the end of a copy was not told");
                }
            });
        });
    }
}

/// Lets the state reach its clients.
pub fn start(server: &Arc<Shared>) {
    // A second time changes nothing.
    let _ = server
        .state
        .recaller
        .set(Box::new(Way(Arc::downgrade(server))));
    let _ = server
        .state
        .notifier
        .set(Box::new(Way(Arc::downgrade(server))));
}
