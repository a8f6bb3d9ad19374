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

/// Takes the first byte of the input as the choice of a type, the rest as its encoding. Types behind the second
/// semicolon are under the law of `several.rs`.
#[macro_export]
macro_rules! choose {
    ($data:expr; $($number:literal => $t:ty,)*) => { $crate::choose!($data; $($number => $t,)*;) };
    ($data:expr; $($number:literal => $t:ty,)*; $($several:literal => $u:ty,)*) => {
        let Some((selector, raw)) = $data.split_first() else { return };
        let mut again = Vec::new();
        match selector {
            $($number => law::hold::<$t>(raw, &mut again),)*
            $($several => several::settle::<$u>(raw, &mut again, &mut Vec::new()),)*
            _ => {}
        }
    };
}
