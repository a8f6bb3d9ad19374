//! What exports(5) options do to requests: read-only, squashing, ports, nesting, file systems below.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use nfsd::mount::types::Mountstat3;
use nfsd::nfs3::Proc3;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, Sattr3, StableHow, access};
use tests::client::nfs3::{Outcome as _, mode, size};
use tests::client::{Client, Login};
use tests::daemon::{Setup, TestServer, fresh_dir};
use tests::image::Fs;
use tests::loopfs::{LOOP, LoopFs};
use tests::need;

use super::every;

#[test]
fn read_only_exports() {
    let server = Setup::options("ro,no_root_squash,insecure").start();
    std::fs::write(server.export().join("file"), "contents").expect("a file");
    let (mut client, root) = server.mounted();
    let attr = client.attr(&root);
    for (procedure, status) in every(&mut client, &root) {
        let changes = matches!(
            procedure,
            Proc3::Setattr
                | Proc3::Write
                | Proc3::Create
                | Proc3::Mkdir
                | Proc3::Symlink
                | Proc3::Mknod
                | Proc3::Remove
                | Proc3::Rmdir
                | Proc3::Rename
                | Proc3::Link
        );
        assert_eq!(status == Nfsstat3::Rofs, changes, "{procedure}: {status}");
    }
    let now = client.attr(&root);
    assert_eq!(
        (now.mtime, now.ctime, now.mode),
        (attr.mtime, attr.ctime, attr.mode)
    );
    let file = client.fh_of(&root, b"file");
    assert_eq!(client.read(&file, 0, 100).expect("READ").data, b"contents");
    let fail = client.write(&file, 0, b"x", StableHow::Unstable);
    let fail = fail.expect_err("read-only");
    assert_eq!(
        (fail.status, fail.with.after),
        (Nfsstat3::Rofs, Some(client.attr(&file)))
    );
    assert_eq!(
        client.setattr(&file, size(0), None).status(),
        Nfsstat3::Rofs
    );
    let bits = client.access(&file, 0x3f).expect("ACCESS").access;
    assert_eq!(bits & (access::MODIFY | access::EXTEND | access::DELETE), 0);
    let bits = client.access(&root, 0x3f).expect("ACCESS").access;
    assert_eq!(bits, access::READ | access::LOOKUP);
}

/// Who made a file as whom.
#[track_caller]
fn made_by(client: &mut Client, root: &[u8], login: Login) -> (u32, u32) {
    let name = format!("{login:?}").replace('/', "-");
    client.as_user(login, |c| {
        let how = Createhow3::Guarded(mode(0o644));
        let attr = c.create(root, name.as_bytes(), how).expect("CREATE").attr;
        (attr.uid, attr.gid)
    })
}

#[test]
fn squashing() {
    let nobody = 65534;
    let group0 = Login::user(1000, 0);
    for (options, of_root, of_group0, of_user) in [
        (
            "rw,insecure",
            (nobody, nobody),
            (1000, nobody),
            (1000, 1001),
        ),
        (
            "rw,insecure,no_root_squash",
            (0, 0),
            (1000, 0),
            (1000, 1001),
        ),
        (
            "rw,insecure,all_squash",
            (nobody, nobody),
            (nobody, nobody),
            (nobody, nobody),
        ),
        (
            "rw,insecure,all_squash,anonuid=77,anongid=88",
            (77, 88),
            (77, 88),
            (77, 88),
        ),
        (
            "rw,insecure,root_squash,anonuid=77,anongid=88",
            (77, 88),
            (1000, 88),
            (1000, 1001),
        ),
    ] {
        let server = Setup::options(options).start();
        let (mut client, root) = server.mounted();
        let got = (
            made_by(&mut client, &root, Login::root()),
            made_by(&mut client, &root, group0.clone()),
            made_by(&mut client, &root, Login::user(1000, 1001)),
        );
        assert_eq!(got, (of_root, of_group0, of_user), "{options}");
    }
}

/// Squashed root has no privilege: not to read, not to own, and group 0 among the groups is squashed with it.
#[test]
fn squashed_root_is_nobody() {
    let server = Setup::options("rw,insecure,root_squash").start();
    let private = server.export().join("private");
    std::fs::write(&private, "secret").expect("a file");
    let only = |bits| std::fs::set_permissions(&private, std::fs::Permissions::from_mode(bits));
    only(0o600).expect("chmod");
    let (mut client, root) = server.mounted();
    let file = client.fh_of(&root, b"private");
    assert_eq!(client.read(&file, 0, 10).status(), Nfsstat3::Acces);
    assert_eq!(
        client.setattr(&file, mode(0o666), None).status(),
        Nfsstat3::Perm
    );
    assert_eq!(client.remove(&root, b"private").status(), Nfsstat3::Perm);
    let own = Sattr3 {
        uid: Some(0),
        ..Sattr3::default()
    };
    client.new_file(&root, b"mine", 0o644);
    let mine = client.fh_of(&root, b"mine");
    assert_eq!(client.setattr(&mine, own, None).status(), Nfsstat3::Perm);
    only(0o060).expect("chmod");
    client.set_login(Login::Sys {
        uid: 1000,
        gid: 1000,
        gids: vec![0, 5],
    });
    assert_eq!(client.read(&file, 0, 10).status(), Nfsstat3::Acces);
    assert_eq!(
        server.export().join("mine").metadata().expect("stat").uid(),
        65534
    );
}

#[test]
fn secure_ports() {
    if !need::have("secure_ports", &[&[need::Need::Root]]) {
        return;
    }
    let server = Setup::options("rw,no_root_squash").start();
    let mut low = Client::connect_low(server.addr());
    let root = low.mount(&server.export());
    low.attr(&root);
    let mut high = server.client();
    let path = server.export();
    let refused = high.mnt(path.as_os_str().as_encoded_bytes());
    assert_eq!(refused.err(), Some(Mountstat3::Acces));
    for (procedure, status) in every(&mut high, &root) {
        // FSINFO on the way in is no different here: a client that may not mount has no use for it.
        assert_eq!(status, Nfsstat3::Acces, "{procedure}");
    }
    low.attr(&root);
}

/// Clients nobody named get nothing: no mount, and no use of a handle they know from elsewhere.
#[test]
fn clients_not_named() {
    let dir = fresh_dir();
    std::fs::create_dir(dir.path().join("other")).expect("mkdir");
    let exports = "@DIR@/export 127.0.0.1(rw,insecure)\n@DIR@/other 127.0.0.9(rw,insecure)";
    let setup = Setup {
        listen: vec!["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()],
        ..Setup::exports(exports)
    };
    let server = setup.start_in(dir);
    let (mut named, root) = server.mounted();
    named.attr(&root);
    let mut stranger = Client::connect(server.addrs()[1]);
    let path = server.export();
    let refused = stranger.mnt(path.as_os_str().as_encoded_bytes());
    assert_eq!(refused.err(), Some(Mountstat3::Acces));
    super::all_are(&every(&mut stranger, &root), Nfsstat3::Acces);
    assert_eq!(stranger.exports(), []);
    assert_eq!(named.exports().len(), 1);
    let other = server.dir().join("other");
    let refused = named.mnt(other.as_os_str().as_encoded_bytes());
    assert_eq!(refused.err(), Some(Mountstat3::Acces));
}

/// Two exports on one file system, and one inside the other: a handle belongs to the export it came from, with that
/// export's options, and leads nowhere else.
#[test]
fn exports_on_one_file_system() {
    let outer = "@DIR@/outer *(ro,insecure,no_root_squash)";
    let inner = "@DIR@/outer/inner *(rw,insecure,no_root_squash)";
    let beside = "@DIR@/beside *(rw,insecure,no_root_squash)";
    // Which one the server comes to know first must not matter.
    for exports in [[outer, inner, beside], [beside, inner, outer]] {
        one_file_system(&exports.join("\n"));
    }
}

fn one_file_system(exports: &str) {
    let dir = fresh_dir();
    for name in ["outer/inner/deep", "beside"] {
        std::fs::create_dir_all(dir.path().join(name)).expect("mkdir");
    }
    let server = Setup::exports(exports).start_in(dir);
    let mut client = server.client();
    let at = |name: &str| server.dir().join(name);
    let outer = client.mount(&at("outer"));
    let inner = client.mount(&at("outer/inner"));
    let beside = client.mount(&at("beside"));
    let deep = client.mount(&at("outer/inner/deep"));
    assert!(outer != inner && inner != beside && outer != beside);
    // From the nested root there is no way up, not step by step either.
    assert_eq!(client.fh_of(&inner, b".."), inner);
    assert_eq!(client.fh_of(&deep, b".."), inner);
    assert_eq!(client.fh_of(&beside, b".."), beside);
    // The same directory seen through the outer export is read-only.
    let through = client.fh_of(&outer, b"inner");
    assert_eq!(client.attr(&through).fileid, client.attr(&inner).fileid);
    let made = client.mkdir(&through, b"d", mode(0o755));
    if through == inner {
        made.expect("the nested export's own options");
    } else {
        assert_eq!(made.status(), Nfsstat3::Rofs);
        assert_eq!(client.fh_of(&through, b".."), outer);
    }
    let file = client.new_file(&inner, b"file", 0o644);
    let made = client.create(&outer, b"file", Createhow3::Guarded(mode(0o644)));
    assert_eq!(made.status(), Nfsstat3::Rofs);
    // Nothing goes from one export to another, though it is one file system.
    let moved = client.rename((&inner, b"file"), (&beside, b"file"));
    assert_eq!(moved.status(), Nfsstat3::Xdev);
    let linked = client.link(&file, &beside, b"file");
    assert_eq!(linked.status(), Nfsstat3::Xdev);
    let moved = client.rename((&inner, b"file"), (&outer, b"file"));
    assert!([Nfsstat3::Rofs, Nfsstat3::Xdev].contains(&moved.status()));
    // Export ids put together with other parts of a handle are no handle.
    for at in 0..inner.len() {
        let mixed = [&beside[..at], &inner[at..]].concat();
        if mixed != inner && mixed != beside {
            assert_eq!(client.getattr(&mixed).status(), Nfsstat3::Badhandle, "{at}");
        }
    }
}

/// A file system mounted below an export: with `crossmnt` it is part of it, under handles that survive restarts; without,
/// what it hides is.
#[test]
fn file_systems_below() {
    if !need::have("file_systems_below", &[LOOP]) {
        return;
    }
    let cross = "@DIR@/cross *(rw,insecure,no_root_squash,crossmnt)";
    let plain = "@DIR@/plain *(rw,insecure,no_root_squash)";
    for exports in [[cross, plain], [plain, cross]] {
        with_and_without(&exports.join("\n"));
    }
}

fn with_and_without(exports: &str) {
    let dir = fresh_dir();
    for name in ["cross/disk", "plain/disk"] {
        std::fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        std::fs::write(dir.path().join(name).join("hidden"), "x").expect("a file");
    }
    let mounted = ["cross/disk", "plain/disk"]
        .map(|name| LoopFs::new(&dir.path().join(name), Fs::Ext4, 16, &[], "noatime"));
    for disk in &mounted {
        std::fs::write(disk.dir().join("on-disk"), "x").expect("a file");
    }
    let mut server = Setup::exports(exports).start_in(dir);
    let mut client = server.client();
    let at = |server: &TestServer, name: &str| server.dir().join(name);
    let cross = client.mount(&at(&server, "cross"));
    let plain = client.mount(&at(&server, "plain"));
    // Through it.
    let disk = client.lookup(&cross, b"disk").expect("LOOKUP");
    let of_disk = disk.attr.expect("attributes");
    let of_cross = client.attr(&cross);
    assert_ne!(
        of_disk.fsid, of_cross.fsid,
        "another file system has another fsid"
    );
    let disk = disk.fh;
    let file = client.fh_of(&disk, b"on-disk");
    assert_eq!(client.lookup(&disk, b"hidden").status(), Nfsstat3::Noent);
    // Clients resolve `..` of a mount point themselves; here it is the directory or its own parent.
    let above = client.fh_of(&disk, b"..");
    assert!(above == cross || above == disk);
    assert_eq!(client.attr(&file).fsid, of_disk.fsid);
    client.new_file(&disk, b"made", 0o644);
    assert!(server.dir().join("cross/disk/made").exists());
    client.new_file(&cross, b"above", 0o644);
    let moved = client.rename((&cross, b"above"), (&disk, b"below"));
    assert_eq!(moved.status(), Nfsstat3::Xdev);
    let linked = client.link(&file, &cross, b"up");
    assert_eq!(linked.status(), Nfsstat3::Xdev);
    assert!(client.fsstat(&disk).expect("FSSTAT").tbytes < 17 << 20);
    assert!(client.fsstat(&cross).expect("FSSTAT").tbytes > 17 << 20);
    // Taking away the mount point is refused without harm.
    assert_eq!(client.rmdir(&cross, b"disk").status(), Nfsstat3::Acces);
    // A listing of the directory above gives no handle that leads under the mount.
    for entry in client.list_plus(&cross, (4096, 32_768)) {
        if entry.name == b"disk"
            && let Some(fh) = entry.fh
        {
            assert_eq!(fh, disk);
        }
    }
    // Not through it.
    let under = client.fh_of(&plain, b"disk");
    assert_eq!(client.attr(&under).fsid, client.attr(&plain).fsid);
    client
        .lookup(&under, b"hidden")
        .expect("what the mount hides");
    assert_eq!(client.lookup(&under, b"on-disk").status(), Nfsstat3::Noent);
    // After a restart before anybody looked anything up.
    drop(client);
    server.restart();
    let mut client = server.client();
    assert_eq!(client.attr(&file).fsid, of_disk.fsid);
    assert_eq!(client.fh_of(&disk, b"on-disk"), file);
    drop(client);
    drop(server);
    drop(mounted);
}

/// `fsid=` is what clients see.
#[test]
fn fsid_option() {
    let dir = fresh_dir();
    std::fs::create_dir(dir.path().join("other")).expect("mkdir");
    let exports = "@DIR@/export *(rw,insecure,fsid=4242)\n@DIR@/other *(rw,insecure)";
    let server = Setup::exports(exports).start_in(dir);
    let (mut client, root) = server.mounted();
    let other = client.mount(&server.dir().join("other"));
    assert_eq!(client.attr(&root).fsid, 4242);
    assert_ne!(client.attr(&other).fsid, 4242);
}

/// `nordirplus` takes READDIRPLUS away, for directories where it costs more than it gives.
#[test]
fn nordirplus_option() {
    let server = Setup::options("rw,insecure,no_root_squash,nordirplus").start();
    let (mut client, root) = server.mounted();
    let refused = client.readdirplus(&root, 0, [0; 8], (4096, 4096));
    assert_eq!(refused.status(), Nfsstat3::Notsupp);
    assert!(client.list(&root, 4096).len() >= 2);
}
