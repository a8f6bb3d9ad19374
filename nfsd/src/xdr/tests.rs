//! Laws of the codec.

use super::*;
use arrayvec::ArrayVec;
use proptest::prelude::*;

fn bytes<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut buf = Vec::new();
    Enc::new(&mut buf, 1 << 20).put(value).unwrap();
    assert_eq!(buf.len() % 4, 0);
    buf
}

fn whole<'a, T: Decode<'a>>(raw: &'a [u8]) -> Result<T> {
    let mut dec = Dec::new(raw);
    let value = dec.get()?;
    dec.finish()?;
    Ok(value)
}

#[test]
fn numbers_are_big_endian() {
    assert_eq!(bytes(&1_u32), [0, 0, 0, 1]);
    assert_eq!(bytes(&-2_i32), [255, 255, 255, 254]);
    assert_eq!(bytes(&0x0102_0304_0506_0708_u64), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes(&-1_i64), [255; 8]);
    assert_eq!(whole::<i64>(&[255; 8]), Ok(-1));
}

#[test]
fn bool_is_strict() {
    assert_eq!(whole::<bool>(&[0, 0, 0, 0]), Ok(false));
    assert_eq!(whole::<bool>(&[0, 0, 0, 1]), Ok(true));
    for raw in [[0, 0, 0, 2], [1, 0, 0, 0], [255; 4]] {
        assert_eq!(whole::<bool>(&raw), Err(XdrError::BadBool));
    }
}

#[test]
fn opaque_bounds() {
    let mut dec = Dec::new(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 9, 9, 9, 7]);
    assert_eq!(dec.opaque(4), Err(XdrError::TooLong));
    assert_eq!(dec.opaque(5), Ok(&[1, 2, 3, 4, 5][..]));
    assert_eq!(dec.remaining(), 1);
    // Data present, padding cut.
    let mut cut = Dec::new(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0]);
    assert_eq!(cut.opaque(5), Err(XdrError::Short));
    assert_eq!(cut.remaining(), 11, "an error leaves the position");
    let mut huge = Dec::new(&[255; 4]);
    assert_eq!(huge.opaque(usize::MAX), Err(XdrError::Short));
}

#[test]
fn fixed_takes_its_padding() {
    let raw = [1, 2, 3, 4, 5, 0, 0, 0];
    assert_eq!(Dec::new(&raw).fixed::<5>(), Ok(&[1, 2, 3, 4, 5]));
    assert_eq!(whole::<[u8; 5]>(&raw), Ok([1, 2, 3, 4, 5]));
    let mut cut = Dec::new(&raw[..7]);
    assert_eq!(cut.fixed::<5>(), Err(XdrError::Short));
    assert_eq!(cut.remaining(), 7);
}

#[test]
fn array_lengths_are_bounded_by_the_bytes_present() {
    let raw = [0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(Dec::new(&raw).array_len(2, 4), Err(XdrError::TooLong));
    assert_eq!(Dec::new(&raw).array_len(3, 4), Err(XdrError::Short));
    assert_eq!(Dec::new(&raw).array_len(3, 2), Ok(3));
    assert_eq!(
        Dec::new(&[255; 4]).array_len(usize::MAX, usize::MAX),
        Err(XdrError::Short)
    );
    assert_eq!(whole::<ArrayVec<u32, 2>>(&raw), Err(XdrError::TooLong));
    assert_eq!(whole::<ArrayVec<u32, 3>>(&raw), Err(XdrError::Short));
}

#[test]
fn leftovers_are_an_error() {
    assert_eq!(whole::<u32>(&[0; 5]), Err(XdrError::Trailing));
}

#[test]
fn limit_rollback_and_patch() {
    let mut buf = vec![9; 3];
    let mut enc = Enc::new(&mut buf, 12);
    assert_eq!((enc.pos(), enc.room(), enc.written()), (3, 12, 0));
    let at = enc.pos();
    enc.u32(0).unwrap();
    assert_eq!(
        enc.opaque(&[1; 5]),
        Err(XdrError::Full),
        "12 bytes do not fit 8"
    );
    assert_eq!(enc.room(), 8, "nothing of it was written");
    assert_eq!(enc.fixed(&[0; 9]), Err(XdrError::Full));
    enc.opaque(&[1; 4]).unwrap();
    assert_eq!(
        (enc.u32(1), enc.pad(1)),
        (Err(XdrError::Full), Err(XdrError::Full))
    );
    enc.patch_u32(at, 0xabcd_ef01).unwrap();
    assert_eq!(
        enc.patch_u32(2, 1),
        Err(XdrError::Short),
        "before the start"
    );
    assert_eq!(enc.patch_u32(12, 1), Err(XdrError::Short), "over the end");
    assert_eq!(enc.patch_u32(usize::MAX, 1), Err(XdrError::Short));
    enc.rollback(at + 4);
    assert_eq!(enc.room(), 8);
    enc.rollback(0);
    assert_eq!(enc.written(), 0);
    assert_eq!(buf, [9; 3], "bytes of others stay");
}

#[test]
fn a_value_that_does_not_fit_can_be_taken_back() {
    let mut buf = Vec::new();
    let mut enc = Enc::new(&mut buf, 6);
    assert_eq!(enc.put_or_rollback(&Some(1_u32)), Err(XdrError::Full));
    assert_eq!(enc.written(), 0);
}

#[test]
fn chains() {
    let mut buf = Vec::new();
    encode_chain(&mut Enc::new(&mut buf, 100), [5_u32, 6]).unwrap();
    assert_eq!(
        buf,
        [0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0]
    );
    let chain: Chain<'_, u32> = whole(&buf).unwrap();
    assert_eq!(chain.iter().collect::<Vec<_>>(), [5, 6]);
    assert_eq!(bytes(&chain), buf);
    assert!(!chain.is_empty());
    for cut in 0..buf.len() {
        assert!(whole::<Chain<'_, u32>>(&buf[..cut]).is_err());
    }
    let empty = Chain::<u32>::default();
    assert!(empty.is_empty() && empty.iter().next().is_none());
    assert_eq!(bytes(&empty), [0; 4]);
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct S(u32);

impl Status for S {
    const OK: Self = Self(0);
    const FAULT: Self = Self(99);
}

impl Decode<'_> for S {
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        dec.u32().map(Self)
    }
}

impl Encode for S {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.u32(self.0)
    }
}

#[test]
fn a_failure_never_claims_success() {
    let res: Res<S, u64, u32> = Res::Fail(S(0), 7);
    assert_eq!(bytes(&res), [0, 0, 0, 99, 0, 0, 0, 7]);
    assert_eq!(res.ok(), Err(S(99)));
    let res: Res<S, u64, u32> = Res::Ok(7);
    assert_eq!(bytes(&res), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
}

proptest! {
    #[test]
    fn opaque_round_trip(data in proptest::collection::vec(any::<u8>(), 0..70)) {
        let mut buf = Vec::new();
        Enc::new(&mut buf, 100).opaque(&data).unwrap();
        prop_assert_eq!(buf.len(), opaque_len(data.len()));
        prop_assert!(buf[4 + data.len()..].iter().all(|b| *b == 0));
        prop_assert_eq!(Dec::new(&buf).opaque(70), Ok(&data[..]));
        for cut in 0..buf.len() {
            prop_assert_eq!(Dec::new(&buf[..cut]).opaque(70), Err(XdrError::Short));
        }
    }

    #[test]
    fn option_and_array_round_trip(v in proptest::collection::vec(any::<u32>(), 0..8), o in any::<Option<u64>>()) {
        let array: ArrayVec<u32, 8> = v.into_iter().collect();
        prop_assert_eq!(whole::<ArrayVec<u32, 8>>(&bytes(&array)), Ok(array));
        prop_assert_eq!(whole::<Option<u64>>(&bytes(&o)), Ok(o));
    }
}
