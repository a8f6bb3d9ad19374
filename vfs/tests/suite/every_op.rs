//! Every type of operation there is: its completion fails, it is dropped in flight, it is dropped when the kernel has done
//! it and nobody has been told. Nothing may be left: no descriptor, slot, buffer, personality or operation.
//!
//! Needs `--features fault-injection`.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};

use io_uring::opcode;
use rustix::fs::{AtFlags, OFlags};
use vfs::uring::fault::{self, Fault, Rule};
use vfs::uring::fixed::OpenFd;
use vfs::uring::net_ops::{self, Patience, Segment};
use vfs::uring::{Buf, IoPolicy, Slice, file_ops, meta_ops};
use vfs::{Cred, Errno, exec};

use crate::scratch::{POLICIES, alone, config, descriptors, dir, quiet, run, soon};

/// An errno no operation gives by itself.
const ODD: Errno = Errno(libc::EL3RST);

type Doing = Pin<Box<dyn Future<Output = Result<(), Errno>>>>;

/// A type of operation.
struct Row {
    /// Its name in `vfs/src/uring`.
    op: &'static str,
    /// What rules of faults call it.
    code: u8,
    /// The policy under which it goes through the ring.
    policy: IoPolicy,
    /// Starts one.
    start: fn(&Bed) -> Doing,
}

/// What operations work on.
struct Bed {
    dir: Arc<OpenFd>,
    file: Arc<OpenFd>,
    socket: Arc<OpenFd>,
    listener: Arc<OwnedFd>,
    address: SocketAddr,
    /// Another one each time: only one at a time has a personality, which must not be pinned any longer.
    cred: Cred,
    _far: [Option<TcpStream>; 2],
    _dir: tempfile::TempDir,
}

impl Bed {
    /// With something to receive and to accept, or with nothing of the kind.
    fn new(ready: bool) -> Bed {
        static SERIAL: AtomicU32 = AtomicU32::new(2000);
        let at = dir();
        for name in ["f", "old"] {
            let path = at.path().join(name);
            std::fs::write(&path, [1; 8192]).expect("write");
            let all = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(path, all).expect("chmod");
        }
        let open = |path: &Path, write| {
            let file = std::fs::File::options().read(true).write(write).open(path);
            Arc::new(OpenFd::new(file.expect("open").into()))
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let mut far = TcpStream::connect(address).expect("connect");
        let near = listener.accept().expect("accept").0;
        if ready {
            far.write_all(&[5; 100]).expect("write");
        }
        let another = ready.then(|| TcpStream::connect(address).expect("connect"));
        Bed {
            dir: open(at.path(), false),
            file: open(&at.path().join("f"), true),
            socket: Arc::new(OpenFd::new_socket(near.into())),
            listener: Arc::new(listener.into()),
            address,
            cred: Cred::new(SERIAL.fetch_add(1, Ordering::Relaxed), 100, &[]),
            _far: [Some(far), another],
            _dir: at,
        }
    }
}

fn buf() -> Buf {
    exec::with_ring(|r| r.pool.try_get(100)).expect("a buffer")
}

fn slice() -> Slice {
    Slice::new(Rc::new(buf()), 0..100)
}

const fn row(op: &'static str, code: u8, start: fn(&Bed) -> Doing) -> Row {
    let policy = IoPolicy::Ring;
    Row {
        op,
        code,
        policy,
        start,
    }
}

/// A row of the table: the type, its opcode, and the expression that awaits one, with what it uses of the bed.
macro_rules! rows {
    ($($op:ident $code:ident ($($use:ident),*) $run:expr;)*) => {
        &[$(row(stringify!($op), opcode::$code::CODE, |bed| {
            $(let $use = bed.$use.clone();)*
            Box::pin(async move { $run })
        })),*]
    };
}

const ROWS: &[Row] = rows! {
    StatxOp Statx (file) file_ops::statx(&file).await.map(drop);
    ReadOp Read (file) file_ops::read(&file, buf(), 0..100, 0).await.0.map(drop);
    WriteOp Write (file, cred) file_ops::write(&file, slice(), 0, &cred).await.map(drop);
    FsyncOp Fsync (file) file_ops::fsync(&file, false).await;
    FallocateOp Fallocate (file, cred) file_ops::fallocate(&file, 0, 0, 9000, &cred).await;
    FadviseOp Fadvise (file) file_ops::fadvise(&file, 0, 4096, libc::POSIX_FADV_WILLNEED).await;
    OpenMeta OpenAt2 (dir, cred)
        meta_ops::openat(&cred, &dir, c"new".into(), OFlags::CREATE | OFlags::RDWR, 0o600)
            .await
            .map(drop);
    MkdirMeta MkDirAt (dir, cred) meta_ops::mkdirat(&cred, dir, c"new".into(), 0o700).await;
    UnlinkMeta UnlinkAt (dir, cred)
        meta_ops::unlinkat(&cred, dir, c"old".into(), AtFlags::empty()).await;
    RenameMeta RenameAt (dir, cred)
        meta_ops::renameat(&cred, dir.clone(), c"old".into(), dir, c"new".into()).await;
    SymlinkMeta SymlinkAt (dir, cred)
        meta_ops::symlinkat(&cred, c"to".into(), dir, c"new".into()).await;
    LinkMeta LinkAt (dir, file)
        meta_ops::linkat(&Cred::root(), meta_ops::HeldPath::new(&file), dir, c"new".into()).await;
    TruncateMeta Ftruncate (file, cred) meta_ops::ftruncate(&cred, &file, 5).await;
    SetXattrMeta SetXattr (file)
        meta_ops::setxattr(&Cred::root(), &file, c"user.x".into(), vec![1; 9], 0).await;
    GetXattrOp GetXattr (file)
        match meta_ops::getxattr(&file, c"user.none".into(), 100).await {
            Err(Errno(libc::ENODATA)) => Ok(()),
            other => other.map(drop),
        };
    ReopenOp OpenAt (file) meta_ops::reopen(&file, OFlags::RDONLY).await.map(drop);
    Connect Connect (address) net_ops::connect(tcp(), address).await.map(drop);
    Accept AcceptMulti (listener)
        net_ops::accept(&listener).next().await.expect("an item").map(drop);
    RecvMulti RecvMulti (socket)
        net_ops::recv_multi(&socket).next().await.expect("an item").map(drop);
    Recv Recv (socket)
        net_ops::recv(&socket, buf(), 0..100, Patience::Much).await.0.map(drop);
    Readable PollAdd (socket) net_ops::readable(&socket).await;
    Send SendMsg (socket) {
        let segments = vec![Segment::Bytes(vec![1; 10]), Segment::Payload(slice())];
        net_ops::send(&socket, segments, 0).await.0.map(drop)
    };
};

/// Under the other policy, one more is used.
const OPEN_EXISTING: Row = Row {
    op: "OpenExisting",
    code: opcode::OpenAt2::CODE,
    policy: IoPolicy::Adaptive,
    start: |bed| {
        let (dir, cred) = (bed.dir.clone(), bed.cred.clone());
        let open = async move |name| meta_ops::openat(&cred, &dir, name, OFlags::RDONLY, 0).await;
        Box::pin(async move { open(c"old".into()).await.map(drop) })
    },
};

fn tcp() -> OwnedFd {
    let (family, kind) = (
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
    );
    rustix::net::socket(family, kind, None).expect("a socket")
}

/// Runs `test` on every row, on a worker that has room for one personality.
fn on_every_row<F: Future<Output = ()>>(test: impl Fn(&'static Row) -> F + Copy + 'static) {
    let _alone = alone();
    for policy in POLICIES {
        let mut one = config(policy);
        one.personalities = 1;
        run(&one, async move {
            for row in ROWS.iter().chain([&OPEN_EXISTING]) {
                let there = row.op != "TruncateMeta" || exec::with_ring(|r| r.features.ftruncate);
                if row.policy == policy && there {
                    test(row).await;
                }
            }
        });
    }
}

fn inject(code: u8, fault: Fault) {
    let (skip, count) = (0, 1);
    fault::set(vec![Rule {
        code,
        fault,
        skip,
        count,
    }]);
}

/// Everything is back; of descriptors, there are no more than `before`.
async fn nothing_left(case: &str, before: &[String]) {
    quiet().await;
    let pinned = || exec::with_ring(|r| r.fixed.pinned());
    assert!(soon(|| pinned() == 0).await, "{case}: a slot is pinned");
    let closed = soon(|| descriptors().len() <= before.len()).await;
    assert!(closed, "{case}: {before:?}, {:?}", descriptors());
}

fn start(row: &Row, bed: &Bed) -> Doing {
    let mut doing = (row.start)(bed);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(doing.as_mut().poll(&mut cx).is_pending(), "{}", row.op);
    doing
}

#[test]
fn every_completion_can_fail() {
    on_every_row(|row| async move {
        let bed = Bed::new(true);
        let before = descriptors();
        inject(row.code, Fault::Fail(ODD.0));
        assert_eq!((row.start)(&bed).await, Err(ODD), "{}", row.op);
        assert!(fault::struck(), "{}", row.op);
        fault::set(Vec::new());
        nothing_left(row.op, &before).await;
        // The same without a fault: it is the fault that was told.
        assert_eq!((row.start)(&bed).await, Ok(()), "{}", row.op);
        nothing_left(row.op, &before).await;
    });
}

#[test]
fn dropped_in_flight_nothing_is_left() {
    on_every_row(|row| async move {
        for (ready, turns) in [true, false]
            .into_iter()
            .flat_map(|r| (0..4).map(move |t| (r, t)))
        {
            let bed = Bed::new(ready);
            let before = descriptors();
            let doing = start(row, &bed);
            for _ in 0..turns {
                exec::yield_now().await;
            }
            drop(doing);
            let case = format!("{}, ready: {ready}, turns: {turns}", row.op);
            nothing_left(&case, &before).await;
        }
    });
}

#[test]
fn dropped_when_done_nothing_is_left() {
    on_every_row(|row| async move {
        let bed = Bed::new(true);
        let before = descriptors();
        inject(row.code, Fault::Hold);
        let doing = start(row, &bed);
        assert!(soon(|| fault::held() > 0).await, "{} has no end", row.op);
        assert_eq!(exec::with_ring(|r| r.in_flight()), 1, "{}", row.op);
        drop(doing);
        assert_eq!(exec::with_ring(|r| r.in_flight()), 1, "{}", row.op);
        fault::set(Vec::new());
        nothing_left(row.op, &before).await;
    });
}

/// The names of the types that are operations, as the sources have them.
fn in_the_sources() -> BTreeSet<String> {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/uring");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(sources).expect("the sources") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a source");
        let word = |rest: &str| {
            let end = rest.find(|c: char| !c.is_alphanumeric());
            rest[..end.unwrap_or(rest.len())].to_owned()
        };
        for line in text.lines() {
            for by in ["impl Op for ", "impl Meta for "] {
                found.extend(line.strip_prefix(by).map(word));
            }
        }
        let declared = text.split("\nmeta_op! {").skip(1);
        found.extend(declared.filter_map(|one| Some(word(one.split_once(" as ")?.1))));
    }
    found
}

#[test]
fn the_table_has_every_operation() {
    let rows = ROWS.iter().chain([&OPEN_EXISTING]);
    let table: BTreeSet<String> = rows.map(|row| row.op.to_owned()).collect();
    assert_eq!(table, in_the_sources());
}
