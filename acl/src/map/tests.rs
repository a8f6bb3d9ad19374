//! What the mapping promises, over random ACLs, lists and callers.

use super::*;
use crate::arbitrary::{any_acl, any_perm};
use crate::check::{Caller, Kind, Node, permits};
use crate::mode;
use proptest::prelude::*;

const OWNER: u32 = 1;
const GROUP: u32 = 2;
const RIGHTS: [Perm; 3] = [Perm::READ, Perm::WRITE, Perm::EXECUTE];

/// RFC 8881 6.2.1: entries in order, until each bit is allowed or one is denied.
fn allows(aces: &[Ace], who: &Caller<'_>, mut wanted: Mask) -> bool {
    for ace in aces.iter().filter(|ace| ace.effective()) {
        let meant = match ace.who {
            Who::Owner => who.uid == OWNER,
            Who::Group => who.in_group(GROUP),
            Who::Everyone => true,
            Who::User(uid) => who.uid == uid,
            Who::NamedGroup(gid) => who.in_group(gid),
        };
        match ace.kind {
            Type::Allow if meant => wanted = wanted & !ace.mask,
            Type::Deny if meant && wanted.meets(ace.mask) => return false,
            _ => {}
        }
        if wanted == Mask::NONE {
            return true;
        }
    }
    false
}

/// A file whose access ACL has been set to this one: its mode and what is left of the ACL.
fn file(acl: &Acl) -> (u32, Option<Acl>) {
    mode::set_access(0, acl.clone())
}

fn granted_by((mode, acl): &(u32, Option<Acl>), who: &Caller<'_>, want: Perm, dir: bool) -> bool {
    let node = Node {
        mode: *mode,
        uid: OWNER,
        gid: GROUP,
        acl: acl.as_ref(),
        kind: if dir { Kind::Directory } else { Kind::Regular },
    };
    permits(&node, who, want)
}

/// The kernel looks at the ACL.
fn in_force((mode, acl): &(u32, Option<Acl>)) -> bool {
    acl.is_none() || mode & 0o070 != 0
}

/// Any ACL in which no user and no group stands twice.
fn any_distinct() -> impl Strategy<Value = Acl> {
    any_acl().prop_map(|acl| {
        let mut seen = HashSet::new();
        let entries = acl.entries().iter().copied();
        Acl::new(entries.filter(|entry| seen.insert(entry.tag)).collect()).unwrap()
    })
}

/// The same list without what cannot be shown: effective rights, a mask no wider than they are, in order.
fn shown(acl: &Acl) -> Acl {
    let hidden = acl.mask().unwrap_or(Perm::ALL);
    let mut entries: Vec<Entry> = acl.entries().to_vec();
    entries.retain(|entry| entry.tag != Tag::Mask);
    let in_class = |tag| matches!(tag, Tag::User(_) | Tag::GroupObj | Tag::Group(_));
    let mut class = Perm::NONE;
    for entry in entries.iter_mut().filter(|entry| in_class(entry.tag)) {
        entry.perm = entry.perm & hidden;
        class = class | entry.perm;
    }
    if entries.len() > 3 {
        let other = entries.last().unwrap().perm;
        let perm = if class == Perm::NONE && other != Perm::NONE {
            Perm::READ
        } else {
            class
        };
        entries.push(Entry {
            tag: Tag::Mask,
            perm,
        });
    }
    Acl::sorted(entries).unwrap()
}

fn any_caller() -> impl Strategy<Value = (u32, u32, Vec<u32>)> {
    let groups =
        proptest::collection::btree_set(0u32..6, 0..4).prop_map(|set| set.into_iter().collect());
    // User 0 is above all ACLs.
    (1u32..6, 0u32..6, groups)
}

fn any_ace(directory: bool) -> impl Strategy<Value = Ace> {
    let who = prop_oneof![
        Just(Who::Owner),
        Just(Who::Group),
        Just(Who::Everyone),
        (1u32..6).prop_map(Who::User),
        (0u32..6).prop_map(Who::NamedGroup),
    ];
    // Bits nobody may be denied would make most lists invalid: now and then only.
    let mask = prop_oneof![
        9 => (0u32..0x80).prop_map(Mask::from_wire),
        1 => any::<u32>().prop_map(|bits| Mask::from_wire(bits) & Mask::DEFINED),
    ];
    let flags = if directory { 0u32..16 } else { 0..1 };
    (any::<bool>(), flags, mask, who).prop_map(|(allow, flags, mask, who)| Ace {
        kind: if allow { Type::Allow } else { Type::Deny },
        flags: Flags::from_wire(flags) & KNOWN,
        mask,
        who,
    })
}

fn any_list() -> impl Strategy<Value = (bool, Vec<Ace>)> {
    any::<bool>().prop_flat_map(|directory| {
        let list = proptest::collection::vec(any_ace(directory), 0..10);
        (Just(directory), list)
    })
}

fn acl(text: &[(Tag, u32)]) -> Acl {
    let entry = |&(tag, bits)| Entry {
        tag,
        perm: Perm::from_low_bits(bits),
    };
    Acl::new(text.iter().map(entry).collect()).unwrap()
}

/// A list as `nfs4_getfacl` prints it.
fn text(aces: &[Ace]) -> Vec<String> {
    let letters = |bits: u32, names: &str| -> String {
        let letter = |(bit, name): (usize, char)| (bits & 1 << bit != 0).then_some(name);
        names.chars().enumerate().filter_map(letter).collect()
    };
    let line = |ace: &Ace| {
        let kind = ["A", "D", "U", "L"][ace.kind.wire() as usize];
        let flags = letters(ace.flags.wire(), "fdniSFg");
        let who = match ace.who {
            Who::User(id) | Who::NamedGroup(id) => id.to_string(),
            special => special.special_name().unwrap().to_owned(),
        };
        let low = letters(ace.mask.wire() & 0xffff, "rwanNxDtT");
        let high = letters(ace.mask.wire() >> 16, "dcCoy");
        format!("{kind}:{flags}:{who}:{low}{high}")
    };
    aces.iter().map(line).collect()
}

#[test]
fn lists_look_as_the_linux_server_shows_them() {
    use Tag::*;
    let plain = to_nfs4(&mode::to_acl(0o640), None, false);
    assert_eq!(
        text(&plain),
        ["A::OWNER@:rwatTcCy", "A::GROUP@:rtcy", "A::EVERYONE@:tcy"]
    );
    // The group has more than the owner, others more than the group.
    let odd = to_nfs4(&mode::to_acl(0o057), None, false);
    assert_eq!(
        text(&odd),
        [
            "D::OWNER@:rwax",
            "A::OWNER@:tTcCy",
            "A::GROUP@:rxtcy",
            "D::GROUP@:wa",
            "A::EVERYONE@:rwaxtcy",
        ]
    );
    let named = acl(&[
        (UserObj, 6),
        (User(1000), 7),
        (GroupObj, 4),
        (Group(50), 2),
        (Mask, 6),
        (Other, 4),
    ]);
    assert_eq!(
        text(&to_nfs4(&named, None, false)),
        [
            "A::OWNER@:rwatTcCy",
            "A::1000:rwatcy",
            "A::GROUP@:rtcy",
            "A:g:50:watcy",
            "D:g:50:r",
            "A::EVERYONE@:rtcy",
        ]
    );
    let default = mode::to_acl(0o750);
    assert_eq!(
        text(&to_nfs4(&mode::to_acl(0o700), Some(&default), true)),
        [
            "A::OWNER@:rwaxDtTcCy",
            "A::GROUP@:tcy",
            "A::EVERYONE@:tcy",
            "A:fdi:OWNER@:rwaxDtTcCy",
            "A:fdi:GROUP@:rxtcy",
            "A:fdi:EVERYONE@:tcy",
        ]
    );
    assert_eq!(
        to_nfs4(&default, Some(&default), false),
        to_nfs4(&default, None, false),
        "only directories have a default ACL"
    );
}

#[test]
fn what_posix_cannot_say() {
    let ace = |kind, flags, mask| Ace {
        kind,
        flags: Flags::from_wire(flags),
        mask: Mask::from_wire(mask),
        who: Who::Everyone,
    };
    let one = |kind, flags, mask, directory| {
        from_nfs4(&[ace(Type::Allow, 0, 1), ace(kind, flags, mask)], directory).unwrap_err()
    };
    for (kind, flags, mask, directory, why) in [
        (Type::Audit, 0, 1, true, Unsupported::Type(1)),
        (Type::Alarm, 0x10, 1, true, Unsupported::Type(1)),
        (Type::Allow, 0x4, 1, true, Unsupported::Flags(1)),
        (Type::Allow, 0x80, 1, true, Unsupported::Flags(1)),
        (Type::Allow, 0x20, 1, false, Unsupported::Flags(1)),
        (Type::Allow, 0x100, 1, true, Unsupported::Undefined(1)),
        (Type::Allow, 0, 0x800, true, Unsupported::Undefined(1)),
        (Type::Allow, 0x1, 1, false, Unsupported::NoDirectory(1)),
        (Type::Deny, 0, 0x80, false, Unsupported::Deny),
        (Type::Deny, 0, 0x2_0000, false, Unsupported::Deny),
        (Type::Deny, 0, 0x100, false, Unsupported::Deny),
        (Type::Deny, 0x3, 0x80, true, Unsupported::Deny),
    ] {
        let found = one(kind, flags, mask, directory);
        assert_eq!(found, why);
        assert_eq!(found.is_invalid(), matches!(why, Unsupported::Undefined(_)));
    }
    let nobody = Ace {
        who: Who::User(u32::MAX),
        ..ace(Type::Allow, 0, 1)
    };
    let why = from_nfs4(&[nobody], false).unwrap_err();
    assert!(why == Unsupported::UndefinedId && why.is_invalid());
    let many = vec![ace(Type::Allow, 0, 1); MAX_ACES + 1];
    assert_eq!(from_nfs4(&many, false), Err(Unsupported::TooMany));
    let users: Vec<Ace> = (0..MAX_ACES as u32)
        .map(|uid| Ace {
            who: Who::User(uid),
            ..ace(Type::Deny, 0, 1)
        })
        .collect();
    assert_eq!(from_nfs4(&users, false), Err(Unsupported::TooMany));
}

#[test]
fn nothing_said_is_nothing_granted() {
    assert_eq!(from_nfs4(&[], true), Ok((mode::to_acl(0), None)));
}

/// The Linux server leaves the mask empty here, and the denied user gets what others get.
#[test]
fn a_user_denied_everything_is() {
    let mut aces = to_nfs4(&mode::to_acl(0o604), None, false);
    aces.insert(
        1,
        Ace {
            kind: Type::Deny,
            flags: Flags::NONE,
            mask: Mask::READ_DATA | WRITE | Mask::EXECUTE,
            who: Who::User(5),
        },
    );
    let (access, _) = from_nfs4(&aces, false).unwrap();
    assert_eq!(format!("{access:?}"), "u::rw-,u:5:---,g::---,m::r--,o::r--");
    let user = |uid| Caller {
        uid,
        gid: 9,
        groups: &[],
    };
    assert!(!granted_by(&file(&access), &user(5), Perm::READ, false));
    assert!(granted_by(&file(&access), &user(4), Perm::READ, false));
}

/// A long list takes time in proportion, whoever is denied what.
#[test]
fn long_lists() {
    let ace = |n: u32| Ace {
        kind: if n.is_multiple_of(2) {
            Type::Allow
        } else {
            Type::Deny
        },
        flags: Flags::NONE,
        mask: Mask::from_wire(n % 8),
        who: match n % 4 {
            0 | 1 => Who::NamedGroup(n / 8),
            _ => Who::User(n / 8),
        },
    };
    let aces: Vec<Ace> = (0..MAX_ACES as u32 / 2).map(ace).collect();
    let (access, default) = from_nfs4(&aces, true).unwrap();
    assert!(access.entries().len() > 4000 && default.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Right by right, the list decides as the kernel does by the ACL.
    #[test]
    fn a_list_decides_as_its_acl(acl in any_acl(), dir in any::<bool>(), (uid, gid, groups) in any_caller()) {
        let file = file(&acl);
        prop_assume!(in_force(&file));
        let aces = to_nfs4(&acl, None, dir);
        prop_assert!(aces.len() <= 2 * acl.entries().len());
        let who = Caller { uid, gid, groups: &groups };
        for right in RIGHTS {
            let by_list = allows(&aces, &who, rights(right, dir));
            prop_assert_eq!(by_list, granted_by(&file, &who, right, dir), "{:?} {:?}", acl, right);
        }
        prop_assert!(allows(&aces, &who, ANYBODYS));
        prop_assert!(uid != OWNER || allows(&aces, &who, OWNERS));
    }

    /// No list grants more as a POSIX ACL than it says.
    #[test]
    fn an_acl_grants_no_more_than_its_list((dir, aces) in any_list(), (uid, gid, groups) in any_caller()) {
        let Ok((access, default)) = from_nfs4(&aces, dir) else { return Ok(()) };
        let who = Caller { uid, gid, groups: &groups };
        for right in RIGHTS {
            if granted_by(&file(&access), &who, right, dir) {
                prop_assert!(allows(&aces, &who, rights(right, dir)), "{:?} {:?}", access, right);
            }
        }
        prop_assert_eq!(default.is_some(), aces.iter().any(Ace::inheritable));
        if let Some(default) = default {
            let inherited: Vec<Ace> = aces
                .iter()
                .filter(|ace| ace.inheritable())
                .map(|ace| Ace { flags: Flags::NONE, ..*ace })
                .collect();
            prop_assert_eq!(from_nfs4(&inherited, true), Ok((default, None)));
        }
    }

    /// There and back: the effective rights, exactly.
    #[test]
    fn there_and_back(access in any_distinct(), default in proptest::option::of(any_distinct()), dir in any::<bool>()) {
        let default = default.filter(|_| dir);
        let back = from_nfs4(&to_nfs4(&access, default.as_ref(), dir), dir);
        prop_assert_eq!(&back, &Ok((shown(&access), default.as_ref().map(shown))));
        let (access, default) = back.unwrap();
        let again = from_nfs4(&to_nfs4(&access, default.as_ref(), dir), dir);
        prop_assert_eq!(again, Ok((access, default)), "what can be shown stays as it is");
    }

    /// There and back, every decision is the same, also on rights wanted together.
    #[test]
    fn there_and_back_decides_the_same(acl in any_distinct(), (uid, gid, groups) in any_caller(), want in any_perm()) {
        let before = file(&acl);
        prop_assume!(in_force(&before));
        let (back, _) = from_nfs4(&to_nfs4(&acl, None, false), false).unwrap();
        let who = Caller { uid, gid, groups: &groups };
        prop_assert_eq!(
            granted_by(&before, &who, want, false),
            granted_by(&file(&back), &who, want, false),
            "{:?} {:?}", acl, back
        );
    }

    /// Setting what was got changes nothing.
    #[test]
    fn repeating_a_list_keeps_everything(access in any_acl(), default in proptest::option::of(any_acl()), dir in any::<bool>()) {
        let default = default.filter(|_| dir);
        let aces = to_nfs4(&access, default.as_ref(), dir);
        let kept = replace(&aces, dir, &access, default.as_ref());
        prop_assert_eq!(kept, Ok((access, default)));
    }

    /// Anything else is set as if nothing had been there.
    #[test]
    fn another_list_is_set((dir, aces) in any_list(), access in any_acl()) {
        let shown = to_nfs4(&access, None, dir);
        prop_assume!(!aces.iter().filter(|ace| !ace.inheritable()).eq(shown.iter()));
        prop_assert_eq!(replace(&aces, dir, &access, None), from_nfs4(&aces, dir));
    }
}
