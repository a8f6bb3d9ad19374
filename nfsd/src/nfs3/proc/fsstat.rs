//! FSSTAT: space and inodes of a file system (RFC 1813 3.3.18).

use super::{attributes, failed, put_failed};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Fsstat3Args;
use crate::nfs3::res::{Fsstat3Res, Fsstat3ResOk};
use crate::nfs3::types::PostOpAttr;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Fsstat3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let root = match cx.open(args.fsroot.0).await {
        Ok(root) => root,
        Err(status) => return put_failed(Proc3::Fsstat, status, PostOpAttr::None, reply),
    };
    let space = cx.server.vfs.statfs(&root.file).await;
    let obj_attributes = attributes(cx, &root).await;
    let res: Fsstat3Res = match space {
        Ok(space) => Fsstat3Res::Ok(Fsstat3ResOk {
            obj_attributes,
            tbytes: space.total,
            fbytes: space.free,
            abytes: space.avail,
            tfiles: space.files_total,
            ffiles: space.files_free,
            afiles: space.files_avail,
            invarsec: 0,
        }),
        Err(e) => failed(Proc3::Fsstat, e.into(), obj_attributes),
    };
    reply.put(&res)
}
