//! More of delegations and callbacks: what others see of a file delegated for writing, changes under way when a file is
//! opened, too many delegations, a client of 4.0 that cannot be called any more.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::cb::getattr::PATIENCE;
use nfsd::nfs4::cb::wire::{CbGetattr4args, CbOp4, CbRecall4args, CbRecallAny4args};
use nfsd::nfs4::op::readdir::ReaddirArgs;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::callbacks::{Called, Listener};
use tests::client::nfs3::Outcome as _;
use tests::client::nfs4::{Attrs, Ops, Raw, fattr, mode4};
use tests::client::session::Session;
use tests::client::{Client, Fh, encode};
use tests::daemon::{Setup, TestServer, fresh_dir};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need;

use super::at_export;
use super::callbacks::{
    LONG, READ, SHORT, WRITE, delegated, file, give_back, hear_recall, introduce, open_at_last,
    open_file, open_plain, plain, session,
};
use super::host_locks::wait_for;

/// Takes a CB_GETATTR and says that the file was written.
#[track_caller]
fn say(holder: &mut Session, fh: &Fh, change: u64, size: u64) {
    let callback = holder.callback();
    let args: CbGetattr4args<'_> = callback.args(CbOp4::Getattr);
    assert_eq!(args.fh.0, fh.as_slice());
    let said = fattr(&[(bit::CHANGE, encode(&change)), (bit::SIZE, encode(&size))]);
    holder.answer(&callback, S::Ok, &Raw(&said));
}

fn readdir(dir: &Fh, asked: &[u32]) -> Ops {
    let args = ReaddirArgs {
        cookie: 0,
        cookieverf: [0; 8],
        dircount: 8192,
        maxcount: 8192,
        attr_request: Bitmap4::of(asked),
    };
    Ops::new().putfh(dir).op(Op4::Readdir, &args)
}

/// The entries of a whole listing.
fn entries(done: &mut tests::client::nfs4::Results) -> Vec<(Vec<u8>, Attrs)> {
    done.ok(Op4::Putfh);
    done.body::<[u8; 8]>(Op4::Readdir);
    let mut all = Vec::new();
    while done.more::<bool>() {
        done.more::<u64>();
        let name = done.more::<Component4<'_>>().0.to_vec();
        all.push((name, Attrs::of(&done.more::<Fattr4<'_>>())));
    }
    assert!(done.more::<bool>(), "the end");
    all
}

fn size_of(all: &[(Vec<u8>, Attrs)], name: &[u8]) -> u64 {
    let found = all.iter().find(|(n, _)| n == name);
    found.expect("listed").1.get(bit::SIZE)
}

/// Has `ask`, given a new file and its name, ask the holder of a delegation of it in time. `None` from `ask`: put off. When
/// this thread was held up for so long that the holder's answer came too late, the holder is asked for the delegation
/// itself, as it should be, and all begins again with another file.
fn in_time<T>(
    server: &TestServer,
    holder: &mut Session,
    mut ask: impl FnMut(&mut Session, &Fh, &str) -> Option<T>,
) -> (Fh, String, Stateid4, T) {
    for n in 0.. {
        let name = format!("f{n}");
        let fh = file(server, &name, b"data");
        let stateid = delegated(holder, &fh, READ | WRITE);
        let began = Instant::now();
        if let Some(answer) = ask(holder, &fh, &name) {
            return (fh, name, stateid, answer);
        }
        assert!(began.elapsed() >= PATIENCE, "put off, but it was answered");
        hear_recall(holder, &fh, &stateid);
        give_back(holder, &fh, &stateid);
    }
    unreachable!("names end")
}

#[test]
fn a_listing_asks_the_holder_for_size_and_change() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    file(&server, "g", b"12");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let sized = readdir(&dir, &[bit::SIZE, bit::CHANGE]);
    let (fh, name, of_a, all) = in_time(&server, &mut a, |a, fh, _| {
        let xid = b.start(0, &sized);
        say(a, fh, u64::MAX - 7, 1000);
        let mut done = b.finish(xid);
        (done.status != S::Delay).then(|| entries(&mut done))
    });
    let f = name.as_bytes();
    assert_eq!((size_of(&all, f), size_of(&all, b"g")), (1000, 2));
    // Nobody is asked for what the holder cannot have changed, nor about its own.
    assert_eq!(b.call(&readdir(&dir, &[bit::FILEID])).status, S::Ok);
    let own = entries(&mut a.call(&sized));
    assert_eq!(size_of(&own, f), 4);
    assert_eq!(a.callback_within(SHORT).map(|c| c.op), None);
    give_back(&mut a, &fh, &of_a);
    let all = entries(&mut b.call(&sized));
    assert_eq!(size_of(&all, f), 4, "not written in fact");
}

#[test]
fn a_listing_does_not_wait_for_a_holder_that_says_nothing() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    let fh = file(&server, "f", b"data");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let of_a = delegated(&mut a, &fh, READ | WRITE);
    // An entry without attributes, where that is provided for.
    let mut done = b.call(&readdir(&dir, &[bit::RDATTR_ERROR, bit::SIZE]));
    let all = entries(&mut done);
    let (_, attrs) = all.iter().find(|(name, _)| name == b"f").expect("listed");
    assert_eq!(attrs.get::<S>(bit::RDATTR_ERROR), S::Delay);
    assert!(!attrs.0.contains_key(&bit::SIZE));
    let done = b.call(&readdir(&dir, &[bit::SIZE]));
    assert_eq!(done.status, S::Delay);
    // It was asked for the delegation then.
    let asked = a.callback();
    asked.args::<CbGetattr4args<'_>>(CbOp4::Getattr);
    hear_recall(&mut a, &fh, &of_a);
    give_back(&mut a, &fh, &of_a);
    let all = entries(&mut b.call(&readdir(&dir, &[bit::SIZE])));
    assert_eq!(size_of(&all, b"f"), 4);
}

#[test]
fn version_3_asks_the_holder_too() {
    let server = TestServer::start();
    let mut a = session(&server, "a");
    let (mut three, root) = server.mounted();
    file(&server, "e", b"data");
    let before = three.lookup(&root, b"e").expect("the file");
    assert_eq!(before.attr.expect("attributes").size, 4);
    let (fh, name, of_a, (found, attr)) = in_time(&server, &mut a, |a, fh, name| {
        let name = name.as_bytes();
        // The rest leaves out what it does not know.
        let found = three.lookup(&root, name).expect("the file").fh;
        assert_eq!(three.lookup(&root, name).expect("the file").attr, None);
        let access = three.access(&found, 1).expect("ACCESS");
        assert_eq!(access.obj_attributes, None);
        let listed = three.list_plus(&root, (4096, 32_768));
        let entry = listed.iter().find(|entry| entry.name == name);
        let entry = entry.expect("listed");
        assert!(entry.attr.is_none() && entry.fh.is_some());
        let attr = std::thread::scope(|scope| {
            let asking = scope.spawn(|| three.getattr(&found));
            say(a, fh, u64::MAX - 7, 1000);
            asking.join().expect("no panic")
        });
        (attr.status() != Nfsstat3::Jukebox).then(|| (found, attr.expect("GETATTR")))
    });
    assert_eq!(attr.size, 1000);
    let written = std::fs::metadata(server.export().join(&name)).expect("the file");
    assert!(i64::from(attr.mtime.seconds) >= written.mtime());
    give_back(&mut a, &fh, &of_a);
    assert_eq!(three.attr(&found).size, 4);
    let found = three.lookup(&root, name.as_bytes()).expect("the file");
    assert_eq!(found.attr.expect("attributes").size, 4);
}

/// A thread of the server is in the kernel and stays there until the file system it changes is thawed.
fn waits_for_a_thaw(server: &TestServer) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    tasks.flatten().any(|task| {
        let waits = std::fs::read_to_string(task.path().join("wchan"));
        waits.is_ok_and(|function| function.contains("percpu_rwsem"))
    })
}

/// Nobody is given a delegation while somebody else's change is under way, although there was none when that began.
#[test]
fn no_delegation_of_what_is_being_changed() {
    if !need::have("no_delegation_of_what_is_being_changed", &[LOOP]) {
        return;
    }
    let dir = fresh_dir();
    let disk = LoopFs::new(&dir.path().join("disk"), Fs::Ext4, 64, &[], "noatime");
    let exports = "@DIR@/disk *(rw,insecure,no_root_squash)";
    let server = Setup::exports(exports).start_in(dir);
    std::fs::write(disk.dir().join("f"), b"data").expect("a file");
    let (mut a, mut b) = (session(&server, "a"), session(&server, "b"));
    let root = a.walk(disk.dir().to_str().expect("text"));
    let fh = a.at(&root, &Ops::new().lookup(b"f").getfh());
    let fh = {
        let mut done = fh;
        done.ok(Op4::Lookup);
        done.fh()
    };
    let ice = disk.freeze();
    let args = [encode(&Stateid4::ANONYMOUS), mode4(0o600)].concat();
    let set = Ops::new().putfh(&fh).op(Op4::Setattr, &Raw(&args));
    let changing = b.start(0, &set);
    wait_for(|| waits_for_a_thaw(&server));
    let (stateid, deleg) = open_file(&mut a, &fh, READ).expect("open");
    assert_eq!(deleg, None);
    drop(ice);
    assert_eq!(b.finish(changing).status, S::Ok);
    let close = [encode(&0_u32), encode(&stateid)].concat();
    assert_eq!(
        a.at(&fh, &Ops::new().op(Op4::Close, &Raw(&close))).status,
        S::Ok
    );
    let of_a = delegated(&mut a, &fh, READ);
    give_back(&mut a, &fh, &of_a);
    drop((a, b, server));
}

#[test]
fn too_many_delegations_are_asked_back() {
    let server = Setup::config("[limits]\ndelegations = 4\n").start();
    let mut a = session(&server, "a");
    let mut held = Vec::new();
    for n in 0..6 {
        let fh = file(&server, &format!("f{n}"), b"data");
        let stateid = delegated(&mut a, &fh, READ);
        held.push((fh, stateid));
    }
    let start = Instant::now();
    loop {
        let callback = a.callback();
        let args: CbRecallAny4args = callback.args(CbOp4::RecallAny);
        a.answer(&callback, S::Ok, &());
        assert!(!args.types.is_empty());
        let keep = args.keep as usize;
        assert!(keep < 6 && start.elapsed() < LONG);
        if keep < 4 {
            for (fh, stateid) in held.drain(keep..) {
                give_back(&mut a, &fh, &stateid);
            }
            break;
        }
    }
    // One may have been on its way.
    while let Some(callback) = a.callback_within(Duration::from_secs(2)) {
        a.answer(&callback, S::Ok, &());
        assert!(start.elapsed() < LONG, "asked again and again");
    }
    assert_eq!(server.stat("locks.delegations"), held.len() as u64);
}

/// Opens a file for reading with 4.0 until it is delegated: that the server has noticed that it can call the client may
/// take a moment.
#[track_caller]
fn delegated_plain(
    (client, clientid): (&mut Client, u64),
    dir: &Fh,
    seqid: &mut u32,
    name: &str,
) -> Stateid4 {
    let start = Instant::now();
    loop {
        if let Some((_, stateid)) = open_plain(client, clientid, dir, seqid, (name, READ)) {
            return stateid;
        }
        assert!(start.elapsed() < LONG, "never delegated");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The delegation a CB_RECALL is about, which is answered.
#[track_caller]
fn recalled(called: &mut Called) -> Stateid4 {
    let callback = called.callback();
    let stateid = callback.args::<CbRecall4args<'_>>(CbOp4::Recall).stateid;
    called.answer(&callback, S::Ok, &());
    stateid
}

/// 4.0 has no CB_RECALL_ANY: the server takes the oldest ones back.
#[test]
fn too_many_delegations_of_4_0_are_recalled() {
    let server = Setup::config("[limits]\ndelegations = 4\n").start();
    let (_, dir) = at_export(&server);
    let names: Vec<String> = (0..7).map(|n| format!("f{n}")).collect();
    let fhs: Vec<Fh> = names
        .iter()
        .map(|name| file(&server, name, b"data"))
        .collect();
    let listener = Listener::new();
    let (mut client, clientid, mut called) = plain(&server, &listener);
    let mut seqid = 1;
    // The first one confirms the owner.
    open_plain(&mut client, clientid, &dir, &mut seqid, ("f6", READ));
    let mut held = Vec::new();
    for name in &names[..6] {
        let of = (&mut client, clientid);
        held.push(delegated_plain(of, &dir, &mut seqid, name));
    }
    // Three of six are a tenth below four.
    let mut back: Vec<Stateid4> = (0..3).map(|_| recalled(&mut called)).collect();
    back.sort_by_key(|stateid| held.iter().position(|one| one == stateid));
    assert_eq!(back, held[..3], "the oldest");
    for (fh, stateid) in fhs.iter().zip(&back) {
        let ops = Ops::new().putfh(fh).op(Op4::Delegreturn, stateid);
        assert_eq!(client.compound(0, &ops).status, S::Ok);
    }
    assert_eq!(server.stat("locks.delegations"), 3);
    let more = called.0.try_record(Duration::from_secs(2));
    assert!(!matches!(more, Ok(Some(_))), "there are few enough");
}

/// There never is as much memory as would be enough: who holds delegations is asked for some, by either version.
#[test]
fn scarce_memory_asks_delegations_back() {
    let server = Setup::config("[limits]\navailable_memory = 100\n").start();
    let (_, dir) = at_export(&server);
    let (e, f) = (file(&server, "e", b"data"), file(&server, "f", b"data"));
    file(&server, "g", b"data");
    let mut a = session(&server, "a");
    let of_a = delegated(&mut a, &e, READ);
    let callback = a.callback();
    let args: CbRecallAny4args = callback.args(CbOp4::RecallAny);
    assert_eq!(args.keep, 0, "half of one");
    a.answer(&callback, S::Ok, &());
    give_back(&mut a, &e, &of_a);
    let listener = Listener::new();
    let (mut client, clientid, mut called) = plain(&server, &listener);
    let mut seqid = 1;
    open_plain(&mut client, clientid, &dir, &mut seqid, ("g", READ));
    let of_f = delegated_plain((&mut client, clientid), &dir, &mut seqid, "f");
    assert_eq!(recalled(&mut called), of_f);
    let ops = Ops::new().putfh(&f).op(Op4::Delegreturn, &of_f);
    assert_eq!(client.compound(0, &ops).status, S::Ok);
}

#[test]
fn renew_tells_that_callbacks_do_not_arrive() {
    let server = TestServer::start();
    let (_, dir) = at_export(&server);
    let (_, fh) = (file(&server, "e", b"data"), file(&server, "f", b"data"));
    let listener = Listener::new();
    let (mut client, clientid, called) = plain(&server, &listener);
    let mut seqid = 1;
    open_plain(&mut client, clientid, &dir, &mut seqid, ("e", READ));
    let start = Instant::now();
    while open_plain(&mut client, clientid, &dir, &mut seqid, ("f", READ)).is_none() {
        assert!(start.elapsed() < LONG, "never delegated");
        std::thread::sleep(Duration::from_millis(20));
    }
    let renew = Ops::new().op(Op4::Renew, &clientid);
    assert_eq!(client.compound(0, &renew).status, S::Ok);
    // Nobody listens any more.
    drop((called, listener));
    let mut b = session(&server, "b");
    assert_eq!(open_file(&mut b, &fh, WRITE).map(|_| ()), Err(S::Delay));
    let start = Instant::now();
    loop {
        match client.compound(0, &renew).status {
            S::CbPathDown => break,
            status => assert_eq!(status, S::Ok),
        }
        assert!(start.elapsed() < LONG, "never told");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Introduced anew with where it listens now, it is called there.
    let listener = Listener::new();
    let (mut again, same) = introduce(&server, &listener);
    assert_eq!(same, clientid);
    assert_eq!(again.compound(0, &renew).status, S::Ok);
    let mut called = listener.accept();
    let stateid = loop {
        let callback = called.callback();
        if callback.null {
            called.answer(&callback, S::Ok, &());
            continue;
        }
        let args: CbRecall4args<'_> = callback.args(CbOp4::Recall);
        let stateid = args.stateid;
        called.answer(&callback, S::Ok, &());
        break stateid;
    };
    let ops = Ops::new().putfh(&fh).op(Op4::Delegreturn, &stateid);
    assert_eq!(again.compound(0, &ops).status, S::Ok);
    open_at_last(&mut b, &fh, WRITE);
}
