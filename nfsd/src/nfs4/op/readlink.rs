//! READLINK: the contents of a symbolic link (RFC 8881 18.24, RFC 7530 16.25).

use crate::cx::Reply;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Linktext4;

pub(super) async fn run(c: &mut Compound<'_>, (): (), out: &mut Reply) -> Result<(), Nfsstat4> {
    // What is no symbolic link has an error of its own since 4.1 (RFC 8881 18.24.3).
    let wrong = if c.minor == 0 {
        Nfsstat4::Inval
    } else {
        Nfsstat4::WrongType
    };
    let link = match c.place()? {
        Place::File(opened) if opened.file.kind() == vfs::FileKind::Symlink => opened,
        _ => return Err(wrong),
    };
    let (target, _) = c.cx.server.vfs.readlink(&link.cred, &link.file).await;
    out.put(&Linktext4(&target?))?;
    Ok(())
}
