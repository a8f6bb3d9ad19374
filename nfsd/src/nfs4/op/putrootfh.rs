//! PUTROOTFH: the root of the pseudo file system (RFC 8881 18.21, RFC 7530 16.22).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), _out: &mut Reply) -> Result<(), Nfsstat4> {
    let found = c.root().await;
    c.put_current(found)
}
