//! Fuzzes record marking: however a stream is cut into reads, the records are the same, nothing is longer than the
//! limit, and the fast path agrees with the state machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfsd::rpc::record::{MARK_LEN, RecordError, RecordReader, Step, whole_record};

const MAX: u32 = 512;

/// The records of a stream read in pieces of these sizes, then in one.
fn records(stream: &[u8], pieces: &[u8]) -> (Vec<Vec<u8>>, Option<RecordError>) {
    let mut reader = RecordReader::new(MAX);
    let (mut done, mut current) = (Vec::new(), Vec::new());
    let (mut rest, mut pieces) = (stream, pieces.iter());
    loop {
        let size = pieces.next().map_or(rest.len(), |n| usize::from(*n).max(1));
        let (mut piece, tail) = rest.split_at(size.min(rest.len()));
        rest = tail;
        loop {
            let start = reader.at_start();
            match reader.next(piece) {
                Err(error) => return (done, Some(error)),
                Ok(Step::NeedMore) => break,
                Ok(Step::Data {
                    range,
                    remaining,
                    last: _,
                }) => {
                    assert!(!range.is_empty());
                    assert_eq!(remaining, reader.pending());
                    if start
                        && let Some(whole) = whole_record(piece, MAX)
                        && !whole.is_empty()
                    {
                        assert_eq!(range, MARK_LEN..MARK_LEN + whole.len());
                        assert_eq!(remaining, 0);
                    }
                    current.extend_from_slice(&piece[range.clone()]);
                    piece = &piece[range.end..];
                }
                Ok(Step::RecordEnd { consumed, len }) => {
                    assert!(consumed <= piece.len());
                    assert_eq!(len as usize, current.len());
                    assert!(len <= MAX && reader.at_start());
                    done.push(std::mem::take(&mut current));
                    piece = &piece[consumed..];
                }
            }
        }
        if rest.is_empty() {
            return (done, None);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (pieces, stream) = data.split_at(data.len().min(16));
    assert_eq!(records(stream, &[]), records(stream, pieces));
});
