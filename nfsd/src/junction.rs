//! Exports that lie below other exports: where NFSv4 clients step from one into the other.
//!
//! MOUNT leads NFSv3 clients to every export by its path. NFSv4 clients walk, so that an export below another one is
//! reached through the outer one's own directories: the directory at the inner one's path, as the outer one's mount shows
//! it, is a junction. It need not be the inner export's root, which may be another file system mounted over it.
//! Where a mount that the outer export does not show (no `crossmnt`) hides the way to the inner one, its mount point is a
//! junction into the pseudo file system, as it is with the kernel's server.
//!
//! Junctions are known by file handle, so that they follow a directory that is renamed, as the kernel's server does.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use vfs::{Errno, KernelHandle, Mount, sys};

use crate::export::Export;
use crate::finding::{Findings, Place};
use crate::nfs4::pseudo;
use crate::server::Root;

/// A directory of an export at which something else begins.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Junction {
    /// The export that begins there.
    pub inner: Option<u32>,
    /// That is on another file system than the export it is reached through.
    pub foreign: bool,
    /// The pseudo directory that leads to what is exported further down, for those who may not use `inner`.
    pub node: Option<u64>,
}

/// The directory below an export's root, as another export shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Covered {
    /// The export through which it is seen.
    pub outer: u32,
    /// [`Mount::fsid`] of where it is.
    pub fsid: u64,
    /// Its handle there.
    pub handle: KernelHandle,
    /// What READDIR of the directory above says of it: the inner root's `mounted_on_fileid` (RFC 8881 5.8.2.23).
    pub fileid: u64,
}

/// All of them. Immutable; the default is none.
#[derive(Default, Debug)]
pub struct Junctions {
    down: HashMap<u32, HashMap<(u64, KernelHandle), Junction>>,
    /// Of each inner export, the nearest outer one first.
    up: HashMap<u32, Vec<Covered>>,
}

impl Junctions {
    /// Looks for the exports that lie below others. An inner export to which no directory leads is a warning: clients
    /// that may use the outer one cannot get to it.
    pub fn find(exports: &[Export], roots: &HashMap<u32, Root>, found: &mut Findings) -> Self {
        let by_path: HashMap<&Path, &Export> =
            exports.iter().map(|e| (e.path.as_path(), e)).collect();
        let mut all = Junctions::default();
        let mut views: HashMap<u32, Result<View, Errno>> = HashMap::new();
        for inner in exports {
            let above = inner.path.ancestors().skip(1);
            let outers: Vec<&Export> = above.filter_map(|p| by_path.get(p).copied()).collect();
            for (place, outer) in outers.iter().enumerate() {
                let Some(root) = roots.get(&outer.id) else {
                    continue;
                };
                let view = views
                    .entry(outer.id)
                    .or_insert_with(|| View::open(&outer.path, root));
                let between = outers.get(..place).unwrap_or_default();
                let done = match view {
                    // The way leaves the outer export before it gets here.
                    Ok(view) if between.iter().any(|mid| view.foreign(&mid.path)) => Ok(()),
                    Ok(view) => all.add(view, outer, inner),
                    Err(e) => Err(*e),
                };
                if let Err(e) = done {
                    warn(inner, &outer.path, e, found);
                }
            }
        }
        all
    }

    fn add(&mut self, view: &View, outer: &Export, inner: &Export) -> Result<(), Errno> {
        let below = inner.path.strip_prefix(&outer.path);
        let below = below.map_err(|_| Errno::ENOENT)?;
        let seen = match view.walk(below) {
            Ok(seen) => seen,
            Err(e) => return self.add_hidden(view, outer, below).ok_or(e),
        };
        let foreign = view.foreign(&inner.path);
        let junction = self.entry(outer.id, &seen);
        // Two bind mounts of one directory look the same: the one listed first stays.
        if junction.inner.is_none() {
            junction.inner = Some(inner.id);
            junction.foreign = foreign;
            junction.node = foreign.then(|| pseudo::path_id(&inner.path));
        }
        self.up.entry(inner.id).or_default().push(Covered {
            outer: outer.id,
            fsid: seen.fsid,
            handle: seen.handle,
            fileid: seen.fileid,
        });
        Ok(())
    }

    /// A mount that the outer export does not show hides the way: it goes on in the pseudo file system from there.
    fn add_hidden(&mut self, view: &View, outer: &Export, below: &Path) -> Option<()> {
        let mut points: Vec<&Path> = below.ancestors().skip(1).collect();
        points.pop();
        let hides = |point: &&&Path| view.foreign(&outer.path.join(point));
        let point = points.iter().rev().find(hides)?;
        let seen = view.walk(point).ok()?;
        let node = pseudo::path_id(&outer.path.join(point));
        self.entry(outer.id, &seen).node = Some(node);
        Some(())
    }

    fn entry(&mut self, outer: u32, seen: &Seen) -> &mut Junction {
        let known = self.down.entry(outer).or_default();
        known.entry((seen.fsid, seen.handle.clone())).or_default()
    }

    /// What begins at a directory reached through the export `outer`. For an export without others below it this costs
    /// nothing, else one look into a table.
    pub fn at(&self, outer: u32, fsid: u64, handle: &KernelHandle) -> Option<Junction> {
        let known = self.down.get(&outer)?;
        known.get(&(fsid, handle.clone())).copied()
    }

    /// Whether anything begins below the export `outer`.
    pub fn any_below(&self, outer: u32) -> bool {
        self.down.contains_key(&outer)
    }

    /// The directories below the root of the export `inner`, the nearest outer export first.
    pub fn covered_by(&self, inner: u32) -> &[Covered] {
        self.up.get(&inner).map_or(&[], Vec::as_slice)
    }
}

fn warn(inner: &Export, outer: &Path, e: Errno, found: &mut Findings) {
    let value = inner.path.display().to_string();
    let at = Place {
        file: &value,
        line: 0,
    };
    let message = format!(
        "NFSv4 clients of {} cannot get here: no directory of it leads here ({e})",
        outer.display()
    );
    let fix = "export the path the symbolic links on the way lead to";
    found.warning(at, message, &value, fix);
}

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An export's directory, opened as its [`Mount`] is.
struct View {
    dir: OwnedFd,
    cross: bool,
    fsid: u64,
    dev: (u32, u32),
}

/// A directory seen through a view.
struct Seen {
    fsid: u64,
    handle: KernelHandle,
    fileid: u64,
}

impl View {
    fn open(path: &Path, root: &Root) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        if !root.mount.cross
            && let Ok(alone) = without_submounts(&dir)
        {
            dir = alone;
        }
        let is = stat(&dir)?;
        Ok(View {
            dir,
            cross: root.mount.cross,
            fsid: root.mount.fsid,
            dev: (is.stx_dev_major, is.stx_dev_minor),
        })
    }

    /// Whether a directory is now on another file system than the view.
    fn foreign(&self, path: &Path) -> bool {
        let is = rustix::fs::openat(CWD, path, PATH_ONLY, Mode::empty());
        let is = is.map_err(Errno::from).and_then(|fd| stat(&fd));
        is.is_ok_and(|is| (is.stx_dev_major, is.stx_dev_minor) != self.dev)
    }

    /// Follows `below` as LOOKUP would: never through a symbolic link, into mounts only with `crossmnt`.
    fn walk(&self, below: &Path) -> Result<Seen, Errno> {
        let (mut fsid, mut dev) = (self.fsid, self.dev);
        let mut at: Option<OwnedFd> = None;
        let mut fileid = 0;
        for name in below.components() {
            let dir = at.as_ref().unwrap_or(&self.dir);
            let name = name.as_os_str().as_bytes();
            let next = rustix::fs::openat(dir, name, PATH_ONLY, Mode::empty())?;
            let is = stat(&next)?;
            if FileType::from_raw_mode(is.stx_mode.into()) != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
            let mounted = is.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            fileid = is.stx_ino;
            if mounted {
                fileid = hidden_fileid(dir, name).unwrap_or(fileid);
            }
            // The rule by which the vfs takes a step into another file system.
            let its = (is.stx_dev_major, is.stx_dev_minor);
            if mounted && its != dev {
                if !self.cross {
                    return Err(Errno::EXDEV);
                }
                (fsid, dev) = (fsid_of(&next)?, its);
            }
            at = Some(next);
        }
        let at = at.ok_or(Errno::ENOENT)?;
        let handle = sys::name_to_handle(at.as_fd(), c"")?;
        Ok(Seen {
            fsid,
            handle,
            fileid,
        })
    }
}

/// The fsid files below a mount point have when they are reached through `crossmnt`.
fn fsid_of(root: &OwnedFd) -> Result<u64, Errno> {
    use std::os::fd::AsRawFd as _;
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    Ok(Mount::open(&path, true, None)?.fsid)
}

/// A detached copy of the one mount `dir` is on: nothing mounted below is part of it.
fn without_submounts(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(dir, c"", clone)?)
}

/// The file id of the directory that something is mounted on.
fn hidden_fileid(dir: &OwnedFd, name: &[u8]) -> Option<u64> {
    let alone = without_submounts(dir).ok()?;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let is = rustix::fs::statx(&alone, name, flags, StatxFlags::BASIC_STATS).ok()?;
    Some(is.stx_ino)
}

fn stat(fd: &OwnedFd) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    Ok(rustix::fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS)?)
}
