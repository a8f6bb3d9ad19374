//! What a worker rations: pool buffers, registered files, personalities, blocking threads.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};

use crate::scratch::{self, POLICIES, alone, config, run, soon};
use rustix::fs::OFlags;
use vfs::exec::{self, Remote, oneshot};
use vfs::uring::blocking::{self, Threads};
use vfs::uring::buf::{CLASSES, LARGEST};
use vfs::uring::counters::Call;
use vfs::uring::fixed::{OpenFd, Target, target};
use vfs::uring::meta_ops;
use vfs::uring::{Buf, IoPolicy, Slice, file_ops};
use vfs::{Cred, Errno};

fn open(fd: impl Into<OwnedFd>) -> Arc<OpenFd> {
    Arc::new(OpenFd::new(fd.into()))
}

fn all_of(len: usize) -> Vec<Buf> {
    let pool = exec::with_ring(|r| r.pool.clone());
    std::iter::from_fn(|| pool.try_get(len)).collect()
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn every_class_has_buffers_whatever_the_others_take() {
    let _alone = alone();
    let mut small = config(IoPolicy::Ring);
    let (one, four) = (CLASSES[5], LARGEST);
    for (bytes, largest, least) in [
        (0, one, 12 << 20),
        (16 << 20, one, 0),
        (0, four, 24 << 20),
        (64 << 20, four, 0),
    ] {
        (small.pool_bytes, small.buffer_bytes) = (bytes, largest);
        run(&small, async move {
            let mut held = Vec::new();
            let there = CLASSES.iter().copied().filter(|&len| len <= largest);
            for len in there.rev().chain([1, 0]) {
                let got = all_of(len);
                if len > 1 {
                    let count = if len > one { 2 } else { 4 };
                    assert!(got.len() >= count, "{len}: {}", got.len());
                }
                assert!(got.iter().all(|b| b.len() == len && b.capacity() >= len));
                held.extend(got);
            }
            let mapped = exec::with_ring(|r| r.pool.mapped());
            assert!(mapped <= bytes.max(least), "{mapped}");
            let mut starts: Vec<_> = held
                .iter()
                .map(|b| (b.as_ptr() as usize, b.capacity()))
                .collect();
            starts.sort_unstable();
            assert!(
                starts.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0),
                "overlap"
            );
            let pool = exec::with_ring(|r| r.pool.clone());
            assert_eq!(pool.largest(), largest);
            assert!(pool.try_get(largest + 1).is_none());
            assert_eq!(pool.get(largest + 1).await.err(), Some(Errno::EINVAL));
        });
    }
}

/// A pool has the smallest classes that hold what it is made for.
#[test]
fn a_pool_is_as_large_as_it_needs() {
    let _alone = alone();
    let mut small = config(IoPolicy::Ring);
    let lengths = [
        0,
        1,
        CLASSES[0] + 1,
        64 << 10,
        CLASSES[5],
        CLASSES[5] + 1,
        LARGEST,
        usize::MAX,
    ];
    let largest = [0, 0, 1, 3, 5, 6, 7, 7].map(|class| CLASSES[class]);
    for (bytes, largest) in lengths.into_iter().zip(largest) {
        small.buffer_bytes = bytes;
        run(&small, async move {
            assert_eq!(exec::with_ring(|r| r.pool.largest()), largest, "{bytes}");
        });
    }
}

#[test]
fn a_slice_is_cut_in_two() {
    let _alone = alone();
    run(&config(IoPolicy::Ring), async {
        let mut buf = exec::with_ring(|r| r.pool.try_get(10)).expect("a buffer");
        buf.copy_from_slice(b"0123456789");
        let buf = Rc::new(buf);
        for cut in 0..12 {
            let mut head = Slice::new(buf.clone(), 1..9);
            let tail = head.split_off(cut);
            let at = cut.min(8);
            assert_eq!(
                (&*head, &*tail),
                (&buf[1..1 + at], &buf[1 + at..9]),
                "{cut}"
            );
        }
    });
}

#[test]
fn waiters_for_a_buffer_are_served_in_line() {
    let _alone = alone();
    let mut small = config(IoPolicy::Ring);
    (small.pool_bytes, small.buffer_bytes) = (0, LARGEST);
    run(&small, async {
        let pool = exec::with_ring(|r| r.pool.clone());
        let mut held = all_of(LARGEST);
        let served = Rc::new(RefCell::new(Vec::new()));
        for i in 0..10 {
            let (pool, served) = (pool.clone(), served.clone());
            exec::spawn(async move {
                let buf = pool.get(LARGEST).await.expect("a buffer");
                served.borrow_mut().push(i);
                exec::yield_now().await;
                drop(buf);
            });
        }
        // Polled again and again, and then gone: it must not keep a place or eat a wake-up.
        let mut impatient = Box::pin(pool.get(LARGEST));
        for _ in 0..5 {
            assert!(poll(impatient.as_mut()).is_pending());
        }
        drop(held.pop());
        assert!(pool.try_get(LARGEST).is_none(), "who waits comes first");
        drop(impatient);
        assert!(soon(|| served.borrow().len() == 10).await);
        assert_eq!(*served.borrow(), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_dropped_waiter_passes_its_wake_up_on() {
    let _alone = alone();
    let mut small = config(IoPolicy::Ring);
    (small.pool_bytes, small.buffer_bytes) = (0, LARGEST);
    run(&small, async {
        let pool = exec::with_ring(|r| r.pool.clone());
        let mut held = all_of(LARGEST);
        let mut first = Box::pin(pool.get(LARGEST));
        assert!(poll(first.as_mut()).is_pending());
        let (sender, receiver) = oneshot::channel();
        let line = pool.clone();
        exec::spawn(async move {
            drop(line.get(LARGEST).await.expect("a buffer"));
            sender.send(());
        });
        drop(held.pop());
        drop(first);
        assert_eq!(receiver.await, Some(()));
        // Two buffers at once for two in line, though only the first of the line is woken.
        held.extend(all_of(LARGEST));
        let (a, b) = (oneshot::channel(), oneshot::channel());
        for sender in [a.0, b.0] {
            let line = pool.clone();
            exec::spawn(async move {
                let buf = line.get(LARGEST).await.expect("a buffer");
                sender.send(buf.len());
                exec::yield_now().await;
            });
        }
        held.truncate(held.len() - 2);
        assert_eq!(a.1.await, Some(LARGEST));
        assert_eq!(b.1.await, Some(LARGEST));
    });
}

#[test]
fn four_slots_serve_a_hundred_files() {
    let _alone = alone();
    for policy in POLICIES {
        let mut small = config(policy);
        small.fixed_files = 4;
        let dir = scratch::dir();
        let path = dir.path().to_owned();
        run(&small, async move {
            let files: Vec<_> = (0..100u32)
                .map(|i| {
                    let name = path.join(i.to_string());
                    std::fs::write(&name, i.to_le_bytes()).expect("write");
                    let both = std::fs::OpenOptions::new()
                        .read(true)
                        .write(true)
                        .open(name);
                    open(both.expect("open"))
                })
                .collect();
            let done = Rc::new(std::cell::Cell::new(0));
            for round in 0..2000u32 {
                let (file, done) = (files[(round * 37 % 100) as usize].clone(), done.clone());
                let want = (round * 37 % 100).to_le_bytes();
                exec::spawn(async move {
                    let buf = exec::with_ring(|r| r.pool.clone())
                        .get(4)
                        .await
                        .expect("buf");
                    let (n, buf) = file_ops::read(&file, buf, 0..4, 0).await;
                    assert_eq!((n, &buf[..]), (Ok(4), &want[..]));
                    let data = Slice::new(Rc::new(buf), 0..4);
                    let wrote = file_ops::write(&file, data, 0, &Cred::root()).await;
                    assert_eq!(wrote, Ok(4));
                    done.set(done.get() + 1);
                });
                if round % 64 == 0 {
                    exec::yield_now().await;
                }
            }
            assert!(soon(|| done.get() == 2000).await);
            assert!((1..=4).contains(&exec::with_ring(|r| r.fixed.used())));
            drop(files);
            assert!(soon(|| exec::with_ring(|r| r.fixed.used()) == 0).await);
            // All four slots are there again.
            let again: Vec<_> = (0..5)
                .map(|_| open(std::fs::File::open("/dev/null").expect("open")))
                .collect();
            let pins: Vec<_> = again.iter().map(|f| target(f)).collect();
            let slots = pins.iter().filter(|t| matches!(t, Target::Slot(_))).count();
            assert_eq!(slots, 4, "the fifth goes by descriptor");
            // Closed while pinned: the slots come back once the pins are gone.
            drop(again);
            exec::yield_now().await;
            exec::yield_now().await;
            drop(pins);
            for _ in 0..2 {
                let again: Vec<_> = (0..4)
                    .map(|_| open(std::fs::File::open("/dev/null").expect("open")))
                    .collect();
                let pins: Vec<_> = again.iter().map(|f| target(f)).collect();
                assert!(pins.iter().all(|t| matches!(t, Target::Slot(_))));
            }
        });
    }
}

#[test]
fn a_file_closed_while_it_is_read_stays_until_the_read_ends() {
    let _alone = alone();
    run(&config(IoPolicy::Ring), async {
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        let pipe = open(reader);
        let buf = exec::with_ring(|r| r.pool.try_get(5)).expect("buf");
        let mut read = Box::pin(async move { file_ops::read(&pipe, buf, 0..5, u64::MAX).await });
        assert!(poll(read.as_mut()).is_pending());
        exec::sleep(std::time::Duration::from_millis(2)).await;
        std::io::Write::write_all(&mut writer, b"hello").expect("write");
        let (n, buf) = read.await;
        assert_eq!((n, &buf[..]), (Ok(5), &b"hello"[..]));
    });
}

#[test]
fn the_last_owner_on_another_worker_clears_every_ring() {
    let _alone = alone();
    let null = open(std::fs::File::open("/dev/null").expect("open"));
    let (a, b) = (Remote::new(0).expect("a"), Remote::new(1).expect("b"));
    let far = b.clone();
    let file = null.clone();
    let (start, started) = oneshot::channel();
    let (tell, told) = oneshot::channel::<()>();
    let other = std::thread::spawn(move || {
        exec::run(&far, &config(IoPolicy::Ring), async move {
            for _ in 0..3 {
                drop(target(&file));
            }
            drop(file);
            assert_eq!(exec::with_ring(|r| r.fixed.used()), 1);
            start.send(());
            told.await;
            assert!(soon(|| exec::with_ring(|r| r.fixed.used()) == 0).await);
        })
        .expect("worker b");
    });
    exec::run(&a, &config(IoPolicy::Ring), async move {
        drop(target(&null));
        started.await;
        drop(null);
        assert!(soon(|| exec::with_ring(|r| r.fixed.used()) == 0).await);
        tell.send(());
    })
    .expect("worker a");
    other.join().expect("thread");
}

#[test]
fn files_belong_to_whom_they_were_made_for() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let _alone = alone();
    for policy in POLICIES {
        let dir = scratch::dir();
        let at = dir.path().to_owned();
        let mut two = config(policy);
        two.personalities = 2;
        run(&two, async move {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
            let here = open(std::fs::File::open(&at).expect("dir"));
            let who = [
                (1000, 100),
                (1001, 100),
                (1000, 101),
                (0, 5),
                (0, 0),
                (1002, 7),
            ];
            for (i, (uid, gid)) in who.into_iter().cycle().take(30).enumerate() {
                let cred = Cred::new(uid, gid, &[200, gid]);
                let name = std::ffi::CString::new(format!("f{i}")).expect("name");
                meta_ops::openat(&cred, &here, name, flags, 0o644)
                    .await
                    .expect("create");
                let made = std::fs::metadata(at.join(format!("f{i}"))).expect("stat");
                assert_eq!(
                    (made.uid(), made.gid(), made.mode() & 0o7777),
                    (uid, gid, 0o644)
                );
                assert!(exec::with_ring(|r| r.personalities.len()) <= 2);
            }
            // A supplementary group lets in, another does not, and -1 is nobody's way in.
            std::fs::create_dir(at.join("g")).expect("mkdir");
            std::os::unix::fs::chown(at.join("g"), Some(0), Some(200)).expect("chown");
            let mode = std::fs::Permissions::from_mode(0o770);
            std::fs::set_permissions(at.join("g"), mode).expect("chmod");
            let g = open(std::fs::File::open(at.join("g")).expect("dir"));
            let enter = async |cred: Cred, name: &str| {
                let name = std::ffi::CString::new(name).expect("name");
                meta_ops::openat(&cred, &g, name, flags, 0o600)
                    .await
                    .map(drop)
            };
            assert_eq!(enter(Cred::new(1000, 100, &[200]), "a").await, Ok(()));
            assert_eq!(enter(Cred::new(1000, 200, &[]), "b").await, Ok(()));
            assert_eq!(
                enter(Cred::new(1000, 100, &[201]), "c").await,
                Err(Errno::EACCES)
            );
            assert_eq!(enter(Cred::new(0, 1, &[]), "d").await, Ok(()), "superuser");
            for cred in [
                Cred::new(u32::MAX, 200, &[]),
                Cred::new(1000, u32::MAX, &[200]),
                Cred::new(1000, 100, &[200, u32::MAX]),
            ] {
                assert!(enter(cred, "e").await.is_err());
            }
            assert!(!at.join("g/e").exists());
            let mine = rustix::process::geteuid();
            assert!(mine.is_root() && enter(Cred::root(), "z").await.is_ok());
        });
    }
}

#[test]
fn pinned_personalities_are_not_taken_away() {
    let _alone = alone();
    let mut two = config(IoPolicy::Ring);
    two.personalities = 2;
    run(&two, async {
        let (_reader, writer) = std::io::pipe().expect("pipe");
        let pipe = open(writer);
        let data = Slice::new(
            Rc::new(exec::with_ring(|r| r.pool.try_get(1 << 20)).expect("buf")),
            0..1 << 20,
        );
        let creds: Vec<_> = (1..4).map(|i| Cred::new(i, i, &[])).collect();
        let full = data.clone();
        let n = file_ops::write(&pipe, full, u64::MAX, &Cred::root()).await;
        assert!(n.is_ok_and(|n| n < 1 << 20), "the pipe is full now");
        {
            let mut a = pin!(file_ops::write(&pipe, data.clone(), u64::MAX, &creds[0]));
            let mut b = pin!(file_ops::write(&pipe, data.clone(), u64::MAX, &creds[1]));
            assert!(poll(a.as_mut()).is_pending() && poll(b.as_mut()).is_pending());
            let c = file_ops::write(&pipe, data.clone(), u64::MAX, &creds[2]).await;
            assert_eq!(c, Err(Errno::EAGAIN));
            let again = pin!(file_ops::write(&pipe, data.clone(), u64::MAX, &creds[0]));
            assert!(poll(again).is_pending(), "known ones still work");
        }
        scratch::quiet_but(2).await;
        let mut c = pin!(file_ops::write(&pipe, data, u64::MAX, &creds[2]));
        assert!(poll(c.as_mut()).is_pending(), "room again");
        assert_eq!(exec::with_ring(|r| r.personalities.len()), 2);
    });
}

fn fsuid() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let line = status.lines().find(|l| l.starts_with("Uid:")).expect("Uid");
    line.split_whitespace()
        .nth(4)
        .expect("fsuid")
        .parse()
        .expect("number")
}

#[test]
fn blocking_threads_take_on_every_callers_identity() {
    let _alone = alone();
    let mut one = config(IoPolicy::Adaptive);
    one.threads = Threads::new(1, 100);
    run(&one, async {
        for uid in [5, 5, 6, 0, 7, 0, 5] {
            let cred = Cred::new(uid, uid, &[]);
            let got = blocking::run(&cred, Call::Statfs, || Ok(fsuid())).await;
            assert_eq!(got, Ok(uid));
        }
        let bad = Cred::new(u32::MAX, 0, &[]);
        let never = blocking::run(&bad, Call::Statfs, || Ok(())).await;
        assert_eq!(never, Err(Errno::EIO));
        let root = blocking::run(&Cred::root(), Call::Statfs, || Ok(fsuid())).await;
        assert_eq!(root, Ok(0));
        assert_eq!(exec::with_ring(|r| r.threads.threads()), 1);
        assert_eq!(fsuid(), 0, "the worker itself");
    });
}

#[test]
fn the_blocking_queue_is_bounded_and_its_threads_end() {
    let _alone = alone();
    let tasks = || {
        let all = std::fs::read_dir("/proc/self/task")
            .expect("task")
            .flatten();
        let names = all.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        names.filter(|name| name == "blocking\n").count()
    };
    let mut narrow = config(IoPolicy::Adaptive);
    narrow.threads = Threads::new(2, 3);
    run(&narrow, async move {
        let (gate, key) = mpsc::channel::<()>();
        let key = Arc::new(std::sync::Mutex::new(key));
        let results = Rc::new(RefCell::new(Vec::new()));
        for n in 0..8 {
            let (key, results) = (key.clone(), results.clone());
            exec::spawn(async move {
                let root = Cred::root();
                let got = blocking::run(&root, Call::Statfs, move || {
                    let _ = key.lock().map(|k| k.recv());
                    Ok(())
                });
                let got = got.await;
                results.borrow_mut().push(got);
            });
            // Each thread takes its call before the next one comes. The others come at once, or threads would be added for
            // those that wait.
            if n < 2 {
                assert!(soon(|| exec::with_ring(|r| r.threads.queued()) == 0).await);
            }
        }
        assert_eq!(
            exec::with_ring(|r| (r.threads.threads(), r.threads.queued())),
            (2, 3)
        );
        assert_eq!(*results.borrow(), [Err(Errno::EAGAIN); 3]);
        assert_eq!(tasks(), 2);
        // Dropped while it runs: the work goes on, its result goes nowhere.
        drop(gate);
        assert!(soon(|| results.borrow().len() == 8).await);
        assert!(results.borrow()[3..].iter().all(Result::is_ok));
    });
    drop(narrow);
    let ended = scratch::eventually(|| (tasks() == 0).then_some(()));
    assert!(ended.is_some(), "{} threads", tasks());
}

#[test]
fn a_dropped_calls_descriptor_is_closed() {
    let _alone = alone();
    run(&config(IoPolicy::Adaptive), async {
        let dir = scratch::dir();
        let here = open(std::fs::File::open(dir.path()).expect("dir"));
        for i in 0..50 {
            let name = std::ffi::CString::new(format!("f{i}")).expect("name");
            let flags = OFlags::CREATE | OFlags::RDWR;
            let root = Cred::root();
            let mut create = Box::pin(meta_ops::openat(&root, &here, name, flags, 0o600));
            // Usually pending: then its result comes when nobody waits for it any more.
            drop(poll(create.as_mut()));
            drop(create);
        }
        let made = || std::fs::read_dir(dir.path()).expect("dir").count() == 50;
        assert!(soon(made).await);
        let _ = here.as_fd();
    });
}
