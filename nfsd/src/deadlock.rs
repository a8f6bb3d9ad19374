//! Locks that would be waited for in a circle, whatever protocols those who wait use (RFC 8881 18.10.3
//! NFS4ERR_DEADLOCK, XNFS 10.3.1 NLM4_DEADLCK).
//!
//! It is looked at when a request has joined those that wait, so that of two that close a circle at the same time one
//! sees it. Waits of 4.0 are not known: their clients only ask again.

use std::sync::Arc;

use vfs::exec;
use vfs::locks::{Holder, Waiting, is_circle};

use crate::nfs4::state::client::Client;
use crate::nlm::state::{Host, OwnerName};
use crate::server::Shared;

fn client(server: &Shared, holder: Holder) -> Option<Arc<Client>> {
    let number = u32::try_from(holder.client.0).ok()?;
    server.state.client(number)
}

/// What a holder waits for, on whichever file.
fn waits(server: &Shared, holder: Holder) -> Vec<Waiting> {
    if let Some(client) = client(server, holder) {
        return client.lock().holdings.waits_of(holder.owner, exec::now());
    }
    let host = server.nlm.by_id(holder.client);
    host.map_or(Vec::new(), |host| host.waits_of(holder.owner))
}

/// Whether a lock-owner of version 4 would wait in a circle. No client may be held.
pub fn of_client(server: &Shared, own: Holder, first: Waiting) -> bool {
    is_circle(
        first,
        |holder| holder == own,
        |holder| waits(server, holder),
    )
}

/// Whether an owner of an NLM host would. It has a number of its own on each file.
pub fn of_host(server: &Shared, host: &Host, name: &OwnerName, first: Waiting) -> bool {
    let own = |holder: Holder| {
        holder.client == host.id && host.owner_name(holder.owner).as_ref() == Some(name)
    };
    is_circle(first, own, |holder| waits(server, holder))
}
