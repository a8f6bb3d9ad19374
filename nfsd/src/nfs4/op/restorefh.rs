//! RESTOREFH: the saved filehandle becomes the current one (RFC 8881 18.27, RFC 7530 16.28).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), _out: &mut Reply) -> Result<(), Nfsstat4> {
    // Version 4.0 knows this error for it alone (RFC 7530 16.28.4), later ones do not tell.
    let none = if c.minor == 0 {
        Nfsstat4::Restorefh
    } else {
        Nfsstat4::Nofilehandle
    };
    let saved = c.saved.clone().ok_or(none)?;
    c.set_current(saved);
    c.stateid = c.saved_stateid;
    Ok(())
}
