//! Attributes between the file system and the wire (RFC 1813 2.5, 2.6).

use vfs::{Attr, File, FileKind, Mount, SetAttr, Time, Wcc};

use super::status::Nfsstat3;
use super::types::{
    Fattr3, Ftype3, Nfstime3, PostOpAttr, Sattr3, SetTime, Specdata3, WccAttr, WccData,
};

/// Nanoseconds in a second: the first value `nseconds` may not have.
const NSEC_PER_SEC: u32 = 1_000_000_000;

/// "Leave it alone" of chown(2); nobody has this uid or gid.
const NO_ID: u32 = u32::MAX;

const fn ftype(kind: FileKind) -> Ftype3 {
    match kind {
        FileKind::Regular => Ftype3::Reg,
        FileKind::Directory => Ftype3::Dir,
        FileKind::Symlink => Ftype3::Lnk,
        FileKind::Block => Ftype3::Blk,
        FileKind::Char => Ftype3::Chr,
        FileKind::Fifo => Ftype3::Fifo,
        FileKind::Socket => Ftype3::Sock,
    }
}

/// A time as the wire can carry it: before 1970 is 1970, after 2106 is 2106.
#[must_use]
pub fn nfstime(time: Time) -> Nfstime3 {
    match u32::try_from(time.sec) {
        Ok(seconds) => Nfstime3 {
            seconds,
            nseconds: time.nsec,
        },
        Err(_) if time.sec < 0 => Nfstime3 {
            seconds: 0,
            nseconds: 0,
        },
        Err(_) => Nfstime3 {
            seconds: u32::MAX,
            nseconds: NSEC_PER_SEC - 1,
        },
    }
}

/// A time from the wire.
///
/// # Errors
/// `INVAL` for more nanoseconds than a second has: utimensat(2) gives some of them a meaning.
pub fn time(time: Nfstime3) -> Result<Time, Nfsstat3> {
    if time.nseconds >= NSEC_PER_SEC {
        return Err(Nfsstat3::Inval);
    }
    Ok(Time {
        sec: i64::from(time.seconds),
        nsec: time.nseconds,
    })
}

/// `fattr3` of a file on `mount`.
#[must_use]
pub fn fattr(mount: &Mount, attr: &Attr) -> Fattr3 {
    with_fsid(mount.fsid_of(attr), attr)
}

fn with_fsid(fsid: u64, attr: &Attr) -> Fattr3 {
    Fattr3 {
        ftype: ftype(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.used,
        rdev: Specdata3 {
            specdata1: attr.rdev.0,
            specdata2: attr.rdev.1,
        },
        fsid,
        fileid: attr.fileid,
        atime: nfstime(attr.atime),
        mtime: nfstime(attr.mtime),
        ctime: nfstime(attr.ctime),
    }
}

/// `post_op_attr` of a file. None of one a client of version 4 has delegated for writing: they are not
/// the newest, and whoever needs them asks by GETATTR.
#[must_use]
pub fn post_op(file: &File, attr: Option<&Attr>) -> PostOpAttr {
    let attr = attr.filter(|_| !file.has_writer());
    attr.map(|attr| fattr(&file.mount, attr))
}

fn wcc_attr(attr: &Attr) -> WccAttr {
    WccAttr {
        size: attr.size,
        mtime: nfstime(attr.mtime),
        ctime: nfstime(attr.ctime),
    }
}

/// `wcc_data` of a file.
#[must_use]
pub fn wcc_data(file: &File, wcc: &Wcc) -> WccData {
    WccData {
        before: wcc.before.as_ref().map(wcc_attr),
        after: post_op(file, wcc.after.as_ref()),
    }
}

fn set_time(how: SetTime) -> Result<vfs::SetTime, Nfsstat3> {
    Ok(match how {
        SetTime::DontChange => vfs::SetTime::Keep,
        SetTime::SetToServerTime => vfs::SetTime::Now,
        SetTime::SetToClientTime(at) => vfs::SetTime::At(time(at)?),
    })
}

/// `sattr3`: what a client wants changed. File type bits of the mode mean nothing (RFC 1813 2.5) and
/// the id -1 no change, as on Linux.
///
/// # Errors
/// `INVAL` for an impossible time, `FBIG` for a size no file can have.
pub fn set_attr(sattr: &Sattr3) -> Result<SetAttr, Nfsstat3> {
    if sattr.size.is_some_and(|size| i64::try_from(size).is_err()) {
        return Err(Nfsstat3::Fbig);
    }
    Ok(SetAttr {
        mode: sattr.mode.map(|mode| mode & 0o7777),
        umask: 0,
        uid: sattr.uid.filter(|uid| *uid != NO_ID),
        gid: sattr.gid.filter(|gid| *gid != NO_ID),
        size: sattr.size,
        atime: set_time(sattr.atime)?,
        mtime: set_time(sattr.mtime)?,
    })
}

/// `sattr3` of something new. Only the superuser gives it another owner; what others send is left
/// out, as on Linux: some clients send the group they expect a setgid directory to give.
///
/// # Errors
/// As [`set_attr`].
pub fn initial_attr(cred: &vfs::Cred, sattr: &Sattr3) -> Result<SetAttr, Nfsstat3> {
    let mut set = set_attr(sattr)?;
    if !cred.is_root() {
        set.uid = None;
        set.gid = None;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(sec: i64, nsec: u32) -> Time {
        Time { sec, nsec }
    }

    fn wire(seconds: u32, nseconds: u32) -> Nfstime3 {
        Nfstime3 { seconds, nseconds }
    }

    #[test]
    fn times_outside_the_wire_are_its_ends() {
        assert_eq!(nfstime(at(-1, 5)), wire(0, 0));
        assert_eq!(nfstime(at(i64::MIN, 5)), wire(0, 0));
        assert_eq!(nfstime(at(0, 5)), wire(0, 5));
        assert_eq!(nfstime(at(0xffff_ffff, 7)), wire(u32::MAX, 7));
        assert_eq!(nfstime(at(0x1_0000_0000, 0)), wire(u32::MAX, 999_999_999));
    }

    #[test]
    fn nanoseconds_with_a_meaning_of_their_own_are_refused() {
        // UTIME_NOW and UTIME_OMIT of utimensat(2).
        for nseconds in [NSEC_PER_SEC, 0x3fff_ffff, 0x3fff_fffe, u32::MAX] {
            assert_eq!(time(wire(1, nseconds)), Err(Nfsstat3::Inval));
            let sattr = Sattr3 {
                mtime: SetTime::SetToClientTime(wire(1, nseconds)),
                ..Sattr3::default()
            };
            assert_eq!(set_attr(&sattr), Err(Nfsstat3::Inval));
        }
    }

    #[test]
    fn attributes_to_set() {
        let sattr = Sattr3 {
            mode: Some(0o104_755),
            uid: Some(NO_ID),
            gid: Some(7),
            size: Some(3),
            atime: SetTime::SetToServerTime,
            mtime: SetTime::SetToClientTime(wire(9, 8)),
        };
        let set = SetAttr {
            mode: Some(0o4755),
            umask: 0,
            uid: None,
            gid: Some(7),
            size: Some(3),
            atime: vfs::SetTime::Now,
            mtime: vfs::SetTime::At(at(9, 8)),
        };
        assert_eq!(set_attr(&sattr), Ok(set));
        let root = vfs::Cred::root();
        assert_eq!(initial_attr(&root, &sattr), Ok(set));
        let user = vfs::Cred::new(5, 7, &[]);
        assert_eq!(
            initial_attr(&user, &sattr),
            Ok(SetAttr { gid: None, ..set })
        );
        let huge = Sattr3 {
            size: Some(1 << 63),
            ..Sattr3::default()
        };
        assert_eq!(set_attr(&huge), Err(Nfsstat3::Fbig));
        assert!(set_attr(&Sattr3::default()).is_ok_and(|set| set.is_empty()));
    }

    #[test]
    fn every_type_has_its_mode() {
        for kind in [
            libc::S_IFREG,
            libc::S_IFDIR,
            libc::S_IFBLK,
            libc::S_IFCHR,
            libc::S_IFLNK,
            libc::S_IFSOCK,
            libc::S_IFIFO,
        ] {
            let of_mode = Ftype3::from_mode(kind);
            assert_eq!(Some(ftype(FileKind::from_mode(kind))), of_mode);
        }
    }

    proptest! {
        #[test]
        fn what_the_wire_can_carry_survives(seconds: u32, nseconds in 0..NSEC_PER_SEC) {
            prop_assert_eq!(time(wire(seconds, nseconds)).map(nfstime), Ok(wire(seconds, nseconds)));
        }

        #[test]
        fn wcc_and_attributes_agree(size: u64, sec: i64, nsec in 0..NSEC_PER_SEC, mode in 0..0o10000_u32) {
            let attr = Attr {
                kind: FileKind::Char, mode, nlink: 2, uid: 3, gid: 4, size, used: 5, rdev: (6, 7),
                dev: (8, 9), fileid: 10, blksize: 11, atime: at(12, 0), mtime: at(sec, nsec),
                ctime: at(nsec.into(), 1), btime: None, mount_root: false, change: 14,
            };
            let fattr = with_fsid(13, &attr);
            prop_assert_eq!(wcc_attr(&attr), WccAttr::from(&fattr));
            prop_assert_eq!((fattr.mode, fattr.size, fattr.fsid), (mode, size, 13));
        }
    }
}
