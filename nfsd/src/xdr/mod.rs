//! External Data Representation (RFC 4506): borrowed decoding, bounded encoding.
//!
//! Decoding never allocates: variable parts stay slices of the record. Every length on the wire is
//! checked against a protocol maximum named by the caller and against the bytes present. Encoding
//! appends to a caller's buffer up to a byte limit and can be rolled back.

#[macro_use]
mod macros;
mod chain;
mod dec;
mod enc;
#[cfg(any(test, feature = "samples"))]
mod sample;
mod wire;

pub use chain::{Chain, ChainIter, encode_chain};
pub use dec::Dec;
pub use enc::Enc;
#[cfg(any(test, feature = "samples"))]
pub use sample::{Sample, Tape};
pub use wire::{Block, Decode, Encode, Res, Status};

pub(crate) use macros::{xdr_block, xdr_enum, xdr_opaque, xdr_struct, xdr_union};

/// Why bytes are not a value, or a value does not fit the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The input ends inside the value.
    #[error("input ends inside a value")]
    Short,
    /// Bytes are left after the last value.
    #[error("bytes left after the last value")]
    Trailing,
    /// A length is above the protocol's maximum for this field.
    #[error("length above the maximum of this field")]
    TooLong,
    /// A bool is neither 0 nor 1 (RFC 4506 4.4).
    #[error("a bool that is neither 0 nor 1")]
    BadBool,
    /// An enum or union discriminant the protocol does not define.
    #[error("undefined enum value")]
    BadEnum,
    /// The byte limit of the output is reached; roll back and answer with a smaller reply.
    #[error("output limit reached")]
    Full,
}

/// Result of reading or writing XDR.
pub type Result<T, E = XdrError> = core::result::Result<T, E>;

/// Bytes of zero fill after `len` bytes of opaque data (RFC 4506 4.9): 0 to 3.
#[must_use]
pub const fn pad_len(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Bytes that variable-length opaque data of `len` bytes takes on the wire: length word, data,
/// padding. Saturates instead of wrapping.
#[must_use]
pub const fn opaque_len(len: usize) -> usize {
    len.saturating_add(4).saturating_add(pad_len(len))
}

#[cfg(test)]
mod tests;
