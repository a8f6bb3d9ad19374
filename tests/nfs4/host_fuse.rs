//! A FUSE file system exported for real: its daemon locks the files of the directory below, where this process is in the
//! place of another host of a cluster file system.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::{Getattr3Args, Lookup3Args, Read3Args};
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{NfsFh3, StableHow};
use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{CbNotifyLock4args, CbOp4};
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use nfsd::nlm::types::{LockArgs, NLM_PROGRAM, NLM_V4, NlmProc, NlmStat, Res};
use tests::client::nfs3::{at, nfs3};
use tests::client::nfs4::{Ops, Raw};
use tests::client::{Client, Fh, encode, nlm};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};
use tests::fusefs::{FUSE, FuseFs};
use tests::need;

use super::callbacks::{file, lock_all, session, unlock_all};
use super::host_locks::{
    Local, Sort, free_all, plain, refused, shared_ones_go_together, three, wait_for,
};
use super::recovery::Host;
use super::state::close;
use crate::robust::disks::works;

/// A server whose `export` is a FUSE file system and whose `plain` is none. They end in this order.
struct Bed {
    server: TestServer,
    fuse: FuseFs,
}

impl Bed {
    #[track_caller]
    fn new(policy: &str) -> Bed {
        let dir = fresh_dir();
        fs::create_dir(dir.path().join("plain")).expect("mkdir");
        let (low, export) = (dir.path().join("low"), dir.path().join("export"));
        let fuse = FuseFs::new(&low, &export, &[]);
        let exports = "@DIR@/export *(rw,no_root_squash,insecure,fsid=7)\n@DIR@/plain *(rw,no_root_squash,insecure)";
        let setup = Setup::exports(exports).args(&["--grace-time", "60s"]);
        let server = setup.policy(policy).start_in(dir);
        Bed { server, fuse }
    }

    fn below(&self, name: &str) -> Local {
        Local::open(&self.fuse.low().join(name))
    }
}

fn policy() -> String {
    policies().pop().expect("a policy")
}

#[test]
fn files_of_a_fuse_file_system_are_served() {
    if !need::have("files_of_a_fuse_file_system_are_served", &[FUSE]) {
        return;
    }
    for policy in policies() {
        let mut bed = Bed::new(&policy);
        let (mut client, root) = bed.server.mounted();
        (0..5).for_each(|n| works(&mut client, &root, n));
        let kept = client.new_file(&root, b"kept", 0o600);
        let dir = client.new_dir(&root, b"dir", 0o755);
        works(&mut client, &dir, 9);
        client
            .rename((&root[..], &b"kept"[..]), (&dir[..], &b"moved"[..]))
            .expect("RENAME");
        assert!(bed.fuse.low().join("dir/moved").exists());
        drop(client);
        // Its handles are good as long as the daemon knows the file.
        bed.server.restart();
        let (mut client, _) = bed.server.mounted();
        assert_eq!(client.attr(&kept).mode & 0o777, 0o600);
        drop(client);
    }
}

#[test]
fn a_lock_below_is_in_the_way_of_clients() {
    if !need::have("a_lock_below_is_in_the_way_of_clients", &[FUSE]) {
        return;
    }
    let bed = Bed::new(&policy());
    let log = bed.server.log();
    assert!(
        log.contains("locks on this file system may wait for another host"),
        "{log}"
    );
    let fh = file(&bed.server, "f", b"data");
    let below = bed.below("f");
    let mut a = session(&bed.server, "a");
    let (mut b, three) = three(&bed.server, "b");
    let opened = plain(&mut a, &fh);
    for sort in [Sort::Process, Sort::OpenFile] {
        assert!(below.set(sort, libc::F_WRLCK, (5, 10)));
        // The kernel names no process of a FUSE file system's.
        let unnamed = ("host".to_owned(), 0);
        refused((&mut a, &fh, &opened), (&mut b, &three), unnamed);
        shared_ones_go_together(&mut b, &three, &below, sort);
    }
    assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Ok);
    assert!(!below.lock((100, 1)));
}

#[test]
fn a_lock_of_a_client_is_in_the_way_below_until_it_is_gone() {
    let name = "a_lock_of_a_client_is_in_the_way_below_until_it_is_gone";
    if !need::have(name, &[FUSE]) {
        return;
    }
    let mut bed = Bed::new(&policy());
    let fh = file(&bed.server, "f", b"data");
    let below = bed.below("f");
    let sees = |expected: &str| wait_for(|| below.seen(6) == expected);
    let (mut a, three) = three(&bed.server, "a");
    let shared = |args: &mut LockArgs<'_>| args.exclusive = false;
    assert_eq!(a.lock(&three, 1, (1, 2)), NlmStat::Granted);
    assert_eq!(below.seen(6), "-ww---");
    assert!(!below.lock((2, 2)));
    assert_eq!(a.lock_with(&three, 2, (4, 0), shared), NlmStat::Granted);
    assert_eq!(below.seen(6), "-ww-rr");
    assert_eq!(a.unlock(&three, 1, (0, 3)), NlmStat::Granted);
    assert_eq!(below.seen(6), "----rr", "unlocked before it is said");
    free_all(&mut a, "a");
    sees("------");
    for minor in [0, 2] {
        let mut b = Host::ready(&bed.server, minor, "b");
        let mut open = b.open("f").expect("open");
        assert_eq!(b.lock(&mut open, false), S::Ok);
        assert_eq!(below.seen(6), "wwwwww");
        drop(b);
        bed.server.control("expire").expect("expired");
        sees("------");
    }
    let mut b = session(&bed.server, "b");
    let opened = plain(&mut b, &fh);
    let locked = |b: &mut _| {
        let mut done = lock_all(b, &fh, &opened);
        done.ok(Op4::Putfh);
        done.body::<Stateid4>(Op4::Lock)
    };
    let stateid = locked(&mut b);
    assert_eq!(below.seen(6), "wwwwww");
    unlock_all(&mut b, &fh, &stateid);
    assert_eq!(below.seen(6), "------", "unlocked before it is said");
    locked(&mut b);
    let mut done = b.at(&fh, &close(Ops::new(), 0, &opened));
    done.body::<Stateid4>(Op4::Close);
    sees("------");
    drop((a, b));
    let mut c = Host::ready(&bed.server, 1, "c");
    let mut open = c.open("f").expect("open");
    assert_eq!(c.lock(&mut open, false), S::Ok);
    assert_eq!(below.seen(6), "wwwwww");
    bed.server.kill9();
    sees("------");
}

/// A daemon that locks as one process loses all locks of a file with the first descriptor of it that is closed: the server
/// has one.
#[test]
fn what_is_written_meanwhile_takes_no_lock_away() {
    if !need::have("what_is_written_meanwhile_takes_no_lock_away", &[FUSE]) {
        return;
    }
    let bed = Bed::new(&policy());
    file(&bed.server, "f", b"data");
    let below = bed.below("f");
    let (mut a, three) = three(&bed.server, "a");
    assert_eq!(a.lock(&three, 1, (1, 2)), NlmStat::Granted);
    for _ in 0..2 {
        let wrote = a.client.write(&three, 0, b"other", StableHow::FileSync);
        wrote.expect("WRITE");
        assert_eq!(a.client.read(&three, 0, 9).expect("READ").data, b"other");
        // By then the descriptor for writing is idle.
        thread::sleep(Duration::from_millis(3100));
        assert_eq!(below.seen(6), "-ww---");
    }
    drop(a);
    bed.server.forget_clients();
}

#[test]
fn who_waits_for_a_lock_below_gets_it() {
    if !need::have("who_waits_for_a_lock_below_gets_it", &[FUSE]) {
        return;
    }
    let bed = Bed::new(&policy());
    let fh = file(&bed.server, "f", b"data");
    let below = bed.below("f");
    let mut a = session(&bed.server, "a");
    let opened = plain(&mut a, &fh);
    let (mut b, three) = three(&bed.server, "b");
    assert!(below.lock((0, 10)));
    let threads = threads(bed.server.pid());
    for svid in 7..40 {
        assert_eq!(b.wait(&three, svid, (0, 5)), NlmStat::Blocked);
    }
    assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Denied);
    b.is_left_alone();
    let now = self::threads(bed.server.pid());
    assert!(
        now < threads + 10,
        "no thread for each who waits: {threads}, then {now}"
    );
    for svid in 8..40 {
        assert_eq!(b.cancel(&three, svid, (0, 5)), NlmStat::Granted);
    }
    below.unlock((0, 2));
    b.is_left_alone();
    below.unlock((2, 8));
    assert_eq!(b.granted(), (0, 5));
    assert_eq!(below.seen(6), "wwwww-");
    assert_eq!(b.unlock(&three, 7, (0, 0)), NlmStat::Granted);
    let callback = a.callback();
    callback.args::<CbNotifyLock4args<'_>>(CbOp4::NotifyLock);
    a.answer(&callback, S::Ok, &());
    assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Ok);
    // And a process that waits gets what a client gives back.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| below.lock_at_last((0, 3)));
        thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        let mut done = a.at(&fh, &close(Ops::new(), 0, &opened));
        done.body::<Stateid4>(Op4::Close);
        waiting.join().expect("locked");
    });
    assert_eq!(b.lock(&three, 1, (0, 1)), NlmStat::Denied);
    below.unlock((0, 0));
    drop((a, b));
    bed.server.forget_clients();
    bed.server.wait_idle();
}

fn threads(pid: u32) -> usize {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    tasks.expect("its threads").count()
}

/// After a restart clients get their locks again, but for what another host took meanwhile and keeps.
#[test]
fn locks_below_are_reclaimed() {
    if !need::have("locks_below_are_reclaimed", &[FUSE]) {
        return;
    }
    let mut bed = Bed::new(&policy());
    let mut one = Host::ready(&bed.server, 1, "one");
    let mut opens = ["f", "g"].map(|name| one.open(name).expect("made"));
    for open in &mut opens {
        assert_eq!(one.lock(open, false), S::Ok);
    }
    let (mut b, _) = three(&bed.server, "b");
    let root = b.mount(&bed.server.export());
    let h = b.client.new_file(&root, b"h", 0o666);
    assert_eq!(b.lock(&h, 1, (0, 10)), NlmStat::Granted);
    let [f, g, below] = ["f", "g", "h"].map(|name| bed.below(name));
    bed.server.kill9();
    wait_for(|| f.lock((3, 1)) && g.lock((3, 1)) && below.lock((3, 1)));
    bed.server.start_again();
    // One lets go of it, as a killed server's kernel would; one stays.
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        drop((f, below));
    });
    let mut one = Host::new(&bed.server, 1, "one");
    let mut again = one.reclaim(&opens[0].fh).expect("an open");
    assert_eq!(one.lock(&mut again, true), S::Ok);
    late.join().expect("unlocked");
    let mut again = one.reclaim(&opens[1].fh).expect("an open");
    assert_eq!(one.lock(&mut again, true), S::ReclaimConflict);
    b.reconnect(bed.server.addr());
    let reclaim = |args: &mut LockArgs<'_>| args.reclaim = true;
    assert_eq!(b.lock_with(&h, 1, (0, 10), reclaim), NlmStat::Granted);
    assert_eq!(bed.below("f").seen(3), "www");
    assert_eq!(bed.below("h").seen(3), "www");
    bed.server.kill9();
}

/// Starts one of several sorts of requests at the file system that does not answer.
fn start(server: &TestServer, root: &Fh, fh: &Fh, n: usize) -> (Client, u32) {
    let mut client = server.client();
    let xid = match n % 4 {
        0 => {
            let object = NfsFh3(fh);
            client.start(nfs3(Proc3::Getattr), &Getattr3Args { object })
        }
        1 => {
            let what = at(root, b"f0");
            client.start(nfs3(Proc3::Lookup), &Lookup3Args { what })
        }
        2 => client.start_write(fh, 0, b"written", StableHow::FileSync),
        _ => {
            let (file, offset, count) = (NfsFh3(fh), 0, 100);
            let args = Read3Args {
                file,
                offset,
                count,
            };
            client.start(nfs3(Proc3::Read), &args)
        }
    };
    (client, xid)
}

/// A daemon that hangs holds up whoever uses its file system, however many, and nobody else; when it goes on, all is well.
fn stuck(policy: &str, requests: usize) {
    let bed = Bed::new(policy);
    let (mut client, root) = bed.server.mounted();
    let mut other = bed.server.client();
    let plain = other.mount(&bed.server.dir().join("plain"));
    works(&mut client, &root, 1);
    let made = |n: usize| format!("f{n}").into_bytes();
    let files: Vec<Fh> = (0..requests)
        .map(|n| {
            let made = client.new_file(&root, &made(n), 0o666);
            let wrote = client.write(&made, 0, b"first", StableHow::Unstable);
            wrote.expect("WRITE");
            made
        })
        .collect();
    let mut host = nlm::Host::new(bed.server.addr(), "host");
    // The kernel remembers names and attributes for a second: then it has to ask.
    thread::sleep(Duration::from_millis(1200));
    let hung = bed.fuse.stop();
    let numbered = files.iter().enumerate();
    let mut sent: Vec<_> = numbered
        .map(|(n, fh)| start(&bed.server, &root, fh, n))
        .collect();
    let lock = [NLM_PROGRAM, NLM_V4, NlmProc::Lock.wire()];
    let locks: Vec<u32> = files
        .iter()
        .map(|fh| {
            let args = encode(&host.lock_args(fh, 1, (0, 2), false));
            host.client.start(lock, &Raw(&args))
        })
        .collect();
    // Those that are open for writing are closed when idle: that waits as well, but no worker does.
    thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    for n in 0..10 {
        works(&mut other, &plain, n);
        let mut fresh = bed.server.client();
        works(&mut fresh, &plain, n);
    }
    let took = began.elapsed();
    println!("{policy}: {requests} stuck, 20 rounds on another export took {took:?}");
    wait_for(|| bed.server.stat("requests.in_flight") as usize >= 2 * requests);
    drop(hung);
    for (client, xid) in &mut sent {
        let answer = client.answer(*xid);
        assert_eq!(answer.bytes().get(..4), Some(&encode(&Nfsstat3::Ok)[..]));
    }
    for xid in locks {
        let answer = host.client.answer(xid);
        assert_eq!(answer.results::<Res<'_>>().stat, NlmStat::Granted);
    }
    for n in 0..requests {
        assert_eq!(bed.below(&format!("f{n}")).seen(3), "ww-");
    }
    works(&mut client, &root, 2);
    drop((sent, client, other, host));
}

#[test]
fn a_fuse_file_system_that_hangs() {
    if !need::have("a_fuse_file_system_that_hangs", &[FUSE]) {
        return;
    }
    thread::scope(|scope| {
        for policy in policies() {
            scope.spawn(move || stuck(&policy, 100));
        }
    });
}
