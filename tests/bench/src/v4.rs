//! NFSv4.1 (RFC 8881) and NFSv4.2 (RFC 7862) rows: each connection is a client of its own with one session, a slot for each call in flight.
//! What one connection asks is here; how it gets its session and opens its files is in `v4/setup.rs`.

use std::io;
use std::net::{SocketAddr, TcpStream};

use crate::outq::OutQueue;
use crate::rows::{FILE_SIZE, LISTED, Op4, Row};
use crate::rpc::{Call, NFS, Reply, XID_AT};
use crate::session::Handle;
use crate::work::{Targets, Work, file_name};

mod setup;

/// Operation numbers used here (RFC 8881 section 18, RFC 7862 section 15).
pub mod op {
    #![allow(missing_docs)]
    pub const CLOSE: u32 = 4;
    pub const GETATTR: u32 = 9;
    pub const GETFH: u32 = 10;
    pub const LOCK: u32 = 12;
    pub const LOCKU: u32 = 14;
    pub const LOOKUP: u32 = 15;
    pub const OPEN: u32 = 18;
    pub const PUTFH: u32 = 22;
    pub const PUTROOTFH: u32 = 24;
    pub const READ: u32 = 25;
    pub const READDIR: u32 = 26;
    pub const REMOVE: u32 = 28;
    pub const WRITE: u32 = 38;
    pub const EXCHANGE_ID: u32 = 42;
    pub const CREATE_SESSION: u32 = 43;
    pub const SEQUENCE: u32 = 53;
    pub const RECLAIM_COMPLETE: u32 = 58;
    pub const READ_PLUS: u32 = 68;
}

/// What `ls -l` and a GETATTR of the Linux client ask for: type, change, size, fsid, fileid; mode, numlinks, owner,
/// group, rawdev, space_used, three times, mounted_on_fileid.
const ATTRS: [u32; 2] = [0x0010_011a, 0x00b0_a23a];
/// The same with rdattr_error and filehandle, as in its READDIR.
const LIST_ATTRS: [u32; 2] = [0x0018_091a, 0x00b0_a23a];
/// Byte offsets in a call that starts with SEQUENCE: its sequence id and slot.
const SEQUENCE_AT: usize = 104;
const SLOT_AT: usize = 108;
/// Byte offset of the operation behind SEQUENCE and the PUTFH of a handle of 32 bytes; the floor looks there.
pub const THIRD_OP_AT: usize = 160;
const DIRCOUNT: u32 = 16 << 10;
const MAXCOUNT: u32 = 64 << 10;
const DATA_HEAD: usize = 512;
/// Bytes of a stateid on the wire.
const STATEID: usize = 16;
/// OPEN4_SHARE_ACCESS_BOTH and OPEN4_SHARE_ACCESS_WANT_NO_DELEG.
const ACCESS: u32 = 3 | 0x0400;
/// WRITE_LT.
const WRITE_LT: u32 = 2;
/// Bytes between the locks of two slots; each locks this many.
const LOCK_BYTES: u64 = 100;

type Stateid = [u8; STATEID];

/// What a session gives to every call.
#[derive(Clone, Copy, Debug, Default)]
struct Ids {
    minor: u32,
    client: u64,
    session: [u8; 16],
}

/// A file a connection has open.
#[derive(Clone, Debug, Default)]
struct Opened {
    handle: Handle,
    stateid: Stateid,
}

/// A compound of `ops` operations with SEQUENCE at its start; slot and sequence id are patched in.
fn sequence(ids: &Ids, ops: u32) -> Call {
    compound(ids.minor, ops)
        .u32(op::SEQUENCE)
        .fixed(&ids.session)
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
}

/// A compound of `ops` operations (RFC 8881 section 16.2): no tag.
fn compound(minor: u32, ops: u32) -> Call {
    Call::version(NFS, 4, 1).opaque(&[]).u32(minor).u32(ops)
}

/// SEQUENCE, PUTFH and `more` operations to come.
fn on(ids: &Ids, handle: &[u8], more: u32) -> Call {
    sequence(ids, 2 + more).u32(op::PUTFH).opaque(handle)
}

fn getattr(call: Call, attrs: [u32; 2]) -> Call {
    call.u32(op::GETATTR).u32(2).u32(attrs[0]).u32(attrs[1])
}

/// OPEN by name, then GETFH and GETATTR; `create` makes it (UNCHECKED, mode 0644) if it is not there.
fn open(ids: &Ids, dir: &[u8], owner: &str, name: &str, create: bool) -> Call {
    let mut call = on(ids, dir, 3).u32(op::OPEN).u32(0).u32(ACCESS).u32(0);
    call = call.u64(ids.client).opaque(owner.as_bytes());
    call = if create {
        // createmode4 and the mode as a fattr4.
        call.u32(1)
            .u32(0)
            .u32(2)
            .u32(0)
            .u32(2)
            .opaque(&0o644u32.to_be_bytes())
    } else {
        call.u32(0)
    };
    let call = call.u32(0).opaque(name.as_bytes()).u32(op::GETFH);
    getattr(call, ATTRS)
}

/// READ or READ_PLUS of so many bytes at the start of a file.
fn read(ids: &Ids, how: Op4, file: &Opened, count: u32) -> Call {
    let number = match how {
        Op4::ReadPlus => op::READ_PLUS,
        _ => op::READ,
    };
    let call = on(ids, &file.handle, 1).u32(number).fixed(&file.stateid);
    call.u64(0).u32(count)
}

fn close(ids: &Ids, file: &Opened) -> Call {
    on(ids, &file.handle, 1)
        .u32(op::CLOSE)
        .u32(0)
        .fixed(&file.stateid)
}

/// The results behind SEQUENCE and PUTFH up to the body of `wanted`, or what went wrong.
fn results<'a>(mut reply: Reply<'a>, wanted: u32) -> Result<Reply<'a>, String> {
    let cut = || "COMPOUND: reply cut short".to_string();
    let status = reply.u32().ok_or_else(cut)?;
    reply.opaque(1024).ok_or_else(cut)?;
    let count = reply.u32().ok_or_else(cut)?;
    for n in 0..count {
        let (op, stat) = (reply.u32().ok_or_else(cut)?, reply.u32().ok_or_else(cut)?);
        if stat != 0 {
            return Err(format!(
                "operation {op}, number {n} of the compound: NFS status {stat}"
            ));
        }
        match op {
            _ if op == wanted => {
                return if status == 0 {
                    Ok(reply)
                } else {
                    later(status, reply)
                };
            }
            op::SEQUENCE => reply.skip(36).ok_or_else(cut)?,
            op::PUTFH | op::PUTROOTFH | op::LOOKUP => {}
            _ => return Err(format!("COMPOUND: operation {op} in place of {wanted}")),
        }
    }
    Err(format!("COMPOUND: NFS status {status}, {count} results"))
}

/// A compound that failed behind the operation looked for.
fn later(status: u32, _: Reply<'_>) -> Result<Reply<'_>, String> {
    Err(format!(
        "COMPOUND: NFS status {status} at a later operation"
    ))
}

/// Body of OPEN, then GETFH: stateid and handle.
fn opened(reply: &mut Reply<'_>) -> Option<Opened> {
    let stateid = *reply.fixed::<STATEID>()?;
    reply.skip(20 + 4)?;
    for _ in 0..reply.u32()?.min(8) {
        reply.u32()?;
    }
    match reply.u32()? {
        0 => {}
        // OPEN_DELEGATE_NONE_EXT: why, and for WND4_CONTENTION and WND4_RESOURCE a bool.
        3 => {
            if matches!(reply.u32()?, 1 | 2) {
                reply.u32()?;
            }
        }
        _ => return None, // a delegation that nobody wanted
    }
    (reply.u32()? == op::GETFH && reply.u32()? == 0).then_some(())?;
    let handle = reply.opaque(128)?.to_vec();
    Some(Opened { handle, stateid })
}

/// Body of GETATTR for [`ATTRS`]: type and size.
fn type_and_size(reply: &mut Reply<'_>) -> Option<(u32, u64)> {
    let words = reply.u32()?;
    (words == 2 && reply.u32()? == ATTRS[0] && reply.u32()? == ATTRS[1]).then_some(())?;
    let mut attrs = Reply::new(reply.opaque(4096)?);
    let kind = attrs.u32()?;
    attrs.u64()?;
    Some((kind, attrs.u64()?))
}

#[derive(Clone, Debug, Default)]
struct Slot {
    sequence: u32,
    /// Which call of a round comes next.
    step: usize,
    serial: u32,
    file: usize,
    offset: u64,
    open: Opened,
}

/// The work of one connection.
#[derive(Debug)]
pub struct Job4 {
    row: Row,
    op: Op4,
    real: bool,
    ids: Ids,
    conn: usize,
    /// By file, or by slot, or one.
    calls: Vec<Call>,
    /// The second call of a round, by slot.
    seconds: Vec<Call>,
    handles: Vec<Handle>,
    dir: Handle,
    slots: Vec<Slot>,
    random: u64,
}

impl Job4 {
    /// Connects as a client of its own, makes a session and opens what the row needs.
    ///
    /// # Errors
    /// `Unsupported` with the reason for a server that refuses.
    pub fn connect(
        row: Row,
        minor: u32,
        op: Op4,
        targets: &Targets,
        addr: SocketAddr,
        conn: usize,
    ) -> io::Result<(TcpStream, Job4)> {
        let (stream, made) = setup::Setup::run(row, minor, op, targets, addr, conn)?;
        let mut job = Job4 {
            row,
            op,
            real: targets.real,
            ids: made.ids,
            conn,
            calls: Vec::new(),
            seconds: Vec::new(),
            handles: made.files.iter().map(|f| f.handle.clone()).collect(),
            dir: made.dir,
            slots: made.slots,
            random: 0x9e37_79b9_7f4a_7c15 ^ (conn as u64 + 1) << 17,
        };
        job.prepare(&made.files, &made.locks);
        Ok((stream, job))
    }

    fn prepare(&mut self, files: &[Opened], locks: &[Stateid]) {
        let ids = self.ids;
        match self.op {
            Op4::Getattr => {
                let one = |f: &Opened| getattr(on(&ids, &f.handle, 1), ATTRS);
                self.calls.extend(files.iter().map(one));
            }
            Op4::Lookup => {
                for i in 0..files.len() {
                    let call = on(&ids, &self.dir, 3).u32(op::LOOKUP);
                    let call = call.opaque(file_name(i).as_bytes()).u32(op::GETFH);
                    self.calls.push(getattr(call, ATTRS));
                }
            }
            Op4::Read | Op4::ReadPlus => {
                let one = |f: &Opened| read(&ids, self.op, f, self.row.size);
                self.calls.extend(files.iter().map(one));
            }
            Op4::Write(stable) => self.calls.extend(files.iter().map(|f| {
                let call = on(&ids, &f.handle, 1).u32(op::WRITE).fixed(&f.stateid);
                call.u64(0).u32(stable).payload(self.row.size as usize)
            })),
            Op4::Readdir => {
                let call = on(&ids, &self.dir, 1).u32(op::READDIR).u64(0).u64(0);
                let call = call.u32(DIRCOUNT).u32(MAXCOUNT);
                self.calls
                    .push(call.u32(2).u32(LIST_ATTRS[0]).u32(LIST_ATTRS[1]));
            }
            Op4::LockUnlock => {
                for (n, lock) in locks.iter().enumerate() {
                    let handle = &files[n % files.len()].handle;
                    let start = setup::lock_start(self.conn, self.row.depth, n);
                    let call = on(&ids, handle, 1).u32(op::LOCK).u32(WRITE_LT).u32(0);
                    let call = call.u64(start).u64(LOCK_BYTES).u32(0);
                    // A sequence number of 0 in a stateid is the newest (RFC 8881 section 8.2.2).
                    self.calls.push(call.u32(0).fixed(&lock[4..]).u32(0));
                    let call = on(&ids, handle, 1).u32(op::LOCKU).u32(WRITE_LT).u32(0);
                    let call = call.u32(0).fixed(&lock[4..]);
                    self.seconds.push(call.u64(start).u64(LOCK_BYTES));
                }
            }
            Op4::OpenClose | Op4::CreateRemove => {}
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// How many calls one round of the slot has.
    fn steps(&self) -> usize {
        match self.op {
            Op4::LockUnlock | Op4::OpenClose => 2,
            Op4::CreateRemove => 3,
            _ => 1,
        }
    }

    fn owner(&self, slot: usize) -> String {
        format!("open-{:02}-{slot:03}", self.conn)
    }

    fn created_name(&self, slot: usize) -> String {
        format!(
            "c{:02}s{slot:03}-{:08x}",
            self.conn, self.slots[slot].serial
        )
    }

    /// A call that is made anew each time.
    fn made(&self, slot: usize) -> Call {
        let state = &self.slots[slot];
        let create = self.op == Op4::CreateRemove;
        match state.step {
            0 if create => open(
                &self.ids,
                &self.dir,
                &self.owner(slot),
                &self.created_name(slot),
                true,
            ),
            0 => open(
                &self.ids,
                &self.dir,
                &self.owner(slot),
                &file_name(state.file),
                false,
            ),
            1 => close(&self.ids, &state.open),
            _ => {
                let call = on(&self.ids, &self.dir, 1).u32(op::REMOVE);
                call.opaque(self.created_name(slot).as_bytes())
            }
        }
    }

    fn wanted(&self, step: usize) -> u32 {
        match (self.op, step) {
            (Op4::Getattr, _) => op::GETATTR,
            (Op4::Lookup, _) => op::GETFH,
            (Op4::Read, _) => op::READ,
            (Op4::ReadPlus, _) => op::READ_PLUS,
            (Op4::Write(_), _) => op::WRITE,
            (Op4::Readdir, _) => op::READDIR,
            (Op4::LockUnlock, 0) => op::LOCK,
            (Op4::LockUnlock, _) => op::LOCKU,
            (Op4::OpenClose | Op4::CreateRemove, 0) => op::OPEN,
            (Op4::OpenClose | Op4::CreateRemove, 1) => op::CLOSE,
            (Op4::OpenClose | Op4::CreateRemove, _) => op::REMOVE,
        }
    }

    fn contents(&mut self, slot: usize, step: usize, mut reply: Reply<'_>) -> Option<bool> {
        let state = &mut self.slots[slot];
        match (self.op, step) {
            (Op4::Getattr, _) => Some(type_and_size(&mut reply)? == (1, FILE_SIZE)),
            (Op4::Lookup, _) => {
                let right = reply.opaque(128)? == self.handles[state.file].as_slice();
                let next = (reply.u32()?, reply.u32()?) == (op::GETATTR, 0);
                Some(right && next && type_and_size(&mut reply)? == (1, FILE_SIZE))
            }
            (Op4::Read, _) => {
                let (_eof, len) = (reply.u32()?, reply.u32()?);
                let stamped = reply.u64()? == state.file as u64 && reply.u64()? == state.offset;
                Some(len == self.row.size && stamped)
            }
            (Op4::ReadPlus, _) => {
                let (_eof, contents, kind) = (reply.u32()?, reply.u32()?, reply.u32()?);
                // One piece, NFS4_CONTENT_DATA, from where it was asked on.
                let whole = (contents, kind, reply.u64()?) == (1, 0, state.offset);
                let len = reply.u32()?;
                let stamped = reply.u64()? == state.file as u64 && reply.u64()? == state.offset;
                Some(whole && len == self.row.size && stamped)
            }
            (Op4::Write(stable), _) => {
                Some(reply.u32()? == self.row.size && reply.u32()? >= stable)
            }
            (Op4::Readdir, _) => listing(reply),
            (Op4::OpenClose | Op4::CreateRemove, 0) => {
                state.open = opened(&mut reply)?;
                let (next, ok) = (reply.u32()?, reply.u32()?);
                let (kind, _) = type_and_size(&mut reply)?;
                Some((next, ok, kind) == (op::GETATTR, 0, 1))
            }
            (Op4::OpenClose | Op4::CreateRemove | Op4::LockUnlock, _) => {
                Some(reply.left() >= STATEID)
            }
        }
    }
}

fn listing(mut reply: Reply<'_>) -> Option<bool> {
    reply.skip(8)?;
    let mut entries = 0;
    while reply.u32()? == 1 {
        reply.u64()?;
        reply.opaque(255)?;
        for _ in 0..reply.u32()?.min(8) {
            reply.u32()?;
        }
        reply.opaque(4096)?;
        entries += 1;
    }
    // `.` and `..` are not in an NFSv4 listing.
    Some(reply.u32()? == 1 && entries == LISTED)
}

impl Work for Job4 {
    fn head(&self) -> usize {
        if self.op == Op4::Readdir {
            2 * MAXCOUNT as usize
        } else {
            2 * DATA_HEAD
        }
    }

    fn least(&self) -> usize {
        if let Op4::Read | Op4::ReadPlus = self.op {
            self.row.size as usize
        } else {
            24
        }
    }

    fn ask(&mut self, slot: usize, xid: u32, out: &mut OutQueue) {
        let by_slot = self.steps() > 1;
        if !by_slot {
            self.slots[slot].file = self.random(self.calls.len() as u64) as usize;
        }
        let chunk = u64::from(self.row.size);
        if let Op4::Read | Op4::ReadPlus | Op4::Write(_) = self.op {
            self.slots[slot].offset = self.random(FILE_SIZE / chunk) * chunk;
        }
        let made;
        let state = &self.slots[slot];
        let call = match self.op {
            Op4::OpenClose | Op4::CreateRemove => {
                made = self.made(slot);
                &made
            }
            Op4::LockUnlock if state.step == 1 => &self.seconds[slot],
            Op4::LockUnlock => &self.calls[slot],
            _ => &self.calls[state.file],
        };
        let bytes = out.push(call.bytes(), call.payload_len());
        bytes[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
        bytes[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&state.sequence.to_be_bytes());
        bytes[SLOT_AT..SLOT_AT + 4].copy_from_slice(&(slot as u32).to_be_bytes());
        // Words behind the offset: count in a READ; stable_how and data length in a WRITE.
        let behind = match self.op {
            Op4::Read | Op4::ReadPlus => 4,
            Op4::Write(_) => 8,
            _ => return,
        };
        let end = bytes.len() - behind;
        bytes[end - 8..end].copy_from_slice(&state.offset.to_be_bytes());
    }

    fn unfinished(&self, slot: usize) -> bool {
        self.slots[slot].step > 0
    }

    fn check(&mut self, slot: usize, reply: Reply<'_>, _record: usize) -> Result<(), String> {
        let steps = self.steps();
        let state = &mut self.slots[slot];
        let step = state.step;
        state.sequence = state.sequence.wrapping_add(1);
        state.step = (step + 1) % steps;
        if state.step == 0 {
            state.serial = state.serial.wrapping_add(1);
        }
        if !self.real {
            return match reply.clone().u32() {
                Some(0) => Ok(()),
                other => Err(format!("COMPOUND: NFS status {other:?}")),
            };
        }
        let outcome = results(reply, self.wanted(step));
        let reply = outcome.inspect_err(|_| {
            // Nothing was opened, locked or created: start over.
            self.slots[slot].step = 0;
        })?;
        match self.contents(slot, step, reply) {
            Some(true) => Ok(()),
            Some(false) => Err(format!("{:?}, step {step}: wrong contents", self.op)),
            None => Err(format!(
                "{:?}, step {step}: reply cut short or not as expected",
                self.op
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_in_a_call_are_where_the_words_are() {
        let ids = Ids {
            client: 1,
            session: [9; 16],
            minor: 2,
        };
        let call = getattr(on(&ids, &[7; 32], 1), ATTRS);
        let word = |at: usize| u32::from_be_bytes(*call.bytes()[at..].first_chunk().unwrap());
        assert_eq!(word(SEQUENCE_AT - 20), op::SEQUENCE);
        assert_eq!(call.bytes()[SEQUENCE_AT - 16..SEQUENCE_AT], [9; 16]);
        assert_eq!(word(SLOT_AT + 12), op::PUTFH);
        assert_eq!(word(THIRD_OP_AT), op::GETATTR);
    }

    #[test]
    fn a_failed_operation_is_named() {
        let words = |w: &[u32]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        let mut reply = vec![70, 0, 2, op::SEQUENCE, 0];
        reply.extend([0; 9]);
        reply.extend([op::PUTFH, 70]);
        let said = results(Reply::new(&words(&reply)), op::GETATTR).unwrap_err();
        assert!(
            said.contains("operation 22, number 1") && said.contains("status 70"),
            "{said}"
        );
        assert!(results(Reply::new(&words(&[10052, 0, 0])), op::GETATTR).is_err());
        assert!(results(Reply::new(&words(&[0, 0])), op::GETATTR).is_err());
    }
}
