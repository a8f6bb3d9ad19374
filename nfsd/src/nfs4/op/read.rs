//! READ: data of a file (RFC 8881 18.22, RFC 7530 16.23).

use std::rc::Rc;

use vfs::uring::Slice;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::stateful::io_grant;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Count4, Offset4, Stateid4};
use crate::xdr::xdr_block;

/// End-of-file flag and length of the data.
const HEAD: usize = 8;

xdr_block! {
    /// `READ4args`.
    pub struct ReadArgs {
        /// What allows it.
        pub stateid: Stateid4,
        /// From where.
        pub offset: Offset4,
        /// How much at most.
        pub count: Count4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: ReadArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.regular()?;
    let grant = io_grant(c, opened, &args.stateid, false).await?;
    let (decided, _passing) = (grant.decided, grant.passing);
    let count = clip(args.count, c.cx.server.io_max, c.room(out));
    c.cx.hold(count as usize);
    let vfs = &c.cx.server.vfs;
    let done = if decided {
        vfs.read_open(&opened.file, args.offset, count).await
    } else {
        vfs.read(&opened.cred, &opened.file, args.offset, count)
            .await
    };
    let data = done.result?;
    let len = data.buf.len();
    // Less because of the session's limits is not less because of the file (RFC 8881 2.10.6.4); 4.0 has no
    // such limits.
    let cut = count < args.count.min(c.cx.server.io_max) && !data.eof;
    if c.minor > 0 && cut {
        return Err(Nfsstat4::RepTooBig);
    }
    out.put(&data.eof)?;
    out.put(&(len as u32))?;
    out.payload = Some(Slice::new(Rc::new(data.buf), 0..len));
    Ok(())
}

/// As much as is asked for, offered, and fits.
fn clip(count: Count4, io_max: u32, room: usize) -> Count4 {
    let room = room.saturating_sub(HEAD) & !3;
    count
        .min(io_max)
        .min(u32::try_from(room).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_as_long_as_fits() {
        assert_eq!(clip(100, 4096, 1 << 20), 100);
        assert_eq!(clip(u32::MAX, 4096, 1 << 20), 4096);
        assert_eq!(clip(4096, 4096, 1000), 992);
        assert_eq!(clip(4096, 4096, 1003), 992, "padding must fit as well");
        assert_eq!(clip(4096, 4096, 3), 0);
    }
}
