//! GETATTR: attributes of a file (RFC 8881 18.7, RFC 7530 16.7).

use crate::cx::Reply;
use crate::nfs4::attr;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Bitmap4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    asked: Bitmap4,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    attr::askable(&asked, c.minor)?;
    let values = attr::collect(c, c.place()?, &asked).await?;
    attr::encode(&asked, &values, &mut out.enc())?;
    Ok(())
}
