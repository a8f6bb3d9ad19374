//! The law of wire types that can be written in several ways.

use nfsd::xdr::{Dec, Decode, Enc, Encode};
use std::fmt::Debug;

/// The law of types that can be written in several ways (a `bitmap4` with zero words at its end): what decodes is
/// encoded in the same length or less, and from then on stays as it is.
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
