//! LOOKUP: the file of a name in a directory (RFC 1813 3.3.3).

use vfs::Name;

use super::{attributes, name, put_failed};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Lookup3Args;
use crate::nfs3::attr::post_op;
use crate::nfs3::res::{Lookup3Res, Lookup3ResOk};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{NfsFh3, PostOpAttr};
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Lookup3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match cx.open(args.what.dir.0).await {
        Ok(dir) => look_up(cx, &args, &dir, reply).await,
        Err(status) => fail(status, None, reply),
    }
}

fn fail(status: Nfsstat3, dir: PostOpAttr, reply: &mut Reply) -> Result<(), XdrError> {
    put_failed(Proc3::Lookup, status, dir, reply)
}

async fn look_up(
    cx: &Cx,
    args: &Lookup3Args<'_>,
    dir: &Opened,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    let name = match name(args.what.name) {
        // The export's root has no parent: what is above it is not exported.
        Ok(name) if name.is_dotdot() && cx.is_root(dir) => Name::dot(),
        Ok(name) => name,
        Err(status) => return fail(status, attributes(cx, dir).await, reply),
    };
    let found = cx.server.vfs.lookup(&dir.cred, &dir.file, &name).await;
    let dir_attributes = post_op(&dir.file, found.dir.as_ref());
    let (file, attr) = match found.result {
        Ok(found) => found,
        Err(e) => return fail(e.into(), dir_attributes, reply),
    };
    if file.mount.fsid != dir.file.mount.fsid && !dir.options.crossmnt() {
        return fail(Nfsstat3::Acces, dir_attributes, reply);
    }
    match cx.fh(dir, &file) {
        Ok(handle) => reply.put(&Lookup3Res::Ok(Lookup3ResOk {
            object: NfsFh3(&handle),
            obj_attributes: post_op(&file, Some(&attr)),
            dir_attributes,
        })),
        Err(status) => fail(status, dir_attributes, reply),
    }
}
