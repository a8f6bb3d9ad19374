//! PUTFH: sets the current filehandle (RFC 8881 18.19, RFC 7530 16.20).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::NfsFh4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    fh: NfsFh4<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let found = c.open(fh.0).await;
    c.put_current(found)
}
