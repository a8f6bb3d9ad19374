//! What one connection asks: prepared calls, patched and queued per slot, and the check of each reply.

use crate::outq::OutQueue;
use crate::rows::{FILE_SIZE, FILES, Kind, LISTED, Row};
use crate::rpc::{Call, NFS, Reply, XID_AT, nfs_proc};
use crate::session::Handle;

/// Bytes at the start of every 4 KiB block of a read file: file number, then offset, as 64-bit words.
pub const STAMP: u64 = 4096;
/// Every byte of a WRITE.
pub const WRITTEN: u8 = 0x5a;
const DIRCOUNT: u32 = 16 << 10;
const MAXCOUNT: u32 = 64 << 10;
/// Bytes of a reply that are looked at when it carries data.
const DATA_HEAD: usize = 512;
/// One READDIRPLUS reply in this many is parsed entry by entry, the others are held to its length and eof.
const PARSE_ONE_IN: u32 = 64;

/// Handles of everything the rows work on.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Files to read.
    pub read: Vec<Handle>,
    /// Files to write.
    pub write: Vec<Handle>,
    /// The directory of `read`.
    pub read_dir: Handle,
    /// The directory that is listed.
    pub listed: Handle,
    /// Directories for CREATE, one for each connection.
    pub own_dirs: Vec<Handle>,
    /// Directory for CREATE from all connections.
    pub shared_dir: Handle,
    /// Path of the exported directory below the NFSv4 pseudo root; None for a server that has no version 4.
    pub root4: Option<Vec<String>>,
    /// Replies are real: contents are checked too, not only the RPC and NFS status.
    pub real: bool,
}

/// What one connection does, whatever the protocol version.
pub trait Work: std::fmt::Debug + Send {
    /// Bytes of a reply's start that [`Work::check`] needs.
    fn head(&self) -> usize;
    /// Bytes a reply has at least, over all its fragments.
    fn least(&self) -> usize;
    /// Queues the slot's next call.
    fn ask(&mut self, slot: usize, xid: u32, out: &mut OutQueue);
    /// Whether the slot must ask once more although time is up: something made is still there.
    fn unfinished(&self, slot: usize) -> bool;
    /// Checks the results of the slot's reply; `record` is the length of the whole reply, of which `reply` may be
    /// the start. What is wrong comes back as text.
    fn check(&mut self, slot: usize, reply: Reply<'_>, record: usize) -> Result<(), String>;
}

/// Name of the `i`th file of a directory.
pub fn file_name(i: usize) -> String {
    format!("file-{i:02}")
}

/// What a slot waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    file: usize,
    offset: u64,
    /// A CREATE was answered, its REMOVE comes next.
    created: bool,
    serial: u32,
}

/// The work of one connection.
#[derive(Debug)]
pub struct Job {
    row: Row,
    real: bool,
    calls: Vec<Call>,
    removes: Vec<Call>,
    handles: Vec<Handle>,
    asked: Vec<Asked>,
    random: u64,
    listing: Option<usize>,
    replies: u32,
}

impl Job {
    /// The work of connection number `conn` on `row`.
    pub fn new(row: Row, targets: &Targets, conn: usize) -> Job {
        let mut job = Job {
            row,
            real: targets.real,
            calls: Vec::new(),
            removes: Vec::new(),
            handles: targets.read.clone(),
            asked: vec![Asked::default(); row.depth],
            random: 0x9e37_79b9_7f4a_7c15 ^ (conn as u64 + 1) << 17,
            listing: None,
            replies: 0,
        };
        let nfs = |proc| Call::new(NFS, proc);
        match row.kind {
            Kind::Null => job.calls.push(nfs(nfs_proc::NULL)),
            Kind::Getattr => job.calls.extend(
                targets
                    .read
                    .iter()
                    .map(|f| nfs(nfs_proc::GETATTR).opaque(f)),
            ),
            Kind::Lookup => job.calls.extend((0..FILES).map(|i| {
                nfs(nfs_proc::LOOKUP)
                    .opaque(&targets.read_dir)
                    .opaque(file_name(i).as_bytes())
            })),
            // ACCESS3_READ, MODIFY and EXTEND.
            Kind::Access => job.calls.extend(
                targets
                    .read
                    .iter()
                    .map(|f| nfs(nfs_proc::ACCESS).opaque(f).u32(0x0d)),
            ),
            Kind::Read => {
                job.calls.extend(
                    targets
                        .read
                        .iter()
                        .map(|f| nfs(nfs_proc::READ).opaque(f).u64(0).u32(row.size)),
                );
            }
            Kind::Write(stable) => job.calls.extend(targets.write.iter().map(|f| {
                nfs(nfs_proc::WRITE)
                    .opaque(f)
                    .u64(0)
                    .u32(row.size)
                    .u32(stable)
                    .payload(row.size as usize)
            })),
            Kind::CreateRemove { shared } => {
                let dir = if shared {
                    &targets.shared_dir
                } else {
                    &targets.own_dirs[conn % targets.own_dirs.len()]
                };
                for slot in 0..row.depth {
                    let name = format!("c{conn:02}s{slot:03}-00000000");
                    // UNCHECKED, mode 0644, everything else left to the server.
                    let create = nfs(nfs_proc::CREATE)
                        .opaque(dir)
                        .opaque(name.as_bytes())
                        .u32(0)
                        .u32(1)
                        .u32(0o644);
                    job.calls.push(create.u32(0).u32(0).u32(0).u32(0).u32(0));
                    job.removes
                        .push(nfs(nfs_proc::REMOVE).opaque(dir).opaque(name.as_bytes()));
                }
            }
            // Those connections have their own work, see v4.rs.
            Kind::V4(..) => {}
            Kind::Readdirplus => {
                let call = nfs(nfs_proc::READDIRPLUS)
                    .opaque(&targets.listed)
                    .u64(0)
                    .u64(0);
                job.calls.push(call.u32(DIRCOUNT).u32(MAXCOUNT));
            }
        }
        job
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn contents(&mut self, slot: usize, mut reply: Reply<'_>, record: usize) -> Option<bool> {
        let Asked { file, offset, .. } = self.asked[slot];
        match self.row.kind {
            Kind::Null | Kind::CreateRemove { .. } | Kind::V4(..) => Some(true),
            Kind::Getattr => {
                let regular = reply.u32()? == 1;
                reply.skip(16)?;
                Some(regular && reply.u64()? == FILE_SIZE)
            }
            Kind::Lookup => Some(reply.opaque(64)? == self.handles[file].as_slice()),
            Kind::Access => {
                reply.post_op_attr()?;
                Some(reply.u32()? == 0x0d)
            }
            Kind::Read => {
                reply.post_op_attr()?;
                let (count, _eof, len) = (reply.u32()?, reply.u32()?, reply.u32()?);
                let stamped = reply.u64()? == file as u64 && reply.u64()? == offset;
                Some(count == self.row.size && len == count && stamped)
            }
            Kind::Write(stable) => {
                reply.wcc_data()?;
                Some(reply.u32()? == self.row.size && reply.u32()? >= stable)
            }
            Kind::Readdirplus if reply.left() < record.saturating_sub(64) => Some(false),
            Kind::Readdirplus => self.listing(reply, record),
        }
    }

    fn listing(&mut self, mut reply: Reply<'_>, record: usize) -> Option<bool> {
        if let Some(len) = self.listing
            && !self.replies.is_multiple_of(PARSE_ONE_IN)
        {
            reply.skip(reply.left().checked_sub(4)?)?;
            return Some(record == len && reply.u32()? == 1);
        }
        self.listing = Some(record);
        reply.post_op_attr()?;
        reply.skip(8)?;
        let mut entries = 0;
        while reply.u32()? == 1 {
            reply.u64()?;
            reply.opaque(255)?;
            reply.u64()?;
            reply.post_op_attr()?;
            if reply.u32()? == 1 {
                reply.opaque(64)?;
            }
            entries += 1;
        }
        // Some servers leave out `.` and `..`, which RFC 1813 allows.
        Some(reply.u32()? == 1 && (entries == LISTED || entries == LISTED + 2))
    }
}

impl Work for Job {
    fn head(&self) -> usize {
        if self.row.kind == Kind::Readdirplus {
            2 * MAXCOUNT as usize
        } else {
            DATA_HEAD
        }
    }

    fn least(&self) -> usize {
        if self.row.kind == Kind::Read {
            self.row.size as usize
        } else {
            24
        }
    }

    fn ask(&mut self, slot: usize, xid: u32, out: &mut OutQueue) {
        let file = if self.calls.len() > 1 {
            self.random(self.calls.len() as u64) as usize
        } else {
            0
        };
        let xid = xid.to_be_bytes();
        if let Kind::CreateRemove { .. } = self.row.kind {
            let asked = &mut self.asked[slot];
            let (call, tail) = if asked.created {
                (&self.removes[slot], 0)
            } else {
                (&self.calls[slot], CREATE_TAIL)
            };
            let bytes = out.push(call.bytes(), 0);
            bytes[XID_AT..XID_AT + 4].copy_from_slice(&xid);
            let end = bytes.len() - tail;
            // The name is 16 bytes, its last 8 the serial in hexadecimal.
            hex(asked.serial, &mut bytes[end - 8..end]);
            return;
        }
        let offset = match self.row.kind {
            Kind::Read | Kind::Write(_) => {
                self.random(FILE_SIZE / u64::from(self.row.size)) * u64::from(self.row.size)
            }
            _ => 0,
        };
        self.asked[slot] = Asked {
            file,
            offset,
            ..Asked::default()
        };
        let call = &self.calls[file];
        let bytes = out.push(call.bytes(), call.payload_len());
        bytes[XID_AT..XID_AT + 4].copy_from_slice(&xid);
        // Words behind the offset: count in a READ; count, stable_how and data length in a WRITE.
        let behind = match self.row.kind {
            Kind::Read => 4,
            Kind::Write(_) => 12,
            _ => return,
        };
        let end = bytes.len() - behind;
        bytes[end - 8..end].copy_from_slice(&offset.to_be_bytes());
    }

    fn unfinished(&self, slot: usize) -> bool {
        self.asked[slot].created
    }

    fn check(&mut self, slot: usize, mut reply: Reply<'_>, record: usize) -> Result<(), String> {
        self.replies = self.replies.wrapping_add(1);
        if self.row.kind == Kind::Null {
            return Ok(());
        }
        let removing = self.asked[slot].created;
        let status = reply.u32().ok_or("reply cut short")?;
        if let Kind::CreateRemove { .. } = self.row.kind {
            let asked = &mut self.asked[slot];
            asked.created = !asked.created && status == 0;
            asked.serial = asked.serial.wrapping_add(u32::from(!asked.created));
        }
        if status != 0 {
            let what = if removing {
                "REMOVE".into()
            } else {
                format!("{:?}", self.row.kind)
            };
            return Err(format!("{what}: NFS status {status}"));
        }
        if !self.real {
            return Ok(());
        }
        match self.contents(slot, reply, record) {
            Some(true) => Ok(()),
            Some(false) => Err(format!("{:?}: wrong contents", self.row.kind)),
            None => Err(format!("{:?}: reply cut short", self.row.kind)),
        }
    }
}

/// Bytes behind the name in a CREATE: createmode3 and sattr3 with a mode.
const CREATE_TAIL: usize = 8 * 4;

fn hex(mut value: u32, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}
