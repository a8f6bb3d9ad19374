//! Changes of directories: create, mkdir, symlink, mknod, remove, rmdir, rename, link. Changes of
//! one directory take turns, so that the attributes before and after belong to one operation.

mod staged;

use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::acls;
use crate::attr::{Attr, FileKind, SetAttr, SetTime, Time};
use crate::change::is_fine;
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec;
use crate::file::File;
use crate::mount::c_string;
use crate::name::Name;
use crate::order::Change;
use crate::sys;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops::{self, HeldPath};
use crate::vfs::{Changed, Vfs, Wcc};

pub use staged::NewAcls;
pub(crate) use staged::Unfinished;
use staged::mknodat;

/// How CREATE treats an existing name (RFC 1813 3.3.8 `createhow3`).
#[derive(Clone, Copy, Debug)]
pub enum CreateHow {
    /// An existing regular file is fine; only a size in the attributes is applied to it.
    Unchecked(SetAttr),
    /// The name must not exist.
    Guarded(SetAttr),
    /// The name must not exist, unless this very verifier created it.
    Exclusive([u8; 8]),
    /// The same with attributes (RFC 8881 18.16.1 `EXCLUSIVE4_1`), which a retransmission sets again.
    ExclusiveAttrs([u8; 8], SetAttr),
}

/// Special files (RFC 1813 3.3.11). Devices are (major, minor).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "mknod(2) words")]
pub enum NodeKind {
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
}

/// Bits of a major and of a minor device number on Linux (`makedev(3)`).
const DEVICE_BITS: (u32, u32) = (12, 20);

/// The numbers of a device, if Linux has them.
///
/// # Errors
/// `EINVAL`.
pub fn device_numbers(major: u32, minor: u32) -> Result<(u32, u32)> {
    if major >> DEVICE_BITS.0 != 0 || minor >> DEVICE_BITS.1 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((major, minor))
}

/// Outcome of making something.
pub struct Created {
    /// The new file.
    pub result: Result<(Arc<File>, Attr)>,
    /// The directory around it.
    pub dir: Wcc,
    /// It was made by this very request, or an earlier transmission of it that left the same verifier;
    /// false where an existing file was found (RFC 1813 3.3.8 `UNCHECKED`), and with an error.
    pub fresh: bool,
}

/// What a creation gave, and [`Created::fresh`].
struct Made {
    file: Arc<File>,
    attr: Attr,
    fresh: bool,
}

impl Made {
    fn now((file, attr): (Arc<File>, Attr)) -> Self {
        Made {
            file,
            attr,
            fresh: true,
        }
    }
}

impl Created {
    fn of((made, dir): (Result<Made>, Wcc)) -> Self {
        let fresh = made.as_ref().is_ok_and(|made| made.fresh);
        Created {
            result: made.map(|made| (made.file, made.attr)),
            dir,
            fresh,
        }
    }
}

/// Outcome of RENAME.
pub struct Renamed {
    /// Success or the error.
    pub result: Result<()>,
    /// The source directory.
    pub from: Wcc,
    /// The target directory.
    pub to: Wcc,
}

/// Outcome of LINK.
pub struct Linked {
    /// Success or the error.
    pub result: Result<()>,
    /// The file's attributes afterwards.
    pub file: Option<Attr>,
    /// The directory.
    pub dir: Wcc,
}

/// Where an exclusive create's verifier is kept: not in timestamps, which reads and the clock's
/// resolution would spoil.
const VERIFIER_XATTR: &std::ffi::CStr = c"trusted.ringnfs.verifier";

/// Mode of a file made by an exclusive create, until the client sets one.
const EXCLUSIVE_MODE: u32 = 0o600;

/// The mode to make something with, and what to set afterwards. A new owner takes setuid and setgid
/// bits away (chown(2)), so these are set again.
fn split(set: &SetAttr, default_mode: u32) -> (u32, SetAttr) {
    let owner = set.uid.is_some() || set.gid.is_some();
    let again = set.mode.filter(|mode| owner && mode & 0o6000 != 0);
    (
        set.mode.unwrap_or(default_mode) & 0o7777,
        SetAttr {
            mode: again,
            size: None,
            ..*set
        },
    )
}

impl CreateHow {
    /// The mode a file is made with, and what has to be set afterwards.
    fn initial(&self) -> (u32, SetAttr) {
        match self {
            CreateHow::Unchecked(set) | CreateHow::Guarded(set) => split(set, 0o644),
            CreateHow::Exclusive(_) => (EXCLUSIVE_MODE, SetAttr::default()),
            CreateHow::ExclusiveAttrs(_, set) => split(set, EXCLUSIVE_MODE),
        }
    }

    fn attrs(&self) -> SetAttr {
        match self {
            CreateHow::Unchecked(set)
            | CreateHow::Guarded(set)
            | CreateHow::ExclusiveAttrs(_, set) => *set,
            CreateHow::Exclusive(_) => SetAttr::default(),
        }
    }

    fn verifier(&self) -> Option<[u8; 8]> {
        match self {
            CreateHow::Exclusive(verifier) | CreateHow::ExclusiveAttrs(verifier, _) => {
                Some(*verifier)
            }
            CreateHow::Unchecked(_) | CreateHow::Guarded(_) => None,
        }
    }

    /// The size a new file shall have; 0 is the one it has.
    fn size(&self) -> Option<u64> {
        self.attrs().size.filter(|&size| size > 0)
    }
}

/// `mode` as something new in `dir` gets it: under the umask, unless there are ACLs to inherit, which the kernel then
/// does instead (`umask(2)`). The process has no umask. Done in the directory's turn: only a local process can take the
/// default ACL away between this and the making.
async fn under_umask(dir: &File, mode: u32, umask: u32) -> Result<u32> {
    if mode & umask != 0 && !acls::inherited_from(dir).await? {
        return Ok(mode & !umask);
    }
    Ok(mode)
}

/// The verifier as a pair of timestamps, for file systems without `trusted.` attributes.
fn verifier_times(verifier: [u8; 8]) -> SetAttr {
    let [a, b, c, d, e, f, g, h] = verifier;
    let at = |word: [u8; 4]| {
        SetTime::At(Time {
            sec: i64::from(u32::from_be_bytes(word)),
            nsec: 0,
        })
    };
    SetAttr {
        atime: at([a, b, c, d]),
        mtime: at([e, f, g, h]),
        ..SetAttr::default()
    }
}

/// A file just opened for writing, kept only as `O_PATH`: otherwise nobody could `execve(2)` it.
pub(crate) fn reopen_as_path(open: &Arc<OpenFd>) -> Result<OpenFd> {
    let held = HeldPath::new(open);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path = rustix::fs::openat(CWD, held.as_c_str(), flags, Mode::empty())?;
    Ok(OpenFd::new(path))
}

/// Keeps an exclusive create's verifier with the file.
async fn store_verifier(file: &Arc<OpenFd>, verifier: [u8; 8]) -> Result<()> {
    let root = Cred::root();
    let name = VERIFIER_XATTR.to_owned();
    match meta_ops::setxattr(&root, file, name, verifier.to_vec(), 0).await {
        Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENOSPC) => {
            let (file, times) = (file.clone(), verifier_times(verifier));
            let set = move || crate::setattr::apply(&file, FileKind::Regular, &times);
            blocking::run(&root, Call::Setattr, set).await
        }
        stored => stored,
    }
}

fn begin(file: &Option<Arc<File>>) -> Option<Change> {
    file.as_ref().map(|file| file.changes.begin())
}

impl Vfs {
    /// Runs `op` as the only change of `dir`; wcc around it.
    async fn in_turn<T>(
        &self,
        dir: &Arc<File>,
        op: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Wcc) {
        if let Err(e) = dir.directory() {
            return (
                Err(e),
                Wcc {
                    before: None,
                    after: self.post(dir).await,
                },
            );
        }
        let _turn = dir.turn.take().await;
        let mut change = dir.changes.begin();
        let before = match self.getattr(dir).await {
            Ok(attr) => attr,
            Err(e) => return (Err(e), Wcc::default()),
        };
        let result = op.await;
        change.made();
        (
            result,
            Wcc {
                before: Some(before),
                after: self.post(dir).await,
            },
        )
    }

    /// The file behind `name`, if the server holds it: files somebody has state on are held.
    pub async fn held(&self, cred: &Cred, dir: &Arc<File>, name: &Name) -> Option<Arc<File>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = meta_ops::openat(cred, dir.path(), name.to_c_string(), flags, 0)
            .await
            .ok()?;
        exec::with_ring(|r| r.counters.inline(Call::NameToHandle));
        let handle = sys::name_to_handle(fd.as_fd(), c"").ok()?;
        self.table.get(dir.mount.id, &handle)
    }

    /// Lets go of a file if its last name is gone, so that its space is freed.
    async fn release(&self, file: Option<Arc<File>>) {
        let Some(file) = file else { return };
        match self.post(&file).await {
            Some(attr) if attr.nlink > 0 => {}
            Some(_) => {
                self.table.removed(&file);
            }
            None if file.pinned() => {}
            None => self.table.forget(&file),
        }
    }

    /// The file behind a descriptor that just created it.
    async fn adopt_created(
        &self,
        dir: &Arc<File>,
        fd: std::os::fd::OwnedFd,
    ) -> Result<(Arc<File>, Attr)> {
        let path = reopen_as_path(&Arc::new(OpenFd::new_written(fd)))?;
        self.adopt(&dir.mount, path).await
    }

    /// The file behind a name that was just made.
    async fn adopt_name(&self, dir: &Arc<File>, name: &Name) -> Result<(Arc<File>, Attr)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = meta_ops::openat(&Cred::root(), dir.path(), name.to_c_string(), flags, 0).await?;
        self.adopt(&dir.mount, OpenFd::new(fd)).await
    }

    /// Applies attributes a fresh file could not be made with.
    async fn finish(
        &self,
        cred: &Cred,
        made: (Arc<File>, Attr),
        set: &SetAttr,
    ) -> Result<(Arc<File>, Attr)> {
        let mut set = *set;
        if !cred.is_root() {
            // The kernel chose them; asking for more would fail what has been made already. Clients
            // that send an owner (Solaris) do so for everybody.
            (set.uid, set.gid) = (None, None);
        }
        if std::mem::take(&mut set.umask) != 0 {
            // Only what the file was not made with: permissions are what umask and default ACL left.
            set.mode = set.mode.map(|mode| mode & 0o7000 | made.1.mode & 0o777);
        }
        if set.is_empty() {
            return Ok(made);
        }
        let (file, _) = made;
        self.set_metadata(cred, &file, &set).await?;
        let attr = self.getattr(&file).await?;
        Ok((file, attr))
    }

    /// CREATE (RFC 1813 3.3.8).
    pub async fn create(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        how: CreateHow,
    ) -> Created {
        if let Some(verifier) = how.verifier()
            && !name.is_special()
        {
            let made = self.create_exclusive(cred, dir, name, verifier, how);
            return Created::of(self.in_turn(dir, made).await);
        }
        if !file_ops::adaptive() || name.is_special() {
            let made = self.create_file(cred, dir, name, how);
            return Created::of(self.in_turn(dir, made).await);
        }
        let (mode, set) = how.initial();
        let mode = (mode, set.umask);
        let (made, wcc) = self.make_in_lane(cred, dir, name, mode).await;
        let result = match made {
            Ok(made) => self.complete(cred, made, how).await.map(Made::now),
            Err(Errno::EEXIST) => self.existing(cred, dir, name, how).await,
            Err(e) => Err(e),
        };
        Created::of((result, wcc))
    }

    /// The file gets its verifier before it gets its name: whoever sees the name after a crash finds
    /// the verifier with it, or a retransmission would be refused as a stranger's.
    async fn create_exclusive(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        verifier: [u8; 8],
        how: CreateHow,
    ) -> Result<Made> {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let at = Name::dot().to_c_string();
        let (mode, set) = how.initial();
        let mode = under_umask(dir, mode, set.umask).await?;
        let fd = match meta_ops::openat(cred, dir.path(), at, flags, mode).await {
            Ok(fd) => Arc::new(OpenFd::new_written(fd)),
            // No nameless files here: name first, verifier second.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
                return self.create_file(cred, dir, name, how).await;
            }
            Err(e) => return Err(e),
        };
        store_verifier(&fd, verifier).await?;
        let held = HeldPath::new(&fd);
        match meta_ops::linkat(cred, held, dir.path().clone(), name.to_c_string()).await {
            Ok(()) => {
                let path = reopen_as_path(&fd)?;
                let made = self.adopt(&dir.mount, path).await?;
                self.set_initial(cred, made, how).await.map(Made::now)
            }
            Err(Errno::EEXIST) => self.existing(cred, dir, name, how).await,
            Err(e) => Err(e),
        }
    }

    async fn create_file(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        how: CreateHow,
    ) -> Result<Made> {
        if name.is_special() {
            return Err(Errno::EEXIST);
        }
        let (mode, set) = how.initial();
        let mode = under_umask(dir, mode, set.umask).await?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW;
        match meta_ops::openat(cred, dir.path(), name.to_c_string(), flags, mode).await {
            Ok(fd) => {
                let made = self.adopt_created(dir, fd).await?;
                self.complete(cred, made, how).await.map(Made::now)
            }
            Err(Errno::EEXIST) => self.existing(cred, dir, name, how).await,
            Err(e) => Err(e),
        }
    }

    /// Gives a fresh file what it could not be made with.
    async fn complete(
        &self,
        cred: &Cred,
        made: (Arc<File>, Attr),
        how: CreateHow,
    ) -> Result<(Arc<File>, Attr)> {
        let (file, mut attr) = made;
        if let Some(verifier) = how.verifier() {
            store_verifier(file.path(), verifier).await?;
            attr = self.getattr(&file).await?;
        }
        self.set_initial(cred, (file, attr), how).await
    }

    /// Sets the attributes a file cannot be made with.
    async fn set_initial(
        &self,
        cred: &Cred,
        made: (Arc<File>, Attr),
        how: CreateHow,
    ) -> Result<(Arc<File>, Attr)> {
        let (file, mut attr) = made;
        if let Some(size) = how.size() {
            let size = SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            self.setattr(cred, &file, &size, None).await.result?;
            attr = self.getattr(&file).await?;
        }
        let (_, set) = how.initial();
        self.finish(cred, (file, attr), &set).await
    }

    async fn existing(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        how: CreateHow,
    ) -> Result<Made> {
        if matches!(how, CreateHow::Guarded(_)) {
            return Err(Errno::EEXIST);
        }
        let (file, attr) = self.lookup(cred, dir, name).await.result?;
        if let Some(verifier) = how.verifier() {
            // Data shows that a later request used the file: this is no retransmission.
            if file.kind() != FileKind::Regular
                || attr.size > how.size().unwrap_or(0)
                || !self.has_verifier(&file, &attr, verifier).await
            {
                return Err(Errno::EEXIST);
            }
            return self
                .make_again(cred, (file, attr), how)
                .await
                .map(Made::now);
        }
        let found = |file, attr| Made {
            file,
            attr,
            fresh: false,
        };
        match how {
            CreateHow::Unchecked(SetAttr {
                size: Some(size), ..
            }) if file.kind() == FileKind::Regular => {
                let set = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                self.setattr(cred, &file, &set, None).await.result?;
                let attr = self.getattr(&file).await?;
                Ok(found(file, attr))
            }
            _ if file.kind() == FileKind::Directory => Err(Errno::EEXIST),
            _ => Ok(found(file, attr)),
        }
    }

    /// What an earlier transmission may not have come to: its attributes, the mode among them.
    async fn make_again(
        &self,
        cred: &Cred,
        made: (Arc<File>, Attr),
        how: CreateHow,
    ) -> Result<(Arc<File>, Attr)> {
        let made = self.set_initial(cred, made, how).await?;
        // Under a umask it is what it was made with.
        let CreateHow::ExclusiveAttrs(_, SetAttr { mode, umask: 0, .. }) = how else {
            return Ok(made);
        };
        let mode = mode.filter(|mode| mode & 0o7777 != made.1.mode);
        let set = SetAttr {
            mode,
            ..SetAttr::default()
        };
        self.finish(cred, made, &set).await
    }

    async fn has_verifier(&self, file: &Arc<File>, attr: &Attr, verifier: [u8; 8]) -> bool {
        match meta_ops::getxattr(file.path(), VERIFIER_XATTR.to_owned(), 8).await {
            Ok(stored) => stored == verifier,
            Err(_) => {
                let times = verifier_times(verifier);
                SetTime::At(attr.atime) == times.atime && SetTime::At(attr.mtime) == times.mtime
            }
        }
    }

    /// MKDIR (RFC 1813 3.3.9).
    pub async fn mkdir(&self, cred: &Cred, dir: &Arc<File>, name: &Name, set: &SetAttr) -> Created {
        let make = async {
            if name.is_special() {
                return Err(Errno::EEXIST);
            }
            let (mode, mut rest) = split(set, 0o755);
            let first = under_umask(dir, mode & 0o1777, set.umask).await?;
            meta_ops::mkdirat(cred, dir.path().clone(), name.to_c_string(), first).await?;
            let made = self.adopt_name(dir, name).await?;
            // mkdir(2) takes no setuid and setgid bits, but may inherit setgid: add to what is there.
            if mode & 0o6000 != 0 {
                rest.mode = Some(mode | made.1.mode & 0o2000);
            }
            self.finish(cred, made, &rest).await
        };
        let (made, wcc) = self.in_turn(dir, make).await;
        Created::of((made.map(Made::now), wcc))
    }

    /// SYMLINK (RFC 1813 3.3.10). The mode in `set` means nothing on Linux.
    pub async fn symlink(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        target: &[u8],
        set: &SetAttr,
    ) -> Created {
        let make = async {
            if name.is_special() {
                return Err(Errno::EEXIST);
            }
            let target = c_string(target)?;
            meta_ops::symlinkat(cred, target, dir.path().clone(), name.to_c_string()).await?;
            let made = self.adopt_name(dir, name).await?;
            let (_, rest) = split(set, 0o777);
            self.finish(cred, made, &rest).await
        };
        let (made, wcc) = self.in_turn(dir, make).await;
        Created::of((made.map(Made::now), wcc))
    }

    /// MKNOD (RFC 1813 3.3.11).
    pub async fn mknod(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        node: NodeKind,
        set: &SetAttr,
    ) -> Created {
        let make = async {
            if name.is_special() {
                return Err(Errno::EEXIST);
            }
            let (mode, rest) = split(set, 0o644);
            let mode = under_umask(dir, mode, set.umask).await?;
            mknodat(cred, dir.path(), name.to_c_string(), node, mode).await?;
            let made = self.adopt_name(dir, name).await?;
            self.finish(cred, made, &rest).await
        };
        let (made, wcc) = self.in_turn(dir, make).await;
        Created::of((made.map(Made::now), wcc))
    }

    /// REMOVE (RFC 1813 3.3.12): not for directories.
    pub async fn remove(&self, cred: &Cred, dir: &Arc<File>, name: &Name) -> Changed<()> {
        let remove = async {
            if name.is_special() {
                return Err(Errno::EISDIR);
            }
            let held = self.held(cred, dir, name).await;
            let _change = begin(&held);
            meta_ops::unlinkat(
                cred,
                dir.path().clone(),
                name.to_c_string(),
                AtFlags::empty(),
            )
            .await?;
            self.release(held).await;
            Ok(())
        };
        let (result, wcc) = if file_ops::adaptive() && !name.is_special() {
            self.remove_in_lane(cred, dir, name).await
        } else {
            self.in_turn(dir, remove).await
        };
        Changed { result, wcc }
    }

    /// RMDIR (RFC 1813 3.3.13).
    pub async fn rmdir(&self, cred: &Cred, dir: &Arc<File>, name: &Name) -> Changed<()> {
        let remove = async {
            if name.is_dot() {
                return Err(Errno::EINVAL);
            }
            if name.is_dotdot() {
                return Err(Errno::ENOTEMPTY);
            }
            let held = self.held(cred, dir, name).await;
            meta_ops::unlinkat(
                cred,
                dir.path().clone(),
                name.to_c_string(),
                AtFlags::REMOVEDIR,
            )
            .await?;
            if let Some(file) = held {
                self.table.removed(&file);
            }
            Ok(())
        };
        let (result, wcc) = self.in_turn(dir, remove).await;
        Changed { result, wcc }
    }

    /// Removes a name, whatever it leads to (RFC 8881 18.25).
    pub async fn remove_any(&self, cred: &Cred, dir: &Arc<File>, name: &Name) -> Changed<()> {
        if name.is_special() {
            return Changed {
                result: Err(Errno::EINVAL),
                wcc: Wcc {
                    before: None,
                    after: self.post(dir).await,
                },
            };
        }
        // Directories are rarer: the kernel says if it is one, having changed nothing.
        let removed = self.remove(cred, dir, name).await;
        match removed.result {
            Err(Errno::EISDIR) => self.rmdir(cred, dir, name).await,
            _ => removed,
        }
    }

    /// RENAME (RFC 1813 3.3.14). The two directories take turns in a fixed order.
    pub async fn rename(
        &self,
        cred: &Cred,
        from: &Arc<File>,
        old: &Name,
        to: &Arc<File>,
        new: &Name,
    ) -> Renamed {
        let rename = async {
            to.directory()?;
            if old.is_special() || new.is_special() {
                return Err(Errno::EINVAL);
            }
            if from.mount.fsid != to.mount.fsid {
                return Err(Errno::EXDEV);
            }
            let replaced = self.held(cred, to, new).await;
            // Both files' ctime moves: where that may not show, it is counted.
            let seen = self.post(from).await;
            let moved = match seen.is_some_and(|attr| is_fine(&from.mount, &attr)) {
                true => None,
                false => self.held(cred, from, old).await,
            };
            let _changes = (begin(&replaced), begin(&moved));
            let (source, target) = (from.path().clone(), to.path().clone());
            meta_ops::renameat(cred, source, old.to_c_string(), target, new.to_c_string()).await?;
            self.release(replaced).await;
            Ok(())
        };
        if Arc::ptr_eq(from, to) {
            let (result, wcc) = self.in_turn(from, rename).await;
            return Renamed {
                result,
                from: wcc,
                to: wcc,
            };
        }
        let ((result, to), from) = if Arc::as_ptr(from) < Arc::as_ptr(to) {
            let (inner, from) = self
                .in_turn(from, async { Ok(self.in_turn(to, rename).await) })
                .await;
            (inner.unwrap_or_else(|e| (Err(e), Wcc::default())), from)
        } else {
            let (inner, to) = self
                .in_turn(to, async { Ok(self.in_turn(from, rename).await) })
                .await;
            let (result, from) = inner.unwrap_or_else(|e| (Err(e), Wcc::default()));
            ((result, to), from)
        };
        Renamed { result, from, to }
    }

    /// LINK (RFC 1813 3.3.15).
    pub async fn link(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        dir: &Arc<File>,
        name: &Name,
    ) -> Linked {
        let link = async {
            if name.is_special() {
                return Err(Errno::EEXIST);
            }
            if file.mount.fsid != dir.mount.fsid {
                return Err(Errno::EXDEV);
            }
            if file.kind() == FileKind::Directory {
                return Err(Errno::EPERM);
            }
            let name: CString = name.to_c_string();
            let _change = file.changes.begin();
            meta_ops::linkat(cred, HeldPath::new(file.path()), dir.path().clone(), name).await
        };
        let (result, dir) = self.in_turn(dir, link).await;
        Linked {
            result,
            file: self.post(file).await,
            dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bits_are_set_again_after_the_owner() {
        let set = |mode, uid| SetAttr {
            mode,
            uid,
            size: Some(7),
            ..SetAttr::default()
        };
        let rest = |mode, uid| SetAttr {
            mode,
            uid,
            ..SetAttr::default()
        };
        for (given, expected) in [
            (set(Some(0o4755), None), (0o4755, rest(None, None))),
            (
                set(Some(0o4755), Some(3)),
                (0o4755, rest(Some(0o4755), Some(3))),
            ),
            (set(Some(0o755), Some(3)), (0o755, rest(None, Some(3)))),
            (set(None, Some(3)), (0o644, rest(None, Some(3)))),
        ] {
            assert_eq!(split(&given, 0o644), expected, "{given:?}");
        }
    }
}
