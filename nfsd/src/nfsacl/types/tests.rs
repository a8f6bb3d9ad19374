//! Lists as they are on the wire, and what they mean.

use super::*;
use acl::mode;
use proptest::prelude::*;
use vfs::{AclChange, FileKind, Time, Which};

fn attr() -> Attr {
    let time = Time { sec: 1, nsec: 2 };
    Attr {
        kind: FileKind::Regular,
        mode: 0o640,
        nlink: 1,
        uid: 1000,
        gid: 100,
        size: 0,
        used: 0,
        rdev: (0, 0),
        dev: (8, 1),
        fileid: 7,
        atime: time,
        mtime: time,
        ctime: time,
        blksize: 4096,
        btime: None,
        mount_root: false,
        change: 1,
    }
}

fn ent(kind: u32, id: u32, perm: u32) -> Aclent {
    Aclent { kind, id, perm }
}

fn list(entries: &[Aclent]) -> AclList {
    AclList {
        count: entries.len() as u32,
        entries: entries.to_vec(),
    }
}

#[test]
fn a_mode_is_four_entries() {
    let minimal = mode::to_acl(0o640);
    let shown = AclList::of(&minimal, &attr(), Which::Access, true);
    let expected = list(&[
        ent(1, 1000, 6),
        ent(4, 100, 4),
        ent(0x10, 0, 4),
        ent(0x20, 0, 0),
    ]);
    assert_eq!(shown, expected);
    assert_eq!(shown.change(true), Ok(AclChange::Set(minimal.clone())));
    assert_eq!(shown.change(false), Ok(AclChange::NotSent));
    let counted = AclList::of(&minimal, &attr(), Which::Access, false);
    assert_eq!((counted.count, counted.entries.len()), (4, 0));
    assert_eq!(counted.change(true), Err(Nfsstat3::Inval));
    let default = AclList::of(&minimal, &attr(), Which::Default, true);
    assert!(default.entries.iter().all(|e| e.kind & NA_DEFAULT != 0));
    assert_eq!(default.change(true), Ok(AclChange::Set(minimal)));
    assert_eq!(AclList::default().change(true), Ok(AclChange::Remove));
}

#[test]
fn lists_of_other_clients() {
    let text = |list: AclList| match list.change(true) {
        Ok(AclChange::Set(acl)) => format!("{acl:?}"),
        other => format!("{other:?}"),
    };
    // Three entries, in any order.
    let three = list(&[ent(0x20, 0, 1), ent(4, 9, 2), ent(1, 9, 7)]);
    assert_eq!(text(three), "u::rwx,g::-w-,o::--x");
    // A mask that differs stays; more bits in it mean nothing.
    let four = list(&[
        ent(1, 0, 7),
        ent(4, 0, 7),
        ent(0x10, 0, 0x1fc),
        ent(0x20, 0, 0),
    ]);
    assert_eq!(text(four), "u::rwx,g::rwx,m::r--,o::---");
    let named = list(&[
        ent(0x20, 0, 0),
        ent(8, 50, 4),
        ent(2, 70, 6),
        ent(0x10, 0, 6),
        ent(4, 0, 6),
        ent(2, 7, 5),
        ent(1, 0, 7),
    ]);
    assert_eq!(
        text(named),
        "u::rwx,u:7:r-x,u:70:rw-,g::rw-,g:50:r--,m::rw-,o::---"
    );
}

#[test]
fn what_is_no_acl() {
    let good = [ent(1, 0, 7), ent(4, 0, 5), ent(0x10, 0, 7), ent(0x20, 0, 0)];
    let with = |at: usize, bad: Aclent| {
        let mut entries = good;
        entries[at] = bad;
        list(&entries).change(true)
    };
    for (at, bad) in [
        (0, ent(3, 0, 7)),
        (0, ent(0, 0, 7)),
        (0, ent(0x2001, 0, 7)),
        (0, ent(4, 0, 7)),
        (1, ent(4, 0, 8)),
        (2, ent(0x20, 0, 0)),
        (2, ent(2, 5, 4)),
        (3, ent(0x10, 0, 7)),
    ] {
        assert_eq!(with(at, bad), Err(Nfsstat3::Inval), "{bad:?}");
    }
    let mut nobody = good.to_vec();
    nobody.push(ent(2, u32::MAX, 4));
    assert_eq!(list(&nobody).change(true), Err(Nfsstat3::Inval));
    let miscounted = AclList {
        count: 5,
        entries: good.to_vec(),
    };
    assert_eq!(miscounted.change(true), Err(Nfsstat3::Inval));
}

#[test]
fn lists_are_bounded_before_anything_is_kept() {
    let decode = |words: &[u32]| {
        let raw: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        Dec::new(&raw)
            .get::<AclList>()
            .map(|list| list.entries.len())
    };
    let max = MAX_ENTRIES as u32;
    assert_eq!(decode(&[0, 0]), Ok(0));
    assert_eq!(decode(&[max, 0]), Ok(0));
    assert_eq!(decode(&[max + 1, 0]), Err(XdrError::TooLong));
    assert_eq!(decode(&[0, max + 1]), Err(XdrError::TooLong));
    assert_eq!(decode(&[u32::MAX, u32::MAX]), Err(XdrError::TooLong));
    assert_eq!(decode(&[1, max]), Err(XdrError::Short));
    assert_eq!(decode(&[1, 1, 1, 2]), Err(XdrError::Short));
    assert_eq!(decode(&[1, 1, 1, 2, 3]), Ok(1));
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let perm = || (0u32..8).prop_map(Perm::from_low_bits);
    let named = || proptest::collection::btree_map(0u32..9, perm(), 0..5);
    let base = (perm(), perm(), perm(), proptest::option::of(perm()));
    (base, named(), named()).prop_map(|((owner, group, other, mask), users, groups)| {
        let entry = |tag, perm| Entry { tag, perm };
        let named = !users.is_empty() || !groups.is_empty();
        let mut entries = vec![
            entry(Tag::UserObj, owner),
            entry(Tag::GroupObj, group),
            entry(Tag::Other, other),
        ];
        entries.extend(
            users
                .into_iter()
                .map(|(id, perm)| entry(Tag::User(id), perm)),
        );
        entries.extend(
            groups
                .into_iter()
                .map(|(id, perm)| entry(Tag::Group(id), perm)),
        );
        // A mask alone that says what the group says cannot be told from none.
        let mask = mask.filter(|mask| named || *mask != group);
        let mask = mask.or(named.then_some(Perm::ALL));
        entries.extend(mask.map(|perm| entry(Tag::Mask, perm)));
        Acl::sorted(entries).unwrap()
    })
}

proptest! {
    /// Every ACL survives the wire, in any order.
    #[test]
    fn there_and_back(acl in any_acl(), default in any::<bool>(), turn in 0usize..20) {
        let which = if default { Which::Default } else { Which::Access };
        let mut shown = AclList::of(&acl, &attr(), which, true);
        let mut raw = Vec::new();
        Enc::new(&mut raw, usize::MAX).put(&shown).unwrap();
        let again = Dec::new(&raw).get::<AclList>();
        prop_assert_eq!(again.as_ref(), Ok(&shown));
        prop_assert!(shown.count >= 4);
        let len = shown.entries.len();
        shown.entries.rotate_left(turn % len);
        prop_assert_eq!(shown.change(true), Ok(AclChange::Set(acl)));
    }
}
