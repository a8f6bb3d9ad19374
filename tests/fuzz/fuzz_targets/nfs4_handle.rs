//! Fuzzes the filehandles of NFS version 4: nothing but what the key sealed opens; directories of the pseudo file system
//! and files are never taken for each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfsd::fh::{Forged, Handle, HandleKey, KERNEL_HANDLE_MAX};
use nfsd::nfs4::types::NFS4_FHSIZE;
use vfs::KernelHandle;

fuzz_target!(|bytes: &[u8]| {
    let key = HandleKey::new(*b"not known abroad");
    assert!(matches!(key.open_any(bytes), Err(Forged)));
    let Some((node, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let node = u64::from_be_bytes(*node);
    let mut pseudo = key.seal_pseudo(node);
    assert!(pseudo.len() <= NFS4_FHSIZE);
    assert!(matches!(key.open_any(&pseudo), Ok(Handle::Pseudo(found)) if found == node));
    // To version 3 it is no handle.
    assert_eq!(key.open(&pseudo), Err(Forged));
    let handle = KernelHandle {
        kind: rest.first().map_or(0, |kind| i32::from(*kind)),
        bytes: rest.iter().copied().take(KERNEL_HANDLE_MAX).collect(),
    };
    let mut file = key.seal(node as u32, node, &handle).expect("it fits");
    let opened = key.open_any(&file);
    assert!(
        matches!(opened, Ok(Handle::File(parts)) if parts.fsid == node && parts.handle == handle)
    );
    let (at, flip) = rest
        .last_chunk()
        .map_or((0, 1), |[at, flip]| (usize::from(*at), flip | 1));
    let (in_pseudo, in_file) = (at % pseudo.len(), at % file.len());
    pseudo[in_pseudo] ^= flip;
    file[in_file] ^= flip;
    assert!(matches!(key.open_any(&pseudo), Err(Forged)));
    assert!(matches!(key.open_any(&file), Err(Forged)));
    let cut = &key.seal_pseudo(node)[..in_pseudo];
    assert!(matches!(key.open_any(cut), Err(Forged)));
});
