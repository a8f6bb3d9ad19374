//! CREATE: a regular file (RFC 1813 3.3.8).

use vfs::{CreateHow, Created};

use super::name;
use crate::conflict::{Touch, touch_name3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Create3Args;
use crate::nfs3::attr::initial_attr;
use crate::nfs3::made::{self, Settle};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::Createhow3;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Create3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match cx.open(args.where_.dir.0).await {
        Ok(dir) => {
            let made = create(cx, &args, &dir).await;
            made::answer(cx, Proc3::Create, &dir, made, reply).await
        }
        Err(status) => made::no_dir(Proc3::Create, status, reply),
    }
}

async fn create(
    cx: &Cx,
    args: &Create3Args<'_>,
    dir: &Opened,
) -> Result<(Created, Settle), Nfsstat3> {
    dir.writable()?;
    let name = name(args.where_.name)?;
    let (how, settle) = match &args.how {
        Createhow3::Unchecked(sattr) => {
            let set = initial_attr(&dir.cred, sattr)?;
            (CreateHow::Unchecked(set), Settle::of(&set))
        }
        Createhow3::Guarded(sattr) => {
            let set = initial_attr(&dir.cred, sattr)?;
            (CreateHow::Guarded(set), Settle::of(&set))
        }
        // The verifier is stored after the file is made.
        Createhow3::Exclusive(verifier) => (CreateHow::Exclusive(*verifier), Settle::Both),
    };
    // A file that is there may be cut.
    let _passing = match &how {
        CreateHow::Unchecked(set) if set.size.is_some() => {
            touch_name3(cx, dir, &name, Touch::Write).await?
        }
        _ => None,
    };
    let vfs = &cx.server.vfs;
    let created = vfs.create(&dir.cred, &dir.file, &name, how).await;
    Ok((created, settle))
}
