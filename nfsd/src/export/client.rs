//! Who an export is for: the client part of an exports(5) entry, and whether a peer is meant by it.
//!
//! Host names are turned into addresses when exports are loaded. Wildcard names need the peer's own name, which only
//! a reverse lookup gives; matching never waits for one but answers [`Match::NeedsName`], and the caller asks
//! [`super::names::Names`] off the reactor and tries again.

use ipnet::{IpNet, Ipv4Net};
use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A client as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// `*`
    Everyone,
    /// One address, IPv4-mapped IPv6 written as IPv4.
    Address(IpAddr),
    /// A network, host bits zero.
    Network(IpNet),
    /// A host name in lower case.
    Host(String),
    /// A host name with `*`, `?` or `[...]`, in lower case. `*` also matches dots.
    Wildcard(String),
}

/// Why a client cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadClient {
    /// What is wrong.
    pub message: &'static str,
    /// What to write instead.
    pub fix: String,
}

fn bad<T>(message: &'static str, fix: impl Into<String>) -> Result<T, BadClient> {
    Err(BadClient {
        message,
        fix: fix.into(),
    })
}

impl Client {
    /// Reads the client part of `client(options)`.
    pub fn parse(text: &str) -> Result<Client, BadClient> {
        if text == "*" {
            return Ok(Client::Everyone);
        }
        if text.starts_with('@') {
            return bad(
                "netgroups are not supported",
                "name the hosts, a network (10.0.0.0/8) or *.DOMAIN",
            );
        }
        // As a host name it would be written without the final dot and in lower case.
        let flavor = text.split('/').next().unwrap_or_default();
        if flavor.trim_end_matches('.').eq_ignore_ascii_case("gss") {
            return bad(
                "clients named by security flavor are not supported",
                "name the clients and use sec=",
            );
        }
        if let Some((address, length)) = text.split_once('/') {
            return parse_network(address, length);
        }
        if let Some(address) = parse_address(text) {
            return Ok(Client::Address(address));
        }
        let is_pattern = text.contains(['*', '?']) || (text.contains('[') && !text.contains(':'));
        if !is_pattern {
            return parse_host(text);
        }
        let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '*' | '?');
        if text.chars().all(numeric) && text.contains(|c: char| c.is_ascii_digit()) {
            return bad(
                "wildcards do not match addresses",
                "write the network: 192.168.0.0/16",
            );
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "*?[]!^.-_".contains(c);
        if text.len() > 253 || text.starts_with('-') || !text.chars().all(allowed) {
            return bad(
                "not a host name pattern",
                "use letters, digits, \"-\", \".\" and the wildcards *, ? and [...]",
            );
        }
        if !classes_closed(text) {
            return bad("a character class is not closed", "add the missing \"]\"");
        }
        Ok(Client::Wildcard(text.to_ascii_lowercase()))
    }

    /// Order in which the clients of one export are tried (exports(5)): single hosts, then networks from the longest
    /// prefix on, then wildcards, then everyone.
    pub fn rank(&self) -> (u8, Reverse<u8>) {
        match self {
            Client::Address(_) | Client::Host(_) => (0, Reverse(0)),
            Client::Network(net) => (1, Reverse(net.prefix_len())),
            Client::Wildcard(_) => (2, Reverse(0)),
            Client::Everyone => (3, Reverse(0)),
        }
    }
}

/// What to type in an exports file.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Everyone => f.write_str("*"),
            Client::Address(address) => write!(f, "{address}"),
            Client::Network(net) => write!(f, "{net}"),
            Client::Host(name) | Client::Wildcard(name) => f.write_str(name),
        }
    }
}

/// An address, in brackets or not; IPv4-mapped IPv6 is the IPv4 address.
fn parse_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => IpAddr::V6(inner.parse().ok()?),
        None => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

fn parse_network(address: &str, length: &str) -> Result<Client, BadClient> {
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let Ok(address) = bare.parse::<IpAddr>() else {
        return bad(
            "not a network address",
            "write ADDRESS/LENGTH, as in 10.0.0.0/8 or 2001:db8::/32",
        );
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain_number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let prefix = match length.parse::<Ipv4Addr>() {
        Ok(mask) if address.is_ipv4() => match ipnet::ipv4_mask_to_prefix(mask) {
            Ok(prefix) => prefix,
            Err(_) => {
                return bad(
                    "the netmask has holes",
                    "write ADDRESS/LENGTH, as in 10.0.0.0/8",
                );
            }
        },
        _ => match length.parse::<u8>() {
            Ok(prefix) if plain_number && prefix <= most => prefix,
            _ => {
                return bad(
                    "not a prefix length",
                    format!("write a number from 0 to {most} after the slash"),
                );
            }
        },
    };
    match IpNet::new(address, prefix) {
        Ok(net) => Ok(Client::Network(canonical(net.trunc()))),
        Err(_) => bad(
            "not a prefix length",
            format!("write a number from 0 to {most} after the slash"),
        ),
    }
}

/// A network of IPv4-mapped addresses as the IPv4 network.
fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .map(|v4| (v4, v6.prefix_len() - 96)),
        _ => None,
    };
    mapped
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(net, IpNet::V4)
}

/// A host name by RFC 1123 2.1, underscores allowed as they are in use.
fn parse_host(text: &str) -> Result<Client, BadClient> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |label: &str| {
        let letters = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len())
            && letters
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.contains(':') || name.starts_with('[') {
        return bad(
            "not an IPv6 address",
            "write 2001:db8::1, [2001:db8::1] or 2001:db8::/32; no port",
        );
    }
    if name
        .split('.')
        .next_back()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
    {
        return bad(
            "not an IPv4 address",
            "write four numbers from 0 to 255, as in 192.0.2.7",
        );
    }
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return bad(
            "not a host name",
            "write a host name, an address, a network, *.DOMAIN or *",
        );
    }
    Ok(Client::Host(name.to_ascii_lowercase()))
}

/// Whether a peer is meant by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// That depends on the peer's host name, which has not been looked up.
    NeedsName,
}

/// What is known of a peer's host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// Not looked up.
    Unasked,
    /// It has none, or one that does not lead back to its address.
    Absent,
    /// Looked up and confirmed.
    Is(&'a str),
}

/// A peer asking for an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    addr: IpAddr,
    name: Name<'a>,
}

impl<'a> Peer<'a> {
    /// A peer by address. IPv4-mapped IPv6, which is what an IPv6 listener reports, is taken as IPv4.
    pub fn new(addr: IpAddr, name: Name<'a>) -> Self {
        Peer {
            addr: addr.to_canonical(),
            name,
        }
    }

    /// The address, never an IPv4-mapped one.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }
}

/// A peer whose name was not looked up.
impl From<IpAddr> for Peer<'_> {
    fn from(addr: IpAddr) -> Self {
        Peer::new(addr, Name::Unasked)
    }
}

/// A client ready to be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    client: Client,
    addresses: Vec<IpAddr>,
}

impl Matcher {
    /// `addresses` are those a [`Client::Host`] name has now; other clients need none.
    pub fn new(client: Client, addresses: Vec<IpAddr>) -> Self {
        Matcher {
            client,
            addresses: addresses.iter().map(IpAddr::to_canonical).collect(),
        }
    }

    /// The client as written.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether `peer` is meant. Never waits.
    pub fn matches(&self, peer: &Peer<'_>) -> Match {
        let yes = match &self.client {
            Client::Everyone => true,
            Client::Address(address) => *address == peer.addr,
            Client::Network(net) => net.contains(&peer.addr),
            Client::Host(_) => self.addresses.contains(&peer.addr),
            Client::Wildcard(pattern) => match peer.name {
                Name::Unasked => return Match::NeedsName,
                Name::Absent => false,
                Name::Is(name) => glob(pattern.as_bytes(), name.to_ascii_lowercase().as_bytes()),
            },
        };
        if yes { Match::Yes } else { Match::No }
    }
}

/// Length of the class at the start of `pattern` with its brackets; a `]` right after `[` or `[!` is a member.
fn class_length(pattern: &[u8]) -> Option<usize> {
    let first = if matches!(pattern.get(1), Some(b'!' | b'^')) {
        2
    } else {
        1
    };
    let close = pattern.iter().skip(first + 1).position(|b| *b == b']')?;
    Some(first + 1 + close + 1)
}

fn classes_closed(pattern: &str) -> bool {
    let mut rest = pattern.as_bytes();
    while let Some(open) = rest.iter().position(|b| *b == b'[') {
        let Some(length) = class_length(rest.get(open..).unwrap_or_default()) else {
            return false;
        };
        rest = rest.get(open + length..).unwrap_or_default();
    }
    true
}

fn class_contains(class: &[u8], byte: u8) -> bool {
    let inner = class
        .get(1..class.len().saturating_sub(1))
        .unwrap_or_default();
    let (negated, mut inner) = match inner.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    while let Some((low, rest)) = inner.split_first() {
        match rest {
            [b'-', high, after @ ..] => {
                found |= (*low..=*high).contains(&byte);
                inner = after;
            }
            _ => {
                found |= *low == byte;
                inner = rest;
            }
        }
    }
    found != negated
}

/// Shell pattern match, `*` matching anything: time at most pattern length times name length.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => {
                let class = pattern.get(p..).unwrap_or_default();
                class_length(class).filter(|length| {
                    class_contains(class.get(..*length).unwrap_or_default(), *byte)
                })
            }
            Some(literal) if literal == byte => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(step), _) => (p, n) = (p + step, n + 1),
            (None, Some((after_star, from))) => {
                star = Some((after_star, from + 1));
                (p, n) = (after_star, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn matched(client: &str, peer: &str) -> Match {
        let client = Client::parse(client).expect("a client");
        Matcher::new(client, Vec::new()).matches(&Peer::from(ip(peer)))
    }

    fn named(client: &str, name: &str) -> Match {
        let client = Client::parse(client).expect("a client");
        Matcher::new(client, Vec::new()).matches(&Peer::new(ip("192.0.2.1"), Name::Is(name)))
    }

    #[test]
    fn addresses() {
        assert_eq!(matched("192.0.2.7", "192.0.2.7"), Match::Yes);
        assert_eq!(matched("192.0.2.7", "192.0.2.8"), Match::No);
        assert_eq!(matched("192.0.2.7", "::ffff:192.0.2.7"), Match::Yes);
        assert_eq!(matched("::ffff:192.0.2.7", "192.0.2.7"), Match::Yes);
        assert_eq!(matched("[::1]", "::1"), Match::Yes);
        assert_eq!(matched("2001:db8::1", "2001:db8::1"), Match::Yes);
        assert_eq!(matched("::1", "127.0.0.1"), Match::No);
    }

    #[test]
    fn networks() {
        for net in [
            "10.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            "10.1.2.3/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert_eq!(matched(net, "10.255.0.1"), Match::Yes, "{net}");
            assert_eq!(matched(net, "11.0.0.1"), Match::No, "{net}");
            assert_eq!(
                Client::parse(net).map(|c| c.to_string()),
                Ok("10.0.0.0/8".to_owned())
            );
        }
        assert_eq!(matched("[2001:db8::]/32", "2001:db8:1::1"), Match::Yes);
        assert_eq!(matched("2001:db8::/32", "2001:db9::1"), Match::No);
        assert_eq!(matched("0.0.0.0/0", "203.0.113.9"), Match::Yes);
        assert_eq!(matched("0.0.0.0/0", "2001:db8::1"), Match::No);
    }

    #[test]
    fn hosts_match_by_the_addresses_found_at_load() {
        let host = Client::parse("Ws1.Example.org.").expect("a host");
        assert_eq!(host, Client::Host("ws1.example.org".to_owned()));
        let matcher = Matcher::new(host, vec![ip("192.0.2.7"), ip("::ffff:192.0.2.8")]);
        assert_eq!(matcher.matches(&Peer::from(ip("192.0.2.7"))), Match::Yes);
        assert_eq!(matcher.matches(&Peer::from(ip("192.0.2.8"))), Match::Yes);
        assert_eq!(matcher.matches(&Peer::from(ip("192.0.2.9"))), Match::No);
    }

    #[test]
    fn wildcards_need_a_name() {
        assert_eq!(matched("*.example.org", "192.0.2.7"), Match::NeedsName);
        let matcher = Matcher::new(Client::Wildcard("*.example.org".to_owned()), Vec::new());
        assert_eq!(
            matcher.matches(&Peer::new(ip("192.0.2.7"), Name::Absent)),
            Match::No
        );
        assert_eq!(named("*.example.org", "WS1.lab.Example.ORG"), Match::Yes);
        assert_eq!(named("*.example.org", "example.org"), Match::No);
        assert_eq!(
            named("*.example.org", "ws1.example.org.evil.net"),
            Match::No
        );
        assert_eq!(named("ws?.example.org", "ws1.example.org"), Match::Yes);
        assert_eq!(named("ws?.example.org", "ws.example.org"), Match::No);
        assert_eq!(named("ws[0-4a].example.org", "wsa.example.org"), Match::Yes);
        assert_eq!(named("ws[!0-4].example.org", "ws3.example.org"), Match::No);
        assert_eq!(named("[]a]x", "ax"), Match::Yes);
    }

    #[test]
    fn everyone() {
        assert_eq!(matched("*", "203.0.113.9"), Match::Yes);
        assert_eq!(matched("*", "2001:db8::1"), Match::Yes);
    }

    #[test]
    fn refused_clients_say_why() {
        let cases = [
            ("@staff", "netgroups are not supported"),
            // Host names have no case: this must not read back as another kind of client.
            ("gsS", "clients named by security flavor are not supported"),
            ("gss.", "clients named by security flavor are not supported"),
            (
                "gss/krb5",
                "clients named by security flavor are not supported",
            ),
            ("192.168.*", "wildcards do not match addresses"),
            ("300.1.1.1", "not an IPv4 address"),
            ("10.0.0", "not an IPv4 address"),
            ("10.0.0.0/33", "not a prefix length"),
            ("10.0.0.0/+8", "not a prefix length"),
            ("10.0.0.0/", "not a prefix length"),
            ("10.0.0.0/255.0.255.0", "the netmask has holes"),
            ("2001:db8::/129", "not a prefix length"),
            ("2001:db8::/255.0.0.0", "not a prefix length"),
            ("host/8", "not a network address"),
            ("[::1]:2049", "not an IPv6 address"),
            ("ws[1-3", "a character class is not closed"),
            ("*.exa mple", "not a host name pattern"),
            ("-x", "not a host name"),
            ("a..b", "not a host name"),
            ("", "not a host name"),
        ];
        for (text, message) in cases {
            assert_eq!(
                Client::parse(text).map_err(|bad| bad.message),
                Err(message),
                "{text:?}"
            );
        }
    }

    #[test]
    fn rank_is_host_network_wildcard_everyone() {
        let order = [
            "192.0.2.7",
            "192.0.2.0/24",
            "192.0.0.0/16",
            "*.example.org",
            "*",
        ];
        let ranks: Vec<_> = order
            .iter()
            .filter_map(|text| Client::parse(text).ok())
            .map(|c| c.rank())
            .collect();
        assert_eq!(ranks.len(), order.len());
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
    }

    #[test]
    fn glob_is_not_exponential() {
        let pattern = "*a".repeat(100) + "b";
        assert!(!glob(pattern.as_bytes(), "a".repeat(253).as_bytes()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_display_reads_back(text in "[a-z0-9.*?/:\\[\\]!@-]{0,24}") {
            if let Ok(client) = Client::parse(&text) {
                prop_assert_eq!(Client::parse(&client.to_string()), Ok(client.clone()));
                let _ = Matcher::new(client, vec![]).matches(&Peer::new(ip("192.0.2.1"), Name::Is(&text)));
            }
        }
    }
}
