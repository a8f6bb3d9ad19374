//! READ: data of a file (RFC 1813 3.3.6).

use std::rc::Rc;

use vfs::uring::Slice;

use super::{attributes, put_failed};
use crate::conflict::{Touch, touch3};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Read3Args;
use crate::nfs3::attr::post_op;
use crate::nfs3::res::Read3ResHead;
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::PostOpAttr;
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Read3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let file = match cx.open(args.file.0).await {
        Ok(file) => file,
        Err(status) => return fail(status, None, reply),
    };
    if let Err(status) = touch3(cx, &file, Touch::Read).await {
        let attributes = attributes(cx, &file).await;
        return fail(status, attributes, reply);
    }
    let count = args.count.min(cx.server.io_max);
    let vfs = &cx.server.vfs;
    let done = vfs.read(&file.cred, &file.file, args.offset, count).await;
    let file_attributes = post_op(&file.file, done.attr.as_ref());
    let data = match done.result {
        Ok(data) => data,
        Err(e) => return fail(e.into(), file_attributes, reply),
    };
    let len = data.buf.len();
    let Ok(count) = u32::try_from(len) else {
        return fail(Nfsstat3::Serverfault, file_attributes, reply);
    };
    reply.put(&Read3ResHead {
        file_attributes,
        count,
        eof: data.eof,
    })?;
    reply.payload = Some(Slice::new(Rc::new(data.buf), 0..len));
    Ok(())
}

fn fail(status: Nfsstat3, attributes: PostOpAttr, reply: &mut Reply) -> Result<(), XdrError> {
    put_failed(Proc3::Read, status, attributes, reply)
}
