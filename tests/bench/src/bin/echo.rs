//! The floor: a server that reads each call whole and answers with a well-formed reply of the length the real one
//! has, and does nothing else. One thread, epoll, replies of a batch in one send; with a single connection plain
//! blocking receives, which is the shortest round trip that sockets give.
//!
//! Usage: `echo PORT`. It trusts its client and is of no other use.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench::outq::OutQueue;
use bench::rpc::{LAST_FRAGMENT, nfs_proc};
use bench::v4::{THIRD_OP_AT, op};
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};

const BUFFER: usize = 256 << 10;
/// Record mark and the fixed words of a call up to the procedure number.
const CALL_HEAD: usize = 28;
/// `fattr3`, `post_op_attr`, `wcc_data` and a handle of 32 bytes on the wire.
const FATTR: usize = 84;
const POST_OP_ATTR: usize = 4 + FATTR;
const WCC_DATA: usize = 4 + 24 + POST_OP_ATTR;
const HANDLE: usize = 4 + 32;
/// 66 entries: follows, fileid, name of 7, cookie, attributes, handle.
const LISTING: usize = 66 * (4 + 8 + 12 + 8 + POST_OP_ATTR + 4 + HANDLE);

const MAX_RESULTS: usize = 32 << 10;
static ZEROS: [u8; MAX_RESULTS] = [0; MAX_RESULTS];
const SHORT_CALL: usize = 1024;
/// Longest data of a READ.
const MAX_DATA: usize = 1 << 20;

/// Bytes behind the RPC header of a reply to `proc`, before any data.
fn results_len(proc: u32) -> usize {
    4 + match proc {
        nfs_proc::GETATTR => FATTR,
        nfs_proc::LOOKUP => HANDLE + 2 * POST_OP_ATTR,
        nfs_proc::ACCESS => POST_OP_ATTR + 4,
        nfs_proc::READ => POST_OP_ATTR + 12,
        nfs_proc::WRITE => WCC_DATA + 16,
        nfs_proc::CREATE => 4 + HANDLE + POST_OP_ATTR + WCC_DATA,
        nfs_proc::REMOVE => WCC_DATA,
        nfs_proc::READDIRPLUS => POST_OP_ATTR + 8 + LISTING + 8,
        _ => return 0,
    }
}

/// A 4.1 or 4.2 reply up to the body of the operation behind SEQUENCE and PUTFH: status, tag, count, their results, its head.
const COMPOUND_HEAD: usize = 12 + 8 + 36 + 8 + 8;
/// GETATTR with its head: bitmap and the attributes a Linux client asks for.
const GETATTR4: usize = 8 + 12 + 4 + 152;
const GETFH4: usize = 8 + HANDLE;

/// The same for a compound whose third operation is `third`, with what usually follows it.
fn results4_len(third: u32) -> usize {
    COMPOUND_HEAD
        + match third {
            op::GETATTR => GETATTR4 - 8,
            op::LOOKUP => GETFH4 + GETATTR4,
            op::OPEN => 16 + 20 + 4 + 12 + 4 + GETFH4 + GETATTR4,
            op::CLOSE | op::LOCK | op::LOCKU | op::WRITE => 16,
            op::REMOVE => 20,
            op::READ => 8,
            op::READ_PLUS => 24,
            op::READDIR => 8 + 64 * (4 + 8 + 12 + GETATTR4 + HANDLE) + 8,
            _ => 0,
        }
}

struct Peer {
    stream: TcpStream,
    out: OutQueue,
    buf: Vec<u8>,
    filled: usize,
    /// Bytes of the current call that are still to come, and what to answer then: xid, results, data.
    skip: usize,
    owed: Option<(u32, usize, usize)>,
}

impl Peer {
    /// Receives once and queues a reply to each call that is complete; an error when the client is gone.
    fn receive(&mut self, flags: RecvFlags) -> io::Result<()> {
        match recv(&self.stream, &mut self.buf[self.filled..], flags) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, n)) => self.filled += n,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let mut at = 0;
        loop {
            let step = self.skip.min(self.filled - at);
            at += step;
            self.skip -= step;
            if self.skip > 0 {
                break;
            }
            if let Some((xid, results, data)) = self.owed.take() {
                answer(&mut self.out, xid, results, data);
            }
            let Some(used) = self.begin(at) else { break };
            at += used;
        }
        self.buf.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    /// Reads the start of the call at `at`; `None` while too little of it is there.
    fn begin(&mut self, at: usize) -> Option<usize> {
        let bytes = &self.buf[at..self.filled];
        if bytes.len() < CALL_HEAD {
            return None;
        }
        let v4 = bytes[20..24] == [0, 0, 0, 4] && bytes[24..28] == [0, 0, 0, 1];
        let least = if v4 { THIRD_OP_AT + 4 } else { CALL_HEAD };
        if bytes.len() < least {
            return None;
        }
        let word =
            |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let len = 4 + (word(0) & !LAST_FRAGMENT) as usize;
        // Short calls whole, so that the count of a READ, its last word, can be seen; a WRITE's data is dropped as it comes.
        let used = if len <= SHORT_CALL { len } else { least };
        if bytes.len() < used {
            return None;
        }
        let proc = word(24);
        let third = if v4 { word(THIRD_OP_AT) } else { 0 };
        let reads = if v4 {
            matches!(third, op::READ | op::READ_PLUS)
        } else {
            proc == nfs_proc::READ
        };
        let data = if reads {
            word(used - 4).min(MAX_DATA as u32) as usize
        } else {
            0
        };
        let results = if v4 {
            results4_len(third)
        } else {
            results_len(proc)
        };
        self.owed = Some((word(4), results, data));
        self.skip = len - used;
        Some(used)
    }
}

/// Queues an accepted reply of `results` zero bytes and `data` bytes of the shared block.
fn answer(out: &mut OutQueue, xid: u32, results: usize, data: usize) {
    let len = 24 + results;
    let header = out.push(&ZEROS[..4 + len], data);
    header[..4].copy_from_slice(&(LAST_FRAGMENT | (len + data) as u32).to_be_bytes());
    header[4..8].copy_from_slice(&xid.to_be_bytes());
    header[11] = 1;
}

/// Serves one connection until it ends or a second one arrives.
fn serve_alone(peer: &mut Peer, arrivals: &Mutex<Vec<TcpStream>>, block: &[u8]) -> io::Result<()> {
    peer.stream
        .set_read_timeout(Some(Duration::from_millis(20)))?;
    while arrivals.lock().is_ok_and(|a| a.is_empty()) {
        peer.receive(RecvFlags::empty())?;
        peer.out.flush(&peer.stream, block, true)?;
    }
    Ok(())
}

fn adopt(
    ep: impl std::os::fd::AsFd,
    arrivals: &Mutex<Vec<TcpStream>>,
    peers: &mut Vec<Option<Peer>>,
) -> io::Result<()> {
    let arrived = arrivals
        .lock()
        .map(|mut a| std::mem::take(&mut *a))
        .unwrap_or_default();
    for stream in arrived {
        stream.set_nodelay(true)?;
        let slot = peers.iter().position(Option::is_none).unwrap_or_else(|| {
            peers.push(None);
            peers.len() - 1
        });
        epoll::add(
            &ep,
            &stream,
            epoll::EventData::new_u64(slot as u64),
            epoll::EventFlags::IN,
        )?;
        peers[slot] = Some(Peer {
            stream,
            out: OutQueue::default(),
            buf: vec![0; BUFFER],
            filled: 0,
            skip: 0,
            owed: None,
        });
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let port = std::env::args()
        .nth(1)
        .and_then(|p| p.parse().ok())
        .unwrap_or_else(|| {
            eprintln!("usage: echo PORT");
            std::process::exit(2)
        });
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let incoming = arrivals.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(mut arrived) = incoming.lock() {
                arrived.push(stream);
            }
        }
    });
    let block = vec![0u8; MAX_DATA];
    let ep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Vec::with_capacity(64);
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    loop {
        adopt(&ep, &arrivals, &mut peers)?;
        if peers.iter().flatten().count() == 1
            && let Some(slot) = peers.iter_mut().find(|p| p.is_some())
            && let Some(peer) = slot
            && serve_alone(peer, &arrivals, &block).is_err()
        {
            *slot = None;
        }
        events.clear();
        epoll::wait(
            &ep,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        )?;
        for event in &events {
            let Some(slot) = peers.get_mut(event.data.u64() as usize) else {
                continue;
            };
            let Some(peer) = slot else { continue };
            let mut turn = || {
                peer.receive(RecvFlags::DONTWAIT)?;
                peer.out.flush(&peer.stream, &block, true)
            };
            if turn().is_err() {
                *slot = None;
            }
        }
    }
}
