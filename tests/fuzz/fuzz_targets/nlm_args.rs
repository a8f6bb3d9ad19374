//! Fuzzes the types of NLM, in both widths, and of NSM; the first byte chooses.
#![no_main]

mod law;

use libfuzzer_sys::fuzz_target;
use nfsd::nlm::types::{
    CancelArgs, Holder, LockArgs, Notify, Res, ShareArgs, ShareRes, TestArgs, TestRes, UnlockArgs,
    narrow,
};
use nfsd::nsm::types::{Mon, MonId, MyId, SmName, SmStat, SmStatRes, StatChge};

fuzz_target!(|data: &[u8]| {
    choose!(data;
        0 => TestArgs<'_>,
        1 => narrow::TestArgs<'_>,
        2 => LockArgs<'_>,
        3 => narrow::LockArgs<'_>,
        4 => CancelArgs<'_>,
        5 => narrow::CancelArgs<'_>,
        6 => UnlockArgs<'_>,
        7 => narrow::UnlockArgs<'_>,
        8 => TestRes<'_, Holder<'_>>,
        9 => TestRes<'_, narrow::Holder<'_>>,
        10 => Res<'_>,
        11 => ShareArgs<'_>,
        12 => ShareRes<'_>,
        13 => Notify<'_>,
        14 => SmName<'_>,
        15 => SmStatRes,
        16 => SmStat,
        17 => Mon<'_>,
        18 => MonId<'_>,
        19 => MyId<'_>,
        20 => StatChge<'_>,
    );
});
