//! Random ACLs for the property tests of this crate. Ids come from a small range so that they meet.

use crate::posix::{Acl, Entry, Perm, Tag};
use proptest::prelude::*;

/// Any set of rights.
pub fn any_perm() -> impl Strategy<Value = Perm> {
    (0u32..8).prop_map(Perm::from_low_bits)
}

/// Any entry, valid in its place or not.
pub fn any_entry() -> impl Strategy<Value = Entry> {
    let tag = prop_oneof![
        Just(Tag::UserObj),
        (0u32..6).prop_map(Tag::User),
        Just(Tag::GroupObj),
        (0u32..6).prop_map(Tag::Group),
        Just(Tag::Mask),
        Just(Tag::Other),
    ];
    (tag, any_perm()).prop_map(|(tag, perm)| Entry { tag, perm })
}

/// Any valid ACL with up to four users and four groups, ids in any order and possibly twice.
pub fn any_acl() -> impl Strategy<Value = Acl> {
    let named = || proptest::collection::vec((0u32..6, any_perm()), 0..5);
    (
        any_perm(),
        named(),
        any_perm(),
        named(),
        proptest::option::of(any_perm()),
        any_perm(),
    )
        .prop_map(|(user_obj, users, group_obj, groups, mask, other)| {
            let mask = mask.or((!users.is_empty() || !groups.is_empty()).then_some(Perm::ALL));
            let mut entries = vec![Entry {
                tag: Tag::UserObj,
                perm: user_obj,
            }];
            entries.extend(users.into_iter().map(|(uid, perm)| Entry {
                tag: Tag::User(uid),
                perm,
            }));
            entries.push(Entry {
                tag: Tag::GroupObj,
                perm: group_obj,
            });
            entries.extend(groups.into_iter().map(|(gid, perm)| Entry {
                tag: Tag::Group(gid),
                perm,
            }));
            entries.extend(mask.map(|perm| Entry {
                tag: Tag::Mask,
                perm,
            }));
            entries.push(Entry {
                tag: Tag::Other,
                perm: other,
            });
            Acl::new(entries).expect("built in order")
        })
}
