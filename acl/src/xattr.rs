//! The bytes of `system.posix_acl_access` and `system.posix_acl_default`, version 2 (`linux/posix_acl_xattr.h`).
//!
//! A little-endian u32 version, then entries of eight bytes: u16 tag, u16 rights, u32 id.

use crate::posix::{Acl, Entry, Invalid, MAX_ENTRIES, Perm, Tag, UNDEFINED_ID};

/// The xattr that holds an access ACL.
pub const ACCESS: &str = "system.posix_acl_access";
/// The xattr that holds the default ACL of a directory.
pub const DEFAULT: &str = "system.posix_acl_default";
/// Most bytes an encoded ACL can take; never above the kernel's `XATTR_SIZE_MAX`.
pub const MAX_LEN: usize = HEADER + MAX_ENTRIES * ENTRY;

const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;

/// Why bytes are not an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_LEN`] bytes.
    #[error("{0} bytes, the kernel takes at most {MAX_LEN}")]
    TooLong(usize),
    /// The length is not a header and whole entries.
    #[error("{0} bytes are no whole number of entries")]
    Length(usize),
    /// A version other than 2. The kernel answers EOPNOTSUPP, to all else EINVAL.
    #[error("version {0}, only 2 is known")]
    Version(u32),
    /// A tag that does not exist.
    #[error("unknown tag {0:#x}")]
    Tag(u16),
    /// A right besides read, write and execute.
    #[error("unknown rights {0:#x}")]
    Perm(u16),
    /// The entries make no valid ACL.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// The ACL in `bytes`, as strict as the kernel's `posix_acl_from_xattr` and `posix_acl_valid` together: order is
/// required, the id of an entry that names nobody is ignored.
///
/// A header without entries, by which `setxattr(2)` removes an ACL, is [`Invalid::Incomplete`] here; removing is the
/// caller's word, not an empty list.
pub fn decode(bytes: &[u8]) -> Result<Acl, Error> {
    if bytes.len() > MAX_LEN {
        return Err(Error::TooLong(bytes.len()));
    }
    let (version, body) = bytes
        .split_first_chunk::<HEADER>()
        .ok_or(Error::Length(bytes.len()))?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let (entries, rest) = body.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return Err(Error::Length(bytes.len()));
    }
    let entries = entries
        .iter()
        .map(decode_entry)
        .collect::<Result<Vec<Entry>, Error>>()?;
    Ok(Acl::new(entries)?)
}

/// The bytes of `acl`, at most [`MAX_LEN`]; entries that name nobody carry [`UNDEFINED_ID`].
pub fn encode(acl: &Acl) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + acl.entries().len() * ENTRY);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    for entry in acl.entries() {
        let (tag, id) = match entry.tag {
            Tag::UserObj => (0x01u16, UNDEFINED_ID),
            Tag::User(uid) => (0x02, uid),
            Tag::GroupObj => (0x04, UNDEFINED_ID),
            Tag::Group(gid) => (0x08, gid),
            Tag::Mask => (0x10, UNDEFINED_ID),
            Tag::Other => (0x20, UNDEFINED_ID),
        };
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&(entry.perm.bits() as u16).to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn decode_entry(bytes: &[u8; ENTRY]) -> Result<Entry, Error> {
    let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes;
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    let tag = match u16::from_le_bytes([t0, t1]) {
        0x01 => Tag::UserObj,
        0x02 => Tag::User(id),
        0x04 => Tag::GroupObj,
        0x08 => Tag::Group(id),
        0x10 => Tag::Mask,
        0x20 => Tag::Other,
        unknown => return Err(Error::Tag(unknown)),
    };
    let bits = u16::from_le_bytes([p0, p1]);
    let perm = Perm::from_bits(u32::from(bits)).ok_or(Error::Perm(bits))?;
    Ok(Entry { tag, perm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::any_acl;
    use proptest::prelude::*;

    /// What `setfacl -m u:1000:r` leaves on a file of mode 0640, read with `getfattr`.
    const SAMPLE: [u8; 44] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
        255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn known_bytes_both_ways() {
        let acl = decode(&SAMPLE).unwrap();
        assert_eq!(format!("{acl:?}"), "u::rw-,u:1000:r--,g::r--,m::r--,o::---");
        assert_eq!(encode(&acl), SAMPLE);
    }

    #[test]
    fn names_what_is_wrong() {
        let with = |at: usize, byte: u8| {
            let mut bytes = SAMPLE;
            bytes[at] = byte;
            decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 1), Error::Version(1));
        assert_eq!(with(3, 1), Error::Version(0x0100_0002));
        assert_eq!(with(4, 3), Error::Tag(3));
        assert_eq!(with(5, 1), Error::Tag(0x101));
        assert_eq!(with(6, 8), Error::Perm(8));
        assert_eq!(with(7, 1), Error::Perm(0x106));
        assert_eq!(with(4, 0x20), Error::Invalid(Invalid::Order(0)));
        assert_eq!(decode(&[]), Err(Error::Length(0)));
        assert_eq!(decode(&SAMPLE[..3]), Err(Error::Length(3)));
        assert_eq!(decode(&SAMPLE[..43]), Err(Error::Length(43)));
        assert_eq!(
            decode(&SAMPLE[..4]),
            Err(Error::Invalid(Invalid::Incomplete))
        );
        assert_eq!(
            decode(&vec![0; MAX_LEN + 1]),
            Err(Error::TooLong(MAX_LEN + 1))
        );
        const { assert!(MAX_LEN <= 65_536) };
    }

    proptest! {
        #[test]
        fn round_trip(acl in any_acl()) {
            prop_assert_eq!(decode(&encode(&acl)), Ok(acl));
        }

        /// Bytes that decode encode back to themselves but for the ids nobody reads.
        #[test]
        fn accepted_bytes_are_canonical(acl in any_acl(), at in 0usize..80, byte in any::<u8>()) {
            let mut bytes = encode(&acl);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(changed) = decode(&bytes) {
                let again = encode(&changed);
                prop_assert_eq!(again.len(), bytes.len());
                for (ours, theirs) in again[HEADER..].chunks(ENTRY).zip(bytes[HEADER..].chunks(ENTRY)) {
                    prop_assert_eq!(&ours[..4], &theirs[..4]);
                    if ours[0] == 2 || ours[0] == 8 {
                        prop_assert_eq!(ours, theirs);
                    }
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }
}
