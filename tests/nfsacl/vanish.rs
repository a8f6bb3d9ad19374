//! Clients that vanish while their request waits, at every point where it can, and requests of which every step fails once,
//! with ACLs of both protocols: what was begun ends, nothing is half set, no ACL and no request is left.
//!
//! The build with fault injection holds the n-th operation of a request until it is told to let go of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nfsd::nfs3::types::NfsFh3;
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::{Component4, OwnerName4, StateOwner4, Stateid4};
use nfsd::nfsacl::types::{AclProc3, Getacl3Args, mask};
use tests::client::nfs4::{Ops, Raw, fattr};
use tests::client::nfsacl::{nfsacl3, setacl_args};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::{Setup, TestServer, policies};
use tests::need::soak;

use super::{both, set_local};

const ACCESS: &str = "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---";
const DEFAULT: &str = "u::rwx,u:1002:r-x,g::---,m::r-x,o::---";
/// What SETACL and SETATTR set, both ACLs alike.
const NEW: &str = "u::rwx,u:2001:r-x,g::---,m::r-x,o::---";
/// Most operations of one request.
const MOST: usize = 40;

/// FILE_INHERIT, DIRECTORY_INHERIT, INHERIT_ONLY.
const HANDED_DOWN: u32 = 0x1 | 0x2 | 0x8;

/// The same as an `nfsace4<>`: type, flags, mask, name. All entries come with each of these flags.
fn new_list(flags: &[u32]) -> Vec<u8> {
    let mut out = encode(&(4 * flags.len() as u32));
    for flags in flags {
        for (mask, who) in [
            (0x16_01ff_u32, "OWNER@"),
            (0x12_00a9, "2001"),
            (0x12_0080, "GROUP@"),
            (0x12_0080, "EVERYONE@"),
        ] {
            out.extend(encode(&0_u32));
            out.extend(encode(flags));
            out.extend(encode(&mask));
            out.extend(encode(&Component4(who.as_bytes())));
        }
    }
    out
}

fn setattr(ops: Ops) -> Ops {
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend(fattr(&[(bit::ACL, new_list(&[0, HANDED_DOWN]))]));
    ops.op(Op4::Setattr, &Raw(&args))
}

/// OPEN for reading and writing that makes `new` with an ACL.
fn open(ops: Ops, clientid: u64) -> Ops {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(encode).collect() };
    let mut args = words(&[0, 3, 0]);
    let owner = OwnerName4(b"maker");
    args.extend(encode(&StateOwner4 { clientid, owner }));
    args.extend(words(&[1, 1]));
    args.extend(fattr(&[(bit::ACL, new_list(&[0]))]));
    args.extend(words(&[0]));
    args.extend(encode(&Component4(b"new")));
    ops.op(Op4::Open, &Raw(&args))
}

/// CREATE of a directory `new` with both ACLs.
fn create(ops: Ops) -> Ops {
    let mut args = encode(&Createtype4::Directory);
    args.extend(encode(&Component4(b"new")));
    args.extend(fattr(&[(bit::ACL, new_list(&[0, HANDED_DOWN]))]));
    ops.op(Op4::Create, &Raw(&args))
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Request {
    Getacl,
    Setacl,
    GetattrAcl,
    SetattrAcl,
    SetattrAcl40,
    Open,
    Open40,
    Create,
}

const ALL: [Request; 8] = [
    Request::Getacl,
    Request::Setacl,
    Request::GetattrAcl,
    Request::SetattrAcl,
    Request::SetattrAcl40,
    Request::Open,
    Request::Open40,
    Request::Create,
];

impl Request {
    fn sets(self) -> bool {
        !matches!(self, Request::Getacl | Request::GetattrAcl) && !self.makes()
    }

    /// Makes `new` in the directory.
    fn makes(self) -> bool {
        matches!(self, Request::Open | Request::Open40 | Request::Create)
    }
}

/// Somebody who sends a request, once.
enum Sender {
    /// With the client ID of NFSv4.0.
    Plain(Client, u64),
    Session(Box<Session>),
}

impl Sender {
    fn of(server: &TestServer, request: Request) -> Sender {
        match request {
            Request::GetattrAcl | Request::SetattrAcl | Request::Open | Request::Create => {
                Sender::Session(Box::new(Session::new(server.client(), 2)))
            }
            Request::Open40 => {
                let mut client = server.client();
                // Nobody else is called so: its first open owner begins anew.
                let name = String::from_utf8(Terms::new(0).owner).expect("text");
                let clientid = client.setclientid(&name, [1; 8]);
                Sender::Plain(client, clientid)
            }
            _ => Sender::Plain(server.client(), 0),
        }
    }

    fn client(&mut self) -> &mut Client {
        match self {
            Sender::Plain(client, _) => client,
            Sender::Session(session) => &mut session.client,
        }
    }

    fn send(&mut self, request: Request, fh: &Fh) {
        let on = Ops::new().putfh(fh);
        match (self, request) {
            (Sender::Plain(client, _), Request::Getacl) => {
                let args = Getacl3Args {
                    object: NfsFh3(fh),
                    mask: mask::ALL,
                };
                client.start(nfsacl3(AclProc3::Getacl), &args);
            }
            (Sender::Plain(client, _), Request::Setacl) => {
                let args = setacl_args(fh, Some(NEW), Some(NEW));
                client.start(nfsacl3(AclProc3::Setacl), &args);
            }
            (Sender::Plain(client, clientid), _) => {
                let ops = match request {
                    Request::Open40 => open(on, *clientid),
                    _ => setattr(on),
                };
                client.start([100_003, 4, 1], &Raw(&ops.args(0, b"")));
            }
            (Sender::Session(session), _) => {
                let ops = match request {
                    Request::SetattrAcl => setattr(on),
                    Request::Open => open(on, 0),
                    Request::Create => create(on),
                    _ => on,
                };
                session.start(0, &ops.getattr(&[bit::ACL]));
            }
        }
    }
}

struct Bed {
    server: TestServer,
    path: PathBuf,
    fh: Fh,
}

impl Bed {
    fn new(policy: &str) -> Bed {
        let setup = Setup::default().policy(policy).faults("");
        let server = setup.args(&["--log", "debug"]).start();
        let (mut client, root) = server.mounted();
        let fh = client.new_dir(&root, b"d", 0o750);
        let path = server.export().join("d");
        drop(client);
        Bed { server, path, fh }
    }

    #[track_caller]
    fn faults(&self, rules: &str) {
        let set = self.server.control(&format!("faults {rules}"));
        set.expect("fault injection");
    }

    fn held(&self) -> bool {
        self.server.control("faults held").expect("faults").trim() != "0"
    }

    /// Connections the server has seen end.
    fn ended(&self) -> usize {
        let log = self.server.log();
        log.matches("connection closed").count() + log.matches("connection failed").count()
    }

    /// Two ACLs that are new to the server: it will read them. Nothing is in the directory.
    fn reset(&self) {
        let new = self.path.join("new");
        let _ = fs::remove_file(&new).or_else(|_| fs::remove_dir(&new));
        assert_eq!(self.names(), [""; 0]);
        // Setting what is there changes nothing, not even the ctime.
        for [access, default] in [[NEW, NEW], [ACCESS, DEFAULT]] {
            set_local(&self.path, acl::xattr::ACCESS, access);
            set_local(&self.path, acl::xattr::DEFAULT, default);
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).expect("the directory").flatten();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name");
        entries.map(name).collect()
    }

    fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !until() {
            assert!(Instant::now() < end, "{what}:\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A client vanishes while the operation after `skip` others is under way; false if there are not so many.
    fn vanish(&self, request: Request, skip: usize) -> bool {
        self.reset();
        let mut sender = Sender::of(&self.server, request);
        let ended = self.ended();
        self.faults(&format!("*:hold:{skip}:1"));
        sender.send(request, &self.fh);
        let mut answered = false;
        self.wait("neither held nor answered", || {
            let client = sender.client();
            let record = client.try_record(Duration::from_millis(1));
            answered = matches!(record, Ok(Some(_)));
            answered || self.held()
        });
        drop(sender);
        self.wait("a connection ends", || self.ended() > ended);
        self.faults("");
        self.server.wait_idle();
        assert_eq!(self.server.stat("acls.in_use"), 0);
        let expected = match request.sets() {
            true => (NEW.to_owned(), NEW.to_owned()),
            false => (ACCESS.to_owned(), DEFAULT.to_owned()),
        };
        let case = format!("{request:?} at {skip}");
        assert_eq!(both(&self.path), expected, "{case}");
        if request.makes() {
            assert_eq!(self.names(), ["new"], "{case}");
            let handed_down = match request {
                Request::Create => NEW.to_owned(),
                _ => String::new(),
            };
            let made = both(&self.path.join("new"));
            assert_eq!(made, (NEW.to_owned(), handed_down), "{case}");
        }
        !answered
    }
}

#[test]
fn clients_that_vanish_at_every_wait() {
    // Each on a server of its own, at once: it is mostly waiting.
    std::thread::scope(|scope| {
        for policy in policies() {
            for request in ALL {
                // An open nobody confirms is kept for twenty seconds, at each point.
                if request == Request::Open40 && !soak() {
                    continue;
                }
                let policy = policy.clone();
                scope.spawn(move || one_vanishes_at_every_wait(&policy, request));
            }
        }
    });
}

fn one_vanishes_at_every_wait(policy: &str, request: Request) {
    let start = Instant::now();
    let bed = Bed::new(policy);
    let points = (0..MOST).take_while(|&skip| bed.vanish(request, skip));
    let points = points.count();
    let took = start.elapsed();
    eprintln!("{policy}: {request:?} waits at {points} points ({took:?})");
    assert!(points < MOST, "{request:?} never ends");
    // What changes something waits at least for two calls and for stable storage.
    let reads = !request.sets() && !request.makes();
    let least = if reads { 2 } else { 3 };
    assert!(policy == "adaptive" || points >= least, "{request:?}");
}

/// Reading and setting `acl` with every operation failing once: all or nothing, and the client is told.
#[test]
fn every_step_fails_once() {
    for policy in policies() {
        let bed = Bed::new(&policy);
        let mut told = 0;
        for errno in [libc::ENOSPC, libc::EOPNOTSUPP, libc::EIO] {
            for request in [Request::GetattrAcl, Request::SetattrAcl] {
                for skip in 0..MOST / 2 {
                    bed.reset();
                    let mut sender = Sender::of(&bed.server, request);
                    let Sender::Session(session) = &mut sender else {
                        unreachable!("NFSv4");
                    };
                    bed.faults(&format!("*:{errno}:{skip}:1"));
                    let ops = Ops::new().putfh(&bed.fh);
                    let ops = match request {
                        Request::SetattrAcl => setattr(ops).getattr(&[bit::ACL]),
                        _ => ops.getattr(&[bit::ACL]),
                    };
                    let status = session.call(&ops).status;
                    bed.faults("");
                    assert_eq!(bed.server.stat("acls.in_use"), 0);
                    told += usize::from(status != Nfsstat4::Ok);
                    let case = format!("{policy} {request:?} errno {errno} at {skip}: {status}");
                    whole(&bed.path, request.sets(), status, &case);
                }
            }
        }
        assert!(policy == "adaptive" || told > 20, "{told} failures told");
    }
}

/// Both ACLs are the old ones or the new ones; the new ones if the client was told so.
#[track_caller]
fn whole(path: &Path, sets: bool, status: Nfsstat4, case: &str) {
    let old = (ACCESS.to_owned(), DEFAULT.to_owned());
    let new = (NEW.to_owned(), NEW.to_owned());
    let now = both(path);
    match (sets, status) {
        (false, _) => assert_eq!(now, old, "{case}"),
        (true, Nfsstat4::Ok) => assert_eq!(now, new, "{case}"),
        (true, _) => assert!(now == old || now == new, "{case}: {now:?}"),
    }
}
