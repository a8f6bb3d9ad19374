//! What RFC 1813 leaves no choice about, in small steps that any server can be asked: `tests/reference` also runs these
//! against nfs-ganesha. (Not READDIR with a count too small for anything: its results there do not decode.)

use nfsd::nfs3::status::Nfsstat3 as S;
use nfsd::nfs3::types::{Createhow3, Ftype3, Sattr3, StableHow};
use tests::client::nfs3::{Outcome as _, mode, size};
use tests::client::{Client, Fh};
use tests::daemon::TestServer;
use tests::peer::Agreed;

/// Of the names of [`every_procedure`].
fn refusals(agreed: &mut Agreed, c: &mut Client, root: &Fh, file: &Fh) {
    agreed.same(
        "LOOKUP of nothing",
        c.lookup(root, b"gone").status(),
        S::Noent,
    );
    agreed.same("LOOKUP in a file", c.lookup(file, b"x").status(), S::Notdir);
    agreed.same(
        "LOOKUP of a long name",
        c.lookup(root, &[b'n'; 256]).status(),
        S::Nametoolong,
    );
    agreed.same(
        "READLINK of a file by version 3",
        c.readlink(file).status(),
        S::Inval,
    );
    let guarded = Createhow3::Guarded(Sattr3::default());
    agreed.same(
        "CREATE of what is there",
        c.create(root, b"file", guarded).status(),
        S::Exist,
    );
    let unchecked = Createhow3::Unchecked(Sattr3::default());
    agreed.same(
        "CREATE UNCHECKED of a directory by version 3",
        c.create(root, b"dir", unchecked).status(),
        S::Exist,
    );
    let once = c
        .create(root, b"once", Createhow3::Exclusive([7; 8]))
        .expect("new");
    let twice = c
        .create(root, b"once", Createhow3::Exclusive([7; 8]))
        .expect("the same");
    agreed.same("EXCLUSIVE again", twice.fh, once.fh);
    let other = c.create(root, b"once", Createhow3::Exclusive([8; 8]));
    agreed.same("EXCLUSIVE of another", other.status(), S::Exist);
    agreed.same(
        "MKDIR of what is there",
        c.mkdir(root, b"dir", Sattr3::default()).status(),
        S::Exist,
    );
    agreed.same(
        "RMDIR of a full one",
        c.rmdir(root, b"dir").status(),
        S::Notempty,
    );
    agreed.same(
        "RMDIR of a file",
        c.rmdir(root, b"file").status(),
        S::Notdir,
    );
    agreed.same(
        "REMOVE of nothing",
        c.remove(root, b"gone").status(),
        S::Noent,
    );
    agreed.same(
        "RENAME of nothing",
        c.rename((root, b"gone"), (root, b"x")).status(),
        S::Noent,
    );
    agreed.same(
        "LINK to what is there",
        c.link(file, root, b"dir").status(),
        S::Exist,
    );
}

#[test]
fn every_procedure() {
    let server = TestServer::start();
    let (mut c, root) = server.mounted();
    let mut agreed = Agreed::new();
    let file = c.new_file(&root, b"file", 0o640);
    let dir = c.new_dir(&root, b"dir", 0o755);
    c.new_dir(&dir, b"in", 0o755);
    agreed.same(
        "SYMLINK",
        c.symlink(&root, b"link", b"to/there").status(),
        S::Ok,
    );
    let link = c.fh_of(&root, b"link");
    let wrote = c
        .write(&file, 0, b"12345678", StableHow::FileSync)
        .expect("WRITE");
    agreed.same(
        "WRITE",
        (wrote.count, wrote.committed),
        (8, StableHow::FileSync),
    );
    let attr = c.attr(&file);
    agreed.same(
        "GETATTR",
        (attr.ftype, attr.size, attr.mode),
        (Ftype3::Reg, 8, 0o640),
    );
    let got = c.read(&file, 2, 100).expect("READ");
    agreed.same("READ", (&got.data[..], got.eof), (&b"345678"[..], true));
    agreed.same(
        "READLINK",
        c.readlink(&link).expect("READLINK").0,
        b"to/there".to_vec(),
    );
    agreed.same("SETATTR", c.setattr(&file, size(3), None).status(), S::Ok);
    agreed.same("the size", c.attr(&file).size, 3);
    let old = attr.ctime;
    agreed.same(
        "SETATTR with an old guard",
        c.setattr(&file, mode(0o600), Some(old)).status(),
        S::NotSync,
    );
    agreed.same(
        "ACCESS of no bit",
        c.access(&file, 0).expect("ACCESS").access,
        0,
    );
    agreed.same(
        "ACCESS of a bit there is not",
        c.access(&file, 1 << 30).expect("ACCESS").access,
        0,
    );
    refusals(&mut agreed, &mut c, &root, &file);
    agreed.same("LINK", c.link(&file, &root, b"second").status(), S::Ok);
    agreed.same("links", c.attr(&file).nlink, 2);
    agreed.same("REMOVE", c.remove(&root, b"second").status(), S::Ok);
    let mut names: Vec<Vec<u8>> = c.list(&root, 4096).into_iter().map(|e| e.name).collect();
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    let all = [&b"dir"[..], b"file", b"link", b"once"].map(<[u8]>::to_vec);
    agreed.same("READDIR", names, all.to_vec());
    agreed.same(
        "READDIR of a file",
        c.readdir(&file, 0, [0; 8], 4096).status(),
        S::Notdir,
    );
    agreed.same(
        "WRITE of a directory",
        c.write(&dir, 0, b"x", StableHow::FileSync).status() != S::Ok,
        true,
    );
    agreed.same("COMMIT", c.commit(&file, 0, 0).status(), S::Ok);
    agreed.same(
        "REMOVE of the file",
        c.remove(&root, b"file").status(),
        S::Ok,
    );
    agreed.same("a file that is gone", c.getattr(&file).status(), S::Stale);
    agreed.end();
}
