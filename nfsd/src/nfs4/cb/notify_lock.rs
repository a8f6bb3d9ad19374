//! CB_NOTIFY_LOCK: a lock may be tried (RFC 8881 20.11). The client asks anyhow, only later: what
//! goes wrong here costs time, no lock.

use std::sync::Arc;

use super::wire::{CbArgs, CbNotifyLock4args};
use crate::nfs4::state::deleg::Waiter;
use crate::nfs4::types::{NfsFh4, OwnerName4, StateOwner4};
use crate::server::Shared;

/// Tells a client of version 4.1 or later.
pub async fn send(server: &Arc<Shared>, waiter: &Waiter) {
    let Some(client) = server.state.client(waiter.client) else {
        return;
    };
    if !client.has_sessions() {
        return;
    }
    let args = CbArgs::NotifyLock(CbNotifyLock4args {
        fh: NfsFh4(&waiter.fh),
        owner: StateOwner4 {
            clientid: client.clientid,
            owner: OwnerName4(&waiter.owner),
        },
    });
    let answer = client.channel.call(server, &client, &args).await;
    tracing::debug!(client = client.number, ?answer, "CB_NOTIFY_LOCK");
}
