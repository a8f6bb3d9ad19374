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

fn acl(user: u32, perm: u32) -> Acl {
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

/// What a process on the server does.
fn set_behind(path: &Path, name: &str, acl: &Acl) {
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
        let old_enough = std::time::Duration::from_millis(30);
        for round in 0..12_u32 {
            let one = acl(1001, round % 8);
            set_behind(&path, acl::xattr::ACCESS, &one);
            assert_eq!(get(&t, &file, Which::Access).await, Ok(Some(one.clone())));
            exec::sleep(old_enough).await;
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
        exec::sleep(old_enough).await;
        get(&t, &file, Which::Access).await.expect("an ACL");
        assert_eq!(t.vfs.table.acls_cached(), 1);
        t.vfs
            .remove(&root, &t.root, &n("f"))
            .await
            .result
            .expect("remove");
        drop(file);
        assert_eq!(t.vfs.table.acls_cached(), 0, "gone with its file");
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
