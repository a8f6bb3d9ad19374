//! From a TCP connection to a session with files open, one blocking compound after the other.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    ATTRS, Ids, LOCK_BYTES, Opened, SEQUENCE_AT, STATEID, Slot, Stateid, WRITE_LT, compound,
    getattr, on, op, open, opened, read, results, sequence,
};
use crate::rows::{FILES, Op4, Row};
use crate::rpc::{Call, Reply};
use crate::session::{Handle, PATIENCE, Session};
use crate::work::{Targets, file_name};

/// NFS4ERR_DELAY and NFS4ERR_GRACE (RFC 8881 section 15.1): ask again later.
const LATER: [u32; 2] = [10_008, 10_013];
/// Longest request and reply: 1 MiB of data and room for the rest.
const MESSAGE: u32 = (1 << 20) + (64 << 10);

/// A session in the making, then what the measured calls need.
pub(super) struct Setup {
    session: Session,
    pub(super) ids: Ids,
    /// Next sequence id of slot 0, the only one used here.
    sequence: u32,
    root: Vec<String>,
    pub(super) files: Vec<Opened>,
    pub(super) dir: Handle,
    pub(super) locks: Vec<Stateid>,
    pub(super) slots: Vec<Slot>,
}

/// Where the lock of a slot starts, away from every other's.
pub(super) fn lock_start(conn: usize, depth: usize, slot: usize) -> u64 {
    (conn * depth + slot) as u64 * 2 * LOCK_BYTES
}

fn refused(minor: u32, what: &str, why: impl std::fmt::Display) -> io::Error {
    let why = format!("NFSv4.{minor} {what}: {why}");
    io::Error::new(io::ErrorKind::Unsupported, why)
}

impl Setup {
    /// Does all of it. The stream then belongs to the measured calls.
    pub(super) fn run(
        row: Row,
        minor: u32,
        op: Op4,
        targets: &Targets,
        addr: SocketAddr,
        conn: usize,
    ) -> io::Result<(TcpStream, Setup)> {
        let mut setup = Setup {
            session: Session::connect(addr)?,
            ids: Ids {
                minor,
                ..Ids::default()
            },
            sequence: 1,
            root: Vec::new(),
            files: Vec::new(),
            dir: Vec::new(),
            locks: Vec::new(),
            slots: vec![Slot::default(); row.depth],
        };
        for (n, slot) in setup.slots.iter_mut().enumerate() {
            slot.sequence = 1;
            slot.file = (conn * row.depth + n) % FILES;
        }
        if targets.real {
            let Some(root) = &targets.root4 else {
                return Err(refused(minor, "is not spoken", "by what its makers say"));
            };
            setup.root.clone_from(root);
            setup.client(conn)?;
            setup.session(row.depth)?;
            setup.open_files(row, op, conn)?;
            setup.slots[0].sequence = setup.sequence;
        } else {
            // The floor never looks at them; lengths are as usual.
            let file = Opened {
                handle: vec![7; 32],
                stateid: [0; STATEID],
            };
            setup.files = vec![file.clone(); FILES];
            setup.dir = vec![7; 32];
            setup.locks = vec![[0; STATEID]; row.depth];
            setup
                .slots
                .iter_mut()
                .for_each(|slot| slot.open = file.clone());
        }
        let Setup { session, .. } = &mut setup;
        let stream = session.stream()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok((stream, setup))
    }

    /// Sends a compound until it is not told to come later, and reads its reply up to the body of `wanted`.
    fn call<T>(
        &mut self,
        what: &str,
        call: &Call,
        wanted: u32,
        read: impl Fn(&mut Reply<'_>) -> Option<T>,
    ) -> io::Result<T> {
        let minor = self.ids.minor;
        let with_sequence = !matches!(wanted, op::EXCHANGE_ID | op::CREATE_SESSION);
        for _ in 0..300 {
            let patched = if with_sequence {
                call.clone().patch(SEQUENCE_AT, self.sequence)
            } else {
                call.clone()
            };
            let reply = self
                .session
                .call(&patched, &[])
                .map_err(|e| refused(minor, what, e))?;
            self.sequence += u32::from(with_sequence);
            if reply
                .clone()
                .u32()
                .is_some_and(|status| LATER.contains(&status))
            {
                std::thread::sleep(Duration::from_millis(300));
                continue;
            }
            let mut reply = results(reply, wanted).map_err(|e| refused(minor, what, e))?;
            return read(&mut reply)
                .ok_or_else(|| refused(minor, what, "reply cut short or not as expected"));
        }
        Err(refused(minor, what, "still in its grace period"))
    }

    /// EXCHANGE_ID (RFC 8881 section 18.35). The owner is the same in every row, its verifier is not: the server drops
    /// what the row before left behind.
    fn client(&mut self, conn: usize) -> io::Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        let owner = format!("nfsload connection {conn}");
        let call = compound(self.ids.minor, 1)
            .u32(op::EXCHANGE_ID)
            .u64(now)
            .opaque(owner.as_bytes());
        // EXCHGID4_FLAG_USE_NON_PNFS, SP4_NONE, no implementation id.
        let call = call.u32(0x0001_0000).u32(0).u32(0);
        let (client, sequence) = self.call("EXCHANGE_ID", &call, op::EXCHANGE_ID, |r| {
            Some((r.u64()?, r.u32()?))
        })?;
        self.ids.client = client;
        // CREATE_SESSION (section 18.36) takes the client's sequence id.
        self.sequence = sequence;
        Ok(())
    }

    /// CREATE_SESSION with a slot for each call in flight, and RECLAIM_COMPLETE (section 18.51).
    fn session(&mut self, depth: usize) -> io::Result<()> {
        let mut call = compound(self.ids.minor, 1)
            .u32(op::CREATE_SESSION)
            .u64(self.ids.client);
        call = call.u32(self.sequence).u32(0);
        // Header padding, largest request, reply, cached reply, operations, slots, no RDMA.
        for word in [
            0,
            MESSAGE,
            MESSAGE,
            4096,
            16,
            depth as u32,
            0,
            0,
            4096,
            4096,
            0,
            2,
            1,
            0,
        ] {
            call = call.u32(word);
        }
        // Callback program and its security: AUTH_NONE.
        let call = call.u32(0x4000_0000).u32(1).u32(0);
        let (session, request, reply, slots) =
            self.call("CREATE_SESSION", &call, op::CREATE_SESSION, |r| {
                let session = *r.fixed::<16>()?;
                r.skip(8 + 4)?;
                let (request, reply) = (r.u32()?, r.u32()?);
                r.skip(8)?;
                Some((session, request, reply, r.u32()? as usize))
            })?;
        if slots < depth || request < MESSAGE || reply < MESSAGE {
            let got = format!(
                "{slots} slots in place of {depth}, requests of {request}, replies of {reply} bytes"
            );
            // Smaller messages matter only to the rows with large data, which then fail and say so.
            if slots < depth {
                return Err(refused(self.ids.minor, "CREATE_SESSION", got));
            }
        }
        self.ids.session = session;
        self.sequence = 1;
        let call = sequence(&self.ids, 2).u32(op::RECLAIM_COMPLETE).u32(0);
        self.call(
            "RECLAIM_COMPLETE",
            &call,
            op::RECLAIM_COMPLETE,
            |_| Some(()),
        )
    }

    /// The handle at a path below the export.
    fn walk(&mut self, below: &str) -> io::Result<Handle> {
        let names: Vec<String> = self
            .root
            .iter()
            .cloned()
            .chain([below.to_string()])
            .collect();
        let mut call = sequence(&self.ids, 3 + names.len() as u32).u32(op::PUTROOTFH);
        for name in &names {
            call = call.u32(op::LOOKUP).opaque(name.as_bytes());
        }
        let what = format!("LOOKUP of /{}", names.join("/"));
        self.call(&what, &call.u32(op::GETFH), op::GETFH, |r| {
            r.opaque(128).map(<[u8]>::to_vec)
        })
    }

    fn open_files(&mut self, row: Row, op: Op4, conn: usize) -> io::Result<()> {
        let dir = match op {
            Op4::Readdir => "listed".to_string(),
            Op4::CreateRemove => format!("own-{conn}"),
            Op4::Write(_) => "write".to_string(),
            _ => "read".to_string(),
        };
        self.dir = self.walk(&dir)?;
        let ids = self.ids;
        match op {
            Op4::Readdir | Op4::CreateRemove | Op4::OpenClose => return Ok(()),
            Op4::Getattr | Op4::Lookup => {
                for i in 0..FILES {
                    let call = on(&ids, &self.dir, 2)
                        .u32(op::LOOKUP)
                        .opaque(file_name(i).as_bytes());
                    let handle = |r: &mut Reply<'_>| r.opaque(128).map(<[u8]>::to_vec);
                    let handle = self.call("LOOKUP", &call.u32(op::GETFH), op::GETFH, handle)?;
                    self.files.push(Opened {
                        handle,
                        stateid: [0; STATEID],
                    });
                }
                return Ok(());
            }
            Op4::Read | Op4::ReadPlus | Op4::Write(_) | Op4::LockUnlock => {}
        }
        for i in 0..FILES {
            let call = open(
                &ids,
                &self.dir,
                &format!("open-{conn:02}"),
                &file_name(i),
                false,
            );
            let file = self.call("OPEN", &call, op::OPEN, opened)?;
            self.files.push(file);
        }
        if op == Op4::LockUnlock {
            for slot in 0..row.depth {
                let lock = self.first_lock(conn, row.depth, slot)?;
                self.locks.push(lock);
            }
        }
        if op == Op4::ReadPlus {
            // Not every server has it, nor does every one that says so give the data.
            let call = read(&ids, op, &self.files[0], row.size);
            self.call("READ_PLUS", &call, op::READ_PLUS, |r| {
                r.skip(4)?;
                (r.u32()? == 1 && r.u32()? == 0).then_some(())?;
                r.skip(8)?;
                (r.u32()? == row.size).then_some(())
            })?;
        }
        // One file is looked at twice, to see that a handle is what it was.
        let handle = self.files[0].handle.clone();
        let call = getattr(on(&ids, &handle, 1), ATTRS);
        self.call("GETATTR", &call, op::GETATTR, |_| Some(()))
    }

    /// A lock by a new lock-owner, which makes its stateid (section 18.10), and its LOCKU.
    fn first_lock(&mut self, conn: usize, depth: usize, slot: usize) -> io::Result<Stateid> {
        let file = self.files[slot % FILES].clone();
        let start = lock_start(conn, depth, slot);
        let call = on(&self.ids, &file.handle, 1)
            .u32(op::LOCK)
            .u32(WRITE_LT)
            .u32(0);
        let call = call.u64(start).u64(LOCK_BYTES).u32(1);
        let call = call.u32(0).fixed(&file.stateid).u32(0).u64(self.ids.client);
        let call = call.opaque(format!("lock-{conn:02}-{slot:03}").as_bytes());
        let stateid = self.call("LOCK", &call, op::LOCK, |r| r.fixed::<STATEID>().copied())?;
        let call = on(&self.ids, &file.handle, 1)
            .u32(op::LOCKU)
            .u32(WRITE_LT)
            .u32(0);
        let call = call.fixed(&stateid).u64(start).u64(LOCK_BYTES);
        self.call("LOCKU", &call, op::LOCKU, |r| r.fixed::<STATEID>().copied())
    }
}
