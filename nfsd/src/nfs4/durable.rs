//! What must be in stable storage about a client before it is told (RFC 8881 8.4.2.1, RFC 7530
//! 9.6.3.4.3).

use crate::nfs4::recovery::{Class, ClientKey, ClientRecord, StoreError};
use crate::nfs4::state::client::Client;
use crate::nfs4::status::Nfsstat4;
use crate::server::Shared;

/// What the client is known by over restarts.
pub(super) fn key(client: &Client) -> Option<ClientKey> {
    ClientKey::new(Class::of(client.minor), &client.owner)
}

fn record(client: &Client) -> ClientRecord {
    let principal = client.principal.to_string();
    ClientRecord::new(client.verifier, &principal, Some(client.address))
}

/// The store is behind, or its disk is full: the client asks again.
fn later(error: StoreError) -> Nfsstat4 {
    tracing::debug!(%error, "a client record is not stable yet");
    Nfsstat4::Delay
}

/// A record was confirmed. Returns once it is stable; at once if it is already.
///
/// # Errors
/// `DELAY` when it cannot be written: the client asks again, and so is this.
pub async fn confirmed(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if let Some(key) = key(client).filter(|_| !client.is_durable()) {
        let put = server.recovery.put(key, record(client));
        put.await.map_err(later)?;
        client.set_durable();
    }
    Ok(())
}

/// A client ended itself.
///
/// # Errors
/// `DELAY` when its record cannot be removed.
pub async fn removed(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if let Some(key) = key(client) {
        server.grace.forget(&key);
        server.recovery.remove(key).await.map_err(later)?;
    }
    Ok(())
}

/// A client was expired: its record goes before that of a new client of the same name comes. Does
/// not wait.
pub fn expired(server: &Shared, client: &Client) {
    tracing::info!(client = client.number, address = %client.address, "client expired");
    if let Some(key) = key(client) {
        server.grace.forget(&key);
        drop(server.recovery.remove(key));
    }
}

/// RECLAIM_COMPLETE.
///
/// # Errors
/// `DELAY` when that cannot be written.
pub async fn reclaim_complete(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if let Some(key) = key(client) {
        let done = ClientRecord {
            reclaim_complete: true,
            ..record(client)
        };
        server
            .recovery
            .put(key.clone(), done)
            .await
            .map_err(later)?;
        server.grace.reclaim_complete(&key);
    }
    Ok(())
}
