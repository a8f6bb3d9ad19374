//! The `acl` attribute (RFC 8881 6.2.1, RFC 7530 6.2.1) and `dacl` (RFC 8881 6.2.2): coding, and reading and setting
//! POSIX ACLs through them.
//!
//! The entries of both are the same. A POSIX ACL does not remember what was inherited, nor that it is to be: automatic
//! inheritance (RFC 8881 6.4.3.2) goes past all files here, and `dacl` says so ([`ACL4_PROTECTED`]).
//!
//! Names of users and groups go the way of `owner` and `owner_group`.

use acl::map::{Unsupported, from_nfs4, replace, to_nfs4};
use acl::mode;
use acl::nfs4::{ACLSUPPORT, Ace, Flags, MAX_ACES, Mask, Type, Who};
use vfs::{AclChange, Attr, Cred, Errno, FileKind, NewAcls, SetAttr, Which};

use super::set::{Setting, owner, setting};
use crate::cx::Opened;
use crate::nfs4::compound::Compound;
use crate::nfs4::idmap;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Fattr4;
use crate::xdr::{Dec, Enc, XdrError};

/// Longest name looked at.
const WHO_MAX: usize = 1024;
/// Bytes of the shortest `nfsace4`.
const ACE_MIN: usize = 16;

/// `aclflag4`: automatic inheritance leaves the ACL alone.
pub const ACL4_PROTECTED: u32 = 2;
/// All that the RFC defines: with automatic inheritance, and chosen by the server.
const ACL4_DEFINED: u32 = 7;

/// The flags of a `dacl` to be set. None at all is fine: what is stored is protected all the same.
///
/// # Errors
/// `INVAL` for those without a meaning, `ATTRNOTSUPP` for those there is no place for.
pub(super) fn aclflag(flag: u32) -> Result<u32, Nfsstat4> {
    match flag {
        0 | ACL4_PROTECTED => Ok(flag),
        _ if flag & !ACL4_DEFINED != 0 => Err(Nfsstat4::Inval),
        _ => Err(Nfsstat4::Attrnotsupp),
    }
}

/// What is said of a list that no POSIX ACL says.
fn unsupported(why: Unsupported) -> Nfsstat4 {
    match why.is_invalid() {
        true => Nfsstat4::Inval,
        false => Nfsstat4::Attrnotsupp,
    }
}

/// What is said of an ACL that could not be stored.
#[must_use]
pub fn refused(e: Errno) -> Nfsstat4 {
    match e {
        Errno::EOPNOTSUPP => Nfsstat4::Attrnotsupp,
        e => e.into(),
    }
}

/// What something new in `dir` starts with: attributes, and ACLs of its own, if they were sent.
///
/// # Errors
/// As [`setting`]; `ATTRNOTSUPP` where there are no ACLs and for lists a POSIX ACL cannot say, `INVAL` for those without
/// a meaning.
pub async fn initial(
    c: &Compound<'_>,
    dir: &Opened,
    fattr: &Fattr4<'_>,
    kind: FileKind,
) -> Result<(Setting, Option<NewAcls>), Nfsstat4> {
    let (setting, aces) = setting(c, fattr).await?;
    let Some(aces) = aces else {
        return Ok((setting, None));
    };
    if support(dir) == 0 || kind == FileKind::Symlink {
        return Err(Nfsstat4::Attrnotsupp);
    }
    let (access, default) = from_nfs4(&aces, kind == FileKind::Directory).map_err(unsupported)?;
    Ok((setting, Some(NewAcls { access, default })))
}

/// `nfsace4` before its name has an id.
struct Sent<'a> {
    kind: Type,
    flags: Flags,
    mask: Mask,
    who: &'a [u8],
}

impl<'a> Sent<'a> {
    fn decode(dec: &mut Dec<'a>) -> Result<Self, XdrError> {
        Ok(Sent {
            kind: Type::from_wire(dec.u32()?).ok_or(XdrError::BadEnum)?,
            flags: Flags::from_wire(dec.u32()?),
            mask: Mask::from_wire(dec.u32()?),
            who: dec.opaque(WHO_MAX)?,
        })
    }
}

/// Passes over an `nfsace4<>` that decodes; its bytes. At most [`MAX_ACES`] entries.
///
/// # Errors
/// Whatever does not decode.
pub(super) fn list<'a>(dec: &mut Dec<'a>) -> Result<&'a [u8], XdrError> {
    let all = dec.rest();
    for _ in 0..dec.array_len(MAX_ACES, ACE_MIN)? {
        Sent::decode(dec)?;
    }
    let len = all.len() - dec.remaining();
    all.get(..len).ok_or(XdrError::Short)
}

/// The entries of a list that [`list`] has passed over, with ids.
///
/// # Errors
/// `INVAL` for an empty name, `BADOWNER` for one nobody has, `DELAY` while that is found out.
pub(super) async fn entries(c: &Compound<'_>, bytes: &[u8]) -> Result<Vec<Ace>, Nfsstat4> {
    let mut dec = Dec::new(bytes);
    let len = dec.array_len(MAX_ACES, ACE_MIN)?;
    let mut aces = Vec::with_capacity(len);
    for _ in 0..len {
        let sent = Sent::decode(&mut dec)?;
        let group = sent.flags.contains(Flags::IDENTIFIER_GROUP);
        let (who, flags) = match (Who::special(sent.who), group) {
            // GROUP@ may come marked as a group, and says no more then.
            (Some(who), _) => (who, sent.flags & !Flags::IDENTIFIER_GROUP),
            (None, false) => {
                let uid = owner(c, idmap::Who::User, sent.who).await?;
                (Who::User(uid), sent.flags)
            }
            (None, true) => {
                let gid = owner(c, idmap::Who::Group, sent.who).await?;
                (Who::NamedGroup(gid), sent.flags)
            }
        };
        aces.push(Ace {
            kind: sent.kind,
            flags,
            mask: sent.mask,
            who,
        });
    }
    Ok(aces)
}

/// `aclsupport`: nothing where the export or the file system has no ACLs.
pub(super) fn support(opened: &Opened) -> u32 {
    if opened.options.no_acl() || !opened.file.mount.acls() {
        0
    } else {
        ACLSUPPORT
    }
}

/// The value of `acl` of a file that has just had `attr`; none where there are no ACLs, and for symbolic links.
///
/// # Errors
/// Those of `getxattr(2)`; `RESOURCE` or the like for one longer than any reply.
pub(super) async fn value(
    c: &Compound<'_>,
    opened: &Opened,
    attr: &Attr,
) -> Result<Option<Vec<u8>>, Nfsstat4> {
    if support(opened) == 0 || attr.kind == FileKind::Symlink {
        return Ok(None);
    }
    let vfs = &c.cx.server.vfs;
    let access = vfs.get_acl(&opened.file, attr, Which::Access).await?;
    let default = vfs.get_acl(&opened.file, attr, Which::Default).await?;
    let directory = attr.kind == FileKind::Directory;
    let aces = match &access {
        Some(access) => to_nfs4(access, default.as_deref(), directory),
        None => to_nfs4(&mode::to_acl(attr.mode), default.as_deref(), directory),
    };
    let mut bytes = Vec::new();
    let mut enc = Enc::new(&mut bytes, c.cx.server.io_max as usize);
    enc.u32(u32::try_from(aces.len()).map_err(|_| XdrError::TooLong)?)?;
    for ace in &aces {
        let idmap = &c.cx.server.idmap;
        let named = match ace.who {
            Who::User(uid) => Some(idmap.owner(idmap::Who::User, uid).await),
            Who::NamedGroup(gid) => Some(idmap.owner(idmap::Who::Group, gid).await),
            _ => None,
        };
        put(ace, named.as_ref(), &mut enc)?;
    }
    Ok(Some(bytes))
}

/// `nfsace4`; `named` is the user or group.
fn put(ace: &Ace, named: Option<&idmap::Owner>, enc: &mut Enc<'_>) -> Result<(), XdrError> {
    enc.u32(ace.kind.wire())?;
    enc.u32(ace.flags.wire())?;
    enc.u32(ace.mask.wire())?;
    match named {
        Some(named) => enc.opaque(named.bytes(&mut [0; 10])),
        None => enc.opaque(ace.who.special_name().unwrap_or_default().as_bytes()),
    }
}

/// Sets `acl`, and everything else. The mode counts first, the list after it (RFC 8881 6.4.1.3): of the mode three bits
/// are left. If the rest fails, ACLs and mode are put back as they were.
///
/// # Errors
/// `ATTRNOTSUPP` where there are no ACLs and for lists a POSIX ACL cannot say, `INVAL` for those without a meaning;
/// those of `setxattr(2)` and of setting the rest.
pub async fn set(
    c: &Compound<'_>,
    opened: &Opened,
    aces: &[Ace],
    rest: &SetAttr,
) -> Result<(), Nfsstat4> {
    let (vfs, file) = (&c.cx.server.vfs, &opened.file);
    if support(opened) == 0 || file.kind() == FileKind::Symlink {
        return Err(Nfsstat4::Attrnotsupp);
    }
    let attr = vfs.getattr(file).await?;
    let access = vfs.get_acl(file, &attr, Which::Access).await?;
    let access = access.map_or_else(|| mode::to_acl(attr.mode), |acl| (*acl).clone());
    let default = vfs.get_acl(file, &attr, Which::Default).await?;
    let directory = attr.kind == FileKind::Directory;
    let moded = match rest.mode {
        Some(mode) => mode::chmod(&access, mode),
        None => access.clone(),
    };
    let replaced = replace(aces, directory, &moded, default.as_deref());
    let (new, new_default) = replaced.map_err(unsupported)?;
    // Not the mode before the list: nobody sees what only the mode grants.
    let rest = SetAttr {
        mode: rest.mode.map(|mode| mode & 0o7000 | mode::bits(&new)),
        ..*rest
    };
    let default_of = |acl: Option<acl::Acl>| match directory {
        true => acl.map_or(AclChange::Remove, AclChange::Set),
        false => AclChange::NotSent,
    };
    let change = (AclChange::Set(new), default_of(new_default));
    let done = vfs.set_acl(&opened.cred, file, change.0, change.1).await;
    done.result.map_err(refused)?;
    if rest == SetAttr::default() {
        return Ok(());
    }
    let done = vfs.setattr(&opened.cred, file, &rest, None).await;
    if let Err(e) = done.result {
        let old = default_of(default.as_deref().cloned());
        let undone = put_back(c, opened, AclChange::Set(access), old, attr.mode);
        if let Err(error) = undone.await {
            tracing::error!(%error, "an ACL could not be put back");
        }
        return Err(e.into());
    }
    Ok(())
}

/// ACLs and mode as they were. The caller could set them a moment ago; now it is the server's promise.
async fn put_back(
    c: &Compound<'_>,
    opened: &Opened,
    access: AclChange,
    default: AclChange,
    mode: u32,
) -> vfs::Result<()> {
    let (vfs, file, root) = (&c.cx.server.vfs, &opened.file, Cred::root());
    vfs.set_acl(&root, file, access, default).await.result?;
    if vfs.getattr(file).await?.mode == mode {
        return Ok(());
    }
    // Setuid and setgid bits go with more than chmod(2).
    let set = SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    vfs.setattr(&root, file, &set, None).await.result
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Ace = Ace {
        kind: Type::Allow,
        flags: Flags::NONE,
        mask: Mask::READ_DATA,
        who: Who::Owner,
    };

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut enc = Enc::new(&mut bytes, 4096);
        enc.u32(2).expect("fits");
        put(&OWNER, None, &mut enc).expect("fits");
        let group = Ace {
            kind: Type::Deny,
            flags: Flags::IDENTIFIER_GROUP,
            who: Who::NamedGroup(77),
            ..OWNER
        };
        let named = idmap::Owner::Number(77);
        put(&group, Some(&named), &mut enc).expect("fits");
        bytes
    }

    #[test]
    fn a_list_is_passed_over() {
        let mut bytes = written();
        let len = bytes.len();
        bytes.extend([0, 0, 1, 0]);
        let mut dec = Dec::new(&bytes);
        assert_eq!(list(&mut dec), Ok(&bytes[..len]));
        assert_eq!(dec.u32(), Ok(0x100));
    }

    #[test]
    fn entries_look_as_in_the_rfc() {
        let bytes = written();
        let mut dec = Dec::new(&bytes[4..]);
        assert_eq!((dec.u32(), dec.u32(), dec.u32()), (Ok(0), Ok(0), Ok(1)));
        assert_eq!(dec.opaque(16), Ok(&b"OWNER@"[..]));
        assert_eq!((dec.u32(), dec.u32(), dec.u32()), (Ok(1), Ok(0x40), Ok(1)));
        assert_eq!(dec.opaque(16), Ok(&b"77"[..]));
        dec.finish().expect("nothing more");
    }

    #[test]
    fn half_a_list_does_not_decode() {
        let bytes = written();
        for len in 0..bytes.len() {
            assert!(list(&mut Dec::new(&bytes[..len])).is_err(), "{len}");
        }
        // Of no type; too many; more than there are bytes for.
        let mut wrong = written();
        wrong[7] = 4;
        assert_eq!(list(&mut Dec::new(&wrong)), Err(XdrError::BadEnum));
        let many = (MAX_ACES as u32 + 1).to_be_bytes();
        assert_eq!(list(&mut Dec::new(&many)), Err(XdrError::TooLong));
        let none = (MAX_ACES as u32).to_be_bytes();
        assert_eq!(list(&mut Dec::new(&none)), Err(XdrError::Short));
    }
}
