//! Fuzzes the mapping of NFSv4 ACLs: nothing panics, what comes out is shown and taken back as it is, and repeating what
//! is shown changes nothing. Two bytes of the input choose kind and flags of an entry, two its mask, two whom it is about.
#![no_main]

use acl::map::{from_nfs4, replace, to_nfs4};
use acl::nfs4::{Ace, Flags, Mask, Type, Who};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let directory = first & 1 == 1;
    let (entries, _) = rest.as_chunks::<6>();
    let aces: Vec<Ace> = entries.iter().map(ace).collect();
    let Ok((access, default)) = from_nfs4(&aces, directory) else {
        return;
    };
    assert!(directory || default.is_none());
    let shown = to_nfs4(&access, default.as_ref(), directory);
    let again = from_nfs4(&shown, directory);
    assert_eq!(again.as_ref(), Ok(&(access.clone(), default.clone())));
    let kept = replace(&shown, directory, &access, default.as_ref());
    assert_eq!(kept, again);
});

fn ace(raw: &[u8; 6]) -> Ace {
    let [kind, flags, low, high, who, id] = raw.map(u32::from);
    Ace {
        kind: Type::from_wire(kind & 3).unwrap_or(Type::Allow),
        flags: Flags::from_wire(flags | (kind & 0x80) << 2),
        // Bits 16 to 20 are the upper half of the defined ones.
        mask: Mask::from_wire(low | (high & 7) << 8 | (high >> 3) << 16),
        who: match who % 5 {
            0 => Who::Owner,
            1 => Who::Group,
            2 => Who::Everyone,
            3 => Who::User(if id == 255 { u32::MAX } else { id }),
            _ => Who::NamedGroup(id),
        },
    }
}
