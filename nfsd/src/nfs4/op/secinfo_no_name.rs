//! SECINFO_NO_NAME: the security flavors of the current filehandle or of its parent (RFC 8881 18.45).

use super::secinfo::{barred, consume, flavors, put};
use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::xdr::xdr_enum;

xdr_enum! {
    /// `secinfo_style4`.
    pub enum SecinfoStyle4 {
        /// Of the current filehandle.
        CurrentFh = 0 "SECINFO_STYLE4_CURRENT_FH",
        /// Of the directory above it.
        Parent = 1 "SECINFO_STYLE4_PARENT",
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    style: SecinfoStyle4,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let found = match (c.place(), style) {
        (Ok(place), SecinfoStyle4::CurrentFh) => Ok(place.clone()),
        (Ok(place), SecinfoStyle4::Parent) => c.parent(place).await,
        (Err(status), _) => Err(status),
    };
    let flavors = match found {
        Ok(place) => flavors(c, &place).await?,
        Err(Nfsstat4::Wrongsec) => barred(c).await?,
        Err(status) => return Err(status),
    };
    put(flavors, out)?;
    consume(c);
    Ok(())
}
