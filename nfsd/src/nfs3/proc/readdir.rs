//! READDIR: names in a directory (RFC 1813 3.3.16).

use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Readdir3Args;
use crate::nfs3::dirlist::Entry3;
use crate::nfs3::listing::{self, Wanted};
use crate::nfs3::types::Filename3;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Readdir3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let dir = match cx.open(args.dir.0).await {
        Ok(dir) => dir,
        Err(status) => return listing::fail(Proc3::Readdir, status, None, reply),
    };
    let wanted = Wanted {
        procedure: Proc3::Readdir,
        cookie: args.cookie,
        cookieverf: args.cookieverf,
        dircount: None,
        maxcount: args.count,
    };
    listing::list(
        cx,
        &dir,
        wanted,
        |list, entry| {
            list.push(&Entry3 {
                fileid: entry.fileid,
                name: Filename3(&entry.name),
                cookie: entry.cookie,
            })
        },
        reply,
    )
    .await
}
