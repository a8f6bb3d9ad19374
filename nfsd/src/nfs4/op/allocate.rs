//! ALLOCATE: reserves space for a range of a file (RFC 7862 15.1).

use vfs::Permit;

use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, Stateid4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `ALLOCATE4args` and `DEALLOCATE4args`: a range to be changed.
    pub struct RangeArgs {
        /// What allows it.
        pub stateid: Stateid4,
        /// Where it begins.
        pub offset: Offset4,
        /// Its length.
        pub length: Length4,
    }
}

impl RangeArgs {
    /// # Errors
    /// `INVAL` for a range that is empty or ends beyond all offsets.
    pub(super) fn check(&self) -> Result<(), Nfsstat4> {
        let end = self.offset.checked_add(self.length);
        end.filter(|_| self.length > 0)
            .map(|_| ())
            .ok_or(Nfsstat4::Inval)
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: RangeArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let target = allow::current(c, &args.stateid, true).await?;
    args.check()?;
    let (vfs, opened) = (&c.cx.server.vfs, &target.opened);
    let changed = vfs
        .allocate(
            Permit::Opened,
            &opened.cred,
            &opened.file,
            args.offset,
            args.length,
        )
        .await;
    changed.result?;
    Ok(c.cx.settle(opened, &[&opened.file]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Dec, Enc};

    #[test]
    fn ranges_that_are_none_are_refused() {
        let args = |offset, length| RangeArgs {
            stateid: Stateid4::ANONYMOUS,
            offset,
            length,
        };
        assert_eq!(args(0, 1).check(), Ok(()));
        assert_eq!(args(1, u64::MAX - 1).check(), Ok(()));
        assert_eq!(args(5, 0).check(), Err(Nfsstat4::Inval));
        assert_eq!(args(1, u64::MAX).check(), Err(Nfsstat4::Inval));
        let mut wire = Vec::new();
        Enc::new(&mut wire, 100).put(&args(5, 6)).expect("fits");
        assert_eq!(wire.len(), 32);
        assert_eq!(Dec::new(&wire).get(), Ok(args(5, 6)));
    }
}
