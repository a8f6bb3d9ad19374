//! Fuzzes the file handle decoder: nothing but what the key sealed opens, and that opens as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfsd::fh::{Forged, HandleKey, KERNEL_HANDLE_MAX};
use vfs::KernelHandle;

fuzz_target!(|bytes: &[u8]| {
    let key = HandleKey::new(*b"not known abroad");
    assert_eq!(key.open(bytes), Err(Forged));
    let Some((head, rest)) = bytes.split_first_chunk::<13>() else {
        return;
    };
    let [kind, e0, e1, e2, e3, fsid @ ..] = *head;
    let (export, fsid) = (u32::from_be_bytes([e0, e1, e2, e3]), u64::from_be_bytes(fsid));
    let handle = KernelHandle {
        kind: i32::from(kind),
        bytes: rest.iter().copied().take(KERNEL_HANDLE_MAX).collect(),
    };
    let mut sealed = key.seal(export, fsid, &handle).expect("it fits");
    let parts = key.open(&sealed).expect("its own");
    assert_eq!((parts.export, parts.fsid, &parts.handle), (export, fsid, &handle));
    let at = rest.last().map_or(0, |b| usize::from(*b)) % sealed.len();
    sealed[at] ^= kind | 1;
    assert_eq!(key.open(&sealed), Err(Forged));
});
