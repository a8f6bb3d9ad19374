//! Fuzzes the arguments and results of NFSACL; the first byte chooses. Lists that make an ACL give it again.
#![no_main]

mod law;

use libfuzzer_sys::fuzz_target;
use nfsd::nfsacl::types::{AclList, Getacl3Args, Getacl3Res, Setacl3Args, Setacl3Res};
use nfsd::xdr::Dec;
use vfs::{AclChange, Attr, FileKind, Time, Which};

fuzz_target!(|data: &[u8]| {
    choose!(data;
        0 => AclList,
        1 => Getacl3Args<'_>,
        2 => Setacl3Args<'_>,
        3 => Getacl3Res,
        4 => Setacl3Res,
    );
    if let Some((0, raw)) = data.split_first().map(|(n, raw)| (*n, raw))
        && let Ok(list) = Dec::new(raw).get::<AclList>()
        && let Ok(AclChange::Set(acl)) = list.change(true)
    {
        let shown = AclList::of(&acl, &attr(), Which::Default, true);
        assert_eq!(shown.count as usize, shown.entries.len());
        assert!(shown.count >= 4);
        assert_eq!(shown.change(true), Ok(AclChange::Set(acl)));
    }
});

fn attr() -> Attr {
    let time = Time { sec: 0, nsec: 0 };
    Attr {
        kind: FileKind::Directory,
        mode: 0o755,
        nlink: 2,
        uid: 1,
        gid: 2,
        size: 0,
        used: 0,
        rdev: (0, 0),
        dev: (0, 0),
        fileid: 1,
        blksize: 4096,
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
        mount_root: false,
        change: 0,
    }
}
