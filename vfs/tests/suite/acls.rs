//! ACLs read and set: by the kernel's leave, all or nothing, and never out of date.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;

use crate::scratch::{Image, POLICIES, Tree, alone, n, on_worker, trees};
use acl::Acl;
use acl::posix::{Entry, Perm, Tag};
use rustix::fs::XattrFlags;
use vfs::{AclChange, Cred, Errno, File, SetAttr, Which, exec};

pub fn acl(user: u32, perm: u32) -> Acl {
    let entry = |tag, perm| Entry {
        tag,
        perm: Perm::from_low_bits(perm),
    };
    let entries = vec![
        entry(Tag::UserObj, 7),
        entry(Tag::User(user), perm),
        entry(Tag::GroupObj, 5),
        entry(Tag::Mask, 7),
        entry(Tag::Other, 0),
    ];
    Acl::new(entries).expect("a valid ACL")
}

async fn get(t: &Tree, file: &Arc<File>, which: Which) -> Result<Option<Acl>, Errno> {
    let attr = t.vfs.getattr(file).await?;
    let found = t.vfs.get_acl(file, &attr, which).await?;
    Ok(found.map(|acl| (*acl).clone()))
}

/// A name of the root goes.
async fn unlink(t: &Tree, name: &str) {
    let gone = t.vfs.remove(&Cred::root(), &t.root, &n(name)).await;
    gone.result.expect("remove");
}

/// Waits until what was changed before is old enough to be remembered. The executor's time is that of the start of its
/// turn, so a turn comes first.
async fn age() {
    for ms in [1, 30] {
        exec::sleep(std::time::Duration::from_millis(ms)).await;
    }
}

/// What a process on the server does.
pub fn set_behind(path: &Path, name: &str, acl: &Acl) {
    let value = acl::xattr::encode(acl);
    rustix::fs::setxattr(path, name, &value, XattrFlags::empty()).expect("setxattr");
}

#[test]
fn set_get_and_remove() {
    use AclChange::{NotSent, Remove, Set};
    trees(|t| async move {
        let root = Cred::root();
        let dir = &t.root;
        let (one, two) = (acl(1001, 7), acl(1002, 1));
        for which in [Which::Access, Which::Default] {
            assert_eq!(get(&t, dir, which).await, Ok(None));
        }
        let set = |access, default| t.vfs.set_acl(&root, dir, access, default);
        let done = set(Set(one.clone()), Set(two.clone())).await;
        assert_eq!(done.result, Ok(()));
        let (before, after) = (done.wcc.before, done.wcc.after);
        assert_eq!(after.expect("after").mode & 0o777, 0o770);
        assert!(before.expect("before").change < after.expect("after").change);
        assert_eq!(get(&t, dir, Which::Access).await, Ok(Some(one.clone())));
        assert_eq!(get(&t, dir, Which::Default).await, Ok(Some(two.clone())));
        assert_eq!(set(NotSent, Remove).await.result, Ok(()));
        assert_eq!(get(&t, dir, Which::Access).await, Ok(Some(one)));
        assert_eq!(get(&t, dir, Which::Default).await, Ok(None));
        assert_eq!(set(NotSent, NotSent).await.result, Ok(()));
        assert_eq!(set(Remove, Set(two.clone())).await.result, Ok(()));
        assert_eq!(get(&t, dir, Which::Access).await, Ok(None));
        assert_eq!(get(&t, dir, Which::Default).await, Ok(Some(two)));
        // One that says no more than a mode becomes the mode.
        assert_eq!(
            set(Set(acl::mode::to_acl(0o741)), Remove).await.result,
            Ok(())
        );
        assert_eq!(get(&t, dir, Which::Access).await, Ok(None));
        let attr = t.vfs.getattr(dir).await.expect("getattr");
        assert_eq!(attr.mode & 0o777, 0o741);
    });
}

#[test]
fn the_kernel_decides_who_may() {
    use AclChange::{NotSent, Remove, Set};
    trees(|t| async move {
        let file = t.make(&Cred::root(), "f").await;
        let path = t.path.join("f");
        chown(&path, Some(1001), Some(1001)).expect("chown");
        let (owner, other) = (Cred::new(1001, 1001, &[]), Cred::new(1002, 1001, &[1001]));
        let set = |cred: &Cred, access, default| {
            let (t, file, cred) = (&t, &file, cred.clone());
            async move { t.vfs.set_acl(&cred, file, access, default).await.result }
        };
        let one = || Set(acl(1002, 7));
        assert_eq!(set(&owner, one(), NotSent).await, Ok(()));
        assert_eq!(set(&other, one(), NotSent).await, Err(Errno::EPERM));
        assert_eq!(set(&other, Remove, NotSent).await, Err(Errno::EPERM));
        // Only directories have a default ACL: others have none to remove.
        assert_eq!(set(&owner, NotSent, Remove).await, Ok(()));
        assert_eq!(set(&owner, Set(acl(7, 7)), one()).await, Err(Errno::EACCES));
        assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(acl(1002, 7))));
        assert_eq!(get(&t, &file, Which::Default).await, Ok(None));
        // Who is not in the owning group loses the setgid bit, as with chmod(2).
        chown(&path, Some(1001), Some(1007)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2770)).expect("chmod");
        assert_eq!(set(&owner, one(), NotSent).await, Ok(()));
        let attr = t.vfs.getattr(&file).await.expect("getattr");
        assert_eq!(attr.mode, 0o770);
    });
}

#[test]
fn symbolic_links_have_none() {
    trees(|t| async move {
        symlink("to", t.path.join("l")).expect("symlink");
        let (link, _) = t.find("l").await.expect("link");
        assert_eq!(get(&t, &link, Which::Access).await, Ok(None));
        let (root, set) = (Cred::root(), AclChange::Set(acl(1001, 7)));
        let done = t.vfs.set_acl(&root, &link, set, AclChange::NotSent);
        assert_eq!(done.await.result, Err(Errno::EOPNOTSUPP));
    });
}

/// Cached or not, what is given out is what is stored.
#[test]
fn never_out_of_date() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let path = t.path.join("f");
        for round in 0..12_u32 {
            let one = acl(1001, round % 8);
            set_behind(&path, acl::xattr::ACCESS, &one);
            assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(one.clone())));
            age().await;
            for _ in 0..2 {
                assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(one.clone())));
            }
            assert_eq!(t.vfs.table.acls_cached(), 1);
            // Now in the cache: each of these must be seen.
            match round % 4 {
                0 => {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
                    let chmod = acl::mode::chmod(&one, 0o700);
                    assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(chmod)));
                }
                1 => {
                    let set = SetAttr {
                        mode: Some(0o750),
                        ..SetAttr::default()
                    };
                    t.vfs
                        .setattr(&root, &file, &set, None)
                        .await
                        .result
                        .expect("setattr");
                    let chmod = acl::mode::chmod(&one, 0o750);
                    assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(chmod)));
                }
                2 => {
                    rustix::fs::removexattr(&path, acl::xattr::ACCESS).expect("removexattr");
                    assert_eq!(get(&t, &file, Which::Access).await, Ok(None));
                }
                _ => {
                    let set = AclChange::Set(acl(1009, 1));
                    let done = t.vfs.set_acl(&root, &file, set, AclChange::NotSent);
                    assert_eq!(done.await.result, Ok(()));
                    assert_eq!(t.vfs.table.acls_cached(), 0);
                    assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(acl(1009, 1))));
                }
            }
        }
        age().await;
        get(&t, &file, Which::Access).await.expect("an ACL");
        assert_eq!(t.vfs.table.acls_cached(), 1);
        unlink(&t, "f").await;
        drop(file);
        assert_eq!(t.vfs.table.acls_cached(), 0, "gone with its file");
    });
}

/// What user 1001 may read of a file, by ACCESS and by READ, which must agree.
async fn may_read(t: &Tree, file: &Arc<File>) -> bool {
    let cred = Cred::new(1001, 1001, &[]);
    let (rights, _) = t.vfs.access(&cred, file).await.expect("access");
    let read = t.get(&cred, file, 0, 4).await.map(drop);
    let expected = if rights.read {
        Ok(())
    } else {
        Err(Errno::EACCES)
    };
    assert_eq!(read, expected);
    rights.read
}

/// A process on the server takes a right away or gives it: the next request sees it, however soon it comes, also where
/// timestamps have no more than seconds, so that they cannot tell one state from the next.
#[test]
fn local_changes_count_at_once() {
    let _alone = alone();
    for (kind, make) in [
        ("ext4", &[][..]),
        ("xfs", &[]),
        ("btrfs", &[]),
        ("ext4", &["-I", "128"]),
    ] {
        let Some(image) = Image::with(kind, make, 300, "") else {
            return;
        };
        for policy in POLICIES {
            on_worker(policy, image.path(), |t| async move {
                let root = Cred::root();
                let file = t.make(&root, "f").await;
                let path = t.path.join("f");
                for round in 0..40_u32 {
                    // Sometimes long enough that the ACL is remembered.
                    let pause = [0, 0, 30, 1][round as usize % 4];
                    exec::sleep(std::time::Duration::from_millis(pause)).await;
                    let allowed = round % 2 == 0;
                    let perm = if allowed { 4 } else { 0 };
                    set_behind(&path, acl::xattr::ACCESS, &acl(1001, perm));
                    for _ in 0..3 {
                        assert_eq!(may_read(&t, &file).await, allowed, "round {round}");
                    }
                    if round % 5 == 0 {
                        // The mask goes with the group bits.
                        let mode = |bits| fs::Permissions::from_mode(bits);
                        fs::set_permissions(&path, mode(0o700)).expect("chmod");
                        assert!(!may_read(&t, &file).await, "round {round}");
                        fs::set_permissions(&path, mode(0o740)).expect("chmod");
                        assert_eq!(may_read(&t, &file).await, allowed, "round {round}");
                    }
                    if round % 7 == 0 {
                        rustix::fs::removexattr(&path, acl::xattr::ACCESS).expect("removexattr");
                        assert!(!may_read(&t, &file).await, "round {round}");
                    }
                }
                unlink(&t, "f").await;
                drop(file);
                assert_eq!(t.vfs.table.acls_cached(), 0);
            });
        }
    }
}

/// Whatever ends a file's place in memory ends its ACLs', and every change leaves none that is out of date.
#[test]
fn dropped_with_what_they_belong_to() {
    trees(|t| async move {
        let root = Cred::root();
        let before = acl::live();
        let cached = async |name: &str| {
            let file = t.make(&root, name).await;
            set_behind(&t.path.join(name), acl::xattr::ACCESS, &acl(1001, 7));
            age().await;
            drop(get(&t, &file, Which::Access).await.expect("an ACL"));
            assert_eq!((t.vfs.table.acls_cached(), acl::live()), (1, before + 1));
            file
        };
        let none = |what: &str| {
            let left = (t.vfs.table.acls_cached(), acl::live());
            assert_eq!(left, (0, before), "after {what}");
        };
        let file = cached("set").await;
        let set = SetAttr {
            uid: Some(7),
            ..SetAttr::default()
        };
        let done = t.vfs.setattr(&root, &file, &set, None).await;
        done.result.expect("setattr");
        none("SETATTR");
        drop(file);
        let file = cached("acl").await;
        let done = t
            .vfs
            .set_acl(&root, &file, AclChange::Remove, AclChange::NotSent);
        done.await.result.expect("set_acl");
        none("SETACL");
        drop(file);
        drop(cached("gone").await);
        unlink(&t, "gone").await;
        none("REMOVE");
        drop(cached("over").await);
        t.make(&root, "from").await;
        let (from, to) = (n("from"), n("over"));
        let over = t.vfs.rename(&root, &t.root, &from, &t.root, &to);
        over.await.result.expect("rename");
        none("RENAME over it");
        let file = cached("forgotten").await;
        t.vfs.table.forget(&file);
        drop(file);
        none("its file is forgotten");
        // Open by somebody, it stays as long as that.
        let file = cached("open").await;
        let pin = file.pin().expect("pin");
        drop(file);
        unlink(&t, "open").await;
        drop(pin);
        none("the last close of a removed file");
        drop(cached("all").await);
        drop(t);
        assert_eq!(acl::live(), before, "after the end");
    });
}

/// Longer ACLs than are read at first.
#[test]
fn long_lists() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        for users in [57, 58, 59, 60, 61, 100, 300] {
            let mut entries = acl(1, 1).entries().to_vec();
            entries.extend((2..users).map(|uid| Entry {
                tag: Tag::User(uid),
                perm: Perm::READ,
            }));
            let long = Acl::sorted(entries).expect("a valid ACL");
            let set = AclChange::Set(long.clone());
            let done = t.vfs.set_acl(&root, &file, set, AclChange::NotSent).await;
            assert_eq!(done.result, Ok(()));
            assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(long)));
        }
    });
}

/// A file system mounted without ACLs.
#[test]
fn file_systems_without_acls() {
    let _alone = alone();
    let Some(image) = Image::new("btrfs", 128, "noacl") else {
        return;
    };
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            assert!(!t.root.mount.acls());
            for which in [Which::Access, Which::Default] {
                assert_eq!(get(&t, &t.root, which).await, Err(Errno::EOPNOTSUPP));
            }
            let root = Cred::root();
            let set = || AclChange::Set(acl(1001, 7));
            for (access, default) in [
                (set(), AclChange::NotSent),
                (AclChange::NotSent, set()),
                (AclChange::Remove, AclChange::Remove),
            ] {
                let done = t.vfs.set_acl(&root, &t.root, access, default);
                assert_eq!(done.await.result, Err(Errno::EOPNOTSUPP));
            }
        });
    }
}
