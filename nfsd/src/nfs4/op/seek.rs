//! SEEK: where the next data or the next hole begins (RFC 7862 15.11).

use vfs::{Permit, What};

use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Offset4, Stateid4};
use crate::xdr::{xdr_block, xdr_struct};

/// `NFS4_CONTENT_DATA`.
pub const CONTENT_DATA: u32 = 0;
/// `NFS4_CONTENT_HOLE`.
pub const CONTENT_HOLE: u32 = 1;

xdr_block! {
    /// `SEEK4args`.
    pub struct SeekArgs {
        /// What allows it.
        pub stateid: Stateid4,
        /// From where on.
        pub offset: Offset4,
        /// What to look for (`data_content4`); any number decodes.
        pub what: u32,
    }
}

xdr_struct! {
    /// `SEEK4resok`.
    pub struct SeekRes {
        /// There is none.
        pub eof: bool,
        /// Where it begins.
        pub offset: Offset4,
    }
}

/// # Errors
/// `UNION_NOTSUPP`.
fn what(word: u32) -> Result<What, Nfsstat4> {
    match word {
        CONTENT_DATA => Ok(What::Data),
        CONTENT_HOLE => Ok(What::Hole),
        _ => Err(Nfsstat4::UnionNotsupp),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SeekArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let source = allow::current(c, &args.stateid, false).await?;
    let what = what(args.what)?;
    let (vfs, opened) = (&c.cx.server.vfs, &source.opened);
    let sought = vfs
        .seek(
            Permit::Opened,
            &opened.cred,
            &opened.file,
            args.offset,
            what,
        )
        .await?;
    out.put(&SeekRes {
        eof: sought.eof,
        offset: sought.offset,
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_and_holes_are_sought() {
        assert_eq!((what(0), what(1)), (Ok(What::Data), Ok(What::Hole)));
        assert_eq!(what(2), Err(Nfsstat4::UnionNotsupp));
    }
}
