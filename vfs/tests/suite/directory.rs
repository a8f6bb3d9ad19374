//! READDIR on the file systems people export: cookies, budgets, many entries, changes meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::scratch::{self, Image, POLICIES, Tree, alone, on_worker};
use vfs::uring::IoPolicy;
use vfs::{BAD_COOKIE, Cred, DirPage, Errno, File, exec};

async fn page(t: &Tree, dir: &Arc<File>, cookie: u64, bytes: usize, plus: bool) -> DirPage {
    let listed = t
        .vfs
        .readdir(&Cred::root(), dir, cookie, [0; 8], bytes, plus)
        .await;
    listed.result.expect("readdir")
}

/// All names, in pages of `bytes`; a name twice is an error.
async fn list(t: &Tree, dir: &Arc<File>, bytes: usize, plus: bool) -> BTreeSet<Vec<u8>> {
    let (mut names, mut cookie) = (BTreeSet::new(), 0);
    loop {
        let page = page(t, dir, cookie, bytes, plus).await;
        assert!(page.eof || !page.entries.is_empty(), "no progress");
        for entry in page.entries {
            cookie = entry.cookie;
            assert!(names.insert(entry.name.to_vec()), "{:?} twice", entry.name);
        }
        if page.eof {
            return names;
        }
    }
}

/// Runs `test` on every file system there is, under either policy.
fn everywhere<F: Future<Output = ()>>(test: impl Fn(Tree) -> F + Copy + 'static) {
    let _alone = alone();
    let images: Vec<_> = [("ext4", 64), ("xfs", 320), ("btrfs", 160)]
        .iter()
        .filter_map(|&(kind, size)| Image::new(kind, size, "loop"))
        .collect();
    let plain = scratch::dir();
    let paths = images
        .iter()
        .map(Image::path)
        .chain([plain.path(), Path::new("/dev/shm")]);
    for path in paths {
        for policy in POLICIES {
            let work = path.join(format!("test{}", std::process::id()));
            fs::create_dir(&work).expect("mkdir");
            println!("on {}", path.display());
            on_worker(policy, &work, test);
            fs::remove_dir_all(&work).expect("clean up");
        }
    }
}

#[test]
fn small_budgets_get_through() {
    everywhere(|t| async move {
        assert_eq!(list(&t, &t.root, 0, false).await.len(), 2);
        for i in 0..300 {
            fs::write(t.path.join(format!("{i:0200}")), b"x").expect("write");
        }
        for (bytes, plus) in [
            (0, false),
            (1, true),
            (230, false),
            (4096, true),
            (1 << 20, true),
        ] {
            let names = list(&t, &t.root, bytes, plus).await;
            assert_eq!(names.len(), 302);
            assert!(names.contains(&b"."[..]) && names.contains(&b".."[..]));
        }
        let all = page(&t, &t.root, 0, 1 << 20, true).await;
        for entry in all.entries {
            let Some((handle, attr)) = entry.node else {
                assert_eq!(*entry.name, *b"..");
                continue;
            };
            assert_eq!(attr.fileid, entry.fileid);
            let file = t
                .vfs
                .file(&t.root.mount, (*handle).clone())
                .await
                .expect("its handle");
            assert_eq!(
                t.vfs.getattr(&file).await.expect("attr").fileid,
                attr.fileid
            );
        }
    });
}

#[test]
fn foreign_cookies_are_told_apart_from_errors() {
    everywhere(|t| async move {
        fs::write(t.path.join("f"), b"x").expect("write");
        let root = Cred::root();
        let read = async |cookie, verifier| {
            let listed = t
                .vfs
                .readdir(&root, &t.root, cookie, verifier, 4096, false)
                .await;
            assert!(listed.dir.is_some());
            listed.result
        };
        let first = read(0, [9; 8])
            .await
            .expect("with cookie 0 the verifier says nothing");
        let last = first.entries.last().expect("entries").cookie;
        assert!(
            read(last, first.verifier)
                .await
                .expect("end")
                .entries
                .is_empty()
        );
        assert_eq!(read(last, [9; 8]).await.err(), Some(BAD_COOKIE));
        for cookie in [u64::MAX, 1 << 63] {
            assert_eq!(read(cookie, first.verifier).await.err(), Some(BAD_COOKIE));
        }
        for cookie in [1, 2, 3, 77, 1 << 40, i64::MAX as u64] {
            match read(cookie, first.verifier).await {
                Ok(page) => assert!(page.entries.len() <= 3),
                Err(e) => assert_eq!(e, BAD_COOKIE, "{cookie}"),
            }
        }
        let file = t.find("f").await.expect("f").0;
        let listed = t.vfs.readdir(&root, &file, 0, [0; 8], 4096, false).await;
        assert_eq!(listed.result.err(), Some(Errno::ENOTDIR));
        fs::create_dir(t.path.join("d")).expect("mkdir");
        let dir = t.find("d").await.expect("d").0;
        assert_eq!(list(&t, &dir, 100, true).await.len(), 2);
        fs::remove_dir(t.path.join("d")).expect("rmdir");
        let listed = t.vfs.readdir(&root, &dir, 0, [0; 8], 4096, false).await;
        assert_eq!(listed.result.err(), Some(Errno::ESTALE));
    });
}

/// What is there throughout is listed exactly once, whatever comes and goes meanwhile.
#[test]
fn changes_meanwhile_neither_hide_nor_double() {
    everywhere(|t| async move {
        let keep = |i: u32| t.path.join(format!("keep{i}"));
        let pass = |i: u32| t.path.join(format!("pass{i}"));
        for i in 0..400 {
            fs::write(keep(i), b"").expect("write");
            fs::write(pass(i), b"").expect("write");
        }
        for round in 0..3u32 {
            let (mut seen, mut cookie, mut step) = (BTreeSet::new(), 0, round);
            loop {
                let page = page(&t, &t.root, cookie, 1000, false).await;
                for entry in page.entries {
                    cookie = entry.cookie;
                    assert!(seen.insert(entry.name.to_vec()) || !entry.name.starts_with(b"keep"));
                }
                if page.eof {
                    break;
                }
                for _ in 0..20 {
                    step = (step * 31 + 7) % 400;
                    if fs::remove_file(pass(step)).is_err() {
                        fs::write(pass(step), b"").expect("write");
                    }
                }
            }
            let kept = seen.iter().filter(|name| name.starts_with(b"keep")).count();
            assert_eq!(kept, 400, "round {round}");
        }
    });
}

/// Names added after a directory stream was opened are seen through it, also from the middle on.
#[test]
fn idle_streams_see_what_was_added() {
    everywhere(|t| async move {
        let add = |from: u32, to: u32| {
            for i in from..to {
                fs::write(t.path.join(format!("f{i}")), b"").expect("write");
            }
        };
        // Several listings at once, so that both of the directory's streams are in use.
        let listings = async |cookie| {
            let pages = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            for _ in 0..4 {
                let (vfs, dir, pages) = (t.vfs.clone(), t.root.clone(), pages.clone());
                exec::spawn(async move {
                    let root = Cred::root();
                    let listed = vfs
                        .readdir(&root, &dir, cookie, [0; 8], 1 << 20, true)
                        .await;
                    pages.borrow_mut().push(listed.result.expect("readdir"));
                });
            }
            assert!(scratch::soon(|| pages.borrow().len() == 4).await);
            pages.take()
        };
        add(0, 300);
        let first = listings(0).await.remove(0);
        add(300, 600);
        let middle = first.entries[first.entries.len() / 2].cookie;
        let behind = page(&t, &t.root, middle, 1 << 20, false)
            .await
            .entries
            .len();
        for page in listings(middle).await {
            assert_eq!(page.entries.len(), behind, "the same through every stream");
        }
        assert_eq!(list(&t, &t.root, 1000, false).await.len(), 602);
        if is_btrfs(&t.path) {
            assert!(behind >= 300 + 100, "names are added at the end");
        }
    });
}

fn is_btrfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == 0x9123_683E)
}

#[test]
fn a_hundred_thousand_entries() {
    let _alone = alone();
    let dir = scratch::dir();
    for i in 0..100_000u32 {
        let name = dir.path().join(format!("entry-{i}"));
        std::os::unix::fs::symlink("x", name).expect("symlink");
    }
    on_worker(IoPolicy::Adaptive, dir.path(), |t| async move {
        let calls = || {
            let mut all = std::collections::BTreeMap::new();
            exec::with_ring(|r| r.counters.collect(&mut all));
            all.get("blocking.getdents64").copied().unwrap_or(0)
        };
        let before = calls();
        assert_eq!(list(&t, &t.root, 32 << 10, false).await.len(), 100_002);
        assert!(calls() - before < 200, "pages are full");
        assert_eq!(list(&t, &t.root, 64 << 10, true).await.len(), 100_002);
    });
}
