//! Stateids (RFC 8881 8.2, RFC 7530 9.1.4): what is in one, the special ones, and which is older.
//!
//! | bytes of `other` | content, big endian |
//! |---|---|
//! | 0..4 | number of the server's start, [`super::State::epoch`] |
//! | 4..8 | number of the client record, [`super::client::Client::number`] |
//! | 8..12 | type (3 bits), key (29 bits) |
//!
//! A key names one thing of a client; when it is gone its key is not used again before all others were.

use std::cmp::Ordering;

use vfs::locks::{ClientId, OwnerId};

use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Other, Stateid4};

const KEY_BITS: u32 = 29;
/// Highest key.
pub const KEY_MAX: u32 = (1 << KEY_BITS) - 1;

/// What a stateid stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Kind {
    /// An open-owner's open of a file.
    Open = 1,
    /// A lock-owner's byte-range locks under one open.
    Lock = 2,
    /// A delegation.
    Deleg = 3,
    /// An asynchronous copy (RFC 7862 4.8).
    Copy = 4,
}

impl Kind {
    const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Open),
            2 => Some(Self::Lock),
            3 => Some(Self::Deleg),
            4 => Some(Self::Copy),
            _ => None,
        }
    }
}

/// `other`, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    /// Start of the server that made it.
    pub epoch: u32,
    /// Whose it is.
    pub client: u32,
    /// What it stands for.
    pub kind: Kind,
    /// Which of that client's.
    pub key: u32,
}

impl Name {
    /// `other` of a stateid.
    #[must_use]
    pub fn other(self) -> Other {
        let last = (self.kind as u32) << KEY_BITS | self.key & KEY_MAX;
        let mut other = [0; 12];
        for (to, word) in other
            .chunks_exact_mut(4)
            .zip([self.epoch, self.client, last])
        {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Other(other)
    }

    /// A stateid of this name.
    #[must_use]
    pub fn stateid(self, seqid: u32) -> Stateid4 {
        Stateid4 {
            seqid,
            other: self.other(),
        }
    }

    /// Takes `other` apart. `None` when this server never makes such.
    #[must_use]
    pub fn parse(other: Other) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = other.0;
        let last = u32::from_be_bytes([i, j, k, l]);
        Some(Name {
            epoch: u32::from_be_bytes([a, b, c, d]),
            client: u32::from_be_bytes([e, f, g, h]),
            kind: Kind::from_bits(last >> KEY_BITS)?,
            key: last & KEY_MAX,
        })
    }
}

/// Whose state is being looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// This start of the server.
    pub epoch: u32,
    /// Number of the client record.
    pub client: u32,
    /// 0, or above for a client with sessions.
    pub minor: u32,
}

impl Home {
    /// A stateid of this client's.
    #[must_use]
    pub fn stateid(self, kind: Kind, key: u32, seqid: u32) -> Stateid4 {
        let Home { epoch, client, .. } = self;
        let name = Name {
            epoch,
            client,
            kind,
            key,
        };
        name.stateid(seqid)
    }

    /// The client, as the tables of files know it.
    #[must_use]
    pub fn client_id(self) -> ClientId {
        ClientId(self.client.into())
    }

    /// An owner of this client. Bits 29 to 31 are clear: other protocols may set them.
    #[must_use]
    pub fn owner_id(self, key: u32) -> OwnerId {
        OwnerId(u64::from(self.client) << 32 | u64::from(key & KEY_MAX))
    }

    /// No room for more. Version 4.1 has no word for it but "later".
    #[must_use]
    pub fn exhausted(self) -> Nfsstat4 {
        if self.minor == 0 {
            Nfsstat4::Resource
        } else {
            Nfsstat4::Delay
        }
    }
}

/// A stateid from the wire, before anything is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// No open: all zeros.
    Anonymous,
    /// No open, and reads pass share reservations: all ones.
    Bypass,
    /// What the operation before gave (4.1).
    Current,
    /// State of a client.
    Of(Name),
}

/// Sorts a stateid.
///
/// # Errors
/// `BAD_STATEID`: reserved (RFC 8881 8.2.3), or this server never made it.
pub fn given(stateid: &Stateid4, minor: u32) -> Result<Given, Nfsstat4> {
    match *stateid {
        Stateid4::ANONYMOUS => Ok(Given::Anonymous),
        Stateid4::BYPASS => Ok(Given::Bypass),
        Stateid4::CURRENT if minor > 0 => Ok(Given::Current),
        Stateid4 { other, .. } => Name::parse(other)
            .map(Given::Of)
            .ok_or(Nfsstat4::BadStateid),
    }
}

/// Another start of the server may have made it, whatever the rest of it says (RFC 7530 9.1.4.3). Reserved ones are
/// nobody's.
#[must_use]
pub fn of_another_start(other: Other, epoch: u32) -> bool {
    let reserved = [Stateid4::ANONYMOUS.other, Stateid4::BYPASS.other];
    !reserved.contains(&other) && !other.0.starts_with(&epoch.to_be_bytes())
}

/// Holds a stateid's `seqid` to the one the state has now (RFC 8881 8.2.4, RFC 7530 9.1.4.2).
///
/// # Errors
/// `OLD_STATEID`; `BAD_STATEID` for one from the future.
pub fn check_seqid(given: u32, now: u32, minor: u32) -> Result<(), Nfsstat4> {
    if minor > 0 && given == 0 {
        return Ok(());
    }
    // Numbers go round (RFC 8881 8.2.2).
    match (given.wrapping_sub(now) as i32).cmp(&0) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(Nfsstat4::OldStateid),
        Ordering::Greater => Err(Nfsstat4::BadStateid),
    }
}

/// The `seqid` after this one: zero is left out (RFC 8881 8.2.2).
#[must_use]
pub const fn next_seqid(seqid: u32) -> u32 {
    match seqid.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn special_stateids() {
        let of = |seqid, byte| Stateid4 {
            seqid,
            other: Other([byte; 12]),
        };
        let bad = Err(Nfsstat4::BadStateid);
        for (stateid, minor, expected) in [
            (Stateid4::ANONYMOUS, 0, Ok(Given::Anonymous)),
            (Stateid4::BYPASS, 1, Ok(Given::Bypass)),
            (Stateid4::CURRENT, 1, Ok(Given::Current)),
            (Stateid4::CURRENT, 0, bad),
            (Stateid4::INVALID, 1, bad),
            (of(2, 0), 1, bad),
            (of(0, 0xff), 1, bad),
            (of(1, 0xff), 0, bad),
        ] {
            assert_eq!(given(&stateid, minor), expected, "{stateid:?} {minor}");
        }
    }

    #[test]
    fn stateids_of_another_start() {
        let other = |epoch: u32, rest: [u8; 8]| {
            let mut other = [0; 12];
            other[..4].copy_from_slice(&epoch.to_be_bytes());
            other[4..].copy_from_slice(&rest);
            Other(other)
        };
        for (other, expected) in [
            (other(7, [7; 8]), false),
            (other(6, [0; 8]), true),
            (other(8, [0xff; 8]), true),
            (other(0, [0; 8]), false),
            (other(u32::MAX, [0xff; 8]), false),
        ] {
            assert_eq!(of_another_start(other, 7), expected, "{other:?}");
        }
    }

    #[test]
    fn which_seqid_is_older() {
        for (one, now, minor, expected) in [
            (3, 3, 0, Ok(())),
            (0, 3, 1, Ok(())),
            (0, 3, 0, Err(Nfsstat4::OldStateid)),
            (2, 3, 1, Err(Nfsstat4::OldStateid)),
            (4, 3, 1, Err(Nfsstat4::BadStateid)),
            (u32::MAX, 1, 1, Err(Nfsstat4::OldStateid)),
            (1, u32::MAX, 1, Err(Nfsstat4::BadStateid)),
        ] {
            assert_eq!(check_seqid(one, now, minor), expected, "{one} {now}");
        }
        assert_eq!(next_seqid(u32::MAX), 1);
    }

    proptest! {
        #[test]
        fn names_come_back(epoch: u32, client: u32, kind in 1_u32..5, key in 0..=KEY_MAX, seqid: u32) {
            let kind = Kind::from_bits(kind).expect("in range");
            let name = Name { epoch, client, kind, key };
            let stateid = name.stateid(seqid);
            prop_assert_eq!(Name::parse(stateid.other), Some(name));
            prop_assert_eq!(given(&stateid, 1), Ok(Given::Of(name)));
        }
    }
}
