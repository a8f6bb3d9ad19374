//! What must be in stable storage about a client before it is told (RFC 8881 8.4.2.1, RFC 7530
//! 9.6.3.4.3).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use vfs::exec;

use crate::nfs4::recovery::{Class, ClientKey, ClientRecord, Pending, StoreError};
use crate::nfs4::state::client::Client;
use crate::nfs4::status::Nfsstat4;
use crate::server::Shared;

/// What the client is known by over restarts.
pub(super) fn key(client: &Client) -> Option<ClientKey> {
    ClientKey::new(Class::of(client.minor), &client.owner)
}

fn record(client: &Client) -> ClientRecord {
    let principal = client.principal.to_string();
    ClientRecord {
        may_reclaim: !client.is_tainted(),
        ..ClientRecord::new(client.verifier, &principal, Some(client.address))
    }
}

/// The store is behind, or its disk is full: the client asks again.
fn later(error: StoreError) -> Nfsstat4 {
    tracing::debug!(%error, "a client record is not stable yet");
    Nfsstat4::Delay
}

/// Writes the client's record. Not before it is known which of its state of before it has got back:
/// until then the record of before says rightly what it may reclaim (RFC 8881 8.4.3).
async fn put(server: &Shared, client: &Client, record: ClientRecord) -> Result<(), Nfsstat4> {
    let Some(key) = key(client) else {
        return Ok(());
    };
    let begin = || server.recovery.put(key, record);
    let put = server.state.recording(client, begin);
    let put = Recording {
        put,
        client,
        stable: false,
    };
    put.await.map_err(later)
}

/// A record on its way, also when nobody waits for it any more.
struct Recording<'c> {
    put: Pending,
    client: &'c Client,
    stable: bool,
}

impl Future for Recording<'_> {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.put).poll(cx));
        self.stable = result.is_ok();
        Poll::Ready(result)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.client.recorded(self.stable);
    }
}

/// The client gets its first state: its record must be stable before. At once if it is already. In
/// 4.1 RECLAIM_COMPLETE comes first, so this is for 4.0.
///
/// # Errors
/// `DELAY` when it cannot be written: the client asks again, and so is this.
pub async fn begins(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if client.has_sessions() || client.is_durable() {
        return Ok(());
    }
    put(server, client, record(client)).await
}

/// A 4.0 client does something else than reclaim, so it has reclaimed all it wants (RFC 7530 9.6.3.4.2).
/// If that comes after the end of grace, which had to take it for one that was cut off in the middle, it
/// is trusted again. Does not wait: at worst it may not reclaim.
pub fn goes_on(server: &Arc<Shared>, client: &Arc<Client>) {
    if client.has_sessions() || client.is_durable() {
        return;
    }
    if server.grace.in_grace() {
        if let Some(key) = key(client) {
            server.grace.goes_on(&key);
        }
    } else if !client.is_recording() && client.lock().has_state() {
        let (server, client) = (server.clone(), client.clone());
        exec::spawn(async move {
            let _ = put(&server, &client, record(&client)).await;
        });
    }
}

/// Somebody got something. If a client was expired, it may have been its: returns once that client
/// cannot reclaim it, whenever the server stops (first edge condition of RFC 8881 8.4.3).
///
/// # Errors
/// `DELAY` when that cannot be written.
pub async fn settled(server: &Shared) -> Result<(), Nfsstat4> {
    match server.state.any_expired() {
        true => Box::pin(settle(server)).await,
        false => Ok(()),
    }
}

async fn settle(server: &Shared) -> Result<(), Nfsstat4> {
    let mut removals = Vec::new();
    let gone = server.state.each_expired(|client| {
        tracing::info!(client = client.number, address = %client.address, "client is gone");
        if let Some(key) = key(client) {
            server.grace.forget(&key);
            removals.push(server.recovery.remove(key));
        }
    });
    for removal in removals {
        removal.await.map_err(later)?;
    }
    let gone = gone.ok_or(Nfsstat4::Delay)?;
    server.state.settled(&gone);
    Ok(())
}

/// Some state is about to be revoked: it must not be reclaimed after a restart (RFC 8881 8.4.3).
///
/// # Errors
/// `DELAY` when that cannot be written.
pub async fn revoked(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    // First, so that no record on its way later says otherwise.
    client.taint(true);
    if let Some(key) = key(client) {
        server.recovery.revoke(key).await.map_err(later)?;
    }
    Ok(())
}

/// The client has seen what was revoked: it may reclaim again. Does not wait: at worst it may not.
pub fn seen(server: &Arc<Shared>, client: &Arc<Client>) {
    client.taint(false);
    // Before, grace may have ended without all it had.
    if client.reclaim_is_complete() {
        let (server, client) = (server.clone(), client.clone());
        exec::spawn(async move {
            let _ = put(&server, &client, complete(&client)).await;
        });
    }
}

fn complete(client: &Client) -> ClientRecord {
    ClientRecord {
        reclaim_complete: true,
        ..record(client)
    }
}

/// RECLAIM_COMPLETE: what the client has now is all it may reclaim after the next restart.
///
/// # Errors
/// `COMPLETE_ALREADY`; `DELAY` when it cannot be written: the client asks again.
pub async fn reclaim_complete(server: &Shared, client: &Client) -> Result<(), Nfsstat4> {
    if client.reclaim_is_complete() {
        return Err(Nfsstat4::CompleteAlready);
    }
    put(server, client, complete(client)).await?;
    client.reclaim_complete()?;
    if let Some(key) = key(client) {
        server.grace.reclaim_complete(&key);
    }
    Ok(())
}
