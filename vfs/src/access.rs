//! Permission decisions the server makes itself, from the data the kernel would use: ACCESS, and
//! READ and WRITE on files it already holds open.

use std::sync::Arc;

use acl::check::{Caller, Kind, Node, permits};
use acl::posix::{Acl, Perm};

use crate::acls::{self, Which};
use crate::attr::{Attr, FileKind};
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::vfs::Vfs;

/// What a caller may do with a file, as `access(2)` would say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "access(2) words")]
pub struct Rights {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

/// What an operation on an open file needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// Reading data; the owner always may, and so may who can execute (programs must load).
    ReadData,
    /// Changing data or size; the owner always may.
    WriteData,
    /// Listing a directory.
    List,
    /// Looking a name up.
    Search,
}

/// Whether permission has to be decided now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// By the file's mode and ACL now; the owner always may (RFC 1813 4.4).
    Judge,
    /// It was, when the caller opened the file ([`Vfs::open_check`]).
    Opened,
}

impl Permit {
    pub(crate) async fn check(
        self,
        file: &File,
        attr: &Attr,
        cred: &Cred,
        need: Need,
    ) -> Result<()> {
        match self {
            Permit::Judge => check(file, attr, cred, need).await,
            Permit::Opened => Ok(()),
        }
    }
}

fn kind(attr: &Attr) -> Kind {
    match attr.kind {
        FileKind::Directory => Kind::Directory,
        FileKind::Regular => Kind::Regular,
        FileKind::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn allowed(attr: &Attr, acl: Option<&Acl>, cred: &Cred, want: Perm) -> bool {
    let node = Node {
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        acl,
        kind: kind(attr),
    };
    let caller = Caller {
        uid: cred.uid(),
        gid: cred.gid(),
        groups: cred.groups(),
    };
    permits(&node, &caller, want)
}

/// Group bits all clear: the kernel does not look at the ACL then. Owner and superuser are decided
/// without it, too.
fn acl_matters(file: &File, attr: &Attr, cred: &Cred) -> bool {
    file.mount.acl && attr.mode & 0o070 != 0 && !cred.is_root() && cred.uid() != attr.uid
}

async fn load_acl(file: &File, attr: &Attr, cred: &Cred) -> Result<Option<Arc<Acl>>> {
    if !acl_matters(file, attr, cred) {
        return Ok(None);
    }
    acls::load(file, attr, Which::Access).await
}

/// Decides whether `cred` may do `need` on the file that has `attr`.
///
/// # Errors
/// `EACCES`, or what reading the ACL met.
pub(crate) async fn check(file: &File, attr: &Attr, cred: &Cred, need: Need) -> Result<()> {
    let owner = cred.uid() == attr.uid;
    let (want, otherwise) = match need {
        Need::ReadData | Need::WriteData if owner && attr.kind == FileKind::Regular => {
            return Ok(());
        }
        Need::ReadData => (Perm::READ, Some(Perm::EXECUTE)),
        Need::WriteData => (Perm::WRITE, None),
        Need::List => (Perm::READ, None),
        Need::Search => (Perm::EXECUTE, None),
    };
    let acl = load_acl(file, attr, cred).await?;
    let ok = allowed(attr, acl.as_deref(), cred, want)
        || otherwise.is_some_and(|p| allowed(attr, acl.as_deref(), cred, p));
    if ok { Ok(()) } else { Err(Errno::EACCES) }
}

impl Vfs {
    /// Decides whether `cred` may open `file` for reading, for writing, or for nothing but holding it
    /// (RFC 8881 18.16.3), as `open(2)` would: the owner has no more rights than the mode gives. Not
    /// for a file the caller has just made ([`crate::Created::fresh`]): its maker may always open it.
    /// Who may execute a file may open it for reading alone, or programs would not load.
    ///
    /// # Errors
    /// `EACCES`; `EISDIR`, `ELOOP`, `EINVAL` for what is a directory, a symbolic link, any other special
    /// file; for writing also those of `open(2)`: `EROFS`, `EPERM` (immutable), `ETXTBSY`.
    pub async fn open_check(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        read: bool,
        write: bool,
    ) -> Result<Attr> {
        match file.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            FileKind::Symlink => return Err(Errno::ELOOP),
            _ => return Err(Errno::EINVAL),
        }
        let attr = self.getattr(file).await?;
        let acl = load_acl(file, &attr, cred).await?;
        let may = |want| allowed(&attr, acl.as_deref(), cred, want);
        let ok = match (read, write) {
            (false, false) => true,
            (true, false) => may(Perm::READ) || may(Perm::EXECUTE),
            (false, true) => may(Perm::WRITE),
            // At once: two entries of an ACL that grant one each do not grant both.
            (true, true) => may(Perm::READ | Perm::WRITE),
        };
        if !ok {
            return Err(Errno::EACCES);
        }
        if write {
            // What the kernel says to the server itself is no question of permission.
            file.data_fd(true).await?;
        }
        Ok(attr)
    }

    /// What `cred` may do with `file` (RFC 1813 3.3.4), with the attributes that were judged.
    ///
    /// # Errors
    /// `statx(2)`, `getxattr(2)`.
    pub async fn access(&self, cred: &Cred, file: &Arc<File>) -> Result<(Rights, Attr)> {
        let attr = self.getattr(file).await?;
        let acl = load_acl(file, &attr, cred).await?;
        let may = |want| allowed(&attr, acl.as_deref(), cred, want);
        let rights = Rights {
            read: may(Perm::READ),
            write: may(Perm::WRITE),
            execute: may(Perm::EXECUTE),
        };
        Ok((rights, attr))
    }
}
