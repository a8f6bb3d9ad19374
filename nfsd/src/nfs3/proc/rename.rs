//! RENAME: another name or directory for a file (RFC 1813 3.3.14).

use std::sync::Arc;

use vfs::locks::Passing;
use vfs::{Name, Renamed};

use super::{failed, name, unchanged};
use crate::conflict::{Touch, touch_name3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Rename3Args;
use crate::nfs3::attr::wcc_data;
use crate::nfs3::res::{Rename3Res, Rename3Wcc};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::WccData;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Rename3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, wcc) = rename(cx, &args).await;
    let res: Rename3Res = match result {
        Ok(()) => Rename3Res::Ok(wcc),
        Err(status) => failed(Proc3::Rename, status, wcc),
    };
    reply.put(&res)
}

async fn rename(cx: &Cx, args: &Rename3Args<'_>) -> (Result<(), Nfsstat3>, Rename3Wcc) {
    let from = match cx.open(args.from.dir.0).await {
        Ok(from) => from,
        Err(status) => return (Err(status), Rename3Wcc::default()),
    };
    let to = match cx.open(args.to.dir.0).await {
        Ok(to) => to,
        Err(status) => {
            let wcc = Rename3Wcc {
                fromdir_wcc: unchanged(cx, &from).await,
                todir_wcc: WccData::default(),
            };
            return (Err(status), wcc);
        }
    };
    let (old, new) = match names(args, &from, &to) {
        Ok(names) => names,
        Err(status) => {
            let wcc = Rename3Wcc {
                fromdir_wcc: unchanged(cx, &from).await,
                todir_wcc: unchanged(cx, &to).await,
            };
            return (Err(status), wcc);
        }
    };
    let _passing = match passing(cx, (&from, &old), (&to, &new)).await {
        Ok(passing) => passing,
        Err(status) => {
            let wcc = Rename3Wcc {
                fromdir_wcc: unchanged(cx, &from).await,
                todir_wcc: unchanged(cx, &to).await,
            };
            return (Err(status), wcc);
        }
    };
    let vfs = &cx.server.vfs;
    let renamed = vfs
        .rename(&from.cred, &from.file, &old, &to.file, &new)
        .await;
    let wcc = Rename3Wcc {
        fromdir_wcc: wcc_data(&from.file, &renamed.from),
        todir_wcc: wcc_data(&to.file, &renamed.to),
    };
    let settled = settled(cx, &from, &to, renamed).await;
    (settled.map_err(Nfsstat3::from), wcc)
}

/// Delegations of the file that moves and of the one in its way come back first.
async fn passing(
    cx: &Cx,
    (from, old): (&Opened, &Name),
    (to, new): (&Opened, &Name),
) -> Result<(Option<Passing>, Option<Passing>), Nfsstat3> {
    Ok((
        touch_name3(cx, from, old, Touch::Change).await?,
        touch_name3(cx, to, new, Touch::Change).await?,
    ))
}

/// Both names, if the arguments may be looked at further.
fn names(args: &Rename3Args<'_>, from: &Opened, to: &Opened) -> Result<(Name, Name), Nfsstat3> {
    from.writable()?;
    to.writable()?;
    if from.export != to.export {
        return Err(Nfsstat3::Xdev);
    }
    Ok((name(args.from.name)?, name(args.to.name)?))
}

async fn settled(cx: &Cx, from: &Opened, to: &Opened, renamed: Renamed) -> vfs::Result<()> {
    renamed.result?;
    if Arc::ptr_eq(&from.file, &to.file) {
        cx.settle(from, &[&from.file]).await
    } else {
        cx.settle(from, &[&to.file, &from.file]).await
    }
}
