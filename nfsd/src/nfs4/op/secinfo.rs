//! SECINFO: the security flavors a name may be used with (RFC 8881 18.29, RFC 7530 16.31).

use crate::cx::Reply;
use crate::export::options::Sec;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::reply::name;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    target: Component4<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let name = name(target)?;
    let found = match c.place() {
        Ok(place) => c.walk(place, &name).await,
        // Names in there are looked up by who may; its export is what the caller can ask about.
        Err(status) => Err(status),
    };
    let flavors = match found {
        Ok(found) => flavors(c, &found).await?,
        // That is what the caller wants to know more about.
        Err(Nfsstat4::Wrongsec) => barred(c).await?,
        Err(status) => return Err(status),
    };
    put(flavors, out)?;
    consume(c);
    Ok(())
}

/// What the export takes that does not take the flavor of the request.
///
/// # Errors
/// `WRONGSEC` without such, those of an export that is gone.
pub(super) async fn barred(c: &Compound<'_>) -> Result<Sec, Nfsstat4> {
    let export = c.barred.or(c.wrong_flavor.get());
    let options = c.cx.options(export.ok_or(Nfsstat4::Wrongsec)?).await?;
    Ok(options.sec)
}

/// What a place may be used with: everything for the pseudo file system.
pub(super) async fn flavors(c: &Compound<'_>, place: &Place) -> Result<Sec, Nfsstat4> {
    match place {
        Place::Pseudo(_) => Ok(Sec::SYS | Sec::NONE),
        Place::File(opened) => Ok(c.cx.options(opened.export).await?.sec),
    }
}

/// `SECINFO4resok`: flavors by preference.
pub(super) fn put(flavors: Sec, out: &mut Reply) -> Result<(), Nfsstat4> {
    let numbers = [(Sec::SYS, 1), (Sec::NONE, 0)];
    let offered = numbers.iter().filter(|(sec, _)| flavors.contains(*sec));
    let mut enc = out.enc();
    enc.u32(offered.clone().count() as u32)?;
    for (_, number) in offered {
        enc.u32(*number)?;
    }
    Ok(())
}

/// Since 4.1 there is no current filehandle afterwards (RFC 8881 2.6.3.1.1.8).
pub(super) fn consume(c: &mut Compound<'_>) {
    if c.minor > 0 {
        (c.current, c.barred) = (None, None);
        c.stateid = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavors_in_order_of_preference() {
        let wire = |sec| {
            let mut out = Reply::default();
            put(sec, &mut out).expect("fits");
            out.bytes
        };
        assert_eq!(wire(Sec::SYS), [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(
            wire(Sec::SYS | Sec::NONE),
            [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]
        );
    }
}
