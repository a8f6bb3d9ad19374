//! Errors operations can really give: each kind of file, read-only exports, others' files, long names, stateids that are
//! not, or no longer, what they say, and what others have locked.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::commit::CommitArgs;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::readdir::ReaddirArgs;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, fattr, mode4};
use tests::client::session::Session;
use tests::client::{Client, Fh, Login, encode};
use tests::daemon::{Setup, TestServer};

use super::state::{BOTH, DENY_NONE, DENY_WRITE, READ, What, client_40};
use super::state::{close, lock, open, opened, read, unlock, write};
use super::{at_export, create};

/// One client of each minor version at the export's root.
struct Pair {
    old: Client,
    new: Session,
    root: Fh,
}

impl Pair {
    fn new(server: &TestServer) -> Pair {
        let (old, root) = at_export(server);
        Pair {
            old,
            new: Session::new(server.client(), 2),
            root,
        }
    }

    /// The status of `ops` on `name`, or the root itself for none, in 4.0 and in 4.2.
    fn on(&mut self, name: &str, ops: &Ops) -> [S; 2] {
        let mut all = Ops::new().putfh(&self.root);
        if !name.is_empty() {
            all = all.lookup(name.as_bytes());
        }
        let all = all.then(ops);
        [
            self.old.compound(0, &all).status,
            self.new.call(&all).status,
        ]
    }
}

fn attrs_of(op: Op4, stateid: &Stateid4, attrs: &[u8]) -> Ops {
    Ops::new().op(op, &Raw(&[&encode(stateid)[..], attrs].concat()))
}

fn truncate(stateid: &Stateid4) -> Ops {
    attrs_of(Op4::Setattr, stateid, &fattr(&[(4, encode(&0_u64))]))
}

fn readdir() -> Ops {
    let args = ReaddirArgs {
        cookie: 0,
        cookieverf: [0; 8],
        dircount: 4096,
        maxcount: 4096,
        attr_request: Bitmap4::EMPTY,
    };
    Ops::new().op(Op4::Readdir, &args)
}

fn commit() -> Ops {
    let args = CommitArgs {
        offset: 0,
        count: 0,
    };
    Ops::new().op(Op4::Commit, &args)
}

fn named(op: Op4, name: &[u8]) -> Ops {
    Ops::new().op(op, &Component4(name))
}

fn rename(old: &[u8], new: &[u8]) -> Ops {
    let args = [encode(&Component4(old)), encode(&Component4(new))].concat();
    let saved = Ops::new().bare(Op4::Savefh);
    saved.op(Op4::Rename, &Raw(&args))
}

fn lockt(range: (u64, u64)) -> Ops {
    let mut args = encode(&2_u32);
    args.extend(encode(&range.0));
    args.extend(encode(&range.1));
    let owner = OwnerName4(b"tester");
    args.extend(encode(&StateOwner4 { clientid: 0, owner }));
    Ops::new().op(Op4::Lockt, &Raw(&args))
}

/// A directory with one of each kind.
fn kinds(dir: &Path) {
    fs::create_dir(dir.join("dir")).expect("a directory");
    fs::write(dir.join("file"), b"data").expect("a file");
    symlink("file", dir.join("link")).expect("a link");
    let fifo = dir.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a fifo");
}

#[test]
fn read_write_commit_and_others_on_each_kind_of_file() {
    let server = TestServer::start();
    kinds(&server.export());
    let mut pair = Pair::new(&server);
    let any = Stateid4::ANONYMOUS;
    let into_dir: [(&str, Ops); 5] = [
        ("lookup", Ops::new().lookup(b"x")),
        ("create", create(Ops::new(), &Createtype4::Directory, b"x")),
        ("remove", named(Op4::Remove, b"x")),
        ("rename", rename(b"x", b"y")),
        ("readdir", readdir()),
    ];
    let notdir = [S::Notdir; 2];
    for (what, ops) in &into_dir {
        assert_eq!(pair.on("file", ops), notdir, "{what}");
        assert_eq!(pair.on("fifo", ops), notdir, "{what}");
        // What a name of a link could mean is the client's to find out.
        let link = match *what {
            "lookup" => [S::Symlink; 2],
            _ => notdir,
        };
        assert_eq!(pair.on("link", ops), link, "{what}");
    }
    let data: [(&str, Ops); 4] = [
        ("read", read(Ops::new(), &any, 1)),
        ("write", write(Ops::new(), &any, b"x")),
        ("commit", commit()),
        ("truncate", truncate(&any)),
    ];
    for (what, ops) in &data {
        assert_eq!(pair.on("file", ops), [S::Ok; 2], "{what}");
        assert_eq!(pair.on("dir", ops), [S::Isdir; 2], "{what}");
        let [old, new] = pair.on("link", ops);
        assert!([S::Inval, S::Symlink].contains(&old), "{what} {old}");
        assert!(
            [S::Symlink, S::Inval, S::WrongType].contains(&new),
            "{what} {new}"
        );
        let [old, new] = pair.on("fifo", ops);
        assert_eq!(old, S::Inval, "{what}");
        assert!([S::WrongType, S::Inval].contains(&new), "{what} {new}");
    }
    let readlink = Ops::new().bare(Op4::Readlink);
    assert_eq!(pair.on("link", &readlink), [S::Ok; 2]);
    assert_eq!(pair.on("file", &readlink)[0], S::Inval);
    let [old, new] = pair.on("dir", &readlink);
    assert!([S::Isdir, S::Inval].contains(&old), "{old}");
    assert!([S::WrongType, S::Inval].contains(&new), "{new}");
    // What is a directory's own.
    let lookupp = Ops::new().bare(Op4::Lookupp);
    assert_eq!(pair.on("dir", &lookupp), [S::Ok; 2]);
    assert_eq!(pair.on("file", &lookupp), notdir);
    // A directory is no source of a link.
    let link = |name: &[u8]| {
        let ops = Ops::new().bare(Op4::Savefh).bare(Op4::Lookupp);
        ops.op(Op4::Link, &Component4(name))
    };
    assert_eq!(pair.on("dir", &link(b"l2")), [S::Isdir; 2]);
    // The rest of the names.
    assert_eq!(pair.on("", &named(Op4::Remove, b"none")), [S::Noent; 2]);
    assert_eq!(pair.on("", &rename(b"none", b"x")), [S::Noent; 2]);
    let onto = rename(b"file", b"dir");
    assert!([S::Exist, S::Isdir].contains(&pair.on("", &onto)[1]));
    fs::write(server.export().join("dir/full"), b"").expect("a file");
    assert_eq!(pair.on("", &named(Op4::Remove, b"dir")), [S::Notempty; 2]);
    let made = create(Ops::new(), &Createtype4::Directory, b"dir");
    assert_eq!(pair.on("", &made), [S::Exist; 2]);
}

#[test]
fn open_of_each_kind_of_file() {
    let server = TestServer::start();
    kinds(&server.export());
    let mut pair = Pair::new(&server);
    let mut ask = |name: &[u8], access| {
        let ops = open(Ops::new(), 0, (access, 0), (0, b"o"), What::Name(name));
        let root = pair.root.clone();
        pair.new.at(&root, &ops).status
    };
    assert_eq!(ask(b"dir", READ), S::Isdir);
    assert_eq!(ask(b"link", READ), S::Symlink);
    assert!([S::WrongType, S::Symlink].contains(&ask(b"fifo", READ)));
    assert_eq!(ask(b"none", READ), S::Noent);
    assert_eq!(ask(b"", READ), S::Inval);
    assert_eq!(ask(&[b'x'; 256], READ), S::Nametoolong);
    for access in [0, 4] {
        assert_eq!(ask(b"file", access), S::Inval, "{access}");
    }
    // In what is no directory; a file by its handle that is none.
    let by_name = open(Ops::new(), 0, (READ, 0), (0, b"o"), What::Name(b"x"));
    assert_eq!(pair.on("file", &by_name)[1], S::Notdir);
    let by_handle = open(Ops::new(), 0, (READ, 0), (0, b"o"), What::Fh);
    assert_eq!(pair.on("dir", &by_handle)[1], S::Isdir);
    assert_eq!(server.stat("nfs4.opens"), 0);
    assert_eq!(server.stat("locks.shares"), 0);
}

#[test]
fn names_too_long_empty_or_reserved() {
    let server = TestServer::start();
    kinds(&server.export());
    let mut pair = Pair::new(&server);
    let long = [b'n'; 256];
    // LINK comes after this: the file is saved, its directory is current again.
    let link = |pair: &Pair| {
        let ops = Ops::new().lookup(b"file").bare(Op4::Savefh);
        ops.putfh(&pair.root)
    };
    let well = link(&pair).op(Op4::Link, &Component4(b"linked"));
    assert_eq!(pair.on("", &well), [S::Ok, S::Exist]);
    for (name, expected) in [(&long[..], S::Nametoolong), (b"", S::Inval)] {
        let all = [
            Ops::new().lookup(name),
            create(Ops::new(), &Createtype4::Directory, name),
            named(Op4::Remove, name),
            rename(b"file", name),
            rename(name, b"file"),
            named(Op4::Secinfo, name),
            link(&pair).op(Op4::Link, &Component4(name)),
        ];
        for ops in &all {
            assert_eq!(pair.on("", ops), [expected; 2], "{ops:?}");
        }
    }
    for name in [&b"."[..], b".."] {
        for ops in [
            Ops::new().lookup(name),
            create(Ops::new(), &Createtype4::Directory, name),
            named(Op4::Remove, name),
            rename(b"file", name),
            link(&pair).op(Op4::Link, &Component4(name)),
        ] {
            assert_eq!(pair.on("", &ops), [S::Badname; 2], "{ops:?}");
        }
    }
}

#[test]
fn read_only_exports_change_nothing() {
    let dir = tests::daemon::fresh_dir();
    kinds(&dir.path().join("export"));
    let server = Setup::options("ro,no_root_squash,insecure").start_in(dir);
    let mut pair = Pair::new(&server);
    let any = Stateid4::ANONYMOUS;
    let set = attrs_of(Op4::Setattr, &any, &mode4(0o600));
    let changes = [
        ("", create(Ops::new(), &Createtype4::Directory, b"x")),
        ("", named(Op4::Remove, b"file")),
        ("", rename(b"file", b"x")),
        ("file", set),
        ("file", truncate(&any)),
        ("file", write(Ops::new(), &any, b"x")),
    ];
    for (at, ops) in &changes {
        assert_eq!(pair.on(at, ops), [S::Rofs; 2], "{ops:?}");
    }
    let root = pair.root.clone();
    for (what, access, expected) in [
        (What::Name(b"file"), READ, S::Ok),
        (What::Name(b"file"), BOTH, S::Rofs),
        (What::Make(b"new"), READ, S::Rofs),
    ] {
        let ops = open(Ops::new(), 0, (access, 0), (0, b"o"), what);
        assert_eq!(pair.new.at(&root, &ops).status, expected);
    }
    // 4.2.
    let range = |op| {
        let args = [encode(&any), encode(&0_u64), encode(&1_u64)].concat();
        Ops::new().op(op, &Raw(&args))
    };
    for op in [Op4::Allocate, Op4::Deallocate] {
        assert_eq!(pair.on("file", &range(op))[1], S::Rofs);
    }
    let removexattr = named(Op4::Removexattr, b"user.x");
    assert_eq!(pair.on("file", &removexattr)[1], S::Rofs);
    // On the pseudo file system, too.
    let above = Ops::new().putrootfh();
    for (_, ops) in changes.iter().filter(|(at, _)| at.is_empty()) {
        let done = pair.new.call(&above.clone().then(ops));
        assert!(
            [S::Rofs, S::Access].contains(&done.status),
            "{}",
            done.status
        );
    }
}

#[test]
fn others_may_not() {
    let server = TestServer::start();
    let export = server.export();
    fs::write(export.join("secret"), b"data").expect("a file");
    fs::create_dir(export.join("private")).expect("a directory");
    fs::write(export.join("private/x"), b"data").expect("a file");
    let mode = |name: &str, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(export.join(name), permissions).expect("chmod");
    };
    mode("secret", 0o600);
    mode("private", 0o700);
    let (client, root) = at_export(&server);
    let login = Login::user(4321, 4321);
    let mut pair = Pair {
        old: client.with_login(login.clone()),
        new: Session::new(server.client().with_login(login), 2),
        root,
    };
    let any = Stateid4::ANONYMOUS;
    let denied = [S::Access; 2];
    for ops in [
        Ops::new().lookup(b"x"),
        readdir(),
        create(Ops::new(), &Createtype4::Directory, b"y"),
        named(Op4::Remove, b"x"),
        rename(b"x", b"y"),
        named(Op4::Secinfo, b"x"),
    ] {
        assert_eq!(pair.on("private", &ops), denied, "{ops:?}");
    }
    for ops in [
        read(Ops::new(), &any, 1),
        write(Ops::new(), &any, b"x"),
        truncate(&any),
    ] {
        assert_eq!(pair.on("secret", &ops), denied, "{ops:?}");
    }
    let set = attrs_of(Op4::Setattr, &any, &mode4(0o777));
    assert_eq!(pair.on("secret", &set), [S::Perm; 2]);
    // The export is sticky.
    let remove = named(Op4::Remove, b"secret");
    let statuses = pair.on("", &remove);
    assert!(statuses.iter().all(|s| [S::Perm, S::Access].contains(s)));
    let root = pair.root.clone();
    for access in [READ, BOTH] {
        let what = What::Name(b"secret");
        let ops = open(Ops::new(), 0, (access, 0), (0, b"o"), what);
        assert_eq!(pair.new.at(&root, &ops).status, S::Access);
    }
    assert_eq!(server.stat("locks.shares"), 0);
    assert_eq!(fs::read(export.join("secret")).expect("data"), b"data");
}

/// A file two clients of 4.1 share: each one's session, and what it has open.
fn shared(server: &TestServer, shares: [(u32, u32); 2]) -> ([(Session, Stateid4); 2], Fh) {
    let (_, root) = at_export(server);
    let mut fh = Fh::new();
    let both = shares.map(|shares| {
        let mut session = Session::new(server.client(), 1);
        let ops = open(Ops::new(), 0, shares, (0, b"o"), What::Make(b"f")).getfh();
        let mut done = session.at(&root, &ops);
        let (stateid, _) = opened(&mut done);
        fh = done.fh();
        (session, stateid)
    });
    (both, fh)
}

#[test]
fn locked_openmode_and_share_denied() {
    let server = TestServer::start();
    let ([(mut a, of_a), (mut b, of_b)], fh) =
        shared(&server, [(BOTH, DENY_NONE), (READ, DENY_NONE)]);
    let done = b.at(&fh, &write(Ops::new(), &of_b, b"x"));
    assert_eq!(done.status, S::Openmode);
    assert_eq!(b.at(&fh, &truncate(&of_b)).status, S::Openmode);
    let range = |op| {
        let args = [encode(&of_b), encode(&0_u64), encode(&1_u64)].concat();
        Ops::new().op(op, &Raw(&args))
    };
    b.minor = 2;
    for op in [Op4::Allocate, Op4::Deallocate] {
        assert_eq!(b.at(&fh, &range(op)).status, S::Openmode, "{op}");
    }
    // A lock for writing takes an open for writing.
    let locked = b.at(&fh, &lock(Ops::new(), 0, &of_b, (0, b"l"), (0, 1)));
    assert_eq!(locked.status, S::Openmode);
    b.at(&fh, &close(Ops::new(), 0, &of_b))
        .body::<Stateid4>(Op4::Close);
    // What is denied to others is denied to who has nothing open, too.
    let again = |shares| open(Ops::new(), 0, shares, (0, b"o"), What::Fh);
    assert_eq!(a.at(&fh, &again((READ, DENY_WRITE))).status, S::ShareDenied);
    let mut done = a.at(&fh, &close(Ops::new(), 0, &of_a));
    done.body::<Stateid4>(Op4::Close);
    let mut done = a.at(&fh, &again((BOTH, DENY_WRITE)));
    let (of_a, _) = opened(&mut done);
    let any = Stateid4::ANONYMOUS;
    assert_eq!(b.at(&fh, &read(Ops::new(), &any, 1)).status, S::Ok);
    let done = b.at(&fh, &write(Ops::new(), &any, b"x"));
    assert_eq!(done.status, S::Locked);
    assert_eq!(b.at(&fh, &truncate(&any)).status, S::Locked);
    for shares in [(BOTH, DENY_NONE), (READ, DENY_WRITE), (READ, 1)] {
        assert_eq!(
            b.at(&fh, &again(shares)).status,
            S::ShareDenied,
            "{shares:?}"
        );
    }
    assert_eq!(a.at(&fh, &write(Ops::new(), &of_a, b"x")).status, S::Ok);
}

#[test]
fn ranges_of_lock_lockt_and_locku() {
    let server = TestServer::start();
    let ([(mut a, of_a), (mut b, _)], fh) = shared(&server, [(BOTH, DENY_NONE), (BOTH, DENY_NONE)]);
    for range in [(0, 0), (u64::MAX, 2), (2, u64::MAX - 1), (1 << 63, 1 << 63)] {
        let done = a.at(&fh, &lock(Ops::new(), 0, &of_a, (0, b"l"), range));
        let status = done.status;
        let fits = range.0.checked_add(range.1).is_some() && range.1 > 0;
        assert_eq!(status == S::Ok, fits, "{range:?} {status}");
        if !fits {
            assert!(
                [S::Inval, S::BadRange].contains(&status),
                "{range:?} {status}"
            );
            let test = a.at(&fh, &lockt(range)).status;
            assert_eq!(test, status, "{range:?}");
        }
    }
    let mut done = a.at(&fh, &lock(Ops::new(), 0, &of_a, (0, b"l"), (0, u64::MAX)));
    let held: Stateid4 = done.body(Op4::Lock);
    assert_eq!(b.at(&fh, &lockt((5, 1))).status, S::Denied);
    assert_eq!(a.at(&fh, &lockt((5, 1))).status, S::Denied, "another owner");
    // What is locked cannot be given up.
    let free = Ops::new().op(Op4::FreeStateid, &held);
    assert_eq!(a.at(&fh, &free).status, S::LocksHeld);
    let free = Ops::new().op(Op4::FreeStateid, &of_a);
    assert_eq!(a.at(&fh, &free).status, S::LocksHeld);
    // But goes with the open (RFC 8881 18.2.3).
    let done = a.at(&fh, &close(Ops::new(), 0, &of_a));
    assert_eq!(done.status, S::Ok);
    assert_eq!(server.stat("locks.ranges"), 0);
    let gone = a.at(&fh, &unlock(Ops::new(), 0, &held));
    assert_eq!(gone.status, S::BadStateid);
}

/// What takes a stateid, each with one.
fn with(stateid: &Stateid4) -> Vec<(Op4, Ops)> {
    let downgrade = {
        let words: Vec<u8> = [0, BOTH, 0].iter().flat_map(encode).collect();
        attrs_of(Op4::OpenDowngrade, stateid, &words)
    };
    vec![
        (Op4::Read, read(Ops::new(), stateid, 1)),
        (Op4::Write, write(Ops::new(), stateid, b"x")),
        (Op4::Setattr, truncate(stateid)),
        (Op4::OpenDowngrade, downgrade),
        (Op4::Lock, lock(Ops::new(), 0, stateid, (0, b"l"), (0, 1))),
        (Op4::Close, close(Ops::new(), 0, stateid)),
    ]
}

#[test]
fn stateids_old_bad_and_of_others() {
    let server = TestServer::start();
    let ([(mut a, of_a), (_b, of_b)], fh) = shared(&server, [(BOTH, DENY_NONE), (BOTH, DENY_NONE)]);
    let ops = open(Ops::new(), 0, (BOTH, DENY_NONE), (0, b"o"), What::Fh);
    let (now, _) = opened(&mut a.at(&fh, &ops));
    assert_eq!((now.seqid, now.other), (2, of_a.other));
    let mut key = now;
    key.other.0[11] ^= 0x55;
    let mut epoch = now;
    epoch.other.0[0] ^= 1;
    let next = Stateid4 { seqid: 3, ..now };
    let cases = [
        (of_a, S::OldStateid),
        (next, S::BadStateid),
        (of_b, S::BadStateid),
        (key, S::BadStateid),
        (epoch, S::BadStateid),
        (Stateid4::INVALID, S::BadStateid),
        (Stateid4::CURRENT, S::BadStateid),
    ];
    for (stateid, expected) in cases {
        for (op, ops) in with(&stateid) {
            let status = a.at(&fh, &ops).status;
            assert_eq!(status, expected, "{op} with {stateid:?}");
        }
        let mut tested = encode(&1_u32);
        tested.extend(encode(&stateid));
        let mut done = a.call(&Ops::new().op(Op4::TestStateid, &Raw(&tested)));
        assert_eq!(done.body::<u32>(Op4::TestStateid), 1);
        assert_eq!(done.more::<S>(), expected, "{stateid:?}");
    }
    // Of another file.
    fs::write(server.export().join("other"), b"").expect("a file");
    let (_, root) = at_export(&server);
    for (op, ops) in with(&now) {
        let at = Ops::new().lookup(b"other").then(&ops);
        assert_eq!(a.at(&root, &at).status, S::BadStateid, "{op}");
    }
    // Without a filehandle; on a directory.
    for (op, ops) in with(&now) {
        assert_eq!(a.call(&ops).status, S::Nofilehandle, "{op}");
    }
    // A seqid of 0 is the latest (4.1).
    let latest = Stateid4 { seqid: 0, ..now };
    for (op, ops) in with(&latest) {
        assert_eq!(a.at(&fh, &ops).status, S::Ok, "{op}");
    }
    for (op, ops) in with(&latest) {
        assert_eq!(a.at(&fh, &ops).status, S::BadStateid, "{op} when closed");
    }
}

#[test]
fn stateids_of_4_0_stale_and_expired() {
    let server = TestServer::start();
    let (mut client, root, clientid) = client_40(&server);
    let owner = (clientid, &b"owner"[..]);
    let at = Ops::new().putfh(&root);
    let ops = open(at, 1, (BOTH, DENY_NONE), owner, What::Make(b"f")).getfh();
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putfh);
    let (stateid, _) = opened(&mut done);
    let fh = done.fh();
    let mut on = |ops: &Ops| client.compound(0, &Ops::new().putfh(&fh).then(ops)).status;
    let confirm = [encode(&stateid), encode(&2_u32)].concat();
    assert_eq!(on(&Ops::new().op(Op4::OpenConfirm, &Raw(&confirm))), S::Ok);
    let now = Stateid4 {
        seqid: stateid.seqid + 1,
        ..stateid
    };
    assert_eq!(on(&write(Ops::new(), &now, b"x")), S::Ok);
    // What another operation was answered is not the answer to this one.
    let reused = close(Ops::new(), 2, &now);
    assert_eq!(on(&reused), S::BadSeqid);
    let mut stale = now;
    stale.other.0[0] ^= 1;
    for (op, ops) in with(&stale) {
        assert_eq!(on(&ops), S::StaleStateid, "{op}");
    }
    // Locks go with their open (RFC 7530 16.2.4 leaves that to the server).
    let locked = lock(Ops::new(), 3, &now, (clientid, b"l"), (0, 1));
    assert_eq!(on(&locked), S::Ok);
    assert_eq!(server.stat("locks.ranges"), 1);
    assert_eq!(on(&close(Ops::new(), 4, &now)), S::Ok);
    assert_eq!(server.stat("locks.ranges"), 0);
    server.control("expire").expect("expired");
    for (op, ops) in with(&now) {
        assert_eq!(on(&ops), S::Expired, "{op}");
    }
    let args = [encode(&clientid), encode(&OwnerName4(b"l"))].concat();
    let release = Ops::new().op(Op4::ReleaseLockowner, &Raw(&args));
    assert_eq!(on(&release), S::Expired);
    let more = open(Ops::new(), 5, (READ, DENY_NONE), owner, What::Name(b"f"));
    let status = client
        .compound(0, &Ops::new().putfh(&root).then(&more))
        .status;
    assert_eq!(status, S::Expired);
}

/// Exports have options of their own, also on one file system.
#[test]
fn xdev_from_one_export_to_another() {
    let exports = "@DIR@/export *(rw,insecure,no_root_squash)\n@DIR@/export/in *(rw,insecure,no_root_squash)\n";
    let dir = tests::daemon::fresh_dir();
    fs::create_dir_all(dir.path().join("export/in")).expect("directories");
    fs::write(dir.path().join("export/f"), b"data").expect("a file");
    let server = Setup::exports(exports).start_in(dir);
    let mut pair = Pair::new(&server);
    let root = pair.root.clone();
    let into = |ops: Ops| ops.bare(Op4::Savefh).putfh(&root).lookup(b"in");
    let names = [encode(&Component4(b"f")), encode(&Component4(b"x"))].concat();
    let renamed = into(Ops::new()).op(Op4::Rename, &Raw(&names));
    assert_eq!(pair.on("", &renamed), [S::Xdev; 2]);
    let linked = into(Ops::new()).op(Op4::Link, &Component4(b"x"));
    assert_eq!(pair.on("f", &linked), [S::Xdev; 2]);
    assert!(!server.export().join("in/x").exists());
}
