//! PATHCONF: what pathconf(3) asks (RFC 1813 3.3.20).

use super::{attributes, put_failed};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Pathconf3Args;
use crate::nfs3::res::{Pathconf3Res, Pathconf3ResOk};
use crate::nfs3::types::PostOpAttr;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Pathconf3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let object = match cx.open(args.object.0).await {
        Ok(object) => object,
        Err(status) => return put_failed(Proc3::Pathconf, status, PostOpAttr::None, reply),
    };
    let limits = cx.server.vfs.limits(&object.file);
    reply.put(&Pathconf3Res::Ok(Pathconf3ResOk {
        obj_attributes: attributes(cx, &object).await,
        linkmax: limits.link_max,
        name_max: limits.name_max,
        no_trunc: limits.no_trunc,
        chown_restricted: limits.chown_restricted,
        case_insensitive: limits.case_insensitive,
        case_preserving: limits.case_preserving,
    }))
}
