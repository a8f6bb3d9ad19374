//! Locks of NFS clients and of processes of the server's host (`host_locks`): this process is one of them.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{CbNotifyLock4args, CbOp4};
use nfsd::nfs4::op::lock::Lock4Denied;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use nfsd::nlm::types::{CallerName, LockArgs, NlmProc, NlmStat, Notify};
use nix::fcntl::{FcntlArg, fcntl};
use tests::client::nfs4::{Ops, Raw, Results};
use tests::client::nlm;
use tests::client::session::Session;
use tests::client::{Fh, encode};
use tests::daemon::{Setup, TestServer};

use super::callbacks::{file, give_back, lock_all, open_file, session, unlock_all};
use super::recovery::Host;
use super::state::close;

const BOTH: u32 = 3;
const LONG: Duration = Duration::from_secs(60);
/// Locks of this process (POSIX), or of an open file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sort {
    Process,
    OpenFile,
}

/// A file as a process of the host has it open.
pub(super) struct Local(File);

/// What fcntl(2) is asked for.
fn request(kind: i32, (start, len): (i64, i64)) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

impl Local {
    pub(super) fn open(path: &Path) -> Local {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        Local(file.open(path).expect("open"))
    }

    /// True if it could be had at once; `kind` is `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub(super) fn set(&self, sort: Sort, kind: i32, (start, len): (i64, i64)) -> bool {
        let request = request(kind, (start, len));
        let how = match sort {
            Sort::Process => FcntlArg::F_SETLK(&request),
            Sort::OpenFile => FcntlArg::F_OFD_SETLK(&request),
        };
        match fcntl(&self.0, how) {
            Ok(_) => true,
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => false,
            Err(e) => panic!("{sort:?} {kind} {start} {len}: {e}"),
        }
    }

    pub(super) fn lock(&self, range: (i64, i64)) -> bool {
        self.set(Sort::OpenFile, libc::F_WRLCK, range)
    }

    /// Locks it, and waits for that.
    pub(super) fn lock_at_last(&self, range: (i64, i64)) {
        let request = request(libc::F_WRLCK, range);
        fcntl(&self.0, FcntlArg::F_OFD_SETLKW(&request)).expect("F_OFD_SETLKW");
    }

    pub(super) fn unlock(&self, range: (i64, i64)) {
        assert!(self.set(Sort::OpenFile, libc::F_UNLCK, range));
    }

    /// What each of the first bytes is locked like by others: `-`, `r` or `w`.
    pub(super) fn seen(&self, bytes: i64) -> String {
        let of_byte = |at| {
            let mut asked = request(libc::F_WRLCK, (at, 1));
            fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut asked)).expect("F_OFD_GETLK");
            match i32::from(asked.l_type) {
                libc::F_RDLCK => 'r',
                libc::F_WRLCK => 'w',
                _ => '-',
            }
        };
        (0..bytes).map(of_byte).collect()
    }
}

/// LOCKT for writing.
pub(super) fn lockt(session: &mut Session, fh: &Fh, (offset, length): (u64, u64)) -> Results {
    let mut args = encode(&2_u32);
    args.extend(encode(&offset));
    args.extend(encode(&length));
    let (clientid, owner) = (session.clientid, OwnerName4(b"tester"));
    args.extend(encode(&StateOwner4 { clientid, owner }));
    let mut done = session.call(&Ops::new().putfh(fh).op(Op4::Lockt, &Raw(&args)));
    done.ok(Op4::Putfh);
    done
}

/// Who stands in the way: first byte, length, name.
#[track_caller]
pub(super) fn denied(done: &mut Results, op: Op4) -> (u64, u64, String) {
    assert_eq!(done.status_of(op), S::Denied);
    let denied: Lock4Denied<'_> = done.more();
    assert_eq!(denied.owner.clientid, 0);
    let owner = String::from_utf8_lossy(denied.owner.owner.0).into_owned();
    (denied.offset, denied.length, owner)
}

/// Opened for reading and writing, without a delegation.
#[track_caller]
pub(super) fn plain(session: &mut Session, fh: &Fh) -> Stateid4 {
    let (stateid, deleg) = open_file(session, fh, BOTH).expect("open");
    if let Some((_, deleg)) = deleg {
        give_back(session, fh, &deleg);
    }
    stateid
}

pub(super) fn free_all(host: &mut nlm::Host, name: &str) {
    let args = encode(&Notify {
        name: CallerName(name.as_bytes()),
        state: 0,
    });
    host.call(NlmProc::FreeAll, &args).results::<()>();
}

/// A process has bytes 5 to 14, which clients of both versions are told; the bytes beside them are free.
#[track_caller]
pub(super) fn refused(
    (session, fh, opened): (&mut Session, &Fh, &Stateid4),
    (host, three): (&mut nlm::Host, &Fh),
    (name, pid): (String, i32),
) {
    let held = (5, 10, name);
    let mut done = lock_all(session, fh, opened);
    done.ok(Op4::Putfh);
    assert_eq!(denied(&mut done, Op4::Lock), held);
    let mut inside = lockt(session, fh, (14, 1));
    assert_eq!(denied(&mut inside, Op4::Lockt), held);
    assert_eq!(lockt(session, fh, (15, 1)).status, S::Ok);
    assert_eq!(host.lock(three, 1, (0, 6)), NlmStat::Denied);
    let holder = Some((pid, 5, 10));
    let tested = host.test(three, 1, (0, 0));
    assert_eq!(tested, Err((NlmStat::Denied, holder)));
    assert_eq!(host.lock(three, 1, (0, 5)), NlmStat::Granted);
}

/// A process makes its lock a shared one, a client gets another beside it; both are unlocked.
#[track_caller]
pub(super) fn shared_ones_go_together(client: &mut nlm::Host, fh: &Fh, local: &Local, sort: Sort) {
    assert!(local.set(sort, libc::F_RDLCK, (5, 10)));
    let shared = |args: &mut LockArgs<'_>| args.exclusive = false;
    assert_eq!(client.lock_with(fh, 1, (0, 0), shared), NlmStat::Granted);
    assert!(!local.set(sort, libc::F_WRLCK, (5, 10)));
    assert_eq!(client.unlock(fh, 1, (0, 0)), NlmStat::Granted);
    assert!(local.set(sort, libc::F_UNLCK, (0, 0)));
}

/// NLM's host and the file as it knows it.
pub(super) fn three(server: &TestServer, name: &str) -> (nlm::Host, Fh) {
    let mut host = nlm::Host::new(server.addr(), name);
    let root = host.mount(&server.export());
    let fh = host.client.lookup(&root, b"f").expect("the file").fh;
    (host, fh)
}

/// A server that locks on the host at once, and one that takes the file system for one where that may take its time.
fn both_ways() -> [(TestServer, bool); 2] {
    let slow = Setup::default().faults("locks:slow").start();
    [(TestServer::start(), false), (slow, true)]
}

#[test]
fn a_lock_of_the_host_is_in_the_way_of_clients() {
    for (server, slow) in both_ways() {
        let fh = file(&server, "f", b"data");
        let local = Local::open(&server.export().join("f"));
        let mut a = session(&server, "a");
        let (mut b, three) = three(&server, "b");
        let opened = plain(&mut a, &fh);
        for (sort, pid) in [(Sort::Process, std::process::id()), (Sort::OpenFile, 0)] {
            assert!(local.set(sort, libc::F_WRLCK, (5, 10)));
            let name = match pid {
                0 => "host".to_owned(),
                pid => format!("host {pid}"),
            };
            refused((&mut a, &fh, &opened), (&mut b, &three), (name, pid as i32));
            let list = server.control("locks").expect("a list");
            let line = format!(
                "lock write 5 to 14, host  \"\" owner \"{}\", -\n",
                if pid == 0 {
                    String::new()
                } else {
                    pid.to_string()
                }
            );
            assert_eq!(list.contains(&line), !slow, "{list}");
            let list = server.control("locks json").expect("a list");
            assert_eq!(list.contains("\"seconds\": null"), !slow, "{list}");
            shared_ones_go_together(&mut b, &three, &local, sort);
        }
        assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Ok);
    }
}

#[test]
fn a_lock_of_a_client_is_in_the_way_of_the_host_until_it_is_gone() {
    for (mut server, slow) in both_ways() {
        let fh = file(&server, "f", b"data");
        let local = Local::open(&server.export().join("f"));
        // Other ways than by unlocking it may take a moment.
        let sees = |expected: &str| {
            if slow {
                wait_for(|| local.seen(6) == expected);
            }
            assert_eq!(local.seen(6), expected);
        };
        let (mut a, three) = three(&server, "a");
        let shared = |args: &mut LockArgs<'_>| args.exclusive = false;
        assert_eq!(a.lock(&three, 1, (1, 2)), NlmStat::Granted);
        assert_eq!(a.lock_with(&three, 2, (4, 0), shared), NlmStat::Granted);
        assert_eq!(a.lock_with(&three, 3, (5, 0), shared), NlmStat::Granted);
        sees("-ww-rr");
        for sort in [Sort::Process, Sort::OpenFile] {
            assert!(!local.set(sort, libc::F_RDLCK, (2, 2)));
            assert!(!local.set(sort, libc::F_WRLCK, (1 << 40, 1)));
            assert!(local.set(sort, libc::F_RDLCK, (3, 2)));
            assert!(local.set(sort, libc::F_UNLCK, (0, 0)));
        }
        assert_eq!(a.lock_with(&three, 1, (0, 2), shared), NlmStat::Granted);
        sees("rrw-rr");
        assert_eq!(a.unlock(&three, 1, (0, 3)), NlmStat::Granted);
        sees("----rr");
        assert_eq!(a.unlock(&three, 2, (0, 0)), NlmStat::Granted);
        sees("-----r");
        assert_eq!(server.stat("locks.on_host"), 1);
        free_all(&mut a, "a");
        wait_for(|| local.seen(6) == "------");
        // By every way a client of version 4 loses its locks.
        for minor in [0, 1, 2] {
            let mut b = Host::ready(&server, minor, "b");
            let mut open = b.open("f").expect("open");
            assert_eq!(b.lock(&mut open, false), S::Ok);
            sees("wwwwww");
            drop(b);
            server.control("expire").expect("expired");
            sees("------");
        }
        let mut b = session(&server, "b");
        let opened = plain(&mut b, &fh);
        let mut done = lock_all(&mut b, &fh, &opened);
        done.ok(Op4::Putfh);
        let locked: Stateid4 = done.body(Op4::Lock);
        sees("wwwwww");
        unlock_all(&mut b, &fh, &locked);
        sees("------");
        wait_for(|| server.stat("locks.on_host") == 0);
        // It has the lock-owner still.
        assert_eq!(lock_all(&mut b, &fh, &opened).status, S::Ok);
        sees("wwwwww");
        let mut done = b.at(&fh, &close(Ops::new(), 0, &opened));
        done.body::<Stateid4>(Op4::Close);
        sees("------");
        drop((a, b));
        server.forget_clients();
        server.wait_idle();
        let mut c = Host::ready(&server, 1, "c");
        let mut open = c.open("f").expect("open");
        assert_eq!(c.lock(&mut open, false), S::Ok);
        sees("wwwwww");
        server.kill9();
        sees("------");
    }
}

/// Waits for something that comes soon.
#[track_caller]
pub(super) fn wait_for(mut there: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !there() {
        assert!(Instant::now() < end, "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_waits_for_the_host_gets_the_lock() {
    for (server, _) in both_ways() {
        let fh = file(&server, "f", b"data");
        let local = Local::open(&server.export().join("f"));
        let mut a = session(&server, "a");
        let opened = plain(&mut a, &fh);
        let (mut b, three) = three(&server, "b");
        assert!(local.lock((0, 10)));
        assert_eq!(b.wait(&three, 7, (0, 5)), NlmStat::Blocked);
        assert_eq!(b.wait(&three, 8, (2, 5)), NlmStat::Blocked);
        assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Denied);
        b.is_left_alone();
        local.unlock((0, 2));
        b.is_left_alone();
        // The first in line first, although the second would fit as well.
        local.unlock((2, 8));
        assert_eq!(b.granted(), (0, 5));
        assert_eq!(local.seen(6), "wwwww-");
        b.is_left_alone();
        assert_eq!(b.unlock(&three, 7, (0, 0)), NlmStat::Granted);
        assert_eq!(b.granted(), (2, 5));
        assert_eq!(local.seen(8), "--wwwww-");
        assert!(local.lock((0, 1)));
        assert_eq!(b.unlock(&three, 8, (0, 0)), NlmStat::Granted);
        assert!(a.callback_within(Duration::from_millis(300)).is_none());
        local.unlock((0, 1));
        let callback = a.callback();
        callback.args::<CbNotifyLock4args<'_>>(CbOp4::NotifyLock);
        a.answer(&callback, S::Ok, &());
        assert_eq!(lock_all(&mut a, &fh, &opened).status, S::Ok);
        assert!(!local.lock((0, 1)));
        drop((a, b));
        server.forget_clients();
        server.wait_idle();
        assert!(local.lock((0, 0)));
    }
}

/// Who waits and goes leaves nothing behind, on the host either.
#[test]
fn who_waits_for_the_host_may_give_up() {
    for (server, _) in both_ways() {
        file(&server, "f", b"data");
        let local = Local::open(&server.export().join("f"));
        let (mut b, three) = three(&server, "b");
        assert!(local.lock((0, 10)));
        assert_eq!(b.wait(&three, 7, (0, 5)), NlmStat::Blocked);
        assert_eq!(server.stat("locks.on_host"), 1);
        assert_eq!(b.cancel(&three, 7, (0, 5)), NlmStat::Granted);
        wait_for(|| server.stat("locks.on_host") == 0);
        assert_eq!(b.wait(&three, 7, (0, 5)), NlmStat::Blocked);
        free_all(&mut b, "b");
        wait_for(|| server.stat("locks.on_host") == 0);
        local.unlock((0, 0));
        b.is_left_alone();
        drop(b);
        server.forget_clients();
        server.wait_idle();
    }
}

/// Between the end of a server and the reclaim a process of the host may be quicker.
#[test]
fn what_the_host_took_meanwhile_is_not_reclaimed() {
    let mut server = Setup::default().args(&["--grace-time", "60s"]).start();
    let mut one = Host::ready(&server, 1, "one");
    let mut open = one.open("f").expect("made");
    assert_eq!(one.lock(&mut open, false), S::Ok);
    let mut other = one.open("g").expect("made");
    assert_eq!(one.lock(&mut other, false), S::Ok);
    let (mut b, _) = three(&server, "b");
    let root = b.mount(&server.export());
    let g = b.client.new_file(&root, b"h", 0o666);
    assert_eq!(b.lock(&g, 1, (0, 10)), NlmStat::Granted);
    let locals = ["f", "h"].map(|name| Local::open(&server.export().join(name)));
    assert!(locals.iter().all(|local| !local.lock((3, 1))));
    server.kill9();
    assert!(locals.iter().all(|local| local.lock((3, 1))));
    server.start_again();
    let mut one = Host::new(&server, 1, "one");
    let mut again = one.reclaim(&open.fh).expect("an open");
    assert_eq!(one.lock(&mut again, true), S::ReclaimConflict);
    let mut again = one.reclaim(&other.fh).expect("an open");
    assert_eq!(one.lock(&mut again, true), S::Ok);
    let kept = Local::open(&server.export().join("g"));
    assert_eq!(kept.seen(3), "www", "on the host again");
    b.reconnect(server.addr());
    let reclaim = |args: &mut LockArgs<'_>| args.reclaim = true;
    assert_eq!(b.lock_with(&g, 1, (0, 10), reclaim), NlmStat::Denied);
    assert_eq!(b.lock_with(&g, 1, (4, 6), reclaim), NlmStat::Granted);
    server.kill9();
}

/// The kernel may let go of what a killed server had locked only after its end.
#[test]
fn a_reclaim_waits_for_what_lingers() {
    let mut server = Setup::default().args(&["--grace-time", "60s"]).start();
    let mut one = Host::ready(&server, 1, "one");
    let mut open = one.open("f").expect("made");
    assert_eq!(one.lock(&mut open, false), S::Ok);
    let (mut b, _) = three(&server, "b");
    let root = b.mount(&server.export());
    let g = b.client.new_file(&root, b"h", 0o666);
    assert_eq!(b.lock(&g, 1, (0, 10)), NlmStat::Granted);
    server.kill9();
    let locals = ["f", "h"].map(|name| Local::open(&server.export().join(name)));
    wait_for(|| locals.iter().all(|local| local.lock((3, 1))));
    server.start_again();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        drop(locals);
    });
    let mut one = Host::new(&server, 1, "one");
    let mut again = one.reclaim(&open.fh).expect("an open");
    assert_eq!(one.lock(&mut again, true), S::Ok);
    late.join().expect("unlocked");
    b.reconnect(server.addr());
    let local = Local::open(&server.export().join("h"));
    assert!(local.lock((3, 1)));
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        drop(local);
    });
    let reclaim = |args: &mut LockArgs<'_>| args.reclaim = true;
    assert_eq!(b.lock_with(&g, 1, (0, 10), reclaim), NlmStat::Granted);
    late.join().expect("unlocked");
    server.kill9();
}

#[test]
fn an_export_may_keep_its_locks_to_itself() {
    let server = Setup::options("rw,no_root_squash,insecure,no_host_locks").start();
    file(&server, "f", b"data");
    let local = Local::open(&server.export().join("f"));
    let (mut b, three) = three(&server, "b");
    assert!(local.lock((0, 10)));
    assert_eq!(b.lock(&three, 1, (0, 20)), NlmStat::Granted);
    assert!(local.lock((10, 10)));
    assert_eq!(
        b.test(&three, 2, (0, 1)),
        Err((NlmStat::Denied, Some((1, 0, 20))))
    );
    assert_eq!(server.stat("locks.on_host"), 0);
}

const BYTES: usize = 12;
const ROUNDS: usize = 1500;

/// Who locks in [`all_sorts_of_owners_against_a_model`].
enum Owner<'a> {
    Nlm(usize, i32),
    V4(Option<Stateid4>),
    Local(&'a Local, Sort),
}

/// Everybody who may lock, on one file.
struct Players<'a> {
    hosts: [(nlm::Host, Fh); 2],
    session: Session,
    fh: Fh,
    opened: Stateid4,
    owners: Vec<Owner<'a>>,
}

impl Players<'_> {
    /// Locks or unlocks; true if it could be done.
    fn set(&mut self, who: usize, (from, len): (u64, u64), kind: i32) -> bool {
        let exclusive = kind == libc::F_WRLCK;
        match &mut self.owners[who] {
            Owner::Nlm(host, svid) => {
                let (host, fh) = &mut self.hosts[*host];
                let stat = match kind {
                    libc::F_UNLCK => host.unlock(fh, *svid, (from, len)),
                    _ => host.lock_with(fh, *svid, (from, len), |args| args.exclusive = exclusive),
                };
                assert!(
                    matches!(stat, NlmStat::Granted | NlmStat::Denied),
                    "{stat:?}"
                );
                stat == NlmStat::Granted
            }
            Owner::Local(local, sort) => local.set(*sort, kind, (from as i64, len as i64)),
            Owner::V4(locked) => {
                let mut args = encode(&(1 + u32::from(exclusive)));
                if kind == libc::F_UNLCK {
                    let Some(stateid) = *locked else { return true };
                    args.extend(encode(&0_u32));
                    args.extend(encode(&stateid));
                    args.extend([encode(&from), encode(&len)].concat());
                    let ops = Ops::new().op(Op4::Locku, &Raw(&args));
                    *locked = Some(self.session.at(&self.fh, &ops).body(Op4::Locku));
                    return true;
                }
                args.extend(encode(&false));
                args.extend([encode(&from), encode(&len)].concat());
                args.extend(encode(&true));
                args.extend(encode(&0_u32));
                args.extend(encode(&self.opened));
                args.extend(encode(&0_u32));
                let (clientid, owner) = (self.session.clientid, OwnerName4(b"locker"));
                args.extend(encode(&StateOwner4 { clientid, owner }));
                let ops = Ops::new().op(Op4::Lock, &Raw(&args));
                let mut done = self.session.at(&self.fh, &ops);
                if done.status == S::Ok {
                    *locked = Some(done.body(Op4::Lock));
                    return true;
                }
                assert_eq!(done.status_of(Op4::Lock), S::Denied);
                false
            }
        }
    }
}

/// Owners of NLM, of version 4 and of the host lock and unlock at random: granted is what an array of bytes for each
/// allows, and the host sees just that.
#[test]
fn all_sorts_of_owners_against_a_model() {
    for (server, _) in both_ways() {
        let fh = file(&server, "f", b"data");
        let path = server.export().join("f");
        let (open_file, process) = (Local::open(&path), Local::open(&path));
        let mut session = session(&server, "v4");
        let opened = plain(&mut session, &fh);
        let mut players = Players {
            hosts: [three(&server, "a"), three(&server, "b")],
            opened,
            session,
            fh,
            owners: vec![
                Owner::Nlm(0, 1),
                Owner::Nlm(0, 2),
                Owner::Nlm(1, 1),
                Owner::V4(None),
                Owner::Local(&open_file, Sort::OpenFile),
                Owner::Local(&process, Sort::Process),
            ],
        };
        let mut model = [[libc::F_UNLCK; BYTES]; 6];
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 20) as usize % sides
        };
        let mut granted = 0;
        for round in 0..ROUNDS {
            let (who, a, b) = (roll(6), roll(BYTES), roll(BYTES));
            let kind = [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK, libc::F_UNLCK][roll(4)];
            let (from, to) = (a.min(b), a.max(b));
            let excludes = |held: i32| {
                kind != libc::F_UNLCK
                    && held != libc::F_UNLCK
                    && (held == libc::F_WRLCK || kind == libc::F_WRLCK)
            };
            let others = (0..6).filter(|other| *other != who);
            let free = others
                .into_iter()
                .all(|other| !model[other][from..=to].iter().any(|held| excludes(*held)));
            let range = (from as u64, (to - from + 1) as u64);
            let done = players.set(who, range, kind);
            assert_eq!(done, free, "round {round}: {who} {range:?} {kind}");
            if done {
                model[who][from..=to].fill(kind);
                granted += 1;
            }
            // Without the open file's own: what all others have.
            let seen = |at: usize| {
                let held = |kind| (0..6).any(|who| who != 4 && model[who][at] == kind);
                match (held(libc::F_WRLCK), held(libc::F_RDLCK)) {
                    (true, _) => 'w',
                    (_, true) => 'r',
                    _ => '-',
                }
            };
            let expected: String = (0..BYTES).map(seen).collect();
            assert_eq!(open_file.seen(BYTES as i64), expected, "round {round}");
        }
        assert!(granted > ROUNDS / 2);
        drop(players);
        server.forget_clients();
        server.wait_idle();
    }
}
