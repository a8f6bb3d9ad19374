//! What is remembered of one client over a restart, and its bytes in the store.

use crate::nlm::state::HostKey;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest client owner: `NFS4_OPAQUE_LIMIT` (RFC 8881 3.1).
pub const OWNER_MAX: usize = 1024;
/// Longest principal text.
pub const PRINCIPAL_MAX: usize = 1024;
/// Version of the bytes of a record.
const FORMAT: u8 = 1;

/// Minor versions whose client owners share one name space. A client that moves from 4.0 to 4.1 is another client,
/// with other state (RFC 8881 2.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 4.0: SETCLIENTID, no RECLAIM_COMPLETE.
    V40,
    /// 4.1 and later: EXCHANGE_ID, RECLAIM_COMPLETE.
    V41,
}

impl Class {
    /// The class of a minor version.
    pub fn of(minor_version: u32) -> Class {
        match minor_version {
            0 => Class::V40,
            _ => Class::V41,
        }
    }
}

/// What names a client over restarts of it and of the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    class: Class,
    owner: Arc<[u8]>,
}

impl ClientKey {
    /// From `nfs_client_id4.id` or `co_ownerid`. `None` above [`OWNER_MAX`] bytes.
    pub fn new(class: Class, owner: &[u8]) -> Option<ClientKey> {
        (owner.len() <= OWNER_MAX).then(|| ClientKey {
            class,
            owner: owner.into(),
        })
    }

    /// Its minor versions.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The bytes the client sent.
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// As a key of the store: the class, then the owner.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.owner.len());
        out.push(match self.class {
            Class::V40 => 0,
            Class::V41 => 1,
        });
        out.extend_from_slice(&self.owner);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<ClientKey> {
        let (class, owner) = bytes.split_first()?;
        let class = match class {
            0 => Class::V40,
            1 => Class::V41,
            _ => return None,
        };
        ClientKey::new(class, owner)
    }
}

/// For messages: most owners are text.
impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} \"{}\"", self.class, self.owner.escape_ascii())
    }
}

/// What a server must know of a client to judge its reclaims after a restart (RFC 8881 8.4.3, RFC 7530 9.6.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// `verifier4` of the incarnation. Never compared when reclaiming: some clients send a new one after every
    /// restart of the server.
    pub verifier: [u8; 8],
    /// Flavor and name, at most [`PRINCIPAL_MAX`] bytes; empty when unknown.
    pub principal: Arc<str>,
    /// The boot epoch in which the client last got state. The store writes its own here.
    pub epoch: u32,
    /// RECLAIM_COMPLETE was sent in that epoch.
    pub reclaim_complete: bool,
    /// False once state was taken from the client, or left unreclaimed, so that others may have held what it still
    /// believes to hold.
    pub may_reclaim: bool,
    /// Where it was last seen, for messages.
    pub address: Option<IpAddr>,
}

impl ClientRecord {
    /// A client that just got its first state.
    pub fn new(verifier: [u8; 8], principal: &str, address: Option<IpAddr>) -> ClientRecord {
        ClientRecord {
            verifier,
            principal: principal.into(),
            epoch: 0,
            reclaim_complete: false,
            may_reclaim: true,
            address,
        }
    }

    /// `None` when the principal is too long.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.principal.len())
            .ok()
            .filter(|n| usize::from(*n) <= PRINCIPAL_MAX)?;
        let mut out = Vec::with_capacity(34 + self.principal.len());
        out.push(FORMAT);
        out.push(u8::from(self.reclaim_complete) | u8::from(self.may_reclaim) << 1);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.verifier);
        match self.address {
            None => out.push(0),
            Some(IpAddr::V4(v4)) => {
                out.push(4);
                out.extend_from_slice(&v4.octets());
            }
            Some(IpAddr::V6(v6)) => {
                out.push(16);
                out.extend_from_slice(&v6.octets());
            }
        }
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.principal.as_bytes());
        Some(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<ClientRecord> {
        let ([format, flags], rest) = bytes.split_first_chunk()?;
        if *format != FORMAT || *flags > 3 {
            return None;
        }
        let (epoch, rest) = rest.split_first_chunk()?;
        let (verifier, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (address, rest) = match kind {
            0 => (None, rest),
            4 => {
                let (octets, rest) = rest.split_first_chunk::<4>()?;
                (Some(IpAddr::from(*octets)), rest)
            }
            16 => {
                let (octets, rest) = rest.split_first_chunk::<16>()?;
                (Some(IpAddr::from(*octets)), rest)
            }
            _ => return None,
        };
        let (length, principal) = rest.split_first_chunk()?;
        if principal.len() != usize::from(u16::from_be_bytes(*length)) {
            return None;
        }
        Some(ClientRecord {
            verifier: *verifier,
            principal: std::str::from_utf8(principal).ok()?.into(),
            epoch: u32::from_be_bytes(*epoch),
            reclaim_complete: flags & 1 != 0,
            may_reclaim: flags & 2 != 0,
            address,
        })
    }
}

/// A host of NLM as a key of the store: its address, then its name.
pub(super) fn encode_host(host: &HostKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(17 + host.name.len());
    match host.ip {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(16);
            out.extend_from_slice(&v6.octets());
        }
    }
    out.extend_from_slice(&host.name);
    out
}

pub(super) fn decode_host(bytes: &[u8]) -> Option<HostKey> {
    let (kind, rest) = bytes.split_first()?;
    let (ip, name) = match kind {
        4 => {
            let (octets, name) = rest.split_first_chunk::<4>()?;
            (IpAddr::from(*octets), name)
        }
        16 => {
            let (octets, name) = rest.split_first_chunk::<16>()?;
            (IpAddr::from(*octets), name)
        }
        _ => return None,
    };
    let name = name.into();
    Some(HostKey { ip, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_address() -> impl Strategy<Value = Option<IpAddr>> {
        prop_oneof![
            Just(None),
            any::<[u8; 4]>().prop_map(|o| Some(IpAddr::from(o))),
            any::<[u8; 16]>().prop_map(|o| Some(IpAddr::from(o))),
        ]
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(ClientKey::new(Class::V41, &[7; OWNER_MAX]).is_some());
        assert_eq!(ClientKey::new(Class::V41, &[7; OWNER_MAX + 1]), None);
        let record = |n: usize| ClientRecord::new([0; 8], &"p".repeat(n), None).encode();
        assert!(record(PRINCIPAL_MAX).is_some());
        assert_eq!(record(PRINCIPAL_MAX + 1), None);
        assert_eq!(record(1 << 17), None);
    }

    #[test]
    fn the_same_owner_is_another_client_in_another_class() {
        let key = |minor| ClientKey::new(Class::of(minor), b"host").expect("short");
        assert_ne!(key(0), key(1));
        assert_eq!(key(1), key(2));
        assert_ne!(key(0).encode(), key(1).encode());
    }

    proptest! {
        #[test]
        fn records_read_back(
            verifier: [u8; 8], epoch: u32, reclaim_complete: bool, may_reclaim: bool,
            principal in "\\PC{0,40}", address in any_address(),
            owner in proptest::collection::vec(any::<u8>(), 0..OWNER_MAX), v41: bool, cut in any::<proptest::sample::Index>(),
        ) {
            let mut record = ClientRecord::new(verifier, &principal, address);
            (record.epoch, record.reclaim_complete, record.may_reclaim) = (epoch, reclaim_complete, may_reclaim);
            let bytes = record.encode().expect("short");
            prop_assert_eq!(ClientRecord::decode(&bytes), Some(record));
            prop_assert_eq!(ClientRecord::decode(&bytes[..cut.index(bytes.len())]), None);
            let key = ClientKey::new(if v41 { Class::V41 } else { Class::V40 }, &owner).expect("short");
            prop_assert_eq!(ClientKey::decode(&key.encode()), Some(key));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (ClientRecord::decode(&bytes), ClientKey::decode(&bytes), decode_host(&bytes));
        }

        #[test]
        fn hosts_read_back(ip: IpAddr, name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let host = HostKey { ip, name: name.into() };
            prop_assert_eq!(decode_host(&encode_host(&host)), Some(host));
        }
    }
}
