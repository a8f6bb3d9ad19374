//! Where the values of attributes come from.

use vfs::{Attr, FileKind, StatFs, Time};

use super::{Values, bit};
use crate::cx::Opened;
use crate::fh::FileHandle;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Bitmap4;

const SPACE: Bitmap4 = Bitmap4::of(&[
    bit::FILES_AVAIL,
    bit::FILES_FREE,
    bit::FILES_TOTAL,
    bit::SPACE_AVAIL,
    bit::SPACE_FREE,
    bit::SPACE_TOTAL,
]);

/// What `asked` needs to be known of a place.
///
/// # Errors
/// `STALE`, and those of `statx(2)` and `statfs(2)`.
pub async fn collect(c: &Compound<'_>, place: &Place, asked: &Bitmap4) -> Result<Values, Nfsstat4> {
    match place {
        Place::File(opened) => {
            let attr = c.cx.server.vfs.getattr(&opened.file).await?;
            of_file(c, opened, attr, asked).await
        }
        Place::Pseudo(node) => of_pseudo(c, *node),
    }
}

/// Values of a directory's entries before any entry: what they have in common is the directory's.
///
/// # Errors
/// As [`collect`].
pub async fn shared(c: &Compound<'_>, dir: &Opened, asked: &Bitmap4) -> Result<Values, Nfsstat4> {
    let attr = c.cx.server.vfs.getattr(&dir.file).await?;
    of_file(c, dir, attr, asked).await
}

async fn of_file(
    c: &Compound<'_>,
    opened: &Opened,
    attr: Attr,
    asked: &Bitmap4,
) -> Result<Values, Nfsstat4> {
    let vfs = &c.cx.server.vfs;
    let space = match asked.and(&SPACE).is_empty() {
        true => None,
        false => Some(vfs.statfs(&opened.file).await?),
    };
    Ok(Values {
        minor: c.minor,
        attr,
        fsid: (opened.file.mount.fsid_of(&attr), 0),
        fh: c.cx.fh(opened, &opened.file)?,
        mounted_on: attr.fileid,
        space,
        limits: vfs.limits(&opened.file),
        io_max: c.cx.server.io_max,
        lease: lease(c),
        owners: [None, None],
        quota: None,
        xattrs: true,
    })
}

fn lease(c: &Compound<'_>) -> u32 {
    let _ = c;
    90
}

/// A directory of the pseudo file system: everybody may list and search it, nobody changes it.
///
/// # Errors
/// `STALE` for a node that is gone.
pub fn of_pseudo(c: &Compound<'_>, node: u64) -> Result<Values, Nfsstat4> {
    let attr = Attr {
        kind: FileKind::Directory,
        mode: 0o555,
        nlink: 2,
        uid: 0,
        gid: 0,
        size: 4096,
        used: 4096,
        rdev: (0, 0),
        dev: (0, 0),
        fileid: node,
        blksize: 4096,
        atime: Time::default(),
        mtime: Time::default(),
        ctime: Time::default(),
        btime: None,
        mount_root: false,
        change: 0,
    };
    let none = StatFs {
        total: 0,
        free: 0,
        avail: 0,
        files_total: 0,
        files_free: 0,
        files_avail: 0,
    };
    Ok(Values {
        minor: c.minor,
        attr,
        fsid: (0, 0),
        fh: FileHandle::new(),
        mounted_on: node,
        space: Some(none),
        limits: vfs::Limits::default(),
        io_max: c.cx.server.io_max,
        lease: lease(c),
        owners: [None, None],
        quota: None,
        xattrs: false,
    })
}
