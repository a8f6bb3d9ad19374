//! Data and attributes of files: reading, writing, stability, setuid bits, sizes, times.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scratch::{self, LONG, alone, config, n, slice, soon, trees};
use vfs::exec::{self, Remote};
use vfs::stable::{GroupSync, Verifier};
use vfs::uring::IoPolicy;
use vfs::uring::fixed::OpenFd;
use vfs::{Cred, Errno, NOT_SYNC, SetAttr, SetTime, Stable, Time};

fn user() -> Cred {
    Cred::new(1000, 100, &[])
}

fn size(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

#[test]
fn reads_end_where_the_file_does() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        assert_eq!(t.get(&root, &file, 0, 100).await, Ok((vec![], true)));
        t.put(&root, &file, 0, b"hello")
            .await
            .result
            .expect("write");
        assert_eq!(
            t.get(&root, &file, 0, 100).await,
            Ok((b"hello".to_vec(), true))
        );
        assert_eq!(
            t.get(&root, &file, 0, 5).await,
            Ok((b"hello".to_vec(), true))
        );
        assert_eq!(
            t.get(&root, &file, 0, 4).await,
            Ok((b"hell".to_vec(), false))
        );
        assert_eq!(t.get(&root, &file, 0, 0).await, Ok((vec![], false)));
        assert_eq!(t.get(&root, &file, 5, 0).await, Ok((vec![], true)));
        for at in [
            5,
            6,
            1 << 40,
            i64::MAX as u64 - 1,
            i64::MAX as u64,
            u64::MAX,
        ] {
            assert_eq!(
                t.get(&root, &file, at, 100).await,
                Ok((vec![], true)),
                "{at}"
            );
        }
        // Sparse: what was never written reads as zeros.
        t.put(&root, &file, 1 << 33, b"end")
            .await
            .result
            .expect("write");
        let attr = t.vfs.getattr(&file).await.expect("attr");
        assert_eq!(attr.size, (1 << 33) + 3);
        assert!(attr.used < 1 << 20);
        let (hole, eof) = t.get(&root, &file, 1 << 32, 1 << 20).await.expect("read");
        assert!(!eof && hole.len() == 1 << 20 && hole.iter().all(|&b| b == 0));
        let (long, _) = t.get(&root, &file, 0, u32::MAX).await.expect("read");
        assert_eq!(long.len(), 1 << 20, "clipped");
        let dir = t.vfs.read(&root, &t.root, 0, 10).await;
        assert_eq!(dir.result.err(), Some(Errno::EISDIR));
    });
}

#[test]
fn writes_beyond_what_a_file_can_hold_fail() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        for at in [
            u64::MAX,
            u64::MAX - 2,
            i64::MAX as u64,
            i64::MAX as u64 - 1,
            1 << 60,
        ] {
            assert_eq!(
                t.put(&root, &file, at, b"xyz").await.result,
                Err(Errno::EFBIG),
                "{at}"
            );
            let set = t.vfs.setattr(&root, &file, &size(at), None).await;
            assert_eq!(set.result, Err(Errno::EFBIG), "{at}");
        }
        assert_eq!(t.vfs.getattr(&file).await.expect("attr").size, 0);
        let none = t
            .put(&root, &file, 7, b"")
            .await
            .result
            .expect("empty write");
        assert_eq!(none.count, 0);
        assert_eq!(
            t.put(&root, &t.root, 0, b"x").await.result,
            Err(Errno::EISDIR)
        );
    });
}

#[test]
fn many_writers_do_not_mix_up_their_data() {
    trees(|t| async move {
        let file = t.make(&Cred::root(), "f").await;
        let done = Rc::new(Cell::new(0));
        for i in 0..200u64 {
            let (vfs, file, done) = (t.vfs.clone(), file.clone(), done.clone());
            exec::spawn(async move {
                let cred = Cred::new(1000 + i as u32 % 5, 100, &[]);
                let data = [i as u8; 10_000];
                let stable = [Stable::Unstable, Stable::DataSync, Stable::FileSync][i as usize % 3];
                let wrote = vfs
                    .write(&cred, &file, i * 10_000, slice(&data), stable)
                    .await;
                let wrote = wrote.result.expect("write");
                assert_eq!((wrote.count, wrote.committed), (10_000, stable));
                let read = vfs
                    .read(&cred, &file, i * 10_000, 10_000)
                    .await
                    .result
                    .expect("read");
                assert_eq!(&read.buf[..], &data[..]);
                drop(read);
                vfs.commit(&cred, &file, 0, 0).await.result.expect("commit");
                done.set(done.get() + 1);
            });
        }
        assert!(soon(|| done.get() == 200).await);
        let text = fs::read(t.path.join("f")).expect("read");
        assert!(
            text.chunks(10_000)
                .zip(0u64..)
                .all(|(c, i)| c.iter().all(|&b| b == i as u8))
        );
    });
}

#[test]
fn a_strangers_write_clears_setuid_bits() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let bits = async |cred: &Cred, change: &str| {
            t.vfs
                .setattr(&root, &file, &mode(0o6777), None)
                .await
                .result
                .expect("chmod");
            match change {
                "write" => t.put(cred, &file, 0, b"x").await.result.map(drop),
                _ => t.vfs.setattr(cred, &file, &size(3), None).await.result,
            }
            .expect(change);
            t.vfs.getattr(&file).await.expect("attr").mode
        };
        for change in ["write", "truncate"] {
            assert_eq!(bits(&user(), change).await, 0o777, "{change}");
            assert_eq!(bits(&root, change).await, 0o6777, "{change}");
        }
    });
}

#[test]
fn attributes_change_by_the_rules_of_the_kernel() {
    trees(|t| async move {
        let (root, user, other) = (Cred::root(), user(), Cred::new(1001, 100, &[300]));
        let file = t.make(&user, "f").await;
        let set = async |cred: &Cred, set: SetAttr| {
            let done = t.vfs.setattr(cred, &file, &set, None).await;
            assert!(done.wcc.after.is_some());
            done.result
        };
        let own = |uid, gid| SetAttr {
            uid,
            gid,
            ..SetAttr::default()
        };
        let at = |sec, nsec| SetAttr {
            mtime: SetTime::At(Time { sec, nsec }),
            ..SetAttr::default()
        };
        let now = SetAttr {
            atime: SetTime::Now,
            mtime: SetTime::Now,
            ..SetAttr::default()
        };
        assert_eq!(set(&user, mode(0o600)).await, Ok(()));
        for (change, name) in [
            (mode(0o777), "chmod"),
            (own(Some(1001), None), "take it"),
            (own(None, Some(300)), "group"),
            (at(5, 0), "time"),
        ] {
            assert_eq!(set(&other, change).await, Err(Errno::EPERM), "{name}");
        }
        assert_eq!(set(&other, now).await, Err(Errno::EACCES));
        assert_eq!(set(&other, size(0)).await, Err(Errno::EACCES));
        assert_eq!(
            set(&user, own(Some(1001), None)).await,
            Err(Errno::EPERM),
            "give away"
        );
        assert_eq!(
            set(&user, own(None, Some(300))).await,
            Err(Errno::EPERM),
            "not my group"
        );
        assert_eq!(set(&user, own(Some(1000), Some(100))).await, Ok(()));
        // With permission to write, "now" is allowed, other times are not.
        assert_eq!(set(&user, mode(0o666)).await, Ok(()));
        assert_eq!(set(&other, now).await, Ok(()));
        assert_eq!(set(&other, at(5, 0)).await, Err(Errno::EPERM));
        assert_eq!(set(&user, at(-7, 999_999_999)).await, Ok(()));
        let attr = t.vfs.getattr(&file).await.expect("attr");
        assert_eq!(
            attr.mtime,
            Time {
                sec: -7,
                nsec: 999_999_999
            }
        );
        for bad in [
            at(1, 1_000_000_000),
            at(1, 0x3fff_ffff),
            at(1, 0x3fff_fffe),
            own(Some(u32::MAX), None),
            own(None, Some(u32::MAX)),
        ] {
            assert_eq!(set(&root, bad).await, Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(t.vfs.getattr(&file).await.expect("attr").mtime, attr.mtime);
        // The owner may truncate what nobody may write, as open files allow.
        assert_eq!(set(&user, mode(0)).await, Ok(()));
        assert_eq!(set(&user, size(77)).await, Ok(()));
        assert_eq!(set(&other, size(78)).await, Err(Errno::EACCES));
        assert_eq!(
            t.put(&user, &file, 0, b"mine")
                .await
                .result
                .map(|w| w.count),
            Ok(4)
        );
        assert_eq!(
            t.get(&user, &file, 0, 4).await,
            Ok((b"mine".to_vec(), false))
        );
        assert_eq!(
            t.put(&other, &file, 0, b"x").await.result.err(),
            Some(Errno::EACCES)
        );
        assert_eq!(t.get(&other, &file, 0, 4).await.err(), Some(Errno::EACCES));
        // A guard that fits, and one that does not.
        let ctime = t.vfs.getattr(&file).await.expect("attr").ctime;
        let guarded = t.vfs.setattr(&user, &file, &mode(0o640), Some(ctime)).await;
        assert_eq!(guarded.result, Ok(()));
        let guarded = t
            .vfs
            .setattr(&user, &file, &mode(0o600), Some(Time::default()))
            .await;
        assert_eq!(guarded.result, Err(NOT_SYNC));
        assert_eq!(t.vfs.getattr(&file).await.expect("attr").mode, 0o640);
        assert_eq!(set(&root, own(Some(0), Some(0))).await, Ok(()));
        let dir = t.vfs.setattr(&root, &t.root, &size(0), None).await;
        assert_eq!(dir.result, Err(Errno::EISDIR));
    });
}

/// A descriptor the server keeps for writing must not stop local programs from being run.
#[test]
fn a_program_just_written_can_be_run() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "program").await;
        let text = fs::read("/bin/true").expect("/bin/true");
        for (i, part) in text.chunks(1 << 20).enumerate() {
            t.put(&root, &file, (i as u64) << 20, part)
                .await
                .result
                .expect("write");
        }
        t.vfs
            .commit(&root, &file, 0, 0)
            .await
            .result
            .expect("commit");
        t.vfs
            .setattr(&root, &file, &mode(0o755), None)
            .await
            .result
            .expect("chmod");
        let path = t.path.join("program");
        let run = || std::process::Command::new(&path).status();
        let busy = run().map_err(|e| e.raw_os_error());
        assert_eq!(
            busy.err(),
            Some(Some(libc::ETXTBSY)),
            "open for writing until idle"
        );
        exec::spawn(t.vfs.clone().sweep());
        // Being read meanwhile, without a pause, does not keep it open for writing.
        let readers = Rc::new(Cell::new(4));
        let stop = Rc::new(Cell::new(false));
        for _ in 0..readers.get() {
            let (vfs, file) = (t.vfs.clone(), file.clone());
            let (readers, stop) = (readers.clone(), stop.clone());
            exec::spawn(async move {
                while !stop.get() {
                    let read = vfs.read(&Cred::root(), &file, 0, 10).await;
                    assert!(read.result.is_ok());
                    exec::yield_now().await;
                }
                readers.set(readers.get() - 1);
            });
        }
        assert!(soon(|| run().is_ok_and(|status| status.success())).await);
        stop.set(true);
        assert!(soon(|| readers.get() == 0).await);
        // Running, it cannot be written.
        fs::copy("/bin/sleep", t.path.join("sleep")).expect("copy");
        let child = std::process::Command::new(t.path.join("sleep"))
            .arg("600")
            .spawn();
        let mut child = child.expect("run");
        let (held, _) = t.find("sleep").await.expect("find");
        let wrote = t.put(&root, &held, 0, b"x").await.result;
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(wrote.err(), Some(Errno::ETXTBSY));
    });
}

#[test]
fn writers_share_fsyncs() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let code = io_uring_fsync();
        let before = exec::with_ring(|r| r.counters.sqes(code));
        let done = Rc::new(Cell::new(0));
        for i in 0..64u64 {
            let (vfs, file, done) = (t.vfs.clone(), file.clone(), done.clone());
            exec::spawn(async move {
                let root = Cred::root();
                let wrote = vfs.write(&root, &file, i * 9, slice(b"123456789"), Stable::FileSync);
                wrote.await.result.expect("write");
                done.set(done.get() + 1);
            });
        }
        assert!(soon(|| done.get() == 64).await);
        let fsyncs = exec::with_ring(|r| r.counters.sqes(code)) - before;
        assert!((1..64).contains(&fsyncs), "{fsyncs} for 64 writes");
        t.vfs.settle(&[&file, &t.root]).await.expect("settle");
        let link = t
            .vfs
            .symlink(&root, &t.root, &n("l"), b"x", &SetAttr::default())
            .await;
        let link = link.result.expect("symlink").0;
        assert_eq!(t.vfs.settle(&[&link]).await, Ok(()));
    });
}

/// `IORING_OP_FSYNC`
fn io_uring_fsync() -> u8 {
    3
}

fn scratch_file() -> (tempfile::TempDir, Arc<OpenFd>) {
    let dir = scratch::dir();
    let file = fs::File::create(dir.path().join("f")).expect("create");
    file.write_at(b"x", 0).expect("write");
    (dir, Arc::new(OpenFd::new(file.into())))
}

/// Leaders end and begin on two workers all the time; no caller may be lost or told an error.
#[test]
fn two_workers_share_one_line() {
    let _alone = alone();
    let (_dir, file) = scratch_file();
    let (group, verifier) = (GroupSync::default(), Arc::new(Verifier::new(1)));
    let left = Arc::new(AtomicUsize::new(2));
    let threads: Vec<_> = (0..2)
        .map(|i| {
            let left = left.clone();
            let (file, group, verifier) = (file.clone(), group.clone(), verifier.clone());
            std::thread::spawn(move || {
                let remote = Remote::new(i).expect("worker");
                exec::run(&remote, &config(IoPolicy::Ring), async move {
                    for _ in 0..5000 {
                        assert_eq!(group.sync(&file, true, &verifier).await, Ok(()));
                    }
                    // Its last fsync may be the other's: a worker that stops ends it.
                    left.fetch_sub(1, Ordering::SeqCst);
                    soon(|| left.load(Ordering::SeqCst) == 0).await;
                })
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no caller fails").expect("worker");
    }
    assert_eq!(verifier.get(), 1u64.to_be_bytes(), "nothing was lost");
}

/// A worker that stops while it leads ends the wait of those in line; the next caller leads.
#[test]
fn a_leaders_end_is_not_the_groups() {
    let _alone = alone();
    let (_dir, file) = scratch_file();
    let (group, verifier) = (GroupSync::default(), Arc::new(Verifier::new(1)));
    let left = Arc::new(AtomicUsize::new(0));
    let waiter = {
        let (file, group, verifier, left) =
            (file.clone(), group.clone(), verifier.clone(), left.clone());
        std::thread::spawn(move || {
            let remote = Remote::new(1).expect("worker");
            exec::run(&remote, &config(IoPolicy::Ring), async move {
                while left.load(Ordering::SeqCst) < 100 {
                    let got = exec::timeout(LONG, group.sync(&file, true, &verifier));
                    let got = got.await.expect("an answer");
                    assert!(got == Ok(()) || got == Err(Errno::EIO), "{got:?}");
                }
                assert_eq!(group.sync(&file, true, &verifier).await, Ok(()));
            })
        })
    };
    for _ in 0..100 {
        let (file, group, verifier) = (file.clone(), group.clone(), verifier.clone());
        exec::block_on(&config(IoPolicy::Ring), async move {
            exec::spawn(async move {
                let _ = group.sync(&file, true, &verifier).await;
            });
            exec::yield_now().await;
        })
        .expect("worker");
        left.fetch_add(1, Ordering::SeqCst);
    }
    waiter.join().expect("the group goes on").expect("worker");
}

#[test]
fn who_may_execute_may_read() {
    trees(|t| async move {
        let file = t.make(&user(), "f").await;
        fs::set_permissions(t.path.join("f"), fs::Permissions::from_mode(0o711)).expect("chmod");
        let other = Cred::new(1001, 5, &[]);
        t.put(&user(), &file, 0, b"program")
            .await
            .result
            .expect("write");
        // Who may execute a file may read it over NFS, or could not run it (RFC 1813 4.4).
        assert!(t.get(&other, &file, 0, 7).await.is_ok());
        assert!(t.put(&other, &file, 0, b"x").await.result.is_err());
        let (rights, _) = t.vfs.access(&other, &file).await.expect("access");
        assert_eq!(
            (rights.read, rights.write, rights.execute),
            (false, false, true)
        );
    });
}
