//! CREATE and REMOVE as one visit of a pool thread each (adaptive policy): the change, the handle
//! and the attributes around it, in the directory's lane.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};

use crate::acls;
use crate::attr::Attr;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::lane;
use crate::name::Name;
use crate::namespace::reopen_as_path;
use crate::sys::{self, KernelHandle};
use crate::uring::counters::Call;
use crate::uring::file_ops::statx_now;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops;
use crate::vfs::{Vfs, Wcc};

/// A file just made: held, described, and not yet in the table.
struct Made {
    path: OpenFd,
    handle: KernelHandle,
    attr: Attr,
}

fn make(dir: &Arc<OpenFd>, name: &Name, mode: u32) -> Result<Made> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW;
    let fd = meta_ops::openat_now(dir, name.to_c_string(), flags, mode)?;
    let path = reopen_as_path(&Arc::new(OpenFd::new(fd)))?;
    Ok(Made {
        attr: statx_now(&path)?,
        handle: sys::name_to_handle(path.as_fd(), c"")?,
        path,
    })
}

impl Vfs {
    /// Runs `work` on the directory's descriptor as the only change of `dir`; wcc around it.
    async fn in_lane<T: Send + 'static>(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        call: Call,
        work: impl FnOnce(&Arc<OpenFd>) -> Result<T> + Send + 'static,
    ) -> (Result<T>, Wcc) {
        if let Err(e) = dir.directory() {
            let after = self.post(dir).await;
            return (
                Err(e),
                Wcc {
                    before: None,
                    after,
                },
            );
        }
        let at = dir.clone();
        let ran = lane::run(dir, cred, call, move || {
            let before = at.attr_now()?;
            if before.nlink == 0 {
                return Err(Errno::ESTALE);
            }
            let result = work(at.path());
            at.changes.happened();
            let after = at.attr_now().ok();
            let before = Some(before);
            Ok((result, Wcc { before, after }))
        });
        match ran.await {
            Ok(done) => done,
            Err(e) => {
                if e == Errno::ESTALE {
                    self.table.removed(dir);
                }
                (Err(e), Wcc::default())
            }
        }
    }

    /// Makes a regular file that must not exist yet, with a mode under a umask where no ACL is inherited (`umask(2)`).
    pub(crate) async fn make_in_lane(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        (mode, umask): (u32, u32),
    ) -> (Result<(Arc<File>, Attr)>, Wcc) {
        let at = name.clone();
        let acls = dir.mount.acls();
        let work = move |path: &Arc<OpenFd>| {
            let inherits = mode & umask != 0 && acls && acls::inherited_from_now(path)?;
            let mode = if inherits { mode } else { mode & !umask };
            make(path, &at, mode)
        };
        let (made, wcc) = self.in_lane(cred, dir, Call::Openat, work).await;
        let adopted = made.map(|made| {
            let path = Arc::new(made.path);
            let file = File::new(
                dir.mount.clone(),
                made.handle,
                made.attr.kind,
                path,
                &self.table,
            );
            let file = self.table.get_or_insert(file);
            let attr = file.attr_of_found_now(made.attr).unwrap_or(made.attr);
            (file, attr)
        });
        (adopted, wcc)
    }

    /// Removes a name, and lets go of its file if that was the last one, so that its space is freed.
    pub(crate) async fn remove_in_lane(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
    ) -> (Result<()>, Wcc) {
        let (at, table, mount) = (name.clone(), self.table.clone(), dir.mount.clone());
        let work = move |path: &Arc<OpenFd>| {
            let handle = sys::name_to_handle((**path).as_fd(), at.as_c_str());
            let held = handle.ok().and_then(|handle| table.get(mount.id, &handle));
            let _change = held.as_ref().map(|file| file.changes.begin());
            rustix::fs::unlinkat(&**path, at.as_c_str(), AtFlags::empty())?;
            if let Some(file) = &held
                && statx_now(file.path()).is_ok_and(|attr| attr.nlink == 0)
            {
                table.removed(file);
            }
            Ok(())
        };
        self.in_lane(cred, dir, Call::Unlinkat, work).await
    }
}
