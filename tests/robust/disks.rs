//! File systems that stop: frozen, gone read-only, out of space, and a server out of descriptors.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Create3Args;
use nfsd::nfs3::res::Create3Res;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, StableHow};
use rustix::process::{Resource, Rlimit, Signal};
use tests::client::nfs3::{Outcome as _, at, mode, nfs3};
use tests::client::{Client, Fh, PATIENCE};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need;

use super::signals::end_bound;

/// A server of two exports: `disk` on an image, `export` on the disk of the build directory.
struct Bed {
    client: Client,
    other: Client,
    disk_root: Fh,
    root: Fh,
    server: TestServer,
    disk: LoopFs,
}

const EXPORTS: &str =
    "@DIR@/disk *(rw,insecure,no_root_squash)\n@DIR@/export *(rw,insecure,no_root_squash)";

fn bed(policy: &str, mib: u64, config: &str) -> Bed {
    let dir = fresh_dir();
    let disk = LoopFs::new(
        &dir.path().join("disk"),
        Fs::Ext4,
        mib,
        &["-m", "0"],
        "noatime",
    );
    let setup = Setup {
        config: config.to_owned(),
        ..Setup::exports(EXPORTS)
    };
    let server = setup.policy(policy).start_in(dir);
    let (other, root) = server.mounted();
    let mut client = server.client();
    let disk_root = client.mount(disk.dir());
    Bed {
        client,
        other,
        disk_root,
        root,
        server,
        disk,
    }
}

/// Creates, writes, reads, looks up, lists and removes, on an export that works.
#[track_caller]
pub(crate) fn works(client: &mut Client, root: &[u8], n: usize) {
    let name = format!("n{n}");
    let made = client.new_file(root, name.as_bytes(), 0o644);
    let wrote = client.write(&made, 0, &[n as u8; 5000], StableHow::FileSync);
    wrote.expect("WRITE");
    let read = client.read(&made, 0, 5000).expect("READ");
    assert_eq!(read.data, vec![n as u8; 5000]);
    assert_eq!(client.fh_of(root, name.as_bytes()), made);
    assert_eq!(client.attr(&made).size, 5000);
    let listed = client.list_plus(root, (4096, 32_768));
    assert!(listed.iter().any(|entry| entry.name == name.as_bytes()));
    client.remove(root, name.as_bytes()).expect("REMOVE");
}

/// A frozen file system holds up those who change it, however many, and nobody else; when it thaws, everything completes.
fn frozen(policy: &str, requests: usize) {
    let mut bed = bed(policy, 64, "");
    let file = bed.client.new_file(&bed.disk_root, b"file", 0o644);
    let data = vec![8; 30_000];
    bed.client
        .write(&file, 0, &data, StableHow::FileSync)
        .expect("WRITE");
    // Directories and files of their own: changes of one and the same would wait for each other anyway.
    let lanes: Vec<Fh> = (0..requests)
        .map(|n| match n % 2 {
            0 => bed
                .client
                .new_dir(&bed.disk_root, format!("d{n}").as_bytes(), 0o755),
            _ => bed
                .client
                .new_file(&bed.disk_root, format!("w{n}").as_bytes(), 0o644),
        })
        .collect();
    // Files of the other export, on connections of their own, so that every worker has some.
    let mut others: Vec<(Client, Fh)> = (0..8)
        .map(|n| {
            let file = bed
                .other
                .new_file(&bed.root, format!("o{n}").as_bytes(), 0o644);
            (bed.server.client(), file)
        })
        .collect();
    let ice = bed.disk.freeze();
    let mut stuck = Vec::new();
    for (n, lane) in lanes.iter().enumerate() {
        // Several connections, so that every worker of the server has its part.
        let mut client = bed.server.client();
        if n % 2 == 0 {
            let name = format!("f{n}").into_bytes();
            let args = Create3Args {
                where_: at(lane, &name),
                how: Createhow3::Guarded(mode(0o644)),
            };
            let xid = client.start(nfs3(Proc3::Create), &args);
            stuck.push((client, xid, true));
        } else {
            let xid = client.start_write(lane, 0, &data, StableHow::FileSync);
            stuck.push((client, xid, false));
        }
    }
    // The kernel lets writes of files stand in line whose inodes hash alike, of all file systems together. Once they are
    // known to be stuck, others pass them.
    wait_stuck(&bed.server);
    // Another worker may see it a second later.
    std::thread::sleep(Duration::from_secs(3));
    for (client, file) in &mut others {
        let wrote = client.write(file, 0, &data, StableHow::FileSync);
        wrote.expect("WRITE beside a frozen disk");
    }
    // Another export, over old and new connections, while they wait.
    let began = Instant::now();
    for n in 0..10 {
        works(&mut bed.other, &bed.root, n);
        works(&mut bed.server.client(), &bed.root, n);
    }
    println!(
        "{policy}: {requests} stuck, 20 rounds on another export took {:?}",
        began.elapsed()
    );
    // What does not change the frozen one is served, too.
    let read = bed
        .client
        .read(&file, 0, 100)
        .expect("READ of a frozen disk");
    assert_eq!(read.data.len(), 100);
    for (client, ..) in &mut stuck {
        assert!(
            !client.closed_within(Duration::ZERO),
            "nobody is cut off or answered early"
        );
    }
    drop(ice);
    for (client, xid, create) in &mut stuck {
        if *create {
            let answer = client.answer(*xid);
            let made: Create3Res<'_> = answer.results();
            made.ok().expect("CREATE after the thaw");
        } else {
            client.finish_write(*xid).expect("WRITE after the thaw");
        }
    }
    works(&mut bed.client, &bed.disk_root, 1);
    drop((stuck, others));
    end(bed);
}

/// Ends in this order: connections, server, disk.
fn end(bed: Bed) {
    let Bed {
        client,
        other,
        server,
        disk,
        ..
    } = bed;
    drop((client, other));
    drop(server);
    drop(disk);
}

#[test]
fn a_frozen_file_system() {
    if !need::have("a_frozen_file_system", &[LOOP]) {
        return;
    }
    for policy in policies() {
        frozen(&policy, 4);
    }
}

#[test]
fn a_frozen_file_system_under_load() {
    if !need::have("a_frozen_file_system_under_load", &[LOOP]) {
        return;
    }
    for policy in policies() {
        frozen(&policy, 400);
    }
}

/// Waits until the server knows of requests that the kernel does not give back.
#[track_caller]
fn wait_stuck(server: &TestServer) {
    let late = Instant::now() + PATIENCE;
    while server.stat("workers.apart") == 0 {
        assert!(Instant::now() < late, "stuck, and nobody sees it");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGTERM with requests stuck in the kernel: the server serves nobody any more within the time it said, however long the
/// kernel keeps its threads.
#[test]
fn sigterm_with_requests_stuck_in_the_kernel() {
    if !need::have("sigterm_with_requests_stuck_in_the_kernel", &[LOOP]) {
        return;
    }
    for policy in policies() {
        let mut bed = bed(&policy, 64, "[timeouts]\ndrain = \"1s\"");
        let file = bed.client.new_file(&bed.disk_root, b"file", 0o644);
        let ice = bed.disk.freeze();
        for _ in 0..10 {
            bed.client
                .start_write(&file, 0, &[1; 1000], StableHow::FileSync);
        }
        wait_stuck(&bed.server);
        bed.server.signal(Signal::TERM);
        let began = Instant::now();
        // All of this before the disk thaws.
        assert!(bed.other.closed_within(PATIENCE), "an idle connection");
        let cut = bed.client.closed_within(PATIENCE);
        assert!(cut, "answered, or open still: {}", bed.server.log());
        let late = began + PATIENCE;
        while Client::connect_maybe(bed.server.addr()) {
            assert!(Instant::now() < late, "still listening");
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = began.elapsed();
        let log = bed.server.log();
        assert!(log.contains("requests in flight have 1 s"), "{log}");
        assert!(log.contains("stopped with requests stuck"), "{log}");
        let bound = end_bound(&log);
        println!("{policy}: served nobody after {took:?}, {bound:?} were said");
        assert!(took < bound + PATIENCE, "{took:?}, said {bound:?}");
        drop(ice);
        let status = bed.server.wait_end(PATIENCE);
        assert!(status.success(), "{status}\n{}", bed.server.log());
        bed.server.start_again();
        let mut client = bed.server.client();
        client.attr(&file);
        works(&mut client, &bed.disk_root, 1);
        drop(client);
        end(bed);
    }
}

/// SIGKILL with requests stuck in the kernel, which keeps the process until the disk thaws: started again, the server knows
/// all handles, and what was acknowledged is there.
#[test]
fn sigkill_with_requests_stuck_in_the_kernel() {
    if !need::have("sigkill_with_requests_stuck_in_the_kernel", &[LOOP]) {
        return;
    }
    for policy in policies() {
        let mut bed = bed(&policy, 64, "");
        let (old, new) = (vec![1; 30_000], vec![2; 30_000]);
        let mut verifier = [0; 8];
        let mut written = |client: &mut Client, dir: &[u8], name: String| {
            let fh = client.new_file(dir, name.as_bytes(), 0o644);
            let wrote = client.write(&fh, 0, &old, StableHow::FileSync);
            verifier = wrote.expect("WRITE").verf;
            fh
        };
        let (client, root) = (&mut bed.client, &bed.disk_root);
        let kept: Vec<Fh> = (0..8)
            .map(|n| written(client, root, format!("k{n}")))
            .collect();
        let lanes: Vec<Fh> = (0..8)
            .map(|n| written(client, root, format!("l{n}")))
            .collect();
        let dirs: Vec<Fh> = (0..4)
            .map(|n| client.new_dir(root, format!("d{n}").as_bytes(), 0o755))
            .collect();
        let ice = bed.disk.freeze();
        let stuck = |start: &dyn Fn(&mut Client)| {
            let mut client = bed.server.client();
            start(&mut client);
            client
        };
        let start_write = |fh: &Fh| {
            stuck(&|client| {
                client.start_write(fh, 0, &new, StableHow::FileSync);
            })
        };
        let start_create = |dir: &Fh| {
            let args = Create3Args {
                where_: at(dir, b"new"),
                how: Createhow3::Guarded(mode(0o644)),
            };
            stuck(&|client| {
                client.start(nfs3(Proc3::Create), &args);
            })
        };
        let writers: Vec<Client> = lanes.iter().map(start_write).collect();
        let makers: Vec<Client> = dirs.iter().map(start_create).collect();
        wait_stuck(&bed.server);
        let beside = written(&mut bed.other, &bed.root, "beside".to_owned());
        bed.server.signal(Signal::KILL);
        drop(ice);
        let status = bed.server.wait_end(PATIENCE);
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
        bed.server.start_again();
        let mut client = bed.server.client();
        for fh in kept.iter().chain([&beside]) {
            let read = client.read(fh, 0, 40_000).expect("READ after SIGKILL");
            assert!(read.data == old);
        }
        for (writer, fh) in writers.into_iter().zip(&lanes) {
            let read = client.read(fh, 0, 40_000).expect("READ after SIGKILL");
            assert_eq!(read.data.len(), old.len());
            // A write that is killed may end early.
            let rest = read.data.iter().skip_while(|&&byte| byte == 2);
            let rest = rest.copied().collect::<Vec<u8>>();
            assert!(rest == old[..rest.len()]);
            assert!(
                rest.is_empty() || !answered(writer),
                "acknowledged, and lost"
            );
        }
        for (maker, dir) in makers.into_iter().zip(&dirs) {
            match client.lookup(dir, b"new").status() {
                Nfsstat3::Ok => {}
                status => {
                    assert_eq!(status, Nfsstat3::Noent);
                    assert!(!answered(maker), "acknowledged, and lost");
                }
            }
        }
        let wrote = client.write(&lanes[0], 0, &new, StableHow::FileSync);
        assert_ne!(wrote.expect("WRITE").verf, verifier);
        works(&mut client, &bed.disk_root, 1);
        works(&mut client, &bed.root, 2);
        drop(client);
        end(bed);
    }
}

/// Whether the server that is gone by now had answered.
fn answered(mut client: Client) -> bool {
    matches!(client.try_record(PATIENCE), Ok(Some(_)))
}

const BLOCK: usize = 8192;
/// Blocks of a file, written in turn.
const BLOCKS: u64 = 64;

/// What a writer came to.
struct Wrote {
    /// Rounds that a COMMIT has said to be stable.
    stable: u64,
    /// How it ended.
    status: Nfsstat3,
}

/// Writes block after block, each with the number of its round, and commits it, until there is an error.
fn write_rounds(mut client: Client, fh: &[u8], stable: &AtomicU64) -> Wrote {
    let late = Instant::now() + PATIENCE;
    for round in 0.. {
        assert!(Instant::now() < late, "never an error");
        let at = round % BLOCKS * BLOCK as u64;
        let data = round.to_be_bytes().repeat(BLOCK / 8);
        let wrote = client.write(fh, at, &data, StableHow::Unstable);
        let committed = wrote.map_err(|fail| fail.status).and_then(|wrote| {
            let committed = client.commit(fh, at, BLOCK as u32);
            let committed = committed.map_err(|fail| fail.status)?;
            // Another verifier: it is lost, as after an error.
            (committed.verf == wrote.verf)
                .then_some(())
                .ok_or(Nfsstat3::Io)
        });
        if let Err(status) = committed {
            let stable = round;
            return Wrote { stable, status };
        }
        stable.store(round + 1, Ordering::Relaxed);
    }
    unreachable!("rounds never end")
}

/// What writers were told to be stable is there.
#[track_caller]
fn has_rounds(client: &mut Client, fh: &[u8], stable: u64) {
    let read = client.read(fh, 0, BLOCKS as u32 * BLOCK as u32);
    let data = read.expect("READ").data;
    for round in stable.saturating_sub(BLOCKS)..stable {
        let at = (round % BLOCKS) as usize * BLOCK;
        let block = data.get(at..at + BLOCK).expect("a block written");
        for word in block.chunks(8) {
            let found = u64::from_be_bytes(word.try_into().expect("8 bytes"));
            // The round in which it failed may have come so far.
            assert!(found == round || found == round + BLOCKS, "{found} {round}");
        }
    }
}

/// A file system goes read-only under load with data not yet written back: whoever writes gets an error, and the verifier
/// changes; reads go on, others do not notice, and when it comes back it is used again and has what was committed.
#[test]
fn a_file_system_gone_read_only() {
    if !need::have("a_file_system_gone_read_only", &[LOOP]) {
        return;
    }
    for policy in policies() {
        gone_read_only(&policy);
    }
}

fn gone_read_only(policy: &str) {
    let mut bed = bed(policy, 64, "");
    let file = bed.client.new_file(&bed.disk_root, b"file", 0o644);
    let wrote = bed
        .client
        .write(&file, 0, &[1; 50_000], StableHow::Unstable);
    let verifier = wrote.expect("WRITE").verf;
    let lanes: Vec<Fh> = (0..6)
        .map(|n| {
            bed.client
                .new_file(&bed.disk_root, format!("w{n}").as_bytes(), 0o644)
        })
        .collect();
    let stable: Vec<AtomicU64> = lanes.iter().map(|_| AtomicU64::new(0)).collect();
    let wrote: Vec<Wrote> = std::thread::scope(|scope| {
        let lanes = lanes.iter().zip(&stable);
        let writers: Vec<_> = lanes
            .map(|(fh, stable)| {
                let client = bed.server.client();
                scope.spawn(move || write_rounds(client, fh, stable))
            })
            .collect();
        let late = Instant::now() + PATIENCE;
        while stable.iter().any(|n| n.load(Ordering::Relaxed) < 3) && Instant::now() < late {
            std::thread::sleep(Duration::from_millis(5));
        }
        // As after an error of the disk: the kernel aborts the journal and refuses all changes from then on.
        bed.disk.remount("abort");
        (0..5).for_each(|n| works(&mut bed.other, &bed.root, n));
        let ends = writers.into_iter().map(|writer| writer.join());
        ends.map(|end| end.expect("a writer")).collect()
    });
    let refused = |status| {
        assert!([Nfsstat3::Rofs, Nfsstat3::Io].contains(&status), "{status}");
    };
    for end in &wrote {
        refused(end.status);
        assert!(end.stable >= 3, "{} rounds", end.stable);
    }
    let (client, root) = (&mut bed.client, &bed.disk_root);
    let how = Createhow3::Guarded(mode(0o644));
    refused(client.create(root, b"new", how).status());
    refused(client.mkdir(root, b"dir", mode(0o755)).status());
    refused(client.remove(root, b"file").status());
    let wrote_still = client.write(&file, 0, &[2; 100], StableHow::FileSync);
    refused(wrote_still.status());
    assert_ne!(client.commit(&file, 0, 0).status(), Nfsstat3::Ok);
    client.attr(&file);
    assert!(client.list(root, 4096).len() >= 3);
    let beside = bed.other.new_file(&bed.root, b"beside", 0o644);
    let beside = bed.other.write(&beside, 0, b"x", StableHow::Unstable);
    assert_ne!(beside.expect("WRITE").verf, verifier, "data was lost");
    // It can be unmounted once it is not exported, and comes back with the same handles.
    let only = "@DIR@/export *(rw,insecure,no_root_squash)";
    bed.server.reexport(only).expect("a reload");
    bed.disk.mount_again();
    bed.server.reexport(EXPORTS).expect("a reload");
    for (fh, end) in lanes.iter().zip(&wrote) {
        has_rounds(&mut bed.client, fh, end.stable);
    }
    bed.client.attr(&file);
    works(&mut bed.client, &bed.disk_root, 7);
    let wrote = bed
        .client
        .write(&file, 0, &[3; 50_000], StableHow::Unstable);
    let again = wrote.expect("WRITE").verf;
    assert_ne!(again, verifier);
    let committed = bed.client.commit(&file, 0, 0).expect("COMMIT");
    assert_eq!(committed.verf, again);
    end(bed);
}

/// A server that may open no more descriptors says JUKEBOX (try again later) and is well again when it may.
#[test]
fn out_of_descriptors() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        for n in 0..200 {
            let path = server.export().join(format!("f{n}"));
            std::fs::write(path, "contents").expect("a file");
        }
        client.read(&root, 0, 1).expect_err("a directory");
        let pid = rustix::process::Pid::from_raw(server.pid() as i32);
        let used = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
        let used = used.expect("its descriptors").count() as u64;
        let hard = hard_limit(server.pid());
        let limit = |most: u64| {
            let limit = Rlimit {
                current: Some(most),
                maximum: Some(hard),
            };
            rustix::process::prlimit(pid, Resource::Nofile, limit).expect("prlimit");
        };
        limit(used + 5);
        let mut refused = 0;
        for n in 0..200 {
            let name = format!("f{n}");
            let status = client.lookup(&root, name.as_bytes()).status();
            assert!(
                [Nfsstat3::Ok, Nfsstat3::Jukebox].contains(&status),
                "{status}"
            );
            refused += usize::from(status == Nfsstat3::Jukebox);
            let made = format!("m{n}");
            let status = client
                .create(&root, made.as_bytes(), Createhow3::Guarded(mode(0o644)))
                .status();
            assert!(
                [Nfsstat3::Ok, Nfsstat3::Jukebox].contains(&status),
                "{status}"
            );
        }
        assert!(refused > 0, "the limit was not felt");
        // A new connection finds no descriptor either; it is not to bring the server down.
        let mut waiting = server.client();
        let (xid, record) = waiting.build(nfs3(Proc3::Null), &());
        waiting.send_record(&record);
        std::thread::sleep(Duration::from_millis(300));
        client.null();
        limit(hard);
        waiting.answer(xid).outcome().expect("accepted at last");
        for n in 0..200 {
            let name = format!("f{n}");
            let file = client.fh_of(&root, name.as_bytes());
            assert_eq!(client.read(&file, 0, 100).expect("READ").data, b"contents");
        }
    }
}

/// The hard limit of a process's descriptors.
fn hard_limit(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4));
    hard.and_then(|n| n.parse().ok()).expect("a number")
}
