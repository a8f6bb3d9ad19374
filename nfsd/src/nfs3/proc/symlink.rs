//! SYMLINK: a symbolic link (RFC 1813 3.3.10).

use vfs::Created;

use super::name;
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Symlink3Args;
use crate::nfs3::attr::initial_attr;
use crate::nfs3::made::{self, Settle};
use crate::nfs3::status::Nfsstat3;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Symlink3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match cx.open(args.where_.dir.0).await {
        Ok(dir) => {
            let made = symlink(cx, &args, &dir).await;
            made::answer(cx, Proc3::Symlink, &dir, made, reply).await
        }
        Err(status) => made::no_dir(Proc3::Symlink, status, reply),
    }
}

async fn symlink(
    cx: &Cx,
    args: &Symlink3Args<'_>,
    dir: &Opened,
) -> Result<(Created, Settle), Nfsstat3> {
    dir.writable()?;
    let name = name(args.where_.name)?;
    let target = args.symlink.symlink_data.0;
    if target.is_empty() {
        return Err(Nfsstat3::Inval);
    }
    let set = initial_attr(&dir.cred, &args.symlink.symlink_attributes)?;
    let vfs = &cx.server.vfs;
    let created = vfs.symlink(&dir.cred, &dir.file, &name, target, &set).await;
    // A symbolic link cannot be opened for fsync(2), its directory can.
    Ok((created, Settle::Dir))
}
