//! GETATTR: attributes of a file (RFC 1813 3.3.1).

use vfs::FileKind;

use super::put_failed;
use crate::conflict::PATIENCE_V3;
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Getattr3Args;
use crate::nfs3::attr::fattr;
use crate::nfs3::res::{Getattr3Res, Getattr3ResOk};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::Fattr3;
use crate::nfs4::cb::getattr::refresh;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Getattr3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match attributes(cx, &args).await {
        Ok(obj_attributes) => reply.put(&Getattr3Res::Ok(Getattr3ResOk { obj_attributes })),
        Err(status) => put_failed(Proc3::Getattr, status, (), reply),
    }
}

async fn attributes(cx: &Cx, args: &Getattr3Args<'_>) -> Result<Fattr3, Nfsstat3> {
    let object = cx.open(args.object.0).await?;
    let vfs = &cx.server.vfs;
    let mut attr = vfs.getattr(&object.file).await?;
    // Who has it delegated for writing knows better (RFC 8881 10.4.3).
    if vfs.table.locks.any_writer() && attr.kind == FileKind::Regular {
        let locks = object.file.locks();
        if Box::pin(refresh(&cx.server, locks, None, &mut attr, PATIENCE_V3)).await? {
            attr = vfs.getattr(&object.file).await?;
        }
    }
    Ok(fattr(&object.file.mount, &attr))
}
