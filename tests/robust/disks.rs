//! File systems that stop: frozen, gone read-only, out of space, and a server out of descriptors.

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

/// A server of two exports: `disk` on an image, `export` on the disk of the build directory.
struct Bed {
    client: Client,
    other: Client,
    disk_root: Fh,
    root: Fh,
    server: TestServer,
    disk: LoopFs,
}

fn bed(policy: &str, mib: u64, config: &str) -> Bed {
    let dir = fresh_dir();
    let disk = LoopFs::new(
        &dir.path().join("disk"),
        Fs::Ext4,
        mib,
        &["-m", "0"],
        "noatime",
    );
    let exports =
        "@DIR@/disk *(rw,insecure,no_root_squash)\n@DIR@/export *(rw,insecure,no_root_squash)";
    let setup = Setup {
        config: config.to_owned(),
        ..Setup::exports(exports)
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
    let late = Instant::now() + PATIENCE;
    while bed.server.stat("workers.apart") == 0 {
        assert!(Instant::now() < late, "stuck, and nobody sees it");
        std::thread::sleep(Duration::from_millis(50));
    }
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

/// SIGTERM with requests stuck in the kernel: the server ends within the time it said.
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
        std::thread::sleep(Duration::from_millis(300));
        bed.server.signal(Signal::TERM);
        let began = Instant::now();
        // Its threads in the kernel end when the disk thaws; that the server has stopped serving is seen before.
        while Client::connect_maybe(bed.server.addr()) {
            assert!(began.elapsed() < PATIENCE, "still listening");
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = bed.server.log();
        assert!(
            log.contains("stopping: requests in flight have 1 s"),
            "{log}"
        );
        std::thread::sleep(Duration::from_secs(7));
        drop(ice);
        bed.server.wait_end(PATIENCE);
        let log = bed.server.log();
        assert!(
            log.contains("stopped") || log.contains("in flight"),
            "{log}"
        );
        bed.server.start_again();
        let mut client = bed.server.client();
        client.attr(&file);
        drop(client);
        end(bed);
    }
}

/// A file system goes read-only under load with data not yet written back: requests that change it get an error, reads go
/// on, others do not notice, and when it comes back it is used again.
#[test]
fn a_file_system_gone_read_only() {
    if !need::have("a_file_system_gone_read_only", &[LOOP]) {
        return;
    }
    for policy in policies() {
        let mut bed = bed(&policy, 64, "");
        let file = bed.client.new_file(&bed.disk_root, b"file", 0o644);
        bed.client
            .write(&file, 0, &[1; 50_000], StableHow::Unstable)
            .expect("WRITE");
        // As after an error of the disk: the kernel aborts the journal and refuses all changes from then on.
        bed.disk.remount("abort");
        let statuses = [
            bed.client
                .create(&bed.disk_root, b"new", Createhow3::Guarded(mode(0o644)))
                .status(),
            bed.client
                .mkdir(&bed.disk_root, b"dir", mode(0o755))
                .status(),
            bed.client.remove(&bed.disk_root, b"file").status(),
            bed.client
                .write(&file, 0, &[2; 100], StableHow::FileSync)
                .status(),
        ];
        for status in statuses {
            assert!([Nfsstat3::Rofs, Nfsstat3::Io].contains(&status), "{status}");
        }
        assert_ne!(bed.client.commit(&file, 0, 0).status(), Nfsstat3::Ok);
        bed.client.attr(&file);
        assert!(bed.client.list(&bed.disk_root, 4096).len() >= 3);
        (0..5).for_each(|n| works(&mut bed.other, &bed.root, n));
        end(bed);
    }
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
