//! Tests of the table of attributes.

use super::*;
use crate::xdr::Dec;

fn values(minor: u32) -> Values {
    let time = |sec| Time { sec, nsec: 7 };
    Values {
        minor,
        attr: Attr {
            kind: vfs::FileKind::Regular,
            mode: 0o640,
            nlink: 2,
            uid: 1000,
            gid: 4_294_967_294,
            size: 5,
            used: 4096,
            rdev: (1, 2),
            dev: (3, 4),
            fileid: 9,
            blksize: 4096,
            atime: time(1),
            mtime: time(2),
            ctime: time(3),
            btime: Some(time(4)),
            mount_root: false,
            change: 77,
        },
        fsid: (8, 0),
        fh: [1, 2, 3].into_iter().collect(),
        mounted_on: 9,
        space: None,
        limits: Limits::default(),
        io_max: 1 << 20,
        lease: 90,
        owners: [Owner::Number(1000), Owner::Number(4_294_967_294)],
        quota: None,
        xattrs: true,
        aclsupport: 3,
        acl: None,
    }
}

fn encoded(asked: &Bitmap4, v: &Values) -> (Bitmap4, Vec<u8>) {
    let mut wire = Vec::new();
    Enc::new(&mut wire, 4096)
        .put_or_rollback(&Whole(asked, v))
        .expect("fits");
    let mut dec = Dec::new(&wire);
    let mask = dec.get().expect("a bitmap");
    let list = dec.opaque(4096).expect("a list").to_vec();
    dec.finish().expect("nothing more");
    (mask, list)
}

struct Whole<'a>(&'a Bitmap4, &'a Values);

impl crate::xdr::Encode for Whole<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        encode(self.0, self.1, enc)
    }
}

#[test]
fn the_table_is_in_order_and_each_version_knows_more() {
    let numbers: Vec<u32> = TABLE.iter().map(|row| row.0).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert!(supported(0).within(&supported(1)) && supported(1).within(&supported(2)));
    assert!(
        !supported(0).has(bit::SUPPATTR_EXCLCREAT) && supported(1).has(bit::SUPPATTR_EXCLCREAT)
    );
    assert!(!readable(2).has(bit::TIME_MODIFY_SET) && settable(0).has(bit::TIME_MODIFY_SET));
    // REQUIRED attributes (RFC 8881 5.6).
    for required in (0..=11).chain([19]) {
        assert!(supported(0).has(required), "{required}");
    }
}

#[test]
fn values_are_in_order_of_their_numbers() {
    let asked = Bitmap4::of(&[bit::SIZE, bit::OWNER, bit::OWNER_GROUP, bit::FILEID, 95, 12]);
    let (mask, list) = encoded(&asked, &values(0));
    assert_eq!(
        mask,
        Bitmap4::of(&[bit::SIZE, bit::FILEID, bit::OWNER, bit::OWNER_GROUP])
    );
    let mut dec = Dec::new(&list);
    assert_eq!((dec.u64(), dec.u64()), (Ok(5), Ok(9)));
    assert_eq!(dec.opaque(16), Ok(&b"1000"[..]));
    assert_eq!(dec.opaque(16), Ok(&b"4294967294"[..]));
    dec.finish().expect("nothing more");
}

#[test]
fn every_attribute_encodes_in_every_version() {
    for minor in 0..=2 {
        let (mask, list) = encoded(&supported(minor), &values(minor));
        let mut expected = readable(minor);
        for absent in [
            bit::ACL,
            bit::DACL,
            bit::QUOTA_AVAIL_HARD,
            bit::QUOTA_AVAIL_SOFT,
            bit::QUOTA_USED,
        ] {
            expected.remove(absent);
        }
        assert_eq!(mask, expected);
        assert_eq!(list.len() % 4, 0);
    }
}

#[test]
fn quota_is_there_if_the_file_system_has_it() {
    let asked = Bitmap4::of(&[
        bit::QUOTA_AVAIL_HARD,
        bit::QUOTA_AVAIL_SOFT,
        bit::QUOTA_USED,
    ]);
    let mut v = values(0);
    assert_eq!(encoded(&asked, &v), (Bitmap4::EMPTY, Vec::new()));
    v.quota = Some(Quota {
        avail_hard: 3,
        avail_soft: 2,
        used: 1,
    });
    let (mask, list) = encoded(&asked, &v);
    assert_eq!(mask, asked);
    let mut dec = Dec::new(&list);
    assert_eq!((dec.u64(), dec.u64(), dec.u64()), (Ok(3), Ok(2), Ok(1)));
}

#[test]
fn comparing() {
    use crate::nfs4::types::{Attrlist4, Fattr4};
    let asked = Bitmap4::of(&[bit::SIZE, bit::OWNER]);
    let (mask, mut list) = encoded(&asked, &values(1));
    fn fattr(mask: Bitmap4, list: &[u8]) -> Fattr4<'_> {
        Fattr4 {
            mask,
            values: Attrlist4(list),
        }
    }
    assert_eq!(same(&fattr(mask, &list), &values(1)), Ok(true));
    list[7] ^= 1;
    assert_eq!(same(&fattr(mask, &list), &values(1)), Ok(false));
    assert_eq!(same(&fattr(mask, &list[..4]), &values(1)), Ok(false));
    let of = |bit| comparable(&Bitmap4::of(&[bit]), 1);
    assert_eq!(of(bit::RDATTR_ERROR), Err(Nfsstat4::Inval));
    assert_eq!(of(bit::TIME_MODIFY_SET), Err(Nfsstat4::Inval));
    assert_eq!(of(bit::CLONE_BLKSIZE), Err(Nfsstat4::Attrnotsupp));
}

#[test]
fn acl_is_there_if_the_file_has_one() {
    use crate::nfs4::types::{Attrlist4, Fattr4};
    let asked = Bitmap4::of(&[bit::ACL, bit::ACLSUPPORT]);
    let mut v = values(0);
    let support = Bitmap4::of(&[bit::ACLSUPPORT]);
    assert_eq!(encoded(&asked, &v), (support, vec![0, 0, 0, 3]));
    let fattr = Fattr4 {
        mask: asked,
        values: Attrlist4(&[0, 0, 0, 0, 0, 0, 0, 3]),
    };
    assert_eq!(same(&fattr, &v), Err(Nfsstat4::Attrnotsupp));
    v.acl = Some(vec![0; 4]);
    assert_eq!(encoded(&asked, &v), (asked, vec![0, 0, 0, 0, 0, 0, 0, 3]));
    assert_eq!(same(&fattr, &v), Ok(true));
    assert!(settable(0).has(bit::ACL) && !settable(2).has(bit::ACLSUPPORT));
}

#[test]
fn dacl_is_acl_with_flags() {
    let mut v = values(1);
    let asked = Bitmap4::of(&[bit::ACL, bit::DACL]);
    assert_eq!(encoded(&asked, &v), (Bitmap4::EMPTY, Vec::new()));
    v.acl = Some(vec![0; 4]);
    let both = vec![0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
    assert_eq!(encoded(&asked, &v), (asked, both));
    v.minor = 0;
    assert_eq!(encoded(&asked, &v).0, Bitmap4::of(&[bit::ACL]));
    assert!(!supported(1).has(59), "no AUDIT, no ALARM");
}

#[test]
fn mode_umask_is_only_set() {
    let mask = Bitmap4::of(&[bit::MODE_UMASK]);
    for minor in [0, 1] {
        assert!(!supported(minor).has(bit::MODE_UMASK));
        assert_eq!(askable(&mask, minor), Ok(()), "unknown, so left out");
        assert_eq!(comparable(&mask, minor), Err(Nfsstat4::Attrnotsupp));
    }
    assert!(supported(2).has(bit::MODE_UMASK) && settable(2).has(bit::MODE_UMASK));
    assert_eq!(askable(&mask, 2), Err(Nfsstat4::Inval));
    assert_eq!(comparable(&mask, 2), Err(Nfsstat4::Inval));
}

#[test]
fn what_is_wanted_of_acl_and_umask() {
    use crate::nfs4::types::{Attrlist4, Fattr4};
    fn read(bits: &[u32], words: &[u32], minor: u32) -> core::result::Result<(u32, u32), Nfsstat4> {
        let values: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let fattr = Fattr4 {
            mask: Bitmap4::of(bits),
            values: Attrlist4(&values),
        };
        let wanted = wanted(&fattr, minor)?;
        assert_eq!(wanted.acl.is_some(), bits[0] < 60);
        Ok((wanted.set.mode.unwrap_or_default(), wanted.set.umask))
    }
    use Nfsstat4::{Attrnotsupp, Badxdr, Inval};
    let umask = [bit::MODE_UMASK];
    assert_eq!(read(&umask, &[0o1666, 0o7022], 2), Ok((0o1666, 0o022)));
    assert_eq!(read(&umask, &[0o10_666, 0], 2), Err(Inval));
    assert_eq!(read(&umask, &[0o666], 2), Err(Badxdr));
    assert_eq!(read(&umask, &[0o666, 0], 1), Err(Attrnotsupp));
    let both = [bit::MODE, bit::MODE_UMASK];
    assert_eq!(read(&both, &[0o666, 0o666, 0], 2), Err(Inval));
    for (flag, answer) in [
        (0, Ok((0, 0))),
        (2, Ok((0, 0))),
        (1, Err(Attrnotsupp)),
        (4, Err(Attrnotsupp)),
        (8, Err(Inval)),
    ] {
        assert_eq!(read(&[bit::DACL], &[flag, 0], 1), answer, "{flag}");
    }
    assert_eq!(read(&[bit::DACL], &[0, 0], 0), Err(Attrnotsupp));
    assert_eq!(
        read(&[bit::ACL, bit::DACL], &[0, 0, 0], 1),
        Err(Attrnotsupp)
    );
}
