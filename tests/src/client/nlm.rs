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
    narrow, read,
};
use nfsd::nsm::types::{SM_PROG, SmName, SmProc, StatChge};
use nfsd::rpc::msg::{Parsed, parse, success_header};
use nfsd::rpc::portmap::{PMAP_PROG, PMAP_V2, RpcbString};
use nfsd::rpc::uaddr::universal_addr;
use nfsd::xdr::{Dec, Decode};
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

/// How calls are answered next: GRANTED by a status, any by none at all. Afterwards: granted.
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

    /// How the next call is answered, if it is GRANTED; any is not with `None`.
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

    /// The next GRANTED, in the host's version: first byte and length.
    #[track_caller]
    pub fn granted(&self) -> (u64, u64) {
        self.granted_as(NlmProc::Granted).1
    }

    /// The next GRANTED or GRANTED_MSG: cookie, first byte and length.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn granted_as(&self, proc: NlmProc) -> (Vec<u8>, (u64, u64)) {
        let called = self.called();
        assert_eq!(called.what, [NLM_PROGRAM, self.vers, proc.wire()]);
        let mut dec = Dec::new(&called.args);
        let args = read::<TestArgs<'_>, narrow::TestArgs<'_>>(&mut dec, self.vers);
        let args = args.expect("arguments");
        dec.finish().expect("nothing after them");
        (args.cookie.0.to_vec(), (args.alock.offset, args.alock.len))
    }

    /// GRANTED_RES.
    #[track_caller]
    pub fn granted_res(&mut self, cookie: &[u8], stat: NlmStat) {
        let cookie = Netobj(cookie);
        let args = encode(&Res { cookie, stat });
        self.call(NlmProc::GrantedRes, &args).results::<()>();
    }

    /// The next answer to a message that is not TEST.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn answered(&self, proc: NlmProc) -> NlmStat {
        let called = self.called();
        assert_eq!(called.what, [NLM_PROGRAM, self.vers, proc.wire()]);
        let res: Res<'_> = called.args();
        assert_eq!(res.cookie.0, COOKIE);
        res.stat
    }

    /// Hangs up, and gives the calls that have not been looked at, once no more can come.
    pub fn last_calls(self, idle: impl FnOnce()) -> Vec<Called> {
        drop(self.client);
        idle();
        self.calls.try_iter().collect()
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
    fn stat(&mut self, proc: NlmProc, args: &[u8]) -> NlmStat {
        let answer = self.call(proc, args);
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

    /// Arguments of LOCK, as the host's version writes them.
    pub fn lock_bytes(&self, args: &LockArgs<'_>) -> Vec<u8> {
        if self.vers >= NLM_V4 {
            return encode(args);
        }
        encode(&narrow::LockArgs {
            cookie: args.cookie,
            block: args.block,
            exclusive: args.exclusive,
            alock: args.alock.narrow(),
            reclaim: args.reclaim,
            state: args.state,
        })
    }

    /// Arguments of TEST and GRANTED for a write lock, as the host's version writes them.
    pub fn test_bytes(&self, fh: &[u8], svid: i32, range: (u64, u64)) -> Vec<u8> {
        let (cookie, exclusive) = (Netobj(COOKIE), true);
        let alock = self.range(fh, svid, range);
        if self.vers >= NLM_V4 {
            return encode(&TestArgs {
                cookie,
                exclusive,
                alock,
            });
        }
        encode(&narrow::TestArgs {
            cookie,
            exclusive,
            alock: alock.narrow(),
        })
    }

    /// Arguments of CANCEL for a write lock, as the host's version writes them.
    pub fn cancel_bytes(&self, fh: &[u8], svid: i32, range: (u64, u64)) -> Vec<u8> {
        let (cookie, block, exclusive) = (Netobj(COOKIE), true, true);
        let alock = self.range(fh, svid, range);
        if self.vers >= NLM_V4 {
            return encode(&CancelArgs {
                cookie,
                block,
                exclusive,
                alock,
            });
        }
        encode(&narrow::CancelArgs {
            cookie,
            block,
            exclusive,
            alock: alock.narrow(),
        })
    }

    /// Arguments of UNLOCK, as the host's version writes them.
    pub fn unlock_bytes(&self, fh: &[u8], svid: i32, range: (u64, u64)) -> Vec<u8> {
        let cookie = Netobj(COOKIE);
        let alock = self.range(fh, svid, range);
        if self.vers >= NLM_V4 {
            return encode(&UnlockArgs { cookie, alock });
        }
        let alock = alock.narrow();
        encode(&narrow::UnlockArgs { cookie, alock })
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
        let args = self.lock_bytes(&args);
        self.stat(NlmProc::Lock, &args)
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
        let args = self.cancel_bytes(fh, svid, range);
        self.stat(NlmProc::Cancel, &args)
    }

    /// UNLOCK.
    #[track_caller]
    pub fn unlock(&mut self, fh: &[u8], svid: i32, range: (u64, u64)) -> NlmStat {
        let args = self.unlock_bytes(fh, svid, range);
        self.stat(NlmProc::Unlock, &args)
    }

    /// TEST for a write lock: `Err` with process, first byte and length of what is in the way.
    #[track_caller]
    pub fn test(
        &mut self,
        fh: &[u8],
        svid: i32,
        range: (u64, u64),
    ) -> Result<(), (NlmStat, InTheWay)> {
        let args = self.test_bytes(fh, svid, range);
        let answer = self.call(NlmProc::Test, &args);
        tested(self.vers, answer.bytes())
    }

    /// The next TEST_RES, as [`Host::test`] gives it.
    ///
    /// # Panics
    /// If something else comes.
    #[track_caller]
    pub fn tested(&self) -> Result<(), (NlmStat, InTheWay)> {
        let called = self.called();
        let what = [NLM_PROGRAM, self.vers, NlmProc::TestRes.wire()];
        assert_eq!(called.what, what);
        tested(self.vers, &called.args)
    }

    /// SHARE or UNSHARE.
    #[track_caller]
    pub fn share(
        &mut self,
        proc: NlmProc,
        fh: &[u8],
        oh: &[u8],
        what: (FshAccess, FshMode),
    ) -> NlmStat {
        self.share_with(proc, fh, oh, what, false)
    }

    /// SHARE or UNSHARE, perhaps of one that was held before a restart.
    #[track_caller]
    pub fn share_with(
        &mut self,
        proc: NlmProc,
        fh: &[u8],
        oh: &[u8],
        (access, mode): (FshAccess, FshMode),
        reclaim: bool,
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
            reclaim,
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

/// What a TEST came to, in the form of a version.
#[track_caller]
fn tested(vers: u32, bytes: &[u8]) -> Result<(), (NlmStat, InTheWay)> {
    let mut dec = Dec::new(bytes);
    let (cookie, stat) = if vers >= NLM_V4 {
        let res: TestRes<'_, Holder<'_>> = dec.get().expect("results");
        let held = |h: Holder<'_>| (h.svid, h.offset, h.len);
        let stat = res.stat.map_err(|(stat, by)| (stat, by.map(held)));
        (res.cookie, stat)
    } else {
        let res: TestRes<'_, narrow::Holder<'_>> = dec.get().expect("results");
        let held = |h: narrow::Holder<'_>| (h.svid, h.offset.into(), h.len.into());
        let stat = res.stat.map_err(|(stat, by)| (stat, by.map(held)));
        (res.cookie, stat)
    };
    dec.finish().expect("nothing after them");
    assert_eq!(cookie.0, COOKIE);
    stat
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
            if let Some(stat) = stat.filter(|_| granted) {
                let cookie: Netobj<'_> = Dec::new(&called.args).get().expect("a cookie");
                reply.extend(encode(&Res { cookie, stat }));
            }
            // Nobody listens when the test is over.
            let _ = calls.send(called);
            if stat.is_none() {
                return;
            }
        }
        if stream.write_all(&framed(&reply)).is_err() {
            return;
        }
    }
}
