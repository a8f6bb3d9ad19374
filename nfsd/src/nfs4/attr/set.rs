//! Attributes a client sets: SETATTR, CREATE, OPEN (RFC 8881 18.30, 18.4, 18.16).

use vfs::{SetAttr, SetTime, Time};

use ::acl::nfs4::Ace;

use super::{ACLS, acl, bit, readable, settable};
use crate::nfs4::compound::Compound;
use crate::nfs4::idmap::{Unmapped, Who};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, Fattr4};
use crate::xdr::{Dec, XdrError};

/// What a client wants set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// The changes.
    pub set: SetAttr,
    /// Which attributes they are.
    pub mask: Bitmap4,
}

/// What a client wants set, owners still as it names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The changes but for owners.
    pub set: SetAttr,
    /// `owner`.
    pub user: Option<&'a [u8]>,
    /// `owner_group`.
    pub group: Option<&'a [u8]>,
    /// `acl` or the entries of `dacl`, if sent: an `nfsace4<>` that decodes.
    pub acl: Option<&'a [u8]>,
    /// Flags of `dacl` ([`acl::aclflag`]).
    pub aclflag: u32,
    /// Which attributes they are.
    pub mask: Bitmap4,
}

/// Longest owner string looked at.
const OWNER_MAX: usize = 1024;

/// Reads the attributes to set, and the ACL, if one was sent; finds the ids of owners.
///
/// # Errors
/// As [`wanted`]; `INVAL` for an empty owner, `BADOWNER` for a name nobody has, `DELAY` while that is found out.
pub async fn setting(
    c: &Compound<'_>,
    fattr: &Fattr4<'_>,
) -> Result<(Setting, Option<Vec<Ace>>), Nfsstat4> {
    let wanted = wanted(fattr, c.minor)?;
    let setting = identified(c, &wanted).await?;
    let aces = match wanted.acl {
        Some(bytes) => Some(Box::pin(acl::entries(c, bytes)).await?),
        None => None,
    };
    Ok((setting, aces))
}

async fn identified(c: &Compound<'_>, wanted: &Wanted<'_>) -> Result<Setting, Nfsstat4> {
    let Wanted {
        mut set,
        user,
        group,
        mask,
        ..
    } = *wanted;
    if let Some(name) = user {
        set.uid = Some(owner(c, Who::User, name).await?);
    }
    if let Some(name) = group {
        set.gid = Some(owner(c, Who::Group, name).await?);
    }
    Ok(Setting { set, mask })
}

/// Reads the attributes to set.
///
/// # Errors
/// `ATTRNOTSUPP` for an attribute this server does not have and for `acl` with `dacl` (RFC 8881 6.4.1), `INVAL` for one
/// that cannot be set, for values out of range and for `mode` with `mode_umask` (RFC 8275), `BADXDR` for values that do
/// not decode.
pub fn wanted<'a>(fattr: &Fattr4<'a>, minor: u32) -> Result<Wanted<'a>, Nfsstat4> {
    let mask = fattr.mask;
    let known = settable(minor);
    if !mask.within(&known) {
        let inval = mask.within(&readable(minor).or(&known));
        return Err(if inval {
            Nfsstat4::Inval
        } else {
            Nfsstat4::Attrnotsupp
        });
    }
    if ACLS.within(&mask) {
        return Err(Nfsstat4::Attrnotsupp);
    }
    if mask.has(bit::MODE) && mask.has(bit::MODE_UMASK) {
        return Err(Nfsstat4::Inval);
    }
    let mut wanted = Wanted {
        mask,
        ..Wanted::default()
    };
    let set = &mut wanted.set;
    let mut dec = Dec::new(fattr.values.0);
    for number in mask.iter() {
        match number {
            bit::ACL => wanted.acl = Some(acl::list(&mut dec)?),
            bit::DACL => {
                wanted.aclflag = acl::aclflag(dec.u32()?)?;
                wanted.acl = Some(acl::list(&mut dec)?);
            }
            bit::MODE_UMASK => {
                set.mode = Some(mode(dec.u32()?)?);
                set.umask = dec.u32()? & 0o777;
            }
            bit::SIZE => set.size = Some(dec.u64()?),
            bit::MODE => set.mode = Some(mode(dec.u32()?)?),
            bit::OWNER => wanted.user = Some(dec.opaque(OWNER_MAX)?),
            bit::OWNER_GROUP => wanted.group = Some(dec.opaque(OWNER_MAX)?),
            bit::TIME_ACCESS_SET => set.atime = settime(&mut dec)?,
            bit::TIME_MODIFY_SET => set.mtime = settime(&mut dec)?,
            _ => return Err(Nfsstat4::Attrnotsupp),
        }
    }
    dec.finish()?;
    Ok(wanted)
}

/// `mode4` has twelve bits (RFC 8881 6.2.4).
fn mode(mode: u32) -> Result<u32, Nfsstat4> {
    if mode & !0o7777 == 0 {
        Ok(mode)
    } else {
        Err(Nfsstat4::Inval)
    }
}

/// `settime4`.
fn settime(dec: &mut Dec<'_>) -> Result<SetTime, Nfsstat4> {
    match dec.u32()? {
        0 => Ok(SetTime::Now),
        1 => {
            let (sec, nsec) = (dec.i64()?, dec.u32()?);
            if nsec >= 1_000_000_000 {
                return Err(Nfsstat4::Inval);
            }
            Ok(SetTime::At(Time { sec, nsec }))
        }
        _ => Err(XdrError::BadEnum.into()),
    }
}

/// The id of a user or group as the client names it.
///
/// # Errors
/// `INVAL` for an empty name, `BADOWNER`, `DELAY`.
pub(super) async fn owner(c: &Compound<'_>, who: Who, name: &[u8]) -> Result<u32, Nfsstat4> {
    // No name at all, rather than one that nobody has.
    if name.is_empty() {
        return Err(Nfsstat4::Inval);
    }
    let id = c.cx.server.idmap.id(who, name).await;
    id.map_err(|why| match why {
        Unmapped::BadOwner => Nfsstat4::Badowner,
        Unmapped::Later => Nfsstat4::Delay,
    })
}
