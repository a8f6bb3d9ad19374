//! Network ids and universal addresses (RFC 5665): socket addresses as text, for rpcbind and for
//! where an NFSv4.0 client wants its callbacks.

use arrayvec::ArrayString;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The network id of a TCP address (RFC 5665 section 5.1).
#[must_use]
pub const fn netid(addr: &SocketAddr) -> &'static str {
    if addr.is_ipv4() { "tcp" } else { "tcp6" }
}

/// Longest universal address: 45 characters of IPv6 and two bytes of port.
pub type UniversalAddr = ArrayString<56>;

/// Universal address of a socket address: the host, then the port's two bytes in decimal, joined by
/// dots: `127.0.0.1.8.1` is port 2049 (RFC 5665 section 5.2.3.3 and 5.2.3.4).
#[must_use]
pub fn universal_addr(addr: &SocketAddr) -> UniversalAddr {
    let [high, low] = addr.port().to_be_bytes();
    let mut out = UniversalAddr::new();
    // The longest address fits, so there is no error to report.
    let _ = write!(out, "{}.{high}.{low}", addr.ip());
    out
}

/// Reads a universal address; `None` if it is not one.
#[must_use]
pub fn parse_universal_addr(text: &[u8]) -> Option<SocketAddr> {
    let text = core::str::from_utf8(text).ok()?;
    let (text, low) = text.rsplit_once('.')?;
    let (host, high) = text.rsplit_once('.')?;
    let port = u16::from_be_bytes([port_byte(high)?, port_byte(low)?]);
    let ip = match host.parse::<Ipv4Addr>() {
        Ok(v4) => IpAddr::V4(v4),
        Err(_) => IpAddr::V6(host.parse::<Ipv6Addr>().ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

/// A decimal byte without sign (`u8::from_str` would take `+1`).
fn port_byte(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// The TCP address a network id and a universal address (`netaddr4`, RFC 7530 section 2.2.10) name,
/// as `client` wants to be called back there. A link-local address means the link `client` is on.
///
/// `None` when there is nothing to connect to: not TCP, an address of the other family, no port, or
/// no single host. That is how a client says that it takes no callbacks.
#[must_use]
pub fn callback_addr(netid: &[u8], addr: &[u8], client: &SocketAddr) -> Option<SocketAddr> {
    let parsed = parse_universal_addr(addr)?;
    let family = match netid {
        b"tcp" => parsed.is_ipv4(),
        b"tcp6" => parsed.is_ipv6(),
        _ => false,
    };
    let ip = parsed.ip().to_canonical();
    let one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST;
    if !family || !one_host || parsed.port() == 0 {
        return None;
    }
    let addr = SocketAddr::new(ip, parsed.port());
    Some(match (addr, client) {
        (SocketAddr::V6(there), SocketAddr::V6(here)) if there.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*there.ip(), there.port(), 0, here.scope_id()).into()
        }
        _ => addr,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn universal_addresses() {
        let v4: SocketAddr = "127.0.0.1:2049".parse().unwrap();
        assert_eq!(&universal_addr(&v4), "127.0.0.1.8.1");
        let v6: SocketAddr = "[::]:111".parse().unwrap();
        assert_eq!(&universal_addr(&v6), "::.0.111");
        assert_eq!((netid(&v4), netid(&v6)), ("tcp", "tcp6"));
        for bad in [
            "",
            ".",
            "..",
            "1.2.3.4",
            "1.2.3.4.5",
            "1.2.3.4.256.0",
            "1.2.3.4.+1.0",
            "a.1.1",
            "1.2.3.4..1",
        ] {
            assert_eq!(parse_universal_addr(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_universal_addr(b"\xff.1.1"), None);
    }

    #[test]
    fn where_to_call_back() {
        let client: SocketAddr = "[fe80::1%7]:700".parse().unwrap();
        let at = |netid: &str, addr: &str| {
            callback_addr(netid.as_bytes(), addr.as_bytes(), &client).map(|a| a.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(at("tcp", "10.1.2.3.8.1"), some("10.1.2.3:2049"));
        assert_eq!(at("tcp6", "2001:db8::5.1.0"), some("[2001:db8::5]:256"));
        assert_eq!(at("tcp6", "::ffff:10.1.2.3.0.9"), some("10.1.2.3:9"));
        assert_eq!(at("tcp6", "fe80::2.8.1"), some("[fe80::2%7]:2049"));
        for (netid, addr) in [
            ("udp", "10.1.2.3.8.1"),
            ("tcp", "2001:db8::5.8.1"),
            ("tcp6", "10.1.2.3.8.1"),
            ("", ""),
            ("tcp", "0.0.0.0.0.0"),
            ("tcp", "0.0.0.0.8.1"),
            ("tcp6", "::.8.1"),
            ("tcp6", "::ffff:0.0.0.0.8.1"),
            ("tcp", "10.1.2.3.0.0"),
            ("tcp", "255.255.255.255.8.1"),
            ("tcp", "224.0.0.1.8.1"),
            ("tcp6", "ff02::1.8.1"),
        ] {
            assert_eq!(at(netid, addr), None, "{netid} {addr}");
        }
    }

    proptest! {
        #[test]
        fn universal_address_round_trip(ip in any::<IpAddr>(), port in any::<u16>()) {
            let addr = SocketAddr::new(ip, port);
            prop_assert_eq!(parse_universal_addr(universal_addr(&addr).as_bytes()), Some(addr));
        }
    }
}
