//! COPY, CLONE, and copies that go on behind their answer: OFFLOAD_STATUS, OFFLOAD_CANCEL.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nfsd::export::names::SystemResolver;
use nfsd::finding::Findings;
use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{CbOffload4args, CbOp4, OffloadInfo4};
use nfsd::nfs4::op::clone::CloneArgs;
use nfsd::nfs4::op::copy::{CopyArgs, CopyRequirements4, CopyRes, Location4, Netloc4};
use nfsd::nfs4::op::offload_status::OffloadStatusRes;
use nfsd::nfs4::op::write::StableHow4;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::Ops;
use tests::client::session::{Session, Terms};
use tests::client::{Fh, Login};
use tests::daemon::{Setup, TestServer};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need::{Need, have};

use super::{open, session};
use crate::rpc::workers::{LONG, Workers};

const MIB: u64 = 1 << 20;
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(300);

fn args(src_offset: u64, dst_offset: u64, count: u64, synchronous: bool) -> CopyArgs<'static> {
    CopyArgs {
        src_stateid: Stateid4::ANONYMOUS,
        dst_stateid: Stateid4::ANONYMOUS,
        src_offset,
        dst_offset,
        count,
        requirements: CopyRequirements4 {
            consecutive: true,
            synchronous,
        },
        source_server: Default::default(),
    }
}

/// From one file to another, and then COMMIT of what was copied.
fn copy(s: &mut Session, from: &[u8], to: &[u8], args: &CopyArgs<'_>) -> Result<CopyRes, Nfsstat4> {
    let ops = Ops::new().putfh(from).bare(Op4::Savefh).putfh(to);
    let ops = ops.op(Op4::Copy, args).raw(Op4::Commit.wire(), &[0; 12]);
    let mut done = s.call(&ops);
    done.ok(Op4::Putfh);
    done.ok(Op4::Savefh);
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Copy) {
        Nfsstat4::Ok => {}
        status => return Err(status),
    }
    let res: CopyRes = done.more();
    let verifier: Verifier4 = done.body(Op4::Commit);
    done.end();
    assert_eq!(
        (res.committed, res.verifier),
        (StableHow4::Unstable, verifier)
    );
    assert!(res.requirements.consecutive);
    assert_eq!(res.requirements.synchronous, res.callback_id.is_empty());
    Ok(res)
}

fn walk(s: &mut Session, path: &Path) -> Fh {
    s.walk(path.to_str().expect("text"))
}

/// Two files of an export: `a` with data and a hole, `b` with something to be written over.
fn two(server: &TestServer, s: &mut Session) -> (PathBuf, Fh, PathBuf, Fh) {
    let (a, b) = (server.export().join("a"), server.export().join("b"));
    let file = fs::File::create(&a).expect("a file");
    file.write_all_at(&vec![1; MIB as usize], 0).expect("data");
    file.write_all_at(&vec![2; MIB as usize], 3 * MIB)
        .expect("data");
    file.set_len(5 * MIB).expect("a size");
    file.sync_all().expect("on disk");
    fs::write(&b, vec![7; 1000]).expect("a file");
    let (from, to) = (walk(s, &a), walk(s, &b));
    (a, from, b, to)
}

#[test]
fn copy_within_a_file_system() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let (a, from, b, to) = two(&server, &mut s);
    let whole = fs::read(&a).expect("contents");
    // Up to the end, holes stay holes.
    let res = copy(&mut s, &from, &to, &args(0, 0, 0, true)).expect("copied");
    assert_eq!((res.count, res.callback_id.len()), (5 * MIB, 0));
    assert!(fs::read(&b).expect("contents") == whole);
    assert!(fs::metadata(&b).expect("there").blocks() * 512 < 3 * MIB);
    // A part elsewhere, with opens.
    let mut part = args(100, 6 * MIB, 50, false);
    part.src_stateid = open(&mut s, &root, b"a", 1);
    // The same owner's: each open gives what the other has as well.
    part.dst_stateid = open(&mut s, &root, b"b", 2);
    let res = copy(&mut s, &from, &to, &part).expect("copied");
    assert_eq!((res.count, res.callback_id.len()), (50, 0));
    let data = fs::read(&b).expect("contents");
    assert!(data.len() as u64 == 6 * MIB + 50 && data[6 * MIB as usize..] == [1; 50]);
    // The wrong way round.
    std::mem::swap(&mut part.src_stateid, &mut part.dst_stateid);
    let wrong = copy(&mut s, &from, &to, &part);
    assert_eq!(wrong.map(|r| r.count), Err(Nfsstat4::BadStateid));
    // Nothing is left to copy at the end.
    let res = copy(&mut s, &from, &to, &args(5 * MIB, 0, 0, true)).expect("nothing");
    assert_eq!(res.count, 0);
}

#[test]
fn copy_refusals() {
    let server = TestServer::start();
    let (mut s, root) = session(&server);
    let (a, from, b, to) = two(&server, &mut s);
    let status = |done: Result<CopyRes, Nfsstat4>| done.map(|res| res.count);
    for (bad, expected) in [
        (args(5 * MIB + 1, 0, 0, true), Nfsstat4::Inval),
        (args(0, 0, 5 * MIB + 1, true), Nfsstat4::Inval),
        (args(u64::MAX, 0, 1, true), Nfsstat4::Inval),
        (args(0, u64::MAX, 5, true), Nfsstat4::Fbig),
    ] {
        let done = copy(&mut s, &from, &to, &bad);
        assert_eq!(status(done), Err(expected), "{bad:?}");
    }
    // Ranges of one file that share bytes; others may be.
    let done = copy(&mut s, &from, &from, &args(0, 99, 100, true));
    assert_eq!(status(done), Err(Nfsstat4::Inval));
    let done = copy(&mut s, &from, &from, &args(0, 100, 100, true));
    assert_eq!(status(done), Ok(100));
    // Another server.
    let mut elsewhere = args(0, 0, 1, true);
    elsewhere
        .source_server
        .0
        .push(Netloc4::Name(Location4(b"other.example")));
    let done = copy(&mut s, &from, &to, &elsewhere);
    assert_eq!(status(done), Err(Nfsstat4::OffloadDenied));
    let done = copy(&mut s, &root, &to, &args(0, 0, 1, true));
    assert_eq!(status(done), Err(Nfsstat4::Isdir));
    // Permission, on either side.
    for (path, mode) in [(&a, 0o600), (&b, 0o644)] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
        s.client.set_login(Login::user(1000, 1000));
        let done = copy(&mut s, &from, &to, &args(0, 0, 1, true));
        assert_eq!(status(done), Err(Nfsstat4::Access));
        fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("chmod");
    }
    let done = copy(&mut s, &from, &to, &args(0, 0, 1, true));
    assert_eq!(status(done), Ok(1));
    // Without a saved filehandle.
    let mut done = s.call(&Ops::new().putfh(&to).op(Op4::Copy, &args(0, 0, 1, true)));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Copy), Nfsstat4::Nofilehandle);
    done.end();
}

#[test]
fn copy_between_exports() {
    let exports = "\"@DIR@/export/one\" *(ro,no_root_squash,insecure)\n\
                   \"@DIR@/export/two\" *(rw,no_root_squash,insecure)\n";
    let dir = tests::daemon::fresh_dir();
    for name in ["one", "two"] {
        fs::create_dir(dir.path().join("export").join(name)).expect("a directory");
    }
    let server = Setup::exports(exports).start_in(dir);
    let mut s = Session::new(server.client(), 2);
    let (a, b) = (server.export().join("one/a"), server.export().join("two/b"));
    fs::write(&a, "something").expect("a file");
    fs::write(&b, "").expect("a file");
    let (from, to) = (walk(&mut s, &a), walk(&mut s, &b));
    let res = copy(&mut s, &from, &to, &args(0, 0, 0, true)).expect("copied");
    assert_eq!(res.count, 9);
    assert_eq!(fs::read(&b).expect("contents"), b"something");
    let back = copy(&mut s, &to, &from, &args(0, 0, 0, true));
    assert_eq!(back.map(|res| res.count), Err(Nfsstat4::Rofs));
}

fn clone(s: &mut Session, from: &[u8], to: &[u8], count: u64) -> Nfsstat4 {
    let args = CloneArgs {
        src_stateid: Stateid4::ANONYMOUS,
        dst_stateid: Stateid4::ANONYMOUS,
        src_offset: 0,
        dst_offset: 0,
        count,
    };
    let ops = Ops::new().putfh(from).bare(Op4::Savefh).putfh(to);
    let mut done = s.call(&ops.op(Op4::Clone, &args));
    done.ok(Op4::Putfh);
    done.ok(Op4::Savefh);
    done.ok(Op4::Putfh);
    done.status_of(Op4::Clone)
}

#[test]
fn clone_shares_blocks() {
    let xfs = [Need::Program("mkfs.xfs", "xfsprogs")];
    if !have("clone_shares_blocks", &[LOOP, &xfs]) {
        return;
    }
    let dir = tests::daemon::fresh_dir();
    let fs_dir = dir.path().join("export/xfs");
    let Some(mounted) = LoopFs::try_new(&fs_dir, Fs::Xfs, 320, &["-m", "reflink=1"], "") else {
        tests::need::not_run("clone_shares_blocks", "a kernel with XFS");
        return;
    };
    let exports = "\"@DIR@/export\" *(rw,no_root_squash,insecure,crossmnt)\n";
    let server = Setup::exports(exports).start_in(dir);
    let mut s = Session::new(server.client(), 2);
    let (a, b) = (fs_dir.join("a"), fs_dir.join("b"));
    fs::write(&a, vec![5; MIB as usize]).expect("a file");
    fs::write(&b, "").expect("a file");
    let (from, to) = (walk(&mut s, &a), walk(&mut s, &b));
    assert_eq!(clone(&mut s, &from, &to, 0), Nfsstat4::Ok);
    assert!(fs::read(&b).expect("contents") == vec![5; MIB as usize]);
    assert_eq!(
        clone(&mut s, &from, &to, 100),
        Nfsstat4::Inval,
        "not aligned"
    );
    drop(s);
    drop(server);
    drop(mounted);
}

/// Whether files of this directory can share blocks: the kernel is asked.
fn shares_blocks(dir: &Path) -> bool {
    let (from, to) = (dir.join("from"), dir.join("to"));
    fs::write(&from, [3; 1 << 16]).expect("a file");
    let source = fs::File::open(&from).expect("to read");
    let target = fs::File::create(&to).expect("a file");
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => true,
        Err(refused) => {
            let reasons = [rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::NOTTY];
            assert!(reasons.contains(&refused), "FICLONE: {refused}");
            false
        }
    }
}

#[test]
fn clone_where_blocks_cannot_be_shared() {
    let server = TestServer::start();
    let (mut s, _) = session(&server);
    let (a, from, b, to) = two(&server, &mut s);
    let before = fs::read(&b).expect("contents");
    let (expected, contents) = match shares_blocks(&server.export()) {
        // The build directory is on a file system that can.
        true => (Nfsstat4::Ok, fs::read(&a).expect("contents")),
        false => (Nfsstat4::Notsupp, before),
    };
    assert_eq!(clone(&mut s, &from, &to, 0), expected);
    assert!(fs::read(&b).expect("contents") == contents, "{expected}");
}

/// A server in this process, a client it can call back, and a file that takes long to copy: it is one hole of eight
/// tebibytes.
struct Offloading {
    workers: Workers,
    session: Session,
    from: Fh,
    to: Fh,
    dir: tempfile::TempDir,
}

fn size_of(o: &Offloading) -> u64 {
    let target = o.dir.path().join("export/b");
    fs::metadata(target).expect("there").len()
}

const LONG_COPY: u64 = 8 << 40;

fn offloading() -> Offloading {
    let workers = Workers::start();
    let dir = tests::daemon::fresh_dir();
    let export = dir.path().join("export");
    let text = format!("\"{}\" *(rw,no_root_squash,insecure)\n", export.display());
    let mut found = Findings::new();
    let table = nfsd::export::load("exports", 1, text.as_bytes(), &SystemResolver, &mut found);
    assert!(!found.has_errors(), "{found}");
    let server = Arc::clone(&workers.server);
    let replaced = workers.run(0, move || async move { server.replace_exports(table) });
    replaced.expect("exports");
    let (a, b) = (export.join("a"), export.join("b"));
    let file = fs::File::create(&a).expect("a file");
    file.set_len(LONG_COPY).expect("a size");
    fs::write(&b, "").expect("a file");
    let (client, _, _) = workers.client();
    let mut session = Session::on(client, &Terms::new(2).called_back());
    let (from, to) = (walk(&mut session, &a), walk(&mut session, &b));
    Offloading {
        workers,
        session,
        from,
        to,
        dir,
    }
}

impl Offloading {
    /// Begins to copy it: the copy's stateid.
    fn begin(&mut self) -> Stateid4 {
        let args = args(0, 0, 0, false);
        let res = copy(&mut self.session, &self.from, &self.to, &args).expect("begun");
        assert_eq!(res.count, 0);
        *res.callback_id.first().expect("it takes long")
    }

    fn status(&mut self, stateid: &Stateid4) -> Result<OffloadStatusRes, Nfsstat4> {
        let ops = Ops::new().putfh(&self.to).op(Op4::OffloadStatus, stateid);
        let mut done = self.session.call(&ops);
        done.ok(Op4::Putfh);
        match done.status_of(Op4::OffloadStatus) {
            Nfsstat4::Ok => Ok(done.more()),
            status => Err(status),
        }
    }

    fn cancel(&mut self, stateid: &Stateid4) -> Nfsstat4 {
        let ops = Ops::new().putfh(&self.to).op(Op4::OffloadCancel, stateid);
        let mut done = self.session.call(&ops);
        done.ok(Op4::Putfh);
        done.status_of(Op4::OffloadCancel)
    }

    fn running(&self) -> usize {
        let clients = self.workers.server.state.clients();
        clients.iter().map(|c| c.lock().copies.running()).sum()
    }

    /// Nothing is left of connections and tasks.
    fn end(self) {
        drop(self.session);
        self.workers.wait_idle();
        self.workers.stop();
    }
}

#[test]
fn copy_offload_status_to_the_end() {
    let mut o = offloading();
    let stateid = o.begin();
    assert_eq!(stateid.seqid, 1);
    let (mut seen, end) = (0, Instant::now() + 10 * LONG);
    let last = loop {
        let res = o.status(&stateid).expect("known");
        assert!(res.count >= seen && res.count <= LONG_COPY);
        seen = res.count;
        if let Some(status) = res.complete.first() {
            break *status;
        }
        assert!(Instant::now() < end, "{seen} of {LONG_COPY} bytes copied");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((last, seen), (Nfsstat4::Ok, LONG_COPY));
    let callback = o.session.callback();
    let told: CbOffload4args<'_> = callback.args(CbOp4::Offload);
    assert_eq!((told.stateid, told.fh.0), (stateid, &o.to[..]));
    let OffloadInfo4::Done(response) = &told.info else {
        panic!("{:?}", told.info)
    };
    assert_eq!(response.count, LONG_COPY);
    assert_eq!(o.cancel(&stateid), Nfsstat4::CompleteAlready);
    assert_eq!(o.status(&stateid), Err(Nfsstat4::BadStateid));
    assert_eq!(o.running(), 0);
    o.session.answer(&callback, Nfsstat4::Ok, &());
    o.end();
}

#[test]
fn copy_offload_cancel() {
    let mut o = offloading();
    let stateid = o.begin();
    assert_eq!(o.running(), 1);
    // Not a stateid of anything else, nor of another version.
    for bad in [
        Stateid4::ANONYMOUS,
        Stateid4 {
            seqid: 2,
            ..stateid
        },
    ] {
        assert_eq!(o.status(&bad), Err(Nfsstat4::BadStateid));
        assert_eq!(o.cancel(&bad), Nfsstat4::BadStateid);
    }
    // Synchronous: as much as can be done in time.
    let res = copy(&mut o.session, &o.from, &o.to, &args(0, 0, 0, true)).expect("a part");
    assert!(res.count > 0 && res.count < LONG_COPY && res.callback_id.is_empty());
    assert_eq!(o.cancel(&stateid), Nfsstat4::Ok);
    let left_at = size_of(&o);
    assert!(left_at > 0 && left_at < LONG_COPY);
    assert_eq!(o.cancel(&stateid), Nfsstat4::BadStateid);
    assert_eq!(o.status(&stateid), Err(Nfsstat4::BadStateid));
    assert_eq!(o.running(), 0);
    let told = o.session.callback_within(SHORT).is_some();
    assert!(!told, "nobody wants to hear of it");
    assert_eq!(size_of(&o), left_at, "nothing is copied any more");
    // One that goes on does not hold up the server's end.
    o.begin();
    o.workers.stop();
}

/// More copies than a client may have go on are done in parts; those that go on end with their client.
#[test]
fn copy_offload_is_bounded_and_ends_with_the_client() {
    let mut o = offloading();
    let most = nfsd::nfs4::state::copy::RUNNING_MAX;
    for _ in 0..most {
        o.begin();
    }
    let res = copy(&mut o.session, &o.from, &o.to, &args(0, 0, 0, false)).expect("a part");
    assert!(res.count > 0 && res.callback_id.is_empty());
    assert_eq!(o.running(), most);
    // The client begins anew.
    let mut terms = Terms::new(2);
    let (client, _, _) = o.workers.client();
    let name = o.workers.server.state.clients()[0].owner.clone();
    terms.owner = name.into_vec();
    let again = Session::on(client, &terms);
    assert_eq!(o.running(), 0);
    drop(again);
    o.end();
}
