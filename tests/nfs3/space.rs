//! FSSTAT, FSINFO and PATHCONF, and file systems that are full.

use std::time::{Duration, Instant};

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, StableHow, fsf};
use tests::client::nfs3::{Outcome as _, mode};
use tests::client::{Client, Fh, Login};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs, run};
use tests::need::{self, Need};

#[test]
fn fsstat_fsinfo_and_pathconf() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    for fh in [&root, &file] {
        let stat = client.fsstat(fh).expect("FSSTAT");
        let real = rustix::fs::statvfs(server.export()).expect("statvfs");
        assert_eq!(stat.tbytes, real.f_blocks * real.f_frsize);
        assert_eq!(stat.tfiles, real.f_files);
        assert!(stat.fbytes <= stat.tbytes && stat.abytes <= stat.fbytes);
        assert!(stat.ffiles <= stat.tfiles && stat.afiles <= stat.ffiles);
        assert_eq!(
            stat.obj_attributes.map(|a| a.fileid),
            Some(client.attr(fh).fileid)
        );
        let info = client.fsinfo(fh).expect("FSINFO");
        let properties = fsf::LINK | fsf::SYMLINK | fsf::HOMOGENEOUS | fsf::CANSETTIME;
        assert_eq!(info.properties, properties);
        for (most, preferred, multiple) in [
            (info.rtmax, info.rtpref, info.rtmult),
            (info.wtmax, info.wtpref, info.wtmult),
        ] {
            assert!(multiple > 0 && preferred % multiple == 0);
            assert!(preferred <= most && preferred > 0);
        }
        assert!(info.dtpref >= 4096);
        assert!(info.maxfilesize >= 1 << 40);
        assert_eq!((info.time_delta.seconds, info.time_delta.nseconds), (0, 1));
        let conf = client.pathconf(fh).expect("PATHCONF");
        assert_eq!(conf.name_max, 255);
        assert!(conf.linkmax >= 1000);
        assert!(conf.no_trunc && conf.chown_restricted && conf.case_preserving);
        assert!(!conf.case_insensitive);
    }
}

/// A server of a small file system of its own, mounted at `export`.
fn small(policy: &str, mib: u64, mkfs: &[&str], options: &str) -> (LoopFs, TestServer, Client, Fh) {
    let dir = fresh_dir();
    let disk = LoopFs::new(&dir.path().join("export"), Fs::Ext4, mib, mkfs, options);
    let server = Setup::default().policy(policy).start_in(dir);
    let (client, root) = server.mounted();
    (disk, server, client, root)
}

/// Everything that takes space says NOSPC when there is none, nothing is damaged, and room made is room used.
#[test]
fn a_full_file_system() {
    if !need::have("a_full_file_system", &[LOOP]) {
        return;
    }
    for policy in policies() {
        // Without reserved blocks: root would use them.
        let (disk, server, mut client, root) = small(&policy, 8, &["-m", "0"], "noatime");
        let kept = client.new_file(&root, b"kept", 0o644);
        client
            .write(&kept, 0, &[3; 100_000], StableHow::FileSync)
            .expect("WRITE");
        let big = client.new_file(&root, b"big", 0o644);
        let chunk = vec![9; 64 << 10];
        let mut end = 0;
        let fail = loop {
            match client.write(&big, end, &chunk, StableHow::FileSync) {
                Ok(wrote) => end += u64::from(wrote.count),
                Err(fail) => break fail,
            }
            assert!(end < 8 << 20, "more than the disk holds");
        };
        assert_eq!(fail.status, Nfsstat3::Nospc);
        assert!(fail.with.after.is_some());
        // UNSTABLE is refused as well, or at the latest with COMMIT.
        let wrote = client.write(&big, end, &chunk, StableHow::Unstable);
        let mut late = || client.commit(&big, 0, 0).status();
        let status = match wrote.status() {
            Nfsstat3::Ok => late(),
            refused => refused,
        };
        assert_eq!(status, Nfsstat3::Nospc);
        // Names need room, too, sooner or later.
        let mut made = 0;
        let status = loop {
            let name = format!("{made}{}", "n".repeat(200));
            let status = client.mkdir(&root, name.as_bytes(), mode(0o755)).status();
            if status != Nfsstat3::Ok {
                break status;
            }
            made += 1;
            assert!(
                made < 10_000,
                "a full disk that always has room for a directory"
            );
        };
        assert_eq!(status, Nfsstat3::Nospc);
        let stat = client.fsstat(&root).expect("FSSTAT");
        assert!(stat.abytes < 64 << 10, "{} bytes free", stat.abytes);
        let read = client.read(&kept, 0, 200_000).expect("READ");
        assert!(read.data.len() == 100_000 && read.data.iter().all(|b| *b == 3));
        client.remove(&root, b"big").expect("REMOVE on a full disk");
        let again = client.new_file(&root, b"again", 0o644);
        // The removed file's room is there when its last descriptor is closed, which may be after the reply.
        let end = Instant::now() + Duration::from_secs(60);
        let wrote = loop {
            match client.write(&again, 0, &chunk, StableHow::FileSync) {
                Err(fail) if fail.status == Nfsstat3::Nospc && Instant::now() < end => {}
                wrote => break wrote.expect("there is room again"),
            }
        };
        assert_eq!(wrote.count as usize, chunk.len());
        drop(client);
        drop(server);
        drop(disk);
    }
}

/// No inodes left.
#[test]
fn a_file_system_without_inodes() {
    if !need::have("a_file_system_without_inodes", &[LOOP]) {
        return;
    }
    let (disk, server, mut client, root) = small("ring", 8, &["-N", "64"], "noatime");
    let mut status = Nfsstat3::Ok;
    for n in 0..200 {
        let name = format!("f{n}");
        let made = client.create(&root, name.as_bytes(), Createhow3::Guarded(mode(0o644)));
        status = made.status();
        if status != Nfsstat3::Ok {
            break;
        }
    }
    assert_eq!(status, Nfsstat3::Nospc);
    assert_eq!(client.fsstat(&root).expect("FSSTAT").ffiles, 0);
    client.remove(&root, b"f0").expect("REMOVE");
    client.new_file(&root, b"again", 0o644);
    drop(client);
    drop(server);
    drop(disk);
}

/// Quotas are the caller's, and the kernel's to keep: DQUOT for who is over, nothing for others.
#[test]
fn quotas() {
    let tools = &[Need::Program("setquota", "quota")];
    if !need::have("quotas", &[LOOP, tools]) {
        return;
    }
    for policy in policies() {
        let mkfs = ["-O", "quota", "-E", "quotatype=usrquota"];
        let dir = fresh_dir();
        let at = dir.path().join("export");
        let Some(disk) = LoopFs::try_new(&at, Fs::Ext4, 32, &mkfs, "noatime,usrquota") else {
            need::not_run(
                "quotas",
                "a kernel with quotas on ext4 (CONFIG_QFMT_V2; quotas:: has them in a guest)",
            );
            return;
        };
        let server = Setup::default().policy(&policy).start_in(dir);
        let (mut client, root) = server.mounted();
        let path = disk.dir().display().to_string();
        run(
            "setquota",
            &["-u", "1000", "1024", "1024", "20", "20", &path],
        );
        client.set_login(Login::user(1000, 1000));
        let file = client.new_file(&root, b"file", 0o666);
        let chunk = vec![1; 256 << 10];
        let mut end = 0;
        let status = loop {
            match client.write(&file, end, &chunk, StableHow::FileSync) {
                Ok(wrote) => end += u64::from(wrote.count),
                Err(fail) => break fail.status,
            }
            assert!(end <= 2 << 20, "more than the quota");
        };
        assert_eq!(status, Nfsstat3::Dquot);
        let mut status = Nfsstat3::Ok;
        for n in 0..30 {
            let name = format!("f{n}");
            let made = client.create(&root, name.as_bytes(), Createhow3::Guarded(mode(0o644)));
            status = made.status();
            if status != Nfsstat3::Ok {
                break;
            }
        }
        assert_eq!(status, Nfsstat3::Dquot);
        client.set_login(Login::user(1001, 1001));
        let other = client.new_file(&root, b"other", 0o644);
        for n in 0..8 {
            client
                .write(&other, n * chunk.len() as u64, &chunk, StableHow::FileSync)
                .expect("no quota");
        }
        drop(client);
        drop(server);
        drop(disk);
    }
}
