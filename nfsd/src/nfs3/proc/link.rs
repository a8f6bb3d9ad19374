//! LINK: an additional name for a file (RFC 1813 3.3.15).

use vfs::Name;

use super::{attributes, failed, name, unchanged};
use crate::conflict::{Touch, touch3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Link3Args;
use crate::nfs3::attr::{post_op, wcc_data};
use crate::nfs3::res::{Link3Res, Link3Wcc};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Link3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, wcc) = link(cx, &args).await;
    let res: Link3Res = match result {
        Ok(()) => Link3Res::Ok(wcc),
        Err(status) => failed(Proc3::Link, status, wcc),
    };
    reply.put(&res)
}

async fn link(cx: &Cx, args: &Link3Args<'_>) -> (Result<(), Nfsstat3>, Link3Wcc) {
    let file = match cx.open(args.file.0).await {
        Ok(file) => file,
        Err(status) => return (Err(status), Link3Wcc::default()),
    };
    let dir = match cx.open(args.link.dir.0).await {
        Ok(dir) => dir,
        Err(status) => {
            let wcc = Link3Wcc {
                file_attributes: attributes(cx, &file).await,
                linkdir_wcc: WccData::default(),
            };
            return (Err(status), wcc);
        }
    };
    let checked = match new_name(args, &file, &dir) {
        Ok(name) => touch3(cx, &file, Touch::Change).await.map(|p| (name, p)),
        Err(status) => Err(status),
    };
    let (name, _passing) = match checked {
        Ok(checked) => checked,
        Err(status) => {
            let wcc = Link3Wcc {
                file_attributes: attributes(cx, &file).await,
                linkdir_wcc: unchanged(cx, &dir).await,
            };
            return (Err(status), wcc);
        }
    };
    let vfs = &cx.server.vfs;
    let linked = vfs.link(&dir.cred, &file.file, &dir.file, &name).await;
    let wcc = Link3Wcc {
        file_attributes: post_op(&file.file, linked.file.as_ref()),
        linkdir_wcc: wcc_data(&dir.file, &linked.dir),
    };
    let result = match linked.result {
        Ok(()) => cx.settle(&dir, &[&dir.file, &file.file]).await,
        failed => failed,
    };
    (result.map_err(Nfsstat3::from), wcc)
}

/// The name, if the arguments may be looked at further.
fn new_name(args: &Link3Args<'_>, file: &Opened, dir: &Opened) -> Result<Name, Nfsstat3> {
    dir.writable()?;
    file.writable()?;
    if file.export != dir.export {
        return Err(Nfsstat3::Xdev);
    }
    name(args.link.name)
}
