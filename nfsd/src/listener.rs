//! Listening sockets, and the accept loop that deals connections out to the workers.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use vfs::uring::net_ops;
use vfs::{Errno, exec};

use crate::config::Listener;
use crate::server::{ServeError, Shared};
use crate::worker;

/// A bound socket and its real address.
#[derive(Clone)]
pub struct Listening {
    /// Where it listens.
    pub addr: SocketAddr,
    socket: Arc<OwnedFd>,
}

/// Binds every address; optional ones may fail with a warning.
///
/// # Errors
/// The first address that cannot be had, or none could.
pub fn bind(listeners: &[Listener]) -> Result<Vec<Listening>, ServeError> {
    let mut bound = Vec::new();
    for listener in listeners {
        match bind_patiently(listener.addr) {
            Ok(listening) => bound.push(listening),
            Err(error) if listener.optional => {
                tracing::warn!(address = %listener.addr, %error, "not listening there");
            }
            Err(error) => {
                let what = format!("listening on {}", listener.addr);
                return Err(ServeError::Start { what, error });
            }
        }
    }
    if bound.is_empty() {
        return Err(ServeError::Start {
            what: "no address to listen on".to_owned(),
            error: Errno::EINVAL,
        });
    }
    Ok(bound)
}

/// Port of the portmapper (RFC 1833 3).
pub const PORTMAPPER_PORT: u16 = 111;

/// The addresses to listen on; with `portmapper`, its port on each of them as well.
pub fn with_portmapper(listeners: &[Listener], portmapper: bool) -> Vec<Listener> {
    let mut all = listeners.to_vec();
    if portmapper {
        for listener in listeners {
            let addr = SocketAddr::new(listener.addr.ip(), PORTMAPPER_PORT);
            if all.iter().all(|l| l.addr != addr) {
                all.push(Listener { addr, ..*listener });
            }
        }
    }
    all
}

/// How long an address may be taken: the kernel takes the ring of a killed server apart, and closes
/// what it listened on, only after the process is gone.
const PATIENCE: Duration = Duration::from_secs(15);

fn bind_patiently(addr: SocketAddr) -> vfs::Result<Listening> {
    let end = exec::now() + PATIENCE;
    let mut said = false;
    loop {
        match bind_one(addr) {
            Err(Errno(libc::EADDRINUSE)) if exec::now() < end => {
                if !std::mem::replace(&mut said, true) {
                    let seconds = PATIENCE.as_secs();
                    tracing::info!(address = %addr, "in use: tried again for {seconds} s");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            bound => return bound,
        }
    }
}

fn bind_one(addr: SocketAddr) -> vfs::Result<Listening> {
    let family = if addr.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, 1024)?;
    let real = rustix::net::getsockname(&socket)?;
    let addr = SocketAddr::try_from(real).map_err(|_| Errno::EINVAL)?;
    Ok(Listening {
        addr,
        socket: Arc::new(socket),
    })
}

/// What every connection gets.
pub(crate) fn configure(socket: &OwnedFd) -> vfs::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    Ok(())
}

/// Accepts for ever.
pub async fn accept(shared: Arc<Shared>, listening: Listening) {
    loop {
        let mut incoming = net_ops::accept(&listening.socket);
        while let Some(accepted) = incoming.next().await {
            match accepted {
                Ok(socket) => place(&shared, socket),
                Err(Errno::ECANCELED) => return,
                Err(e) => {
                    tracing::warn!(address = %listening.addr, error = %e, "accept failed");
                    // EMFILE and the like pass when connections close.
                    exec::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Gives a connection to the worker with the fewest.
fn place(shared: &Arc<Shared>, socket: OwnedFd) {
    if let Err(e) = configure(&socket) {
        tracing::debug!(error = %e, "connection lost before it began");
        return;
    }
    let peer = rustix::net::getpeername(socket.as_fd());
    let Some(addr) = peer
        .ok()
        .flatten()
        .and_then(|a| SocketAddr::try_from(a).ok())
    else {
        return;
    };
    let Some(slot) = worker::admit(shared, addr.ip().to_canonical()) else {
        tracing::warn!(client = %addr, "too many connections: refused");
        return;
    };
    let server = shared.clone();
    shared.remotes[slot.worker()].post(move || worker::take_connection(server, socket, addr, slot));
}
