//! One blocking connection for the set-up: NULL, MOUNT, LOOKUP and a checked READ.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::rpc::{Call, LAST_FRAGMENT, MOUNT, NFS, Reply, XID_AT, nfs_proc};

/// NFS3ERR_JUKEBOX: the server asks to be called again later (RFC 1813 section 2.6).
pub const JUKEBOX: u32 = 10_008;
/// How long a reply may take before the server counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(15);
const MAX_REPLY: usize = 4 << 20;

/// A file handle.
pub type Handle = Vec<u8>;

/// A connection that has one call outstanding at most.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    xid: u32,
    reply: Vec<u8>,
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Session {
    /// Connects to `addr`.
    pub fn connect(addr: SocketAddr) -> io::Result<Session> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Session {
            stream,
            xid: 1,
            reply: Vec::new(),
        })
    }

    /// The socket, for calls of another kind; nothing may be outstanding.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends one call with `payload` behind it and reads its reply up to the results.
    pub fn call(&mut self, call: &Call, payload: &[u8]) -> io::Result<Reply<'_>> {
        self.xid = self.xid.wrapping_add(1);
        let mut bytes = call.bytes().to_vec();
        bytes[XID_AT..XID_AT + 4].copy_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&payload[..call.payload_len()]);
        self.stream.write_all(&bytes)?;
        self.read_record()?;
        let mut reply = Reply::new(&self.reply);
        reply.accept(self.xid).map_err(bad)?;
        Ok(reply)
    }

    fn read_record(&mut self) -> io::Result<()> {
        self.reply.clear();
        loop {
            let mut mark = [0; 4];
            self.stream.read_exact(&mut mark)?;
            let mark = u32::from_be_bytes(mark);
            let (at, len) = (self.reply.len(), (mark & !LAST_FRAGMENT) as usize);
            if at + len > MAX_REPLY {
                return Err(bad(format!("reply record of {} bytes", at + len)));
            }
            self.reply.resize(at + len, 0);
            self.stream.read_exact(&mut self.reply[at..])?;
            if mark & LAST_FRAGMENT != 0 {
                return Ok(());
            }
        }
    }

    /// Calls an NFS procedure that must succeed; waits while the server says JUKEBOX (a grace period).
    pub fn nfs(&mut self, what: &str, call: &Call, payload: &[u8]) -> io::Result<Reply<'_>> {
        let mut tries = 0;
        loop {
            let status = self.call(call, payload)?.u32();
            match status {
                Some(0) => break,
                Some(JUKEBOX) if tries < 100 => tries += 1,
                Some(status) => return Err(bad(format!("{what}: NFS status {status}"))),
                None => return Err(bad(format!("{what}: reply cut short"))),
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let mut reply = Reply::new(&self.reply);
        reply.accept(self.xid).map_err(bad)?;
        reply.u32();
        Ok(reply)
    }

    /// NULL: the server answers at all.
    pub fn null(&mut self) -> io::Result<()> {
        self.call(&Call::new(NFS, nfs_proc::NULL), &[]).map(|_| ())
    }

    /// MNT of `path` (RFC 1813 section 5.2.1) on this connection.
    pub fn mount(&mut self, path: &str) -> io::Result<Handle> {
        let mut reply = self.call(&Call::new(MOUNT, 1).opaque(path.as_bytes()), &[])?;
        match reply.u32() {
            Some(0) => reply
                .opaque(64)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| bad("MNT: handle cut short")),
            status => Err(bad(format!("MNT of {path}: status {status:?}"))),
        }
    }

    /// LOOKUP of `name` in `dir` (RFC 1813 section 3.3.3).
    pub fn lookup(&mut self, dir: &[u8], name: &str) -> io::Result<Handle> {
        let call = Call::new(NFS, nfs_proc::LOOKUP)
            .opaque(dir)
            .opaque(name.as_bytes());
        let mut reply = self.nfs(&format!("LOOKUP of {name}"), &call, &[])?;
        reply
            .opaque(64)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| bad("LOOKUP: handle cut short"))
    }

    /// READ of `count` bytes at `offset` that all must be there (RFC 1813 section 3.3.6).
    pub fn read(&mut self, file: &[u8], offset: u64, count: u32) -> io::Result<Vec<u8>> {
        let call = Call::new(NFS, nfs_proc::READ)
            .opaque(file)
            .u64(offset)
            .u32(count);
        let mut reply = self.nfs("READ", &call, &[])?;
        match read_data(&mut reply, count) {
            Some(data) if data.len() == count as usize => Ok(data.to_vec()),
            Some(data) => Err(bad(format!("READ of {count} bytes gave {}", data.len()))),
            None => Err(bad("READ: reply cut short")),
        }
    }
}

fn read_data<'a>(reply: &mut Reply<'a>, count: u32) -> Option<&'a [u8]> {
    reply.post_op_attr()?;
    let (said, _eof) = (reply.u32()?, reply.u32()?);
    reply
        .opaque(count as usize)
        .filter(|data| data.len() == said as usize)
}
