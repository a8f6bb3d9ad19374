//! COMMIT: what was written unstable is on stable storage (RFC 8881 18.3, RFC 7530 16.3).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Count4, Offset4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `COMMIT4args`.
    pub struct CommitArgs {
        /// From where.
        pub offset: Offset4,
        /// How much; 0 for all.
        pub count: Count4,
    }
}

/// Also on an export that is read-only by now: data written before must not be lost for it.
pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CommitArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.regular()?;
    in_range(&args)?;
    let vfs = &c.cx.server.vfs;
    let done = vfs
        .commit(&opened.cred, &opened.file, args.offset, args.count)
        .await;
    done.result?;
    out.put(&vfs.write_verifier())?;
    Ok(())
}

fn in_range(args: &CommitArgs) -> Result<(), Nfsstat4> {
    let end = args.offset.checked_add(args.count.into());
    end.map(|_| ()).ok_or(Nfsstat4::Inval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_beyond_every_file_is_refused() {
        let args = |offset, count| CommitArgs { offset, count };
        assert_eq!(in_range(&args(0, 0)), Ok(()));
        assert_eq!(in_range(&args(u64::MAX, 0)), Ok(()));
        assert_eq!(in_range(&args(u64::MAX, 1)), Err(Nfsstat4::Inval));
    }
}
