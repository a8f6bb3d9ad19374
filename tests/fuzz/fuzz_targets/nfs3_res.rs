//! Fuzzes the results of every NFS version 3 procedure, as a test client reads them; the first byte is the procedure
//! number.
#![no_main]

mod law;

use libfuzzer_sys::fuzz_target;
use nfsd::nfs3::res::*;

fuzz_target!(|data: &[u8]| {
    choose!(data;
        1 => Getattr3Res,
        2 => Setattr3Res,
        3 => Lookup3Res<'_>,
        4 => Access3Res,
        5 => Readlink3Res<'_>,
        6 => Read3Res<'_>,
        7 => Write3Res,
        8 => Create3Res<'_>,
        14 => Rename3Res,
        15 => Link3Res,
        16 => Readdir3Res<'_>,
        17 => Readdirplus3Res<'_>,
        18 => Fsstat3Res,
        19 => Fsinfo3Res,
        20 => Pathconf3Res,
        21 => Commit3Res,
    );
});
