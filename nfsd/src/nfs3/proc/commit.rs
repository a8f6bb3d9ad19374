//! COMMIT: what was written unstable is on stable storage (RFC 1813 3.3.21).

use super::{failed, put_failed};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Commit3Args;
use crate::nfs3::attr::wcc_data;
use crate::nfs3::res::{Commit3Res, Commit3ResOk};
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

/// Also on an export that is read-only by now: data written before must not be lost for it.
pub async fn run(cx: &Cx, args: Commit3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let file = match cx.open(args.file.0).await {
        Ok(file) => file,
        Err(status) => {
            return put_failed(Proc3::Commit, status, WccData::default(), reply);
        }
    };
    let vfs = &cx.server.vfs;
    let changed = vfs
        .commit(&file.cred, &file.file, args.offset, args.count)
        .await;
    let file_wcc = wcc_data(&file.file, &changed.wcc);
    let res: Commit3Res = match changed.result {
        Ok(()) => Commit3Res::Ok(Commit3ResOk {
            file_wcc,
            verf: vfs.write_verifier(),
        }),
        Err(e) => failed(Proc3::Commit, e.into(), file_wcc),
    };
    reply.put(&res)
}
