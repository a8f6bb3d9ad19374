//! GETXATTR: the value of an extended attribute (RFC 8276 8.4.1).

use crate::cx::{Opened, Reply};
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;
use crate::xdr::{opaque_len, xdr_opaque};

xdr_opaque! {
    /// `xattrvalue4`. The file system has the limit; only values far beyond every file system's are
    /// refused while decoding.
    pub struct Xattrvalue4(max 0x0010_0000);
}

impl Compound<'_> {
    /// The current file, to look at its extended attributes.
    ///
    /// # Errors
    /// `NOFILEHANDLE`; `NOTSUPP` in the pseudo file system, which has none.
    pub(super) fn with_xattrs(&self) -> Result<&Opened, Nfsstat4> {
        match self.place()? {
            Place::File(opened) => Ok(opened),
            Place::Pseudo(_) => Err(Nfsstat4::Notsupp),
        }
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    name: Component4<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.with_xattrs()?;
    let room = c.room(out).saturating_sub(opaque_len(0)) & !3;
    let max = room.min(vfs::XATTR_VALUE_MAX);
    let vfs = &c.cx.server.vfs;
    let value = vfs.getxattr(&opened.cred, &opened.file, name.0, max).await;
    let value = value.map_err(|e| match e {
        // No value is longer than what the kernel stores: it is the reply that is too short.
        vfs::Errno::ERANGE => Nfsstat4::RepTooBig,
        other => other.into(),
    })?;
    out.put(&Xattrvalue4(&value))?;
    Ok(())
}
