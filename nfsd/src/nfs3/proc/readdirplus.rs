//! READDIRPLUS: names in a directory with attributes and handles (RFC 1813 3.3.17).

use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Readdirplus3Args;
use crate::nfs3::attr::fattr;
use crate::nfs3::dirlist::Entryplus3;
use crate::nfs3::listing::{self, Wanted};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{Filename3, NfsFh3};
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Readdirplus3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let dir = match cx.open(args.dir.0).await {
        Ok(dir) => dir,
        Err(status) => return listing::fail(Proc3::Readdirplus, status, None, reply),
    };
    if dir.options.no_readdirplus() {
        let status = Nfsstat3::Notsupp;
        return listing::refuse(cx, &dir, Proc3::Readdirplus, status, reply).await;
    }
    let wanted = Wanted {
        procedure: Proc3::Readdirplus,
        cookie: args.cookie,
        cookieverf: args.cookieverf,
        dircount: Some(args.dircount),
        maxcount: args.maxcount,
    };
    let (mount, locks) = (&dir.file.mount, &cx.server.vfs.table.locks);
    let written = |handle: &vfs::KernelHandle| {
        let known = locks.any_writer().then(|| locks.known(mount.fsid, handle));
        known
            .flatten()
            .is_some_and(|file| file.writer(None).is_some())
    };
    listing::list(
        cx,
        &dir,
        wanted,
        |list, entry| {
            let node = entry.node.as_ref();
            let handle = node.and_then(|(handle, _)| cx.fh_of(dir.export, mount, handle).ok());
            list.push(&Entryplus3 {
                fileid: entry.fileid,
                name: Filename3(&entry.name),
                cookie: entry.cookie,
                // As [`crate::nfs3::attr::post_op`] has it.
                name_attributes: node
                    .filter(|(handle, _)| !written(handle))
                    .map(|(_, attr)| fattr(mount, attr)),
                name_handle: handle.as_ref().map(|handle| NfsFh3(handle)),
            })
        },
        reply,
    )
    .await
}
