//! A server that is told to stop while requests wait, those about ACLs and ordinary changes, at every point where they can: with the workers their
//! futures are dropped, and with those every ACL, descriptor, pin, slot and buffer.
//!
//! The workers run in this process, which has fault injection: an operation or call is done, and held back until after the
//! workers' end. Needs `--features fault-injection`.

#[path = "shutdown/plain.rs"]
mod plain;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nfsd::config::IoPolicy;
use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::{Access3Args, Readdirplus3Args};
use nfsd::nfs3::types::NfsFh3;
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::open::args::RESULT_CONFIRM;
use nfsd::nfs4::op::open_confirm::OpenConfirmArgs;
use nfsd::nfs4::types::{
    Bitmap4, ChangeInfo4, Clientid4, Component4, OwnerName4, StateOwner4, Stateid4,
};
use nfsd::nfsacl::types::{AclProc3, Getacl3Args, mask};
use nfsd::server::Shared;
use rustix::process::Signal;
use tests::client::nfs3::nfs3;
use tests::client::nfs4::{COMPOUND, Ops, Raw, fattr};
use tests::client::nfsacl::{from_text, nfsacl3, setacl_args};
use tests::client::session::Session;
use tests::client::{Client, Fh, Login, encode};
use tests::daemon::{Setup, policies};
use tests::need::soak;
use tests::version::Version::{self, V3, V4_0, V4_1, V4_2};
use tests::workers::{LONG, Workers};
use vfs::uring::Left;
use vfs::uring::fault::{self, ANY, Fault, Rule};

const ACCESS: &str = "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---";
const DEFAULT: &str = "u::rwx,u:1002:r-x,g::---,m::r-x,o::---";
/// What SETACL sets.
const NEW: &str = "u::rwx,u:2001:r-x,g::---,m::r-x,o::---";
/// How long a process waits for requests in flight.
const DRAIN: Duration = Duration::from_millis(100);
/// Most operations of one request.
const MOST: usize = 60;
/// Files of the directory that is listed.
const FILES: usize = 5;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Request {
    Getacl,
    Setacl,
    Access,
    Readdirplus,
    Getattr,
    Setattr,
    Open,
    OpenConfirm,
    Create,
    Readdir,
    Remove,
    Rename,
    Link,
    Symlink,
    Write,
    Commit,
    Truncate,
}

/// A request, and the version it is made in.
type Case = (Request, Version);

const ALL: [Case; 24] = [
    (Request::Getacl, V3),
    (Request::Setacl, V3),
    (Request::Access, V3),
    (Request::Readdirplus, V3),
    (Request::Getattr, V4_0),
    (Request::Setattr, V4_0),
    (Request::Open, V4_0),
    (Request::OpenConfirm, V4_0),
    (Request::Create, V4_0),
    (Request::Access, V4_0),
    (Request::Readdir, V4_0),
    (Request::Getattr, V4_2),
    (Request::Setattr, V4_2),
    (Request::Open, V4_2),
    (Request::Create, V4_2),
    (Request::Access, V4_1),
    (Request::Readdir, V4_2),
    (Request::Remove, V3),
    (Request::Rename, V4_2),
    (Request::Link, V3),
    (Request::Symlink, V4_2),
    (Request::Write, V4_2),
    (Request::Commit, V3),
    (Request::Truncate, V4_2),
];

/// In a soak: the ordinary changes in the other version.
const BESIDES: [Case; 7] = [
    (Request::Remove, V4_2),
    (Request::Rename, V3),
    (Request::Link, V4_2),
    (Request::Symlink, V3),
    (Request::Write, V3),
    (Request::Commit, V4_2),
    (Request::Truncate, V3),
];

fn cases() -> impl Iterator<Item = Case> {
    let besides = soak().then_some(BESIDES).into_iter().flatten();
    ALL.into_iter().chain(besides)
}

/// What the files hold.
const TEXT: &[u8] = b"data";

/// Where requests go.
struct At {
    dir: Fh,
    /// `f0` in it.
    file: Fh,
}

impl At {
    fn find(client: &mut Client, root: &Fh) -> At {
        let dir = client.fh_of(root, b"d");
        let file = client.fh_of(&dir, b"f0");
        At { dir, file }
    }
}

/// An `nfsace4<>`: type, flags, mask, name.
fn list() -> Vec<u8> {
    let mut out = encode(&4_u32);
    for (mask, who) in [
        (0x16_01ff_u32, "OWNER@"),
        (0x12_00a9, "2001"),
        (0x12_0080, "GROUP@"),
        (0x12_0080, "EVERYONE@"),
    ] {
        [0, 0, mask].iter().for_each(|n| out.extend(encode(n)));
        out.extend(encode(&Component4(who.as_bytes())));
    }
    out
}

/// Arguments of OPEN for reading and writing that makes `new` with an ACL.
fn open_args(clientid: Clientid4) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(encode).collect() };
    let mut args = words(&[0, 3, 0]);
    let owner = OwnerName4(b"maker");
    args.extend(encode(&StateOwner4 { clientid, owner }));
    args.extend(words(&[1, 0]));
    args.extend(fattr(&[(bit::ACL, list())]));
    args.extend(words(&[0]));
    args.extend(encode(&Component4(b"new")));
    args
}

/// Arguments of SETATTR of an ACL.
fn setattr_args(stateid: &Stateid4) -> Vec<u8> {
    let mut args = encode(stateid);
    args.extend(fattr(&[(bit::ACL, list())]));
    args
}

/// What a client of version 4.0 has to name in its requests.
struct Known {
    clientid: Clientid4,
    /// `new`, opened and not yet confirmed.
    open: Option<(Fh, Stateid4)>,
}

impl Known {
    /// Introduces itself, and opens what the request confirms.
    fn by(client: &mut Client, request: Request, fh: &Fh) -> Known {
        let clientid = client.setclientid("a client", [1; 8]);
        let mut known = Known {
            clientid,
            open: None,
        };
        if request == Request::OpenConfirm {
            let ops = Ops::new().putfh(fh);
            let ops = ops.op(Op4::Open, &Raw(&open_args(clientid))).getfh();
            let mut done = client.compound(0, &ops);
            done.ok(Op4::Putfh);
            let stateid: Stateid4 = done.body(Op4::Open);
            done.more::<ChangeInfo4>();
            assert_ne!(done.more::<u32>() & RESULT_CONFIRM, 0);
            done.more::<Bitmap4>();
            assert_eq!(done.more::<u32>(), 0, "a delegation");
            known.open = Some((done.fh(), stateid));
        }
        known
    }

    fn ops(&self, request: Request, at: &At) -> Ops {
        let Some((file, stateid)) = &self.open else {
            return request.ops(at, self.clientid);
        };
        let confirm = OpenConfirmArgs {
            open_stateid: *stateid,
            seqid: 1,
        };
        let ops = Ops::new().putfh(file).op(Op4::OpenConfirm, &confirm);
        let confirmed = Stateid4 {
            seqid: stateid.seqid + 1,
            ..*stateid
        };
        ops.op(Op4::Setattr, &Raw(&setattr_args(&confirmed)))
            .getattr(&[bit::ACL])
    }
}

impl Request {
    /// Of NFSv4.
    fn ops(self, at: &At, clientid: Clientid4) -> Ops {
        let on = Ops::new().putfh(&at.dir);
        match self {
            Request::Setattr => {
                let args = setattr_args(&Stateid4::ANONYMOUS);
                on.op(Op4::Setattr, &Raw(&args)).getattr(&[bit::ACL])
            }
            Request::Open => {
                let args = open_args(clientid);
                on.op(Op4::Open, &Raw(&args)).getattr(&[bit::ACL])
            }
            Request::Create => {
                let mut args = encode(&Createtype4::Directory);
                args.extend(encode(&Component4(b"new")));
                args.extend(fattr(&[(bit::ACL, list())]));
                on.op(Op4::Create, &Raw(&args)).getattr(&[bit::ACL])
            }
            Request::Access => on.op(Op4::Access, &0x3f_u32),
            Request::Readdir => {
                let mut args = [0; 16].to_vec();
                [8192_u32, 8192].iter().for_each(|n| args.extend(encode(n)));
                let bits = [bit::FILEHANDLE, bit::ACL];
                args.extend(encode(&Bitmap4::of(&bits)));
                on.op(Op4::Readdir, &Raw(&args))
            }
            Request::Getattr => on.getattr(&[bit::ACL]),
            _ => self.plain_ops(at),
        }
    }

    /// Of NFSv3.
    fn start(self, client: &mut Client, at: &At) {
        let object = NfsFh3(&at.dir);
        match self {
            Request::Setacl => {
                let args = setacl_args(&at.dir, Some(NEW), Some(NEW));
                client.start(nfsacl3(AclProc3::Setacl), &args)
            }
            Request::Access => {
                let args = Access3Args {
                    object,
                    access: 0x3f,
                };
                client.start(nfs3(Proc3::Access), &args)
            }
            Request::Readdirplus => {
                let args = Readdirplus3Args {
                    dir: object,
                    cookie: 0,
                    cookieverf: [0; 8],
                    dircount: 8192,
                    maxcount: 8192,
                };
                client.start(nfs3(Proc3::Readdirplus), &args)
            }
            Request::Getacl => {
                let mask = mask::ALL;
                client.start(nfsacl3(AclProc3::Getacl), &Getacl3Args { object, mask })
            }
            _ => self.plain_start(client, at),
        };
    }
}

/// Somebody who sends a request, once.
enum Sender {
    V3(Client),
    V4_0(Client, Known),
    V4(Box<Session>),
}

impl Sender {
    fn of((request, version): Case, mut client: Client, at: &At) -> Sender {
        let mut sender = match version {
            V3 => Sender::V3(client),
            V4_0 => {
                let known = Known::by(&mut client, request, &at.dir);
                Sender::V4_0(client, known)
            }
            V4_1 => Sender::V4(Box::new(Session::new(client, 1))),
            V4_2 => Sender::V4(Box::new(Session::new(client, 2))),
        };
        if request == Request::Access {
            // Not the owner, nor the superuser: ACLs decide.
            sender.client().set_login(Login::user(1001, 1001));
        }
        sender
    }

    fn client(&mut self) -> &mut Client {
        match self {
            Sender::V3(client) | Sender::V4_0(client, _) => client,
            Sender::V4(session) => &mut session.client,
        }
    }

    fn send(&mut self, request: Request, at: &At) {
        match self {
            Sender::V3(client) => request.start(client, at),
            Sender::V4_0(client, known) => {
                let args = known.ops(request, at).args(0, b"");
                client.start(COMPOUND, &Raw(&args));
            }
            Sender::V4(session) => {
                session.start(0, &request.ops(at, 0));
            }
        }
    }

    /// Whether an answer is here.
    fn answered(&mut self) -> bool {
        let record = self.client().try_record(Duration::from_millis(1));
        matches!(record, Ok(Some(_)))
    }
}

fn set_local(path: &Path, name: &str, text: &str) {
    let value = match from_text(text, 0).change(true) {
        Ok(vfs::AclChange::Set(acl)) => acl::xattr::encode(&acl),
        other => panic!("{text}: {other:?}"),
    };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, name, &value, flags).expect("setxattr");
}

/// A directory `d` with ACLs and files in it that have some as well.
fn populate(export: &Path) -> PathBuf {
    let dir = export.join("d");
    fs::create_dir(&dir).expect("mkdir");
    for n in 0..FILES {
        let file = dir.join(format!("f{n}"));
        fs::write(&file, TEXT).expect("a file");
        set_local(&file, acl::xattr::ACCESS, ACCESS);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o770)).expect("chmod");
    set_local(&dir, acl::xattr::ACCESS, ACCESS);
    set_local(&dir, acl::xattr::DEFAULT, DEFAULT);
    dir
}

/// What the directory has besides its files is `new`, whole, or nothing.
#[track_caller]
fn whole(dir: &Path, case: &str) {
    for entry in fs::read_dir(dir).expect("the directory").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        if name.starts_with('f') {
            continue;
        }
        assert_eq!(name, "new", "{case}");
        let mut value = [0; 1024];
        let len = rustix::fs::getxattr(entry.path(), acl::xattr::ACCESS, &mut value[..]);
        let len = len.unwrap_or_else(|e| panic!("{case}: {name} without its ACL: {e}"));
        let stored = acl::xattr::decode(&value[..len]).expect("an ACL");
        let set = match from_text(NEW, 0).change(true) {
            Ok(vfs::AclChange::Set(acl)) => acl,
            other => panic!("{other:?}"),
        };
        assert_eq!(stored.entries(), set.entries(), "{case}");
    }
}

/// What the descriptors of this process are, and how many of each.
fn descriptors() -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for fd in fs::read_dir("/proc/self/fd").expect("proc(5)").flatten() {
        let link = fs::read_link(fd.path()).unwrap_or_default();
        let kind = link.to_string_lossy().into_owned();
        // Sockets and pipes are numbered.
        let kind = match kind.split_once(":[") {
            Some((kind, _)) if kind != "anon_inode" => kind.to_owned(),
            _ => kind,
        };
        *all.entry(kind).or_default() += 1;
    }
    // What was just read.
    all.retain(|kind, _| !kind.ends_with("/fd"));
    all
}

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !until() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Rules, descriptors and ACLs are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hold(skip: usize, count: u64) {
    fault::set(vec![Rule {
        code: ANY,
        fault: Fault::Hold,
        skip: skip as u64,
        count,
    }]);
}

fn policy_of(name: &str) -> IoPolicy {
    match name {
        "ring" => IoPolicy::Ring,
        _ => IoPolicy::Adaptive,
    }
}

struct Bed {
    workers: Workers,
    dir: PathBuf,
    at: At,
}

impl Bed {
    fn new(policy: &str) -> Bed {
        let workers = Workers::with(|config| {
            config.io_policy = policy_of(policy);
            config.timeouts.drain = Duration::from_millis(10);
        });
        let export = workers.export();
        let dir = populate(&export);
        let (mut client, ..) = workers.client();
        let root = client.mount(&export);
        let at = At::find(&mut client, &root);
        Bed { workers, dir, at }
    }

    fn sender(&self, case: Case) -> Sender {
        Sender::of(case, self.workers.client().0, &self.at)
    }

    /// Has the server read the ACLs when they are old enough to be kept.
    fn fill_cache(&self) {
        std::thread::sleep(Duration::from_millis(30));
        let (mut client, ..) = self.workers.client();
        client.acls(&self.at.dir);
        client.acls(&self.at.dir);
        assert!(self.workers.server.vfs.table.acls_cached() > 0);
    }

    /// Stops the workers, and looks for what their end has left, with so many `calls` remembered besides one answered
    /// meanwhile. Gives the directory back that all is in, and whether there is such an answer.
    fn stop(self, mut sender: Sender, calls: usize, case: &str) -> (tempfile::TempDir, bool) {
        let (server, kept) = self.workers.stop();
        for counters in server.counters.lock().expect("counters").iter() {
            assert_eq!(counters.left(), Some(Left::default()), "{case}");
        }
        assert_eq!(server.connections.total(), 0, "{case}");
        let answered = sender.answered();
        let remembered = server.drc.counts().entries;
        assert!(
            remembered == calls || answered && remembered == calls + 1,
            "{case}: {remembered} calls remembered, {calls} before, answered: {answered}"
        );
        let clients = server.state.clients();
        let busy = clients.iter().any(|client| client.is_busy());
        assert!(!busy, "{case}: a slot");
        assert_eq!(server.state.held().waits, 0, "{case}");
        // What an OPEN has come to is the client's, not the request's.
        clients
            .iter()
            .for_each(|client| server.state.expire(client));
        server.state.settled(&clients);
        let gone: Vec<_> = clients.iter().map(Arc::downgrade).collect();
        drop(clients);
        // What the blocking pool has under way ends without anybody who waits for it.
        fault::set(Vec::new());
        drop(sender);
        wait(&format!("{case}: clients in use"), || {
            gone.iter().all(|client| client.strong_count() == 0)
        });
        let cached = server.vfs.table.acls_cached();
        wait(&format!("{case}: ACLs in use"), || acl::live() == cached);
        wait(&format!("{case}: the server in use"), || {
            Arc::strong_count(&server) == 1
        });
        whole(&self.dir, case);
        drop::<Arc<Shared>>(server);
        wait(&format!("{case}: ACLs"), || acl::live() == 0);
        (kept, answered)
    }
}

/// The server stops while the operation after `skip` others is under way; false if there are not so many.
fn stopped_at(policy: &str, (request, version): Case, skip: usize) -> bool {
    let case = format!("{policy} {request:?} {version} at {skip}");
    let bed = Bed::new(policy);
    if request == Request::Access {
        bed.fill_cache();
    }
    let mut sender = bed.sender((request, version));
    let calls = bed.workers.server.drc.counts().entries;
    hold(skip, 1);
    sender.send(request, &bed.at);
    let (mut answered, mut held) = (false, false);
    wait(&format!("{case}: neither held nor answered"), || {
        answered = sender.answered();
        held = fault::held() > 0;
        answered || held
    });
    // One that has ended is remembered.
    let calls = match answered {
        true => bed.workers.server.drc.counts().entries,
        false => calls,
    };
    let dir = bed.dir.clone();
    let (kept, late) = bed.stop(sender, calls, &case);
    assert!(!late || request.goes_on(), "{case}: held and answered");
    request.whole(&dir, answered || late, &case);
    drop(kept);
    held
}

/// A request waited at so many points.
#[track_caller]
fn said(policy: &str, (request, version): Case, points: usize) {
    eprintln!("{policy}: {request:?} {version} waits at {points} points");
    assert!(points < MOST, "{request:?} {version} never ends");
    assert!(policy == "adaptive" || points > 0, "{request:?} {version}");
}

#[test]
fn workers_that_stop_at_every_wait() {
    let _alone = alone();
    rustix::process::umask(rustix::fs::Mode::empty());
    for policy in policies() {
        // What a process opens once is open from here on.
        stopped_at(&policy, (Request::Getacl, V3), MOST);
        let before = descriptors();
        for case in cases() {
            let (request, version) = case;
            let points = (0..MOST).take_while(|&skip| {
                let waited = stopped_at(&policy, case, skip);
                let end = Instant::now() + LONG;
                while descriptors() != before && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let now = descriptors();
                assert_eq!(now, before, "{policy} {request:?} {version} at {skip}");
                waited
            });
            let points = points.count();
            said(&policy, case, points);
        }
    }
}

/// A server process is told to stop while the operation after `skip` others is under way; false if there are not so many.
fn terminated_at(policy: &str, (request, version): Case, skip: usize) -> bool {
    let case = format!("{policy} {request:?} {version} at {skip}");
    let drain = DRAIN.as_millis();
    let setup = Setup::config(&format!("[timeouts]\ndrain = \"{drain}ms\""));
    let mut server = setup.policy(policy).faults("").start();
    let dir = populate(&server.export());
    let (mut client, root) = server.mounted();
    let at = At::find(&mut client, &root);
    let mut sender = Sender::of((request, version), server.client(), &at);
    let set = server.control(&format!("faults *:hold:{skip}:1"));
    set.expect("fault injection");
    sender.send(request, &at);
    let (mut answered, mut held) = (false, false);
    wait(&format!("{case}: neither held nor answered"), || {
        answered = sender.answered();
        held = server.control("faults held").expect("faults").trim() != "0";
        answered || held
    });
    let said = server.log().len();
    server.signal(Signal::TERM);
    // As long as requests have, and as long as a worker that does not come back.
    let status = server.wait_end(DRAIN + Duration::from_secs(5) + LONG);
    let log = server.log();
    let log = log.get(said..).unwrap_or_default();
    assert!(status.success(), "{case}: {status}: {log}");
    let well = log.contains("stopped") && !log.contains("stuck in the kernel");
    let clean = !log.contains("left over") && !log.contains("panicked");
    assert!(well && clean, "{case}: {log}");
    whole(&dir, &case);
    let late = sender.answered();
    assert!(!late || request.goes_on(), "{case}: held and answered");
    request.whole(&dir, answered || late, &case);
    held
}

/// The default policy alone but in a soak: the other one has three times the waits, and its stops are tried above.
#[test]
fn processes_that_stop_at_every_wait() {
    let _alone = alone();
    let default = |policy: &String| soak() || policy == "adaptive";
    for policy in policies().into_iter().filter(default) {
        for case in cases() {
            let points = (0..MOST).take_while(|&skip| terminated_at(&policy, case, skip));
            let points = points.count();
            said(&policy, case, points);
        }
    }
}
