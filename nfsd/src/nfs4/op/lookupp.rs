//! LOOKUPP: the parent directory becomes the current filehandle (RFC 8881 18.14, RFC 7530 16.14).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), _out: &mut Reply) -> Result<(), Nfsstat4> {
    let parent = c.parent(c.place()?).await?;
    c.set_current(parent);
    Ok(())
}
