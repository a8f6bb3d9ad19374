//! The POSIX ACLs of a file, read and set (`acl(5)`).
//!
//! Reading goes through the file's cache ([`crate::acl_cache`]); setting happens under the identity of the
//! caller, so that the kernel decides who may.

use std::ffi::CString;
use std::sync::Arc;

use acl::posix::Acl;

use crate::attr::{Attr, FileKind};
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::file::File;
use crate::mount::c_string;
use crate::table::FileTable;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops::{self, HeldPath};
use crate::vfs::{Changed, Vfs, Wcc};

/// Bytes most ACLs fit in: 63 entries.
const USUAL_LEN: usize = 508;

/// A header without entries: sets no ACL, that is, removes the one there is (`setxattr(2)` on Linux).
const NO_ACL: [u8; 4] = [2, 0, 0, 0];

/// One of the two ACLs of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// What decides about access.
    Access,
    /// Of a directory: what new files in it get.
    Default,
}

impl Which {
    fn name(self) -> Result<CString> {
        let name = match self {
            Which::Access => acl::xattr::ACCESS,
            Which::Default => acl::xattr::DEFAULT,
        };
        c_string(name.as_bytes())
    }
}

/// What a request wants done with an ACL; it owns what it brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AclChange {
    /// It said nothing: the ACL stays.
    NotSent,
    /// The file shall have none; its mode stays.
    Remove,
    /// The file shall have this one.
    Set(Acl),
}

impl AclChange {
    /// The xattr that does it, if anything is to be done.
    fn value(&self) -> Option<Vec<u8>> {
        match self {
            AclChange::NotSent => None,
            AclChange::Remove => Some(NO_ACL.to_vec()),
            AclChange::Set(acl) => Some(acl::xattr::encode(acl)),
        }
    }
}

/// Files of this kind, on this mount, can have the ACL.
fn has(file: &File, which: Which) -> bool {
    file.mount.acl
        && match which {
            Which::Access => file.kind() != FileKind::Symlink,
            Which::Default => file.kind() == FileKind::Directory,
        }
}

/// The ACL of a file that has `attr`, from the cache or read.
///
/// # Errors
/// `EIO` for an ACL the kernel should not have stored; `getxattr(2)`.
pub(crate) async fn load(file: &File, attr: &Attr, which: Which) -> Result<Option<Arc<Acl>>> {
    if !has(file, which) {
        return Ok(None);
    }
    if let Some(known) = file.acl.get(which, attr) {
        return Ok(known);
    }
    let since = exec::wall_clock();
    // Apart from the request's future: most find it in the cache or need none.
    let acl = Box::pin(read(file, which)).await?.map(Arc::new);
    file.acl.put(which, attr, acl.clone(), since);
    Ok(acl)
}

async fn read(file: &File, which: Which) -> Result<Option<Acl>> {
    let get = |room| async move { meta_ops::getxattr(file.path(), which.name()?, room).await };
    let value = match get(USUAL_LEN).await {
        Err(Errno::ERANGE) => get(acl::xattr::MAX_LEN).await,
        value => value,
    };
    match value {
        Ok(bytes) => Ok(Some(acl::xattr::decode(&bytes).map_err(|_| Errno::EIO)?)),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Vfs {
    /// An ACL of a file that has just had `attr` ([`Vfs::getattr`]). `None`: the mode says it all, or
    /// new files get theirs from the mode they are made with. Everybody who has a handle may ask.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where files have no ACLs ([`crate::Mount::acls`]); `getxattr(2)`.
    pub async fn get_acl(
        &self,
        file: &Arc<File>,
        attr: &Attr,
        which: Which,
    ) -> Result<Option<Arc<Acl>>> {
        if !file.mount.acl {
            return Err(Errno::EOPNOTSUPP);
        }
        load(file, attr, which).await
    }

    /// Changes the ACLs of a file. An access ACL changes the mode with it, and one that says no more
    /// than a mode becomes the mode. All or nothing, as far as system calls go: both are checked before
    /// either is written, the default ACL is written first, and if the access ACL then fails, the old
    /// default ACL is put back. A power failure in between can leave the default ACL alone.
    ///
    /// Errors: `EOPNOTSUPP` where files have no ACLs and for symbolic links; `EACCES` for the default
    /// ACL of what is no directory; `EPERM` for others than the owner; `ENOSPC`, `EDQUOT`, `E2BIG`,
    /// `EROFS` and others of `setxattr(2)`.
    pub async fn set_acl(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        access: AclChange,
        default: AclChange,
    ) -> Changed<()> {
        let _turn = file.turn.take().await;
        let mut change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        file.acl.drop_cached();
        let result = write_both(cred, file, &access, &default).await;
        file.acl.drop_cached();
        change.made();
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }
}

async fn write_both(
    cred: &Cred,
    file: &File,
    access: &AclChange,
    default: &AclChange,
) -> Result<()> {
    let (access, mut default) = (access.value(), default.value());
    let sent = access.is_some() || default.is_some();
    if sent && !has(file, Which::Access) {
        return Err(Errno::EOPNOTSUPP);
    }
    if !has(file, Which::Default) {
        match default.take() {
            // None where there can be none.
            None => {}
            Some(nothing) if nothing == NO_ACL => {}
            Some(_) => return Err(Errno::EACCES),
        }
    }
    let Some(default) = default else {
        return match access {
            Some(access) => write(cred, file.path(), Which::Access, access).await,
            None => Ok(()),
        };
    };
    let Some(access) = access else {
        return write(cred, file.path(), Which::Default, default).await;
    };
    let old = read(file, Which::Default).await?;
    write(cred, file.path(), Which::Default, default).await?;
    let result = write(cred, file.path(), Which::Access, access).await;
    if result.is_err() {
        let old = old.map_or(AclChange::Remove, AclChange::Set);
        let old = old.value().unwrap_or_default();
        // The caller could write it a moment ago; now it is the server's promise.
        if let Err(e) = write(&Cred::root(), file.path(), Which::Default, old).await {
            tracing::error!(error = %e, "a default ACL could not be put back");
        }
    }
    result
}

async fn write(cred: &Cred, file: &Arc<OpenFd>, which: Which, value: Vec<u8>) -> Result<()> {
    meta_ops::setxattr(cred, file, which.name()?, value, 0).await
}

/// Gives what was just made, and nobody has seen yet, its ACLs instead of those it inherited. Only directories have a
/// default ACL.
///
/// # Errors
/// `setxattr(2)`; then it may have one of them.
pub(crate) async fn begin_with(
    cred: &Cred,
    file: &Arc<OpenFd>,
    access: &Acl,
    default: &AclChange,
) -> Result<()> {
    if let Some(value) = default.value() {
        write(cred, file, Which::Default, value).await?;
    }
    write(cred, file, Which::Access, acl::xattr::encode(access)).await
}

/// Whether new files in the directory get ACLs from it.
///
/// # Errors
/// `getxattr(2)`.
pub(crate) async fn inherited_from(dir: &File) -> Result<bool> {
    if !dir.mount.acl {
        return Ok(false);
    }
    // Its length is answer enough.
    there(meta_ops::getxattr(dir.path(), Which::Default.name()?, 0).await)
}

impl File {
    /// Whether what is made in this directory gets ACLs from it; true also if nobody can tell.
    pub async fn bequeaths_acls(&self) -> bool {
        inherited_from(self).await.unwrap_or(true)
    }
}

/// As [`inherited_from`], by a plain system call, of a directory on a mount with ACLs.
pub(crate) fn inherited_from_now(dir: &Arc<OpenFd>) -> Result<bool> {
    let (path, name) = (HeldPath::new(dir), Which::Default.name()?);
    let none: &mut [u8] = &mut [];
    let len = rustix::fs::getxattr(path.as_c_str(), name.as_c_str(), none);
    there(len.map_err(Errno::from))
}

fn there<T>(found: Result<T>) -> Result<bool> {
    match found {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}

impl FileTable {
    /// ACLs cached of the files held: what is left of [`acl::live`] when no request runs.
    pub fn acls_cached(&self) -> usize {
        let files = self.files_where(|file| file.acl.held() > 0);
        files.iter().map(|file| file.acl.held()).sum()
    }
}
