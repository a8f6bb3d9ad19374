//! NVERIFY: goes on only if the attributes are others (RFC 8881 18.15, RFC 7530 16.15).

use super::verify::same;
use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Fattr4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    fattr: Fattr4<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    if same(c, &fattr).await? {
        Err(Nfsstat4::Same)
    } else {
        Ok(())
    }
}
