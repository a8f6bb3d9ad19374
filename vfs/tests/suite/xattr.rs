//! Users' extended attributes under the caller's identity, and the caller's quota.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::scratch::{self, Image, POLICIES, alone, n, on_worker, sh, trees};
use vfs::{CreateHow, Cred, Errno, Replace, SetAttr, XATTR_NAME_MAX, XATTR_VALUE_MAX};

#[test]
fn attributes_come_and_go() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        for file in [&file, &t.root] {
            let get = |name: &'static [u8], max| t.vfs.getxattr(&root, file, name, max);
            let set = |name: &'static [u8], value: &[u8], how| {
                t.vfs.setxattr(&root, file, name, value.to_vec(), how)
            };
            assert_eq!(get(b"a", 9).await, Err(Errno::ENODATA));
            let gone = set(b"a", b"1", Replace::Replace).await;
            assert_eq!(gone.result, Err(Errno::ENODATA));
            let made = set(b"a", b"one", Replace::Create).await;
            assert_eq!(made.result, Ok(()));
            let (before, after) = (made.wcc.before, made.wcc.after);
            assert!(before.expect("before").change < after.expect("after").change);
            let taken = set(b"a", b"2", Replace::Create).await;
            assert_eq!(taken.result, Err(Errno::EEXIST));
            assert_eq!(get(b"a", 3).await.as_deref(), Ok(&b"one"[..]));
            assert_eq!(get(b"a", 2).await, Err(Errno::ERANGE));
            assert_eq!(set(b"a", b"", Replace::Replace).await.result, Ok(()));
            assert_eq!(get(b"a", 0).await.as_deref(), Ok(&b""[..]));
            assert_eq!(set(b"b.c", b"x", Replace::Either).await.result, Ok(()));
            let mut names = t.vfs.listxattr(&root, file).await.expect("list");
            names.sort();
            assert_eq!(names, [Box::from(&b"a"[..]), Box::from(&b"b.c"[..])]);
            for name in [&b"a"[..], b"b.c"] {
                let removed = t.vfs.removexattr(&root, file, name).await;
                assert_eq!(removed.result, Ok(()));
                let again = t.vfs.removexattr(&root, file, name).await;
                assert_eq!(again.result, Err(Errno::ENODATA));
            }
            assert_eq!(t.vfs.listxattr(&root, file).await, Ok(vec![]));
        }
    });
}

#[test]
fn names_and_values_have_their_limits() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let set = |name: Vec<u8>, value: usize| {
            let (t, root, file) = (&t, &root, &file);
            async move {
                let value = vec![7; value];
                let set = t.vfs.setxattr(root, file, &name, value, Replace::Either);
                set.await.result
            }
        };
        assert_eq!(set(vec![b'x'; XATTR_NAME_MAX], 1).await, Ok(()));
        let long = set(vec![b'x'; XATTR_NAME_MAX + 1], 1).await;
        assert_eq!(long, Err(Errno::ENAMETOOLONG));
        assert_eq!(set(vec![], 1).await, Err(Errno::EINVAL));
        assert_eq!(set(b"a\0b".to_vec(), 1).await, Err(Errno::EINVAL));
        let big = set(b"a".to_vec(), XATTR_VALUE_MAX + 1).await;
        assert_eq!(big, Err(Errno::E2BIG));
        // What fits is the file system's to say: ext4 keeps attributes in one block.
        let most = set(b"a".to_vec(), XATTR_VALUE_MAX).await;
        assert!(matches!(most, Ok(()) | Err(Errno::ENOSPC)), "{most:?}");
    });
}

#[test]
fn the_kernel_decides_for_the_caller() {
    trees(|t| async move {
        let owner = Cred::new(1000, 100, &[]);
        let set = SetAttr {
            mode: Some(0o640),
            ..SetAttr::default()
        };
        let how = CreateHow::Guarded(set);
        let made = t.vfs.create(&owner, &t.root, &n("f"), how).await;
        let (file, _) = made.result.expect("create");
        let put = |cred: &Cred| {
            let (t, file, cred) = (&t, &file, cred.clone());
            async move {
                let value = b"v".to_vec();
                let set = t.vfs.setxattr(&cred, file, b"a", value, Replace::Either);
                set.await.result
            }
        };
        let (group, other) = (Cred::new(1001, 100, &[]), Cred::new(1002, 102, &[]));
        assert_eq!(put(&owner).await, Ok(()));
        assert_eq!(put(&group).await, Err(Errno::EACCES));
        for (cred, may) in [(&owner, true), (&group, true), (&other, false)] {
            let got = t.vfs.getxattr(cred, &file, b"a", 9).await;
            let names = t.vfs.listxattr(cred, &file).await;
            assert_eq!((got.is_ok(), names.is_ok()), (may, may), "{}", cred.uid());
        }
        let stolen = t.vfs.removexattr(&group, &file, b"a").await;
        assert_eq!(stolen.result, Err(Errno::EACCES));
        symlink("f", t.path.join("l")).expect("symlink");
        let (link, _) = t.find("l").await.expect("link");
        let root = Cred::root();
        let on_link = t.vfs.setxattr(&root, &link, b"a", vec![], Replace::Either);
        assert_eq!(on_link.await.result, Err(Errno::EPERM));
        assert_eq!(
            t.vfs.getxattr(&root, &link, b"a", 9).await,
            Err(Errno::ENODATA)
        );
        // What is not a user's stays out of sight: an exclusive create keeps its verifier so.
        let how = CreateHow::Exclusive([1; 8]);
        let made = t.vfs.create(&root, &t.root, &n("x"), how).await;
        let (exclusive, _) = made.result.expect("create");
        assert_eq!(t.vfs.listxattr(&root, &exclusive).await, Ok(vec![]));
    });
}

#[test]
fn quota_is_the_callers() {
    let _alone = alone();
    trees_without_quota();
    let Some(image) = Image::with("ext4", &["-O", "quota"], 64, "usrquota") else {
        return;
    };
    let limit = ["-u", "1000", "4096", "8192", "0", "0"];
    if !sh(Command::new("setquota").args(limit).arg(image.path())) {
        scratch::not_run("setquota and a kernel with quotas");
        return;
    }
    for policy in POLICIES {
        on_worker(policy, image.path(), |t| async move {
            let user = Cred::new(1000, 100, &[]);
            let file = t.make(&user, "f").await;
            let before = t.vfs.quota(&user, &file).await.expect("quota");
            let open = PermissionsExt::from_mode(0o666);
            fs::set_permissions(t.path.join("f"), open).expect("chmod");
            t.put(&user, &file, 0, &[7; 1 << 20])
                .await
                .result
                .expect("put");
            t.vfs
                .commit(&user, &file, 0, 0)
                .await
                .result
                .expect("commit");
            let after = t.vfs.quota(&user, &file).await.expect("quota");
            assert_eq!(after.used, before.used + (1 << 20));
            assert_eq!(after.avail_soft + after.used, 4096 << 10);
            assert_eq!(after.avail_hard + after.used, 8192 << 10);
            let unlimited = Cred::new(1001, 100, &[]);
            assert_eq!(t.vfs.quota(&unlimited, &file).await, None);
            t.vfs
                .remove(&user, &t.root, &n("f"))
                .await
                .result
                .expect("remove");
        });
    }
}

fn trees_without_quota() {
    let dir = crate::scratch::dir();
    on_worker(POLICIES[0], dir.path(), |t| async move {
        let user = Cred::new(4_000_000_000, 100, &[]);
        assert_eq!(t.vfs.quota(&user, &t.root).await, None);
    });
}
