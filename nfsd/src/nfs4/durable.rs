//! What must be in stable storage about a client before it is told (RFC 8881 8.4.2.1, RFC 7530
//! 9.6.3.4.3).
//!
//! Nothing is kept over a restart yet: clients lose what they held.

use crate::nfs4::state::client::Client;
use crate::nfs4::status::Nfsstat4;
use crate::server::Shared;

/// A record was confirmed. Returns once it is stable; at once if it is already.
///
/// # Errors
/// `DELAY` when it cannot be written: the client asks again, and so is this.
pub async fn confirmed(_server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if !client.is_durable() {
        client.set_durable();
    }
    Ok(())
}

/// A client ended itself.
///
/// # Errors
/// `DELAY` when its record cannot be removed.
pub async fn removed(_server: &Shared, _client: &Client) -> Result<(), Nfsstat4> {
    Ok(())
}

/// A client was expired: its record goes before that of a new client of the same name comes. Does
/// not wait.
pub fn expired(_server: &Shared, client: &Client) {
    tracing::info!(client = client.number, address = %client.address, "client expired");
}

/// RECLAIM_COMPLETE.
///
/// # Errors
/// `DELAY` when that cannot be written.
pub async fn reclaim_complete(_server: &Shared, _client: &Client) -> Result<(), Nfsstat4> {
    Ok(())
}
