//! ONC RPC calls as byte templates, and a bounded reader for replies (RFC 5531, XDR of RFC 4506).

use std::sync::atomic::{AtomicU32, Ordering};

/// Set in a record mark on the last fragment (RFC 5531 section 11).
pub const LAST_FRAGMENT: u32 = 0x8000_0000;
/// Program number of NFS.
pub const NFS: u32 = 100_003;
/// Program number of MOUNT.
pub const MOUNT: u32 = 100_005;

/// NFSv3 procedure numbers used here (RFC 1813 section 3.3).
pub mod nfs_proc {
    #![allow(missing_docs)]
    pub const NULL: u32 = 0;
    pub const GETATTR: u32 = 1;
    pub const LOOKUP: u32 = 3;
    pub const ACCESS: u32 = 4;
    pub const READ: u32 = 6;
    pub const WRITE: u32 = 7;
    pub const CREATE: u32 = 8;
    pub const REMOVE: u32 = 12;
    pub const READDIRPLUS: u32 = 17;
}

/// Byte offset of the xid in a template (the record mark comes first).
pub const XID_AT: usize = 4;

/// User and group of every credential.
static CALLER: AtomicU32 = AtomicU32::new(0);

/// Calls made from now on come from this user and group, instead of root.
pub fn call_as(id: u32) {
    CALLER.store(id, Ordering::Relaxed);
}

/// One RPC call as bytes: record mark, header, AUTH_SYS credential, arguments. The xid is zero until a
/// copy is sent; `payload` more bytes (opaque data of a WRITE) follow the bytes on the wire.
#[derive(Clone, Debug)]
pub struct Call {
    bytes: Vec<u8>,
    payload: usize,
}

impl Call {
    /// A call of `proc` in version 3 of `prog`.
    pub fn new(prog: u32, proc: u32) -> Call {
        Call::version(prog, 3, proc)
    }

    /// A call of `proc` in version `vers` of `prog`.
    pub fn version(prog: u32, vers: u32, proc: u32) -> Call {
        let mut call = Call {
            bytes: Vec::with_capacity(192),
            payload: 0,
        };
        for word in [0, 0, 0, 2, prog, vers, proc] {
            call.put(word);
        }
        // AUTH_SYS (RFC 5531 appendix A): stamp, machine name, uid, gid, no further groups.
        let machine = b"nfsload\0";
        for word in [1, 4 + 4 + 8 + 12, 0, 7] {
            call.put(word);
        }
        call.bytes.extend_from_slice(machine);
        let caller = CALLER.load(Ordering::Relaxed);
        for word in [caller, caller, 0, 0, 0] {
            call.put(word);
        }
        call.mark();
        call
    }

    fn put(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    fn mark(&mut self) {
        let len = (self.bytes.len() - 4 + self.payload) as u32;
        self.bytes[..4].copy_from_slice(&(LAST_FRAGMENT | len).to_be_bytes());
    }

    /// Appends a 32-bit word.
    pub fn u32(mut self, word: u32) -> Call {
        self.put(word);
        self.mark();
        self
    }

    /// Appends a 64-bit word.
    pub fn u64(self, word: u64) -> Call {
        self.u32((word >> 32) as u32).u32(word as u32)
    }

    /// Appends a variable-length opaque or string with its padding.
    pub fn opaque(mut self, data: &[u8]) -> Call {
        self.put(data.len() as u32);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.mark();
        self
    }

    /// Appends bytes of a fixed length, a multiple of 4.
    pub fn fixed(mut self, data: &[u8]) -> Call {
        self.bytes.extend_from_slice(data);
        self.mark();
        self
    }

    /// Overwrites the word at byte `at`.
    pub fn patch(mut self, at: usize, word: u32) -> Call {
        self.bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        self
    }

    /// Ends the call with an opaque of `len` bytes that the sender adds from a buffer of its own; a multiple of 4.
    pub fn payload(self, len: usize) -> Call {
        let mut call = self.u32(len as u32);
        call.payload = len;
        call.mark();
        call
    }

    /// Bytes before the payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of the payload in bytes.
    pub fn payload_len(&self) -> usize {
        self.payload
    }
}

/// Reader over one reply. Every read past the end is `None`.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    bytes: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads from the start of `bytes`, which begin at the xid.
    pub fn new(bytes: &'a [u8]) -> Reply<'a> {
        Reply { bytes }
    }

    /// The next word.
    pub fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(u32::from_be_bytes(*word))
    }

    /// The next two words.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    /// Steps over `len` bytes.
    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.bytes = self.bytes.get(len..)?;
        Some(())
    }

    /// The next `N` bytes, a multiple of 4.
    pub fn fixed<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (data, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(data)
    }

    /// A variable-length opaque of at most `max` bytes.
    pub fn opaque(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        if len > max {
            return None;
        }
        let data = self.bytes.get(..len)?;
        self.skip(len.next_multiple_of(4))?;
        Some(data)
    }

    /// Steps over a `post_op_attr` (RFC 1813 section 2.6).
    pub fn post_op_attr(&mut self) -> Option<()> {
        match self.u32()? {
            0 => Some(()),
            1 => self.skip(84),
            _ => None,
        }
    }

    /// Steps over a `wcc_data` (RFC 1813 section 2.6).
    pub fn wcc_data(&mut self) -> Option<()> {
        if self.u32()? == 1 {
            self.skip(24)?;
        }
        self.post_op_attr()
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Reads an accepted reply up to its results; the error says what the server answered instead.
    pub fn accept(&mut self, xid: u32) -> Result<(), String> {
        let cut = || "reply header cut short".to_string();
        let got = self.u32().ok_or_else(cut)?;
        if got != xid {
            return Err(format!("xid {got:#x} in place of {xid:#x}"));
        }
        let (mtype, stat) = (self.u32().ok_or_else(cut)?, self.u32().ok_or_else(cut)?);
        if (mtype, stat) != (1, 0) {
            return Err(format!("message type {mtype}, reply_stat {stat}"));
        }
        self.u32().and_then(|_| self.opaque(400)).ok_or_else(cut)?;
        match self.u32().ok_or_else(cut)? {
            0 => Ok(()),
            stat => Err(format!("accept_stat {stat}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_mark_counts_header_arguments_and_payload() {
        let call = Call::new(NFS, nfs_proc::WRITE)
            .opaque(b"handle")
            .u64(1 << 33)
            .payload(4096);
        let mark = u32::from_be_bytes(*call.bytes().first_chunk().unwrap());
        assert_eq!(mark, LAST_FRAGMENT | (call.bytes().len() - 4 + 4096) as u32);
        assert_eq!(call.bytes().len() % 4, 0);
        let mut read = Reply::new(&call.bytes()[4..]);
        let words: Vec<u32> = (0..6).map(|_| read.u32().unwrap()).collect();
        assert_eq!(words, [0, 0, 2, NFS, 3, nfs_proc::WRITE]);
        assert_eq!(read.u32(), Some(1));
        assert_eq!(read.opaque(400).map(<[u8]>::len), Some(28));
        assert_eq!(
            (read.u32(), read.opaque(400).map(<[u8]>::len)),
            (Some(0), Some(0))
        );
        assert_eq!(read.opaque(64), Some(&b"handle"[..]));
        assert_eq!(
            (read.u64(), read.u32(), read.left()),
            (Some(1 << 33), Some(4096), 0)
        );
    }

    #[test]
    fn refused_and_cut_replies_are_errors() {
        let words = |w: &[u32]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        assert_eq!(Reply::new(&words(&[7, 1, 0, 0, 0, 0])).accept(7), Ok(()));
        assert!(Reply::new(&words(&[7, 1, 0, 0, 0, 0])).accept(8).is_err());
        assert!(Reply::new(&words(&[7, 1, 1, 0, 0, 0])).accept(7).is_err());
        assert!(Reply::new(&words(&[7, 1, 0, 0, 0, 3])).accept(7).is_err());
        assert!(Reply::new(&words(&[7, 1, 0, 0, 0])).accept(7).is_err());
    }
}
