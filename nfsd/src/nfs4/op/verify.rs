//! VERIFY: goes on only if the attributes are these (RFC 8881 18.31, RFC 7530 16.35).

use crate::cx::Reply;
use crate::nfs4::attr;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Fattr4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    fattr: Fattr4<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    if same(c, &fattr).await? {
        Ok(())
    } else {
        Err(Nfsstat4::NotSame)
    }
}

/// Whether the current file has exactly these attributes.
pub(super) async fn same(c: &Compound<'_>, fattr: &Fattr4<'_>) -> Result<bool, Nfsstat4> {
    let place = c.place()?;
    attr::comparable(&fattr.mask, c.minor)?;
    let values = attr::collect(c, place, &fattr.mask).await?;
    attr::same(fattr, &values)
}
