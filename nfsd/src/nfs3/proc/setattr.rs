//! SETATTR: mode, owner, size and times of a file (RFC 1813 3.3.2).

use super::{failed, unchanged};
use crate::conflict::{Touch, touch3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Setattr3Args;
use crate::nfs3::attr::{set_attr, time, wcc_data};
use crate::nfs3::res::Setattr3Res;
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Setattr3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, wcc) = match cx.open(args.object.0).await {
        Ok(object) => set(cx, &args, &object).await,
        Err(status) => (Err(status), WccData::default()),
    };
    let res: Setattr3Res = match result {
        Ok(()) => Setattr3Res::Ok(wcc),
        Err(status) => failed(Proc3::Setattr, status, wcc),
    };
    reply.put(&res)
}

async fn set(cx: &Cx, args: &Setattr3Args<'_>, object: &Opened) -> (Result<(), Nfsstat3>, WccData) {
    let wanted = object.writable().and_then(|()| {
        let guard = args.guard.map(time).transpose()?;
        Ok((set_attr(&args.new_attributes)?, guard))
    });
    let (set, guard) = match wanted {
        Ok(wanted) => wanted,
        Err(status) => return (Err(status), unchanged(cx, object).await),
    };
    let what = match set.size {
        Some(_) => Touch::Write,
        None => Touch::Change,
    };
    let _passing = match touch3(cx, object, what).await {
        Ok(passing) => passing,
        Err(status) => return (Err(status), unchanged(cx, object).await),
    };
    let vfs = &cx.server.vfs;
    let changed = vfs.setattr(&object.cred, &object.file, &set, guard).await;
    let result = match changed.result {
        Ok(()) => cx.settle(object, &[&object.file]).await,
        failed => failed,
    };
    (
        result.map_err(Nfsstat3::from),
        wcc_data(&object.file, &changed.wcc),
    )
}
