//! Reading XDR from a borrowed record.

use super::{Decode, Result, XdrError, pad_len};

/// A cursor over bytes not yet decoded.
#[derive(Debug, Clone)]
pub struct Dec<'a> {
    rest: &'a [u8],
}

impl<'a> Dec<'a> {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Bytes not read yet.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not read yet, without reading them.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Decodes any value.
    #[inline]
    pub fn get<T: Decode<'a>>(&mut self) -> Result<T> {
        T::decode(self)
    }

    #[inline]
    fn word<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(XdrError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Unsigned integer (RFC 4506 4.2).
    #[inline]
    pub fn u32(&mut self) -> Result<u32> {
        self.word::<4>().map(|b| u32::from_be_bytes(*b))
    }

    /// Signed integer (RFC 4506 4.1).
    #[inline]
    pub fn i32(&mut self) -> Result<i32> {
        self.word::<4>().map(|b| i32::from_be_bytes(*b))
    }

    /// Unsigned hyper integer (RFC 4506 4.5).
    #[inline]
    pub fn u64(&mut self) -> Result<u64> {
        self.word::<8>().map(|b| u64::from_be_bytes(*b))
    }

    /// Hyper integer (RFC 4506 4.5).
    #[inline]
    pub fn i64(&mut self) -> Result<i64> {
        self.word::<8>().map(|b| i64::from_be_bytes(*b))
    }

    /// Boolean (RFC 4506 4.4): 0 or 1, anything else is `BadBool`.
    #[inline]
    pub fn bool(&mut self) -> Result<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(XdrError::BadBool),
        }
    }

    /// Fixed-length opaque data (RFC 4506 4.9), padding consumed.
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let start = self.rest;
        let data = self.word::<N>()?;
        if let Err(short) = self.skip(pad_len(N)) {
            self.rest = start;
            return Err(short);
        }
        Ok(data)
    }

    /// Variable-length opaque data of at most `max` bytes (RFC 4506 4.10), padding consumed.
    ///
    /// Padding bytes are not required to be zero: Linux accepts any and old clients send them.
    #[inline]
    pub fn opaque(&mut self, max: usize) -> Result<&'a [u8]> {
        let start = self.rest;
        let len = self.u32()? as usize;
        match self.opaque_body(len, max) {
            Ok(data) => Ok(data),
            Err(e) => {
                self.rest = start;
                Err(e)
            }
        }
    }

    #[inline]
    fn opaque_body(&mut self, len: usize, max: usize) -> Result<&'a [u8]> {
        if len > max {
            return Err(XdrError::TooLong);
        }
        let data = self.rest.get(..len).ok_or(XdrError::Short)?;
        self.skip(len)?;
        self.skip(pad_len(len))?;
        Ok(data)
    }

    /// String of at most `max` bytes (RFC 4506 4.11). Names are bytes: no character set is assumed.
    #[inline]
    pub fn string(&mut self, max: usize) -> Result<&'a [u8]> {
        self.opaque(max)
    }

    /// Element count of a variable-length array (RFC 4506 4.13): at most `max`, and no more than the
    /// bytes present can hold when each element takes at least `min_elem_bytes`.
    #[inline]
    pub fn array_len(&mut self, max: usize, min_elem_bytes: usize) -> Result<usize> {
        let start = self.rest;
        let len = self.u32()? as usize;
        let error = if len > max {
            XdrError::TooLong
        } else if len.saturating_mul(min_elem_bytes) > self.remaining() {
            XdrError::Short
        } else {
            return Ok(len);
        };
        self.rest = start;
        Err(error)
    }

    /// Passes over `n` bytes.
    #[inline]
    pub fn skip(&mut self, n: usize) -> Result<()> {
        self.rest = self.rest.get(n..).ok_or(XdrError::Short)?;
        Ok(())
    }

    /// The end of the arguments: bytes left over are `Trailing`.
    #[inline]
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(XdrError::Trailing)
        }
    }
}
