//! Registering with the rpcbind of this machine (RFC 1833 section 2.2), so that clients that ask port
//! 111 find the server. Blocking, with a time limit; for start and stop, not for a worker.
//!
//! The local socket comes first: there rpcbind knows who registers. Over TCP it takes registrations
//! only from a reserved port of the loopback address.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::auth::OpaqueAuth;
use super::msg::{CallHeader, Refusal, ReplyHeader};
use super::portmap::{PMAP_PORT, PMAP_PROG, RPCB_V4, Rpcb, RpcbList, RpcbProc, RpcbString};
use super::record::mark;
use super::uaddr::{netid, parse_universal_addr, universal_addr};
use crate::mount::types::{MOUNT_PROGRAM, MOUNT_V1, MOUNT_V3};
use crate::nfs3::{NFS_PROGRAM, NFS_V3};
use crate::nfs4::NFS_V4;
use crate::nfsacl::types::{NFS_ACL_PROGRAM, NFSACL_V3};
use crate::nlm::types::{NLM_PROGRAM, NLM_V1, NLM_V3, NLM_V4};
use crate::nsm::types::{SM_PROG, SM_VERS};
use crate::xdr::{Dec, Enc, Encode, XdrError};

/// Where rpcbind listens locally.
const SOCKET: &str = "/run/rpcbind.sock";
/// Longest wait for rpcbind.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest record taken from rpcbind: its whole list, about 70 bytes for each of some dozens.
const RECORD_MAX: usize = 64 << 10;
/// Reserved ports tried, from the top.
const RESERVED: std::ops::Range<u16> = 600..1024;
/// What is registered: program and version.
const PROGRAMS: [(u32, u32); 9] = [
    (NFS_PROGRAM, NFS_V3),
    (NFS_PROGRAM, NFS_V4),
    (MOUNT_PROGRAM, MOUNT_V1),
    (MOUNT_PROGRAM, MOUNT_V3),
    (NLM_PROGRAM, NLM_V1),
    (NLM_PROGRAM, NLM_V3),
    (NLM_PROGRAM, NLM_V4),
    (SM_PROG, SM_VERS),
    (NFS_ACL_PROGRAM, NFSACL_V3),
];

/// Why rpcbind did not take a registration.
#[derive(Debug, thiserror::Error)]
pub enum RpcbindError {
    /// It is not running, or does not answer in time.
    #[error("cannot reach rpcbind: {0}; start it (systemctl start rpcbind) or leave out --rpcbind")]
    Unreachable(#[from] io::Error),
    /// It answered with something that is not an answer.
    #[error("rpcbind answered nonsense: {0}")]
    Nonsense(#[from] XdrError),
    /// It does not know rpcbind version 4, or refused the caller.
    #[error("rpcbind refused the call: {0:?}")]
    Refused(Refusal),
    /// It did not register a program.
    #[error(
        "rpcbind did not register program {prog} version {vers} for {netid}: another server may be registered, see rpcinfo(8)"
    )]
    Taken {
        /// Program number.
        prog: u32,
        /// Version.
        vers: u32,
        /// Network id.
        netid: &'static str,
    },
}

/// What is registered; remove it with [`Registration::remove`] before the server ends.
#[derive(Debug)]
#[must_use = "the registration outlives the server unless it is removed"]
pub struct Registration {
    netids: Vec<&'static str>,
    before: Vec<Entry>,
}

/// One registration of rpcbind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    prog: u32,
    vers: u32,
    netid: String,
    addr: String,
}

/// Registers NFS, MOUNT, NLM and NSM at the addresses the server listens on: the first IPv4 and the first IPv6
/// one, as rpcbind keeps one address for each. What others have there, such as rpc.statd, is replaced and put back by
/// [`Registration::remove`].
///
/// # Errors
/// See [`RpcbindError`]. Nothing stays registered then.
pub fn register(listen: &[SocketAddr]) -> Result<Registration, RpcbindError> {
    let mut rpcbind = Rpcbind::connect()?;
    let mut registration = Registration {
        netids: Vec::new(),
        before: of_others(rpcbind.list()?, listen),
    };
    for addr in listen {
        let netid = netid(addr);
        if registration.netids.contains(&netid) {
            continue;
        }
        registration.netids.push(netid);
        for (prog, vers) in PROGRAMS {
            rpcbind.call(RpcbProc::Unset, prog, vers, netid, "")?;
            let text = universal_addr(addr);
            if prog == SM_PROG {
                // Hosts that restart say so by UDP.
                let by_udp = udp(netid);
                rpcbind.call(RpcbProc::Unset, prog, vers, by_udp, "")?;
                rpcbind.call(RpcbProc::Set, prog, vers, by_udp, &text)?;
            }
            if !rpcbind.call(RpcbProc::Set, prog, vers, netid, &text)? {
                registration.unset(&mut rpcbind);
                return Err(RpcbindError::Taken { prog, vers, netid });
            }
        }
    }
    Ok(registration)
}

/// What is to be put back at the end: registrations of our programs, but for those of a server that died at our ports.
fn of_others(mut all: Vec<Entry>, listen: &[SocketAddr]) -> Vec<Entry> {
    all.retain(|entry| {
        let addr = parse_universal_addr(entry.addr.as_bytes());
        let own = addr.is_none_or(|addr| listen.iter().any(|l| l.port() == addr.port()));
        PROGRAMS.contains(&(entry.prog, entry.vers)) && !own
    });
    all
}

/// The network id of UDP beside one of TCP.
fn udp(netid: &str) -> &'static str {
    if netid == "tcp" { "udp" } else { "udp6" }
}

impl Registration {
    /// Removes it, and puts back what was there before.
    ///
    /// # Errors
    /// rpcbind cannot be reached.
    pub fn remove(self) -> Result<(), RpcbindError> {
        let mut rpcbind = Rpcbind::connect()?;
        self.unset(&mut rpcbind);
        Ok(())
    }

    /// Does as much of that as can be done: there is nobody left to do more.
    fn unset(&self, rpcbind: &mut Rpcbind) {
        for netid in &self.netids {
            for (prog, vers) in PROGRAMS {
                if let Err(error) = rpcbind.call(RpcbProc::Unset, prog, vers, netid, "") {
                    tracing::warn!(%error, prog, vers, netid, "cannot unregister");
                }
            }
            let _ = rpcbind.call(RpcbProc::Unset, SM_PROG, SM_VERS, udp(netid), "");
        }
        for entry in &self.before {
            let (prog, vers, netid) = (entry.prog, entry.vers, &*entry.netid);
            // False for what was not replaced, as it is there still.
            if let Err(error) = rpcbind.call(RpcbProc::Set, prog, vers, netid, &entry.addr) {
                tracing::warn!(%error, prog, vers, netid, "cannot register again");
            }
        }
    }
}

/// A connection to rpcbind.
struct Rpcbind {
    stream: Box<dyn Stream>,
    xid: u32,
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Rpcbind {
    fn connect() -> io::Result<Self> {
        let stream: Box<dyn Stream> = match local(Path::new(SOCKET)) {
            Ok(stream) => Box::new(stream),
            Err(_) => Box::new(loopback()?),
        };
        Ok(Rpcbind { stream, xid: 0 })
    }

    /// SET or UNSET; whether rpcbind did it.
    fn call(
        &mut self,
        proc: RpcbProc,
        prog: u32,
        vers: u32,
        netid: &str,
        addr: &str,
    ) -> Result<bool, RpcbindError> {
        let args = Rpcb {
            r_prog: prog,
            r_vers: vers,
            r_netid: RpcbString(netid.as_bytes()),
            r_addr: RpcbString(addr.as_bytes()),
            r_owner: RpcbString(b"superuser"),
        };
        let reply = self.ask(proc, &args)?;
        Ok(answer(&reply, self.xid)?.bool()?)
    }

    /// DUMP: everything registered.
    fn list(&mut self) -> Result<Vec<Entry>, RpcbindError> {
        let reply = self.ask(RpcbProc::Dump, &())?;
        entries(answer(&reply, self.xid)?)
    }

    /// A call; the record of its reply.
    fn ask(&mut self, proc: RpcbProc, args: &impl Encode) -> Result<Vec<u8>, RpcbindError> {
        self.xid = self.xid.wrapping_add(1);
        let header = CallHeader {
            xid: self.xid,
            prog: PMAP_PROG,
            vers: RPCB_V4,
            proc: proc.wire(),
            cred: OpaqueAuth::NONE,
            verf: OpaqueAuth::NONE,
        };
        let mut record = Vec::new();
        let mut enc = Enc::new(&mut record, RECORD_MAX);
        enc.put(&header)?;
        enc.put(args)?;
        let len = u32::try_from(record.len()).map_err(|_| XdrError::TooLong)?;
        self.stream
            .write_all(&[&mark(len, true), &*record].concat())?;
        read_record(&mut self.stream)
    }
}

/// The results in a reply.
fn answer(reply: &[u8], xid: u32) -> Result<Dec<'_>, RpcbindError> {
    let mut dec = Dec::new(reply);
    let header: ReplyHeader<'_> = dec.get()?;
    if header.xid != xid {
        return Err(RpcbindError::Nonsense(XdrError::BadEnum));
    }
    header.outcome.map_err(RpcbindError::Refused)?;
    Ok(dec)
}

fn entries(mut results: Dec<'_>) -> Result<Vec<Entry>, RpcbindError> {
    let list: RpcbList<'_> = results.get()?;
    let text = |field: RpcbString<'_>| String::from_utf8_lossy(field.0).into_owned();
    let entry = |rpcb: Rpcb<'_>| Entry {
        prog: rpcb.r_prog,
        vers: rpcb.r_vers,
        netid: text(rpcb.r_netid),
        addr: text(rpcb.r_addr),
    };
    Ok(list.iter().map(entry).collect())
}

fn read_record(stream: &mut dyn Stream) -> Result<Vec<u8>, RpcbindError> {
    let mut record = Vec::new();
    loop {
        let mut header = [0; 4];
        stream.read_exact(&mut header)?;
        let word = u32::from_be_bytes(header);
        let len = (word & !mark_last()) as usize;
        if len == 0 || record.len() + len > RECORD_MAX {
            return Err(RpcbindError::Nonsense(XdrError::TooLong));
        }
        let start = record.len();
        record.resize(start + len, 0);
        stream.read_exact(record.get_mut(start..).unwrap_or_default())?;
        if word & mark_last() != 0 {
            return Ok(record);
        }
    }
}

/// The bit of a fragment header that says it is the last.
const fn mark_last() -> u32 {
    u32::from_be_bytes(mark(0, true))
}

fn local(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn loopback() -> io::Result<TcpStream> {
    let rpcbind = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PMAP_PORT);
    for port in RESERVED.rev() {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
        }
        match bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => continue,
            Err(e) => return Err(e.into()),
        }
        match connect(&socket, &rpcbind) {
            Ok(()) => return Ok(TcpStream::from(socket)),
            Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::from_raw_os_error(
        Errno::ADDRINUSE.raw_os_error(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::msg::{encode_refusal, success_header};
    use super::*;
    use crate::xdr::encode_chain;
    use std::io::Cursor;

    fn reply(xid: u32, word: u32) -> Vec<u8> {
        [&success_header(xid)[..], &word.to_be_bytes()].concat()
    }

    #[test]
    fn answers() {
        let done = |reply: &[u8]| answer(reply, 7).and_then(|mut dec| Ok(dec.bool()?));
        assert!(matches!(done(&reply(7, 1)), Ok(true)));
        assert!(matches!(done(&reply(7, 0)), Ok(false)));
        for bad in [
            reply(8, 1),
            reply(7, 2),
            reply(7, 1)[..27].to_vec(),
            Vec::new(),
        ] {
            assert!(matches!(done(&bad), Err(RpcbindError::Nonsense(_))));
        }
        let mut refused = Vec::new();
        let why = Refusal::ProgMismatch { low: 2, high: 2 };
        encode_refusal(&mut Enc::new(&mut refused, 100), 7, why).expect("fits");
        assert!(matches!(answer(&refused, 7), Err(RpcbindError::Refused(got)) if got == why));
    }

    #[test]
    fn what_is_put_back() {
        let entry = |prog, vers, netid: &str, addr: &str| Entry {
            prog,
            vers,
            netid: netid.to_owned(),
            addr: addr.to_owned(),
        };
        let statd = entry(SM_PROG, 1, "udp", "0.0.0.0.190.7");
        let all = [
            statd.clone(),
            entry(NLM_PROGRAM, 4, "tcp6", "::.8.1"),
            entry(PMAP_PROG, 4, "tcp", "0.0.0.0.0.111"),
            entry(SM_PROG, 1, "tcp", "nonsense"),
        ];
        let mut record = Vec::new();
        let rpcbs = all.iter().map(|entry| Rpcb {
            r_prog: entry.prog,
            r_vers: entry.vers,
            r_netid: RpcbString(entry.netid.as_bytes()),
            r_addr: RpcbString(entry.addr.as_bytes()),
            r_owner: RpcbString(b"superuser"),
        });
        encode_chain(&mut Enc::new(&mut record, RECORD_MAX), rpcbs).expect("fits");
        let read = entries(Dec::new(&record)).expect("a list");
        assert_eq!(read, all);
        assert!(entries(Dec::new(&record[..record.len() - 4])).is_err());
        let listen = ["10.0.0.1:2049".parse().expect("an address")];
        assert_eq!(of_others(read, &listen), [statd]);
    }

    #[test]
    fn records_of_fragments_and_their_bound() {
        let read = |bytes: Vec<u8>| read_record(&mut Cursor::new(bytes));
        let two = [&mark(3, false)[..], b"abc", &mark(1, true), b"d"].concat();
        assert!(matches!(read(two), Ok(record) if record == b"abcd"));
        let empty = mark(0, true).to_vec();
        assert!(matches!(read(empty), Err(RpcbindError::Nonsense(_))));
        let long = mark(RECORD_MAX as u32 + 1, true).to_vec();
        assert!(matches!(read(long), Err(RpcbindError::Nonsense(_))));
        let cut = [&mark(3, true)[..], b"ab"].concat();
        assert!(matches!(read(cut), Err(RpcbindError::Unreachable(_))));
    }
}
