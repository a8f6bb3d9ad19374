//! File handles: the same for ever, and not to be forged.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Getattr3Args;
use nfsd::nfs3::res::Getattr3Res;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::NfsFh3;
use tests::client::nfs3::{Outcome as _, nfs3};
use tests::client::{Client, Fh};
use tests::daemon::{Setup, TestServer, policies};

use super::{all_are, every};

/// GETATTR of many handles, pipelined.
fn statuses(client: &mut Client, handles: &[Fh]) -> Vec<Nfsstat3> {
    let xids: Vec<u32> = handles
        .iter()
        .map(|fh| client.start(nfs3(Proc3::Getattr), &Getattr3Args { object: NfsFh3(fh) }))
        .collect();
    let answers = xids.into_iter().map(|xid| client.answer(xid));
    answers
        .map(|answer| answer.results::<Getattr3Res>().status())
        .collect()
}

#[test]
fn the_same_after_every_restart() {
    let mut server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"dir", 0o755);
    let file = client.new_file(&dir, b"file", 0o644);
    let link = client.symlink(&dir, b"link", b"file").expect("SYMLINK").fh;
    let ids = |client: &mut Client| {
        let handles = [&root, &dir, &file, &link];
        handles.map(|fh| (client.attr(fh).fileid, client.attr(fh).fsid))
    };
    let before = ids(&mut client);
    for life in 0..3 {
        drop(client);
        match life {
            0 => server.restart(),
            _ => {
                server.kill9();
                server.start_again();
            }
        }
        client = server.client();
        // Used before anything was looked up, then found again under the same handle.
        assert_eq!(ids(&mut client), before);
        assert_eq!(client.mount(&server.export()), root);
        assert_eq!(client.fh_of(&root, b"dir"), dir);
        assert_eq!(client.fh_of(&dir, b"file"), file);
        assert_eq!(client.fh_of(&dir, b"link"), link);
        let listed = client.list_plus(&dir, (4096, 32_768));
        let listed = listed.into_iter().find(|e| e.name == b"file");
        assert_eq!(listed.and_then(|e| e.fh), Some(file.clone()));
    }
}

/// A file removed while the server was down is stale, not another file.
#[test]
fn stale_after_restart() {
    let mut server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    drop(client);
    server.kill9();
    let path = server.export().join("file");
    std::fs::remove_file(&path).expect("remove");
    // Most likely the same inode number again.
    std::fs::write(&path, "another").expect("a file");
    server.start_again();
    let mut client = server.client();
    assert_eq!(client.getattr(&file).status(), Nfsstat3::Stale);
    let again = client.fh_of(&root, b"file");
    assert_ne!(again, file);
    client.attr(&again);
}

/// Any bit changed, any byte missing or added: BADHANDLE, under every procedure.
#[test]
fn forged_handles() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        for good in [&root, &file] {
            let mut forged: Vec<Fh> = Vec::new();
            for bit in 0..good.len() * 8 {
                let mut fh = good.clone();
                fh[bit / 8] ^= 1 << (bit % 8);
                forged.push(fh);
            }
            forged.extend((0..good.len()).map(|n| good[..n].to_vec()));
            forged.extend((1..good.len()).map(|n| good[n..].to_vec()));
            for extra in 1..=64 - good.len() {
                forged.push([&good[..], &vec![0; extra]].concat());
            }
            forged.push(vec![0; 64]);
            forged.push(vec![0xff; 64]);
            let got = statuses(&mut client, &forged);
            for (fh, status) in forged.iter().zip(got) {
                assert_eq!(status, Nfsstat3::Badhandle, "{fh:02x?}");
            }
        }
        for fh in [&vec![], &vec![0; 32], &root[..root.len() - 1].to_vec()] {
            all_are(&every(&mut client, fh), Nfsstat3::Badhandle);
        }
        // Both handles of the procedures that have two.
        let bad = vec![1; 30];
        let first = client.rename((&bad, b"a"), (&root, b"b"));
        let second = client.rename((&root, b"a"), (&bad, b"b"));
        let (third, fourth) = (
            client.link(&bad, &root, b"b"),
            client.link(&file, &bad, b"b"),
        );
        assert_eq!(first.status(), Nfsstat3::Badhandle);
        assert_eq!(second.status(), Nfsstat3::Badhandle);
        assert_eq!(third.status(), Nfsstat3::Badhandle);
        assert_eq!(fourth.status(), Nfsstat3::Badhandle);
        client.attr(&root);
    }
}

/// Handles of another server (another key) are nobody's here.
#[test]
fn handles_of_another_server() {
    let (one, two) = (TestServer::start(), TestServer::start());
    let ((mut a, a_root), (mut b, b_root)) = (one.mounted(), two.mounted());
    assert_eq!(a.getattr(&b_root).status(), Nfsstat3::Badhandle);
    assert_eq!(b.getattr(&a_root).status(), Nfsstat3::Badhandle);
}

/// Far more files than the server keeps open: every handle stays good.
#[test]
fn more_files_than_are_kept_open() {
    let config = "[limits]\nopen_files = 64";
    let server = Setup {
        options: "rw,async,no_root_squash,insecure".to_owned(),
        ..Setup::config(config)
    };
    let server = server.start();
    let (mut client, root) = server.mounted();
    let handles: Vec<Fh> = (0..2000)
        .map(|n| client.new_file(&root, format!("f{n}").as_bytes(), 0o644))
        .collect();
    for _ in 0..2 {
        let got = statuses(&mut client, &handles);
        assert!(got.iter().all(|status| *status == Nfsstat3::Ok));
    }
    for (n, fh) in handles.iter().enumerate().step_by(7) {
        let data = n.to_be_bytes();
        client
            .write(fh, 0, &data, nfsd::nfs3::types::StableHow::Unstable)
            .expect("WRITE");
    }
    for (n, fh) in handles.iter().enumerate().step_by(7) {
        let read = client.read(fh, 0, 100).expect("READ");
        assert_eq!(read.data, n.to_be_bytes());
    }
    // The least a server keeps is more than asked for here, but bounded.
    assert!(
        server.stat("files.open") <= 512,
        "{}",
        server.stat("files.open")
    );
}
