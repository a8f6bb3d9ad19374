//! What the procedures share in answering: failures, names and attributes.

use vfs::Name;

use super::Proc3;
use super::attr::post_op;
use super::status::{Nfsstat3, restrict};
use super::types::{Filename3, PostOpAttr, WccData};
use crate::cx::{Cx, Opened, Reply};
use crate::xdr::{Encode, Res, XdrError};

/// A failed procedure's results.
pub(super) fn failed<T, F>(procedure: Proc3, status: Nfsstat3, fail: F) -> Res<Nfsstat3, T, F> {
    Res::Fail(restrict(procedure, status), fail)
}

/// Appends a failed procedure's results.
pub(super) fn put_failed(
    procedure: Proc3,
    status: Nfsstat3,
    fail: impl Encode,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    reply.put(&failed::<(), _>(procedure, status, fail))
}

/// A name out of the arguments.
pub(super) fn name(name: Filename3<'_>) -> Result<Name, Nfsstat3> {
    Ok(Name::new(name.0)?)
}

/// Attributes for the reply of a procedure that did not get to them.
pub(crate) async fn attributes(cx: &Cx, opened: &Opened) -> PostOpAttr {
    let attr = cx.server.vfs.getattr(&opened.file).await.ok();
    post_op(&opened.file, attr.as_ref())
}

/// The same of a procedure that did not get to change anything.
pub(super) async fn unchanged(cx: &Cx, opened: &Opened) -> WccData {
    WccData {
        before: None,
        after: attributes(cx, opened).await,
    }
}
