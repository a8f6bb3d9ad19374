//! Record marking on byte streams (RFC 5531 section 11).
//!
//! A record is one or more fragments; a fragment is a four-byte header (top bit: last fragment, rest:
//! length) and its data. The reader owns no buffer: it tells the connection which bytes of the input
//! are record data.

use core::ops::Range;

/// Bytes of a fragment header.
pub const MARK_LEN: usize = 4;

/// Longest fragment the 31-bit length can express.
pub const MAX_FRAGMENT: u32 = 0x7fff_ffff;

/// Empty fragments tolerated in one record. They carry nothing, so without a bound a peer could keep
/// a reader busy for ever inside `max_record`.
pub const MAX_EMPTY_FRAGMENTS: u32 = 16;

const LAST: u32 = 0x8000_0000;

/// The header of a fragment of `len` bytes. Only the low 31 bits of `len` fit.
#[inline]
#[must_use]
pub const fn mark(len: u32, last: bool) -> [u8; MARK_LEN] {
    let bit = if last { LAST } else { 0 };
    ((len & MAX_FRAGMENT) | bit).to_be_bytes()
}

/// Why a stream cannot be followed any further: the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The fragments of one record add up to more than the limit.
    #[error("record of {len} bytes or more is above the limit of {max}")]
    TooLong {
        /// Bytes of the record announced so far.
        len: u64,
        /// The limit.
        max: u32,
    },
    /// More than [`MAX_EMPTY_FRAGMENTS`] fragments without data in one record.
    #[error("too many empty fragments in one record")]
    EmptyFragments,
}

/// What one call of [`RecordReader::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All input is consumed (headers are remembered); ask again with more.
    NeedMore,
    /// Record data. Consumed: everything up to `range.end`.
    Data {
        /// Where in the input the data is, never empty.
        range: Range<usize>,
        /// Bytes of this fragment not seen yet.
        remaining: u32,
        /// Whether this is the record's last fragment.
        last: bool,
    },
    /// The record is complete.
    RecordEnd {
        /// Bytes of input consumed to find that out (not more than a header).
        consumed: usize,
        /// Length of the record without headers.
        len: u32,
    },
}

/// Follows the fragments of one direction of a connection.
#[derive(Debug, Clone)]
pub struct RecordReader {
    max_record: u32,
    header: [u8; MARK_LEN],
    header_have: usize,
    /// Data bytes of the current fragment still to come.
    left: u32,
    /// The current fragment is the last one.
    last: bool,
    /// Lengths of the fragments announced so far.
    total: u32,
    empties: u32,
}

impl RecordReader {
    /// A reader at the start of a record; records longer than `max_record` bytes are an error.
    #[must_use]
    pub const fn new(max_record: u32) -> Self {
        Self {
            max_record,
            header: [0; MARK_LEN],
            header_have: 0,
            left: 0,
            last: false,
            total: 0,
            empties: 0,
        }
    }

    /// Whether no byte of a record has been seen: [`whole_record`] may be used on the input.
    #[inline]
    #[must_use]
    pub const fn at_start(&self) -> bool {
        self.header_have == 0
            && self.left == 0
            && !self.last
            && self.total == 0
            && self.empties == 0
    }

    /// Data bytes of the current fragment still to come, 0 between fragments. A connection may read
    /// that many bytes straight into its record buffer and report them with [`RecordReader::took`].
    #[inline]
    #[must_use]
    pub const fn pending(&self) -> u32 {
        self.left
    }

    /// Length of the record as far as announced by the fragment headers seen.
    #[inline]
    #[must_use]
    pub const fn announced(&self) -> u32 {
        self.total
    }

    /// `n` pending data bytes were received elsewhere; more than pending counts as pending.
    pub const fn took(&mut self, n: u32) {
        self.left = self.left.saturating_sub(n);
    }

    /// Looks at the next part of the stream. See [`Step`] for what is consumed; call again with the
    /// rest of the input (also when it is empty: the end of a record may be known already).
    pub fn next(&mut self, input: &[u8]) -> Result<Step, RecordError> {
        let mut consumed = 0;
        loop {
            if self.left > 0 {
                return Ok(self.data(consumed, input.len()));
            }
            if self.last {
                let len = self.total;
                *self = Self::new(self.max_record);
                return Ok(Step::RecordEnd { consumed, len });
            }
            let Some(byte) = input.get(consumed) else {
                return Ok(Step::NeedMore);
            };
            consumed += 1;
            if let Some(slot) = self.header.get_mut(self.header_have) {
                *slot = *byte;
                self.header_have += 1;
            }
            if self.header_have == MARK_LEN {
                self.fragment(u32::from_be_bytes(self.header))?;
            }
        }
    }

    fn data(&mut self, start: usize, input_len: usize) -> Step {
        let here = input_len.saturating_sub(start).min(self.left as usize);
        if here == 0 {
            return Step::NeedMore;
        }
        // `here` is at most `left`, so it fits.
        self.took(u32::try_from(here).unwrap_or(u32::MAX));
        Step::Data {
            range: start..start + here,
            remaining: self.left,
            last: self.last,
        }
    }

    /// A complete header was read.
    fn fragment(&mut self, word: u32) -> Result<(), RecordError> {
        self.header_have = 0;
        self.last = word & LAST != 0;
        let len = word & MAX_FRAGMENT;
        let total = u64::from(self.total) + u64::from(len);
        let too_long = RecordError::TooLong {
            len: total,
            max: self.max_record,
        };
        self.total = u32::try_from(total).map_err(|_| too_long)?;
        if self.total > self.max_record {
            return Err(too_long);
        }
        if len == 0 && !self.last {
            self.empties += 1;
            if self.empties > MAX_EMPTY_FRAGMENTS {
                return Err(RecordError::EmptyFragments);
            }
        }
        self.left = len;
        Ok(())
    }
}

/// If `input`, at the start of a record, holds one whole single-fragment record of at most
/// `max_record` bytes: its data. It takes `MARK_LEN + data.len()` bytes of the input.
///
/// The hot path of a connection: one pipelined request after the other, no copy. Everything else
/// goes to [`RecordReader::next`].
#[inline]
#[must_use]
pub fn whole_record(input: &[u8], max_record: u32) -> Option<&[u8]> {
    let (header, rest) = input.split_first_chunk::<MARK_LEN>()?;
    let word = u32::from_be_bytes(*header);
    let len = word & MAX_FRAGMENT;
    if word & LAST == 0 || len > max_record {
        return None;
    }
    rest.get(..len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `stream` in pieces of the given sizes and returns the records found.
    fn read_all(stream: &[u8], pieces: &[usize], max: u32) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut reader = RecordReader::new(max);
        let (mut records, mut current) = (Vec::new(), Vec::new());
        let mut rest = stream;
        let mut sizes = pieces.iter().copied().chain(core::iter::repeat(usize::MAX));
        loop {
            let n = sizes
                .next()
                .unwrap_or(usize::MAX)
                .clamp(1, usize::MAX)
                .min(rest.len());
            let (mut piece, tail) = rest.split_at(n);
            rest = tail;
            loop {
                match reader.next(piece)? {
                    Step::NeedMore => break,
                    Step::Data { range, .. } => {
                        assert!(!range.is_empty());
                        current.extend_from_slice(&piece[range.clone()]);
                        piece = &piece[range.end..];
                    }
                    Step::RecordEnd { consumed, len } => {
                        assert_eq!(len as usize, current.len());
                        assert!(reader.at_start());
                        records.push(core::mem::take(&mut current));
                        piece = &piece[consumed..];
                    }
                }
            }
            if rest.is_empty() {
                return Ok(records);
            }
        }
    }

    #[test]
    fn mark_sets_the_last_bit() {
        assert_eq!(mark(5, true), [0x80, 0, 0, 5]);
        assert_eq!(mark(0x0102_0304, false), [1, 2, 3, 4]);
    }

    #[test]
    fn header_split_over_reads() {
        let mut r = RecordReader::new(100);
        assert_eq!(r.next(&[0x80, 0]), Ok(Step::NeedMore));
        assert!(!r.at_start());
        assert_eq!(r.next(&[0, 3]), Ok(Step::NeedMore));
        assert_eq!((r.pending(), r.announced()), (3, 3));
        let data = Step::Data {
            range: 0..2,
            remaining: 1,
            last: true,
        };
        assert_eq!(r.next(b"ab"), Ok(data));
        r.took(1);
        assert_eq!(
            r.next(b""),
            Ok(Step::RecordEnd {
                consumed: 0,
                len: 3
            })
        );
        assert!(r.at_start());
    }

    #[test]
    fn limit_counts_all_fragments() {
        let mut stream = mark(60, false).to_vec();
        stream.extend([7; 60]);
        stream.extend(mark(41, true));
        let error = RecordError::TooLong { len: 101, max: 100 };
        assert_eq!(read_all(&stream, &[], 100), Err(error));
        assert_eq!(read_all(&stream, &[], 101), Ok(vec![]));
        let huge = mark(MAX_FRAGMENT, false);
        assert!(read_all(&huge, &[], 100).is_err());
    }

    #[test]
    fn lengths_do_not_wrap() {
        let mut r = RecordReader::new(u32::MAX);
        for _ in 0..2 {
            assert_eq!(r.next(&mark(MAX_FRAGMENT, false)), Ok(Step::NeedMore));
            r.took(MAX_FRAGMENT);
        }
        assert!(r.next(&mark(MAX_FRAGMENT, false)).is_err());
    }

    #[test]
    fn empty_fragments_are_bounded() {
        let n = MAX_EMPTY_FRAGMENTS as usize;
        let mut stream = mark(0, false).repeat(n);
        stream.extend(mark(0, true));
        assert_eq!(read_all(&stream, &[1; 99], 9), Ok(vec![vec![]]));
        let stream = mark(0, false).repeat(n + 1);
        assert_eq!(read_all(&stream, &[], 9), Err(RecordError::EmptyFragments));
    }

    #[test]
    fn whole_record_only_when_whole() {
        let mut stream = mark(2, true).to_vec();
        stream.extend(b"hi+");
        assert_eq!(whole_record(&stream, 2), Some(&b"hi"[..]));
        assert_eq!(whole_record(&stream, 1), None);
        for cut in 0..6 {
            assert_eq!(whole_record(&stream[..cut], 2), None);
        }
        stream[0] = 0;
        assert_eq!(whole_record(&stream, 2), None);
    }

    proptest! {
        #[test]
        fn any_fragmentation_and_any_reads_give_the_records(
            records in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6), 0..5),
            pieces in proptest::collection::vec(1_usize..30, 0..40),
        ) {
            let mut stream = Vec::new();
            for fragments in &records {
                for (i, f) in fragments.iter().enumerate() {
                    stream.extend(mark(f.len() as u32, i + 1 == fragments.len()));
                    stream.extend(f);
                }
            }
            let want: Vec<Vec<u8>> = records.iter().map(|f| f.concat()).collect();
            prop_assert_eq!(read_all(&stream, &pieces, 200), Ok(want));
        }

        #[test]
        fn any_bytes_make_progress(
            stream in proptest::collection::vec(any::<u8>(), 0..300),
            pieces in proptest::collection::vec(1_usize..30, 0..40),
        ) {
            let one = read_all(&stream, &[], 64);
            prop_assert_eq!(one, read_all(&stream, &pieces, 64));
        }
    }
}
