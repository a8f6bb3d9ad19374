//! The VFS: what all workers share, and the small operations every protocol needs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::Cred;
use crate::attr::Attr;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::file::File;
use crate::mount::{Limits, Mount, StatFs, identity};
use crate::namespace::Unfinished;
use crate::stable::Verifier;
use crate::sys::KernelHandle;
use crate::table::FileTable;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;

/// Attributes around an operation. `before` is there only when nothing else the server did fell in
/// between, so that a client may conclude that only its own operation happened (RFC 1813 2.6).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Wcc {
    /// Before the operation.
    pub before: Option<Attr>,
    /// After it.
    pub after: Option<Attr>,
}

/// The outcome of an operation that changes one file, failed ones included.
#[derive(Debug)]
pub struct Changed<T> {
    /// What the operation gave.
    pub result: Result<T>,
    /// The file's attributes around it.
    pub wcc: Wcc,
}

impl<T> Changed<T> {
    pub(crate) fn failed(e: Errno) -> Self {
        Changed {
            result: Err(e),
            wcc: Wcc::default(),
        }
    }
}

/// Settings of the VFS.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Files held open at once; descriptors are two to three times as many.
    pub open_files: usize,
    /// Start of the write verifier; must differ between starts of the server.
    pub verifier_seed: u64,
}

/// Shared by all workers of a server.
pub struct Vfs {
    /// Files held open.
    pub table: Arc<FileTable>,
    mounts: RwLock<BTreeMap<u64, Arc<Mount>>>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) unfinished: Unfinished,
}

impl Vfs {
    /// An empty VFS.
    pub fn new(config: &VfsConfig) -> Arc<Self> {
        Arc::new(Vfs {
            table: Arc::new(FileTable::new(config.open_files)),
            mounts: RwLock::default(),
            verifier: Arc::new(Verifier::new(config.verifier_seed)),
            unfinished: Unfinished::default(),
        })
    }

    /// Makes a mount known by its identity; one already known under it stays and learns the way to the
    /// new one's root.
    pub fn add_mount(&self, mount: Mount) -> Arc<Mount> {
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        match mounts.entry(mount.id) {
            Entry::Occupied(known) => {
                known.get().add_view(mount);
                known.get().clone()
            }
            Entry::Vacant(new) => new.insert(Arc::new(mount)).clone(),
        }
    }

    /// A mount that [`Mount::cross`] exports reach, by its fsid.
    pub fn crossed(&self, fsid: u64) -> Option<Arc<Mount>> {
        self.mounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&identity(fsid, true))
            .cloned()
    }

    /// Every mount known.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Forgets every mount `keep` does not want; what is in use ends with its last user.
    pub fn retain_mounts(&self, keep: impl Fn(&Mount) -> bool) {
        self.mounts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, m| keep(m));
        for file in self.table.files() {
            if !keep(&file.mount) {
                self.table.forget(&file);
            }
        }
    }

    /// The file a handle names: held already, or opened by its handle.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub async fn file(&self, mount: &Arc<Mount>, handle: KernelHandle) -> Result<Arc<File>> {
        if let Some(file) = self.table.get(mount.id, &handle) {
            return Ok(file);
        }
        let opener = mount.clone();
        let handle_to_open = handle.clone();
        let root = Cred::root();
        let opened = blocking::run(&root, Call::OpenByHandle, move || {
            opener.open_path(&handle_to_open)
        });
        let path = Arc::new(OpenFd::new(opened.await?));
        mount.mark(&path);
        let attr = file_ops::statx(&path).await?;
        if attr.nlink == 0 {
            return Err(Errno::ESTALE);
        }
        Ok(self.table.get_or_insert(File::new(
            mount.clone(),
            handle,
            attr.kind,
            path,
            &self.table,
        )))
    }

    /// The root directory of a mount.
    ///
    /// # Errors
    /// As [`Vfs::file`].
    pub async fn root(&self, mount: &Arc<Mount>) -> Result<Arc<File>> {
        self.file(mount, mount.root.clone()).await
    }

    /// Current attributes. A file whose last name is gone and that nobody has pinned is let go of, so
    /// that the kernel decides with the next handle whether it still exists.
    ///
    /// # Errors
    /// `statx(2)`; `ESTALE` for a removed file without a [`crate::Pin`].
    pub async fn getattr(&self, file: &Arc<File>) -> Result<Attr> {
        let attr = file.attr().await?;
        if attr.nlink == 0 && self.table.removed(file) {
            return Err(Errno::ESTALE);
        }
        Ok(attr)
    }

    /// Attributes after an operation: none rather than an error.
    pub(crate) async fn post(&self, file: &File) -> Option<Attr> {
        file.attr().await.ok()
    }

    /// Space and inodes of the file's file system.
    ///
    /// # Errors
    /// `fstatfs(2)`.
    pub async fn statfs(&self, file: &Arc<File>) -> Result<StatFs> {
        let mount = file.mount.clone();
        blocking::run(&Cred::root(), Call::Statfs, move || mount.statfs()).await
    }

    /// Static properties of the file's file system.
    pub fn limits(&self, file: &File) -> Limits {
        file.mount.limits()
    }

    /// The write verifier: read it after the operation it is sent with.
    pub fn write_verifier(&self) -> [u8; 8] {
        self.verifier.get()
    }

    /// Puts the changes an operation made to these files' metadata on stable storage (RFC 1813
    /// 1.1: changes must be stable before the reply). Symbolic links and special files are covered
    /// by their directory.
    ///
    /// # Errors
    /// `fsync(2)`.
    pub async fn settle(&self, files: &[&Arc<File>]) -> Result<()> {
        // All at once: they share one journal commit. One after the other, the later ones would find
        // it done and flush the disk once more, each.
        let mut fds = Vec::with_capacity(files.len());
        for file in files {
            match file.sync_fd().await {
                Ok(fd) => fds.push((file, fd)),
                Err(Errno::EINVAL) => {}
                Err(e) => return Err(e),
            }
        }
        let begin = |(file, fd): &(&&Arc<File>, _)| file.group.begin(fd, false, &self.verifier);
        let syncing: Vec<_> = fds.iter().map(begin).collect();
        for one in syncing {
            one.done().await?;
        }
        Ok(())
    }

    /// Runs for ever on one worker: closes idle descriptors, syncing what is dirty first.
    pub async fn sweep(self: Arc<Self>) {
        loop {
            exec::sleep(Duration::from_secs(1)).await;
            let now = exec::now();
            let crowded = self.table.crowded();
            for file in self.table.files_where(File::open_for_writing) {
                if file.close_idle(now, crowded) {
                    let done = self.commit(&Cred::root(), &file, 0, 0).await;
                    if let Err(e) = done.result
                        && e != Errno::ESTALE
                    {
                        tracing::error!(error = %e, "writeback failed, the write verifier has changed");
                    }
                }
            }
        }
    }
}
