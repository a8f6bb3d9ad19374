//! GETATTR: attributes of a file (RFC 8881 18.7, RFC 7530 16.7).

use crate::cx::Reply;
use crate::nfs4::attr::{self, bit};
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Bitmap4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    asked: Bitmap4,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    // Attributes that can only be set cannot be asked for (RFC 8881 5.5).
    if asked.has(bit::TIME_ACCESS_SET) || asked.has(bit::TIME_MODIFY_SET) {
        return Err(Nfsstat4::Inval);
    }
    let values = attr::collect(c, c.place()?, &asked).await?;
    attr::encode(&asked, &values, &mut out.enc())?;
    Ok(())
}
