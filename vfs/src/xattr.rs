//! Extended attributes of users (RFC 8276): names without their `user.`, all under the identity of the
//! caller, so that the kernel decides (`xattr(7)`).

use std::ffi::CString;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use crate::access::{Need, check};
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::meta_ops::{self, HeldPath};
use crate::vfs::{Changed, Vfs, Wcc};

/// The only namespace clients see.
const PREFIX: &[u8] = b"user.";

/// Longest name of an attribute, without its `user.`.
pub const XATTR_NAME_MAX: usize = 255 - PREFIX.len();

/// Longest value of an attribute, in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_MAX: usize = 65_536;

/// Most bytes of all names of a file together (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 65_536;

/// Whether an attribute to set is there already (RFC 8276 8.4.2.2 `setxattr_option4`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replace {
    /// It may be.
    Either,
    /// It must not be.
    Create,
    /// It must be.
    Replace,
}

impl Replace {
    fn flags(self) -> XattrFlags {
        match self {
            Replace::Either => XattrFlags::empty(),
            Replace::Create => XattrFlags::CREATE,
            Replace::Replace => XattrFlags::REPLACE,
        }
    }
}

/// The kernel's name.
///
/// # Errors
/// `EINVAL` for an empty name or one with a NUL, `ENAMETOOLONG`.
fn full_name(name: &[u8]) -> Result<CString> {
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    if name.len() > XATTR_NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    CString::new([PREFIX, name].concat()).map_err(|_| Errno::EINVAL)
}

/// The names in what `listxattr(2)` gave that clients may see.
fn visible(list: &[u8]) -> Vec<Box<[u8]>> {
    list.split(|&b| b == 0)
        .filter_map(|name| name.strip_prefix(PREFIX))
        .filter(|name| !name.is_empty())
        .map(Box::from)
        .collect()
}

impl Vfs {
    /// The value of attribute `name` (RFC 8276 8.4.1), of at most `max` bytes.
    ///
    /// # Errors
    /// `ENODATA` where there is none, `ERANGE` if it is longer than `max`, `EINVAL`, `ENAMETOOLONG`,
    /// `EACCES`; `getxattr(2)`.
    pub async fn getxattr(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        name: &[u8],
        max: usize,
    ) -> Result<Vec<u8>> {
        let (name, path) = (full_name(name)?, HeldPath::new(file.path()));
        let get = move || {
            let (path, name) = (path.as_c_str(), name.as_c_str());
            loop {
                let size = rustix::fs::getxattr_query(path, name)?;
                if size > max {
                    return Err(Errno::ERANGE);
                }
                let mut value = vec![0; size];
                // Into no room at all means to ask for the size again.
                if size == 0 {
                    return Ok(value);
                }
                match rustix::fs::getxattr(path, name, &mut value) {
                    Ok(n) => {
                        value.truncate(n);
                        return Ok(value);
                    }
                    // It has grown meanwhile.
                    Err(rustix::io::Errno::RANGE) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        };
        blocking::run(cred, Call::Getxattr, get).await
    }

    /// Sets attribute `name` (RFC 8276 8.4.2).
    ///
    /// Errors: `EEXIST`, `ENODATA` as `how` asks; `E2BIG` over [`XATTR_VALUE_MAX`], `ENOSPC`, `EDQUOT`,
    /// `EINVAL`, `ENAMETOOLONG`, `EACCES`, `EPERM` for what is neither a regular file nor a directory;
    /// `setxattr(2)`.
    pub async fn setxattr(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        name: &[u8],
        value: Vec<u8>,
        how: Replace,
    ) -> Changed<()> {
        let set = async {
            let name = full_name(name)?;
            if value.len() > XATTR_VALUE_MAX {
                return Err(Errno::E2BIG);
            }
            meta_ops::setxattr(cred, file.path(), name, value, how.flags().bits()).await
        };
        self.change_xattr(file, set).await
    }

    /// Removes attribute `name` (RFC 8276 8.4.4).
    ///
    /// Errors: `ENODATA` where there is none, `EINVAL`, `ENAMETOOLONG`, `EACCES`; `removexattr(2)`.
    pub async fn removexattr(&self, cred: &Cred, file: &Arc<File>, name: &[u8]) -> Changed<()> {
        let remove = async {
            let (name, path) = (full_name(name)?, HeldPath::new(file.path()));
            blocking::run(cred, Call::Removexattr, move || {
                Ok(rustix::fs::removexattr(path.as_c_str(), name.as_c_str())?)
            })
            .await
        };
        self.change_xattr(file, remove).await
    }

    async fn change_xattr(
        &self,
        file: &Arc<File>,
        op: impl Future<Output = Result<()>>,
    ) -> Changed<()> {
        let _turn = file.turn.take().await;
        let mut change = file.changes.begin();
        let before = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return Changed::failed(e),
        };
        file.acl.drop_cached();
        let result = op.await;
        change.made();
        let after = self.post(file).await;
        let before = change.alone().then_some(before);
        Changed {
            result,
            wcc: Wcc { before, after },
        }
    }

    /// The names of all attributes, in the file system's order (RFC 8276 8.4.3), for who may read the
    /// file. None where the file system has no attributes.
    ///
    /// # Errors
    /// `EACCES`; `listxattr(2)`.
    pub async fn listxattr(&self, cred: &Cred, file: &Arc<File>) -> Result<Vec<Box<[u8]>>> {
        let attr = self.getattr(file).await?;
        check(file, &attr, cred, Need::List).await?;
        let path = HeldPath::new(file.path());
        let list = move || {
            let mut list = vec![0; LIST_MAX];
            match rustix::fs::listxattr(path.as_c_str(), &mut list) {
                Ok(n) => Ok(visible(list.get(..n).unwrap_or_default())),
                Err(rustix::io::Errno::OPNOTSUPP) => Ok(Vec::new()),
                Err(e) => Err(e.into()),
            }
        };
        blocking::run(cred, Call::Listxattr, list).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_namespace() {
        assert_eq!(full_name(b"a.b").as_deref(), Ok(c"user.a.b"));
        assert_eq!(full_name(b""), Err(Errno::EINVAL));
        assert_eq!(full_name(b"a\0b"), Err(Errno::EINVAL));
        let long = vec![b'x'; XATTR_NAME_MAX];
        assert_eq!(full_name(&long).map(|n| n.as_bytes().len()), Ok(255));
        let longer = vec![b'x'; XATTR_NAME_MAX + 1];
        assert_eq!(full_name(&longer), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn others_namespaces_are_hidden() {
        let list =
            b"security.selinux\0user.a\0trusted.x\0user.b.c\0user.\0system.posix_acl_access\0";
        let names = visible(list);
        assert_eq!(names, [Box::from(&b"a"[..]), Box::from(&b"b.c"[..])]);
        assert!(visible(b"").is_empty());
    }
}
