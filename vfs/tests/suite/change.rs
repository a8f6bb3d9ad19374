//! The change attribute on a real file system: it moves with every change, and with nothing else.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::scratch::{Image, POLICIES, Tree, alone, n, on_worker, trees};
use vfs::{CreateHow, Cred, Permit, Replace, SetAttr, Stable};

async fn follows_every_change(t: Tree) {
    let root = Cred::root();
    let file = t.make(&root, "f").await;
    let mut last = t.vfs.getattr(&file).await.expect("attr").change;
    for round in 0..300u32 {
        // As fast as it goes: many of these share a tick of the clock.
        match round % 6 {
            0 => {
                let put = t.put(&root, &file, 0, &round.to_be_bytes()).await;
                put.result.expect("write");
            }
            1 => {
                let set = SetAttr {
                    mode: Some(0o600 | round & 0o77),
                    ..SetAttr::default()
                };
                let set = t.vfs.setattr(&root, &file, &set, None).await;
                set.result.expect("setattr");
            }
            2 => {
                let value = round.to_be_bytes().to_vec();
                let set = t.vfs.setxattr(&root, &file, b"x", value, Replace::Either);
                let set = set.await;
                set.result.expect("setxattr");
                let (before, after) = (set.wcc.before, set.wcc.after);
                assert_eq!(before.expect("before").change, last, "{round}");
                assert!(after.expect("after").change > last, "{round}");
            }
            3 => {
                let made = t.vfs.link(&root, &file, &t.root, &n("g")).await;
                made.result.expect("link");
            }
            4 => {
                let gone = t.vfs.remove(&root, &t.root, &n("g")).await;
                gone.result.expect("remove");
            }
            _ => {
                let other = fs::File::options().write(true).open(t.path.join("f"));
                let other = other.expect("open");
                other.write_all_at(&[7], 3).expect("a local write");
            }
        }
        let now = t.vfs.getattr(&file).await.expect("attr").change;
        assert!(now > last, "round {round}: {now} after {last}");
        last = now;
        t.get(&root, &file, 0, 4).await.expect("read");
        let commit = t.vfs.commit(&root, &file, 0, 0).await;
        commit.result.expect("commit");
        t.vfs.access(&root, &file).await.expect("access");
        let (_, found) = t.find("f").await.expect("lookup");
        assert_eq!(found.change, last, "round {round}: nothing changed");
    }
}

#[test]
fn the_change_attribute_moves_with_every_change() {
    trees(follows_every_change);
    let _alone = alone();
    for kind in ["btrfs", "xfs"] {
        if let Some(image) = Image::new(kind, 512, "defaults") {
            for policy in POLICIES {
                on_worker(policy, image.path(), follows_every_change);
                fs::remove_file(image.path().join("f")).expect("remove");
            }
        }
    }
}

/// 128 bytes of inode have no room for nanoseconds: all of this happens within one ctime.
#[test]
fn without_nanoseconds_the_server_counts() {
    let _alone = alone();
    let small = ["-I", "128"];
    let Some(image) = Image::with("ext4", &small, 64, "defaults") else {
        return;
    };
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let root = Cred::root();
            let file = t.make(&root, "f").await;
            let attr = t.vfs.getattr(&file).await.expect("attr");
            assert_eq!(attr.ctime.nsec, 0, "the image is not what it should be");
            let mut last = attr.change;
            let mut of_dir = t.vfs.getattr(&t.root).await.expect("attr").change;
            for i in 0..50u8 {
                let put = t.put(&root, &file, 0, &[i]).await;
                put.result.expect("write");
                let now = t.vfs.getattr(&file).await.expect("attr").change;
                assert!(now > last, "{i}: {now} after {last}");
                last = now;
                let commit = t.vfs.commit(&root, &file, 0, 0).await;
                commit.result.expect("commit");
                let same = t.vfs.getattr(&file).await.expect("attr").change;
                assert_eq!(same, last, "{i}: nothing changed");

                let how = CreateHow::Guarded(SetAttr::default());
                let made = t.vfs.create(&root, &t.root, &n("g"), how).await;
                let gone = t.vfs.remove_any(&root, &t.root, &n("g")).await;
                gone.result.expect("remove");
                let around = [made.dir, gone.wcc].map(|wcc| {
                    let before = wcc.before.expect("before").change;
                    (before, wcc.after.expect("after").change)
                });
                assert_eq!(around[0].0, of_dir, "{i}: as last seen");
                assert!(around[0].1 > of_dir && around[1].0 == around[0].1, "{i}");
                assert!(around[1].1 > around[1].0, "{i}: {around:?}");
                of_dir = t.vfs.getattr(&t.root).await.expect("attr").change;
                assert_eq!(of_dir, around[1].1, "{i}");
            }
            let (old, new) = (n("f"), n("h"));
            let moved = t.vfs.rename(&root, &t.root, &old, &t.root, &new);
            moved.await.result.expect("rename");
            let now = t.vfs.getattr(&file).await.expect("attr").change;
            assert!(now > last, "its ctime moved");
            t.vfs
                .remove(&root, &t.root, &n("h"))
                .await
                .result
                .expect("remove");
        });
    }
}

/// Numbers do not depend on what the server remembers: a new one gives the same.
#[test]
fn a_restart_gives_the_same_numbers() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        for i in 0..20u8 {
            let write = crate::scratch::slice(&[i]);
            let write = t.vfs.write(&root, &file, 0, write, Stable::Unstable);
            write.await.result.expect("write");
        }
        let was = t.vfs.getattr(&file).await.expect("attr").change;
        let of_dir = t.vfs.getattr(&t.root).await.expect("attr").change;
        let again = Tree::open(&t.path).await;
        let (file, attr) = again.find("f").await.expect("lookup");
        assert_eq!(attr.change, was);
        let now = again.vfs.getattr(&again.root).await.expect("attr").change;
        assert_eq!(now, of_dir);
        let set = SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        };
        let set = again.vfs.setattr(&root, &file, &set, None).await;
        set.result.expect("setattr");
        let allocated = again.vfs.allocate(Permit::Judge, &root, &file, 0, 9).await;
        assert!(allocated.wcc.after.expect("after").change > was);
    });
}
