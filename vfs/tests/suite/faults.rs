//! Every opcode the VFS uses fails or comes back short: the caller is told, nothing is lost or left.
//!
//! Needs `--features fault-injection`.
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::scratch::{Tree, alone, config, n, run, slice, trees};
use io_uring::opcode;
use vfs::uring::fault::{self, Fault, Rule};
use vfs::uring::fixed::OpenFd;
use vfs::uring::net_ops::{self, Segment};
use vfs::uring::{IoPolicy, file_ops};
use vfs::{CreateHow, Cred, Errno, SetAttr, Stable, exec};

/// An errno no file system gives by itself.
const ODD: Errno = Errno(libc::EL3RST);

fn inject(code: u8, fault: Fault, skip: u64, count: u64) {
    fault::set(vec![Rule {
        code,
        fault,
        skip,
        count,
    }]);
}

fn fail(code: u8, skip: u64) {
    inject(code, Fault::Fail(ODD.0), skip, 1);
}

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

/// Operations on a prepared tree, each under the name of the call it makes.
async fn operate(t: &Tree, which: &str, cred: &Cred) -> Result<(), Errno> {
    let (vfs, root) = (&t.vfs, &t.root);
    let set = mode(0o644);
    let f = async || {
        vfs.lookup(cred, root, &n("f"))
            .await
            .result
            .map(|found| found.0)
    };
    match which {
        "lookup" => f().await.map(drop),
        "getattr" => vfs.getattr(&f().await?).await.map(drop),
        "create" => vfs
            .create(cred, root, &n("new"), CreateHow::Guarded(set))
            .await
            .result
            .map(drop),
        "exclusive" => {
            let how = CreateHow::Exclusive([7; 8]);
            vfs.create(cred, root, &n("new"), how)
                .await
                .result
                .map(drop)
        }
        "mkdir" => vfs
            .mkdir(cred, root, &n("new"), &mode(0o6755))
            .await
            .result
            .map(drop),
        "symlink" => vfs
            .symlink(cred, root, &n("new"), b"x", &set)
            .await
            .result
            .map(drop),
        "mknod" => {
            let fifo = vfs::NodeKind::Fifo;
            vfs.mknod(cred, root, &n("new"), fifo, &set)
                .await
                .result
                .map(drop)
        }
        "link" => vfs.link(cred, &f().await?, root, &n("new")).await.result,
        "rename" => {
            vfs.rename(cred, root, &n("f"), root, &n("new"))
                .await
                .result
        }
        "remove" => vfs.remove(cred, root, &n("f")).await.result,
        "rmdir" => vfs.rmdir(cred, root, &n("d")).await.result,
        "read" => t.get(cred, &f().await?, 0, 100).await.map(drop),
        "write" => {
            let write = vfs
                .write(cred, &f().await?, 0, slice(b"text"), Stable::FileSync)
                .await;
            write.result.map(drop)
        }
        "commit" => vfs.commit(cred, &f().await?, 0, 0).await.result,
        "truncate" => {
            let size = SetAttr {
                size: Some(9),
                ..SetAttr::default()
            };
            vfs.setattr(cred, &f().await?, &size, None).await.result
        }
        "access" => vfs.access(cred, &f().await?).await.map(drop),
        "readdir" => vfs
            .readdir(cred, root, 0, [0; 8], 4096, true)
            .await
            .result
            .map(drop),
        other => unreachable!("{other}"),
    }
}

async fn prepare(t: &Tree) {
    let all = std::fs::read_dir(&t.path).expect("dir").flatten();
    for entry in all {
        let path = entry.path();
        let gone = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        gone.expect("clean up");
    }
    std::fs::write(t.path.join("f"), b"text").expect("write");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(t.path.join("f"), open).expect("chmod");
    std::fs::create_dir(t.path.join("d")).expect("mkdir");
}

const OPERATIONS: [&str; 17] = [
    "lookup",
    "getattr",
    "create",
    "exclusive",
    "mkdir",
    "symlink",
    "mknod",
    "link",
    "rename",
    "remove",
    "rmdir",
    "read",
    "write",
    "commit",
    "truncate",
    "access",
    "readdir",
];

/// Which operation must report a failure of which opcode, when everything goes through the ring.
const REPORTS: [(&str, u8); 15] = [
    ("lookup", opcode::OpenAt2::CODE),
    ("getattr", opcode::Statx::CODE),
    ("create", opcode::OpenAt2::CODE),
    ("exclusive", opcode::SetXattr::CODE),
    ("mkdir", opcode::MkDirAt::CODE),
    ("symlink", opcode::SymlinkAt::CODE),
    ("link", opcode::LinkAt::CODE),
    ("rename", opcode::RenameAt::CODE),
    ("remove", opcode::UnlinkAt::CODE),
    ("rmdir", opcode::UnlinkAt::CODE),
    ("read", opcode::Read::CODE),
    ("read", opcode::OpenAt::CODE),
    ("write", opcode::Write::CODE),
    ("write", opcode::Fsync::CODE),
    ("access", opcode::GetXattr::CODE),
];

#[test]
fn every_failure_is_reported_and_leaves_nothing() {
    trees(|t| async move {
        let user = Cred::new(1000, 100, &[]);
        let mut reported = std::collections::BTreeSet::new();
        let codes = REPORTS.map(|(_, code)| code);
        for code in codes.into_iter().chain([opcode::Ftruncate::CODE]) {
            for which in OPERATIONS {
                for skip in 0..6 {
                    prepare(&t).await;
                    // Nothing held or remembered: every step is taken anew.
                    let fresh = Tree::open(&t.path).await;
                    if which == "commit" {
                        let f = fresh.find("f").await.expect("f").0;
                        fresh
                            .put(&user, &f, 0, b"dirty")
                            .await
                            .result
                            .expect("write");
                    }
                    fail(code, skip);
                    let result = operate(&fresh, which, &user).await;
                    fault::set(Vec::new());
                    match result {
                        Err(ODD) => drop(reported.insert((which, code))),
                        other => assert_eq!(other, Ok(()), "{which}, opcode {code}, skip {skip}"),
                    }
                    // And it works the next time, from the state it left.
                    if result.is_err() && which == "read" {
                        assert_eq!(operate(&fresh, which, &user).await, Ok(()));
                    }
                }
            }
        }
        if exec::with_ring(|r| r.policy()) == IoPolicy::Ring {
            for pair in REPORTS {
                assert!(reported.contains(&pair), "{pair:?} was swallowed");
            }
            assert!(reported.contains(&("truncate", opcode::Ftruncate::CODE)));
            assert!(reported.contains(&("commit", opcode::Fsync::CODE)));
        }
    });
}

#[test]
fn a_failed_fsync_changes_the_verifier() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let first = t.vfs.write_verifier();
        t.put(&root, &file, 0, b"text").await.result.expect("write");
        t.vfs
            .commit(&root, &file, 0, 0)
            .await
            .result
            .expect("commit");
        assert_eq!(t.vfs.write_verifier(), first);
        t.put(&root, &file, 0, b"text").await.result.expect("write");
        inject(opcode::Fsync::CODE, Fault::Fail(libc::EIO), 0, 1);
        assert_eq!(
            t.vfs.commit(&root, &file, 0, 0).await.result,
            Err(Errno::EIO)
        );
        let second = t.vfs.write_verifier();
        assert_ne!(second, first);
        assert_eq!(
            t.vfs.commit(&root, &file, 0, 0).await.result,
            Ok(()),
            "told once"
        );
        assert_eq!(t.vfs.write_verifier(), second);
        inject(opcode::Fsync::CODE, Fault::Fail(libc::ENOSPC), 0, 1);
        let wrote = t
            .vfs
            .write(&root, &file, 0, slice(b"x"), Stable::FileSync)
            .await;
        assert_eq!(wrote.result, Err(Errno::ENOSPC));
        assert_ne!(t.vfs.write_verifier(), second);
        assert!(wrote.wcc.after.is_some());
        inject(opcode::Fsync::CODE, Fault::Fail(libc::EIO), 0, 1);
        assert_eq!(t.vfs.settle(&[&t.root]).await, Err(Errno::EIO));
        fault::set(Vec::new());
        assert_eq!(t.vfs.settle(&[&t.root]).await, Ok(()));
    });
}

#[test]
fn short_reads_and_writes_are_completed() {
    trees(|t| async move {
        let root = Cred::root();
        let user = Cred::new(1000, 100, &[]);
        let file = t.make(&user, "f").await;
        let text: Vec<u8> = (0..100_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        for cred in [&root, &user] {
            inject(opcode::Write::CODE, Fault::Short, 0, u64::MAX);
            let wrote = t.put(cred, &file, 3, &text).await.result.expect("write");
            assert_eq!(wrote.count as usize, text.len());
            inject(opcode::Read::CODE, Fault::Short, 0, u64::MAX);
            let (read, eof) = t.get(cred, &file, 3, 200_000).await.expect("read");
            assert!(read == text && eof);
            // An error after some of it: what went through counts.
            let (short, failed) = (Fault::Short, Fault::Fail(libc::EIO));
            for code in [opcode::Write::CODE, opcode::Read::CODE] {
                let first = Rule {
                    code,
                    fault: short,
                    skip: 0,
                    count: 1,
                };
                let then = Rule {
                    code,
                    fault: failed,
                    skip: 0,
                    count: 1,
                };
                fault::set(vec![first, then]);
                if code == opcode::Write::CODE {
                    match t.put(&user, &file, 3, &text).await.result {
                        Ok(wrote) => assert!([50_000, 100_000].contains(&wrote.count)),
                        Err(e) => panic!("{e:?}"),
                    }
                } else {
                    let (read, eof) = t.get(cred, &file, 3, 100_003).await.expect("read");
                    assert!(text.starts_with(&read) && !read.is_empty());
                    assert_eq!(eof, read.len() == text.len());
                }
            }
            fault::set(Vec::new());
        }
        assert_eq!(std::fs::read(t.path.join("f")).expect("read")[3..], text);
    });
}

#[test]
fn socket_operations_fail_and_come_back_short() {
    let _alone = alone();
    run(&config(IoPolicy::Ring), async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let listener: Arc<OwnedFd> = Arc::new(listener.into());
        fail(opcode::AcceptMulti::CODE, 0);
        let mut accept = net_ops::accept(&listener);
        assert_eq!(accept.next().await.map(|r| r.map(drop)), Some(Err(ODD)));
        assert!(accept.next().await.is_none());
        let mut accept = net_ops::accept(&listener);
        let mut far = TcpStream::connect(address).expect("connect");
        let near = accept.next().await.expect("item").expect("socket");
        let socket = Arc::new(OpenFd::new_socket(near));

        fail(opcode::RecvMulti::CODE, 0);
        let mut recv = net_ops::recv_multi(&socket);
        assert_eq!(recv.next().await.map(|r| r.map(drop)), Some(Err(ODD)));
        assert!(recv.next().await.is_none());
        fail(opcode::Recv::CODE, 0);
        let buf = exec::with_ring(|r| r.pool.try_get(100)).expect("buf");
        let (n, buf) = net_ops::recv(&socket, buf, 0..100, net_ops::Patience::Much).await;
        assert_eq!(n, Err(ODD));
        far.write_all(&[5; 100]).expect("write");
        inject(opcode::Recv::CODE, Fault::Short, 0, 1);
        let (n, buf) = net_ops::recv(&socket, buf, 0..100, net_ops::Patience::Much).await;
        assert_eq!(n, Ok(50));
        let (n, buf) = net_ops::recv(&socket, buf, 50..100, net_ops::Patience::Much).await;
        assert_eq!((n, &buf[..]), (Ok(50), &[5; 100][..]));
        drop(buf);

        fail(opcode::SendMsg::CODE, 0);
        let text = || vec![Segment::Bytes(vec![1; 10]), Segment::Bytes(vec![2; 30])];
        let (n, back) = net_ops::send(&socket, text(), 4).await;
        assert_eq!((n, back.len()), (Err(ODD), 2));
        inject(opcode::SendMsg::CODE, Fault::Short, 0, 1);
        let (n, _) = net_ops::send(&socket, back, 4).await;
        assert_eq!(n, Ok(18));
        let (n, _) = net_ops::send(&socket, vec![Segment::Bytes(vec![2; 18])], 0).await;
        assert_eq!(n, Ok(18));
        let mut got = [0; 36];
        std::io::Read::read_exact(&mut far, &mut got).expect("read");
        assert!(got[..6] == [1; 6] && got[6..] == [2; 30]);
        let (n, _) = net_ops::send(&socket, text(), 11).await;
        assert_eq!(n, Err(Errno::EINVAL), "skips more than the first segment");
        fault::set(Vec::new());
        drop(accept);
    });
}

/// Dropped before the forced completion arrives: as with a real one, nothing stays.
#[test]
fn dropped_failures_leave_nothing() {
    let _alone = alone();
    run(&config(IoPolicy::Ring), async {
        let file = std::fs::File::open("/dev/zero").expect("open");
        let file = Arc::new(OpenFd::new(file.into()));
        for _ in 0..10 {
            inject(opcode::Read::CODE, Fault::Fail(libc::EIO), 0, 1);
            let buf = exec::with_ring(|r| r.pool.try_get(100)).expect("buf");
            let read = file_ops::read(&file, buf, 0..100, 0);
            let now = std::time::Duration::ZERO;
            assert!(exec::timeout(now, read).await.is_none());
        }
        fault::set(Vec::new());
    });
}

#[test]
fn rules_are_parsed() {
    let rules = fault::parse("22:5,23:short:3,3:28:0:1").expect("good rules");
    assert_eq!(rules.len(), 3);
    assert_eq!((rules[1].fault, rules[1].skip), (Fault::Short, 3));
    assert_eq!(
        (rules[2].code, rules[2].fault, rules[2].count),
        (3, Fault::Fail(28), 1)
    );
    for bad in ["", "22", "x:5", "22:y", "22:5:z", "22:5,"] {
        assert!(fault::parse(bad).is_err(), "{bad}");
    }
}
