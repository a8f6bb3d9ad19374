//! SAVEFH: keeps the current filehandle, and the current stateid with it (RFC 8881 18.32, RFC 7530
//! 16.30).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), _out: &mut Reply) -> Result<(), Nfsstat4> {
    c.saved = Some(c.place()?.clone());
    c.saved_stateid = c.stateid;
    Ok(())
}
