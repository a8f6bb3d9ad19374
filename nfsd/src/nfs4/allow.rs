//! What lets an operation of version 4.2 read or change the data of a file: its stateid, and where no
//! open has decided it, mode and ACL now (RFC 7862 section 15).

use vfs::locks::Passing;

use super::compound::{Compound, Place};
use super::stateful::{Grant, io_grant, requester};
use super::status::Nfsstat4;
use super::types::Stateid4;
use crate::conflict::{PATIENCE_V4, Touch, touch};
use crate::cx::Opened;

/// A regular file the caller may read or change.
pub struct Allowed {
    /// The file.
    pub opened: Opened,
    /// Kept until the operation is done.
    _grant: Grant,
}

/// The current file, to be read or, with `write`, changed.
///
/// # Errors
/// As [`io_grant`]; `NOFILEHANDLE`, `ISDIR`, `SYMLINK`, `WRONG_TYPE`, `ROFS`, `ACCESS`.
pub async fn current(
    c: &Compound<'_>,
    stateid: &Stateid4,
    write: bool,
) -> Result<Allowed, Nfsstat4> {
    allowed(c, c.regular()?.clone(), stateid, write).await
}

/// The saved file, to be read.
///
/// # Errors
/// As [`current`].
pub async fn saved(c: &Compound<'_>, stateid: &Stateid4) -> Result<Allowed, Nfsstat4> {
    let opened = match c.saved.as_ref().ok_or(Nfsstat4::Nofilehandle)? {
        Place::File(opened) => opened.clone(),
        Place::Pseudo(_) => return Err(Nfsstat4::Isdir),
    };
    match opened.file.kind() {
        vfs::FileKind::Regular => {}
        vfs::FileKind::Directory => return Err(Nfsstat4::Isdir),
        vfs::FileKind::Symlink => return Err(Nfsstat4::Symlink),
        _ => return Err(Nfsstat4::WrongType),
    }
    // The current stateid goes with the current filehandle (RFC 8881 16.2.3.1.2).
    let stateid = match *stateid {
        Stateid4::CURRENT => c.saved_stateid.ok_or(Nfsstat4::BadStateid)?,
        stateid => stateid,
    };
    allowed(c, opened, &stateid, false).await
}

async fn allowed(
    c: &Compound<'_>,
    opened: Opened,
    stateid: &Stateid4,
    write: bool,
) -> Result<Allowed, Nfsstat4> {
    let grant = io_grant(c, &opened, stateid, write).await?;
    if write {
        opened.writable()?;
    }
    if !grant.decided {
        judge(c, &opened, write).await?;
    }
    Ok(Allowed {
        opened,
        _grant: grant,
    })
}

/// The extended attributes of a file may be changed as long as this is kept: no other client has it
/// delegated (RFC 8276 8.4.2, 8.4.4).
///
/// # Errors
/// `ROFS`; `DELAY` while a delegation is recalled.
pub async fn changing(c: &Compound<'_>, opened: &Opened) -> Result<Option<Passing>, Nfsstat4> {
    opened.writable()?;
    let own = requester(c, None);
    let (server, file) = (&c.cx.server, &opened.file);
    Ok(touch(server, file, own, Touch::Change, PATIENCE_V4).await?)
}

/// As READ and WRITE are judged: the owner always may, and who can execute can read.
async fn judge(c: &Compound<'_>, opened: &Opened, write: bool) -> Result<(), Nfsstat4> {
    let vfs = &c.cx.server.vfs;
    let (rights, attr) = vfs.access(&opened.cred, &opened.file).await?;
    let may = match write {
        true => rights.write,
        false => rights.read || rights.execute,
    };
    if may || opened.cred.uid() == attr.uid {
        Ok(())
    } else {
        Err(Nfsstat4::Access)
    }
}
