//! ACCESS: what the caller may do with a file (RFC 8881 18.1, RFC 7530 16.1, RFC 8276 8.3).

use vfs::{FileKind, Rights};

use crate::cx::Reply;
use crate::nfs3::proc::access;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::status::Nfsstat4;

/// ACCESS4_* bits; the first six are those of version 3.
#[allow(missing_docs, reason = "RFC 8881 18.1 words")]
pub mod bits {
    pub const READ: u32 = 1;
    pub const LOOKUP: u32 = 2;
    pub const MODIFY: u32 = 4;
    pub const EXTEND: u32 = 8;
    pub const DELETE: u32 = 0x10;
    pub const EXECUTE: u32 = 0x20;
    pub const XAREAD: u32 = 0x40;
    pub const XAWRITE: u32 = 0x80;
    pub const XALIST: u32 = 0x100;
}

use bits::{DELETE, EXECUTE, EXTEND, LOOKUP, MODIFY, READ, XALIST, XAREAD, XAWRITE};

/// What a read-only export never grants.
const CHANGES: u32 = MODIFY | EXTEND | DELETE | XAWRITE;

pub(super) async fn run(c: &mut Compound<'_>, asked: u32, out: &mut Reply) -> Result<(), Nfsstat4> {
    let known = known(c.minor);
    let (supported, granted) = match c.place()? {
        Place::Pseudo(_) => (asked & known, READ | LOOKUP),
        Place::File(opened) => {
            let vfs = &c.cx.server.vfs;
            let (rights, attr) = vfs.access(&opened.cred, &opened.file).await?;
            let mut granted = granted(attr.kind, rights);
            if opened.options.read_only() {
                granted &= !CHANGES;
            }
            (asked & known & meaningful(attr.kind), granted)
        }
    };
    let mut enc = out.enc();
    enc.u32(supported)?;
    enc.u32(granted & supported)?;
    Ok(())
}

/// Bits of a minor version.
const fn known(minor: u32) -> u32 {
    match minor {
        0 | 1 => 0x3f,
        _ => 0x1ff,
    }
}

/// Bits that mean something for a kind of file.
const fn meaningful(kind: FileKind) -> u32 {
    match kind {
        FileKind::Directory => !EXECUTE,
        _ => !(LOOKUP | DELETE),
    }
}

/// The bits that rights on a file of a kind give: those of version 3, and of extended attributes.
fn granted(kind: FileKind, rights: Rights) -> u32 {
    let bit = |granted: bool, bits: u32| if granted { bits } else { 0 };
    let xattrs = bit(rights.read, XAREAD | XALIST) | bit(rights.write, XAWRITE);
    xattrs | access::granted(kind, rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_bits() {
        let rights = |read, write, execute| Rights {
            read,
            write,
            execute,
        };
        let dir = FileKind::Directory;
        assert_eq!(granted(dir, rights(false, true, false)), XAWRITE);
        let all = XAWRITE | LOOKUP | MODIFY | EXTEND | DELETE;
        assert_eq!(granted(dir, rights(false, true, true)), all);
        let file = FileKind::Regular;
        assert_eq!(
            granted(file, rights(true, false, true)),
            READ | EXECUTE | XAREAD | XALIST
        );
        assert_eq!(
            granted(file, rights(false, true, false)),
            MODIFY | EXTEND | XAWRITE
        );
        assert_eq!((known(0), known(1), known(2)), (0x3f, 0x3f, 0x1ff));
        assert_eq!(meaningful(dir) & EXECUTE, 0);
        assert_eq!(meaningful(file) & (LOOKUP | DELETE), 0);
    }
}
