//! Writing XDR into a caller's buffer under a byte limit.

use super::{Encode, Result, XdrError, opaque_len, pad_len};

/// Appends XDR to a buffer that stays the caller's.
///
/// A write that does not fit fails as a whole with [`XdrError::Full`]; a value of several writes may
/// leave a part behind, which [`Enc::rollback`] removes.
#[derive(Debug)]
pub struct Enc<'b> {
    buf: &'b mut Vec<u8>,
    start: usize,
    limit: usize,
}

impl<'b> Enc<'b> {
    /// Appends at the end of `buf`, at most `max_bytes` more than it holds now.
    #[must_use]
    pub fn new(buf: &'b mut Vec<u8>, max_bytes: usize) -> Self {
        let start = buf.len();
        Self {
            start,
            limit: start.saturating_add(max_bytes),
            buf,
        }
    }

    /// Position in the caller's buffer, for [`Enc::rollback`] and [`Enc::patch_u32`].
    #[inline]
    #[must_use]
    pub fn pos(&self) -> usize {
        self.buf.len()
    }

    /// Bytes written since this encoder was made.
    #[inline]
    #[must_use]
    pub fn written(&self) -> usize {
        self.buf.len().saturating_sub(self.start)
    }

    /// Bytes that still fit.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.buf.len())
    }

    /// Forgets everything written after `pos`. A position before this encoder's start is the start.
    #[inline]
    pub fn rollback(&mut self, pos: usize) {
        self.buf.truncate(pos.max(self.start));
    }

    /// Overwrites the word at `pos`, which must have been written by this encoder (else `Short`).
    pub fn patch_u32(&mut self, pos: usize, value: u32) -> Result<()> {
        if pos < self.start {
            return Err(XdrError::Short);
        }
        let tail = self.buf.get_mut(pos..).ok_or(XdrError::Short)?;
        let word = tail.first_chunk_mut::<4>().ok_or(XdrError::Short)?;
        *word = value.to_be_bytes();
        Ok(())
    }

    /// Encodes any value.
    #[inline]
    pub fn put<T: Encode + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.encode(self)
    }

    /// Encodes any value or leaves the buffer as it was.
    pub fn put_or_rollback<T: Encode + ?Sized>(&mut self, value: &T) -> Result<()> {
        let pos = self.pos();
        let result = value.encode(self);
        if result.is_err() {
            self.rollback(pos);
        }
        result
    }

    /// Bytes that are XDR already: appended as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.room() {
            return Err(XdrError::Full);
        }
        self.buf.extend_from_slice(bytes);
        Ok(())
    }

    /// Unsigned integer (RFC 4506 4.2).
    #[inline]
    pub fn u32(&mut self, value: u32) -> Result<()> {
        self.raw(&value.to_be_bytes())
    }

    /// Signed integer (RFC 4506 4.1).
    #[inline]
    pub fn i32(&mut self, value: i32) -> Result<()> {
        self.raw(&value.to_be_bytes())
    }

    /// Unsigned hyper integer (RFC 4506 4.5).
    #[inline]
    pub fn u64(&mut self, value: u64) -> Result<()> {
        self.raw(&value.to_be_bytes())
    }

    /// Hyper integer (RFC 4506 4.5).
    #[inline]
    pub fn i64(&mut self, value: i64) -> Result<()> {
        self.raw(&value.to_be_bytes())
    }

    /// Boolean (RFC 4506 4.4).
    #[inline]
    pub fn bool(&mut self, value: bool) -> Result<()> {
        self.u32(u32::from(value))
    }

    /// Fixed-length opaque data (RFC 4506 4.9) with zero padding.
    #[inline]
    pub fn fixed<const N: usize>(&mut self, data: &[u8; N]) -> Result<()> {
        if N.saturating_add(pad_len(N)) > self.room() {
            return Err(XdrError::Full);
        }
        self.buf.extend_from_slice(data);
        self.pad(N)
    }

    /// Variable-length opaque data (RFC 4506 4.10) with zero padding.
    #[inline]
    pub fn opaque(&mut self, data: &[u8]) -> Result<()> {
        let len = u32::try_from(data.len()).map_err(|_| XdrError::TooLong)?;
        if opaque_len(data.len()) > self.room() {
            return Err(XdrError::Full);
        }
        self.buf.extend_from_slice(&len.to_be_bytes());
        self.buf.extend_from_slice(data);
        self.pad(data.len())
    }

    /// String (RFC 4506 4.11).
    #[inline]
    pub fn string(&mut self, data: &[u8]) -> Result<()> {
        self.opaque(data)
    }

    /// Zero padding that follows `len` bytes of data.
    #[inline]
    pub fn pad(&mut self, len: usize) -> Result<()> {
        let zeros = [0_u8; 3];
        self.raw(zeros.get(..pad_len(len)).unwrap_or(&zeros))
    }
}
