//! MKDIR: a directory (RFC 1813 3.3.9).

use vfs::Created;

use super::name;
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Mkdir3Args;
use crate::nfs3::attr::initial_attr;
use crate::nfs3::made::{self, Settle};
use crate::nfs3::status::Nfsstat3;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Mkdir3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match cx.open(args.where_.dir.0).await {
        Ok(dir) => {
            let made = mkdir(cx, &args, &dir).await;
            made::answer(cx, Proc3::Mkdir, &dir, made, reply).await
        }
        Err(status) => made::no_dir(Proc3::Mkdir, status, reply),
    }
}

async fn mkdir(
    cx: &Cx,
    args: &Mkdir3Args<'_>,
    dir: &Opened,
) -> Result<(Created, Settle), Nfsstat3> {
    dir.writable()?;
    let name = name(args.where_.name)?;
    let mut set = initial_attr(&dir.cred, &args.attributes)?;
    // A directory has no size to set.
    set.size = None;
    let created = cx.server.vfs.mkdir(&dir.cred, &dir.file, &name, &set).await;
    Ok((created, Settle::of_dir(&set)))
}
