//! Fuzzes the arguments of every NFS version 3 procedure; the first byte is the procedure number.
#![no_main]

mod law;

use libfuzzer_sys::fuzz_target;
use nfsd::nfs3::args::*;

fuzz_target!(|data: &[u8]| {
    choose!(data;
        1 => Getattr3Args<'_>,
        2 => Setattr3Args<'_>,
        3 => Lookup3Args<'_>,
        4 => Access3Args<'_>,
        5 => Readlink3Args<'_>,
        6 => Read3Args<'_>,
        7 => Write3Args<'_>,
        8 => Create3Args<'_>,
        9 => Mkdir3Args<'_>,
        10 => Symlink3Args<'_>,
        11 => Mknod3Args<'_>,
        12 => Remove3Args<'_>,
        13 => Rmdir3Args<'_>,
        14 => Rename3Args<'_>,
        15 => Link3Args<'_>,
        16 => Readdir3Args<'_>,
        17 => Readdirplus3Args<'_>,
        18 => Fsstat3Args<'_>,
        19 => Fsinfo3Args<'_>,
        20 => Pathconf3Args<'_>,
        21 => Commit3Args<'_>,
    );
});
