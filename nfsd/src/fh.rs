//! NFSv3 file handles: what a client may keep for ever and cannot forge.
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

use std::hash::Hasher;

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use vfs::KernelHandle;

use crate::nfs3::types::NFS3_FHSIZE;

const FORMAT: u8 = 0x52;
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

/// Not a handle this server made (`NFS3ERR_BADHANDLE`).
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

    /// Opens a handle a client sent.
    ///
    /// # Errors
    /// [`Forged`] for anything [`HandleKey::seal`] did not make.
    pub fn open(&self, wire: &[u8]) -> Result<Parts, Forged> {
        let (body, mac) = wire
            .split_at_checked(wire.len().saturating_sub(MAC))
            .ok_or(Forged)?;
        let (head, bytes) = body.split_first_chunk::<HEAD>().ok_or(Forged)?;
        if !bool::from(self.mac(body).as_slice().ct_eq(mac)) || head[0] != FORMAT {
            return Err(Forged);
        }
        let [_, kind, e0, e1, e2, e3, fsid @ ..] = *head;
        let bytes = ArrayVec::try_from(bytes).map_err(|_| Forged)?;
        Ok(Parts {
            export: u32::from_be_bytes([e0, e1, e2, e3]),
            fsid: u64::from_be_bytes(fsid),
            handle: KernelHandle {
                kind: i32::from(kind),
                bytes,
            },
        })
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
            prop_assert_eq!(key().open(&sealed), Ok(parts));
            let mut bad = sealed.clone();
            let at = flip.index(bad.len());
            bad[at] ^= 1 << bit;
            prop_assert_eq!(key().open(&bad), Err(Forged));
            prop_assert_eq!(key().open(&sealed[..cut.index(sealed.len())]), Err(Forged));
        }

        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(key().open(&bytes), Err(Forged));
        }
    }
}
