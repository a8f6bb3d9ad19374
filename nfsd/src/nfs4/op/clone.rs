//! CLONE: a range of the current file shares the blocks of one of the saved file (RFC 7862 15.13).

use vfs::{CopyRange, Permit};

use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, Stateid4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `CLONE4args`.
    pub struct CloneArgs {
        /// What allows to read the source.
        pub src_stateid: Stateid4,
        /// What allows to write the destination.
        pub dst_stateid: Stateid4,
        /// Where the range begins.
        pub src_offset: Offset4,
        /// Where it goes.
        pub dst_offset: Offset4,
        /// Its length; 0 for up to the end of the source.
        pub count: Length4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CloneArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let source = allow::saved(c, &args.src_stateid).await?;
    let target = allow::current(c, &args.dst_stateid, true).await?;
    let range = CopyRange {
        from: args.src_offset,
        to: args.dst_offset,
        count: args.count,
    };
    let (vfs, into) = (&c.cx.server.vfs, &target.opened);
    let changed = vfs
        .clone_range(
            Permit::Opened,
            &into.cred,
            &source.opened.file,
            &into.file,
            range,
        )
        .await;
    changed.result?;
    Ok(c.cx.settle(into, &[&into.file]).await?)
}
