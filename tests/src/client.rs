//! A raw RPC client over one TCP connection: full control of records, transaction ids and credentials, and ordinary
//! calls on top. It checks what every reply must keep: framing, header, results decoded to their last byte.

pub mod callbacks;
pub mod mount;
pub mod nfs3;
pub mod nfs4;
pub mod nfsacl;
pub mod nlm;
pub mod session;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nfsd::rpc::auth::OpaqueAuth;
use nfsd::rpc::auth::sys::AuthSys;
use nfsd::rpc::msg::{CallHeader, Refusal, ReplyHeader};
use nfsd::rpc::record::{MARK_LEN, mark};
use nfsd::xdr::{Dec, Decode, Enc, Encode};

/// How long an answer may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Largest record this client builds or takes.
const LARGEST: usize = 32 << 20;

/// A file handle as the wire carries it.
pub type Fh = Vec<u8>;

/// Whom calls come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS with at most 16 groups.
    Sys {
        /// Effective user.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// Supplementary groups.
        gids: Vec<u32>,
    },
    /// Any flavor and body of the credential, with a verifier of any flavor and body.
    Raw {
        /// Flavor and body of the credential.
        cred: (u32, Vec<u8>),
        /// Flavor and body of the verifier.
        verf: (u32, Vec<u8>),
    },
}

impl Login {
    /// User 0, group 0.
    pub fn root() -> Login {
        Login::user(0, 0)
    }

    /// A user without supplementary groups.
    pub fn user(uid: u32, gid: u32) -> Login {
        Login::Sys {
            uid,
            gid,
            gids: Vec::new(),
        }
    }

    /// Credential and verifier.
    fn wire(&self) -> ((u32, Vec<u8>), (u32, Vec<u8>)) {
        let none = (0, Vec::new());
        match self {
            Login::None => (none.clone(), none),
            Login::Raw { cred, verf } => (cred.clone(), verf.clone()),
            Login::Sys { uid, gid, gids } => {
                let sys = AuthSys {
                    stamp: 7,
                    machinename: b"client",
                    uid: *uid,
                    gid: *gid,
                    gids: gids.iter().copied().collect(),
                };
                ((1, encode(&sys)), none)
            }
        }
    }
}

/// The XDR of a value.
///
/// # Panics
/// If it breaks a limit of its type.
pub fn encode(value: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    let encoded = Enc::new(&mut out, LARGEST).put(value);
    encoded.expect("an encodable value");
    out
}

/// A call as a record without its mark. `args` are bytes, possibly not valid ones.
pub fn record(xid: u32, login: &Login, program: [u32; 3], args: &[u8]) -> Vec<u8> {
    let [prog, vers, proc] = program;
    let (cred, verf) = login.wire();
    let auth = |a: &(u32, Vec<u8>), out: &mut Vec<u8>| {
        out.extend(a.0.to_be_bytes());
        let mut enc = Enc::new(out, LARGEST);
        enc.opaque(&a.1).expect("a credential");
    };
    let header = CallHeader {
        xid,
        prog,
        vers,
        proc,
        cred: OpaqueAuth::NONE,
        verf: OpaqueAuth::NONE,
    };
    // Written by hand from the credential on: it may be longer than the protocol allows.
    let mut out = encode(&header);
    out.truncate(24);
    auth(&cred, &mut out);
    auth(&verf, &mut out);
    out.extend_from_slice(args);
    out
}

/// A record with its mark, in one fragment.
pub fn framed(record: &[u8]) -> Vec<u8> {
    let mut out = mark(record.len() as u32, true).to_vec();
    out.extend_from_slice(record);
    out
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole record.
    pub record: Vec<u8>,
}

impl Answer {
    fn header(&self) -> (ReplyHeader<'_>, Dec<'_>) {
        let mut dec = Dec::new(&self.record);
        let header = dec.get().expect("a reply header");
        (header, dec)
    }

    /// Whether the procedure ran; a refusal must have nothing after it.
    ///
    /// # Panics
    /// On a malformed reply.
    pub fn outcome(&self) -> Result<(), Refusal> {
        let (header, dec) = self.header();
        if header.outcome.is_err() {
            dec.finish().expect("nothing after a refusal");
        }
        header.outcome
    }

    /// The results as bytes.
    ///
    /// # Panics
    /// On a refusal.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        let (header, dec) = self.header();
        assert_eq!(header.outcome, Ok(()), "refused");
        assert_eq!(header.verf, OpaqueAuth::NONE);
        dec.rest()
    }

    /// The results, decoded to the last byte.
    ///
    /// # Panics
    /// On a refusal and on results that are not a `T`.
    #[track_caller]
    pub fn results<'a, T: Decode<'a>>(&'a self) -> T {
        let mut dec = Dec::new(self.bytes());
        let value = dec.get::<T>();
        let value =
            value.unwrap_or_else(|e| panic!("results do not decode: {e}: {:?}", self.record));
        let finished = dec.finish();
        finished.unwrap_or_else(|e| panic!("results: {e}: {:?}", self.record));
        value
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    login: Login,
    xid: u32,
    input: Vec<u8>,
    early: HashMap<u32, Answer>,
    calls: VecDeque<Vec<u8>>,
}

/// The server calls over the connection (RFC 5531 9: `msg_type` 0).
fn is_call(record: &[u8]) -> bool {
    record.get(4..8) == Some(&[0; 4])
}

/// Transaction ids differ between connections too, or the duplicate request cache would take one client's call for
/// another's.
fn first_xid() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) << 18 | 0x8000_0000
}

impl Client {
    /// Connects as user 0.
    ///
    /// # Panics
    /// If nobody listens.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE);
        Client::over(stream.unwrap_or_else(|e| panic!("connecting to {addr}: {e}")))
    }

    /// Whether somebody listens there.
    pub fn connect_maybe(addr: SocketAddr) -> bool {
        TcpStream::connect_timeout(&addr, PATIENCE).is_ok()
    }

    /// Connects from a port below 1024, which takes privilege.
    ///
    /// # Panics
    /// If there is no such port free.
    pub fn connect_low(addr: SocketAddr) -> Client {
        use rustix::net::{AddressFamily, SocketType};
        let family = if addr.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        for port in (600..1024).rev() {
            let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("a socket");
            let from = SocketAddr::new(addr.ip(), port);
            if rustix::net::bind(&socket, &from).is_ok()
                && rustix::net::connect(&socket, &addr).is_ok()
            {
                return Client::over(TcpStream::from(socket));
            }
        }
        panic!("no port below 1024 is free")
    }

    /// Over a stream that is connected already.
    pub fn over(stream: TcpStream) -> Client {
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        set.expect("socket options");
        Client {
            stream,
            login: Login::root(),
            xid: first_xid(),
            input: Vec::new(),
            early: HashMap::new(),
            calls: VecDeque::new(),
        }
    }

    /// The same connection with other credentials from now on.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Client {
        self.login = login;
        self
    }

    /// Other credentials from now on.
    pub fn set_login(&mut self, login: Login) {
        self.login = login;
    }

    /// As another user for one closure.
    pub fn as_user<T>(&mut self, login: Login, run: impl FnOnce(&mut Client) -> T) -> T {
        let own = std::mem::replace(&mut self.login, login);
        let value = run(self);
        self.login = own;
        value
    }

    /// Whom calls come from.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// A transaction id not used before.
    pub fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Of the socket.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a record in one fragment.
    ///
    /// # Panics
    /// If the server does not take it.
    #[track_caller]
    pub fn send_record(&mut self, record: &[u8]) {
        self.send_raw(&framed(record)).expect("sending a record");
    }

    /// Sends one record as these fragments.
    ///
    /// # Panics
    /// If the server does not take it.
    #[track_caller]
    pub fn send_fragments(&mut self, fragments: &[&[u8]]) {
        let mut out = Vec::new();
        for (i, fragment) in fragments.iter().enumerate() {
            out.extend(mark(fragment.len() as u32, i + 1 == fragments.len()));
            out.extend_from_slice(fragment);
        }
        self.send_raw(&out).expect("sending fragments");
    }

    /// No more will be sent.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until `input` has `len` bytes; false at the end of the stream. It looks for what has come already also when
    /// the time is up.
    fn fill(&mut self, len: usize, end: Instant) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        while self.input.len() < len {
            let left = end.saturating_duration_since(Instant::now());
            let read = if left.is_zero() {
                let flags = rustix::net::RecvFlags::DONTWAIT;
                rustix::net::recv(&self.stream, &mut chunk[..], flags)
                    .map(|(n, _)| n)
                    .map_err(io::Error::from)
            } else {
                self.stream.set_read_timeout(Some(left))?;
                self.stream.read(&mut chunk)
            };
            match read {
                Ok(0) => return Ok(false),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// The next record, or `None` at the end of the stream.
    ///
    /// # Errors
    /// Of the socket; `TimedOut`; `InvalidData` for a stream that ends inside a record or a record without end.
    pub fn try_record(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let end = Instant::now() + patience;
        let mut record = Vec::new();
        loop {
            if !self.fill(MARK_LEN, end)? {
                let clean = record.is_empty() && self.input.is_empty();
                return if clean {
                    Ok(None)
                } else {
                    Err(ErrorKind::InvalidData.into())
                };
            }
            let word = self
                .input
                .first_chunk()
                .map_or(0, |w| u32::from_be_bytes(*w));
            let len = (word & 0x7fff_ffff) as usize;
            if len > LARGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            if !self.fill(MARK_LEN + len, end)? {
                return Err(ErrorKind::InvalidData.into());
            }
            record.extend_from_slice(&self.input[MARK_LEN..MARK_LEN + len]);
            self.input.drain(..MARK_LEN + len);
            if word >> 31 == 1 {
                return Ok(Some(record));
            }
        }
    }

    /// The next answer, whichever call it is to.
    ///
    /// # Panics
    /// If there is none in time.
    #[track_caller]
    pub fn next_answer(&mut self) -> (u32, Answer) {
        loop {
            let record = match self.try_record(PATIENCE) {
                Ok(Some(record)) => record,
                Ok(None) => panic!("the server closed the connection instead of answering"),
                Err(e) => panic!("no answer: {e}"),
            };
            if is_call(&record) {
                self.calls.push_back(record);
                continue;
            }
            let answer = Answer { record };
            let xid = answer.header().0.xid;
            return (xid, answer);
        }
    }

    /// The next call of the server's, if one comes in time or has come between answers.
    ///
    /// # Panics
    /// If an answer comes.
    #[track_caller]
    pub fn next_call(&mut self, patience: Duration) -> Option<Vec<u8>> {
        if self.calls.is_empty() {
            let record = self.try_record(patience).ok().flatten()?;
            assert!(is_call(&record), "an answer nobody waits for");
            self.calls.push_back(record);
        }
        self.calls.pop_front()
    }

    /// The answer to one call; answers to others are kept for them.
    ///
    /// # Panics
    /// If there is none in time, or two to one call.
    #[track_caller]
    pub fn answer(&mut self, xid: u32) -> Answer {
        loop {
            if let Some(answer) = self.early.remove(&xid) {
                return answer;
            }
            let (of, answer) = self.next_answer();
            if of == xid {
                return answer;
            }
            let twice = self.early.insert(of, answer);
            assert!(twice.is_none(), "two answers to {of}");
        }
    }

    /// True once the server has closed the connection and nothing more came; false if it is still open after `patience`.
    pub fn closed_within(&mut self, patience: Duration) -> bool {
        match self.try_record(patience) {
            Ok(None) => true,
            Ok(Some(_)) => false,
            Err(e) => e.kind() != ErrorKind::TimedOut,
        }
    }

    /// A call of this client's as a record.
    pub fn build(&mut self, program: [u32; 3], args: &impl Encode) -> (u32, Vec<u8>) {
        let xid = self.next_xid();
        (xid, record(xid, &self.login, program, &encode(args)))
    }

    /// Sends a call without waiting for its answer.
    #[track_caller]
    pub fn start(&mut self, program: [u32; 3], args: &impl Encode) -> u32 {
        let (xid, record) = self.build(program, args);
        self.send_record(&record);
        xid
    }

    /// Sends a call and waits for its answer.
    #[track_caller]
    pub fn call(&mut self, program: [u32; 3], args: &impl Encode) -> Answer {
        let xid = self.start(program, args);
        self.answer(xid)
    }
}
