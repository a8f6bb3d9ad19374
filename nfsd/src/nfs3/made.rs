//! The reply of what makes something new: CREATE, MKDIR, SYMLINK, MKNOD (RFC 1813 3.3.8 to 3.3.11).

use std::sync::Arc;

use vfs::{Attr, Created, File, FileKind};

use super::reply::{put_failed, unchanged};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::attr::{post_op, wcc_data};
use crate::nfs3::res::{Create3Res, Create3ResOk};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{NfsFh3, WccData};
use crate::xdr::XdrError;

/// Which files a new one's way to stable storage leads through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settle {
    /// The directory: file systems bring a new inode along with its name.
    Dir,
    /// The file as well: it was changed after it was made.
    Both,
}

impl Settle {
    /// For something made with these attributes: all but the mode are set afterwards.
    pub fn of(set: &vfs::SetAttr) -> Self {
        let afterwards = vfs::SetAttr { mode: None, ..*set };
        if afterwards.is_empty() {
            Settle::Dir
        } else {
            Settle::Both
        }
    }

    /// For a directory made with these attributes: mkdir(2) takes no setuid and setgid bits, they are set afterwards.
    pub fn of_dir(set: &vfs::SetAttr) -> Self {
        match set.mode {
            Some(mode) if mode & 0o6000 != 0 => Settle::Both,
            _ => Settle::of(set),
        }
    }

    /// Brings what was made in `dir` to stable storage, on `sync` exports.
    ///
    /// # Errors
    /// `fsync(2)`.
    pub async fn made(self, cx: &Cx, dir: &Opened, file: &Arc<File>) -> vfs::Result<()> {
        if dir.options.is_async() {
            return Ok(());
        }
        let both = match file.kind() {
            // XFS sets the ACLs that it inherits afterwards, too.
            FileKind::Regular | FileKind::Directory => {
                self == Settle::Both || dir.file.bequeaths_acls().await
            }
            // Cannot be opened for fsync(2), its directory can.
            _ => false,
        };
        let files = [&dir.file, file];
        let files = if both { &files[..] } else { &files[..1] };
        cx.settle(dir, files).await
    }
}

/// Answers a procedure whose directory could not be opened.
pub fn no_dir(procedure: Proc3, status: Nfsstat3, reply: &mut Reply) -> Result<(), XdrError> {
    put_failed(procedure, status, WccData::default(), reply)
}

/// Answers with what became of it: `made` is an error when its arguments were refused.
pub async fn answer(
    cx: &Cx,
    procedure: Proc3,
    dir: &Opened,
    made: Result<(Created, Settle), Nfsstat3>,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    let (created, dir_wcc) = match made {
        Ok((created, how)) => {
            let wcc = wcc_data(&dir.file, &created.dir);
            (settled(cx, dir, created, how).await, wcc)
        }
        Err(status) => (Err(status), unchanged(cx, dir).await),
    };
    match created {
        Ok((file, attr)) => {
            let handle = cx.fh(dir, &file).ok();
            reply.put(&Create3Res::Ok(Create3ResOk {
                obj: handle.as_ref().map(|handle| NfsFh3(handle)),
                obj_attributes: post_op(&file, Some(&attr)),
                dir_wcc,
            }))
        }
        Err(status) => put_failed(procedure, status, dir_wcc, reply),
    }
}

async fn settled(
    cx: &Cx,
    dir: &Opened,
    created: Created,
    how: Settle,
) -> Result<(Arc<File>, Attr), Nfsstat3> {
    let (file, attr) = created.result?;
    how.made(cx, dir, &file).await?;
    Ok((file, attr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mkdir_does_not_take_is_settled_on_its_own() {
        let of = |mode, uid| vfs::SetAttr {
            mode,
            uid,
            ..vfs::SetAttr::default()
        };
        assert_eq!(Settle::of_dir(&of(Some(0o755), None)), Settle::Dir);
        assert_eq!(Settle::of_dir(&of(Some(0o2755), None)), Settle::Both);
        assert_eq!(Settle::of_dir(&of(Some(0o755), Some(5))), Settle::Both);
        assert_eq!(Settle::of(&of(Some(0o4755), None)), Settle::Dir);
    }
}
