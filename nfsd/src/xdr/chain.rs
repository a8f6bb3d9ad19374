//! Linked lists (RFC 4506 4.19): `struct entry { ...; entry *next; }` and a pointer to the first.

use super::{Dec, Decode, Enc, Encode, Result};
use core::fmt;
use core::marker::PhantomData;

/// A received list, checked to its end at decode and kept as bytes; elements are decoded again while
/// iterating, so a list of any length costs no memory.
pub struct Chain<'a, T> {
    raw: &'a [u8],
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Decode<'a>> Chain<'a, T> {
    /// Iterates over the elements.
    #[must_use]
    pub fn iter(&self) -> ChainIter<'a, T> {
        ChainIter {
            dec: Dec::new(self.raw),
            element: PhantomData,
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a, T> Chain<'a, T> {
    /// A list from its encoding, which must be valid.
    pub(super) const fn from_encoded(raw: &'a [u8]) -> Self {
        Self {
            raw,
            element: PhantomData,
        }
    }
}

impl<T> Chain<'_, T> {
    /// Whether the list has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.len() <= 4
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Chain<'a, T> {
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        let start = dec.rest();
        // A loop, not recursion: the length of the list is the sender's choice. Each turn consumes
        // at least the four bytes of the flag.
        while dec.bool()? {
            T::decode(dec)?;
        }
        let used = start.len().saturating_sub(dec.remaining());
        Ok(Self {
            raw: start.get(..used).unwrap_or_default(),
            element: PhantomData,
        })
    }
}

impl<'a, T: Decode<'a> + Encode> Encode for Chain<'a, T> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        encode_chain(enc, self.iter())
    }
}

/// Appends a list: a true flag before every element and a false flag at the end.
pub fn encode_chain<T: Encode>(
    enc: &mut Enc<'_>,
    items: impl IntoIterator<Item = T>,
) -> Result<()> {
    for item in items {
        enc.bool(true)?;
        item.encode(enc)?;
    }
    enc.bool(false)
}

/// Elements of a [`Chain`].
pub struct ChainIter<'a, T> {
    dec: Dec<'a>,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Decode<'a>> Iterator for ChainIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self.dec.bool() {
            Ok(true) => self.dec.get().ok(),
            _ => None,
        }
    }
}

impl<'a, T: Decode<'a>> IntoIterator for &Chain<'a, T> {
    type Item = T;
    type IntoIter = ChainIter<'a, T>;

    fn into_iter(self) -> ChainIter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Chain<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Chain<'_, T> {}

impl<T> Default for Chain<'_, T> {
    /// The empty list.
    fn default() -> Self {
        Self {
            raw: &[0; 4],
            element: PhantomData,
        }
    }
}

impl<'a, T: Decode<'a> + PartialEq> PartialEq for Chain<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Decode<'a> + Eq> Eq for Chain<'a, T> {}

impl<'a, T: Decode<'a> + fmt::Debug> fmt::Debug for Chain<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
