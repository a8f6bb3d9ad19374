//! File handles: what a client may keep for ever and cannot forge.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | format, 0x52 |
//! | 1 | kernel handle type |
//! | 2..6 | export id, big endian |
//! | 6..14 | file system id, big endian |
//! | 14..n-8 | kernel file handle (`name_to_handle_at(2)`) |
//! | n-8..n | SipHash-2-4 of all before, under a key that survives restarts |
//!
//! Nothing in it depends on mount order, device numbers or the time of start.
//!
//! Directories of the pseudo file system, which only NFSv4 knows, have a second form:
//!
//! | bytes | content |
//! |---|---|
//! | 0 | format, 0x53 |
//! | 1..9 | directory id ([`crate::nfs4::pseudo`]), big endian |
//! | 9..17 | SipHash-2-4 as above |

use std::hash::Hasher;

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use vfs::KernelHandle;

use crate::nfs3::types::NFS3_FHSIZE;

const FORMAT: u8 = 0x52;
const FORMAT_PSEUDO: u8 = 0x53;
const HEAD: usize = 14;
const MAC: usize = 8;

/// Longest kernel handle that fits.
pub const KERNEL_HANDLE_MAX: usize = NFS3_FHSIZE - HEAD - MAC;

/// A sealed handle as the wire carries it.
pub type FileHandle = ArrayVec<u8, NFS3_FHSIZE>;

/// What a handle names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// [`crate::export::Export::id`].
    pub export: u32,
    /// [`vfs::Mount::fsid`].
    pub fsid: u64,
    /// The file on it.
    pub handle: KernelHandle,
}

/// What an NFSv4 handle names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handle {
    /// A file of an export.
    File(Parts),
    /// A directory of the pseudo file system, by its id. It may be gone.
    Pseudo(u64),
}

/// Not a handle this server made (`NFS3ERR_BADHANDLE`, `NFS4ERR_BADHANDLE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forged;

/// The key handles are sealed with.
#[derive(Clone)]
pub struct HandleKey([u8; 16]);

impl HandleKey {
    /// From 16 secret bytes.
    pub fn new(key: [u8; 16]) -> Self {
        HandleKey(key)
    }

    fn mac(&self, bytes: &[u8]) -> [u8; MAC] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish().to_be_bytes()
    }

    /// Names the server that has this key, and tells nothing about it.
    pub fn server_owner(&self) -> String {
        let mac = self.mac(b"server_owner4");
        format!("ringnfs-{:016x}", u64::from_be_bytes(mac))
    }

    /// Seals a handle. `None` when the kernel's is above [`KERNEL_HANDLE_MAX`] bytes or of a type
    /// above 255: exports on such file systems are refused at start.
    pub fn seal(&self, export: u32, fsid: u64, handle: &KernelHandle) -> Option<FileHandle> {
        let mut out = FileHandle::new();
        out.push(FORMAT);
        out.push(u8::try_from(handle.kind).ok()?);
        out.try_extend_from_slice(&export.to_be_bytes()).ok()?;
        out.try_extend_from_slice(&fsid.to_be_bytes()).ok()?;
        out.try_extend_from_slice(&handle.bytes).ok()?;
        let mac = self.mac(&out);
        out.try_extend_from_slice(&mac).ok()?;
        Some(out)
    }

    /// Seals the handle of a directory of the pseudo file system.
    pub fn seal_pseudo(&self, node: u64) -> FileHandle {
        let mut out = FileHandle::new();
        out.push(FORMAT_PSEUDO);
        out.extend(node.to_be_bytes());
        let mac = self.mac(&out);
        out.extend(mac);
        out
    }

    /// Opens a handle an NFSv3 client sent.
    ///
    /// # Errors
    /// [`Forged`] for anything [`HandleKey::seal`] did not make.
    pub fn open(&self, wire: &[u8]) -> Result<Parts, Forged> {
        match self.open_any(wire)? {
            Handle::File(parts) => Ok(parts),
            Handle::Pseudo(_) => Err(Forged),
        }
    }

    /// Opens a handle an NFSv4 client sent.
    ///
    /// # Errors
    /// [`Forged`] for anything [`HandleKey::seal`] and [`HandleKey::seal_pseudo`] did not make.
    pub fn open_any(&self, wire: &[u8]) -> Result<Handle, Forged> {
        let (body, mac) = wire
            .split_at_checked(wire.len().saturating_sub(MAC))
            .ok_or(Forged)?;
        if !bool::from(self.mac(body).as_slice().ct_eq(mac)) {
            return Err(Forged);
        }
        if let [FORMAT_PSEUDO, node @ ..] = body {
            let node = node.try_into().map_err(|_| Forged)?;
            return Ok(Handle::Pseudo(u64::from_be_bytes(node)));
        }
        let (head, bytes) = body.split_first_chunk::<HEAD>().ok_or(Forged)?;
        let [FORMAT, kind, e0, e1, e2, e3, fsid @ ..] = *head else {
            return Err(Forged);
        };
        let bytes = ArrayVec::try_from(bytes).map_err(|_| Forged)?;
        Ok(Handle::File(Parts {
            export: u32::from_be_bytes([e0, e1, e2, e3]),
            fsid: u64::from_be_bytes(fsid),
            handle: KernelHandle {
                kind: i32::from(kind),
                bytes,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> HandleKey {
        HandleKey::new(*b"0123456789abcdef")
    }

    fn handle(bytes: &[u8]) -> KernelHandle {
        KernelHandle {
            kind: 1,
            bytes: bytes.iter().copied().collect(),
        }
    }

    #[test]
    fn the_largest_handles_of_ext4_xfs_and_btrfs_fit() {
        for len in [8, 12, 16, 24, 20, 40, KERNEL_HANDLE_MAX] {
            let sealed = key().seal(7, 9, &handle(&vec![1; len]));
            assert!(sealed.is_some_and(|h| h.len() <= NFS3_FHSIZE), "{len}");
        }
        assert_eq!(key().seal(7, 9, &handle(&[1; KERNEL_HANDLE_MAX + 1])), None);
    }

    #[test]
    fn another_key_opens_nothing() {
        let sealed = key().seal(1, 2, &handle(&[3; 8])).expect("fits");
        assert_eq!(HandleKey::new([0; 16]).open(&sealed), Err(Forged));
    }

    proptest! {
        #[test]
        fn sealed_handles_open_and_changed_ones_do_not(
            export: u32, fsid: u64, bytes in proptest::collection::vec(any::<u8>(), 0..=KERNEL_HANDLE_MAX),
            flip in any::<proptest::sample::Index>(), bit in 0..8u32, cut in any::<proptest::sample::Index>(),
        ) {
            let parts = Parts { export, fsid, handle: handle(&bytes) };
            let sealed = key().seal(export, fsid, &parts.handle).expect("fits");
            prop_assert_eq!(key().open(&sealed), Ok(parts.clone()));
            prop_assert_eq!(key().open_any(&sealed), Ok(Handle::File(parts)));
            let mut bad = sealed.clone();
            let at = flip.index(bad.len());
            bad[at] ^= 1 << bit;
            prop_assert_eq!(key().open(&bad), Err(Forged));
            prop_assert_eq!(key().open(&sealed[..cut.index(sealed.len())]), Err(Forged));
        }

        #[test]
        fn pseudo_handles_are_for_version_4_alone(node: u64, flip in 0..17usize, bit in 0..8u32, cut in 0..17usize) {
            let sealed = key().seal_pseudo(node);
            prop_assert_eq!(key().open_any(&sealed), Ok(Handle::Pseudo(node)));
            prop_assert_eq!(key().open(&sealed), Err(Forged));
            let mut bad = sealed.clone();
            bad[flip] ^= 1 << bit;
            prop_assert_eq!(key().open_any(&bad), Err(Forged));
            prop_assert_eq!(key().open_any(&sealed[..cut]), Err(Forged));
        }

        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
            prop_assert_eq!(key().open(&bytes), Err(Forged));
            prop_assert_eq!(key().open_any(&bytes), Err(Forged));
        }

        /// Under the right key, whatever is sealed: no form is taken for the other.
        #[test]
        fn sealed_nonsense_is_refused(body in proptest::collection::vec(prop_oneof![Just(FORMAT), Just(FORMAT_PSEUDO), any::<u8>()], 0..140)) {
            let mut wire = body.clone();
            wire.extend(key().mac(&body));
            let opened = key().open_any(&wire);
            match body.first() {
                Some(&FORMAT) if (HEAD..=HEAD + vfs::sys::HANDLE_MAX).contains(&body.len()) => {
                    prop_assert!(matches!(opened, Ok(Handle::File(_))));
                }
                Some(&FORMAT_PSEUDO) if body.len() == 9 => prop_assert!(matches!(opened, Ok(Handle::Pseudo(_)))),
                _ => prop_assert_eq!(opened, Err(Forged)),
            }
        }
    }
}
