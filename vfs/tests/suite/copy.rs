//! COPY and CLONE: contents, holes, sizes, progress, several file systems.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::scratch::{Image, POLICIES, Tree, alone, config, dir, on_worker, run, soon, trees};
use vfs::{CopyRange, Cred, Errno, File, Mount, Permit, exec};

const MIB: u64 = 1 << 20;

fn range(from: u64, to: u64, count: u64) -> CopyRange {
    CopyRange { from, to, count }
}

fn bytes(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8 + 1).collect()
}

/// Hole, data, hole, data, hole: 9 MiB and a bit.
fn sparse(path: &Path) -> Vec<u8> {
    let file = fs::File::create(path).expect("create");
    file.write_all_at(&bytes(MIB), MIB).expect("write");
    file.write_all_at(&bytes(5_000), 4 * MIB).expect("write");
    file.set_len(9 * MIB + 77).expect("size");
    fs::read(path).expect("read")
}

async fn copy(t: &Tree, from: &Arc<File>, to: &Arc<File>, range: CopyRange) -> vfs::Result<u64> {
    let progress = Arc::new(AtomicU64::new(0));
    let root = Cred::root();
    let copy = t
        .vfs
        .copy(Permit::Judge, &root, from, to, range, &progress)
        .await;
    if let Ok(n) = copy.result {
        assert_eq!(progress.load(Ordering::Relaxed), n);
    }
    copy.result
}

async fn copies(t: &Tree, into: &Tree) {
    let data = sparse(&t.path.join("s"));
    let (source, _) = t.find("s").await.expect("source");
    let root = Cred::root();
    let target = into.make(&root, "t").await;
    let path = into.path.join("t");
    let len = data.len() as u64;
    assert_eq!(copy(t, &source, &target, range(0, 0, 0)).await, Ok(len));
    assert_eq!(fs::read(&path).expect("read"), data);
    let used = fs::metadata(&path).expect("stat").blocks() * 512;
    assert!(used < 3 * MIB, "holes stay holes: {used} bytes used");

    // Over data, off any boundary: what is a hole there becomes zeros, the rest stays.
    fs::write(&path, vec![9; 12 << 20]).expect("write");
    let some = range(100, 5_001, 5 * MIB);
    assert_eq!(copy(t, &source, &target, some).await, Ok(5 * MIB));
    let mut expected = vec![9; 12 << 20];
    let (from, to) = (100usize, 5_001usize);
    let piece = &data[from..from + (5 << 20)];
    expected[to..to + piece.len()].copy_from_slice(piece);
    assert!(fs::read(&path).expect("read") == expected);

    // Only a hole, far behind the end.
    fs::write(&path, b"abc").expect("write");
    let hole = range(6 * MIB, 50 * MIB, MIB);
    assert_eq!(copy(t, &source, &target, hole).await, Ok(MIB));
    let stat = fs::metadata(&path).expect("stat");
    assert_eq!(stat.len(), 51 * MIB);
    assert!(stat.blocks() * 512 < MIB, "{} blocks", stat.blocks());

    // The end of the source is an end, what lies beyond it an error.
    assert_eq!(copy(t, &source, &target, range(len, 0, 0)).await, Ok(0));
    for bad in [range(0, 0, len + 1), range(len + 1, 0, 0), range(1, 0, len)] {
        let error = Err(Errno::EINVAL);
        assert_eq!(copy(t, &source, &target, bad).await, error, "{bad:?}");
    }
    let far = range(0, u64::MAX - 5, 1);
    assert_eq!(copy(t, &source, &target, far).await, Err(Errno::EFBIG));
}

#[test]
fn a_copy_has_the_data_and_the_holes() {
    trees(|t| async move {
        copies(&t, &t).await;
        let root = Cred::root();
        let (source, _) = t.find("s").await.expect("source");
        // Within one file: apart is fine, overlapping is not.
        let apart = range(MIB, 20 * MIB, MIB);
        assert_eq!(copy(&t, &source, &source, apart).await, Ok(MIB));
        let copied = t.get(&root, &source, 20 * MIB, 1 << 20).await;
        assert_eq!(copied.expect("read").0, bytes(MIB));
        for over in [range(0, 1, MIB), range(MIB, MIB, 1), range(MIB, 1, MIB)] {
            let error = Err(Errno::EINVAL);
            assert_eq!(copy(&t, &source, &source, over).await, error, "{over:?}");
        }
        let dir = copy(&t, &t.root, &source, range(0, 0, 1)).await;
        assert_eq!(dir, Err(Errno::EISDIR));
        let dir = copy(&t, &source, &t.root, range(0, 0, 1)).await;
        assert_eq!(dir, Err(Errno::EISDIR));
    });
}

/// One tree on `path` and one on `other`, of one VFS.
async fn two(path: &Path, other: &Path) -> (Tree, Tree) {
    let t = Tree::open(path).await;
    let mount = Mount::open(other, false, Some(77)).expect("mount");
    let mount = t.vfs.add_mount(mount);
    let into = Tree {
        vfs: t.vfs.clone(),
        root: t.vfs.root(&mount).await.expect("root"),
        path: other.to_owned(),
    };
    (t, into)
}

#[test]
fn copies_cross_file_systems() {
    let _alone = alone();
    for kind in ["btrfs", "xfs", "ext4"] {
        let Some(image) = Image::new(kind, 512, "defaults") else {
            continue;
        };
        for policy in POLICIES {
            let here = dir();
            let (path, other) = (here.path().to_owned(), image.path().to_owned());
            run(&config(policy), async move {
                let (t, into) = two(&path, &other).await;
                copies(&t, &into).await;
                copies(&into, &t).await;
                let (source, _) = t.find("s").await.expect("source");
                let (target, _) = into.find("s").await.expect("target");
                let root = Cred::root();
                let all = range(0, 0, 0);
                let clone = t
                    .vfs
                    .clone_range(Permit::Judge, &root, &source, &target, all);
                assert_eq!(clone.await.result, Err(Errno::EXDEV));
            });
            for name in ["s", "t"] {
                fs::remove_file(image.path().join(name)).expect("remove");
            }
        }
    }
}

/// No room for all of it: what is said to be copied is there, holes and size included.
#[test]
fn a_copy_that_ends_early_says_how_far_it_came() {
    let _alone = alone();
    let Some(image) = Image::new("ext4", 16, "defaults") else {
        return;
    };
    for policy in POLICIES {
        let here = dir();
        let (path, other) = (here.path().to_owned(), image.path().to_owned());
        run(&config(policy), async move {
            let (t, into) = two(&path, &other).await;
            let plain = fs::File::create(t.path.join("s")).expect("create");
            for i in 0..400 {
                plain
                    .write_all_at(&bytes(128 << 10), i * MIB)
                    .expect("write");
            }
            let (source, _) = t.find("s").await.expect("source");
            let target = into.make(&Cred::root(), "t").await;
            let done = copy(&t, &source, &target, range(0, 0, 0)).await;
            let done = done.expect("a part");
            assert!(done > MIB && done < 200 * MIB, "{done}");
            let copied = fs::read(other.join("t")).expect("read");
            assert!(copied.len() as u64 >= done, "{} {done}", copied.len());
            let whole = fs::read(t.path.join("s")).expect("read");
            assert!(copied[..done as usize] == whole[..done as usize]);
            let rest = copy(&t, &source, &target, range(done, done, 0)).await;
            assert_eq!(rest, Err(Errno::ENOSPC));
            fs::remove_file(other.join("t")).expect("remove");
        });
    }
}

#[test]
fn a_copy_without_permission_changes_nothing() {
    trees(|t| async move {
        let root = Cred::root();
        let (source, target) = (t.make(&root, "s").await, t.make(&root, "t").await);
        t.put(&root, &source, 0, b"data").await.result.expect("put");
        let user = Cred::new(1000, 100, &[]);
        let modes = [(0o600, 0o666), (0o666, 0o644)];
        for (of_source, of_target) in modes {
            for (name, mode) in [("s", of_source), ("t", of_target)] {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                fs::set_permissions(t.path.join(name), mode).expect("chmod");
            }
            let progress = Arc::default();
            let whole = range(0, 0, 0);
            let judged = t
                .vfs
                .copy(Permit::Judge, &user, &source, &target, whole, &progress);
            assert_eq!(judged.await.result, Err(Errno::EACCES));
        }
        assert_eq!(fs::read(t.path.join("t")).expect("read"), b"");
        let (whole, progress) = (range(0, 0, 0), Arc::default());
        let opened = t
            .vfs
            .copy(Permit::Opened, &user, &source, &target, whole, &progress);
        assert_eq!(opened.await.result, Ok(4));
    });
}

#[test]
fn a_dropped_copy_stops() {
    trees(|t| async move {
        let root = Cred::root();
        let size = 96 * MIB;
        fs::write(t.path.join("s"), vec![5; size as usize]).expect("write");
        let (source, _) = t.find("s").await.expect("source");
        let target = t.make(&root, "t").await;
        let progress = Arc::new(AtomicU64::new(0));
        {
            let all = range(0, 0, 0);
            let copy = t
                .vfs
                .copy(Permit::Judge, &root, &source, &target, all, &progress);
            let mut copy = std::pin::pin!(copy);
            // Until the first visit of a pool thread has come to something.
            while progress.load(Ordering::Relaxed) == 0 {
                let done = exec::timeout(Duration::from_millis(1), copy.as_mut()).await;
                assert!(done.is_none() || progress.load(Ordering::Relaxed) > 0);
            }
        }
        // What has begun ends, however long that takes; no other visit follows.
        assert!(soon(|| Arc::strong_count(&progress) == 1).await);
        let stopped = progress.load(Ordering::Relaxed);
        assert!(stopped > 0 && stopped <= size);
        exec::sleep(Duration::from_millis(50)).await;
        assert_eq!(progress.load(Ordering::Relaxed), stopped);
        let written = fs::metadata(t.path.join("t")).expect("stat").len();
        assert!(written >= stopped.min(size));
    });
}

#[test]
fn a_clone_shares_blocks() {
    let _alone = alone();
    for kind in ["btrfs", "xfs"] {
        let Some(image) = Image::new(kind, 512, "defaults") else {
            continue;
        };
        for policy in POLICIES {
            on_worker(policy, image.path(), |t| async move {
                let root = Cred::root();
                let data = sparse(&t.path.join("s"));
                let (source, _) = t.find("s").await.expect("source");
                let target = t.make(&root, "t").await;
                let clone = |range| {
                    t.vfs
                        .clone_range(Permit::Judge, &root, &source, &target, range)
                };
                let done = clone(range(0, 0, 0)).await;
                assert_eq!(done.result, Ok(()));
                assert!(fs::read(t.path.join("t")).expect("read") == data);
                let (before, after) = (done.wcc.before, done.wcc.after);
                assert!(after.expect("after").change > before.expect("before").change);
                let block = u64::from(t.vfs.limits(&target).clone_blksize);
                assert_eq!(block, 4096);
                let piece = range(MIB, 20 * MIB, block);
                assert_eq!(clone(piece).await.result, Ok(()));
                let copied = t.get(&root, &target, 20 * MIB, block as u32).await;
                assert_eq!(copied.expect("read").0, bytes(MIB)[..block as usize]);
                for bad in [
                    range(1, 0, block),
                    range(0, 1, block),
                    range(0, 0, block + 1),
                    range(0, 0, 1 << 40),
                ] {
                    let error = clone(bad).await.result;
                    assert_eq!(error, Err(Errno::EINVAL), "{bad:?}");
                }
                fs::remove_file(t.path.join("t")).expect("remove");
            });
        }
    }
}

#[test]
fn where_blocks_cannot_be_shared_a_clone_says_so() {
    trees(|t| async move {
        let root = Cred::root();
        let (source, target) = (t.make(&root, "s").await, t.make(&root, "t").await);
        t.put(&root, &source, 0, b"data").await.result.expect("put");
        let clone = t
            .vfs
            .clone_range(Permit::Judge, &root, &source, &target, range(0, 0, 0))
            .await;
        match clone.result {
            Err(e) => assert_eq!(e, Errno::EOPNOTSUPP),
            Ok(()) => assert_eq!(fs::read(t.path.join("t")).expect("read"), b"data"),
        }
    });
}
