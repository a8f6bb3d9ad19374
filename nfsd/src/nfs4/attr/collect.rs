//! Where the values of attributes come from.

use vfs::{Attr, Cred, Errno, FileKind, KernelHandle, StatFs, Time, exec};

use super::{ACLS, Values, acl, bit};
use crate::conflict::PATIENCE_V4;
use crate::cx::Opened;
use crate::fh::FileHandle;
use crate::nfs4::cb::getattr::refresh;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::idmap::{Owner, Who};
use crate::nfs4::pseudo;
use crate::nfs4::stateful::requester;
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

/// What whoever writes a file changes.
const WRITTEN: Bitmap4 =
    Bitmap4::of(&[bit::CHANGE, bit::SIZE, bit::TIME_MODIFY, bit::TIME_METADATA]);
const OWNERS: Bitmap4 = Bitmap4::of(&[bit::OWNER, bit::OWNER_GROUP]);
const QUOTA: Bitmap4 = Bitmap4::of(&[
    bit::QUOTA_AVAIL_HARD,
    bit::QUOTA_AVAIL_SOFT,
    bit::QUOTA_USED,
]);

/// What `asked` needs to be known of a place.
///
/// # Errors
/// `STALE`, and those of `statx(2)` and `statfs(2)`.
pub async fn collect(c: &Compound<'_>, place: &Place, asked: &Bitmap4) -> Result<Values, Nfsstat4> {
    match place {
        Place::File(opened) => {
            let attr = newest(c, opened, asked).await?;
            of_file(c, opened, attr, asked).await
        }
        Place::Pseudo(node) => Ok(of_pseudo(c, *node)),
    }
}

/// Attributes of a file, with what another client knows that has it delegated for writing.
async fn newest(c: &Compound<'_>, opened: &Opened, asked: &Bitmap4) -> Result<Attr, Nfsstat4> {
    let vfs = &c.cx.server.vfs;
    let mut attr = vfs.getattr(&opened.file).await?;
    if attr.kind != FileKind::Regular
        || asked.and(&WRITTEN).is_empty()
        || !vfs.table.locks.any_writer()
    {
        return Ok(attr);
    }
    let (locks, own) = (opened.file.locks(), requester(c, None));
    if Box::pin(refresh(&c.cx.server, locks, own, &mut attr, PATIENCE_V4)).await? {
        attr = vfs.getattr(&opened.file).await?;
    }
    Ok(attr)
}

/// As [`collect`] has it, what another client knows of an entry of the directory `dir`.
///
/// # Errors
/// `DELAY` when it does not say.
pub async fn newest_entry(
    c: &Compound<'_>,
    dir: &Opened,
    (handle, attr): (&KernelHandle, &Attr),
    asked: &Bitmap4,
) -> Result<Attr, Nfsstat4> {
    let (vfs, mount) = (&c.cx.server.vfs, &dir.file.mount);
    let mut attr = *attr;
    if attr.kind != FileKind::Regular || asked.and(&WRITTEN).is_empty() {
        return Ok(attr);
    }
    let Some(locks) = vfs.table.locks.known(mount.fsid, handle) else {
        return Ok(attr);
    };
    let own = requester(c, None);
    if refresh(&c.cx.server, &locks, own, &mut attr, PATIENCE_V4).await? {
        let file = vfs.file(mount, handle.clone()).await?;
        attr = vfs.getattr(&file).await?;
    }
    Ok(attr)
}

/// Values of a directory's entries before any entry: what they have in common is the directory's.
///
/// # Errors
/// As [`collect`].
pub async fn shared(c: &Compound<'_>, dir: &Opened, asked: &Bitmap4) -> Result<Values, Nfsstat4> {
    let attr = c.cx.server.vfs.getattr(&dir.file).await?;
    of_file(c, dir, attr, &asked.without(&ACLS)).await
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
    let mounted_on = match asked.has(bit::MOUNTED_ON_FILEID) {
        true => c.mounted_on(opened).await?.unwrap_or(attr.fileid),
        false => attr.fileid,
    };
    // Rarely asked for: in memory of their own, which every request would take otherwise.
    let quota = match asked.and(&QUOTA).is_empty() {
        true => None,
        false => Box::pin(vfs.quota(&opened.cred, &opened.file)).await,
    };
    let xattrs = match asked.has(bit::XATTR_SUPPORT) {
        true => Box::pin(has_xattrs(c, opened)).await,
        false => false,
    };
    // Sealing takes time that most requests would spend for nothing.
    let fh = match asked.has(bit::FILEHANDLE) {
        true => c.cx.fh(opened, &opened.file)?,
        false => FileHandle::new(),
    };
    let acl = match asked.and(&ACLS).is_empty() {
        true => None,
        false => Box::pin(acl::value(c, opened, &attr)).await?,
    };
    Ok(Values {
        minor: c.minor,
        attr,
        fsid: (opened.file.mount.fsid_of(&attr), 0),
        fh,
        mounted_on,
        space,
        limits: vfs.limits(&opened.file),
        io_max: c.cx.server.io_max,
        lease: lease(c),
        owners: owners(c, &attr, asked).await,
        quota,
        xattrs,
        aclsupport: acl::support(opened),
        acl,
    })
}

/// Whether the file system stores extended attributes of users. It knows one that is not there from
/// none at all.
async fn has_xattrs(c: &Compound<'_>, opened: &Opened) -> bool {
    let vfs = &c.cx.server.vfs;
    let found = vfs.getxattr(&Cred::root(), &opened.file, b"none", 0).await;
    !matches!(found, Err(Errno::EOPNOTSUPP))
}

/// `owner` and `owner_group`, looked up only if one of them is asked for.
pub async fn owners(c: &Compound<'_>, attr: &Attr, asked: &Bitmap4) -> [Owner; 2] {
    if asked.and(&OWNERS).is_empty() {
        return [Owner::Number(attr.uid), Owner::Number(attr.gid)];
    }
    let idmap = &c.cx.server.idmap;
    let now = exec::now();
    let both = idmap.owner_now(Who::User, attr.uid, now);
    if let (Some(user), Some(group)) = (both, idmap.owner_now(Who::Group, attr.gid, now)) {
        return [user, group];
    }
    let user = idmap.owner(Who::User, attr.uid).await;
    [user, idmap.owner(Who::Group, attr.gid).await]
}

fn lease(c: &Compound<'_>) -> u32 {
    c.cx.server.config.lease_time.as_secs() as u32
}

/// A directory of the pseudo file system: everybody may list and search it, nobody changes it.
pub fn of_pseudo(c: &Compound<'_>, node: u64) -> Values {
    let change = c.cx.server.exported.load().pseudo.change();
    let since = Time {
        sec: (change / 1_000_000_000) as i64,
        nsec: (change % 1_000_000_000) as u32,
    };
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
        atime: since,
        mtime: since,
        ctime: since,
        btime: None,
        mount_root: false,
        change,
    };
    let none = StatFs {
        total: 0,
        free: 0,
        avail: 0,
        files_total: 0,
        files_free: 0,
        files_avail: 0,
    };
    Values {
        minor: c.minor,
        attr,
        fsid: pseudo::FSID,
        fh: c.cx.server.key.seal_pseudo(node),
        mounted_on: node,
        space: Some(none),
        limits: vfs::Limits::default(),
        io_max: c.cx.server.io_max,
        lease: lease(c),
        owners: [Owner::Number(0), Owner::Number(0)],
        quota: None,
        xattrs: false,
        aclsupport: 0,
        acl: None,
    }
}
