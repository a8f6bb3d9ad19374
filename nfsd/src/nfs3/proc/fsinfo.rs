//! FSINFO: what a file system and the server take (RFC 1813 3.3.19).

use super::{attributes, put_failed};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Fsinfo3Args;
use crate::nfs3::attr::nfstime;
use crate::nfs3::res::{Fsinfo3Res, Fsinfo3ResOk};
use crate::nfs3::types::PostOpAttr;
use crate::nfs3::types::fsf::{CANSETTIME, HOMOGENEOUS, LINK, SYMLINK};
use crate::xdr::XdrError;

/// Suggested multiple of READ and WRITE: a page.
const MULTIPLE: u32 = 4096;
/// Preferred size of READ and WRITE: what a longer one saves in requests it loses by waiting for all of its data.
const PREFERRED: u32 = 1 << 20;
/// Preferred size of READDIR.
const DIR_PREFERRED: u32 = 64 << 10;

pub async fn run(cx: &Cx, args: Fsinfo3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let root = match cx.open(args.fsroot.0).await {
        Ok(root) => root,
        Err(status) => return put_failed(Proc3::Fsinfo, status, PostOpAttr::None, reply),
    };
    let limits = cx.server.vfs.limits(&root.file);
    let io_max = cx.server.io_max;
    reply.put(&Fsinfo3Res::Ok(Fsinfo3ResOk {
        obj_attributes: attributes(cx, &root).await,
        rtmax: io_max,
        rtpref: PREFERRED.min(io_max),
        rtmult: MULTIPLE,
        wtmax: io_max,
        wtpref: PREFERRED.min(io_max),
        wtmult: MULTIPLE,
        dtpref: DIR_PREFERRED.min(io_max),
        maxfilesize: limits.max_file_size,
        time_delta: nfstime(limits.time_delta),
        properties: LINK | SYMLINK | HOMOGENEOUS | CANSETTIME,
    }))
}
