//! Names: handles, look-ups, what is made and removed, and what local processes do meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use crate::scratch::{self, Tree, n, soon, trees};
use vfs::{CreateHow, Cred, Errno, File, FileKind, KernelHandle, NodeKind, SetAttr, Vfs, exec};

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

fn user() -> Cred {
    Cred::new(1000, 100, &[])
}

async fn by_handle(t: &Tree, handle: &KernelHandle) -> Result<u64, Errno> {
    let file = t.vfs.file(&t.root.mount, handle.clone()).await?;
    Ok(t.vfs.getattr(&file).await?.fileid)
}

#[test]
fn handles_outlive_the_server_and_end_with_the_file() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let dir = t.vfs.mkdir(&root, &t.root, &n("d"), &mode(0o755)).await;
        let dir = dir.result.expect("mkdir").0;
        let id = t.vfs.getattr(&file).await.expect("attr").fileid;
        let handles = [file.handle.clone(), dir.handle.clone()];
        let again = Tree::open(&t.path).await;
        assert_eq!(again.root.mount.fsid, t.root.mount.fsid);
        assert_eq!(again.root.handle, t.root.handle);
        assert_eq!(by_handle(&again, &handles[0]).await, Ok(id));
        assert!(by_handle(&again, &handles[1]).await.is_ok());
        let held = t.vfs.file(&t.root.mount, handles[0].clone()).await;
        assert!(
            std::sync::Arc::ptr_eq(&held.expect("held"), &file),
            "one file, one object"
        );
        fs::remove_file(t.path.join("f")).expect("unlink");
        fs::remove_dir(t.path.join("d")).expect("rmdir");
        for tree in [&t, &again] {
            for handle in &handles {
                assert_eq!(by_handle(tree, handle).await, Err(Errno::ESTALE));
            }
        }
        assert_eq!(t.vfs.getattr(&file).await, Err(Errno::ESTALE));
        let inside = t.vfs.lookup(&root, &dir, &n("x")).await;
        assert_eq!(inside.result.err(), Some(Errno::ESTALE));
        let made = t
            .vfs
            .create(&root, &dir, &n("x"), CreateHow::Exclusive([1; 8]))
            .await;
        assert_eq!(made.result.err(), Some(Errno::ESTALE));
        drop((file, dir));
        let late = Tree::open(&t.path).await;
        for handle in handles {
            assert_eq!(by_handle(&late, &handle).await, Err(Errno::ESTALE));
            let mut bent = handle.clone();
            bent.bytes.iter_mut().for_each(|b| *b ^= 0x5a);
            assert_eq!(by_handle(&late, &bent).await, Err(Errno::ESTALE));
            let mut odd = handle;
            (odd.kind, odd.bytes) = (99, std::iter::repeat_n(7, 128).collect());
            assert_eq!(by_handle(&late, &odd).await, Err(Errno::ESTALE));
            odd.bytes.clear();
            assert_eq!(by_handle(&late, &odd).await, Err(Errno::ESTALE));
        }
    });
}

#[test]
fn a_removed_files_space_is_free_at_once() {
    let _alone = scratch::alone();
    let Some(image) = scratch::Image::new("ext4", 64, "loop") else {
        return;
    };
    for policy in scratch::POLICIES {
        scratch::on_worker(policy, image.path(), |t| async move {
            let root = Cred::root();
            let free = || rustix::fs::statvfs(&t.path).expect("statfs").f_bfree * 4096;
            let start = free();
            for over in [false, true] {
                let big = t.make(&root, "big").await;
                for i in 0..16u64 {
                    let data = vec![i as u8; 1 << 20];
                    t.put(&root, &big, i << 20, &data)
                        .await
                        .result
                        .expect("write");
                }
                t.vfs
                    .commit(&root, &big, 0, 0)
                    .await
                    .result
                    .expect("commit");
                t.get(&root, &big, 0, 4096).await.expect("read");
                assert!(free() + (15 << 20) < start, "it takes space");
                drop(big);
                if over {
                    drop(t.make(&root, "small").await);
                    let (old, new) = (n("small"), n("big"));
                    let done = t.vfs.rename(&root, &t.root, &old, &t.root, &new).await;
                    done.result.expect("rename");
                } else {
                    t.vfs
                        .remove(&root, &t.root, &n("big"))
                        .await
                        .result
                        .expect("remove");
                }
                assert!(
                    soon(|| free() + (2 << 20) > start).await,
                    "{} {start}",
                    free()
                );
            }
            fs::remove_file(t.path.join("big")).expect("unlink");
        });
    }
}

#[test]
fn a_tiny_table_serves_many_files() {
    let _alone = scratch::alone();
    for policy in scratch::POLICIES {
        let dir = scratch::dir();
        let path = dir.path().to_owned();
        scratch::run(&scratch::config(policy), async move {
            let t = Tree::with(&path, false, 1).await;
            let root = Cred::root();
            let mut handles = Vec::new();
            for i in 0..1500u32 {
                let file = t.make(&root, &i.to_string()).await;
                t.put(&root, &file, 0, &i.to_le_bytes())
                    .await
                    .result
                    .expect("write");
                t.vfs
                    .commit(&root, &file, 0, 0)
                    .await
                    .result
                    .expect("commit");
                handles.push(file.handle.clone());
            }
            assert!(t.vfs.table.len() <= 256, "{}", t.vfs.table.len());
            assert!(scratch::descriptors().len() < 700);
            for (i, handle) in handles.into_iter().enumerate() {
                let file = t.vfs.file(&t.root.mount, handle).await.expect("file");
                let (text, eof) = t.get(&root, &file, 0, 10).await.expect("read");
                assert_eq!((&text[..], eof), (&(i as u32).to_le_bytes()[..], true));
            }
            assert!(t.vfs.table.len() <= 256);
            // Dirty files stay beyond the limit, until the sweep writes them back.
            exec::spawn(t.vfs.clone().sweep());
            for i in 0..400u32 {
                let (file, _) = t.find(&i.to_string()).await.expect("find");
                t.put(&root, &file, 0, b"dirty")
                    .await
                    .result
                    .expect("write");
            }
            assert!(t.vfs.table.len() > 256);
            let clean = soon(|| t.vfs.table.files().iter().all(|f| !f.dirty())).await;
            assert!(clean, "synced under pressure");
            for i in 400..800u32 {
                t.find(&i.to_string()).await.expect("find");
            }
            assert!(t.vfs.table.len() <= 256 + 64, "{}", t.vfs.table.len());
        });
    }
}

#[test]
fn look_ups_stay_inside_and_never_follow_links() {
    trees(|t| async move {
        let root = Cred::root();
        let find =
            async |dir: &Arc<File>, name: &str| t.vfs.lookup(&root, dir, &n(name)).await.result;
        fs::create_dir_all(t.path.join("a/b")).expect("mkdir");
        fs::write(t.path.join("a/f"), b"x").expect("write");
        std::os::unix::fs::symlink("/etc", t.path.join("out")).expect("symlink");
        std::os::unix::fs::symlink("a", t.path.join("in")).expect("symlink");
        for _ in 0..2 {
            let (a, attr) = t.find("a").await.expect("a");
            assert_eq!(attr.kind, FileKind::Directory);
            let (b, _) = find(&a, "b").await.expect("b");
            let (up, attr) = find(&b, "..").await.expect("..");
            assert_eq!(up.handle, a.handle);
            assert_eq!(
                attr.fileid,
                fs::metadata(t.path.join("a")).expect("stat").ino()
            );
            assert_eq!(find(&a, "..").await.expect("..").0.handle, t.root.handle);
            for dots in ["..", "."] {
                let (same, _) = find(&t.root, dots).await.expect("root");
                assert_eq!(same.handle, t.root.handle);
            }
            let (f, _) = find(&a, "f").await.expect("f");
            for name in ["x", ".", ".."] {
                assert_eq!(find(&f, name).await.err(), Some(Errno::ENOTDIR), "{name}");
            }
            for link in ["out", "in"] {
                let (l, attr) = t.find(link).await.expect("link");
                assert_eq!(
                    (l.kind(), attr.kind),
                    (FileKind::Symlink, FileKind::Symlink)
                );
                assert_eq!(find(&l, "f").await.err(), Some(Errno::ENOTDIR));
            }
            assert_eq!(t.find("none").await.err(), Some(Errno::ENOENT));
            // Long enough for the second round to come from the cache.
            exec::sleep(Duration::from_millis(30)).await;
        }
        let (out, _) = t.find("out").await.expect("link");
        assert_eq!(t.vfs.readlink(&root, &out).await.0, Ok(b"/etc".to_vec()));
        let (a, _) = t.find("a").await.expect("a");
        assert_eq!(t.vfs.readlink(&root, &a).await.0, Err(Errno::EINVAL));
        // Who may not search is told so, cached or not, there or not.
        fs::set_permissions(t.path.join("a"), fs::Permissions::from_mode(0o744)).expect("chmod");
        exec::sleep(Duration::from_millis(30)).await;
        for _ in 0..3 {
            for name in ["b", "none", ".", ".."] {
                assert!(find(&a, name).await.is_ok() == (name != "none"));
                let denied = t.vfs.lookup(&user(), &a, &n(name)).await;
                assert_eq!(denied.result.err(), Some(Errno::EACCES), "{name}");
                assert!(denied.dir.is_some());
            }
        }
    });
}

/// What local processes do is seen by the very next look-up, also when the answer before came from
/// the cache.
#[test]
fn local_changes_are_seen_at_once() {
    trees(|t| async move {
        let id = |name: &str| fs::metadata(t.path.join(name)).ok().map(|m| m.ino());
        let seen = async |name: &str| t.find(name).await.ok().map(|(_, attr)| attr.fileid);
        for round in 0..60 {
            // Now and then the directory rests, so that answers are remembered.
            if round % 3 == 0 {
                exec::sleep(Duration::from_millis(32)).await;
            }
            for name in ["a", "b", "c"] {
                for _ in 0..2 {
                    assert_eq!(seen(name).await, id(name), "{name} in round {round}");
                }
            }
            match round % 5 {
                0 => fs::write(t.path.join("a"), b"1").expect("create"),
                1 => fs::rename(t.path.join("a"), t.path.join("b")).expect("rename"),
                2 => {
                    fs::write(t.path.join("c"), b"2").expect("create");
                    fs::rename(t.path.join("c"), t.path.join("b")).expect("replace");
                }
                3 => fs::remove_file(t.path.join("b")).expect("unlink"),
                _ => {
                    fs::write(t.path.join("c"), b"3").expect("create");
                    let _ = seen("c").await;
                    fs::remove_file(t.path.join("c")).expect("unlink");
                }
            }
        }
        for round in 0..1500u32 {
            let name = ["a", "b", "c"][(round * 7 % 3) as usize];
            let there = t.path.join(name);
            if id(name).is_some() {
                fs::remove_file(there).expect("unlink");
            } else {
                fs::write(there, b"").expect("create");
            }
            assert_eq!(seen(name).await, id(name));
        }
    });
}

#[test]
fn attributes_before_and_after_belong_together() {
    trees(|t| async move {
        let root = Cred::root();
        let before = t.vfs.getattr(&t.root).await.expect("attr");
        let made = t
            .vfs
            .create(&root, &t.root, &n("f"), CreateHow::Guarded(mode(0o644)))
            .await;
        let file = made.result.expect("create").0;
        assert_eq!(made.dir.before, Some(before));
        assert_eq!(made.dir.after, t.vfs.getattr(&t.root).await.ok());
        let fails = t
            .vfs
            .create(&root, &t.root, &n("f"), CreateHow::Guarded(mode(0o644)))
            .await;
        assert_eq!(fails.result.err(), Some(Errno::EEXIST));
        assert_eq!(
            (fails.dir.before, fails.dir.after),
            (made.dir.after, made.dir.after)
        );
        let wrote = t.put(&root, &file, 0, b"abc").await;
        assert_eq!(wrote.wcc.before.map(|a| a.size), Some(0));
        assert_eq!(wrote.wcc.after.map(|a| a.size), Some(3));
        let fails = t
            .vfs
            .rename(&root, &t.root, &n("no"), &t.root, &n("f"))
            .await;
        assert_eq!(fails.result, Err(Errno::ENOENT));
        assert!(fails.from.before.is_some() && fails.to.after.is_some());
        let fails = t.vfs.remove(&root, &file, &n("f")).await;
        assert_eq!(fails.result, Err(Errno::ENOTDIR));
        // Overlapping changes cannot say what was before; the next one alone can again.
        let results = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let vfs: std::sync::Arc<Vfs> = t.vfs.clone();
        for _ in 0..2 {
            let (vfs, file, results) = (vfs.clone(), file.clone(), results.clone());
            exec::spawn(async move {
                let (root, data) = (Cred::root(), scratch::slice(b"x"));
                let wrote = vfs
                    .write(&root, &file, 0, data, vfs::Stable::FileSync)
                    .await;
                results.borrow_mut().push(wrote.wcc);
            });
        }
        assert!(soon(|| results.borrow().len() == 2).await);
        assert!(results.borrow().iter().all(|w| w.after.is_some()));
        assert!(results.borrow().iter().all(|w| w.before.is_none()));
        assert!(t.put(&root, &file, 0, b"z").await.wcc.before.is_some());
    });
}

#[test]
fn create_follows_its_three_ways() {
    trees(|t| async move {
        let (root, user) = (Cred::root(), user());
        let create =
            async |name: &str, how| t.vfs.create(&user, &t.root, &n(name), how).await.result;
        let set = SetAttr {
            mode: Some(0o6751),
            size: Some(10),
            ..SetAttr::default()
        };
        let (_, attr) = create("f", CreateHow::Guarded(set)).await.expect("create");
        assert_eq!((attr.uid, attr.gid, attr.size), (1000, 100, 10));
        // Setting the size as somebody without the right to clears these, as local ones do.
        assert!(attr.mode == 0o6751 || attr.mode == 0o751, "{:o}", attr.mode);
        let e = create("f", CreateHow::Guarded(set)).await.err();
        assert_eq!(e, Some(Errno::EEXIST));
        let (_, attr) = create("f", CreateHow::Unchecked(mode(0o777)))
            .await
            .expect("there");
        assert_eq!(
            (attr.size, attr.mode & 0o777),
            (10, 0o751),
            "only a size is applied"
        );
        let empty = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        let (_, attr) = create("f", CreateHow::Unchecked(empty))
            .await
            .expect("truncated");
        assert_eq!(attr.size, 0);
        let sent = SetAttr {
            uid: Some(1234),
            gid: Some(4321),
            ..mode(0o640)
        };
        let (_, attr) = create("own", CreateHow::Guarded(sent))
            .await
            .expect("create");
        assert_eq!((attr.uid, attr.gid, attr.mode), (1000, 100, 0o640));
        let how = CreateHow::Guarded(sent);
        let made = t.vfs.create(&root, &t.root, &n("given"), how).await.result;
        let attr = made.expect("create").1;
        assert_eq!((attr.uid, attr.gid), (1234, 4321));
        fs::create_dir(t.path.join("d")).expect("mkdir");
        std::os::unix::fs::symlink("f", t.path.join("l")).expect("symlink");
        for (name, how) in [
            ("d", CreateHow::Unchecked(mode(0o644))),
            ("d", CreateHow::Exclusive([1; 8])),
            ("l", CreateHow::Exclusive([1; 8])),
            (".", CreateHow::Guarded(mode(0o644))),
            ("..", CreateHow::Unchecked(mode(0o644))),
        ] {
            assert_eq!(create(name, how).await.err(), Some(Errno::EEXIST), "{name}");
        }
        let (first, _) = create("x", CreateHow::Exclusive([9; 8]))
            .await
            .expect("create");
        // The reply was lost: the same client asks again, even after a restart.
        let again = Tree::open(&t.path).await;
        for tree in [&t, &again] {
            let how = CreateHow::Exclusive([9; 8]);
            let (same, attr) = tree
                .vfs
                .create(&user, &tree.root, &n("x"), how)
                .await
                .result
                .expect("replay");
            assert_eq!((same.handle.clone(), attr.size), (first.handle.clone(), 0));
            let how = CreateHow::Exclusive([8; 8]);
            let other = tree
                .vfs
                .create(&user, &tree.root, &n("x"), how)
                .await
                .result;
            assert_eq!(other.err(), Some(Errno::EEXIST));
        }
        // With data in it the file is in use: a late retransmission must not pass for its creation.
        let wrote = t.put(&user, &first, 0, b"data").await;
        wrote.result.expect("write");
        let late = create("x", CreateHow::Exclusive([9; 8])).await;
        assert_eq!(late.err(), Some(Errno::EEXIST));
        let denied = Cred::new(1001, 100, &[]);
        fs::set_permissions(&t.path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let how = CreateHow::Guarded(mode(0o644));
        let e = t
            .vfs
            .create(&denied, &t.root, &n("no"), how)
            .await
            .result
            .err();
        assert_eq!(e, Some(Errno::EACCES));
        assert!(!t.path.join("no").exists());
    });
}

#[test]
fn directories_pass_their_group_on() {
    trees(|t| async move {
        let (user, other) = (user(), Cred::new(1001, 555, &[]));
        std::os::unix::fs::chown(&t.path, Some(1000), Some(700)).expect("chown");
        fs::set_permissions(&t.path, fs::Permissions::from_mode(0o2777)).expect("chmod");
        let made = t
            .vfs
            .mkdir(&user, &t.root, &n("d"), &mode(0o750))
            .await
            .result;
        let attr = made.expect("mkdir").1;
        assert_eq!((attr.gid, attr.mode), (700, 0o2750));
        let how = CreateHow::Guarded(mode(0o640));
        let made = t.vfs.create(&other, &t.root, &n("f"), how).await.result;
        let attr = made.expect("create").1;
        assert_eq!((attr.uid, attr.gid, attr.mode), (1001, 700, 0o640));
        let made = t
            .vfs
            .mkdir(&user, &t.root, &n("s"), &mode(0o1777))
            .await
            .result;
        assert_eq!(made.expect("mkdir").1.mode, 0o3777);
        // Sticky: others may make and use, not remove.
        let sticky = t.find("s").await.expect("s").0;
        let how = CreateHow::Guarded(mode(0o666));
        t.vfs
            .create(&user, &sticky, &n("mine"), how)
            .await
            .result
            .expect("create");
        let gone = t.vfs.remove(&other, &sticky, &n("mine")).await.result;
        assert_eq!(gone, Err(Errno::EPERM));
        for name in [".", ".."] {
            let e = t
                .vfs
                .mkdir(&user, &t.root, &n(name), &mode(0o755))
                .await
                .result
                .err();
            assert_eq!(e, Some(Errno::EEXIST));
            assert!(t.vfs.rmdir(&user, &t.root, &n(name)).await.result.is_err());
            assert_eq!(
                t.vfs.remove(&user, &t.root, &n(name)).await.result,
                Err(Errno::EISDIR)
            );
        }
        let e = t.vfs.rmdir(&user, &t.root, &n("s")).await.result.err();
        assert_eq!(e, Some(Errno::ENOTEMPTY));
        assert_eq!(
            t.vfs.rmdir(&user, &t.root, &n("f")).await.result,
            Err(Errno::ENOTDIR)
        );
        assert_eq!(
            t.vfs.remove(&user, &t.root, &n("d")).await.result,
            Err(Errno::EISDIR)
        );
        assert_eq!(t.vfs.rmdir(&user, &t.root, &n("d")).await.result, Ok(()));
    });
}

#[test]
fn symbolic_links_are_files_of_their_own() {
    trees(|t| async move {
        let (root, user) = (Cred::root(), user());
        let none = SetAttr::default();
        let made = t
            .vfs
            .symlink(&user, &t.root, &n("l"), b"tar\xffget", &none)
            .await;
        let (link, attr) = made.result.expect("symlink");
        assert_eq!(
            (attr.kind, attr.uid, attr.size),
            (FileKind::Symlink, 1000, 7)
        );
        assert_eq!(
            t.vfs.readlink(&user, &link).await.0,
            Ok(b"tar\xffget".to_vec())
        );
        for (target, e) in [
            (&b"a\0b"[..], Errno::EINVAL),
            (b"", Errno::ENOENT),
            (&[b'x'; 5000], Errno::ENAMETOOLONG),
        ] {
            let made = t
                .vfs
                .symlink(&user, &t.root, &n("bad"), target, &none)
                .await;
            assert_eq!(made.result.err(), Some(e));
        }
        let long = [b'y'; 4095];
        let made = t
            .vfs
            .symlink(&user, &t.root, &n("long"), &long, &none)
            .await;
        let file = made.result.expect("long target").0;
        assert_eq!(t.vfs.readlink(&user, &file).await.0, Ok(long.to_vec()));
        let times = SetAttr {
            mtime: vfs::SetTime::At(vfs::Time { sec: 77, nsec: 5 }),
            uid: Some(5),
            mode: Some(0o600),
            ..none
        };
        t.vfs
            .setattr(&root, &link, &times, None)
            .await
            .result
            .expect("setattr of a link");
        let attr = t.vfs.getattr(&link).await.expect("attr");
        assert_eq!(
            (attr.mtime.sec, attr.mtime.nsec, attr.uid, attr.mode),
            (77, 5, 5, 0o777)
        );
        // A link to a symbolic link is one to itself, not to what it names.
        let linked = t.vfs.link(&root, &link, &t.root, &n("l2")).await;
        assert_eq!(linked.result, Ok(()));
        assert_eq!(
            linked.file.map(|a| (a.kind, a.nlink)),
            Some((FileKind::Symlink, 2))
        );
        assert_eq!(t.find("l2").await.expect("l2").0.handle, link.handle);
        let dir = t
            .vfs
            .mkdir(&user, &t.root, &n("d"), &mode(0o755))
            .await
            .result
            .expect("mkdir")
            .0;
        let linked = t.vfs.link(&root, &dir, &t.root, &n("d2")).await;
        assert_eq!(linked.result, Err(Errno::EPERM));
        let linked = t.vfs.link(&root, &link, &link, &n("x")).await;
        assert_eq!(linked.result, Err(Errno::ENOTDIR));
        let linked = t.vfs.link(&root, &link, &t.root, &n("l2")).await;
        assert_eq!(linked.result, Err(Errno::EEXIST));
    });
}

#[test]
fn special_files_are_made_and_left_alone() {
    trees(|t| async move {
        let (root, user) = (Cred::root(), user());
        let none = SetAttr::default();
        let kinds = [
            ("fifo", NodeKind::Fifo, FileKind::Fifo, (0, 0)),
            ("sock", NodeKind::Socket, FileKind::Socket, (0, 0)),
            ("chr", NodeKind::Char(1, 3), FileKind::Char, (1, 3)),
            (
                "blk",
                NodeKind::Block(259, 1_048_575),
                FileKind::Block,
                (259, 1_048_575),
            ),
        ];
        for (name, node, kind, rdev) in kinds {
            let made = t
                .vfs
                .mknod(&root, &t.root, &n(name), node, &mode(0o640))
                .await;
            let (file, attr) = made.result.expect(name);
            assert_eq!((attr.kind, attr.mode, attr.rdev), (kind, 0o640, rdev));
            let twice = t
                .vfs
                .mknod(&root, &t.root, &n(name), node, &mode(0o640))
                .await;
            assert_eq!(twice.result.err(), Some(Errno::EEXIST));
            // Nothing opens it: a FIFO would wait, a device would act.
            let read = t.vfs.read(&root, &file, 0, 10).await;
            assert_eq!(read.result.err(), Some(Errno::EINVAL));
            assert_eq!(
                t.put(&root, &file, 0, b"x").await.result,
                Err(Errno::EINVAL)
            );
            t.vfs
                .setattr(&root, &file, &mode(0o604), None)
                .await
                .result
                .expect("chmod");
            let linked = t
                .vfs
                .link(&root, &file, &t.root, &n(format!("{name}2")))
                .await;
            linked.result.expect("link");
            assert_eq!(linked.file.map(|a| (a.nlink, a.mode)), Some((2, 0o604)));
        }
        let made = t
            .vfs
            .mknod(&user, &t.root, &n("u"), NodeKind::Char(1, 3), &none)
            .await;
        assert_eq!(made.result.err(), Some(Errno::EPERM));
        let made = t
            .vfs
            .mknod(&user, &t.root, &n("u"), NodeKind::Fifo, &none)
            .await;
        assert_eq!(made.result.expect("fifo").1.uid, 1000);
    });
}

#[test]
fn names_are_bytes() {
    trees(|t| async move {
        let user = user();
        let names: [&[u8]; 6] = [&[0xff; 255], b"\xc3\x28", b" ", b"...", b"\n", b"-rf"];
        for name in names {
            let how = CreateHow::Guarded(mode(0o644));
            let made = t.vfs.create(&user, &t.root, &n(name), how).await.result;
            let (file, _) = made.expect("create");
            let found = t
                .vfs
                .lookup(&user, &t.root, &n(name))
                .await
                .result
                .expect("find")
                .0;
            assert_eq!(found.handle, file.handle);
        }
        let page = t
            .vfs
            .readdir(&user, &t.root, 0, [0; 8], 1 << 16, true)
            .await;
        let page = page.result.expect("readdir");
        for name in names {
            let entry = page
                .entries
                .iter()
                .find(|e| &*e.name == name)
                .expect("listed");
            assert!(entry.node.is_some());
            t.vfs
                .remove(&user, &t.root, &n(name))
                .await
                .result
                .expect("remove");
        }
        assert_eq!(fs::read_dir(&t.path).expect("dir").count(), 0);
    });
}

/// Directories are renamed into each other from both sides at once: no deadlock, nothing lost.
#[test]
fn renames_cross_without_deadlock() {
    trees(|t| async move {
        let root = Cred::root();
        let mut dirs = Vec::new();
        for name in ["a", "b"] {
            let made = t.vfs.mkdir(&root, &t.root, &n(name), &mode(0o755)).await;
            dirs.push(made.result.expect("mkdir").0);
        }
        let inner = t.vfs.mkdir(&root, &dirs[0], &n("in"), &mode(0o755)).await;
        dirs.push(inner.result.expect("mkdir").0);
        dirs.push(t.root.clone());
        let done = std::rc::Rc::new(std::cell::Cell::new(0));
        for task in 0..8usize {
            let how = CreateHow::Guarded(mode(0o644));
            let name = n(format!("f{task}"));
            let home = &dirs[task % 4];
            t.vfs
                .create(&root, home, &name, how)
                .await
                .result
                .expect("create");
            let (vfs, dirs, done) = (t.vfs.clone(), dirs.clone(), done.clone());
            exec::spawn(async move {
                let mut at = task % 4;
                for step in 0..60usize {
                    let to = (at + 1 + (task + step) % 3) % 4;
                    let root = Cred::root();
                    let moved = vfs.rename(&root, &dirs[at], &name, &dirs[to], &name).await;
                    moved.result.expect("rename");
                    assert!(moved.from.before.is_some() && moved.to.after.is_some());
                    at = to;
                    exec::yield_now().await;
                }
                vfs.remove(&Cred::root(), &dirs[at], &name)
                    .await
                    .result
                    .expect("it is there");
                done.set(done.get() + 1);
            });
        }
        assert!(soon(|| done.get() == 8).await, "deadlock");
        let [a, _, inner, top] = &dirs[..] else {
            unreachable!()
        };
        let rename = async |from: &Arc<File>, old: &str, to: &Arc<File>, new: &str| {
            t.vfs.rename(&root, from, &n(old), to, &n(new)).await.result
        };
        assert_eq!(
            rename(top, "a", inner, "a").await,
            Err(Errno::EINVAL),
            "into itself"
        );
        assert_eq!(rename(top, "b", top, "a").await, Err(Errno::ENOTEMPTY));
        assert_eq!(rename(a, "in", top, "b").await, Ok(()), "over an empty one");
        assert_eq!(rename(top, "b", top, "b").await, Ok(()));
        assert_eq!(rename(top, "..", top, "c").await, Err(Errno::EINVAL));
        let file = t.make(&root, "f").await;
        assert_eq!(rename(top, "f", top, "a").await, Err(Errno::EISDIR));
        assert_eq!(rename(top, "a", top, "f").await, Err(Errno::ENOTDIR));
        assert_eq!(rename(top, "f", &file, "g").await, Err(Errno::ENOTDIR));
        assert_eq!(rename(&file, "f", top, "g").await, Err(Errno::ENOTDIR));
    });
}
