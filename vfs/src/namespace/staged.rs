//! New files that come with ACLs of their own (RFC 8881 6.4.3): nobody ever sees their name with other rights, and what
//! fails leaves nothing.
//!
//! The name comes last. A regular file has none until `linkat(2)` (`O_TMPFILE`): of one that fails, or is overtaken by a
//! crash, nothing is left. There are no nameless directories and special files, nor nameless files everywhere: these are
//! made beside their place under a name of the server's, for their owner alone, and renamed with `RENAME_NOREPLACE`, which
//! replaces nothing. What requests leave under those names ([`PREFIX`]) that are dropped with their worker goes at the
//! end of the server ([`Vfs::remove_unfinished`]); only a crash in between leaves any.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use acl::posix::Acl;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};

use super::{CreateHow, Created, Made, NodeKind, reopen_as_path, store_verifier};
use crate::acls::{AclChange, begin_with};
use crate::attr::{Attr, FileKind, SetAttr};
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::mount::c_string;
use crate::name::Name;
use crate::setattr::{apply, sane};
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::file_ops;
use crate::uring::fixed::OpenFd;
use crate::uring::meta_ops::{self, HeldPath};
use crate::vfs::Vfs;

/// The ACLs a new file is to have, whatever its directory hands down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAcls {
    /// What decides about access, and about the permission bits of the mode.
    pub access: Acl,
    /// Of a directory: what new files in it get.
    pub default: Option<Acl>,
}

/// How names of the server's begin.
const PREFIX: &str = ".ringnfs-new-";
/// Left by crashes of processes with this one's number, at most.
const NAMES_MAX: u32 = 100;

/// Mode of what has no name yet.
const OWNER_ONLY: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

/// What is made.
#[derive(Clone, Copy)]
enum What {
    Regular,
    Directory,
    Node(NodeKind),
}

/// What it starts with besides rights.
struct Start<'a> {
    set: SetAttr,
    verifier: Option<[u8; 8]>,
    acls: &'a NewAcls,
}

/// Something just made, without its name.
struct Unnamed {
    fd: Arc<OpenFd>,
    kind: FileKind,
    /// The server's name for it, if it has one.
    staged: Option<CString>,
}

/// Names of the server's under which something is being made: where, and what.
#[derive(Default)]
pub(crate) struct Unfinished(Mutex<BTreeMap<CString, (Arc<OpenFd>, FileKind)>>);

impl Unfinished {
    fn names(&self) -> MutexGuard<'_, BTreeMap<CString, (Arc<OpenFd>, FileKind)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, dir: &Arc<OpenFd>, at: &CString, kind: FileKind) {
        self.names().insert(at.clone(), (dir.clone(), kind));
    }

    fn end(&self, at: &CString) {
        let ended = self.names().remove(at);
        drop(ended);
    }
}

impl What {
    fn kind(self) -> FileKind {
        match self {
            What::Regular => FileKind::Regular,
            What::Directory => FileKind::Directory,
            What::Node(NodeKind::Fifo) => FileKind::Fifo,
            What::Node(NodeKind::Socket) => FileKind::Socket,
            What::Node(NodeKind::Char(..)) => FileKind::Char,
            What::Node(NodeKind::Block(..)) => FileKind::Block,
        }
    }
}

fn unlink_flags(kind: FileKind) -> AtFlags {
    match kind {
        FileKind::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    }
}

fn staged_name() -> Result<CString> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    c_string(format!("{PREFIX}{process}-{number}").as_bytes())
}

/// Makes a special file.
pub(super) async fn mknodat(
    cred: &Cred,
    dir: &Arc<OpenFd>,
    at: CString,
    node: NodeKind,
    mode: u32,
) -> Result<()> {
    let (kind, dev) = match node {
        NodeKind::Fifo => (FileType::Fifo, 0),
        NodeKind::Socket => (FileType::Socket, 0),
        NodeKind::Char(a, b) => (FileType::CharacterDevice, rustix::fs::makedev(a, b)),
        NodeKind::Block(a, b) => (FileType::BlockDevice, rustix::fs::makedev(a, b)),
    };
    let (path, mode) = (dir.clone(), Mode::from_raw_mode(mode));
    let make = move || Ok(rustix::fs::mknodat(&*path, at.as_c_str(), kind, mode, dev)?);
    blocking::run(cred, Call::Mknodat, make).await
}

/// Makes it under a name of the server's.
async fn make_staged(
    unfinished: &Unfinished,
    cred: &Cred,
    dir: &Arc<OpenFd>,
    what: What,
) -> Result<Unnamed> {
    let kind = what.kind();
    for _ in 0..NAMES_MAX {
        let at = staged_name()?;
        unfinished.begin(dir, &at, kind);
        let made = match what {
            What::Regular => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW;
                let opened = meta_ops::openat(cred, dir, at.clone(), flags, OWNER_ONLY_FILE);
                opened.await.map(|fd| Some(OpenFd::new_written(fd)))
            }
            What::Directory => {
                let made = meta_ops::mkdirat(cred, dir.clone(), at.clone(), OWNER_ONLY);
                made.await.map(|()| None)
            }
            What::Node(node) => {
                let made = mknodat(cred, dir, at.clone(), node, OWNER_ONLY_FILE);
                made.await.map(|()| None)
            }
        };
        let opened = match made {
            Ok(Some(fd)) => Ok(fd),
            Ok(None) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let fd = meta_ops::openat(&Cred::root(), dir, at.clone(), flags, 0).await;
                fd.map(OpenFd::new)
            }
            Err(e) => {
                unfinished.end(&at);
                match e {
                    Errno::EEXIST => continue,
                    e => return Err(e),
                }
            }
        };
        match opened {
            Ok(fd) => {
                return Ok(Unnamed {
                    fd: Arc::new(fd),
                    kind,
                    staged: Some(at),
                });
            }
            Err(e) => {
                remove(unfinished, dir, &at, kind).await;
                return Err(e);
            }
        }
    }
    Err(Errno::EEXIST)
}

/// Makes it without any name, or, where that is impossible, with one of the server's.
async fn make(
    unfinished: &Unfinished,
    cred: &Cred,
    dir: &Arc<OpenFd>,
    what: What,
) -> Result<Unnamed> {
    if !matches!(what, What::Regular) {
        return make_staged(unfinished, cred, dir, what).await;
    }
    let (at, flags) = (Name::dot().to_c_string(), OFlags::TMPFILE | OFlags::RDWR);
    match meta_ops::openat(cred, dir, at, flags, OWNER_ONLY_FILE).await {
        Ok(fd) => Ok(Unnamed {
            fd: Arc::new(OpenFd::new_written(fd)),
            kind: FileKind::Regular,
            staged: None,
        }),
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => make_staged(unfinished, cred, dir, what).await,
        Err(e) => Err(e),
    }
}

/// Takes back what has a name of the server's. The server made it: whatever the caller may do by now.
async fn remove(unfinished: &Unfinished, dir: &Arc<OpenFd>, at: &CString, kind: FileKind) {
    let flags = unlink_flags(kind);
    let removed = meta_ops::unlinkat(&Cred::root(), dir.clone(), at.clone(), flags).await;
    if let Err(error) = removed {
        not_removed(error, at);
    }
    unfinished.end(at);
}

fn not_removed(error: Errno, at: &CString) {
    tracing::error!(%error, name = ?at, "a file that was not finished could not be removed");
}

impl Unnamed {
    /// Everything but the name. A new owner and a mode take rights away, ACLs come after them.
    async fn dress(&self, cred: &Cred, start: &Start<'_>) -> Result<()> {
        if let Some(verifier) = start.verifier {
            store_verifier(&self.fd, verifier).await?;
        }
        if let Some(size) = start.set.size.filter(|&size| size > 0) {
            if size > i64::MAX as u64 {
                return Err(Errno::EFBIG);
            }
            meta_ops::ftruncate(cred, &self.fd, size).await?;
        }
        let NewAcls { access, default } = start.acls;
        let mut set = SetAttr {
            size: None,
            umask: 0,
            mode: self.mode(start.set.mode, access).await?,
            ..start.set
        };
        if !cred.is_root() {
            // As with other new files: the kernel chose them.
            (set.uid, set.gid) = (None, None);
        }
        sane(&set)?;
        if !set.is_empty() {
            let (fd, kind) = (self.fd.clone(), self.kind);
            let set = move || apply(&fd, kind, &set);
            blocking::run(cred, Call::Setattr, set).await?;
        }
        let default = match (self.kind, default) {
            (FileKind::Directory, Some(default)) => AclChange::Set(default.clone()),
            // What it inherited goes.
            (FileKind::Directory, None) => AclChange::Remove,
            _ => AclChange::NotSent,
        };
        begin_with(cred, &self.fd, access, &default).await
    }

    /// Mode first, then the ACL, which decides about permissions (RFC 8881 6.4.1.3): of the mode three bits are left to
    /// be set, and a directory keeps the setgid bit it inherited.
    async fn mode(&self, mode: Option<u32>, access: &Acl) -> Result<Option<u32>> {
        let special = mode.unwrap_or_default() & 0o7000;
        if special == 0 {
            return Ok(None);
        }
        let inherited = match self.kind {
            FileKind::Directory => file_ops::statx(&self.fd).await?.mode & 0o2000,
            _ => 0,
        };
        Ok(Some(special | inherited | acl::mode::bits(access)))
    }

    /// Gives it a name nothing else has.
    ///
    /// # Errors
    /// `EEXIST`; `EOPNOTSUPP` where the file system cannot rename without replacing; `linkat(2)`, `renameat2(2)`.
    async fn name(&self, cred: &Cred, dir: &Arc<OpenFd>, name: &Name) -> Result<()> {
        let Some(staged) = self.staged.clone() else {
            let held = HeldPath::new(&self.fd);
            return meta_ops::linkat(cred, held, dir.clone(), name.to_c_string()).await;
        };
        let (at, name) = (dir.clone(), name.to_c_string());
        let rename = move || {
            let new = RenameFlags::NOREPLACE;
            let renamed = rustix::fs::renameat_with(&*at, &*staged, &*at, &*name, new);
            renamed.map_err(|e| match Errno::from(e) {
                Errno::EINVAL => Errno::EOPNOTSUPP,
                e => e,
            })
        };
        blocking::run(cred, Call::Renameat, rename).await
    }
}

impl CreateHow {
    /// What of it is for a file that is there already, with its ACLs.
    fn of_known(self) -> Self {
        let size = SetAttr {
            size: self.attrs().size,
            ..SetAttr::default()
        };
        match self {
            CreateHow::Unchecked(_) => CreateHow::Unchecked(size),
            CreateHow::Guarded(_) => CreateHow::Guarded(size),
            CreateHow::Exclusive(verifier) => CreateHow::Exclusive(verifier),
            CreateHow::ExclusiveAttrs(verifier, _) => CreateHow::ExclusiveAttrs(verifier, size),
        }
    }
}

impl Vfs {
    /// Removes what was being made when the requests for it were dropped: for the server's end, when its workers are gone.
    /// Waits for the file systems.
    pub fn remove_unfinished(&self) {
        let names = std::mem::take(&mut *self.unfinished.names());
        for (at, (dir, kind)) in names {
            match rustix::fs::unlinkat(&*dir, &*at, unlink_flags(kind)) {
                // It was not there yet, or has its name already.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => not_removed(error.into(), &at),
            }
        }
    }

    /// [`Vfs::create`] with ACLs instead of inherited ones (RFC 8881 6.4.3). A file that is there keeps its own.
    ///
    /// Errors: besides those of [`Vfs::create`], `EOPNOTSUPP` where files have no ACLs, and those of `setxattr(2)`: then
    /// there is no such file.
    pub async fn create_with_acls(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        how: CreateHow,
        acls: &NewAcls,
    ) -> Created {
        let make = async {
            let start = Start {
                set: how.attrs(),
                verifier: how.verifier(),
                acls,
            };
            let made = self.make_dressed(cred, dir, name, What::Regular, start);
            match made.await {
                Ok(made) => Ok(Made::now(made)),
                Err(Errno::EEXIST) if !name.is_special() => {
                    self.existing(cred, dir, name, how.of_known()).await
                }
                Err(e) => Err(e),
            }
        };
        Created::of(self.in_turn(dir, make).await)
    }

    /// [`Vfs::mkdir`] with ACLs instead of inherited ones.
    ///
    /// Errors: as [`Vfs::create_with_acls`].
    pub async fn mkdir_with_acls(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        set: &SetAttr,
        acls: &NewAcls,
    ) -> Created {
        let made = self.make_new(cred, dir, name, What::Directory, set, acls);
        made.await
    }

    /// [`Vfs::mknod`] with an ACL instead of an inherited one.
    ///
    /// Errors: as [`Vfs::create_with_acls`].
    pub async fn mknod_with_acls(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        node: NodeKind,
        set: &SetAttr,
        acls: &NewAcls,
    ) -> Created {
        let made = self.make_new(cred, dir, name, What::Node(node), set, acls);
        made.await
    }

    async fn make_new(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        what: What,
        set: &SetAttr,
        acls: &NewAcls,
    ) -> Created {
        let start = Start {
            set: SetAttr { size: None, ..*set },
            verifier: None,
            acls,
        };
        let make = self.make_dressed(cred, dir, name, what, start);
        let (made, wcc) = self.in_turn(dir, make).await;
        Created::of((made.map(Made::now), wcc))
    }

    async fn make_dressed(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        name: &Name,
        what: What,
        start: Start<'_>,
    ) -> Result<(Arc<File>, Attr)> {
        if name.is_special() {
            return Err(Errno::EEXIST);
        }
        if !dir.mount.acl {
            return Err(Errno::EOPNOTSUPP);
        }
        // Nothing is made for a name that is taken: who comes first is decided when it gets its name.
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        match meta_ops::openat(cred, dir.path(), name.to_c_string(), flags, 0).await {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
        let unnamed = make(&self.unfinished, cred, dir.path(), what).await?;
        dir.mount.mark(&unnamed.fd);
        let finish = async {
            unnamed.dress(cred, &start).await?;
            unnamed.name(cred, dir.path(), name).await
        };
        let finished = finish.await;
        match (&unnamed.staged, &finished) {
            (Some(staged), Ok(())) => self.unfinished.end(staged),
            (Some(staged), Err(_)) => {
                remove(&self.unfinished, dir.path(), staged, unnamed.kind).await;
            }
            (None, _) => {}
        }
        finished?;
        let path = reopen_as_path(&unnamed.fd)?;
        self.adopt(&dir.mount, path).await
    }
}
