//! Calls to a host: its port mapper says where a program listens (RFC 1833), then the call, over
//! connections of their own. Such calls are seldom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::conn;
use crate::rpc::auth::Credential;
use crate::rpc::calls::{CallError, Procedure};
use crate::rpc::portmap::{
    IPPROTO_TCP, Mapping, PMAP_PORT, PMAP_PROG, PMAP_V2, PmapProc, RPCB_V4, Rpcb, RpcbProc,
    RpcbString,
};
use crate::rpc::uaddr::parse_universal_addr;
use crate::server::Shared;
use crate::xdr::{Dec, Enc, Encode};

/// How long a host may take for each of a connection and a call.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest arguments: two names, two handles.
const ARGS_MAX: usize = 8 << 10;

/// Encoded arguments.
///
/// # Errors
/// [`CallError::TooLong`].
pub fn encoded(args: &impl Encode) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    let put = Enc::new(&mut bytes, ARGS_MAX).put(args);
    put.map(|()| bytes).map_err(|_| CallError::TooLong)
}

async fn call_at(
    server: &Arc<Shared>,
    from: Option<SocketAddr>,
    addr: SocketAddr,
    what: Procedure,
    args: &[u8],
) -> Result<Vec<u8>, CallError> {
    let connected = conn::connect(server, from, addr, PATIENCE).await;
    let connection = connected.map_err(|error| {
        tracing::debug!(%addr, %error, "cannot connect");
        CallError::Closed
    })?;
    let cred = Credential::none();
    connection.back().call(what, &cred, args, PATIENCE).await
}

/// Port of a program on a host.
async fn port(
    server: &Arc<Shared>,
    from: Option<SocketAddr>,
    ip: IpAddr,
    [prog, vers]: [u32; 2],
) -> Result<u16, CallError> {
    let mapper = SocketAddr::new(ip, PMAP_PORT);
    let port = if ip.is_ipv4() {
        let what = Procedure {
            prog: PMAP_PROG,
            vers: PMAP_V2,
            proc: PmapProc::Getport.wire(),
        };
        let wanted = Mapping {
            prog,
            vers,
            prot: IPPROTO_TCP,
            port: 0,
        };
        let answer = call_at(server, from, mapper, what, &encoded(&wanted)?).await?;
        let port = Dec::new(&answer).u32().ok();
        port.and_then(|port| u16::try_from(port).ok())
    } else {
        let what = Procedure {
            prog: PMAP_PROG,
            vers: RPCB_V4,
            proc: RpcbProc::Getaddr.wire(),
        };
        let wanted = Rpcb {
            r_prog: prog,
            r_vers: vers,
            r_netid: RpcbString(b"tcp6"),
            r_addr: RpcbString(b""),
            r_owner: RpcbString(b""),
        };
        let answer = call_at(server, from, mapper, what, &encoded(&wanted)?).await?;
        let address = Dec::new(&answer).get::<RpcbString<'_>>().ok();
        let address = address.and_then(|text| parse_universal_addr(text.0));
        address.map(|address| address.port())
    };
    port.filter(|port| *port != 0).ok_or(CallError::Closed)
}

/// Calls a program of a host, from the address `from` if there is one: Linux knows the server it waits for, or has
/// monitored, by its address.
///
/// # Errors
/// See [`CallError`]; `Closed` also when the host does not have the program.
pub async fn call(
    server: &Arc<Shared>,
    from: Option<SocketAddr>,
    ip: IpAddr,
    what: Procedure,
    args: &[u8],
) -> Result<Vec<u8>, CallError> {
    let port = port(server, from, ip, [what.prog, what.vers]).await?;
    call_at(server, from, SocketAddr::new(ip, port), what, args).await
}
