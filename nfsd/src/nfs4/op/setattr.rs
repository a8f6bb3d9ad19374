//! SETATTR: changes attributes of a file (RFC 8881 18.30, RFC 7530 16.32).

use crate::cx::Reply;
use crate::nfs4::attr::{self, Setting, bit};
use crate::nfs4::compound::Compound;
use crate::nfs4::stateful::{change, io_grant};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, Fattr4, Stateid4};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `SETATTR4args`.
    pub struct SetattrArgs<'a> {
        /// Proves the right to change the size.
        pub stateid: Stateid4,
        /// What to set.
        pub obj_attributes: Fattr4<'a>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SetattrArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let done = set(c, &args).await;
    // Which attributes were set is said of failures, too: nothing is set in part.
    let mask = done.as_ref().map_or(Bitmap4::EMPTY, |setting| setting.mask);
    out.put(&mask)?;
    done.map(|_| ())
}

async fn set(c: &Compound<'_>, args: &SetattrArgs<'_>) -> Result<Setting, Nfsstat4> {
    let object = c.file()?;
    object.writable()?;
    let (setting, acl) = attr::setting(c, &args.obj_attributes).await?;
    // A umask is for what is being made (RFC 8275).
    if setting.mask.has(bit::MODE_UMASK) {
        return Err(Nfsstat4::Inval);
    }
    let vfs = &c.cx.server.vfs;
    if setting.mask.has(bit::SIZE) {
        match object.file.kind() {
            vfs::FileKind::Regular => {}
            vfs::FileKind::Directory => return Err(Nfsstat4::Isdir),
            _ => return Err(Nfsstat4::Inval),
        }
    }
    let _passing = change(c, object, Some(&args.stateid)).await?;
    let _grant = if setting.mask.has(bit::SIZE) {
        Some(io_grant(c, object, &args.stateid, true).await?)
    } else {
        None
    };
    match acl {
        Some(aces) => Box::pin(attr::acl::set(c, object, &aces, &setting.set)).await?,
        None => {
            let set = vfs.setattr(&object.cred, &object.file, &setting.set, None);
            set.await.result?;
        }
    }
    c.cx.settle(object, &[&object.file]).await?;
    Ok(setting)
}
