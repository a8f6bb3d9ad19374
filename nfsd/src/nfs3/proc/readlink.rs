//! READLINK: contents of a symbolic link (RFC 1813 3.3.5).

use super::put_failed;
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Readlink3Args;
use crate::nfs3::attr::post_op;
use crate::nfs3::res::{Readlink3Res, Readlink3ResOk};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{Nfspath3, PostOpAttr};
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Readlink3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (target, symlink_attributes) = read_link(cx, &args).await;
    match target {
        Ok(target) => reply.put(&Readlink3Res::Ok(Readlink3ResOk {
            symlink_attributes,
            data: Nfspath3(&target),
        })),
        Err(status) => put_failed(Proc3::Readlink, status, symlink_attributes, reply),
    }
}

async fn read_link(cx: &Cx, args: &Readlink3Args<'_>) -> (Result<Vec<u8>, Nfsstat3>, PostOpAttr) {
    let link = match cx.open(args.symlink.0).await {
        Ok(link) => link,
        Err(status) => return (Err(status), None),
    };
    let (target, attr) = cx.server.vfs.readlink(&link.cred, &link.file).await;
    let attributes = post_op(&link.file, attr.as_ref());
    (target.map_err(Nfsstat3::from), attributes)
}
