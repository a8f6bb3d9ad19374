//! The procedures of the port mapper and of rpcbind (RFC 1833 sections 2.2 and 3.2), answering for
//! the programs served here and nothing else: registrations are refused, indirect calls not offered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::UNIX_EPOCH;

use super::PROGRAMS;
use super::msg::Refusal;
use super::portmap::{
    IPPROTO_TCP, IPPROTO_UDP, Mapping, PMAP_V2, PmapProc, RPCB_V4, Rpcb, RpcbProc, RpcbString,
};
use super::uaddr::{UniversalAddr, netid, parse_universal_addr, universal_addr};
use crate::cx::{Cx, Reply};
use crate::nsm::types::SM_PROG;
use crate::xdr::{Dec, XdrError, encode_chain};

/// Who registered what is served here.
const OWNER: RpcbString<'static> = RpcbString(b"superuser");

/// Runs a procedure of version `vers`; the results are appended to `reply`.
///
/// # Errors
/// `ProcUnavail`; `GarbageArgs` for arguments that do not decode; `SystemErr` for results that do
/// not fit. `reply` may hold a part of the results then.
pub async fn dispatch(
    cx: &Cx,
    vers: u32,
    proc: u32,
    args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    answer(cx.server.port, vers, proc, args, reply)
}

/// As [`dispatch`], for a server on `port`.
///
/// # Errors
/// As [`dispatch`].
pub fn answer(
    port: u16,
    vers: u32,
    proc: u32,
    args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    if vers == PMAP_V2 {
        version_2(port, proc, args, reply)
    } else {
        version_3_and_4(port, vers, proc, args, reply)
    }
}

/// Of all programs, only the status monitor is there by UDP.
fn served_by_udp(prog: u32, vers: u32) -> bool {
    prog == SM_PROG && served(prog, vers)
}

fn served(prog: u32, vers: u32) -> bool {
    let mut programs = PROGRAMS.iter();
    programs.any(|program| program.number == prog && program.versions.contains(&vers))
}

/// Every program and version.
fn all() -> impl Iterator<Item = (u32, u32)> {
    PROGRAMS
        .iter()
        .flat_map(|program| program.versions.iter().map(|vers| (program.number, *vers)))
}

fn version_2(port: u16, proc: u32, mut args: Dec<'_>, reply: &mut Reply) -> Result<(), Refusal> {
    let done = match PmapProc::from_wire(proc) {
        Some(PmapProc::Null) => Ok(()),
        Some(PmapProc::Set | PmapProc::Unset) => {
            args.get::<Mapping>()?;
            reply.put(&false)
        }
        Some(PmapProc::Getport) => {
            let wanted = args.get::<Mapping>()?;
            let here = match wanted.prot {
                IPPROTO_TCP => served(wanted.prog, wanted.vers),
                IPPROTO_UDP => served_by_udp(wanted.prog, wanted.vers),
                _ => false,
            };
            reply.put(&if here { u32::from(port) } else { 0 })
        }
        Some(PmapProc::Dump) => {
            let mappings = all().map(|(prog, vers)| Mapping {
                prog,
                vers,
                prot: IPPROTO_TCP,
                port: u32::from(port),
            });
            encode_chain(&mut reply.enc(), mappings)
        }
        Some(PmapProc::Callit) | None => return Err(Refusal::ProcUnavail),
    };
    done.map_err(|_| Refusal::SystemErr)
}

fn version_3_and_4(
    port: u16,
    vers: u32,
    proc: u32,
    mut args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let done = match RpcbProc::from_wire(proc) {
        Some(RpcbProc::Null) => Ok(()),
        Some(RpcbProc::Set | RpcbProc::Unset) => {
            args.get::<Rpcb<'_>>()?;
            reply.put(&false)
        }
        Some(RpcbProc::Getaddr) => {
            let address = address(port, &args.get()?);
            reply.put(&RpcbString(address.as_bytes()))
        }
        Some(RpcbProc::Getversaddr) if vers == RPCB_V4 => {
            let address = address(port, &args.get()?);
            reply.put(&RpcbString(address.as_bytes()))
        }
        Some(RpcbProc::Dump) => dump(port, reply),
        Some(RpcbProc::Gettime) => {
            let now = vfs::exec::wall_clock().duration_since(UNIX_EPOCH);
            let seconds = now.map_or(0, |since| since.as_secs());
            reply.put(&u32::try_from(seconds).unwrap_or(u32::MAX))
        }
        _ => return Err(Refusal::ProcUnavail),
    };
    done.map_err(|_| Refusal::SystemErr)
}

/// The wildcard address of a network id; none for others than TCP.
fn wildcard(name: &[u8], port: u16) -> Option<SocketAddr> {
    let hosts = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let mut addrs = hosts.into_iter().map(|ip| SocketAddr::new(ip, port));
    addrs.find(|addr| netid(addr).as_bytes() == name)
}

/// Where a program is: at the address by which the client says it knows this host, which is how
/// rpcbind chooses among several; otherwise at the wildcard address. Empty when it is not here.
fn address(port: u16, wanted: &Rpcb<'_>) -> UniversalAddr {
    let (prog, vers) = (wanted.r_prog, wanted.r_vers);
    let (here, name) = match wanted.r_netid.0 {
        b"udp" => (served_by_udp(prog, vers), &b"tcp"[..]),
        b"udp6" => (served_by_udp(prog, vers), &b"tcp6"[..]),
        name => (served(prog, vers), name),
    };
    let Some(wildcard) = wildcard(name, port).filter(|_| here) else {
        return UniversalAddr::new();
    };
    let known = parse_universal_addr(wanted.r_addr.0);
    let known = known.filter(|addr| addr.is_ipv4() == wildcard.is_ipv4());
    let ip = known.map_or(wildcard.ip(), |addr| addr.ip());
    universal_addr(&SocketAddr::new(ip, port))
}

fn dump(port: u16, reply: &mut Reply) -> Result<(), XdrError> {
    let names = ["tcp", "tcp6"];
    let addrs = names.map(|name| (name, wildcard(name.as_bytes(), port)));
    let addrs = addrs.map(|(name, addr)| {
        let text = addr.map_or(UniversalAddr::new(), |addr| universal_addr(&addr));
        (name, text)
    });
    let entries = all().flat_map(|(r_prog, r_vers)| {
        addrs.iter().map(move |(name, addr)| Rpcb {
            r_prog,
            r_vers,
            r_netid: RpcbString(name.as_bytes()),
            r_addr: RpcbString(addr.as_bytes()),
            r_owner: OWNER,
        })
    });
    encode_chain(&mut reply.enc(), entries)
}

#[cfg(test)]
mod tests {
    use super::super::portmap::{PmapList, RpcbList};
    use super::*;
    use crate::xdr::{Enc, Encode};

    fn bytes(value: &impl Encode) -> Vec<u8> {
        let mut buf = Vec::new();
        Enc::new(&mut buf, 4096).put(value).expect("fits");
        buf
    }

    fn v2(proc: PmapProc, args: &impl Encode) -> Vec<u8> {
        let mut reply = Reply::default();
        let args = bytes(args);
        version_2(2049, proc.wire(), Dec::new(&args), &mut reply).expect("answers");
        reply.bytes
    }

    fn v4(proc: RpcbProc, args: &impl Encode) -> Vec<u8> {
        let mut reply = Reply::default();
        let args = bytes(args);
        version_3_and_4(2049, 4, proc.wire(), Dec::new(&args), &mut reply).expect("answers");
        reply.bytes
    }

    fn mapping(prog: u32, vers: u32, prot: u32) -> Mapping {
        Mapping {
            prog,
            vers,
            prot,
            port: 0,
        }
    }

    fn rpcb<'a>(vers: u32, netid: &'a str, addr: &'a str) -> Rpcb<'a> {
        Rpcb {
            r_prog: 100_003,
            r_vers: vers,
            r_netid: RpcbString(netid.as_bytes()),
            r_addr: RpcbString(addr.as_bytes()),
            r_owner: RpcbString(b""),
        }
    }

    #[test]
    fn ports() {
        for (prog, vers, prot, port) in [
            (100_003, 3, IPPROTO_TCP, 2049_u32),
            (100_003, 4, IPPROTO_TCP, 2049),
            (100_005, 1, IPPROTO_TCP, 2049),
            (100_005, 3, IPPROTO_TCP, 2049),
            (100_000, 2, IPPROTO_TCP, 2049),
            (100_227, 3, IPPROTO_TCP, 2049),
            (100_003, 3, IPPROTO_UDP, 0),
            (100_003, 2, IPPROTO_TCP, 0),
            (100_021, 4, IPPROTO_TCP, 2049),
            (100_021, 1, IPPROTO_TCP, 2049),
            (100_021, 2, IPPROTO_TCP, 0),
            (100_024, 1, IPPROTO_TCP, 2049),
            (100_024, 1, IPPROTO_UDP, 2049),
            (100_021, 4, IPPROTO_UDP, 0),
            (100_024, 1, 132, 0),
            (100_024, 2, IPPROTO_TCP, 0),
        ] {
            let port = port.to_be_bytes();
            assert_eq!(v2(PmapProc::Getport, &mapping(prog, vers, prot)), port);
        }
    }

    #[test]
    fn nobody_registers() {
        for proc in [PmapProc::Set, PmapProc::Unset] {
            assert_eq!(v2(proc, &mapping(100_021, 4, IPPROTO_TCP)), [0; 4]);
        }
        for proc in [RpcbProc::Set, RpcbProc::Unset] {
            assert_eq!(v4(proc, &rpcb(3, "tcp", "0.0.0.0.8.1")), [0; 4]);
        }
    }

    #[test]
    fn lists() {
        let raw = v2(PmapProc::Dump, &());
        let list: PmapList<'_> = Dec::new(&raw).get().expect("decodes");
        let listed: Vec<_> = list.iter().map(|m| (m.prog, m.vers, m.port)).collect();
        assert_eq!(listed.len(), 14);
        assert!(listed.contains(&(100_003, 3, 2049)));
        let raw = v4(RpcbProc::Dump, &());
        let list: RpcbList<'_> = Dec::new(&raw).get().expect("decodes");
        assert_eq!(list.iter().count(), 28);
        assert!(list.iter().any(|r| r.r_addr.0 == b"::.8.1"));
    }

    #[test]
    fn addresses() {
        for (wanted, expected) in [
            (rpcb(3, "tcp", ""), "0.0.0.0.8.1"),
            (rpcb(3, "tcp6", "garbage"), "::.8.1"),
            (rpcb(3, "tcp", "10.0.0.9.0.111"), "10.0.0.9.8.1"),
            (rpcb(3, "tcp6", "fe80::1.0.111"), "fe80::1.8.1"),
            (rpcb(3, "tcp6", "10.0.0.9.0.111"), "::.8.1"),
            (rpcb(3, "udp", ""), ""),
            (rpcb(4, "tcp", ""), "0.0.0.0.8.1"),
            (rpcb(5, "tcp", ""), ""),
        ] {
            for proc in [RpcbProc::Getaddr, RpcbProc::Getversaddr] {
                let expected = bytes(&RpcbString(expected.as_bytes()));
                assert_eq!(v4(proc, &wanted), expected);
            }
        }
        let status = Rpcb {
            r_prog: SM_PROG,
            ..rpcb(1, "udp6", "")
        };
        let expected = bytes(&RpcbString(b"::.8.1"));
        assert_eq!(v4(RpcbProc::Getaddr, &status), expected);
    }

    #[test]
    fn what_is_not_offered() {
        let mut reply = Reply::default();
        for proc in [5, 6, 99] {
            let refused = version_2(1, proc, Dec::new(b""), &mut reply);
            assert_eq!(refused, Err(Refusal::ProcUnavail));
        }
        for (vers, proc) in [(3, 5), (3, 9), (4, 10), (4, 12), (4, 99)] {
            let refused = version_3_and_4(1, vers, proc, Dec::new(b""), &mut reply);
            assert_eq!(refused, Err(Refusal::ProcUnavail));
        }
        let cut = version_2(1, 3, Dec::new(b"123"), &mut reply);
        assert_eq!((cut, reply.bytes.len()), (Err(Refusal::GarbageArgs), 0));
    }
}
