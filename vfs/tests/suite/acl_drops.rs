//! Requests about ACLs that are dropped at every point where they wait, and calls that fail at every one of them: no ACL,
//! no operation and no buffer is left, and what is stored is one of the states somebody asked for.
//!
//! Needs `--features fault-injection`.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::acls::{acl, set_behind};
use crate::scratch::{Tree, n, quiet, soon, trees};
use acl::Acl;
use vfs::uring::fault::{self, ANY, Fault, Rule};
use vfs::{AclChange, Cred, Errno, File, SetAttr, Which};

/// Most points at which one request waits.
const MOST: usize = 60;
/// An errno no file system gives by itself.
const ODD: Errno = Errno(libc::EL3RST);

/// Lets go of what is held, and holds what comes: whoever waits for it waits indeed.
fn hold() {
    fault::set(vec![Rule {
        code: ANY,
        fault: Fault::Hold,
        skip: 0,
        count: u64::MAX,
    }]);
}

/// Polls `future` until it has waited `waits` times, then drops it; true if it came to its end before.
async fn ends_within(waits: usize, future: impl Future) -> bool {
    let mut future = Box::pin(future);
    let mut waited = 0;
    hold();
    let ended = std::future::poll_fn(|cx| {
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        waited += 1;
        if waited > waits {
            return Poll::Ready(false);
        }
        hold();
        Poll::Pending
    })
    .await;
    drop(future);
    fault::set(Vec::new());
    ended
}

const REQUESTS: [&str; 6] = ["get", "set", "set one", "remove", "setattr", "access"];

async fn request(t: &Tree, which: &str, file: &Arc<File>) -> Result<(), Errno> {
    use AclChange::{NotSent, Remove, Set};
    let (root, other) = (Cred::root(), Cred::new(1001, 1001, &[]));
    let set = |access, default| t.vfs.set_acl(&root, file, access, default);
    match which {
        "get" => {
            let attr = t.vfs.getattr(file).await?;
            let access = t.vfs.get_acl(file, &attr, Which::Access).await?;
            let default = t.vfs.get_acl(file, &attr, Which::Default).await?;
            drop((access, default));
            Ok(())
        }
        "set" => set(Set(acl(7, 1)), Set(acl(8, 2))).await.result,
        "set one" => set(Set(acl(7, 1)), NotSent).await.result,
        "remove" => set(Remove, Remove).await.result,
        "setattr" => {
            let mode = SetAttr {
                mode: Some(0o710),
                uid: Some(5),
                ..SetAttr::default()
            };
            t.vfs.setattr(&root, file, &mode, None).await.result
        }
        _ => t.vfs.access(&other, file).await.map(drop),
    }
}

type Both = (Option<Acl>, Option<Acl>);

fn stored(path: &Path) -> Both {
    let read = |name| {
        let mut value = vec![0; 4096];
        match rustix::fs::getxattr(path, name, &mut value) {
            Ok(len) => Some(acl::xattr::decode(&value[..len]).expect("an ACL")),
            Err(rustix::io::Errno::NODATA) => None,
            Err(e) => panic!("getxattr: {e}"),
        }
    };
    (read(acl::xattr::ACCESS), read(acl::xattr::DEFAULT))
}

/// A directory with both ACLs, of which nothing is known.
async fn fresh(t: &Tree, serial: &mut u32) -> (Arc<File>, std::path::PathBuf) {
    *serial += 1;
    let name = format!("d{serial}");
    let path = t.path.join(&name);
    std::fs::create_dir(&path).expect("mkdir");
    set_behind(&path, acl::xattr::ACCESS, &acl(1001, 5));
    set_behind(&path, acl::xattr::DEFAULT, &acl(1002, 3));
    (t.find(&name).await.expect("find").0, path)
}

/// Nothing is in the kernel, on a thread, or alive, but for what is remembered of files.
async fn nothing_left(t: &Tree, before: usize, case: &str) {
    quiet().await;
    let left = || (acl::live() - before, t.vfs.table.acls_cached());
    assert!(soon(|| left().0 == left().1).await, "{case}: {:?}", left());
}

fn mode(acl: Option<Acl>, mode: u32) -> Option<Acl> {
    acl.map(|acl| acl::mode::chmod(&acl, mode))
}

/// What may be stored after `which` was left alone somewhere: what was, what is wanted, or for two ACLs the default one
/// alone, which a crash in between leaves, too.
fn allowed(which: &str, old: &Both) -> Vec<Both> {
    let (access, default) = old.clone();
    let mut all = vec![old.clone()];
    match which {
        "set" => {
            all.push((access, Some(acl(8, 2))));
            all.push((Some(acl(7, 1)), Some(acl(8, 2))));
        }
        "set one" => all.push((Some(acl(7, 1)), default)),
        "remove" => all.extend([(access, None), (None, None)]),
        "setattr" => all.push((mode(access, 0o710), default)),
        _ => {}
    }
    all
}

#[test]
fn dropped_at_every_wait() {
    trees(|t| async move {
        let (before, mut serial, mut points) = (acl::live(), 0, 0);
        for which in REQUESTS {
            for waits in 0.. {
                assert!(waits < MOST, "{which} never ends");
                let (file, path) = fresh(&t, &mut serial).await;
                let old = stored(&path);
                let ended = ends_within(waits, request(&t, which, &file)).await;
                let case = format!("{which}, dropped at wait {waits}");
                let may = allowed(which, &old);
                // Before the comparison: a call on a thread goes on without its request.
                drop((old, file));
                quiet().await;
                let (settled, _) = t.find(&format!("d{serial}")).await.expect("find");
                request(&t, "get", &settled).await.expect("works again");
                assert!(may.contains(&stored(&path)), "{case}: {:?}", stored(&path));
                drop((may, settled));
                t.vfs
                    .rmdir(&Cred::root(), &t.root, &n(format!("d{serial}")))
                    .await
                    .result
                    .expect("rmdir");
                nothing_left(&t, before, &case).await;
                if ended {
                    break;
                }
                points += 1;
            }
        }
        eprintln!("dropped at {points} points");
        assert_eq!(acl::live(), before);
    });
}

/// Requests of one file that wait for their turn: the first, the second or both are dropped.
#[test]
fn dropped_while_waiting_for_a_turn() {
    trees(|t| async move {
        let (before, mut serial) = (acl::live(), 0);
        for waits in 0..12 {
            let (file, path) = fresh(&t, &mut serial).await;
            let mut third = Box::pin(request(&t, "set one", &file));
            let ended = ends_within(waits, async {
                let mut first = Box::pin(request(&t, "set", &file));
                let start = |cx: &mut Context<'_>| Poll::Ready(first.as_mut().poll(cx));
                assert!(std::future::poll_fn(start).await.is_pending());
                let mut second = pin!(request(&t, "remove", &file));
                for waiting in [second.as_mut(), third.as_mut()] {
                    let mut waiting = waiting;
                    let start = |cx: &mut Context<'_>| Poll::Ready(waiting.as_mut().poll(cx));
                    assert!(std::future::poll_fn(start).await.is_pending());
                }
                first.await
            })
            .await;
            // Whoever is left gets its turn.
            assert_eq!(third.await, Ok(()), "{waits} {ended}");
            assert_eq!(stored(&path).0, Some(acl(7, 1)));
        }
        nothing_left(&t, before, "turns").await;
    });
}

/// Every operation and call a request makes fails once: with the errors a file system may give, and one it does not.
#[test]
fn failed_at_every_step() {
    trees(|t| async move {
        let (before, mut serial) = (acl::live(), 0);
        for errno in [libc::ENOSPC, libc::EOPNOTSUPP, libc::EIO, ODD.0] {
            for which in REQUESTS {
                for skip in 0.. {
                    assert!(skip < MOST as u64, "{which} never ends");
                    let (file, path) = fresh(&t, &mut serial).await;
                    let old = stored(&path);
                    fault::set(vec![Rule {
                        code: ANY,
                        fault: Fault::Fail(errno),
                        skip,
                        count: 1,
                    }]);
                    let done = request(&t, which, &file).await;
                    let struck = fault::struck();
                    fault::set(Vec::new());
                    let case = format!("{which}, errno {errno} at step {skip}: {done:?}");
                    let now = stored(&path);
                    if done.is_ok() {
                        let wanted = allowed(which, &old);
                        assert_eq!(Some(&now), wanted.last(), "{case}");
                    } else if which == "setattr" {
                        assert!(allowed(which, &old).contains(&now), "{case}: {now:?}");
                    } else {
                        assert_eq!(done, Err(Errno(errno)), "{case}");
                        assert_eq!(now, old, "{case}");
                    }
                    drop((old, now, file));
                    let name = format!("d{serial}");
                    t.vfs
                        .rmdir(&Cred::root(), &t.root, &n(&name))
                        .await
                        .result
                        .expect("rmdir");
                    nothing_left(&t, before, &case).await;
                    if !struck {
                        break;
                    }
                }
            }
        }
        assert_eq!(acl::live(), before);
    });
}
