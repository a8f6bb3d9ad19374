//! Connections this server opens: to where an NFSv4.0 client wants its callbacks
//! (RFC 7530 section 16.33, SETCLIENTID).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use vfs::uring::net_ops;
use vfs::{Errno, exec};

use super::BackConn;
use crate::server::Shared;
use crate::{listener, worker};

/// An outgoing connection: closed when the last clone is dropped, or by the peer before that. Calls
/// that come in on it are not answered; they end it.
#[derive(Clone, Debug)]
pub struct OutConn(Arc<Owner>);

#[derive(Debug)]
struct Owner(BackConn);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl OutConn {
    /// To call the peer with.
    pub fn back(&self) -> &BackConn {
        &self.0.0
    }
}

/// Connects over TCP, within `patience`, from the address `from` if that is given and still here. It counts as one of the peer's connections. Only on a
/// worker; the connection is served by the worker with the fewest.
///
/// # Errors
/// `connect(2)`; `ETIMEDOUT` after `patience`, `EMFILE` above the limits on connections, `EAGAIN`
/// while the server stops.
pub async fn connect(
    server: &Arc<Shared>,
    from: Option<SocketAddr>,
    peer: SocketAddr,
    patience: Duration,
) -> Result<OutConn, Errno> {
    let family = if peer.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let slot = worker::admit(server, peer.ip().to_canonical()).ok_or(Errno::EMFILE)?;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(from) = from {
        bind(&socket, from, peer);
    }
    let connected = exec::timeout(patience, net_ops::connect(socket, peer)).await;
    let socket = connected.unwrap_or(Err(Errno::ETIMEDOUT))?;
    listener::configure(&socket)?;
    if server.stopping.load(Ordering::Acquire) {
        return Err(Errno::EAGAIN);
    }
    let back = BackConn::new(server.remotes[slot.worker()].clone(), peer);
    let owned = OutConn(Arc::new(Owner(back.clone())));
    let server = server.clone();
    back.clone()
        .post(move || worker::take_outgoing(server, socket, back, slot));
    Ok(owned)
}

/// Has `socket` connect from `from`, any port. When it cannot, the kernel chooses.
fn bind(socket: &OwnedFd, mut from: SocketAddr, peer: SocketAddr) {
    from.set_port(0);
    let from = match (from, peer) {
        // What came by an IPv4-mapped address.
        (SocketAddr::V6(_), SocketAddr::V4(_)) => SocketAddr::new(from.ip().to_canonical(), 0),
        _ => from,
    };
    if from.is_ipv4() == peer.is_ipv4()
        && let Err(error) = rustix::net::bind(socket, &from)
    {
        tracing::debug!(%from, %error, "calling from another address");
    }
}
