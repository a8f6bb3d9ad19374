//! What OPEN and REMOVE of NFSv4 ask: may the caller open, was the file made now, is it a directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::scratch::{n, slice, trees};
use vfs::{CreateHow, Cred, Errno, NodeKind, SetAttr, SetTime, Stable, Time};

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

#[test]
fn an_open_is_judged_as_the_kernel_would() {
    trees(|t| async move {
        let owner = Cred::new(1000, 100, &[]);
        let how = CreateHow::Guarded(mode(0o644));
        let made = t.vfs.create(&owner, &t.root, &n("f"), how).await;
        let (file, _) = made.result.expect("create");
        let other = Cred::new(1001, 101, &[]);
        let root = Cred::root();
        // Mode, caller, may read, may write.
        for (bits, cred, read, write) in [
            (0o644, &owner, true, true),
            (0o644, &other, true, false),
            (0o444, &owner, true, false),
            (0o200, &owner, false, true),
            (0o000, &owner, false, false),
            (0o000, &root, true, true),
            (0o711, &other, true, false),
            (0o100, &owner, true, false),
            (0o666, &other, true, true),
        ] {
            let bits_now = PermissionsExt::from_mode(bits);
            fs::set_permissions(t.path.join("f"), bits_now).expect("chmod");
            for (r, w) in [(true, false), (false, true), (true, true), (false, false)] {
                let may = t.vfs.open_check(cred, &file, r, w).await;
                let expected = (!r || read) && (!w || write);
                let context = format!("{bits:o} {} {r} {w}", cred.uid());
                assert_eq!(may.is_ok(), expected, "{context}");
                let error = may.err().unwrap_or(Errno::EACCES);
                assert_eq!(error, Errno::EACCES, "{context}");
            }
        }
        symlink("f", t.path.join("l")).expect("symlink");
        let fifo = t
            .vfs
            .mknod(&root, &t.root, &n("p"), NodeKind::Fifo, &mode(0o666))
            .await;
        let (fifo, _) = fifo.result.expect("mknod");
        let (link, _) = t.find("l").await.expect("link");
        for (file, error) in [
            (&t.root, Errno::EISDIR),
            (&link, Errno::ELOOP),
            (&fifo, Errno::EINVAL),
        ] {
            let opened = t.vfs.open_check(&root, file, true, false).await;
            assert_eq!(opened.err(), Some(error));
        }
    });
}

#[test]
fn what_was_opened_may_be_used() {
    trees(|t| async move {
        let owner = Cred::new(1000, 100, &[]);
        let how = CreateHow::Guarded(mode(0o6777));
        let made = t.vfs.create(&owner, &t.root, &n("f"), how).await;
        let (file, _) = made.result.expect("create");
        let other = Cred::new(1001, 101, &[]);
        let write = |text: &[u8]| {
            t.vfs
                .write_open(&other, &file, 0, slice(text), Stable::Unstable)
        };
        write(b"one").await.result.expect("write");
        let bits = fs::metadata(t.path.join("f")).expect("stat").mode();
        assert_eq!(bits & 0o7777, 0o777, "written as the caller");
        let none = PermissionsExt::from_mode(0o000);
        fs::set_permissions(t.path.join("f"), none).expect("chmod");
        let refused = t.put(&other, &file, 0, b"no").await;
        assert_eq!(refused.result, Err(Errno::EACCES));
        assert_eq!(t.get(&other, &file, 0, 9).await, Err(Errno::EACCES));
        write(b"two").await.result.expect("write");
        let read = t.vfs.read_open(&file, 0, 9).await.result.expect("read");
        assert_eq!((&*read.buf, read.eof), (&b"two"[..], true));
        let dir = t.vfs.read_open(&t.root, 0, 9).await.result;
        assert_eq!(dir.err(), Some(Errno::EISDIR));
    });
}

#[test]
fn a_creation_tells_whether_the_file_is_new() {
    trees(|t| async move {
        let root = Cred::root();
        let make = |name: &'static str, how| {
            let (t, root) = (&t, &root);
            async move { t.vfs.create(root, &t.root, &n(name), how).await }
        };
        let any = CreateHow::Unchecked(mode(0o640));
        assert!(make("f", any).await.fresh);
        let again = make("f", any).await;
        assert!(again.result.is_ok() && !again.fresh, "it was there");
        let taken = make("f", CreateHow::Guarded(mode(0o640))).await;
        assert!(taken.result.err() == Some(Errno::EEXIST) && !taken.fresh);
        assert!(make("g", CreateHow::Guarded(mode(0o640))).await.fresh);

        assert!(make("x", CreateHow::Exclusive([1; 8])).await.fresh);
        let resent = make("x", CreateHow::Exclusive([1; 8])).await;
        assert!(resent.result.is_ok() && resent.fresh, "the same request");
        let other = make("x", CreateHow::Exclusive([2; 8])).await;
        assert!(other.result.err() == Some(Errno::EEXIST) && !other.fresh);
        let made = t.vfs.mkdir(&root, &t.root, &n("d"), &mode(0o755)).await;
        assert!(made.fresh);
        let made = t.vfs.mkdir(&root, &t.root, &n("d"), &mode(0o755)).await;
        assert!(!made.fresh);
    });
}

#[test]
fn exclusive_with_attributes_sets_them_once_and_again() {
    trees(|t| async move {
        let cred = Cred::root();
        let at = SetTime::At(Time { sec: 77, nsec: 5 });
        let set = SetAttr {
            mode: Some(0o4751),
            uid: Some(1234),
            gid: Some(55),
            mtime: at,
            ..SetAttr::default()
        };
        let make = |verifier, set| {
            let how = CreateHow::ExclusiveAttrs(verifier, set);
            let name = n("x");
            let (t, cred) = (&t, &cred);
            async move { t.vfs.create(cred, &t.root, &name, how).await }
        };
        let first = make([1; 8], set).await;
        assert!(first.fresh);
        let (file, attr) = first.result.expect("create");
        let seen = |attr: &vfs::Attr| (attr.mode, attr.uid, attr.gid, attr.mtime.sec, attr.size);
        assert_eq!(seen(&attr), (0o4751, 1234, 55, 77, 0));
        // As if the server had died before it came to the attributes.
        let lost = SetAttr {
            mtime: SetTime::Now,
            ..mode(0o600)
        };
        t.vfs
            .setattr(&cred, &file, &lost, None)
            .await
            .result
            .expect("setattr");
        let again = make([1; 8], set).await;
        assert!(again.fresh);
        let (same, attr) = again.result.expect("again");
        assert!(std::sync::Arc::ptr_eq(&file, &same));
        assert_eq!(seen(&attr), (0o4751, 1234, 55, 77, 0));
        let stranger = make([2; 8], set).await;
        assert_eq!(stranger.result.err(), Some(Errno::EEXIST));
        t.put(&cred, &file, 0, b"used").await.result.expect("put");
        let late = make([1; 8], set).await;
        assert_eq!(late.result.err(), Some(Errno::EEXIST), "in use since");
        // Callers who are not the superuser get what they may have.
        let user = Cred::new(1000, 100, &[]);
        let how = CreateHow::ExclusiveAttrs([3; 8], mode(0o640));
        let made = t.vfs.create(&user, &t.root, &n("y"), how).await;
        let (_, attr) = made.result.expect("create");
        assert_eq!((attr.mode, attr.uid, attr.gid), (0o640, 1000, 100));
    });
}

#[test]
fn any_name_can_be_removed() {
    trees(|t| async move {
        let root = Cred::root();
        t.make(&root, "f").await;
        fs::create_dir(t.path.join("d")).expect("mkdir");
        fs::create_dir_all(t.path.join("full/sub")).expect("mkdir");
        symlink("d", t.path.join("l")).expect("symlink");
        let remove = |name: &'static str| {
            let (t, root) = (&t, &root);
            async move { t.vfs.remove_any(root, &t.root, &n(name)).await }
        };
        let full = remove("full").await;
        assert_eq!(full.result, Err(Errno::ENOTEMPTY));
        assert_eq!(remove("absent").await.result, Err(Errno::ENOENT));
        for special in [".", ".."] {
            assert_eq!(remove(special).await.result, Err(Errno::EINVAL));
        }
        let held = t.find("d").await.expect("lookup").0;
        for name in ["l", "f", "d"] {
            let gone = remove(name).await;
            assert_eq!(gone.result, Ok(()), "{name}");
            let (before, after) = (gone.wcc.before, gone.wcc.after);
            assert!(before.expect("before").change < after.expect("after").change);
            assert!(fs::symlink_metadata(t.path.join(name)).is_err(), "{name}");
        }
        let gone = t.vfs.getattr(&held).await;
        assert_eq!(gone.err(), Some(Errno::ESTALE));
        let user = Cred::new(1000, 100, &[]);
        let closed = PermissionsExt::from_mode(0o755);
        fs::set_permissions(&t.path, closed).expect("chmod");
        fs::create_dir(t.path.join("d")).expect("mkdir");
        let refused = t.vfs.remove_any(&user, &t.root, &n("d")).await;
        assert_eq!(refused.result, Err(Errno::EACCES));
        let in_file = t.make(&root, "g").await;
        let no_dir = t.vfs.remove_any(&root, &in_file, &n("x")).await;
        assert_eq!(no_dir.result, Err(Errno::ENOTDIR));
    });
}

#[test]
fn renames_among_links_of_one_file_leave_both() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "a").await;
        let linked = t.vfs.link(&root, &file, &t.root, &n("b")).await;
        linked.result.expect("link");
        assert_eq!(linked.file.expect("attr").nlink, 2);
        let both = t
            .vfs
            .rename(&root, &t.root, &n("a"), &t.root, &n("b"))
            .await;
        assert_eq!(both.result, Ok(()));
        for name in ["a", "b"] {
            let (found, attr) = t.find(name).await.expect("still there");
            assert!(std::sync::Arc::ptr_eq(&found, &file) && attr.nlink == 2);
        }
        let taken = t.vfs.link(&root, &file, &t.root, &n("b")).await;
        assert_eq!(taken.result, Err(Errno::EEXIST));
    });
}
