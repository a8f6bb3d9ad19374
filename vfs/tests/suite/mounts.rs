//! File systems: mounts below an export, subvolumes, and resources that run out.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scratch::{self, Image, POLICIES, Tree, alone, config, n, on_worker, run, sh};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfs::{CreateHow, Cred, Errno, Mount, SetAttr, exec};

fn file(mode: u32) -> CreateHow {
    CreateHow::Guarded(SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    })
}

/// Mounts an image at `at`, which the caller must keep.
fn bind(from: &Path, at: &Path) -> bool {
    sh(Command::new("mount").arg("--bind").arg(from).arg(at))
}

/// Unmounts when dropped, also when the test fails.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        sh(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn mounts_below_are_crossed_or_hidden() {
    let _alone = alone();
    let Some(image) = Image::new("ext4", 16, "loop") else {
        return;
    };
    fs::write(image.path().join("inside"), b"x").expect("write");
    for policy in POLICIES {
        let dir = scratch::dir();
        let point = dir.path().join("point");
        fs::create_dir(&point).expect("mkdir");
        fs::write(point.join("covered"), b"y").expect("write");
        assert!(bind(image.path(), &point), "bind mount");
        let _mounted = Mounted(point.clone());
        let (path, root) = (dir.path().to_owned(), Cred::root());
        run(&config(policy), async move {
            for cross in [false, true] {
                let t = Tree::with(&path, cross, 100).await;
                for _ in 0..2 {
                    let (below, attr) = t.find("point").await.expect("point");
                    let find =
                        async |name: &str| t.vfs.lookup(&root, &below, &n(name)).await.result.err();
                    let page = t.vfs.readdir(&root, &t.root, 0, [0; 8], 4096, true).await;
                    let entries = page.result.expect("readdir").entries;
                    let entry = entries
                        .iter()
                        .find(|e| *e.name == *b"point")
                        .expect("listed");
                    if cross {
                        assert_ne!(below.mount.fsid, t.root.mount.fsid);
                        assert_eq!(find("inside").await, None);
                        assert_eq!(find("covered").await, Some(Errno::ENOENT));
                        assert_ne!(attr.dev, t.vfs.getattr(&t.root).await.expect("attr").dev);
                        assert!(entry.node.is_none(), "its handle belongs to another mount");
                        let (up, _) = t
                            .vfs
                            .lookup(&root, &below, &n(".."))
                            .await
                            .result
                            .expect("..");
                        assert_eq!(up.handle, below.handle);
                        let moved = t.vfs.rename(&root, &t.root, &n("x"), &below, &n("x")).await;
                        assert_eq!(moved.result, Err(Errno::EXDEV));
                        let gone = t.vfs.rmdir(&root, &t.root, &n("point")).await.result;
                        assert_eq!(gone, Err(Errno::EBUSY));
                    } else {
                        assert_eq!(below.mount.fsid, t.root.mount.fsid);
                        assert_eq!(find("covered").await, None);
                        assert_eq!(find("inside").await, Some(Errno::ENOENT));
                        assert!(entry.node.is_some());
                    }
                    exec::sleep(std::time::Duration::from_millis(25)).await;
                }
                assert_eq!(t.vfs.mounts().len(), 1 + usize::from(cross));
                let again = t.vfs.mounts().len();
                t.vfs.retain_mounts(|m| m.fsid == t.root.mount.fsid);
                assert_eq!(t.vfs.mounts().len(), 1, "of {again}");
            }
        });
    }
}

/// A copied image has its original's UUID; its handles must not open the original's files.
#[test]
fn two_file_systems_with_one_identity_are_not_confused() {
    let _alone = alone();
    let dir = scratch::dir();
    let (first, second) = (dir.path().join("1"), dir.path().join("2"));
    let image = fs::File::create(&first).expect("image");
    image.set_len(16 << 20).expect("size");
    let made = sh(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&first));
    fs::copy(&first, &second).expect("copy");
    let points = [dir.path().join("a"), dir.path().join("b")];
    let mut mounted = Vec::new();
    for (image, point) in [first, second].iter().zip(&points) {
        fs::create_dir(point).expect("mkdir");
        if !made
            || !sh(Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(point))
        {
            scratch::not_run("to mount images of ext4");
            return;
        }
        mounted.push(Mounted(point.clone()));
    }
    // The same handle, the same inode number, two files: what a copy and some use lead to.
    for (point, text) in points.iter().zip(["one", "two"]) {
        fs::write(point.join("f"), text).expect("write");
    }
    let path = dir.path().to_owned();
    run(&config(vfs::uring::IoPolicy::Ring), async move {
        let t = Tree::with(&path, true, 100).await;
        let root = Cred::root();
        let mut texts = Vec::new();
        for name in ["a", "b"] {
            let Ok((below, _)) = t.find(name).await else {
                texts.push(None);
                continue;
            };
            let found = t.vfs.lookup(&root, &below, &n("f")).await.result;
            let (text, _) = t
                .get(&root, &found.expect("f").0, 0, 9)
                .await
                .expect("read");
            texts.push(String::from_utf8(text).ok());
        }
        let right = [Some("one".to_owned()), Some("two".to_owned())];
        for (got, right) in texts.iter().zip(&right) {
            assert!(got.is_none() || got == right, "{texts:?}");
        }
        assert_eq!(texts[0], right[0]);
    });
}

#[test]
fn subvolumes_count_their_inodes_apart() {
    let _alone = alone();
    let Some(image) = Image::new("btrfs", 160, "loop") else {
        return;
    };
    let sub = image.path().join("sub");
    let made = sh(Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(&sub));
    assert!(made, "btrfs subvolume create");
    fs::write(sub.join("f"), b"x").expect("write");
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let root = Cred::root();
            let (sub, attr) = t.find("sub").await.expect("sub");
            let top = t.vfs.getattr(&t.root).await.expect("attr");
            assert_ne!(t.root.mount.fsid_of(&attr), t.root.mount.fsid_of(&top));
            assert_eq!(t.root.mount.fsid_of(&top), t.root.mount.fsid);
            let (f, _) = t.vfs.lookup(&root, &sub, &n("f")).await.result.expect("f");
            assert_eq!(t.get(&root, &f, 0, 9).await, Ok((b"x".to_vec(), true)));
            let again = Tree::open(&t.path).await;
            let same = again
                .vfs
                .file(&again.root.mount, f.handle.clone())
                .await
                .expect("file");
            assert_eq!(
                again.get(&root, &same, 0, 9).await,
                Ok((b"x".to_vec(), true))
            );
            t.make(&root, "g").await;
            let moved = t
                .vfs
                .rename(&root, &t.root, &n("g"), &sub, &n("g"))
                .await
                .result;
            assert_eq!(moved, Err(Errno::EXDEV));
            t.vfs
                .remove(&root, &t.root, &n("g"))
                .await
                .result
                .expect("remove");
        });
    }
}

#[test]
fn identities_last_unless_they_cannot() {
    let _alone = alone();
    let open = |path: &Path, fsid| Mount::open(path, false, fsid).expect("mount");
    let shm = Path::new("/dev/shm");
    assert!(
        open(shm, None).volatile,
        "a tmpfs is a new one with every mount"
    );
    let named = open(shm, Some(7));
    assert_eq!((named.fsid, named.volatile), (7, false));
    for (kind, size) in [("ext4", 16), ("xfs", 320), ("btrfs", 160)] {
        let Some(image) = Image::new(kind, size, "loop") else {
            continue;
        };
        let first = open(image.path(), None);
        assert!(!first.volatile, "{kind}");
        assert_ne!(first.fsid, 0);
        fs::create_dir(image.path().join("sub")).expect("mkdir");
        assert_eq!(
            open(&image.path().join("sub"), None).fsid,
            first.fsid,
            "{kind}"
        );
    }
    let e = Mount::open(Path::new("/proc/self"), false, None).err();
    assert!(e.is_some(), "procfs has no lasting handles: {e:?}");
    assert_eq!(
        Mount::open(Path::new("/none"), false, None).err(),
        Some(Errno::ENOENT)
    );
    assert_eq!(
        Mount::open(Path::new("/etc/passwd"), false, None).err(),
        Some(Errno::ENOTDIR)
    );
}

#[test]
fn without_descriptors_operations_fail_and_recover() {
    let _alone = alone();
    for policy in POLICIES {
        let dir = scratch::dir();
        fs::write(dir.path().join("old"), b"text").expect("write");
        on_worker(policy, dir.path(), |t| async move {
            let root = Cred::root();
            t.make(&root, "warm").await;
            let before = getrlimit(Resource::Nofile);
            let open = scratch::descriptors().len() as u64;
            let limit = |soft| {
                let both = Rlimit {
                    current: Some(soft),
                    maximum: before.maximum,
                };
                setrlimit(Resource::Nofile, both).expect("setrlimit");
            };
            let mut failed = 0;
            for room in 0..6 {
                limit(open + room);
                let name = format!("f{room}");
                let made = t
                    .vfs
                    .create(&root, &t.root, &n(&name), file(0o644))
                    .await
                    .result;
                let found = t.find("old").await;
                let read = match &found {
                    Ok((file, _)) => t.get(&root, file, 0, 9).await,
                    Err(e) => Err(*e),
                };
                let list = t
                    .vfs
                    .readdir(&root, &t.root, 0, [0; 8], 4096, true)
                    .await
                    .result;
                let gone = t.vfs.remove(&root, &t.root, &n("warm")).await.result;
                let errors = [made.err(), found.err(), read.err(), list.err(), gone.err()];
                for e in errors.into_iter().flatten() {
                    let expected = [Errno::EMFILE, Errno::ENFILE, Errno::ENOENT];
                    assert!(expected.contains(&e), "{e:?}");
                    failed += 1;
                }
            }
            limit(before.current.unwrap_or(1024));
            assert!(failed > 3, "{failed}");
            let (old, _) = t.find("old").await.expect("find");
            assert_eq!(t.get(&root, &old, 0, 9).await, Ok((b"text".to_vec(), true)));
            t.make(&root, "again").await;
            let names = fs::read_dir(&t.path).expect("dir").count();
            let page = t.vfs.readdir(&root, &t.root, 0, [0; 8], 4096, true).await;
            assert_eq!(page.result.expect("readdir").entries.len(), names + 2);
        });
    }
}

#[test]
fn a_full_file_system_says_so() {
    let _alone = alone();
    let Some(image) = Image::new("ext4", 8, "loop") else {
        return;
    };
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let (root, user) = (Cred::root(), Cred::new(1000, 100, &[]));
            let big = t.make(&user, "big").await;
            let block = vec![7; 1 << 20];
            let mut at = 0u64;
            let end = loop {
                match t.put(&user, &big, at, &block).await.result {
                    Ok(wrote) => at += u64::from(wrote.count),
                    Err(e) => break e,
                }
            };
            assert_eq!(end, Errno::ENOSPC);
            assert!(at > 1 << 20);
            t.vfs
                .commit(&user, &big, 0, 0)
                .await
                .result
                .expect("what was taken is kept");
            assert_eq!(t.vfs.getattr(&big).await.expect("attr").size, at);
            let mut made = 0u32;
            let end = loop {
                let name = n(format!("{made:0250}"));
                match t
                    .vfs
                    .symlink(&user, &t.root, &name, &[b'x'; 200], &SetAttr::default())
                    .await
                    .result
                {
                    Ok(_) => made += 1,
                    Err(e) => break e,
                }
            };
            assert_eq!(end, Errno::ENOSPC);
            let space = t.vfs.statfs(&t.root).await.expect("statfs");
            assert!(space.avail < 1 << 20 && space.total > 4 << 20);
            for i in 0..made {
                t.vfs
                    .remove(&root, &t.root, &n(format!("{i:0250}")))
                    .await
                    .result
                    .expect("remove");
            }
            t.vfs
                .remove(&root, &t.root, &n("big"))
                .await
                .result
                .expect("remove");
            drop(big);
            let space = async || t.vfs.statfs(&t.root).await.expect("statfs").avail;
            let mut tries = 0;
            while space().await < 4 << 20 {
                tries += 1;
                assert!(tries < 1000, "space does not come back");
                exec::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
    }
}

/// Limits a user to 2 MiB and 5 files on the file system of a device, by `quotactl(2)`: there may be
/// no tool for it.
fn set_quota(device: &str, uid: u32) -> bool {
    let program = "my $q = pack('Q8L2', 2048, 0, 0, 5, 0, 0, 0, 0, 5, 0); \
        exit(syscall(179, 0x80000800, $ARGV[0], int($ARGV[1]), $q) == 0 ? 0 : 1);";
    let user = uid.to_string();
    cfg!(target_arch = "x86_64") && sh(Command::new("perl").args(["-e", program, device, &user]))
}

#[test]
fn quota_is_charged_to_the_caller() {
    let _alone = alone();
    let Some(image) = Image::with("ext4", &["-O", "quota"], 32, "loop,usrquota") else {
        return;
    };
    let table = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let path = image.path().to_str().expect("a path");
    let line = table.lines().find(|l| l.contains(path)).expect("mounted");
    if !set_quota(line.split(' ').next().expect("device"), 1000) {
        scratch::not_run("to set a quota (perl, x86-64)");
        return;
    }
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let (user, other) = (Cred::new(1000, 100, &[]), Cred::new(1001, 100, &[]));
            let block = vec![7; 1 << 20];
            for (cred, end) in [(&user, Err(Errno::EDQUOT)), (&other, Ok(1 << 20))] {
                let name = format!("f{}", cred.uid());
                let file = t.make(cred, &name).await;
                let mut last = Ok(0);
                for i in 0..4u64 {
                    last = t
                        .put(cred, &file, i << 20, &block)
                        .await
                        .result
                        .map(|w| w.count);
                }
                assert_eq!(last, end);
                drop(file);
            }
            let mut made = 0;
            while t
                .vfs
                .create(&user, &t.root, &n(format!("i{made}")), file(0o600))
                .await
                .result
                .is_ok()
            {
                made += 1;
                assert!(made < 10, "no limit of files");
            }
            for i in 0..made {
                t.vfs
                    .remove(&user, &t.root, &n(format!("i{i}")))
                    .await
                    .result
                    .expect("remove");
            }
            for name in ["f1000", "f1001"] {
                t.vfs
                    .remove(&Cred::root(), &t.root, &n(name))
                    .await
                    .result
                    .expect("remove");
            }
        });
    }
}

#[test]
fn a_full_quota_says_so() {
    let _alone = alone();
    let Some(image) = Image::new("btrfs", 160, "loop") else {
        return;
    };
    let btrfs = |args: &[&str]| sh(Command::new("btrfs").args(args).arg(image.path()));
    if !btrfs(&["-q", "quota", "enable"]) || !btrfs(&["-q", "qgroup", "limit", "4M"]) {
        scratch::not_run("to set a quota on btrfs (btrfs-progs)");
        return;
    }
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let user = Cred::new(1000, 100, &[]);
            let file = t.make(&user, "f").await;
            let mut results = Vec::new();
            for i in 0..10u64 {
                let wrote = t.put(&user, &file, i << 20, &vec![7; 1 << 20]).await.result;
                results.push(wrote.map(|w| w.count));
            }
            assert_eq!(results.first(), Some(&Ok(1 << 20)));
            assert_eq!(results.last(), Some(&Err(Errno::EDQUOT)));
            t.vfs
                .remove(&user, &t.root, &n("f"))
                .await
                .result
                .expect("remove");
        });
        sh(Command::new("sync").arg("-f").arg(image.path()));
    }
}

#[test]
fn a_read_only_file_system_says_so() {
    let _alone = alone();
    let Some(image) = Image::new("ext4", 16, "loop") else {
        return;
    };
    fs::write(image.path().join("f"), b"text").expect("write");
    fs::create_dir(image.path().join("d")).expect("mkdir");
    for policy in POLICIES {
        image.remount("ro");
        on_worker(policy, image.path(), |t| async move {
            let root = Cred::root();
            let none = SetAttr::default();
            let (file, _) = t.find("f").await.expect("find");
            assert_eq!(
                t.get(&root, &file, 0, 9).await,
                Ok((b"text".to_vec(), true))
            );
            let name = n("new");
            let all = [
                t.vfs
                    .create(&root, &t.root, &name, self::file(0o600))
                    .await
                    .result
                    .map(drop),
                t.vfs
                    .mkdir(&root, &t.root, &name, &none)
                    .await
                    .result
                    .map(drop),
                t.vfs
                    .symlink(&root, &t.root, &name, b"x", &none)
                    .await
                    .result
                    .map(drop),
                t.vfs
                    .mknod(&root, &t.root, &name, vfs::NodeKind::Fifo, &none)
                    .await
                    .result
                    .map(drop),
                t.vfs.link(&root, &file, &t.root, &name).await.result,
                t.vfs
                    .rename(&root, &t.root, &n("f"), &t.root, &name)
                    .await
                    .result,
                t.vfs.remove(&root, &t.root, &n("f")).await.result,
                t.vfs.rmdir(&root, &t.root, &n("d")).await.result,
                t.put(&root, &file, 0, b"x").await.result.map(drop),
                t.vfs
                    .setattr(
                        &root,
                        &file,
                        &SetAttr {
                            mode: Some(0),
                            ..none
                        },
                        None,
                    )
                    .await
                    .result,
                t.vfs
                    .setattr(
                        &root,
                        &file,
                        &SetAttr {
                            size: Some(0),
                            ..none
                        },
                        None,
                    )
                    .await
                    .result,
            ];
            assert_eq!(all, [Err(Errno::EROFS); 11]);
        });
        image.remount("rw");
    }
}
