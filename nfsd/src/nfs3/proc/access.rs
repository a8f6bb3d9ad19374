//! ACCESS: what the caller may do with a file (RFC 1813 3.3.4).

use vfs::{FileKind, Rights};

use super::{attributes, put_failed};
use crate::cx::{Cx, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Access3Args;
use crate::nfs3::attr::post_op;
use crate::nfs3::res::{Access3Res, Access3ResOk};
use crate::nfs3::types::PostOpAttr;
use crate::nfs3::types::access::{DELETE, EXECUTE, EXTEND, LOOKUP, MODIFY, READ};
use crate::xdr::XdrError;

/// What a read-only export never grants.
const CHANGES: u32 = MODIFY | EXTEND | DELETE;

pub async fn run(cx: &Cx, args: Access3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let object = match cx.open(args.object.0).await {
        Ok(object) => object,
        Err(status) => return put_failed(Proc3::Access, status, PostOpAttr::None, reply),
    };
    match cx.server.vfs.access(&object.cred, &object.file).await {
        Ok((rights, attr)) => {
            let mut access = granted(attr.kind, rights);
            if object.options.read_only() {
                access &= !CHANGES;
            }
            reply.put(&Access3Res::Ok(Access3ResOk {
                obj_attributes: post_op(&object.file, Some(&attr)),
                access: access & args.access,
            }))
        }
        Err(e) => {
            let attributes = attributes(cx, &object).await;
            put_failed(Proc3::Access, e.into(), attributes, reply)
        }
    }
}

/// The bits that rights on a file of a kind give, as on Linux: changing a directory takes the right
/// to search it, too.
pub fn granted(kind: FileKind, rights: Rights) -> u32 {
    let bit = |granted: bool, bits: u32| if granted { bits } else { 0 };
    let read = bit(rights.read, READ);
    match kind {
        FileKind::Directory => {
            let change = rights.write && rights.execute;
            read | bit(rights.execute, LOOKUP) | bit(change, MODIFY | EXTEND | DELETE)
        }
        _ => read | bit(rights.write, MODIFY | EXTEND) | bit(rights.execute, EXECUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(bits: u32) -> Rights {
        Rights {
            read: bits & 4 != 0,
            write: bits & 2 != 0,
            execute: bits & 1 != 0,
        }
    }

    #[test]
    fn bits_of_directories() {
        let all = LOOKUP | MODIFY | EXTEND | DELETE;
        for (bits, expected) in [
            (0, 0),
            (1, LOOKUP),
            (2, 0),
            (3, all),
            (4, READ),
            (5, READ | LOOKUP),
            (6, READ),
            (7, READ | all),
        ] {
            assert_eq!(granted(FileKind::Directory, rights(bits)), expected);
        }
    }

    #[test]
    fn bits_of_everything_else() {
        for kind in [FileKind::Regular, FileKind::Symlink, FileKind::Fifo] {
            for bits in 0..8 {
                let mut expected = 0;
                for (right, grants) in [(4, READ), (2, MODIFY | EXTEND), (1, EXECUTE)] {
                    if bits & right != 0 {
                        expected |= grants;
                    }
                }
                assert_eq!(granted(kind, rights(bits)), expected);
            }
        }
    }
}
