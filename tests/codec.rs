//! Every wire type against other people's codecs: C from rpcgen and libtirpc (`xdr/oracle.c`), nfs3_types, xdr-codec.
//!
//! The values come from the declarations (`nfsd::xdr::Sample`), so a new field is compared without further work.

mod c_oracle;
mod nfs4;
mod peers;
mod primitives;

use nfsd::mount::types as mount;
use nfsd::nfs3::{args::*, res::*};
use nfsd::rpc::{auth::sys::AuthSys, portmap};
use nfsd::xdr::{Dec, Decode, Enc, Encode, Sample, Tape};

/// Values made of each type.
const SAMPLES: u64 = 150;

/// A wire type under test: its name in the .x files, and what can be done with it.
struct Type {
    name: &'static str,
    /// Encodes the value a tape gives.
    sample: fn(&'static [u8]) -> Vec<u8>,
    /// Decodes and encodes again; `None` if the bytes are not one whole value.
    recode: fn(&'static [u8]) -> Option<Vec<u8>>,
    /// A value may be written in several ways: a `bitmap4` can have zero words at its end.
    several: bool,
}

fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut buf = Vec::new();
    let written = Enc::new(&mut buf, usize::MAX).put(value);
    written.expect("a sampled value is within its limits");
    buf
}

const fn of<T: Sample<'static> + Decode<'static> + Encode>(name: &'static str) -> Type {
    Type {
        name,
        sample: |tape| encode(&T::sample(&mut Tape::new(tape))),
        recode: |raw| {
            let mut dec = Dec::new(raw);
            let value: T = dec.get().ok()?;
            dec.finish().ok()?;
            Some(encode(&value))
        },
        several: false,
    }
}

/// Every argument and result type. Results that the RFC declares apart and this project once are here under each name.
const TYPES: &[Type] = &[
    of::<Getattr3Args<'_>>("GETATTR3args"),
    of::<Getattr3Res>("GETATTR3res"),
    of::<Setattr3Args<'_>>("SETATTR3args"),
    of::<Setattr3Res>("SETATTR3res"),
    of::<Lookup3Args<'_>>("LOOKUP3args"),
    of::<Lookup3Res<'_>>("LOOKUP3res"),
    of::<Access3Args<'_>>("ACCESS3args"),
    of::<Access3Res>("ACCESS3res"),
    of::<Readlink3Args<'_>>("READLINK3args"),
    of::<Readlink3Res<'_>>("READLINK3res"),
    of::<Read3Args<'_>>("READ3args"),
    of::<Read3Res<'_>>("READ3res"),
    of::<Write3Args<'_>>("WRITE3args"),
    of::<Write3Res>("WRITE3res"),
    of::<Create3Args<'_>>("CREATE3args"),
    of::<Create3Res<'_>>("CREATE3res"),
    of::<Mkdir3Args<'_>>("MKDIR3args"),
    of::<Mkdir3Res<'_>>("MKDIR3res"),
    of::<Symlink3Args<'_>>("SYMLINK3args"),
    of::<Symlink3Res<'_>>("SYMLINK3res"),
    of::<Mknod3Args<'_>>("MKNOD3args"),
    of::<Mknod3Res<'_>>("MKNOD3res"),
    of::<Remove3Args<'_>>("REMOVE3args"),
    of::<Remove3Res>("REMOVE3res"),
    of::<Rmdir3Args<'_>>("RMDIR3args"),
    of::<Rmdir3Res>("RMDIR3res"),
    of::<Rename3Args<'_>>("RENAME3args"),
    of::<Rename3Res>("RENAME3res"),
    of::<Link3Args<'_>>("LINK3args"),
    of::<Link3Res>("LINK3res"),
    of::<Readdir3Args<'_>>("READDIR3args"),
    of::<Readdir3Res<'_>>("READDIR3res"),
    of::<Readdirplus3Args<'_>>("READDIRPLUS3args"),
    of::<Readdirplus3Res<'_>>("READDIRPLUS3res"),
    of::<Fsstat3Args<'_>>("FSSTAT3args"),
    of::<Fsstat3Res>("FSSTAT3res"),
    of::<Fsinfo3Args<'_>>("FSINFO3args"),
    of::<Fsinfo3Res>("FSINFO3res"),
    of::<Pathconf3Args<'_>>("PATHCONF3args"),
    of::<Pathconf3Res>("PATHCONF3res"),
    of::<Commit3Args<'_>>("COMMIT3args"),
    of::<Commit3Res>("COMMIT3res"),
    of::<mount::Dirpath<'_>>("dirpath"),
    of::<mount::Fhstatus>("fhstatus"),
    of::<mount::Mountres3<'_>>("mountres3"),
    of::<mount::Mountlist<'_>>("mountlist"),
    of::<mount::Exports<'_>>("exports"),
    of::<portmap::Mapping>("x_mapping"),
    of::<portmap::PmapList<'_>>("x_pmaplist"),
    of::<portmap::Rpcb<'_>>("x_rpcb"),
    of::<portmap::RpcbList<'_>>("x_rpcblist"),
    of::<AuthSys<'_>>("x_authsys_parms"),
];

/// Reproducible numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// A tape long enough for most values. Tests may leak: values borrow from it.
    fn tape(&mut self) -> &'static [u8] {
        let bytes: Vec<u8> = (0..128).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.leak()
    }
}

/// The encoded samples of a type.
fn samples(kind: &Type) -> impl Iterator<Item = Vec<u8>> {
    let sample = kind.sample;
    (0..SAMPLES).map(move |seed| sample(Numbers(seed).tape()))
}
