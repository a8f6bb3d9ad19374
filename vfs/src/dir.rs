//! READDIR and READDIRPLUS: pages of a directory by stable cookies (the file system's own
//! `d_off`), read on the blocking pool.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, Weak};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, StatxFlags};

use crate::access::{Need, check};
use crate::attr::Attr;
use crate::change::number_unheld;
use crate::cred::Cred;
use crate::errno::{BAD_COOKIE, Errno, Result};
use crate::exec;
use crate::file::File;
use crate::listing::{ENTRIES_MAX, Known, RecentAttr};
use crate::sys::{self, KernelHandle};
use crate::table::FileTable;
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::uring::fixed::OpenFd;
use crate::vfs::Vfs;

/// One entry.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Name, bytes.
    pub name: Arc<[u8]>,
    /// Inode number.
    pub fileid: u64,
    /// Where to go on after this entry.
    pub cookie: u64,
    /// Handle and attributes, when asked for; none for `..`, mount points, and what vanished.
    pub node: Option<(Arc<KernelHandle>, Attr)>,
}

/// Entries in directory order.
#[derive(Clone, Debug)]
pub struct DirPage {
    /// To be sent with the next cookie.
    pub verifier: [u8; 8],
    /// The entries.
    pub entries: Vec<DirEntry>,
    /// The last entry here is the directory's last.
    pub eof: bool,
}

/// Outcome of reading a directory.
pub struct Listed {
    /// The page.
    pub result: Result<DirPage>,
    /// The directory's attributes.
    pub dir: Option<Attr>,
}

/// Reply bytes of an entry beside its name: at least.
const ENTRY_BYTES: usize = 24;
/// With attributes and a handle.
const PLUS_BYTES: usize = 24 + 88 + 44;
/// Streams kept open per directory.
const STREAMS_MAX: usize = 2;
/// Buffer of one `getdents64(2)`.
const GETDENTS_BYTES: usize = 32 << 10;

/// Cookies are positions that stay valid as long as the file system: the verifier never changes.
const VERIFIER: [u8; 8] = *b"ringnfs1";

impl Vfs {
    /// A page of `dir` after `cookie`: about as many entries as fit `bytes` of reply (RFC 1813 3.3.16,
    /// 3.3.17).
    pub async fn readdir(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        cookie: u64,
        verifier: [u8; 8],
        bytes: usize,
        plus: bool,
    ) -> Listed {
        let attr = match self.getattr(dir).await {
            Ok(attr) => attr,
            Err(e) => {
                return Listed {
                    result: Err(e),
                    dir: None,
                };
            }
        };
        let result = self
            .page(cred, dir, &attr, cookie, verifier, bytes, plus)
            .await;
        Listed {
            result,
            dir: self.post(dir).await,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "READDIR's arguments")]
    async fn page(
        &self,
        cred: &Cred,
        dir: &Arc<File>,
        attr: &Attr,
        cookie: u64,
        verifier: [u8; 8],
        bytes: usize,
        plus: bool,
    ) -> Result<DirPage> {
        dir.directory()?;
        check(dir, attr, cred, Need::List).await?;
        // Some clients send a zero verifier throughout; a foreign one is an error.
        if cookie != 0 && verifier != VERIFIER && verifier != [0; 8] || cookie > i64::MAX as u64 {
            return Err(BAD_COOKIE);
        }
        // Attributes of names are for those who may look them up.
        let plus = plus && check(dir, attr, cred, Need::Search).await.is_ok();
        if let Some(page) = self.remembered(dir, attr, cookie, bytes, plus).await? {
            return Ok(page);
        }
        let (reader, table) = (dir.clone(), self.table.clone());
        let (root, since) = (Cred::root(), exec::wall_clock());
        let page = blocking::run(&root, Call::Getdents, move || {
            let stream = take_stream(&reader)?;
            let page = read_page(&reader, &stream, cookie, bytes, plus, &table);
            put_stream(&reader, stream);
            page
        });
        let (page, known) = page.await?;
        if let Some(known) = known
            && let Some(after) = self.post(dir).await
        {
            dir.listing.put(attr, &after, known, since);
        }
        Ok(page)
    }

    /// The page from the remembered listing, if that is still true and every file is still held.
    async fn remembered(
        &self,
        dir: &Arc<File>,
        attr: &Attr,
        cookie: u64,
        bytes: usize,
        plus: bool,
    ) -> Result<Option<DirPage>> {
        let Some(listing) = dir.listing.get(attr) else {
            return Ok(None);
        };
        let start = match cookie {
            0 => 0,
            _ => match listing.entries.iter().position(|e| e.cookie == cookie) {
                Some(at) => at + 1,
                None => return Ok(None),
            },
        };
        let mut page = DirPage {
            verifier: VERIFIER,
            entries: Vec::new(),
            eof: true,
        };
        let mut room = bytes;
        for known in &listing.entries[start..] {
            if room == 0 {
                page.eof = false;
                break;
            }
            room = room.saturating_sub(cost(&known.name, plus));
            let node = match &known.handle {
                Some(handle) if plus => {
                    let Some(file) = known.file.upgrade() else {
                        return Ok(None);
                    };
                    let Ok(attr) = RecentAttr::get(&file).await else {
                        return Ok(None);
                    };
                    (attr.nlink > 0).then(|| (handle.clone(), attr))
                }
                _ => None,
            };
            page.entries.push(DirEntry {
                name: known.name.clone(),
                fileid: known.fileid,
                cookie: known.cookie,
                node,
            });
        }
        Ok(Some(page))
    }
}

/// Reply bytes an entry takes at least.
fn cost(name: &[u8], plus: bool) -> usize {
    name.len().next_multiple_of(4) + if plus { PLUS_BYTES } else { ENTRY_BYTES }
}

fn take_stream(dir: &File) -> Result<OwnedFd> {
    let idle = dir
        .streams
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    if let Some(stream) = idle {
        return Ok(stream);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        &**dir.path(),
        c".",
        flags,
        Mode::empty(),
    )?)
}

fn put_stream(dir: &File, stream: OwnedFd) {
    let mut streams = dir.streams.lock().unwrap_or_else(PoisonError::into_inner);
    if streams.len() < STREAMS_MAX {
        streams.push(stream);
    }
}

/// A page from the file system; with it the whole directory, if that is small and was all read.
fn read_page(
    dir: &Arc<File>,
    stream: &OwnedFd,
    cookie: u64,
    bytes: usize,
    plus: bool,
    table: &Arc<FileTable>,
) -> Result<(DirPage, Option<Vec<Known>>)> {
    // To the start first: some file systems (btrfs) note only then what was added meanwhile.
    rustix::fs::seek(stream, SeekFrom::Start(0))?;
    rustix::fs::seek(stream, SeekFrom::Start(cookie)).map_err(|e| match Errno::from(e) {
        Errno::EINVAL => BAD_COOKIE,
        other => other,
    })?;
    let mut entries: Vec<DirEntry> = Vec::new();
    // At least one entry, or the client would never get on.
    let mut room = bytes.max(1);
    let mut eof = true;
    let mut buf = Vec::with_capacity(GETDENTS_BYTES);
    let mut raw = RawDir::new(stream, buf.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry?;
        // One entry more than fits: whether the directory ends there is then known to the caller.
        if room == 0 {
            eof = false;
            break;
        }
        let name = entry.file_name().to_bytes();
        room = room.saturating_sub(cost(name, plus));
        entries.push(DirEntry {
            name: name.into(),
            fileid: entry.ino(),
            cookie: entry.next_entry_cookie(),
            node: None,
        });
    }
    let small = plus && cookie == 0 && eof && entries.len() <= ENTRIES_MAX;
    let mut known = small.then(Vec::new);
    if plus {
        for entry in &mut entries {
            let node = node(dir, stream, entry);
            let mut file = Weak::new();
            if let Some((handle, mut attr, fd)) = node {
                let handle = Arc::new(handle);
                let held = table.get(dir.mount.id, &handle);
                match &held {
                    Some(file) => attr = file.attr_of_found_now(attr).unwrap_or(attr),
                    None => attr.change = number_unheld(&dir.mount, &attr),
                }
                if small {
                    let new =
                        || File::new(dir.mount.clone(), (*handle).clone(), attr.kind, fd, table);
                    let held = held.unwrap_or_else(|| table.get_or_insert(new()));
                    file = Arc::downgrade(&held);
                }
                entry.node = Some((handle, attr));
            }
            if let Some(known) = &mut known {
                known.push(Known {
                    name: entry.name.clone(),
                    fileid: entry.fileid,
                    cookie: entry.cookie,
                    handle: entry.node.as_ref().map(|(handle, _)| handle.clone()),
                    file,
                });
            }
        }
    }
    Ok((
        DirPage {
            verifier: VERIFIER,
            entries,
            eof,
        },
        known,
    ))
}

/// Handle and attributes of an entry, from one descriptor.
fn node(
    dir: &File,
    stream: &OwnedFd,
    entry: &DirEntry,
) -> Option<(KernelHandle, Attr, Arc<OpenFd>)> {
    if &*entry.name == b".." {
        return None;
    }
    let name = CString::new(&*entry.name).ok()?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(stream, name.as_c_str(), flags, Mode::empty()).ok()?;
    let attr = attributes(&fd, c"").ok()?;
    if attr.mount_root && attr.dev != dir.mount.dev {
        return None;
    }
    let handle = sys::name_to_handle(fd.as_fd(), c"").ok()?;
    Some((handle, attr, Arc::new(OpenFd::new(fd))))
}

fn attributes(fd: &OwnedFd, name: &CStr) -> Result<Attr> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(Attr::from(&rustix::fs::statx(fd, name, flags, mask)?))
}

impl Vfs {
    /// READLINK (RFC 1813 3.3.5), with the link's attributes.
    pub async fn readlink(
        &self,
        _cred: &Cred,
        file: &Arc<File>,
    ) -> (Result<Vec<u8>>, Option<Attr>) {
        let attr = match self.getattr(file).await {
            Ok(attr) => attr,
            Err(e) => return (Err(e), None),
        };
        if file.kind() != crate::FileKind::Symlink {
            return (Err(Errno::EINVAL), Some(attr));
        }
        let path: Arc<OpenFd> = file.path().clone();
        let root = Cred::root();
        let target = blocking::run(&root, Call::Readlink, move || {
            Ok(rustix::fs::readlinkat(&*path, c"", Vec::new())?.into_bytes())
        });
        (target.await, Some(attr))
    }
}
