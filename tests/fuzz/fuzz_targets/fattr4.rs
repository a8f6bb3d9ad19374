//! Fuzzes attributes as NFS version 4 clients send them: sets of numbers, values to set, values to compare. The first
//! byte is the minor version.
#![no_main]

#[path = "law/several.rs"]
mod several;

use libfuzzer_sys::fuzz_target;
use nfsd::nfs4::attr::{Wanted, bit, comparable, readable, settable, supported, wanted};
use nfsd::nfs4::types::{Attrlist4, Bitmap4, Fattr4};
use nfsd::xdr::{Dec, Enc};
use vfs::SetTime;

/// The values of what is wanted, written again.
fn values(wanted: &Wanted<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut enc = Enc::new(&mut out, usize::MAX);
    let time = |enc: &mut Enc<'_>, time| match time {
        SetTime::At(at) => {
            enc.u32(1)?;
            enc.i64(at.sec)?;
            enc.u32(at.nsec)
        }
        _ => enc.u32(0),
    };
    for number in wanted.mask.iter() {
        let put = match number {
            bit::ACL => enc.raw(wanted.acl.expect("in the set")),
            bit::DACL => {
                let flag = enc.u32(wanted.aclflag);
                flag.and_then(|()| enc.raw(wanted.acl.expect("in the set")))
            }
            bit::MODE_UMASK => {
                let mode = enc.u32(wanted.set.mode.expect("in the set"));
                mode.and_then(|()| enc.u32(wanted.set.umask))
            }
            bit::SIZE => enc.u64(wanted.set.size.expect("in the set")),
            bit::MODE => enc.u32(wanted.set.mode.expect("in the set")),
            bit::OWNER => enc.opaque(wanted.user.expect("in the set")),
            bit::OWNER_GROUP => enc.opaque(wanted.group.expect("in the set")),
            bit::TIME_ACCESS_SET => time(&mut enc, wanted.set.atime),
            bit::TIME_MODIFY_SET => time(&mut enc, wanted.set.mtime),
            _ => panic!("attribute {number} cannot be set"),
        };
        put.expect("room");
    }
    out
}

fn set(fattr: &Fattr4<'_>, minor: u32) {
    let Ok(first) = wanted(fattr, minor) else {
        return;
    };
    assert!(first.mask == fattr.mask && first.mask.within(&settable(minor)));
    assert_eq!(first.set.mode.unwrap_or(0) & !0o7777, 0);
    let again = values(&first);
    assert_eq!(again.len(), fattr.values.0.len());
    let fattr = Fattr4 {
        mask: first.mask,
        values: Attrlist4(&again),
    };
    assert_eq!(wanted(&fattr, minor), Ok(first));
}

fn sets(mask: &Bitmap4, minor: u32) {
    let ones: u32 = mask.words.iter().map(|word| word.count_ones()).sum();
    assert_eq!(mask.iter().count(), ones as usize);
    assert!(mask.iter().all(|bit| mask.has(bit)));
    assert_eq!(mask.or(mask), *mask);
    assert!(mask.and(&supported(minor)).within(&supported(minor)));
    if comparable(mask, minor).is_ok() {
        assert!(mask.within(&readable(minor)));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((minor, raw)) = data.split_first() else {
        return;
    };
    let minor = u32::from(*minor) % 3;
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    several::settle::<Fattr4<'_>>(raw, &mut once, &mut twice);
    if let Ok(fattr) = Dec::new(raw).get::<Fattr4<'_>>() {
        assert!(fattr.values.0.len() < raw.len());
        sets(&fattr.mask, minor);
        set(&fattr, minor);
    }
});
