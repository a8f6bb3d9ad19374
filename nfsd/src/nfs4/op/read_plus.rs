//! READ_PLUS: data of a file, holes as no more than their length (RFC 7862 15.10).

use std::rc::Rc;

use vfs::uring::Slice;
use vfs::{Attr, Segment, What};

use super::read::ReadArgs;
use super::seek::{CONTENT_DATA, CONTENT_HOLE};
use crate::cx::{Opened, Reply};
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Data4, Length4, Offset4};
use crate::xdr::{Dec, Decode, Result as XdrResult, XdrError};

/// End-of-file flag and number of segments.
const HEAD: usize = 8;
/// What a segment of data has beside the data: kind, offset, length, padding.
const DATA_HEAD: usize = 4 + 8 + 4 + 3;
/// A hole: kind, offset, length.
const HOLE: usize = 4 + 8 + 8;

/// `read_plus_content`: a segment as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlusContent<'a> {
    /// Data at an offset (`data4`).
    Data(Offset4, Data4<'a>),
    /// An offset and how many bytes from there on are zero (`data_info4`).
    Hole(Offset4, Length4),
}

impl<'a> Decode<'a> for ReadPlusContent<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            CONTENT_DATA => Ok(Self::Data(dec.u64()?, dec.get()?)),
            CONTENT_HOLE => Ok(Self::Hole(dec.u64()?, dec.u64()?)),
            _ => Err(XdrError::BadEnum),
        }
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: ReadArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let source = allow::current(c, &args.stateid, false).await?;
    let vfs = &c.cx.server.vfs;
    let file = &source.opened.file;
    let attr = vfs.getattr(file).await?;
    let count = u64::from(args.count.min(c.cx.server.io_max));
    let count = count.min(attr.size.saturating_sub(args.offset));
    let pieces = match is_full(&attr) {
        _ if count == 0 => Vec::new(),
        true => vec![Segment {
            what: What::Data,
            offset: args.offset,
            len: count,
        }],
        false => vfs.extents(file, args.offset, count).await?,
    };
    let mut room = c.room(out).checked_sub(HEAD).ok_or(Nfsstat4::RepTooBig)?;
    out.put(&false)?;
    let eof_at = out.bytes.len() - 4;
    out.put(&0_u32)?;
    let (mut end, mut number) = (args.offset, 0);
    for piece in &pieces {
        let Some(len) = clip(piece, room) else { break };
        let done = put(c, &source.opened, piece, len, out).await?;
        if done == 0 {
            break;
        }
        room -= taken(piece.what, done);
        end += done;
        number += 1;
        // Cut off meanwhile, or no more room.
        if done < piece.len {
            break;
        }
    }
    let size = vfs.getattr(file).await?.size;
    out.patch(eof_at, u32::from(end >= size));
    out.patch(eof_at + 4, number);
    Ok(())
}

/// Has as many blocks as it is long: no use to look for holes.
fn is_full(attr: &Attr) -> bool {
    attr.used >= attr.size
}

/// How much of a piece fits in `room` bytes of reply; `None` for nothing.
fn clip(piece: &Segment, room: usize) -> Option<u64> {
    match piece.what {
        What::Hole => (room >= HOLE).then_some(piece.len),
        What::Data => {
            let room = room.checked_sub(DATA_HEAD).filter(|room| *room > 0)?;
            Some(piece.len.min(room as u64))
        }
    }
}

/// Bytes of reply a segment of `len` bytes takes at most.
fn taken(what: What, len: u64) -> usize {
    match what {
        What::Hole => HOLE,
        What::Data => DATA_HEAD + len as usize,
    }
}

/// Appends `len` bytes of a piece: how many they turned out to be. Data stays where it was read to,
/// unless something follows it.
async fn put(
    c: &Compound<'_>,
    opened: &Opened,
    piece: &Segment,
    len: u64,
    out: &mut Reply,
) -> Result<u64, Nfsstat4> {
    if piece.what == What::Hole {
        out.settle_payload();
        out.put(&CONTENT_HOLE)?;
        out.put(&piece.offset)?;
        out.put(&len)?;
        return Ok(len);
    }
    let vfs = &c.cx.server.vfs;
    c.cx.hold(len as usize);
    // No more than `io_max`, which is 32 bits.
    let read = vfs.read_open(&opened.file, piece.offset, len as u32).await;
    let data = read.result?.buf;
    let read = data.len();
    if read == 0 {
        return Ok(0);
    }
    out.settle_payload();
    out.put(&CONTENT_DATA)?;
    out.put(&piece.offset)?;
    out.put(&(read as u32))?;
    out.payload = Some(Slice::new(Rc::new(data), 0..read));
    Ok(read as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_clipped_to_the_room() {
        let piece = |what| Segment {
            what,
            offset: 0,
            len: 4096,
        };
        let (data, hole) = (piece(What::Data), piece(What::Hole));
        assert_eq!((clip(&hole, 20), clip(&hole, 19)), (Some(4096), None));
        assert_eq!(clip(&data, 1 << 20), Some(4096));
        assert_eq!(clip(&data, 119), Some(100));
        assert_eq!((clip(&data, 19), clip(&data, 3)), (None, None));
        for room in 20..200 {
            let len = clip(&data, room).expect("something");
            assert!(taken(What::Data, len) <= room);
        }
    }
}
