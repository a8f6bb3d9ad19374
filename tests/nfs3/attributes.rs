//! GETATTR, SETATTR and ACCESS.

use std::os::unix::fs::MetadataExt as _;

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{
    Createhow3, Ftype3, Mknoddata3, Nfstime3, Sattr3, SetTime, StableHow, access,
};
use tests::client::Login;
use tests::client::nfs3::{Outcome as _, mode, size};
use tests::daemon::{Setup, TestServer, policies};

use super::{exact_wcc, times};

const ALL: u32 = 0x3f;

#[test]
fn getattr_says_what_the_file_system_says() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o4751);
        client
            .write(&file, 0, &[7; 5000], StableHow::Unstable)
            .expect("WRITE");
        let dir = client.new_dir(&root, b"dir", 0o1735);
        let link = client
            .symlink(&root, b"link", b"target")
            .expect("SYMLINK")
            .fh;
        let fifo = client.mknod(&root, b"fifo", Mknoddata3::Fifo(mode(0o640)));
        let fifo = fifo.expect("MKNOD").fh;
        client.link(&file, &root, b"second").expect("LINK");
        for (fh, name, kind) in [
            (&root, "", Ftype3::Dir),
            (&file, "file", Ftype3::Reg),
            (&dir, "dir", Ftype3::Dir),
            (&link, "link", Ftype3::Lnk),
            (&fifo, "fifo", Ftype3::Fifo),
        ] {
            let attr = client.attr(fh);
            let real = std::fs::symlink_metadata(server.export().join(name)).expect(name);
            assert_eq!(attr.ftype, kind);
            let got = (attr.mode, attr.nlink, attr.uid, attr.gid, attr.size);
            let mode = real.mode() & 0o7777;
            let expected = (
                mode,
                real.nlink() as u32,
                real.uid(),
                real.gid(),
                real.size(),
            );
            assert_eq!(got, expected, "{name}");
            assert_eq!(attr.fileid, real.ino(), "{name}");
            let expected = [
                (real.atime(), real.atime_nsec()),
                (real.mtime(), real.mtime_nsec()),
                (real.ctime(), real.ctime_nsec()),
            ];
            let expected = expected.map(|(s, n)| (s as u32, n as u32));
            assert_eq!(times(&attr), expected, "{name}");
        }
        assert_eq!(client.attr(&file).nlink, 2);
        let fsid = client.attr(&root).fsid;
        assert_eq!(client.attr(&file).fsid, fsid);
    }
}

#[test]
fn setattr_of_everything() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o600);
        client
            .write(&file, 0, b"0123456789", StableHow::Unstable)
            .expect("WRITE");
        let before = client.attr(&file);
        let at = |seconds, nseconds| SetTime::SetToClientTime(Nfstime3 { seconds, nseconds });
        let set = Sattr3 {
            mode: Some(0o100_6755),
            uid: Some(1234),
            gid: Some(5678),
            size: Some(4),
            atime: at(1_000_000_000, 1),
            mtime: at(u32::MAX, 999_999_999),
        };
        let wcc = client.setattr(&file, set, None).expect("SETATTR");
        let after = client.attr(&file);
        exact_wcc(&wcc, &before, &after);
        assert_eq!((after.mode, after.uid, after.gid), (0o6755, 1234, 5678));
        assert_eq!(after.size, 4);
        let [atime, mtime, _] = times(&after);
        assert_eq!(atime, (1_000_000_000, 1));
        // ext4 keeps times to 2446; the wire to 2106.
        assert_eq!(mtime, (u32::MAX, 999_999_999));
        assert_eq!(client.read(&file, 0, 100).expect("READ").data, b"0123");
        // Growing leaves a hole of zeros.
        client.setattr(&file, size(8), None).expect("SETATTR");
        let grown = client.read(&file, 0, 100).expect("READ");
        assert_eq!(grown.data, b"0123\0\0\0\0");
        // Server time.
        let set = Sattr3 {
            atime: SetTime::SetToServerTime,
            mtime: SetTime::SetToServerTime,
            ..Sattr3::default()
        };
        client.setattr(&file, set, None).expect("SETATTR");
        let now = client.attr(&file);
        assert!(now.mtime.seconds > 1_600_000_000 && now.mtime.seconds < u32::MAX);
        assert_eq!(now.atime, now.mtime);
        // Nothing to set: nothing happens.
        let wcc = client.setattr(&file, Sattr3::default(), None);
        exact_wcc(&wcc.expect("SETATTR"), &now, &now);
    }
}

#[test]
fn setattr_guard() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o600);
    let ctime = client.attr(&file).ctime;
    client
        .setattr(&file, mode(0o640), Some(ctime))
        .expect("the guard holds");
    // A change of the clock's granularity at least: the old time is not the file's any more.
    std::thread::sleep(std::time::Duration::from_millis(20));
    client.setattr(&file, mode(0o644), None).expect("SETATTR");
    let before = client.attr(&file);
    assert_ne!(before.ctime, ctime);
    let refused = client.setattr(&file, mode(0o777), Some(ctime));
    let fail = refused.expect_err("the guard is old");
    assert_eq!(fail.status, Nfsstat3::NotSync);
    exact_wcc(&fail.with, &before, &before);
    assert_eq!(client.attr(&file).mode, 0o644);
    let impossible = Nfstime3 {
        seconds: 1,
        nseconds: 1_000_000_000,
    };
    let refused = client.setattr(&file, mode(0o777), Some(impossible));
    assert_eq!(refused.status(), Nfsstat3::Inval);
}

#[test]
fn setattr_errors() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    let dir = client.new_dir(&root, b"dir", 0o755);
    let link = client.symlink(&root, b"link", b"file").expect("SYMLINK").fh;
    let fifo = client.mknod(&root, b"fifo", Mknoddata3::Fifo(mode(0o600)));
    let fifo = fifo.expect("MKNOD").fh;
    assert_eq!(
        client.setattr(&dir, size(0), None).status(),
        Nfsstat3::Isdir
    );
    assert_eq!(
        client.setattr(&fifo, size(0), None).status(),
        Nfsstat3::Inval
    );
    assert_eq!(
        client.setattr(&link, size(0), None).status(),
        Nfsstat3::Inval
    );
    let too_big = client.setattr(&file, size(1 << 63), None);
    assert_eq!(too_big.status(), Nfsstat3::Fbig);
    let too_big = client.setattr(&file, size(i64::MAX as u64), None);
    assert_eq!(too_big.status(), Nfsstat3::Fbig);
    let bad_time = Sattr3 {
        mtime: SetTime::SetToClientTime(Nfstime3 {
            seconds: 0,
            nseconds: 1_000_000_000,
        }),
        ..Sattr3::default()
    };
    assert_eq!(
        client.setattr(&file, bad_time, None).status(),
        Nfsstat3::Inval
    );

    client.set_login(Login::user(1000, 1000));
    let before = client.attr(&file);
    let chown = Sattr3 {
        uid: Some(1000),
        ..Sattr3::default()
    };
    let now = Sattr3 {
        atime: SetTime::SetToServerTime,
        mtime: SetTime::SetToServerTime,
        ..Sattr3::default()
    };
    let then = Sattr3 {
        mtime: SetTime::SetToClientTime(Nfstime3 {
            seconds: 1,
            nseconds: 1,
        }),
        ..Sattr3::default()
    };
    for (set, status) in [
        (mode(0o777), Nfsstat3::Perm),
        (chown, Nfsstat3::Perm),
        (size(0), Nfsstat3::Acces),
        (now, Nfsstat3::Acces),
        (then, Nfsstat3::Perm),
    ] {
        let fail = client.setattr(&file, set, None).expect_err("not the owner");
        assert_eq!(fail.status, status, "{set:?}");
        exact_wcc(&fail.with, &before, &before);
    }
}

/// The owner may truncate and write whatever the mode says (RFC 1813 4.4), and others may not.
#[test]
fn the_owner_overrides_the_mode_of_data() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        client.set_login(Login::user(1000, 1000));
        let file = client.new_file(&root, b"file", 0o000);
        client
            .write(&file, 0, b"0123456789", StableHow::Unstable)
            .expect("WRITE by the owner");
        let read = client.read(&file, 0, 100).expect("READ by the owner");
        assert_eq!(read.data, b"0123456789");
        client.setattr(&file, size(3), None).expect("truncation");
        client.commit(&file, 0, 0).expect("COMMIT by the owner");
        // ACCESS still says what the mode says.
        assert_eq!(client.access(&file, ALL).expect("ACCESS").access, 0);
        client.set_login(Login::user(1001, 1001));
        assert_eq!(client.read(&file, 0, 1).status(), Nfsstat3::Acces);
        let write = client.write(&file, 0, b"x", StableHow::Unstable);
        assert_eq!(write.status(), Nfsstat3::Acces);
        assert_eq!(
            client.setattr(&file, size(0), None).status(),
            Nfsstat3::Acces
        );
    }
}

/// A file that may be executed may be read: a client has to, to run it (RFC 1813 4.4).
#[test]
fn execute_permission_reads() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o711);
    client
        .write(&file, 0, b"program", StableHow::Unstable)
        .expect("WRITE");
    client.set_login(Login::user(1000, 1000));
    let read = client.read(&file, 0, 100).expect("READ to execute");
    assert_eq!(read.data, b"program");
    let bits = client.access(&file, ALL).expect("ACCESS").access;
    assert_eq!(bits, access::EXECUTE);
}

#[test]
fn access_by_owner_group_and_others() {
    use access::{DELETE, EXECUTE, EXTEND, LOOKUP, MODIFY, READ};
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o640);
        let dir = client.new_dir(&root, b"dir", 0o750);
        let own = Sattr3 {
            uid: Some(1000),
            gid: Some(2000),
            ..Sattr3::default()
        };
        for fh in [&file, &dir] {
            client.setattr(fh, own, None).expect("chown");
        }
        let member = Login::Sys {
            uid: 1001,
            gid: 1,
            gids: vec![2000],
        };
        let changes = MODIFY | EXTEND | DELETE;
        for (login, of_file, of_dir) in [
            (
                Login::user(1000, 1),
                READ | MODIFY | EXTEND,
                READ | LOOKUP | changes,
            ),
            (Login::user(1001, 2000), READ, READ | LOOKUP),
            (member, READ, READ | LOOKUP),
            (Login::user(1001, 1), 0, 0),
            (
                Login::root(),
                READ | MODIFY | EXTEND,
                READ | LOOKUP | changes,
            ),
        ] {
            client.set_login(login.clone());
            let got = client.access(&file, ALL).expect("ACCESS");
            assert_eq!(got.access, of_file, "file, {login:?}");
            assert_eq!(got.obj_attributes, Some(client.attr(&file)));
            let got = client.access(&dir, ALL).expect("ACCESS");
            assert_eq!(got.access, of_dir, "directory, {login:?}");
            // Only what is asked for, and nothing that is no bit.
            let got = client.access(&file, READ | EXECUTE).expect("ACCESS");
            assert_eq!(got.access, of_file & (READ | EXECUTE));
            assert_eq!(client.access(&file, 0).expect("ACCESS").access, 0);
            let got = client.access(&file, !ALL).expect("ACCESS");
            assert_eq!(got.access, 0);
        }
    }
}

/// All sixteen supplementary groups of AUTH_SYS count, in ACCESS as in what really happens.
#[test]
fn sixteen_groups() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let gids: Vec<u32> = (3000..3016).collect();
        for gid in &gids {
            let name = format!("of{gid}").into_bytes();
            let dir = client.new_dir(&root, &name, 0o770);
            let own = Sattr3 {
                gid: Some(*gid),
                mode: Some(0o770),
                ..Sattr3::default()
            };
            client.setattr(&dir, own, None).expect("chgrp");
        }
        for gid in &gids {
            let name = format!("of{gid}").into_bytes();
            let dir = client.fh_of(&root, &name);
            let login = Login::Sys {
                uid: 1000,
                gid: 1000,
                gids: gids.clone(),
            };
            client.as_user(login, |c| {
                let made = c.create(&dir, b"f", Createhow3::Guarded(mode(0o600)));
                let attr = made.expect("CREATE by a group").attr;
                assert_eq!((attr.uid, attr.gid), (1000, 1000));
                c.remove(&dir, b"f").expect("REMOVE by a group");
            });
            let login = Login::Sys {
                uid: 1000,
                gid: 1000,
                gids: gids.iter().copied().filter(|g| g != gid).collect(),
            };
            let status = client.as_user(login, |c| {
                c.create(&dir, b"f", Createhow3::Guarded(mode(0o600)))
                    .status()
            });
            assert_eq!(status, Nfsstat3::Acces, "not a member of {gid}");
        }
    }
}

/// Setuid and setgid go when somebody else writes (the kernel's own rule), and a setgid directory gives its group.
#[test]
fn setuid_and_setgid() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o6777);
    let dir = client.new_dir(&root, b"dir", 0o777);
    let group = Sattr3 {
        gid: Some(4000),
        mode: Some(0o2777),
        ..Sattr3::default()
    };
    client.setattr(&dir, group, None).expect("chgrp");
    assert_eq!(client.attr(&dir).mode, 0o2777);
    client.set_login(Login::user(1000, 1000));
    client
        .write(&file, 0, b"x", StableHow::Unstable)
        .expect("WRITE");
    assert_eq!(client.attr(&file).mode, 0o777);
    let made = client.create(&dir, b"f", Createhow3::Guarded(mode(0o644)));
    assert_eq!(made.expect("CREATE").attr.gid, 4000);
    let made = client.mkdir(&dir, b"d", mode(0o755)).expect("MKDIR");
    assert_eq!((made.attr.gid, made.attr.mode), (4000, 0o2755));
}
