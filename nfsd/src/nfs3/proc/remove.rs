//! REMOVE: removes a name of anything but a directory (RFC 1813 3.3.12).

use super::{failed, name, unchanged};
use crate::conflict::{Touch, touch_name3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Remove3Args;
use crate::nfs3::attr::wcc_data;
use crate::nfs3::res::Remove3Res;
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Remove3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, dir_wcc) = match cx.open(args.object.dir.0).await {
        Ok(dir) => remove(cx, &args, &dir).await,
        Err(status) => (Err(status), WccData::default()),
    };
    let res: Remove3Res = match result {
        Ok(()) => Remove3Res::Ok(dir_wcc),
        Err(status) => failed(Proc3::Remove, status, dir_wcc),
    };
    reply.put(&res)
}

async fn remove(cx: &Cx, args: &Remove3Args<'_>, dir: &Opened) -> (Result<(), Nfsstat3>, WccData) {
    let name = match dir.writable().and_then(|()| name(args.object.name)) {
        Ok(name) => name,
        Err(status) => return (Err(status), unchanged(cx, dir).await),
    };
    let _passing = match touch_name3(cx, dir, &name, Touch::Change).await {
        Ok(passing) => passing,
        Err(status) => return (Err(status), unchanged(cx, dir).await),
    };
    let changed = cx.server.vfs.remove(&dir.cred, &dir.file, &name).await;
    let result = match changed.result {
        Ok(()) => cx.settle(dir, &[&dir.file]).await,
        failed => failed,
    };
    (
        result.map_err(Nfsstat3::from),
        wcc_data(&dir.file, &changed.wcc),
    )
}
