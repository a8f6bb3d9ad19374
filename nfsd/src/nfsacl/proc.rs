//! The procedures of NFSACL.

use std::sync::Arc;

use acl::{Acl, mode};
use vfs::{Attr, Which};

use super::types::{
    AclList, AclProc3, Getacl3Args, Getacl3Res, Getacl3ResOk, NFSACL_V3, Setacl3Args, Setacl3Res,
    mask,
};
use crate::conflict::{Touch, touch3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::attr::post_op;
use crate::nfs3::reply::attributes;
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::PostOpAttr;
use crate::rpc::msg::Refusal;
use crate::xdr::{Dec, Res, XdrError};

/// Runs a procedure of version `vers`; the results are appended to `reply`.
///
/// # Errors
/// `ProcUnavail`, also for all but NULL in version 2; `GarbageArgs` for arguments that do not decode; `SystemErr` for
/// results that do not fit.
pub async fn dispatch(
    cx: &Cx,
    vers: u32,
    proc: u32,
    mut args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let done = match (AclProc3::from_wire(proc), vers) {
        (Some(AclProc3::Null), _) => Ok(()),
        (Some(AclProc3::Getacl), NFSACL_V3) => {
            let args = args.get::<Getacl3Args<'_>>()?;
            Box::pin(getacl(cx, args, reply)).await
        }
        (Some(AclProc3::Setacl), NFSACL_V3) => {
            let args = args.get::<Setacl3Args<'_>>()?;
            Box::pin(setacl(cx, args, reply)).await
        }
        _ => return Err(Refusal::ProcUnavail),
    };
    done.map_err(|_| Refusal::SystemErr)
}

/// Whether a retransmission of a procedure of version 3 must be answered from the duplicate request cache: a SETACL run
/// again would undo another client's that came in between.
#[must_use]
pub fn cached(proc: u32) -> bool {
    proc == AclProc3::Setacl.wire()
}

/// A file whose ACLs are offered: not where the export says `no_acl`.
fn offered(object: &Opened, asked: u32) -> Result<(), Nfsstat3> {
    if asked & !mask::ALL != 0 {
        Err(Nfsstat3::Inval)
    } else if object.options.no_acl() {
        Err(Nfsstat3::Notsupp)
    } else {
        Ok(())
    }
}

async fn getacl(cx: &Cx, args: Getacl3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let object = match cx.open(args.object.0).await {
        Ok(object) => object,
        Err(status) => return reply.put(&Getacl3Res::Fail(status, None)),
    };
    let res = match read(cx, &object, args.mask).await {
        Ok(found) => Res::Ok(found),
        Err(status) => Getacl3Res::Fail(status, attributes(cx, &object).await),
    };
    reply.put(&res)
}

async fn read(cx: &Cx, object: &Opened, asked: u32) -> Result<Getacl3ResOk, Nfsstat3> {
    offered(object, asked)?;
    let attr = cx.server.vfs.getattr(&object.file).await?;
    let (access_bits, default_bits) = (
        asked & (mask::NA_ACL | mask::NA_ACLCNT),
        asked & (mask::NA_DFACL | mask::NA_DFACLCNT),
    );
    let access = found(cx, object, &attr, Which::Access, access_bits).await?;
    let default = found(cx, object, &attr, Which::Default, default_bits).await?;
    Ok(Getacl3ResOk {
        obj_attributes: post_op(&object.file, Some(&attr)),
        mask: asked,
        access,
        default,
    })
}

/// One of the lists: empty if nothing of it is asked for. A file without an access ACL has that of its mode.
async fn found(
    cx: &Cx,
    object: &Opened,
    attr: &Attr,
    which: Which,
    asked: u32,
) -> Result<AclList, Nfsstat3> {
    if asked == 0 {
        return Ok(AclList::default());
    }
    let acl: Option<Arc<Acl>> = cx.server.vfs.get_acl(&object.file, attr, which).await?;
    let entries = asked & (mask::NA_ACL | mask::NA_DFACL) != 0;
    Ok(match (acl, which) {
        (Some(acl), _) => AclList::of(&acl, attr, which, entries),
        (None, Which::Access) => AclList::of(&mode::to_acl(attr.mode), attr, which, entries),
        (None, Which::Default) => AclList::default(),
    })
}

async fn setacl(cx: &Cx, args: Setacl3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (result, attr) = match cx.open(args.object.0).await {
        Ok(object) => set(cx, &args, &object).await,
        Err(status) => (Err(status), None),
    };
    let res: Setacl3Res = match result {
        Ok(()) => Res::Ok(attr),
        Err(status) => Res::Fail(status, attr),
    };
    reply.put(&res)
}

async fn set(
    cx: &Cx,
    args: &Setacl3Args<'_>,
    object: &Opened,
) -> (Result<(), Nfsstat3>, PostOpAttr) {
    let wanted = object.writable().and_then(|()| {
        offered(object, args.mask)?;
        let access = args.access.change(args.mask & mask::NA_ACL != 0)?;
        let default = args.default.change(args.mask & mask::NA_DFACL != 0)?;
        Ok((access, default))
    });
    let (access, default) = match wanted {
        Ok(wanted) => wanted,
        Err(status) => return (Err(status), attributes(cx, object).await),
    };
    let _passing = match touch3(cx, object, Touch::Change).await {
        Ok(passing) => passing,
        Err(status) => return (Err(status), attributes(cx, object).await),
    };
    let vfs = &cx.server.vfs;
    let changed = vfs
        .set_acl(&object.cred, &object.file, access, default)
        .await;
    let result = match changed.result {
        Ok(()) => cx.settle(object, &[&object.file]).await,
        failed => failed,
    };
    let after = post_op(&object.file, changed.wcc.after.as_ref());
    (result.map_err(Nfsstat3::from), after)
}
