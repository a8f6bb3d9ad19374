//! Names: LOOKUP, LOOKUPP, CREATE, LINK, RENAME, REMOVE, READDIR, READLINK, the pseudo file system.

use std::fs;

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::readdir::ReaddirArgs;
use nfsd::nfs4::op::rename::RenameArgs;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Attrs, Ops};
use tests::client::{Client, Fh};
use tests::daemon::{Setup, TestServer};

use super::{at_export, create};

/// Every entry of a directory, in pages of `maxcount` bytes.
fn list(client: &mut Client, dir: &[u8], maxcount: u32, asked: &[u32]) -> Vec<(Vec<u8>, Attrs)> {
    let mut all = Vec::new();
    let (mut cookie, mut cookieverf) = (0, [0; 8]);
    loop {
        let args = ReaddirArgs {
            cookie,
            cookieverf,
            dircount: maxcount,
            maxcount,
            attr_request: Bitmap4::of(asked),
        };
        let mut done = client.compound(0, &Ops::new().putfh(dir).op(Op4::Readdir, &args));
        done.ok(Op4::Putfh);
        cookieverf = done.body(Op4::Readdir);
        let before = all.len();
        while done.more::<bool>() {
            cookie = done.more();
            assert!(cookie > 2, "reserved");
            let name = done.more::<Component4<'_>>().0.to_vec();
            all.push((name, Attrs::of(&done.more::<Fattr4<'_>>())));
        }
        let eof: bool = done.more();
        done.end();
        if eof {
            return all;
        }
        assert!(all.len() > before, "no progress");
    }
}

fn lookup(client: &mut Client, dir: &[u8], name: &[u8]) -> Result<Fh, Nfsstat4> {
    let mut done = client.compound(0, &Ops::new().putfh(dir).lookup(name).getfh());
    done.ok(Op4::Putfh);
    match done.status_of(Op4::Lookup) {
        Nfsstat4::Ok => Ok(done.fh()),
        status => Err(status),
    }
}

#[test]
fn lookup_and_lookupp() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    fs::create_dir(server.export().join("dir")).expect("a directory");
    fs::write(server.export().join("file"), "x").expect("a file");
    std::os::unix::fs::symlink("file", server.export().join("link")).expect("a link");
    let dir = lookup(&mut client, &root, b"dir").expect("there");
    let file = lookup(&mut client, &root, b"file").expect("there");
    let link = lookup(&mut client, &root, b"link").expect("there");
    assert_eq!(lookup(&mut client, &root, b"gone"), Err(Nfsstat4::Noent));
    assert_eq!(lookup(&mut client, &root, b""), Err(Nfsstat4::Inval));
    for bad in [&b"."[..], b"..", b"a/b"] {
        assert_eq!(lookup(&mut client, &root, bad), Err(Nfsstat4::Badname));
    }
    assert_eq!(
        lookup(&mut client, &root, &[b'n'; 256]),
        Err(Nfsstat4::Nametoolong)
    );
    assert_eq!(lookup(&mut client, &file, b"x"), Err(Nfsstat4::Notdir));
    assert_eq!(lookup(&mut client, &link, b"x"), Err(Nfsstat4::Symlink));
    let ops = Ops::new().putfh(&dir).bare(Op4::Lookupp).getfh();
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookupp);
    assert_eq!(done.fh(), root);
    let mut done = client.compound(0, &Ops::new().putfh(&file).bare(Op4::Lookupp));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Lookupp), Nfsstat4::Notdir);
}

#[test]
fn pseudo_file_system_down_and_up() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let depth = server.export().components().count() - 1;
    // All the way up, and not further.
    let mut ops = Ops::new().putfh(&root);
    for _ in 0..depth {
        ops = ops.bare(Op4::Lookupp);
    }
    let asked = [bit::TYPE, bit::FSID, bit::FILEID, bit::MODE];
    let mut done = client.compound(0, &ops.getattr(&asked).bare(Op4::Lookupp));
    done.ok(Op4::Putfh);
    for _ in 0..depth {
        done.ok(Op4::Lookupp);
    }
    let top = done.attrs();
    assert_eq!(top.get::<NfsFtype4>(bit::TYPE), NfsFtype4::Dir);
    assert_eq!(top.get::<u32>(bit::MODE), 0o555);
    assert_eq!(done.status_of(Op4::Lookupp), Nfsstat4::Noent);
    // Each directory above lists exactly the way down.
    let mut place = client.compound(0, &Ops::new().putrootfh().getfh());
    place.ok(Op4::Putrootfh);
    let mut dir = place.fh();
    for part in server.export().components().skip(1) {
        let name = part.as_os_str().as_encoded_bytes();
        let entries = list(
            &mut client,
            &dir,
            4096,
            &[bit::FILEID, bit::MOUNTED_ON_FILEID, bit::TYPE],
        );
        let names: Vec<&[u8]> = entries.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, [name]);
        dir = lookup(&mut client, &dir, name).expect("listed");
    }
    assert_eq!(dir, root);
    // Nothing can be made there.
    let ops = create(Ops::new().putrootfh(), &Createtype4::Directory, b"new");
    let mut done = client.compound(0, &ops);
    done.ok(Op4::Putrootfh);
    assert_eq!(done.status_of(Op4::Create), Nfsstat4::Rofs);
}

#[test]
fn create_makes_all_but_files() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let kinds: [(Createtype4<'_>, NfsFtype4); 6] = [
        (Createtype4::Directory, NfsFtype4::Dir),
        (Createtype4::Symlink(Linktext4(b"to")), NfsFtype4::Lnk),
        (Createtype4::Fifo, NfsFtype4::Fifo),
        (Createtype4::Socket, NfsFtype4::Sock),
        (Createtype4::Char(1, 3), NfsFtype4::Chr),
        (Createtype4::Block(7, 200), NfsFtype4::Blk),
    ];
    for (what, kind) in kinds {
        let ops = create(Ops::new().putfh(&root), &what, b"new");
        let asked = [bit::TYPE, bit::MODE, bit::RAWDEV];
        let mut done = client.compound(0, &ops.getattr(&asked));
        done.ok(Op4::Putfh);
        let info: ChangeInfo4 = done.body(Op4::Create);
        assert!(info.atomic && info.before != info.after, "{info:?}");
        assert_eq!(done.more::<Bitmap4>(), Bitmap4::of(&[bit::MODE]));
        let attrs = done.attrs();
        assert_eq!(attrs.get::<NfsFtype4>(bit::TYPE), kind);
        if kind != NfsFtype4::Lnk {
            assert_eq!(attrs.get::<u32>(bit::MODE), 0o750);
        }
        let again = client.compound(0, &create(Ops::new().putfh(&root), &what, b"new"));
        assert_eq!(again.status, Nfsstat4::Exist);
        let mut gone = client.compound(
            0,
            &Ops::new().putfh(&root).op(Op4::Remove, &Component4(b"new")),
        );
        gone.ok(Op4::Putfh);
        let info: ChangeInfo4 = gone.body(Op4::Remove);
        assert!(info.before != info.after, "{info:?}");
    }
    let file = client.compound(
        0,
        &create(Ops::new().putfh(&root), &Createtype4::Other(1), b"f"),
    );
    assert_eq!(file.status, Nfsstat4::Badtype);
    let empty = Createtype4::Symlink(Linktext4(b""));
    let link = client.compound(0, &create(Ops::new().putfh(&root), &empty, b"l"));
    assert_eq!(link.status, Nfsstat4::Inval);
}

#[test]
fn link_rename_remove_and_readlink() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    fs::write(server.export().join("a"), "x").expect("a file");
    fs::create_dir(server.export().join("full")).expect("a directory");
    fs::write(server.export().join("full/x"), "x").expect("a file");
    std::os::unix::fs::symlink("to/there", server.export().join("link")).expect("a link");
    let file = lookup(&mut client, &root, b"a").expect("there");
    let ops = Ops::new().putfh(&file).bare(Op4::Savefh).putfh(&root);
    let mut done = client.compound(0, &ops.op(Op4::Link, &Component4(b"b")));
    done.ok(Op4::Putfh);
    done.ok(Op4::Savefh);
    done.ok(Op4::Putfh);
    let _: ChangeInfo4 = done.body(Op4::Link);
    assert_eq!(lookup(&mut client, &root, b"b"), Ok(file));
    let rename = |client: &mut Client, old: &[u8], new: &[u8]| {
        let args = RenameArgs {
            oldname: Component4(old),
            newname: Component4(new),
        };
        let ops = Ops::new().putfh(&root).bare(Op4::Savefh);
        client.compound(0, &ops.op(Op4::Rename, &args)).status
    };
    assert_eq!(rename(&mut client, b"a", b"c"), Nfsstat4::Ok);
    assert!(server.export().join("c").exists() && !server.export().join("a").exists());
    assert_eq!(rename(&mut client, b"gone", b"d"), Nfsstat4::Noent);
    assert_eq!(rename(&mut client, b"c", b"full"), Nfsstat4::Exist);
    assert_eq!(rename(&mut client, b"c", b".."), Nfsstat4::Badname);
    let remove = |client: &mut Client, name: &[u8]| {
        let ops = Ops::new().putfh(&root).op(Op4::Remove, &Component4(name));
        client.compound(0, &ops).status
    };
    assert_eq!(remove(&mut client, b"full"), Nfsstat4::Notempty);
    assert_eq!(remove(&mut client, b"gone"), Nfsstat4::Noent);
    assert_eq!(remove(&mut client, b"c"), Nfsstat4::Ok);
    let link = lookup(&mut client, &root, b"link").expect("there");
    let mut done = client.compound(0, &Ops::new().putfh(&link).bare(Op4::Readlink));
    done.ok(Op4::Putfh);
    assert_eq!(done.body::<Linktext4<'_>>(Op4::Readlink).0, b"to/there");
    let wrong = client.compound(0, &Ops::new().putfh(&root).bare(Op4::Readlink));
    assert_eq!(wrong.status, Nfsstat4::Inval);
}

#[test]
fn readdir_in_pages_with_attributes() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    for i in 0..300 {
        fs::write(server.export().join(format!("f{i}")), "x".repeat(i)).expect("a file");
    }
    let asked = [
        bit::TYPE,
        bit::SIZE,
        bit::FILEHANDLE,
        bit::FILEID,
        bit::RDATTR_ERROR,
    ];
    for maxcount in [512, 4096, 1 << 20] {
        let mut entries = list(&mut client, &root, maxcount, &asked);
        entries.sort_by_key(|(name, _)| name.clone());
        entries.dedup_by_key(|(name, _)| name.clone());
        assert_eq!(entries.len(), 300);
        for (name, attrs) in entries.iter().step_by(37) {
            let number: u64 = String::from_utf8_lossy(&name[1..])
                .parse()
                .expect("a number");
            assert_eq!(attrs.get::<u64>(bit::SIZE), number);
            let fh = attrs.get::<NfsFh4<'_>>(bit::FILEHANDLE).0;
            assert_eq!(lookup(&mut client, &root, name).as_deref(), Ok(fh));
        }
    }
    let page = |client: &mut Client, cookie, maxcount| {
        let args = ReaddirArgs {
            cookie,
            cookieverf: [0; 8],
            dircount: 0,
            maxcount,
            attr_request: Bitmap4::of(&asked),
        };
        client
            .compound(0, &Ops::new().putfh(&root).op(Op4::Readdir, &args))
            .status
    };
    assert_eq!(page(&mut client, 0, 20), Nfsstat4::Toosmall);
    assert_eq!(page(&mut client, 0, 40), Nfsstat4::Toosmall);
    assert_eq!(page(&mut client, 1, 4096), Nfsstat4::BadCookie);
    let file = lookup(&mut client, &root, b"f1").expect("there");
    let args = ReaddirArgs {
        cookie: 0,
        cookieverf: [0; 8],
        dircount: 0,
        maxcount: 4096,
        attr_request: Bitmap4::EMPTY,
    };
    let done = client.compound(0, &Ops::new().putfh(&file).op(Op4::Readdir, &args));
    assert_eq!(done.status, Nfsstat4::Notdir);
}

#[test]
fn nested_exports_are_reached_by_walking() {
    let exports = "@DIR@/export *(ro,insecure,no_root_squash)\n@DIR@/export/in *(rw,insecure,no_root_squash)\n";
    let dir = tests::daemon::fresh_dir();
    fs::create_dir_all(dir.path().join("export/in/deep")).expect("directories");
    let server = Setup::exports(exports).start_in(dir);
    let (mut client, outer) = at_export(&server);
    let inner = lookup(&mut client, &outer, b"in").expect("there");
    let make = |client: &mut Client, dir: &[u8]| {
        let ops = create(Ops::new().putfh(dir), &Createtype4::Directory, b"new");
        client.compound(0, &ops).status
    };
    assert_eq!(make(&mut client, &outer), Nfsstat4::Rofs);
    assert_eq!(make(&mut client, &inner), Nfsstat4::Ok);
    let mut up = client.compound(0, &Ops::new().putfh(&inner).bare(Op4::Lookupp).getfh());
    up.ok(Op4::Putfh);
    up.ok(Op4::Lookupp);
    assert_eq!(up.fh(), outer);
}
