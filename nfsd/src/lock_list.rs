//! What `ringnfs locks` prints: every range locked or waited for and every share of NLM, by file, with
//! who holds it under which protocol and for how long; and what processes of the host have locked of those
//! files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use vfs::exec;
use vfs::locks::{FileLocks, Held, LockKind};

use crate::nlm::state::What;
use crate::server::Shared;

/// One line.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Exports of the file's file system.
    exports: Vec<String>,
    /// Its inode number, where its handle has one.
    inode: Option<u64>,
    /// Its kernel handle, in hexadecimal digits.
    handle: String,
    /// `lock`, `wait` or `share`.
    what: &'static str,
    /// `read` or `write`; of a share, what it is for.
    kind: String,
    /// What a share denies.
    deny: Option<String>,
    /// First byte.
    offset: u64,
    /// Last byte; none: up to the end.
    last: Option<u64>,
    /// `nlm`, `4.0`, `4.1`; `host` for a process here.
    protocol: String,
    /// Address of the client.
    address: String,
    /// What the client calls itself.
    client: String,
    /// The owner, as its client names it; the number of a process here, where the kernel says it.
    owner: String,
    /// How long; not known of a process here: the kernel does not say it.
    seconds: Option<u64>,
}

/// A file, as it is shown.
struct Shown {
    exports: Vec<String>,
    inode: Option<u64>,
    handle: String,
}

/// Inode number in a kernel handle (`name_to_handle_at(2)`): ext4's, XFS's and others' have it.
fn inode(kind: i32, bytes: &[u8]) -> Option<u64> {
    let four = || {
        bytes
            .first_chunk()
            .map(|b| u64::from(u32::from_ne_bytes(*b)))
    };
    let eight = || bytes.first_chunk().map(|b| u64::from_ne_bytes(*b));
    match kind {
        1 | 2 => four(),
        0x81 | 0x82 | 0x4d | 0x4e | 0x4f => eight(),
        _ => None,
    }
}

fn shown(server: &Shared, file: &FileLocks) -> Shown {
    let Some((fsid, kind, bytes)) = file.place() else {
        return Shown {
            exports: Vec::new(),
            inode: None,
            handle: String::new(),
        };
    };
    let exported = server.exported.load();
    let here = |id: &u32| exported.roots.get(id).is_some_and(|r| r.mount.fsid == fsid);
    let exports = exported.table.exports().iter().filter(|e| here(&e.id));
    let mut handle = format!("{kind:x}:");
    for byte in bytes {
        let _ = write!(handle, "{byte:02x}");
    }
    Shown {
        exports: exports.map(|e| e.path.display().to_string()).collect(),
        inode: inode(kind, bytes),
        handle,
    }
}

fn kind(kind: LockKind) -> String {
    match kind {
        LockKind::Read => "read".to_owned(),
        LockKind::Write => "write".to_owned(),
    }
}

fn sides(bits: u8) -> String {
    ["none", "read", "write", "both"][usize::from(bits & 3)].to_owned()
}

struct Listing<'s> {
    server: &'s Shared,
    now: Instant,
    entries: Vec<Entry>,
}

impl Listing<'_> {
    fn entry(&self, file: &FileLocks, since: Option<Instant>) -> Entry {
        let file = shown(self.server, file);
        let age = since.map(|since| self.now.saturating_duration_since(since));
        Entry {
            exports: file.exports,
            inode: file.inode,
            handle: file.handle,
            what: "share",
            kind: String::new(),
            deny: None,
            offset: 0,
            last: None,
            protocol: String::new(),
            address: String::new(),
            client: String::new(),
            owner: String::new(),
            seconds: age.map(|age| age.as_secs()),
        }
    }

    fn range(
        &self,
        file: &Arc<FileLocks>,
        since: Option<Instant>,
        held: Held,
        waits: bool,
    ) -> Entry {
        let last = held.range.last();
        Entry {
            what: if waits { "wait" } else { "lock" },
            kind: kind(held.kind),
            offset: held.range.offset(),
            last: (last != u64::MAX).then_some(last),
            ..self.entry(file, since)
        }
    }

    fn nlm(&mut self) {
        for host in self.server.nlm.all() {
            for line in host.lines() {
                let since = Some(line.since);
                let what = match line.what {
                    What::Lock(held) => self.range(&line.file, since, held, false),
                    What::Wait(held) => self.range(&line.file, since, held, true),
                    What::Share(access, deny) => Entry {
                        kind: sides(access.bits()),
                        deny: Some(sides(deny.bits())),
                        ..self.entry(&line.file, since)
                    },
                };
                let (svid, oh) = (line.owner.svid, line.owner.oh.escape_ascii());
                self.entries.push(Entry {
                    protocol: "nlm".to_owned(),
                    address: host.key.ip.to_string(),
                    client: host.key.name.escape_ascii().to_string(),
                    owner: format!("{svid} {oh}"),
                    ..what
                });
            }
        }
    }

    fn nfs4(&mut self) {
        for client in self.server.state.clients() {
            let lines = client.lock().holdings.lock_lines();
            for line in lines {
                let what = self.range(&line.file, line.since, line.held, line.waits);
                self.entries.push(Entry {
                    protocol: format!("4.{}", client.minor),
                    address: client.address.to_string(),
                    client: client.owner.escape_ascii().to_string(),
                    owner: line.owner.escape_ascii().to_string(),
                    ..what
                });
            }
        }
    }
}

impl Listing<'_> {
    fn host(&mut self) {
        for file in self.server.vfs.table.locks.mirrored() {
            for (held, pid) in file.host_locks() {
                let what = self.range(&file, None, held, false);
                self.entries.push(Entry {
                    protocol: "host".to_owned(),
                    owner: if pid == 0 {
                        String::new()
                    } else {
                        pid.to_string()
                    },
                    ..what
                });
            }
        }
    }
}

fn list(server: &Shared) -> Vec<Entry> {
    let mut listing = Listing {
        server,
        now: exec::now(),
        entries: Vec::new(),
    };
    listing.nlm();
    listing.nfs4();
    listing.host();
    listing.entries.sort();
    listing.entries
}

fn render(entries: &[Entry]) -> String {
    let mut files: BTreeMap<(&[String], &str), Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        let file = (&entry.exports[..], &*entry.handle);
        files.entry(file).or_default().push(entry);
    }
    let mut out = String::new();
    for ((exports, handle), held) in files {
        let inode = held.first().and_then(|entry| entry.inode);
        let inode = inode.map_or(String::new(), |inode| format!(" inode {inode}"));
        let _ = writeln!(out, "{}{inode} handle {handle}", exports.join(" "));
        for e in held {
            let place = match (e.what, e.last) {
                ("share", _) => format!("denies {}", e.deny.as_deref().unwrap_or_default()),
                (_, None) => format!("{} to the end", e.offset),
                (_, Some(last)) => format!("{} to {last}", e.offset),
            };
            let age = e.seconds.map_or("-".to_owned(), |age| format!("{age} s"));
            let _ = writeln!(
                out,
                "  {} {} {place}, {} {} \"{}\" owner \"{}\", {age}",
                e.what, e.kind, e.protocol, e.address, e.client, e.owner
            );
        }
    }
    out
}

/// A line for each file, and below it one for each that holds something.
pub fn text(server: &Shared) -> String {
    render(&list(server))
}

/// One JSON array.
pub fn json(server: &Shared) -> String {
    let mut text = serde_json::to_string_pretty(&list(server)).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_of_handles() {
        let ext4 = [0x12, 0x34, 0, 0, 9, 9, 9, 9];
        assert_eq!(
            inode(1, &ext4),
            Some(u64::from(u32::from_ne_bytes([0x12, 0x34, 0, 0])))
        );
        assert_eq!(inode(0x81, &7_u64.to_ne_bytes()), Some(7));
        assert_eq!((inode(1, b"x"), inode(0xfe, &ext4)), (None, None));
    }

    #[test]
    fn lines_are_grouped_by_file() {
        let entry = |handle: &str, what, last| Entry {
            exports: vec!["/srv".to_owned()],
            inode: Some(5),
            handle: handle.to_owned(),
            what,
            kind: "write".to_owned(),
            deny: (what == "share").then(|| "read".to_owned()),
            offset: 3,
            last,
            protocol: "nlm".to_owned(),
            address: "10.0.0.1".to_owned(),
            client: "host".to_owned(),
            owner: "7 x".to_owned(),
            seconds: (what != "wait").then_some(2),
        };
        let all = [
            entry("1:aa", "lock", Some(9)),
            entry("1:bb", "share", None),
            entry("1:aa", "wait", None),
        ];
        assert_eq!(
            render(&all),
            "/srv inode 5 handle 1:aa\n  \
             lock write 3 to 9, nlm 10.0.0.1 \"host\" owner \"7 x\", 2 s\n  \
             wait write 3 to the end, nlm 10.0.0.1 \"host\" owner \"7 x\", -\n\
             /srv inode 5 handle 1:bb\n  \
             share write denies read, nlm 10.0.0.1 \"host\" owner \"7 x\", 2 s\n"
        );
    }
}
