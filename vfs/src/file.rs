//! One file (inode) the server holds: its `O_PATH` descriptor, its data descriptors, and what must
//! be ordered or remembered per file.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::acl_cache::AclCache;
use crate::attr::FileKind;
use crate::change::ChangeAttr;
use crate::dir_cache::DirCache;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::lane::Lane;
use crate::listing::{ListingCache, RecentAttr};
use crate::locks::FileLocks;
use crate::mount::Mount;
use crate::order::{Changes, Turn};
use crate::stable::GroupSync;
use crate::sys::KernelHandle;
use crate::table::FileTable;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops;

/// A descriptor open for writing makes `execve(2)` of the file fail (`ETXTBSY`) and blocks leases,
/// so it is closed when idle this long.
const WRITE_IDLE: Duration = Duration::from_secs(2);
/// It could not be closed for so long because it was always being read: from then on reads have one of their own.
const READ_APART: Duration = Duration::from_secs(4);
/// With unstable data the kernel has written back by then, whose errors must be seen before closing.
const DIRTY_IDLE: Duration = Duration::from_secs(60);

struct DataFd {
    fd: Arc<OpenFd>,
    used: Instant,
}

#[derive(Default)]
struct Data {
    read: Option<DataFd>,
    write: Option<DataFd>,
}

/// A file known by its handle.
pub struct File {
    /// Where it lives.
    pub mount: Arc<Mount>,
    /// Its persistent name.
    pub handle: KernelHandle,
    kind: FileKind,
    path: Arc<OpenFd>,
    data: Mutex<Data>,
    referenced: AtomicBool,
    /// The table that holds it.
    home: Weak<FileTable>,
    /// Looked up when first asked for: most files are only created, listed and removed.
    locks: OnceLock<Arc<FileLocks>>,
    /// How many [`Pin`]s there are, and [`REMOVED`].
    pins: AtomicU32,
    /// Unstable writes so far, and how many of them a later sync covered.
    writes: AtomicU64,
    synced: AtomicU64,
    /// Order of opens for data.
    opening: Turn,
    /// Order of changes in a directory.
    pub(crate) turn: Turn,
    /// Changes of a file's data and attributes.
    pub(crate) changes: Changes,
    pub(crate) change: ChangeAttr,
    pub(crate) group: GroupSync,
    pub(crate) names: DirCache,
    pub(crate) acl: AclCache,
    pub(crate) lane: Lane,
    pub(crate) listing: ListingCache,
    pub(crate) recent: RecentAttr,
    /// Idle directory streams.
    pub(crate) streams: Mutex<Vec<OwnedFd>>,
}

/// In the count of pins: the last name is gone.
const REMOVED: u32 = 1 << 31;

/// Keeps a file, see [`File::pin`]. When the last one of a removed file goes, so do its descriptors:
/// not under a mutex.
pub struct Pin(Arc<File>);

impl Pin {
    /// The file it keeps.
    pub fn file(&self) -> &Arc<File> {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.0.pins.fetch_sub(1, Ordering::AcqRel);
        if before == REMOVED | 1
            && let Some(table) = self.0.home.upgrade()
        {
            table.forget(&self.0);
        }
    }
}

impl File {
    pub(crate) fn new(
        mount: Arc<Mount>,
        handle: KernelHandle,
        kind: FileKind,
        path: Arc<OpenFd>,
        home: &Arc<FileTable>,
    ) -> Self {
        mount.mark(&path);
        File {
            mount,
            handle,
            kind,
            path,
            data: Mutex::default(),
            referenced: AtomicBool::new(true),
            home: Arc::downgrade(home),
            locks: OnceLock::new(),
            pins: AtomicU32::new(0),
            writes: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            opening: Turn::default(),
            turn: Turn::default(),
            changes: Changes::default(),
            change: ChangeAttr::default(),
            group: GroupSync::default(),
            names: DirCache::default(),
            acl: AclCache::default(),
            lane: Lane::default(),
            listing: ListingCache::default(),
            recent: RecentAttr::default(),
            streams: Mutex::default(),
        }
    }

    /// Its type, which never changes.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// The `O_PATH` descriptor.
    pub fn path(&self) -> &Arc<OpenFd> {
        &self.path
    }

    /// # Errors
    /// `ENOTDIR` for anything but a directory.
    pub(crate) fn directory(&self) -> Result<()> {
        if self.kind == FileKind::Directory {
            Ok(())
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    pub(crate) fn set_referenced(&self) {
        self.referenced.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_referenced(&self) -> bool {
        self.referenced.swap(false, Ordering::Relaxed)
    }

    /// Unstable data whose writeback errors nobody has seen yet.
    pub fn dirty(&self) -> bool {
        self.writes.load(Ordering::Acquire) != self.synced.load(Ordering::Acquire)
    }

    /// Must not be evicted now.
    pub(crate) fn must_stay(&self) -> bool {
        self.dirty() || self.pinned() || self.locks.get().is_some_and(|locks| locks.busy())
    }

    /// What is open, locked and delegated of the file. Every [`File`] of one inode has the same.
    pub fn locks(&self) -> &Arc<FileLocks> {
        self.locks.get_or_init(|| match self.home.upgrade() {
            Some(table) => table.locks.file(self.mount.fsid, &self.handle),
            None => FileLocks::alone(),
        })
    }

    /// Some client has the file delegated for writing: size and times may be newer there than here.
    pub fn has_writer(&self) -> bool {
        let locks = self.locks.get();
        locks.is_some_and(|locks| locks.writer(None).is_some())
    }

    /// Keeps the file held, findable by its handle and usable also when its last name is gone, while
    /// the value lives: for every open of a protocol that has opens.
    ///
    /// # Errors
    /// `ESTALE` when its last name was gone already and nobody had it pinned.
    pub fn pin(self: &Arc<Self>) -> Result<Pin> {
        let pin = |pins: u32| (pins != REMOVED).then(|| pins + 1);
        match self
            .pins
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, pin)
        {
            Ok(_) => Ok(Pin(self.clone())),
            Err(_) => Err(Errno::ESTALE),
        }
    }

    /// Some [`Pin`] is alive.
    pub fn pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) & !REMOVED != 0
    }

    /// Its last name is gone. True if nobody has it pinned; otherwise the last pin will let go of it.
    pub(crate) fn set_removed(&self) -> bool {
        self.pins.fetch_or(REMOVED, Ordering::AcqRel) & !REMOVED == 0
    }

    pub(crate) fn wrote_unstable(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// Unstable writes so far: what a sync that starts now will cover.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    pub(crate) fn synced_up_to(&self, writes: u64) {
        self.synced.fetch_max(writes, Ordering::AcqRel);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A descriptor open for reading or for writing, from the cache or new.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what is no regular file; `open(2)`.
    pub(crate) async fn data_fd(&self, write: bool) -> Result<Arc<OpenFd>> {
        match self.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        if let Some(fd) = self.cached_fd(write) {
            return Ok(fd);
        }
        // One opens, the others wait for it: a burst of first requests is one open(2).
        let _turn = self.opening.take().await;
        if let Some(fd) = self.cached_fd(write) {
            return Ok(fd);
        }
        let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // Another process's lease must not hold up the worker: the open runs in the ring.
        let fd = meta_ops::reopen(&self.path, flags | OFlags::NOCTTY).await?;
        let fd = Arc::new(if write {
            OpenFd::new_written(fd)
        } else {
            OpenFd::new(fd)
        });
        self.mount.mark(&fd);
        let mut data = self.data();
        let slot = if write {
            &mut data.write
        } else {
            &mut data.read
        };
        let kept = slot.get_or_insert(DataFd {
            fd,
            used: exec::now(),
        });
        Ok(kept.fd.clone())
    }

    fn cached_fd(&self, write: bool) -> Option<Arc<OpenFd>> {
        let mut data = self.data();
        let now = exec::now();
        // A descriptor for writing can read as well, but reads must not keep it open. With locks on the host it stays open,
        // and to close another one may lose them.
        if !write
            && data.read.is_none()
            && let Some(slot) = &data.write
            && (now.saturating_duration_since(slot.used) < READ_APART
                || self.locks.get().is_some_and(|locks| locks.busy()))
        {
            return Some(slot.fd.clone());
        }
        let slot = if write {
            &mut data.write
        } else {
            &mut data.read
        };
        let slot = slot.as_mut()?;
        slot.used = now;
        Some(slot.fd.clone())
    }

    /// A descriptor `fsync(2)` takes.
    ///
    /// # Errors
    /// `EINVAL` for what is neither a regular file nor a directory; `open(2)`.
    pub(crate) async fn sync_fd(&self) -> Result<Arc<OpenFd>> {
        match self.kind {
            FileKind::Regular if self.cached_fd(true).is_some() => self.data_fd(true).await,
            FileKind::Regular => self.data_fd(false).await,
            FileKind::Directory => {
                if let Some(slot) = &self.data().read {
                    return Ok(slot.fd.clone());
                }
                let fd = meta_ops::reopen(&self.path, OFlags::RDONLY | OFlags::DIRECTORY).await?;
                let fd = Arc::new(OpenFd::new(fd));
                self.mount.mark(&fd);
                let mut data = self.data();
                let kept = data.read.get_or_insert(DataFd {
                    fd,
                    used: exec::now(),
                });
                Ok(kept.fd.clone())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The descriptor for writing, if it is open: the one for reading is given up then.
    pub(crate) fn only_write_fd(&self) -> Option<Arc<OpenFd>> {
        let mut data = self.data();
        let fd = data.write.as_ref()?.fd.clone();
        let unneeded = data.read.take();
        drop(data);
        drop(unneeded);
        Some(fd)
    }

    /// A descriptor for writing is open.
    pub(crate) fn open_for_writing(&self) -> bool {
        self.data().write.is_some()
    }

    /// Closes an idle descriptor for writing. True if its data must be synced first: then call
    /// again after that. When the table of files is `crowded`, that is at once.
    pub(crate) fn close_idle(&self, now: Instant, crowded: bool) -> bool {
        let mut closing = None;
        let mut data = self.data();
        if let Some(slot) = &data.write {
            let idle = now.saturating_duration_since(slot.used);
            if self.dirty() {
                return crowded || idle >= DIRTY_IDLE;
            }
            // One that stays open anyway, for locks of the host, may as well be used.
            if idle >= WRITE_IDLE && Arc::strong_count(&slot.fd) == 1 {
                closing = data.write.take();
            }
        }
        drop(data);
        drop(closing);
        false
    }
}
