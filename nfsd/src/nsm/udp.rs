//! The status monitor over UDP: hosts that restart tell it so by that alone (Linux's sm-notify(8)),
//! and ask the port mapper by UDP where. One thread for each address, which is idle nearly always;
//! nothing else is served here, and no answer is much longer than what asked for it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use super::proc;
use super::types::{SM_PROG, SM_VERS};
use crate::cx::Reply;
use crate::rpc::msg::{self, Call, Parsed, Refusal};
use crate::rpc::portmap::{PMAP_PROG, PMAP_V2, PmapProc, RPCB_V4, RpcbProc};
use crate::rpc::portmap_proc;
use crate::server::Shared;
use crate::xdr::Enc;

/// Longest datagram looked at.
const LONGEST: usize = 4096;
/// Room for an answer.
const ANSWER: usize = 1024;
/// Pause after an error of the socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves at every address the server listens on. Where that cannot be, TCP has to do.
pub fn start(server: &Arc<Shared>, addresses: &[SocketAddr]) {
    for address in addresses {
        let server = Arc::downgrade(server);
        let serve = bind(*address).and_then(|socket| {
            std::thread::Builder::new()
                .name("status".to_owned())
                .spawn(move || serve(&server, &socket))
        });
        if let Err(error) = serve {
            tracing::warn!(%address, %error, "no UDP there: restarts of NLM clients may not be heard of");
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

fn serve(server: &Weak<Shared>, socket: &UdpSocket) {
    let mut buffer = [0; LONGEST];
    loop {
        let (len, peer) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "UDP");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(server) = server.upgrade() else {
            return;
        };
        let datagram = buffer.get(..len).unwrap_or_default();
        if let Some(answer) = answer(&server, peer, datagram) {
            // Who gets none asks again.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn answer(server: &Shared, peer: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let (xid, refusal) = match msg::parse(datagram) {
        Parsed::Call(call) => {
            let mut reply = Reply {
                bytes: msg::success_header(call.xid).to_vec(),
                ..Reply::default()
            };
            match run(server, peer, &call, &mut reply) {
                Ok(()) => return Some(reply.bytes),
                Err(refusal) => (call.xid, refusal),
            }
        }
        Parsed::Refuse { xid, refusal } => (xid, refusal),
        Parsed::Ignore(_) => return None,
    };
    let mut bytes = Vec::new();
    let refused = msg::encode_refusal(&mut Enc::new(&mut bytes, ANSWER), xid, refusal);
    refused.ok().map(|()| bytes)
}

fn run(
    server: &Shared,
    peer: SocketAddr,
    call: &Call<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let (vers, args) = (call.vers, call.args.clone());
    match call.prog {
        SM_PROG if vers == SM_VERS => {
            proc::run(server, peer.ip().to_canonical(), call.proc, args, reply)
        }
        SM_PROG => Err(Refusal::ProgMismatch {
            low: SM_VERS,
            high: SM_VERS,
        }),
        PMAP_PROG if server.config.portmapper && asks_for_a_port(vers, call.proc) => {
            portmap_proc::answer(server.port, vers, call.proc, args, reply)
        }
        _ => Err(Refusal::ProgUnavail),
    }
}

/// Not for lists: their answer would be longer than the question.
fn asks_for_a_port(vers: u32, proc: u32) -> bool {
    let known = match vers {
        PMAP_V2 => [PmapProc::Null.wire(), PmapProc::Getport.wire()],
        _ => [RpcbProc::Null.wire(), RpcbProc::Getaddr.wire()],
    };
    (PMAP_V2..=RPCB_V4).contains(&vers) && known.contains(&proc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_not_sent_by_udp() {
        for vers in [2, 3, 4] {
            let asked: Vec<u32> = (0..20).filter(|p| asks_for_a_port(vers, *p)).collect();
            assert_eq!(asked, [0, 3]);
        }
        assert!(!asks_for_a_port(1, 0) && !asks_for_a_port(5, 0));
    }
}
