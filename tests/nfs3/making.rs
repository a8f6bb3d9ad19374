//! CREATE, MKDIR, SYMLINK and MKNOD.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Mknod3Args;
use nfsd::nfs3::res::Create3Res;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{
    Createhow3, Devicedata3, Ftype3, Mknoddata3, Nfstime3, Sattr3, SetTime, Specdata3, StableHow,
    WccData,
};
use tests::client::nfs3::{Done, Made, Outcome as _, at, mode, size};
use tests::client::{Client, Login};
use tests::daemon::{Setup, TestServer, policies};

use super::exact_wcc;

/// Makes a thing of each kind under a name.
type Make = fn(&mut Client, &[u8], &[u8]) -> Done<Made, WccData>;

const KINDS: [(&str, Make); 7] = [
    ("UNCHECKED", |c, d, n| {
        c.create(d, n, Createhow3::Unchecked(mode(0o640)))
    }),
    ("GUARDED", |c, d, n| {
        c.create(d, n, Createhow3::Guarded(mode(0o640)))
    }),
    ("EXCLUSIVE", |c, d, n| {
        c.create(d, n, Createhow3::Exclusive(*b"verifier"))
    }),
    ("MKDIR", |c, d, n| c.mkdir(d, n, mode(0o750))),
    ("SYMLINK", |c, d, n| c.symlink(d, n, b"to")),
    ("MKNOD fifo", |c, d, n| {
        c.mknod(d, n, Mknoddata3::Fifo(mode(0o640)))
    }),
    ("MKNOD socket", |c, d, n| {
        c.mknod(d, n, Mknoddata3::Sock(mode(0o640)))
    }),
];

#[test]
fn create_mkdir_symlink_and_mknod() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o777);
        for login in [Login::root(), Login::user(1000, 1001)] {
            let ids = match &login {
                Login::Sys { uid, gid, .. } => (*uid, *gid),
                _ => unreachable!("AUTH_SYS only"),
            };
            client.set_login(login.clone());
            for (what, make) in KINDS {
                let name = format!("{what} of {}", ids.0).into_bytes();
                let before = client.attr(&dir);
                let made = make(&mut client, &dir, &name);
                let made = made.unwrap_or_else(|e| panic!("{what}: {e:?}"));
                exact_wcc(&made.dir, &before, &client.attr(&dir));
                assert_ne!(
                    made.dir.before.map(|a| a.mtime),
                    made.dir.after.map(|a| a.mtime)
                );
                assert_eq!((made.attr.uid, made.attr.gid), ids, "{what}");
                assert_eq!(made.attr, client.attr(&made.fh), "{what}");
                let found = client.lookup(&dir, &name).expect("LOOKUP");
                assert_eq!(found.fh, made.fh, "{what}");
                let (kind, bits) = match what {
                    "EXCLUSIVE" => (Ftype3::Reg, made.attr.mode),
                    "MKDIR" => (Ftype3::Dir, 0o750),
                    "SYMLINK" => (Ftype3::Lnk, 0o777),
                    "MKNOD fifo" => (Ftype3::Fifo, 0o640),
                    "MKNOD socket" => (Ftype3::Sock, 0o640),
                    _ => (Ftype3::Reg, 0o640),
                };
                assert_eq!((made.attr.ftype, made.attr.mode), (kind, bits), "{what}");
            }
        }
    }
}

#[test]
fn errors_of_every_kind() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        client.new_file(&root, b"file", 0o644);
        let file = client.fh_of(&root, b"file");
        client.new_dir(&root, b"dir", 0o755);
        let dir = client.fh_of(&root, b"dir");
        client.symlink(&root, b"link", b"dir").expect("SYMLINK");
        let link = client.fh_of(&root, b"link");
        let long = [b'n'; 256];
        for (what, make) in KINDS {
            let before = client.attr(&root);
            let mut status = |dir: &[u8], name: &[u8]| make(&mut client, dir, name).status();
            let exist = match what {
                // An existing regular file is fine; anything else in its place is not.
                "UNCHECKED" => Nfsstat3::Ok,
                _ => Nfsstat3::Exist,
            };
            assert_eq!(status(&root, b"file"), exist, "{what}");
            assert_eq!(status(&root, b"dir"), Nfsstat3::Exist, "{what}");
            assert_eq!(status(&root, b"."), Nfsstat3::Exist, "{what}");
            assert_eq!(status(&root, b".."), Nfsstat3::Exist, "{what}");
            assert_eq!(status(&file, b"x"), Nfsstat3::Notdir, "{what}");
            assert_eq!(status(&link, b"x"), Nfsstat3::Notdir, "{what}");
            assert_eq!(status(&root, &long), Nfsstat3::Nametoolong, "{what}");
            assert_eq!(status(&root, b"a/b"), Nfsstat3::Acces, "{what}");
            assert_eq!(status(&root, b"a\0b"), Nfsstat3::Inval, "{what}");
            assert_eq!(status(&root, b""), Nfsstat3::Acces, "{what}");
            client.set_login(Login::user(1000, 1000));
            let fail = make(&mut client, &dir, b"x").expect_err("mode 755");
            assert_eq!(fail.status, Nfsstat3::Acces, "{what}");
            client.set_login(Login::root());
            let attr = client.attr(&dir);
            exact_wcc(&fail.with, &attr, &attr);
            assert_eq!(client.attr(&root), before, "{what}: nothing has changed");
        }
        // Symbolic links are never followed, not even to where nothing is.
        client
            .symlink(&root, b"dangling", b"nowhere")
            .expect("SYMLINK");
        let made = client.create(&root, b"dangling", Createhow3::Unchecked(mode(0o644)));
        if let Ok(made) = made {
            assert_eq!(made.attr.ftype, Ftype3::Lnk);
        }
        assert_eq!(client.lookup(&root, b"nowhere").status(), Nfsstat3::Noent);
    }
}

/// Bytes are a name: no encoding is asked for, and 255 of them fit.
#[test]
fn names_are_bytes() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let names: [&[u8]; 6] = [
        &[0xff, 0xfe, 1],
        b"blank and\ttab\n",
        "gr\u{fc}n".as_bytes(),
        &[b'x'; 255],
        b"...",
        b"\\",
    ];
    for name in names {
        let made = client.new_file(&root, name, 0o600);
        assert_eq!(client.fh_of(&root, name), made);
    }
    let listed: Vec<Vec<u8>> = client
        .list(&root, 4096)
        .into_iter()
        .map(|e| e.name)
        .collect();
    for name in names {
        assert!(listed.iter().any(|n| n == name), "{name:?}");
        client.remove(&root, name).expect("REMOVE");
    }
}

#[test]
fn attributes_given_with_create() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let time = |seconds| {
        SetTime::SetToClientTime(Nfstime3 {
            seconds,
            nseconds: 5,
        })
    };
    let all = Sattr3 {
        mode: Some(0o4711),
        uid: Some(77),
        gid: Some(88),
        size: Some(1000),
        atime: time(1_000),
        mtime: time(2_000),
    };
    let made = client.create(&root, b"file", Createhow3::Guarded(all));
    let attr = made.expect("CREATE").attr;
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o4711, 77, 88));
    assert_eq!(
        (attr.size, attr.atime.seconds, attr.mtime.seconds),
        (1000, 1000, 2000)
    );
    let made = client.mkdir(&root, b"dir", Sattr3 { size: None, ..all });
    let attr = made.expect("MKDIR").attr;
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o4711, 77, 88));
    assert_eq!(attr.mtime.seconds, 2000);
    // What only the superuser may give is left out, as Linux does.
    client.set_login(Login::user(1000, 1000));
    let made = client.create(&root, b"mine", Createhow3::Guarded(all));
    let attr = made.expect("CREATE").attr;
    assert_eq!((attr.uid, attr.gid), (1000, 1000));
    // Without a mode.
    let made = client.create(&root, b"plain", Createhow3::Guarded(Sattr3::default()));
    let attr = made.expect("CREATE").attr;
    assert_eq!(attr.mode & !0o666, 0);
    let bad = Sattr3 {
        mtime: SetTime::SetToClientTime(Nfstime3 {
            seconds: 0,
            nseconds: u32::MAX,
        }),
        ..Sattr3::default()
    };
    let made = client.create(&root, b"bad", Createhow3::Guarded(bad));
    assert_eq!(made.status(), Nfsstat3::Inval);
    assert_eq!(client.lookup(&root, b"bad").status(), Nfsstat3::Noent);
}

/// UNCHECKED on what is there changes nothing but the size asked for.
#[test]
fn unchecked_on_an_existing_file() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    client
        .write(&file, 0, b"0123456789", StableHow::FileSync)
        .expect("WRITE");
    let made = client.create(&root, b"file", Createhow3::Unchecked(mode(0o777)));
    let made = made.expect("CREATE");
    assert_eq!(made.fh, file);
    assert_eq!((made.attr.size, made.attr.mode), (10, 0o644));
    let made = client.create(&root, b"file", Createhow3::Unchecked(size(4)));
    assert_eq!(made.expect("CREATE").attr.size, 4);
    let made = client.create(&root, b"file", Createhow3::Unchecked(size(0)));
    assert_eq!(made.expect("CREATE").attr.size, 0);
    client
        .write(&file, 0, b"0123456789", StableHow::FileSync)
        .expect("WRITE");
    // Who may not write it may not empty it.
    client.set_login(Login::user(1000, 1000));
    let made = client.create(&root, b"file", Createhow3::Unchecked(size(0)));
    assert_eq!(made.status(), Nfsstat3::Acces);
    assert_eq!(client.attr(&file).size, 10);
}

/// The same EXCLUSIVE again is the same file: over the connection, over another, by another life of the server; with
/// every bit of the verifier counting.
#[test]
fn exclusive_replays() {
    for policy in policies() {
        let mut server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let verf = [1, 2, 3, 4, 0xff, 6, 0x80, 0];
        let exclusive = Createhow3::Exclusive;
        let first = client
            .create(&root, b"lock", exclusive(verf))
            .expect("CREATE");
        let again = client
            .create(&root, b"lock", exclusive(verf))
            .expect("CREATE");
        assert_eq!(again.fh, first.fh);
        for bit in 0..64 {
            let mut other = verf;
            other[bit / 8] ^= 1 << (bit % 8);
            let refused = client.create(&root, b"lock", exclusive(other));
            assert_eq!(refused.status(), Nfsstat3::Exist, "bit {bit}");
        }
        // What Linux clients do next must not make the replay fail, and the verifier must not show.
        let stat = std::fs::metadata(server.export().join("lock")).expect("the file");
        let age = stat.modified().expect("mtime").elapsed();
        assert!(
            age.is_ok_and(|age| age.as_secs() < 3600),
            "mtime is used as a verifier"
        );
        client.read(&first.fh, 0, 1).expect("READ");
        client
            .setattr(&first.fh, mode(0o640), None)
            .expect("SETATTR");
        drop(client);
        server.kill9();
        server.start_again();
        let mut client = server.client();
        let again = client
            .create(&root, b"lock", exclusive(verf))
            .expect("CREATE");
        assert_eq!(again.fh, first.fh);
        let refused = client.create(&root, b"lock", exclusive([0; 8]));
        assert_eq!(refused.status(), Nfsstat3::Exist);
        // Once it has data, it is in use: whoever asks again comes too late.
        client
            .write(&first.fh, 0, b"x", StableHow::Unstable)
            .expect("WRITE");
        let refused = client.create(&root, b"lock", exclusive(verf));
        assert_eq!(refused.status(), Nfsstat3::Exist);
        // A file made otherwise is not one made with any verifier.
        client.new_file(&root, b"plain", 0o644);
        for verf in [[0; 8], verf] {
            let refused = client.create(&root, b"plain", exclusive(verf));
            assert_eq!(refused.status(), Nfsstat3::Exist);
        }
        // A new file under the name is another file.
        client.remove(&root, b"lock").expect("REMOVE");
        let fresh = client
            .create(&root, b"lock", exclusive([0; 8]))
            .expect("CREATE");
        assert_ne!(fresh.fh, first.fh);
    }
}

#[test]
fn devices() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let device = |major, minor| Devicedata3 {
        dev_attributes: mode(0o600),
        spec: Specdata3 {
            specdata1: major,
            specdata2: minor,
        },
    };
    let made = client.mknod(&root, b"null", Mknoddata3::Chr(device(1, 3)));
    let attr = made.expect("MKNOD").attr;
    assert_eq!((attr.ftype, attr.rdev), (Ftype3::Chr, device(1, 3).spec));
    let made = client.mknod(&root, b"disk", Mknoddata3::Blk(device(4095, 0xf_ffff)));
    let attr = made.expect("MKNOD").attr;
    assert_eq!(
        (attr.ftype, attr.rdev),
        (Ftype3::Blk, device(4095, 0xf_ffff).spec)
    );
    let made = client.mknod(&root, b"big", Mknoddata3::Chr(device(4096, 0)));
    assert_eq!(made.status(), Nfsstat3::Inval);
    // A device of the server's is never opened: what it is, is the client's business.
    let null = client.fh_of(&root, b"null");
    assert_eq!(client.read(&null, 0, 10).status(), Nfsstat3::Inval);
    let write = client.write(&null, 0, b"x", StableHow::Unstable);
    assert_eq!(write.status(), Nfsstat3::Inval);
    client.set_login(Login::user(1000, 1000));
    let made = client.mknod(&root, b"mine", Mknoddata3::Chr(device(1, 3)));
    assert_eq!(made.status(), Nfsstat3::Perm);
}

/// Types MKNOD does not make are BADTYPE, not garbage (RFC 1813 3.3.11).
#[test]
fn mknod_of_other_types() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    for kind in [0, 1, 2, 5, 8, u32::MAX] {
        let args = Mknod3Args {
            where_: at(&root, b"odd"),
            what: Mknoddata3::Other(kind),
        };
        let answer = client.nfs(Proc3::Mknod, &args);
        let res: Create3Res<'_> = answer.results();
        assert_eq!(res.status(), Nfsstat3::Badtype, "{kind}");
    }
    assert_eq!(client.lookup(&root, b"odd").status(), Nfsstat3::Noent);
}

#[test]
fn symlink_and_readlink_keep_targets() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let long = [b'/'; 4095];
    for (n, target) in [&b"file"[..], b"/etc/passwd", b"../../..", &[0xff, 1], &long]
        .iter()
        .enumerate()
    {
        let name = format!("link{n}").into_bytes();
        let made = client.symlink(&root, &name, target).expect("SYMLINK");
        assert_eq!(made.attr.size as usize, target.len());
        let (read, attr) = client.readlink(&made.fh).expect("READLINK");
        assert_eq!(&read, target);
        let now = client.attr(&made.fh);
        assert_eq!(
            attr.map(|a| (a.fileid, a.mtime)),
            Some((now.fileid, now.mtime))
        );
    }
    for (target, status) in [
        (&b""[..], &[Nfsstat3::Inval, Nfsstat3::Noent][..]),
        (b"nul\0byte", &[Nfsstat3::Inval]),
        (&[b'x'; 4096], &[Nfsstat3::Nametoolong]),
        (&[b'x'; 8192], &[Nfsstat3::Nametoolong]),
    ] {
        let made = client.symlink(&root, b"bad", target);
        assert!(
            status.contains(&made.status()),
            "{}: {}",
            target.len(),
            made.status()
        );
    }
    let file = client.new_file(&root, b"file", 0o644);
    let fail = client.readlink(&file).expect_err("no symbolic link");
    assert_eq!(fail.status, Nfsstat3::Inval);
    assert_eq!(fail.with, Some(client.attr(&file)));
    assert_eq!(client.readlink(&root).status(), Nfsstat3::Inval);
}

/// More links to a directory than ext4 can count would be MLINK; a file of 65,000 names is.
#[test]
fn too_many_links() {
    if !tests::need::soak() {
        return;
    }
    let server = Setup::options("rw,async,no_root_squash,insecure").start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    for n in 1..65_000 {
        let name = format!("{n}");
        let linked = std::fs::hard_link(server.export().join("file"), server.export().join(name));
        linked.expect("a link");
    }
    assert_eq!(client.attr(&file).nlink, 65_000);
    let refused = client.link(&file, &root, b"one more");
    assert_eq!(refused.status(), Nfsstat3::Mlink);
}
