//! Fuzzes the decoder of ACL attributes: what decodes is a valid ACL, and encodes to the bytes it came from but for the
//! ids nobody reads. The rules that take it then hold their promises.
#![no_main]

use acl::{Tag, inherit, mode, xattr};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(acl) = xattr::decode(data) else { return };
    let again = xattr::encode(&acl);
    assert_eq!(again.len(), data.len());
    assert_eq!(xattr::decode(&again).as_ref(), Ok(&acl));
    let named = |entry: &acl::Entry| matches!(entry.tag, Tag::User(_) | Tag::Group(_));
    for (n, entry) in acl.entries().iter().enumerate() {
        let (from, to) = (4 + 8 * n, 4 + 8 * n + if named(entry) { 8 } else { 4 });
        assert_eq!(again[from..to], data[from..to]);
    }
    let bits = u32::from(data[0]) << 3 & 0o777;
    assert_eq!(mode::bits(&mode::chmod(&acl, bits)), bits);
    let created = inherit::create(bits, 0, Some(&acl), acl::Kind::Regular);
    assert_eq!(created.mode & !bits, 0);
});
