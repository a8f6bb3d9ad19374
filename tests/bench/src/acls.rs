//! What ACLs cost (`--acls`): one server, one user, and three states of the files: owned by the user, so that the mode
//! decides and ACLs are not looked at; owned by another, without ACLs; the same with 32 entries on each. The three take
//! turns in every repeat; what differs is the server's CPU time for a call.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid, XattrFlags};

use crate::report::Report;
use crate::rows::FILES;
use crate::work::file_name;

/// Rows that are compared.
pub const ROWS: [&str; 4] = ["getattr", "access", "read-4k", "v4-getattr"];
/// Ids of the servers, from no look at ACLs to many entries.
pub const SERVERS: [&str; 3] = ["owner", "acl-0", "acl-32"];
/// Repeats if the command line names no number.
pub const REPEAT: usize = 5;
/// Who calls: user and group.
pub const CALLER: u32 = 1001;
/// Most microseconds of CPU a call may cost more with 32 entries than with none.
const MOST: f64 = 1.0;

/// The files to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The caller's own.
    Owned,
    /// Another's, with a mode alone.
    Plain,
    /// With an access ACL of 32 entries, of which the last but two lets the caller in.
    Entries32,
}

/// `system.posix_acl_access` (`acl(5)`): a version, then tag, permissions and id of each entry, all little-endian.
fn entries_32() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let users = (0..14).map(|i| (0x02, 4, 3000 + i));
    // The caller is a member of the last group.
    let groups = (0..13)
        .map(|i| (0x08, 4, 500 + i))
        .chain([(0x08, 6, CALLER)]);
    let entries = [(0x01, 6, NOBODY)].into_iter().chain(users);
    let entries = entries.chain([(0x04, 4, NOBODY)]).chain(groups);
    let entries = entries.chain([(0x10, 6, NOBODY), (0x20, 0, NOBODY)]);
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(perm));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

/// Gives the files to read their owner, modes and ACLs.
///
/// # Errors
/// Of chown(2), chmod(2) and setxattr(2).
pub fn prepare(export: &Path, files: Files) -> io::Result<()> {
    for i in 0..FILES {
        let path = export.join("read").join(file_name(i));
        let owner = if files == Files::Owned { CALLER } else { 0 };
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(0));
        rustix::fs::chown(&path, Some(uid), Some(gid))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o666))?;
        if files == Files::Entries32 {
            let name = "system.posix_acl_access";
            rustix::fs::setxattr(&path, name, &entries_32(), XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// The differences, and whether they are what they may be.
pub fn costs(report: &Report) -> String {
    let mut text = String::new();
    for row in ROWS {
        let cpu = SERVERS.map(|server| report.cpu(row, server));
        let [Some(without), Some(plain), Some(many)] = cpu else {
            continue;
        };
        let said = if many - plain < MOST {
            "reached"
        } else {
            "MISSED"
        };
        let _ = writeln!(
            text,
            "{said:<8} {row:<14} CPU/op by the mode {without:.2} us, no ACL {:+.2} us, 32 entries {:+.2} us more, to be < {MOST} us",
            plain - without,
            many - plain,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_entries_in_order() {
        let bytes = entries_32();
        assert_eq!(bytes.len(), 4 + 32 * 8);
        let keys = bytes[4..]
            .chunks(8)
            .map(|e| (e[0], u32::from_le_bytes([e[4], e[5], e[6], e[7]])));
        assert!(keys.is_sorted());
    }
}
