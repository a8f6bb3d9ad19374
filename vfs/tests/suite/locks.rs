//! Files that are open, locked or delegated: they stay held, work without a name, and leave with
//! the last who needs them.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use vfs::locks::{
    Access, ClientId, Conflict, Counts, DelegId, DelegKind, Deny, LockKind, OwnerId, Range,
};
use vfs::{Cred, Errno, File, KernelHandle, Mount, SetAttr, Stable, Vfs};

use crate::scratch::{Tree, n, trees};

const CLIENT: ClientId = ClientId(1);
const OWNER: OwnerId = OwnerId(1);

async fn by_handle(t: &Tree, handle: &KernelHandle) -> Result<Arc<File>, Errno> {
    t.vfs.file(&t.root.mount, handle.clone()).await
}

async fn works(t: &Tree, file: &Arc<File>) {
    let root = Cred::root();
    let wrote = t.put(&root, file, 2, b"cdef").await.result.expect("write");
    assert_eq!(wrote.count, 4);
    let commit = t.vfs.commit(&root, file, 0, 0).await;
    commit.result.expect("commit");
    let (text, eof) = t.get(&root, file, 0, 100).await.expect("read");
    assert_eq!((&text[2..], eof), (&b"cdef"[..], true));
    let set = SetAttr {
        size: Some(2),
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let set = t.vfs.setattr(&root, file, &set, None).await;
    set.result.expect("setattr");
    let attr = t.vfs.getattr(file).await.expect("getattr");
    assert_eq!((attr.nlink, attr.size, attr.mode), (0, 2, 0o600));
}

/// Nobody finds it, and its space is free again.
async fn gone(t: &Tree, handle: &KernelHandle) {
    assert!(t.vfs.table.get(t.root.mount.id, handle).is_none());
    assert_eq!(by_handle(t, handle).await.err(), Some(Errno::ESTALE));
}

#[test]
fn a_removed_file_works_while_it_is_pinned() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        t.put(&root, &file, 0, b"ab").await.result.expect("write");
        let handle = file.handle.clone();
        let (pin, other) = (file.pin().expect("pin"), file.pin().expect("pin"));
        assert!(Arc::ptr_eq(pin.file(), &file));
        drop(file);
        let removed = t.vfs.remove(&root, &t.root, &n("f")).await;
        removed.result.expect("remove");
        assert_eq!(t.find("f").await.err(), Some(Errno::ENOENT));
        let again = t.make(&root, "f").await;
        assert_ne!(again.handle, handle);
        let file = by_handle(&t, &handle).await.expect("still held");
        assert!(Arc::ptr_eq(pin.file(), &file));
        works(&t, &file).await;
        let linked = t.vfs.link(&root, &file, &t.root, &n("back")).await;
        assert_eq!(linked.result.err(), Some(Errno::ENOENT), "as the kernel");
        drop(pin);
        let third = file.pin().expect("somebody else has it pinned");
        drop(other);
        works(&t, &file).await;
        drop(third);
        assert_eq!(t.vfs.getattr(&file).await.err(), Some(Errno::ESTALE));
        assert_eq!(file.pin().err(), Some(Errno::ESTALE));
        gone(&t, &handle).await;
    });
}

#[test]
fn every_way_to_lose_the_last_name() {
    trees(|t| async move {
        let root = Cred::root();
        for way in ["local", "rename", "unpinned first", "in another directory"] {
            let file = t.make(&root, "f").await;
            let handle = file.handle.clone();
            let pin = file.pin().expect("pin");
            match way {
                "rename" => {
                    t.make(&root, "g").await;
                    let (from, to) = (n("g"), n("f"));
                    let done = t.vfs.rename(&root, &t.root, &from, &t.root, &to).await;
                    done.result.expect("rename");
                    fs::remove_file(t.path.join("f")).expect("clear");
                }
                "in another directory" => {
                    let set = SetAttr::default();
                    let made = t.vfs.mkdir(&root, &t.root, &n("d"), &set).await;
                    let (dir, _) = made.result.expect("mkdir");
                    fs::rename(t.path.join("f"), t.path.join("d/f")).expect("rename");
                    let done = t.vfs.remove(&root, &dir, &n("f")).await;
                    done.result.expect("remove");
                    let done = t.vfs.rmdir(&root, &t.root, &n("d")).await;
                    done.result.expect("rmdir");
                }
                _ => fs::remove_file(t.path.join("f")).expect("remove"),
            }
            if way == "unpinned first" {
                drop(pin);
                assert_eq!(t.vfs.getattr(&file).await.err(), Some(Errno::ESTALE));
            } else {
                works(&t, &file).await;
                let held = by_handle(&t, &handle).await.expect("held");
                assert!(Arc::ptr_eq(&held, &file), "{way}");
                drop(pin);
            }
            drop(file);
            gone(&t, &handle).await;
        }
        assert_eq!(t.vfs.table.locks.counts(), Counts::default());
    });
}

#[test]
fn a_file_with_another_name_outlives_its_pin() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let pin = file.pin().expect("pin");
        let linked = t.vfs.link(&root, &file, &t.root, &n("g")).await;
        linked.result.expect("link");
        let removed = t.vfs.remove(&root, &t.root, &n("f")).await;
        removed.result.expect("remove");
        drop(pin);
        let held = by_handle(&t, &file.handle).await.expect("it has a name");
        assert!(Arc::ptr_eq(&held, &file) && file.pin().is_ok());
        assert_eq!(t.vfs.getattr(&file).await.expect("getattr").nlink, 1);
    });
}

#[test]
fn a_pinned_directory_without_a_name() {
    trees(|t| async move {
        let (root, set) = (Cred::root(), SetAttr::default());
        let made = t.vfs.mkdir(&root, &t.root, &n("d"), &set).await;
        let (dir, _) = made.result.expect("mkdir");
        let pin = dir.pin().expect("pin");
        let removed = t.vfs.rmdir(&root, &t.root, &n("d")).await;
        removed.result.expect("rmdir");
        let held = by_handle(&t, &dir.handle).await.expect("held");
        assert!(t.vfs.getattr(&held).await.is_ok());
        let inside = t.vfs.lookup(&root, &dir, &n("x")).await;
        assert_eq!(inside.result.err(), Some(Errno::ENOENT));
        let how = vfs::CreateHow::Guarded(set);
        let made = t.vfs.create(&root, &dir, &n("x"), how).await.result;
        assert!(matches!(made.err(), Some(Errno::ENOENT | Errno::ESTALE)));
        drop((pin, held));
        gone(&t, &dir.handle).await;
    });
}

/// Makes files until those nobody needs have left the table.
async fn crowd(t: &Tree, round: &str) {
    for i in 0..1500 {
        t.make(&Cred::root(), &format!("{round}{i}")).await;
    }
}

/// Whether the table holds it; looking for it by its handle would count as a use.
fn held(vfs: &Vfs, handle: &KernelHandle) -> bool {
    vfs.table.files().iter().any(|file| file.handle == *handle)
}

#[test]
fn what_is_in_use_stays_in_the_table() {
    trees(|t| async move {
        let t = Tree::with(&t.path, false, 1).await;
        let root = Cred::root();
        let (mut handles, mut files) = (Vec::new(), Vec::new());
        for name in ["share", "range", "waiter", "delegation", "pin", "nothing"] {
            let file = t.make(&root, name).await;
            handles.push(file.handle.clone());
            files.push(file);
        }
        let now = Instant::now();
        let all = Range::from(0);
        let pin = files[4].pin().expect("pin");
        let locks: Vec<_> = files.drain(..).map(|f| f.locks().clone()).collect();
        let open = locks[0].open(CLIENT, OWNER, Access::READ, Deny::NONE);
        let range = locks[1].locker(CLIENT, OWNER);
        range.lock(all, LockKind::Write, now).expect("lock");
        let bell = Arc::new(|| {});
        let place = locks[2].wait(CLIENT, OWNER, all, LockKind::Read, bell);
        let given = locks[3].delegate(CLIENT, DelegId(1), DelegKind::Read, now);
        assert!(open.is_ok() && place.is_ok() && given.is_ok());
        drop(locks);
        crowd(&t, "a").await;
        let there = |vfs: &Vfs| handles.iter().map(|h| held(vfs, h)).collect::<Vec<_>>();
        assert_eq!(there(&t.vfs), [true, true, true, true, true, false]);
        let counts = Counts {
            files: 4,
            shares: 1,
            ranges: 1,
            delegations: 1,
            waiters: 1,
            mirrors: 0,
        };
        assert_eq!(t.vfs.table.locks.counts(), counts);
        drop((open, range, place, given, pin));
        assert_eq!(t.vfs.table.locks.counts(), Counts::default());
        crowd(&t, "b").await;
        assert_eq!(there(&t.vfs), [false; 6]);
        assert!(t.vfs.table.locks.is_empty(), "no table outlives its file");
    });
}

#[test]
fn one_inode_through_two_mounts_has_one_conflict_table() {
    trees(|t| async move {
        let crossing = Mount::open(&t.path, true, None).expect("mount");
        let mount = t.vfs.add_mount(crossing);
        let plain = t.make(&Cred::root(), "f").await;
        let handle = plain.handle.clone();
        let crossed = t.vfs.file(&mount, handle).await.expect("there as well");
        assert!(!Arc::ptr_eq(&plain, &crossed));
        assert!(Arc::ptr_eq(plain.locks(), crossed.locks()));
        let access = Access::WRITE;
        let open = plain.locks().open(CLIENT, OWNER, access, Deny::WRITE);
        let open = open.expect("open");
        let other = crossed.locks().io(None, true, false);
        assert_eq!(other, Err(Conflict::Share(open.holder())));
        drop(open);
        assert_eq!(crossed.locks().io(None, true, false), Ok(()));
        let fresh = t.make(&Cred::root(), "g").await;
        assert!(!Arc::ptr_eq(plain.locks(), fresh.locks()));
        let done = t.put(&Cred::root(), &fresh, 0, b"x").await.result;
        assert_eq!(done.expect("write").committed, Stable::Unstable);
    });
}
