//! What the operations share: names, change information.

use std::sync::Arc;

use vfs::{Attr, File, Name, Wcc};

use super::compound::{Compound, Place};
use super::status::Nfsstat4;
use super::types::{ChangeInfo4, Component4};
use crate::cx::Opened;

/// A name out of the arguments. Names are bytes, as on Linux (RFC 8881 14.4 leaves that to the
/// server).
///
/// # Errors
/// `INVAL` when empty, `BADNAME` for what no directory entry can be, `NAMETOOLONG`.
pub(super) fn name(name: Component4<'_>) -> Result<Name, Nfsstat4> {
    match name.0 {
        b"" => Err(Nfsstat4::Inval),
        b"." | b".." => Err(Nfsstat4::Badname),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => Err(Nfsstat4::Badname),
        bytes => Ok(Name::new(bytes)?),
    }
}

impl Compound<'_> {
    /// The current filehandle as a directory of an export, to be changed or searched.
    ///
    /// # Errors
    /// As [`Compound::file`]; `NOTDIR`, and `SYMLINK` where version 4.0 has it (RFC 7530 16.15.5).
    pub(super) fn dir(&self) -> Result<&Opened, Nfsstat4> {
        let opened = self.file()?;
        directory(opened)?;
        Ok(opened)
    }

    /// The saved filehandle as a directory.
    ///
    /// # Errors
    /// As [`Compound::dir`].
    pub(super) fn saved_dir(&self) -> Result<&Opened, Nfsstat4> {
        let opened = self.saved_file()?;
        directory(opened)?;
        Ok(opened)
    }
}

pub(super) fn directory(opened: &Opened) -> Result<(), Nfsstat4> {
    match opened.file.kind() {
        vfs::FileKind::Directory => Ok(()),
        vfs::FileKind::Symlink => Err(Nfsstat4::Symlink),
        _ => Err(Nfsstat4::Notdir),
    }
}

/// `change_info4` of a directory. `atomic` says that nothing the server did fell in between.
pub(super) fn change_info(wcc: &Wcc) -> ChangeInfo4 {
    let of = |attr: &Option<Attr>| attr.map_or(0, |attr| attr.change);
    ChangeInfo4 {
        atomic: wcc.before.is_some() && wcc.after.is_some(),
        before: of(&wcc.before),
        after: of(&wcc.after),
    }
}

/// A file of the same export as `dir`, as a place.
pub(super) fn beside(dir: &Opened, file: Arc<File>) -> Place {
    Place::File(Opened {
        file,
        ..dir.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let of = |bytes| name(Component4(bytes)).map(|name| name.as_bytes().len());
        assert_eq!(of(b"a"), Ok(1));
        assert_eq!(of(b"\xff\xfe"), Ok(2));
        assert_eq!(of(&[b'x'; 255]), Ok(255));
        assert_eq!(of(&[b'x'; 256]), Err(Nfsstat4::Nametoolong));
        assert_eq!(of(b""), Err(Nfsstat4::Inval));
        for bad in [&b"."[..], b"..", b"a/b", b"a\0"] {
            assert_eq!(of(bad), Err(Nfsstat4::Badname));
        }
    }
}
