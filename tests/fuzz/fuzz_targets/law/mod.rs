//! The law of a wire type on any bytes: what decodes is encoded in the same length and decodes to the same value.

use nfsd::xdr::{Dec, Decode, Enc, Encode};
use std::fmt::Debug;

/// Holds `raw` to the law, both as exactly one value and as a value with more behind it.
pub fn hold<'a, T: Decode<'a> + Encode + PartialEq + Debug>(raw: &'a [u8], again: &'a mut Vec<u8>) {
    let mut dec = Dec::new(raw);
    let Ok(value) = dec.get::<T>() else { return };
    let used = raw.len() - dec.remaining();
    Enc::new(again, used)
        .put(&value)
        .expect("needs no more room than it came in");
    assert_eq!(again.len(), used);
    let again: &'a [u8] = again;
    let mut dec = Dec::new(again);
    assert_eq!(dec.get::<T>().as_ref(), Ok(&value));
    assert_eq!(dec.finish(), Ok(()));
}

/// The law of types that can be written in several ways (a `bitmap4` with zero words at its end): what decodes is
/// encoded in the same length or less, and from then on stays as it is.
#[allow(dead_code, reason = "not every target has such types")]
pub fn settle<'a, T: Decode<'a> + Encode + PartialEq + Debug>(
    raw: &'a [u8],
    once: &'a mut Vec<u8>,
    twice: &mut Vec<u8>,
) {
    let mut dec = Dec::new(raw);
    let Ok(value) = dec.get::<T>() else { return };
    let used = raw.len() - dec.remaining();
    Enc::new(once, used)
        .put(&value)
        .expect("needs no more room than it came in");
    let once: &'a [u8] = once;
    let mut dec = Dec::new(once);
    let value: T = dec.get().expect("reads back");
    assert_eq!(dec.finish(), Ok(()));
    Enc::new(twice, once.len())
        .put(&value)
        .expect("needs the same room again");
    assert_eq!(twice, once);
}

/// Takes the first byte of the input as the choice of a type, the rest as its encoding.
#[macro_export]
macro_rules! choose {
    ($data:expr; $($number:literal => $t:ty,)*) => { $crate::choose!($data; $($number => $t,)*;) };
    ($data:expr; $($number:literal => $t:ty,)*; $($several:literal => $u:ty,)*) => {
        let Some((selector, raw)) = $data.split_first() else { return };
        let mut again = Vec::new();
        match selector {
            $($number => law::hold::<$t>(raw, &mut again),)*
            $($several => law::settle::<$u>(raw, &mut again, &mut Vec::new()),)*
            _ => {}
        }
    };
}
