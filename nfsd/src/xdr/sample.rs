//! Values of every wire type made from a tape of bytes, for tests and fuzzing (feature `samples`).
//!
//! The declarations generate these too, so a new type or field is covered without further work. An
//! exhausted tape reads as zeros, which lets a property test shrink a value by shortening its tape.

use super::{Chain, Enc, Encode, Res, Status};
use arrayvec::ArrayVec;

/// A tape of choices. Opaque data is borrowed from it.
#[derive(Debug, Clone)]
pub struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    /// Reads choices from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// At most `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = tail;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for (slot, byte) in out.iter_mut().zip(self.take(N)) {
            *slot = *byte;
        }
        out
    }

    /// A number below `n`, 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let [byte] = self.array();
        usize::from(byte).checked_rem(n).unwrap_or(0)
    }

    /// Opaque data of at most `max` bytes: mostly short, sometimes of the full length.
    pub fn opaque(&mut self, max: usize) -> &'a [u8] {
        let len = match self.below(16) {
            15 => max,
            _ => self.below(40).min(max),
        };
        self.take(len)
    }
}

/// A value that can be made from a tape.
pub trait Sample<'a>: Sized {
    /// Makes a value; any tape gives one.
    fn sample(tape: &mut Tape<'a>) -> Self;
}

macro_rules! integer {
    ($($t:ident)*) => {$(
        impl Sample<'_> for $t {
            fn sample(tape: &mut Tape<'_>) -> Self {
                // Extremes are more telling than uniform numbers.
                match tape.below(8) {
                    0 => 0,
                    1 => $t::MAX,
                    2 => $t::MIN,
                    _ => Self::from_le_bytes(tape.array()),
                }
            }
        }
    )*};
}

integer!(u32 i32 u64 i64);

impl Sample<'_> for bool {
    fn sample(tape: &mut Tape<'_>) -> Self {
        tape.below(2) == 1
    }
}

impl Sample<'_> for () {
    fn sample(_: &mut Tape<'_>) {}
}

impl<const N: usize> Sample<'_> for [u8; N] {
    fn sample(tape: &mut Tape<'_>) -> Self {
        tape.array()
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for Option<T> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        bool::sample(tape).then(|| T::sample(tape))
    }
}

impl<'a, T: Sample<'a>, const N: usize> Sample<'a> for ArrayVec<T, N> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        let len = tape.below(N + 1);
        (0..len).map(|_| T::sample(tape)).collect()
    }
}

impl<'a, S, T, F> Sample<'a> for Res<S, T, F>
where
    S: Status + Sample<'a>,
    T: Sample<'a>,
    F: Sample<'a>,
{
    fn sample(tape: &mut Tape<'a>) -> Self {
        let status = S::sample(tape);
        if bool::sample(tape) || status == S::OK {
            Self::Ok(T::sample(tape))
        } else {
            Self::Fail(status, F::sample(tape))
        }
    }
}

impl<'a, T: Sample<'a> + Encode> Sample<'a> for Chain<'a, T> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        let mut raw = Vec::new();
        let mut enc = Enc::new(&mut raw, usize::MAX);
        let items: Vec<T> = (0..tape.below(6)).map(|_| T::sample(tape)).collect();
        match super::encode_chain(&mut enc, items) {
            // Test builds only: a list borrows its bytes, so somebody has to keep them.
            Ok(()) => Self::from_encoded(raw.leak()),
            Err(_) => Self::default(),
        }
    }
}
