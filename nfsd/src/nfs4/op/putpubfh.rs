//! PUTPUBFH: the public filehandle, which is the root (RFC 8881 18.20, RFC 7530 16.21).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), out: &mut Reply) -> Result<(), Nfsstat4> {
    super::putrootfh::run(c, (), out).await
}
