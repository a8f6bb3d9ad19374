//! LOOKUP, REMOVE, RMDIR, RENAME and LINK.

use std::os::unix::fs::symlink;

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, Ftype3, StableHow};
use tests::client::Login;
use tests::client::nfs3::{Outcome as _, mode};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};

use super::exact_wcc;

#[test]
fn lookup() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o755);
        let file = client.new_file(&dir, b"file", 0o600);
        let found = client.lookup(&dir, b"file").expect("LOOKUP");
        assert_eq!(found.fh, file);
        assert_eq!(found.attr, Some(client.attr(&file)));
        assert_eq!(found.dir, Some(client.attr(&dir)));
        assert_eq!(client.fh_of(&dir, b"."), dir);
        assert_eq!(client.fh_of(&dir, b".."), root);
        let closed = client.new_dir(&root, b"closed", 0o700);
        client.new_file(&closed, b"file", 0o666);
        let attr = client.attr(&dir);
        for (name, status) in [
            (&b"nothing"[..], Nfsstat3::Noent),
            (b"", Nfsstat3::Acces),
            (b"a/b", Nfsstat3::Acces),
            (b"../dir", Nfsstat3::Acces),
            (b"file\0", Nfsstat3::Inval),
            (&[b'n'; 256], Nfsstat3::Nametoolong),
            (&[b'n'; 4096], Nfsstat3::Nametoolong),
        ] {
            let fail = client.lookup(&dir, name).expect_err("no such name");
            let shown = String::from_utf8_lossy(name);
            assert_eq!(fail.status, status, "{shown}");
            assert_eq!(fail.with, Some(attr), "{shown}");
        }
        for name in [&b"x"[..], b".", b".."] {
            assert_eq!(client.lookup(&file, name).status(), Nfsstat3::Notdir);
        }
        client.set_login(Login::user(1000, 1000));
        assert_eq!(client.lookup(&closed, b"file").status(), Nfsstat3::Acces);
        assert_eq!(client.lookup(&closed, b"none").status(), Nfsstat3::Acces);
    }
}

/// Nothing leads above the root of the export: not `..` from it, not `..` step by step, not a link.
#[test]
fn nothing_leads_out() {
    let dir = fresh_dir();
    let export = dir.path().join("export");
    std::fs::write(dir.path().join("secret"), "x").expect("a secret");
    std::fs::create_dir(export.join("sub")).expect("mkdir");
    symlink("../secret", export.join("up")).expect("a link");
    symlink("/etc", export.join("etc")).expect("a link");
    symlink("sub", export.join("inside")).expect("a link");
    let server = Setup::default().start_in(dir);
    let (mut client, root) = server.mounted();
    assert_eq!(client.fh_of(&root, b".."), root);
    let sub = client.fh_of(&root, b"sub");
    assert_eq!(client.fh_of(&sub, b".."), root);
    let above = client.lookup(&root, b"..").expect("LOOKUP");
    assert_eq!(above.attr, above.dir);
    for name in [&b"up"[..], b"etc", b"inside"] {
        let found = client.lookup(&root, name).expect("LOOKUP");
        assert_eq!(found.attr.map(|a| a.ftype), Some(Ftype3::Lnk));
        for below in [&b"passwd"[..], b".", b".."] {
            let fail = client.lookup(&found.fh, below);
            assert_eq!(fail.status(), Nfsstat3::Notdir);
        }
        assert_eq!(
            client.readdir(&found.fh, 0, [0; 8], 4096).status(),
            Nfsstat3::Notdir
        );
        assert_eq!(client.read(&found.fh, 0, 10).status(), Nfsstat3::Inval);
    }
    // A listing shows the root as its own parent, too.
    let root_id = client.attr(&root).fileid;
    for entry in client.list_plus(&root, (4096, 32_768)) {
        if entry.name == b".." {
            assert_eq!(entry.fileid, root_id);
            if let Some(fh) = entry.fh {
                assert_eq!(fh, root);
            }
        }
    }
    for entry in client.list(&root, 4096) {
        if entry.name == b".." {
            assert_eq!(entry.fileid, root_id);
        }
    }
}

#[test]
fn remove_and_rmdir() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o755);
        client.new_file(&dir, b"file", 0o644);
        client.symlink(&dir, b"link", b"file").expect("SYMLINK");
        client.new_dir(&dir, b"sub", 0o755);
        client.new_dir(&dir, b"full", 0o755);
        let full = client.fh_of(&dir, b"full");
        client.new_file(&full, b"x", 0o644);
        let file = client.fh_of(&dir, b"file");
        let attr = client.attr(&dir);
        for (name, remove, rmdir) in [
            (&b"nothing"[..], Nfsstat3::Noent, Nfsstat3::Noent),
            (b".", Nfsstat3::Isdir, Nfsstat3::Inval),
            (b"..", Nfsstat3::Isdir, Nfsstat3::Notempty),
            (b"full", Nfsstat3::Isdir, Nfsstat3::Notempty),
            (b"a/b", Nfsstat3::Acces, Nfsstat3::Acces),
            (b"", Nfsstat3::Acces, Nfsstat3::Acces),
            (&[b'n'; 256], Nfsstat3::Nametoolong, Nfsstat3::Nametoolong),
        ] {
            let shown = String::from_utf8_lossy(name);
            let fail = client.remove(&dir, name).expect_err("REMOVE");
            assert_eq!(fail.status, remove, "REMOVE {shown}");
            exact_wcc_or_after(&fail.with, &attr);
            let fail = client.rmdir(&dir, name).expect_err("RMDIR");
            assert_eq!(fail.status, rmdir, "RMDIR {shown}");
            exact_wcc_or_after(&fail.with, &attr);
        }
        assert_eq!(client.rmdir(&dir, b"file").status(), Nfsstat3::Notdir);
        assert_eq!(client.rmdir(&dir, b"link").status(), Nfsstat3::Notdir);
        assert_eq!(client.remove(&dir, b"sub").status(), Nfsstat3::Isdir);
        assert_eq!(client.remove(&file, b"x").status(), Nfsstat3::Notdir);
        assert_eq!(client.rmdir(&file, b"x").status(), Nfsstat3::Notdir);
        client.as_user(Login::user(1000, 1000), |c| {
            assert_eq!(c.remove(&dir, b"file").status(), Nfsstat3::Acces);
            assert_eq!(c.rmdir(&dir, b"sub").status(), Nfsstat3::Acces);
        });
        for name in [&b"file"[..], b"link"] {
            let before = client.attr(&dir);
            let wcc = client.remove(&dir, name).expect("REMOVE");
            exact_wcc(&wcc, &before, &client.attr(&dir));
        }
        let before = client.attr(&dir);
        let wcc = client.rmdir(&dir, b"sub").expect("RMDIR");
        let after = client.attr(&dir);
        exact_wcc(&wcc, &before, &after);
        assert_eq!(after.nlink, before.nlink - 1);
    }
}

/// The attributes of a directory nothing was done to: those after it always, those before where the operation began.
#[track_caller]
fn exact_wcc_or_after(wcc: &nfsd::nfs3::types::WccData, attr: &nfsd::nfs3::types::Fattr3) {
    assert_eq!(wcc.after, Some(*attr));
    let before = nfsd::nfs3::types::WccAttr::from(attr);
    assert!(wcc.before.is_none_or(|b| b == before));
}

/// In a sticky directory only the owner takes names away.
#[test]
fn sticky_directories() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"tmp", 0o1777);
    client.set_login(Login::user(1000, 1000));
    client.new_file(&dir, b"file", 0o666);
    client.new_dir(&dir, b"sub", 0o777);
    client.set_login(Login::user(1001, 1001));
    assert_eq!(client.remove(&dir, b"file").status(), Nfsstat3::Perm);
    assert_eq!(client.rmdir(&dir, b"sub").status(), Nfsstat3::Perm);
    let moved = client.rename((&dir, b"file"), (&dir, b"mine"));
    assert_eq!(moved.status(), Nfsstat3::Perm);
    client.new_file(&dir, b"own", 0o600);
    let moved = client.rename((&dir, b"own"), (&dir, b"file"));
    assert_eq!(moved.status(), Nfsstat3::Perm, "over somebody else's");
    client.set_login(Login::user(1000, 1000));
    client.remove(&dir, b"file").expect("REMOVE by the owner");
    client.rmdir(&dir, b"sub").expect("RMDIR by the owner");
}

#[test]
fn rename() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let (a, b) = (
            client.new_dir(&root, b"a", 0o755),
            client.new_dir(&root, b"b", 0o755),
        );
        let file = client.new_file(&a, b"file", 0o644);
        // Within a directory.
        let before = client.attr(&a);
        let wcc = client
            .rename((&a, b"file"), (&a, b"file2"))
            .expect("RENAME");
        let after = client.attr(&a);
        exact_wcc(&wcc.fromdir_wcc, &before, &after);
        exact_wcc(&wcc.todir_wcc, &before, &after);
        assert_eq!(client.fh_of(&a, b"file2"), file);
        // To another.
        let before = (client.attr(&a), client.attr(&b));
        let wcc = client
            .rename((&a, b"file2"), (&b, b"moved"))
            .expect("RENAME");
        exact_wcc(&wcc.fromdir_wcc, &before.0, &client.attr(&a));
        exact_wcc(&wcc.todir_wcc, &before.1, &client.attr(&b));
        assert_eq!(client.lookup(&a, b"file2").status(), Nfsstat3::Noent);
        assert_eq!(client.fh_of(&b, b"moved"), file);
        // Over a file, which is gone then.
        let target = client.new_file(&b, b"target", 0o644);
        client
            .rename((&b, b"moved"), (&b, b"target"))
            .expect("RENAME");
        assert_eq!(client.fh_of(&b, b"target"), file);
        assert_eq!(client.getattr(&target).status(), Nfsstat3::Stale);
        // Onto itself, under its other name too: nothing happens.
        client
            .rename((&b, b"target"), (&b, b"target"))
            .expect("RENAME");
        client.link(&file, &a, b"other").expect("LINK");
        client
            .rename((&a, b"other"), (&b, b"target"))
            .expect("RENAME");
        assert_eq!(client.attr(&file).nlink, 2);
        // A directory, over an empty one.
        let sub = client.new_dir(&a, b"sub", 0o755);
        client.new_file(&sub, b"x", 0o644);
        client.new_dir(&b, b"empty", 0o755);
        client.rename((&a, b"sub"), (&b, b"empty")).expect("RENAME");
        assert_eq!(client.fh_of(&b, b"empty"), sub);
        assert_eq!(client.fh_of(&sub, b".."), b);
    }
}

#[test]
fn rename_errors() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"dir", 0o755);
    let sub = client.new_dir(&dir, b"sub", 0o755);
    client.new_file(&sub, b"x", 0o644);
    client.new_dir(&root, b"empty", 0o755);
    let file = client.new_file(&root, b"file", 0o644);
    let attr = client.attr(&root);
    let long = [b'n'; 256];
    let cases: [(&[u8], &[u8], &[Nfsstat3]); 13] = [
        (b"nothing", b"x", &[Nfsstat3::Noent]),
        (b"file", b"empty", &[Nfsstat3::Isdir, Nfsstat3::Exist]),
        (b"empty", b"file", &[Nfsstat3::Notdir, Nfsstat3::Exist]),
        (b"empty", b"dir", &[Nfsstat3::Notempty, Nfsstat3::Exist]),
        (b".", b"x", &[Nfsstat3::Inval]),
        (b"..", b"x", &[Nfsstat3::Inval]),
        (b"file", b".", &[Nfsstat3::Inval]),
        (b"file", b"..", &[Nfsstat3::Inval]),
        (b"file", b"a/b", &[Nfsstat3::Acces]),
        (b"a/b", b"x", &[Nfsstat3::Acces]),
        (b"", b"x", &[Nfsstat3::Acces]),
        (b"file", &long, &[Nfsstat3::Nametoolong]),
        (&long, b"x", &[Nfsstat3::Nametoolong]),
    ];
    for (from, to, allowed) in cases {
        let fail = client.rename((&root, from), (&root, to));
        let fail = fail.expect_err("RENAME");
        let shown = String::from_utf8_lossy(from);
        assert!(allowed.contains(&fail.status), "{shown}: {}", fail.status);
        exact_wcc_or_after(&fail.with.fromdir_wcc, &attr);
        exact_wcc_or_after(&fail.with.todir_wcc, &attr);
    }
    // Into itself.
    let fail = client.rename((&root, b"dir"), (&sub, b"dir"));
    assert_eq!(fail.status(), Nfsstat3::Inval);
    let fail = client.rename((&root, b"dir"), (&dir, b"dir"));
    assert_eq!(fail.status(), Nfsstat3::Inval);
    // Over its own parent's parent.
    let fail = client.rename((&dir, b"sub"), (&root, b"dir"));
    assert!([Nfsstat3::Notempty, Nfsstat3::Exist].contains(&fail.status()));
    assert_eq!(
        client.rename((&file, b"x"), (&root, b"y")).status(),
        Nfsstat3::Notdir
    );
    assert_eq!(
        client.rename((&root, b"file"), (&file, b"y")).status(),
        Nfsstat3::Notdir
    );
    client.set_login(Login::user(1000, 1000));
    let fail = client.rename((&dir, b"sub"), (&root, b"mine"));
    assert_eq!(fail.status(), Nfsstat3::Acces);
}

#[test]
fn link() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o777);
        let file = client.new_file(&root, b"file", 0o644);
        let before = client.attr(&dir);
        let linked = client.link(&file, &dir, b"second").expect("LINK");
        exact_wcc(&linked.linkdir_wcc, &before, &client.attr(&dir));
        assert_eq!(linked.file_attributes, Some(client.attr(&file)));
        assert_eq!(client.attr(&file).nlink, 2);
        assert_eq!(client.fh_of(&dir, b"second"), file);
        // Symbolic links and the like have names, too.
        let sym = client.symlink(&root, b"sym", b"file").expect("SYMLINK").fh;
        client.link(&sym, &dir, b"sym2").expect("LINK");
        assert_eq!(client.attr(&sym).nlink, 2);
        let attr = client.attr(&dir);
        for (fh, name, status) in [
            (&file, &b"second"[..], Nfsstat3::Exist),
            (&file, b".", Nfsstat3::Exist),
            (&file, b"..", Nfsstat3::Exist),
            (&file, b"a/b", Nfsstat3::Acces),
            (&file, b"", Nfsstat3::Acces),
            (&file, &[b'n'; 256], Nfsstat3::Nametoolong),
            (&root, b"new", Nfsstat3::Perm),
        ] {
            let fail = client.link(fh, &dir, name).expect_err("LINK");
            let shown = String::from_utf8_lossy(name);
            let directory = fh == &root && fail.status == Nfsstat3::Isdir;
            assert!(
                fail.status == status || directory,
                "{shown}: {}",
                fail.status
            );
            exact_wcc_or_after(&fail.with.linkdir_wcc, &attr);
            assert_eq!(fail.with.file_attributes, Some(client.attr(fh)));
        }
        assert_eq!(client.link(&file, &file, b"x").status(), Nfsstat3::Notdir);
        let closed = client.new_dir(&root, b"closed", 0o755);
        client.set_login(Login::user(1000, 1000));
        // A file of his own: others' are the business of the server's sysctl fs.protected_hardlinks.
        let own = client.new_file(&dir, b"own", 0o644);
        assert_eq!(client.link(&own, &closed, b"x").status(), Nfsstat3::Acces);
        client.remove(&dir, b"second").expect("REMOVE");
        client.set_login(Login::root());
        assert_eq!(client.attr(&file).nlink, 1);
    }
}

/// A removed file's handle is STALE at once, under every procedure, and its space is free again.
#[test]
fn removed_files_are_stale() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let big = vec![1; 1 << 20];
        for n in 0..16 {
            client
                .write(&file, n << 20, &big, StableHow::FileSync)
                .expect("WRITE");
        }
        client.read(&file, 0, 4096).expect("READ");
        let free = client.fsstat(&root).expect("FSSTAT").fbytes;
        let fifo = client.mknod(
            &root,
            b"fifo",
            nfsd::nfs3::types::Mknoddata3::Fifo(mode(0o600)),
        );
        let fifo = fifo.expect("MKNOD").fh;
        let dir = client.new_dir(&root, b"dir", 0o755);
        client.list(&dir, 4096);
        client.remove(&root, b"file").expect("REMOVE");
        client.remove(&root, b"fifo").expect("REMOVE");
        client.rmdir(&root, b"dir").expect("RMDIR");
        super::all_are(&super::every(&mut client, &dir), Nfsstat3::Stale);
        super::all_are(&super::every(&mut client, &file), Nfsstat3::Stale);
        assert_eq!(client.getattr(&fifo).status(), Nfsstat3::Stale);
        // Other tests use the same disk: only most of the space can be looked for.
        let now = || std::fs::metadata(server.export()).map(|_| ());
        now().expect("the export");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while open_files_deleted(server.pid()) > 0 {
            assert!(
                std::time::Instant::now() < end,
                "removed files are held open"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(free > 0);
        // Made anew, the name is another file.
        let again = client.new_file(&root, b"file", 0o644);
        assert_ne!(again, file);
        assert_eq!(client.getattr(&file).status(), Nfsstat3::Stale);
    }
}

/// Descriptors of a process on files without a name.
fn open_files_deleted(pid: u32) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let fds = fds
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    fds.filter(|to| to.to_string_lossy().ends_with(" (deleted)"))
        .filter(|to| to.to_string_lossy().contains("/export/"))
        .count()
}

/// A file removed under one of two names lives on; removed behind the server's back it is stale.
#[test]
fn names_and_files() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"one", 0o644);
    client.link(&file, &root, b"two").expect("LINK");
    client.remove(&root, b"one").expect("REMOVE");
    client
        .write(&file, 0, b"alive", StableHow::FileSync)
        .expect("WRITE");
    std::fs::remove_file(server.export().join("two")).expect("remove");
    assert_eq!(client.getattr(&file).status(), Nfsstat3::Stale);
    let local = server.export().join("local");
    std::fs::write(&local, "made here").expect("a file");
    let fh = client.fh_of(&root, b"local");
    assert_eq!(client.read(&fh, 0, 100).expect("READ").data, b"made here");
    std::fs::rename(&local, server.export().join("elsewhere")).expect("rename");
    assert_eq!(client.lookup(&root, b"local").status(), Nfsstat3::Noent);
    assert_eq!(client.read(&fh, 0, 100).expect("READ").data, b"made here");
    let made = client.create(&root, b"local", Createhow3::Guarded(mode(0o600)));
    assert_ne!(made.expect("CREATE").fh, fh);
}
