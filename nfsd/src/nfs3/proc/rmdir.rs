//! RMDIR: removes an empty directory (RFC 1813 3.3.13).

use super::{failed, name, unchanged};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Rmdir3Args;
use crate::nfs3::attr::wcc_data;
use crate::nfs3::res::Rmdir3Res;
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Rmdir3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, dir_wcc) = match cx.open(args.object.dir.0).await {
        Ok(dir) => rmdir(cx, &args, &dir).await,
        Err(status) => (Err(status), WccData::default()),
    };
    let res: Rmdir3Res = match result {
        Ok(()) => Rmdir3Res::Ok(dir_wcc),
        Err(status) => failed(Proc3::Rmdir, status, dir_wcc),
    };
    reply.put(&res)
}

async fn rmdir(cx: &Cx, args: &Rmdir3Args<'_>, dir: &Opened) -> (Result<(), Nfsstat3>, WccData) {
    let name = match dir.writable().and_then(|()| name(args.object.name)) {
        Ok(name) => name,
        Err(status) => return (Err(status), unchanged(cx, dir).await),
    };
    let changed = cx.server.vfs.rmdir(&dir.cred, &dir.file, &name).await;
    let result = match changed.result {
        Ok(()) => cx.settle(dir, &[&dir.file]).await,
        failed => failed,
    };
    (
        result.map_err(Nfsstat3::from),
        wcc_data(&dir.file, &changed.wcc),
    )
}
