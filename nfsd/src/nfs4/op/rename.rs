//! RENAME: a name of the saved directory becomes one of the current directory (RFC 8881 18.26,
//! RFC 7530 16.27).

use std::sync::Arc;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::{change_info, name};
use crate::nfs4::stateful::touch_name;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `RENAME4args`.
    pub struct RenameArgs<'a> {
        /// In the saved directory.
        pub oldname: Component4<'a>,
        /// In the current directory.
        pub newname: Component4<'a>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: RenameArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (to, from) = (c.dir()?, c.saved_dir()?);
    let (old, new) = (name(args.oldname)?, name(args.newname)?);
    from.writable()?;
    to.writable()?;
    if from.export != to.export {
        return Err(Nfsstat4::Xdev);
    }
    c.may_unlink()?;
    let _passing = (
        touch_name(c, from, &old).await?,
        touch_name(c, to, &new).await?,
    );
    let vfs = &c.cx.server.vfs;
    let renamed = vfs
        .rename(&from.cred, &from.file, &old, &to.file, &new)
        .await;
    renamed.result.map_err(|e| match e {
        // The target is a directory with something in it (RFC 8881 18.26.4).
        vfs::Errno::ENOTEMPTY => Nfsstat4::Exist,
        // A directory may not replace something else, nor the other way round (RFC 8881 18.26.3).
        vfs::Errno::EISDIR | vfs::Errno::ENOTDIR => Nfsstat4::Exist,
        other => other.into(),
    })?;
    if Arc::ptr_eq(&from.file, &to.file) {
        c.cx.settle(from, &[&from.file]).await?;
    } else {
        c.cx.settle(from, &[&to.file, &from.file]).await?;
    }
    out.put(&change_info(&renamed.from))?;
    out.put(&change_info(&renamed.to))?;
    Ok(())
}
