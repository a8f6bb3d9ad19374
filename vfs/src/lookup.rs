//! LOOKUP: one component in one directory, never above the root of its mount, never through a
//! symbolic link. The file found is described from its descriptor, never by a second look-up.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::access::{Need, check};
use crate::attr::Attr;
use crate::cred::Cred;
use crate::dir_cache::Known;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::file::File;
use crate::mount::Mount;
use crate::name::Name;
use crate::sys;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops;
use crate::vfs::Vfs;

/// Outcome of a look-up.
pub struct Found {
    /// The file and its attributes.
    pub result: Result<(Arc<File>, Attr)>,
    /// The directory's attributes, where they could be had.
    pub dir: Option<Attr>,
}

/// Flags of every look-up.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

impl Vfs {
    /// The file `name` in `dir` (RFC 1813 3.3.3). `..` of a mount's root is the root itself.
    pub async fn lookup(&self, cred: &Cred, dir: &Arc<File>, name: &Name) -> Found {
        let before = match self.getattr(dir).await {
            Ok(attr) => attr,
            Err(e) => {
                return Found {
                    result: Err(e),
                    dir: None,
                };
            }
        };
        Found {
            result: self.find(cred, dir, &before, name).await,
            dir: Some(before),
        }
    }

    async fn find(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        before: &Attr,
        name: &Name,
    ) -> Result<(Arc<File>, Attr)> {
        dir.directory()?;
        if name.is_special() {
            check(dir, before, cred, Need::Search).await?;
            if name.is_dot() {
                return Ok((dir.clone(), *before));
            }
            return self.parent(dir).await;
        }
        if let Some(known) = dir.names.get(before, name.as_bytes()) {
            check(dir, before, cred, Need::Search).await?;
            match known {
                Known::Absent => return Err(Errno::ENOENT),
                Known::Here(file) => {
                    if let Ok(attr) = self.getattr(&file).await
                        && attr.nlink > 0
                    {
                        file.set_referenced();
                        return Ok((file, attr));
                    }
                }
            }
        }
        let since = exec::wall_clock();
        let opened = meta_ops::openat(cred, dir.path(), name.to_c_string(), PATH_ONLY, 0).await;
        let found = match opened {
            Ok(fd) => self.adopt(&dir.mount, OpenFd::new(fd)).await.map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }?;
        // Only what was looked up while the directory stood still may be remembered.
        if let Some(after) = self.post(dir).await
            && (after.mtime, after.ctime) == (before.mtime, before.ctime)
        {
            let file = found.as_ref().map(|(file, _)| file);
            dir.names.put(&after, name.as_bytes(), file, since);
        }
        found.ok_or(Errno::ENOENT)
    }

    /// The parent of a directory below its mount's root, opened like every other file of the mount.
    async fn parent(&self, dir: &Arc<File>) -> Result<(Arc<File>, Attr)> {
        let (file, root) = (dir.clone(), Cred::root());
        let parent = blocking::run(&root, Call::OpenByHandle, move || {
            file.mount.parent_of(&file.handle)
        });
        let file = self.file(&dir.mount, parent.await?).await?;
        let attr = self.getattr(&file).await?;
        Ok((file, attr))
    }

    /// The file behind a descriptor that was opened below `mount`.
    pub(crate) async fn adopt(&self, mount: &Arc<Mount>, fd: OpenFd) -> Result<(Arc<File>, Attr)> {
        let fd = Arc::new(fd);
        mount.mark(&fd);
        let attr = file_ops::statx(&fd).await?;
        let mount = if attr.mount_root && attr.dev != mount.dev {
            &self.cross_into(mount, &fd).await?
        } else {
            mount
        };
        exec::with_ring(|r| r.counters.inline(Call::NameToHandle));
        let handle = sys::name_to_handle((*fd).as_fd(), c"")?;
        let file = match self.table.get(mount.id, &handle) {
            Some(file) => file,
            None => self.table.get_or_insert(File::new(
                mount.clone(),
                handle,
                attr.kind,
                fd,
                &self.table,
            )),
        };
        let attr = file.attr_of_found(attr).await?;
        Ok((file, attr))
    }

    /// The mount whose root `fd` is, when the export goes that far.
    async fn cross_into(&self, mount: &Mount, fd: &Arc<OpenFd>) -> Result<Arc<Mount>> {
        if !mount.cross {
            return Err(Errno::EACCES);
        }
        // In the pool: what is mounted there may be one that waits.
        let (server, dir) = (Cred::root(), fd.clone());
        let below = blocking::run(&server, Call::OpenByHandle, move || Mount::below(&dir)).await?;
        let root = below.root.clone();
        let known = self.add_mount(below);
        // A copied file system has its original's identity, and handles of one would open files of the
        // other. (Subvolumes of one btrfs share theirs rightly: the handle leads to the same root.)
        let (opener, dir) = (known.clone(), fd.clone());
        let both = blocking::run(&server, Call::OpenByHandle, move || {
            let there = file_ops::statx_now(&OpenFd::new(opener.open_path(&root)?))?;
            Ok((there, file_ops::statx_now(&dir)?))
        });
        let (there, here) = both.await?;
        if (there.dev, there.fileid) != (here.dev, here.fileid) {
            tracing::error!("two file systems with one UUID: the second is not exported");
            return Err(Errno::EACCES);
        }
        Ok(known)
    }
}
