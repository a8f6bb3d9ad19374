//! GETFH: the current filehandle (RFC 8881 18.8, RFC 7530 16.8).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::NfsFh4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), out: &mut Reply) -> Result<(), Nfsstat4> {
    let fh = c.fh(c.place()?)?;
    out.put(&NfsFh4(&fh))?;
    Ok(())
}
