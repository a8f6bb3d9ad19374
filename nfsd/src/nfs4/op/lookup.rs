//! LOOKUP: a name in a directory becomes the current filehandle (RFC 8881 18.13, RFC 7530 16.13).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::name;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    objname: Component4<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let place = c.place()?;
    let found = c.walk(place, &name(objname)?).await?;
    c.set_current(found);
    Ok(())
}
