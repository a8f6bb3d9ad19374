//! The traits every wire type implements, and the forms RFC 4506 builds from other types.

use super::{Dec, Enc, Result, XdrError};
use arrayvec::ArrayVec;

/// A value that can be read from a record living for `'a`.
pub trait Decode<'a>: Sized {
    /// Reads one value. After an error the position is unspecified: the caller gives up the record.
    fn decode(dec: &mut Dec<'a>) -> Result<Self>;
}

/// A value that can be appended to a reply.
pub trait Encode {
    /// Appends one value. After an error a part of it may be in the buffer.
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()>;
}

/// A value of constant size, written and read as one piece.
pub trait Block: Sized {
    /// Bytes on the wire.
    const SIZE: usize;
    /// Writes the value to `out`, which is `SIZE` bytes long.
    fn put(&self, out: &mut [u8]);
    /// Reads the value from `raw`, which is `SIZE` bytes long.
    fn get(raw: &[u8]) -> Result<Self>;
}

macro_rules! integer {
    ($($t:ident)*) => {$(
        impl Decode<'_> for $t {
            #[inline]
            fn decode(dec: &mut Dec<'_>) -> Result<Self> {
                dec.$t()
            }
        }
        impl Encode for $t {
            #[inline]
            fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
                enc.$t(*self)
            }
        }
        impl Block for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline]
            fn put(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_be_bytes());
            }
            #[inline]
            fn get(raw: &[u8]) -> Result<Self> {
                raw.try_into().map($t::from_be_bytes).map_err(|_| XdrError::Short)
            }
        }
    )*};
}

integer!(u32 i32 u64 i64);

impl Decode<'_> for bool {
    #[inline]
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        dec.bool()
    }
}

impl Encode for bool {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.bool(*self)
    }
}

/// Void (RFC 4506 4.16).
impl Decode<'_> for () {
    #[inline]
    fn decode(_: &mut Dec<'_>) -> Result<Self> {
        Ok(())
    }
}

/// Void (RFC 4506 4.16).
impl Encode for () {
    #[inline]
    fn encode(&self, _: &mut Enc<'_>) -> Result<()> {
        Ok(())
    }
}

/// Fixed-length opaque data (RFC 4506 4.9).
impl<const N: usize> Decode<'_> for [u8; N] {
    #[inline]
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        dec.fixed::<N>().copied()
    }
}

/// Fixed-length opaque data (RFC 4506 4.9).
impl<const N: usize> Encode for [u8; N] {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.fixed(self)
    }
}

/// Optional data (RFC 4506 4.19), also every union of the form `bool -> value or void`.
impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    #[inline]
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        if dec.bool()? {
            T::decode(dec).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Optional data (RFC 4506 4.19), also every union of the form `bool -> value or void`.
impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        match self {
            None => enc.u32(0),
            Some(value) => {
                enc.u32(1)?;
                value.encode(enc)
            }
        }
    }
}

/// Variable-length array of at most `N` elements (RFC 4506 4.13).
impl<'a, T: Decode<'a>, const N: usize> Decode<'a> for ArrayVec<T, N> {
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        let len = dec.array_len(N, 4)?;
        let mut out = Self::new();
        for _ in 0..len {
            out.try_push(T::decode(dec)?)
                .map_err(|_| XdrError::TooLong)?;
        }
        Ok(out)
    }
}

/// Variable-length array (RFC 4506 4.13).
impl<T: Encode, const N: usize> Encode for ArrayVec<T, N> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.u32(u32::try_from(self.len()).map_err(|_| XdrError::TooLong)?)?;
        self.iter().try_for_each(|item| item.encode(enc))
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        (**self).encode(enc)
    }
}

/// A status word that selects the arm of a result union.
pub trait Status: Copy + PartialEq {
    /// The status that selects the success arm.
    const OK: Self;
    /// Sent when a failure was built with `OK` by mistake, so that a reply is never malformed.
    const FAULT: Self;
}

/// `union switch (status) { case OK: T; default: F; }`, the form of every NFS and MOUNT result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Res<S, T, F = ()> {
    /// The procedure succeeded.
    Ok(T),
    /// The procedure failed: the status and what the failure arm carries.
    Fail(S, F),
}

impl<S: Status, T, F> Res<S, T, F> {
    /// The status word of this result.
    #[must_use]
    pub fn status(&self) -> S {
        match self {
            Self::Ok(_) => S::OK,
            Self::Fail(status, _) if *status == S::OK => S::FAULT,
            Self::Fail(status, _) => *status,
        }
    }

    /// The success arm, or the status of the failure.
    pub fn ok(self) -> Result<T, S> {
        let status = self.status();
        match self {
            Self::Ok(value) => Ok(value),
            Self::Fail(..) => Err(status),
        }
    }
}

impl<'a, S: Status + Decode<'a>, T: Decode<'a>, F: Decode<'a>> Decode<'a> for Res<S, T, F> {
    #[inline]
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        let status = S::decode(dec)?;
        if status == S::OK {
            T::decode(dec).map(Self::Ok)
        } else {
            Ok(Self::Fail(status, F::decode(dec)?))
        }
    }
}

impl<S: Status + Encode, T: Encode, F: Encode> Encode for Res<S, T, F> {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        self.status().encode(enc)?;
        match self {
            Self::Ok(value) => value.encode(enc),
            Self::Fail(_, fail) => fail.encode(enc),
        }
    }
}
