//! A host of NLM: an address of its own, its lock manager, status monitor and port mapper on port 111 there, and a
//! connection to the server from there.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use nfsd::nlm::types::{
    CallerName, CancelArgs, FshAccess, FshMode, Holder, Lock, LockArgs, NLM_PROGRAM, NLM_V4,
    Netobj, NlmProc, NlmStat, Res, Share, ShareArgs, ShareRes, TestArgs, TestRes, UnlockArgs,
};
use nfsd::nsm::types::{SM_PROG, SmName, SmProc, StatChge};
use nfsd::rpc::msg::{Parsed, parse, success_header};
use nfsd::rpc::portmap::{PMAP_PROG, PMAP_V2, RpcbString};
use nfsd::rpc::uaddr::universal_addr;
use nfsd::xdr::{Dec, Decode, Encode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{Client, Fh, PATIENCE, encode, framed};

/// The cookie of every call.
pub const COOKIE: &[u8] = b"cookie";

/// A call that has come from the server.
#[derive(Debug)]
pub struct Called {
    /// Program, version, procedure.
    pub what: [u32; 3],
    /// Its arguments.
    pub args: Vec<u8>,
    /// Where it came from.
    pub from: IpAddr,
}

impl Called {
    /// The arguments, decoded to the last byte.
    ///
    /// # Panics
    /// If they are not a `T`.
    #[track_caller]
    pub fn args<'a, T: Decode<'a>>(&'a self) -> T {
        let mut dec = Dec::new(&self.args);
        let args = dec.get().expect("arguments");
        dec.finish().expect("nothing after them");
        args
    }
}

/// What TEST says is in the way: process, first byte, length.
pub type InTheWay = Option<(i32, u64, u64)>;

/// How GRANTED is answered next: a status, or not at all. Afterwards: granted.
type Script = Arc<Mutex<VecDeque<Option<NlmStat>>>>;

/// One host.
pub struct Host {
    /// Its connection.
    pub client: Client,
    /// What it calls itself.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its NSM state.
    pub state: i32,
    /// Version it speaks.
    pub vers: u32,
    calls: mpsc::Receiver<Called>,
    script: Script,
}

/// An address no other test of this machine uses now.
fn fresh_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let [.., low] = pid.to_be_bytes();
    Ipv4Addr::new(127, 80 + (pid >> 8 & 0x3f) as u8, low, n as u8)
}

fn connect(ip: IpAddr, server: SocketAddr) -> Client {
    // Not for the servers other tests start meanwhile.
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(ip, 0)).expect("its address");
    rustix::net::connect(&socket, &server).expect("the server");
    Client::over(TcpStream::from(socket))
}

impl Host {
    /// A new host that can use the server at `server`. Needs privilege for port 111.
    ///
    /// # Panics
    /// If it cannot be.
    #[track_caller]
    pub fn new(server: SocketAddr, name: &str) -> Host {
        Host::at(IpAddr::V4(fresh_ip()), server, name)
    }

    /// The same with an address this machine has.
    ///
    /// # Panics
    /// If it cannot be.
    #[track_caller]
    pub fn at(ip: IpAddr, server: SocketAddr, name: &str) -> Host {
        let (sender, calls) = mpsc::channel();
        let script = Script::default();
        let listener = TcpListener::bind(SocketAddr::new(ip, 111)).expect("port 111");
        let answers = script.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, answers) = (sender.clone(), answers.clone());
                std::thread::spawn(move || serve(stream, &sender, &answers));
            }
        });
        Host {
            client: connect(ip, server),
            name: name.to_owned(),
            ip,
            state: 1,
            vers: NLM_V4,
            calls,
            script,
        }
    }

    /// Connects again, after a restart of the server.
    pub fn reconnect(&mut self, server: SocketAddr) {
        self.client = connect(self.ip, server);
    }

    /// The root of an export.
    #[track_caller]
    pub fn mount(&mut self, export: &Path) -> Fh {
        self.client.mount(export)
    }

    /// How the next GRANTED is answered.
    pub fn answer_next(&self, stat: Option<NlmStat>) {
        self.script.lock().expect("not poisoned").push_back(stat);
    }

    /// The next call from the server.
    ///
    /// # Panics
    /// If there is none in time.
    #[track_caller]
    pub fn called(&self) -> Called {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// The next GRANTED: first byte and length.
    #[track_caller]
    pub fn granted(&self) -> (u64, u64) {
        let called = self.called();
        assert_eq!(called.what, [NLM_PROGRAM, NLM_V4, NlmProc::Granted.wire()]);
        let args: TestArgs<'_> = called.args();
        (args.alock.offset, args.alock.len)
    }

    /// Nothing comes for a while.
    #[track_caller]
    pub fn is_left_alone(&self) {
        let called = self.calls.recv_timeout(Duration::from_millis(300));
        assert!(called.is_err(), "{called:?}");
    }

    /// A range of a file, for process `svid`.
    pub fn range<'a>(&'a self, fh: &'a [u8], svid: i32, (offset, len): (u64, u64)) -> Lock<'a> {
        Lock {
            caller_name: CallerName(self.name.as_bytes()),
            fh: Netobj(fh),
            oh: Netobj(b"owner"),
            svid,
            offset,
            len,
        }
    }

    /// A procedure with its arguments; the answer as bytes.
    #[track_caller]
    pub fn call(&mut self, proc: NlmProc, args: &[u8]) -> super::Answer {
        let what = [NLM_PROGRAM, self.vers, proc.wire()];
        self.client.call(what, &super::nfs4::Raw(args))
    }

    #[track_caller]
    fn stat(&mut self, proc: NlmProc, args: &impl Encode) -> NlmStat {
        let args = encode(args);
        let answer = self.call(proc, &args);
        let res: Res<'_> = answer.results();
        assert_eq!(res.cookie.0, COOKIE);
        res.stat
    }

    /// Arguments of LOCK: a write lock.
    pub fn lock_args<'a>(
        &'a self,
        fh: &'a [u8],
        svid: i32,
        range: (u64, u64),
        block: bool,
    ) -> LockArgs<'a> {
        LockArgs {
            cookie: Netobj(COOKIE),
            block,
            exclusive: true,
            alock: self.range(fh, svid, range),
            reclaim: false,
            state: self.state,
        }
    }

    /// LOCK with any change to its arguments.
    #[track_caller]
    pub fn lock_with(
        &mut self,
        fh: &[u8],
        svid: i32,
        range: (u64, u64),
        change: impl FnOnce(&mut LockArgs<'_>),
    ) -> NlmStat {
        let mut args = self.lock_args(fh, svid, range, false);
        change(&mut args);
        let args = encode(&args);
        self.stat(NlmProc::Lock, &super::nfs4::Raw(&args))
    }

    /// A write lock, at once.
    #[track_caller]
    pub fn lock(&mut self, fh: &[u8], svid: i32, range: (u64, u64)) -> NlmStat {
        self.lock_with(fh, svid, range, |_| {})
    }

    /// A write lock, waited for.
    #[track_caller]
    pub fn wait(&mut self, fh: &[u8], svid: i32, range: (u64, u64)) -> NlmStat {
        self.lock_with(fh, svid, range, |args| args.block = true)
    }

    /// CANCEL of such.
    #[track_caller]
    pub fn cancel(&mut self, fh: &[u8], svid: i32, range: (u64, u64)) -> NlmStat {
        let args = encode(&CancelArgs {
            cookie: Netobj(COOKIE),
            block: true,
            exclusive: true,
            alock: self.range(fh, svid, range),
        });
        self.stat(NlmProc::Cancel, &super::nfs4::Raw(&args))
    }

    /// UNLOCK.
    #[track_caller]
    pub fn unlock(&mut self, fh: &[u8], svid: i32, range: (u64, u64)) -> NlmStat {
        let args = encode(&UnlockArgs {
            cookie: Netobj(COOKIE),
            alock: self.range(fh, svid, range),
        });
        self.stat(NlmProc::Unlock, &super::nfs4::Raw(&args))
    }

    /// TEST for a write lock: `Err` with process, first byte and length of what is in the way.
    #[track_caller]
    pub fn test(
        &mut self,
        fh: &[u8],
        svid: i32,
        range: (u64, u64),
    ) -> Result<(), (NlmStat, InTheWay)> {
        let args = encode(&TestArgs {
            cookie: Netobj(COOKIE),
            exclusive: true,
            alock: self.range(fh, svid, range),
        });
        let answer = self.call(NlmProc::Test, &args);
        let res: TestRes<'_, Holder<'_>> = answer.results();
        assert_eq!(res.cookie.0, COOKIE);
        res.stat
            .map_err(|(stat, holder)| (stat, holder.map(|h| (h.svid, h.offset, h.len))))
    }

    /// SHARE or UNSHARE.
    #[track_caller]
    pub fn share(
        &mut self,
        proc: NlmProc,
        fh: &[u8],
        oh: &[u8],
        (access, mode): (FshAccess, FshMode),
    ) -> NlmStat {
        let args = encode(&ShareArgs {
            cookie: Netobj(COOKIE),
            share: Share {
                caller_name: CallerName(self.name.as_bytes()),
                fh: Netobj(fh),
                oh: Netobj(oh),
                mode,
                access,
            },
            reclaim: false,
        });
        let answer = self.call(proc, &args);
        let res: ShareRes<'_> = answer.results();
        assert_eq!(res.cookie.0, COOKIE);
        res.stat
    }

    /// SM_NOTIFY: `name` has restarted.
    #[track_caller]
    pub fn notify(&mut self, name: &str, state: i32) {
        let args = StatChge {
            mon_name: SmName(name.as_bytes()),
            state,
        };
        let what = [SM_PROG, 1, SmProc::Notify.wire()];
        self.client.call(what, &args).results::<()>();
    }
}

fn read_record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let len = u32::from_be_bytes(mark) & 0x7fff_ffff;
    let mut record = vec![0; len as usize];
    stream.read_exact(&mut record).ok()?;
    Some(record)
}

fn serve(mut stream: TcpStream, calls: &mpsc::Sender<Called>, script: &Script) {
    use std::io::Write as _;
    while let Some(record) = read_record(&mut stream) {
        let Parsed::Call(call) = parse(&record) else {
            panic!("not a call: {record:?}")
        };
        let mut reply = success_header(call.xid).to_vec();
        if call.prog == PMAP_PROG {
            // All programs are here.
            if call.vers == PMAP_V2 {
                reply.extend(111_u32.to_be_bytes());
            } else {
                let here = stream.local_addr().expect("an address");
                reply.extend(encode(&RpcbString(universal_addr(&here).as_bytes())));
            }
        } else {
            let granted = call.prog == NLM_PROGRAM && call.proc == NlmProc::Granted.wire();
            let called = Called {
                what: [call.prog, call.vers, call.proc],
                args: call.args.rest().to_vec(),
                from: stream.peer_addr().expect("an address").ip(),
            };
            let next = script.lock().expect("not poisoned").pop_front();
            let stat = next.unwrap_or(Some(NlmStat::Granted));
            if granted {
                let cookie: Netobj<'_> = Dec::new(&called.args).get().expect("a cookie");
                let stat = stat.unwrap_or(NlmStat::Granted);
                reply.extend(encode(&Res { cookie, stat }));
            }
            // Nobody listens when the test is over.
            let _ = calls.send(called);
            if granted && stat.is_none() {
                return;
            }
        }
        if stream.write_all(&framed(&reply)).is_err() {
            return;
        }
    }
}
