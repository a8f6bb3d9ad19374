//! READ, WRITE and COMMIT.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::Write3Args;
use nfsd::nfs3::res::Write3Res;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Data3, Mknoddata3, NfsFh3, StableHow, Writeverf3};
use tests::client::nfs3::{Outcome as _, mode, size};
use tests::client::{Client, Login};
use tests::daemon::{Setup, TestServer, policies};

use super::exact_wcc;

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|i| ((i * 31 + seed * 17) % 253) as u8)
        .collect()
}

#[test]
fn reads_of_every_alignment() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let data = pattern(100_003, 1);
        std::fs::write(server.export().join("file"), &data).expect("the file");
        for offset in [
            0,
            1,
            4095,
            4096,
            65_535,
            99_999,
            100_002,
            100_003,
            100_004,
            1 << 40,
        ] {
            for count in [0, 1, 2, 3, 4, 5, 100, 4096, 8191, 65_536, 1 << 20, u32::MAX] {
                let read = client.read(&file, offset, count).expect("READ");
                let start = (offset as usize).min(data.len());
                let end = (start + count as usize).min(data.len());
                assert!(read.data == data[start..end], "{offset} {count}");
                let reached = offset + read.data.len() as u64 >= data.len() as u64;
                assert_eq!(read.eof, reached, "{offset} {count}");
                assert_eq!(read.attr.map(|a| a.size), Some(100_003));
            }
        }
        for offset in [i64::MAX as u64 - 1, i64::MAX as u64, u64::MAX - 5, u64::MAX] {
            let read = client
                .read(&file, offset, 4096)
                .expect("READ far behind the end");
            assert!(read.data.is_empty() && read.eof);
        }
        let empty = client.new_file(&root, b"empty", 0o644);
        let read = client.read(&empty, 0, 10).expect("READ");
        assert!(read.data.is_empty() && read.eof);
    }
}

/// Not more than FSINFO offers, however much is asked for.
#[test]
fn the_largest_transfers() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let info = client.fsinfo(&root).expect("FSINFO");
    assert!(info.rtmax >= 1 << 20 && info.wtmax >= 1 << 20);
    let file = client.new_file(&root, b"file", 0o644);
    let data = pattern(info.wtmax as usize, 2);
    let wrote = client.write(&file, 0, &data, StableHow::FileSync);
    assert_eq!(wrote.expect("WRITE").count, info.wtmax);
    let long = u64::from(info.rtmax) + (1 << 20);
    client.setattr(&file, size(long), None).expect("SETATTR");
    let read = client.read(&file, 0, long as u32).expect("READ");
    assert!(read.data.len() as u32 <= info.rtmax && !read.data.is_empty());
    assert!(!read.eof);
    assert!(read.data == data[..read.data.len()]);
}

#[test]
fn errors_of_read_and_write() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o777);
        let link = client.symlink(&root, b"link", b"file").expect("SYMLINK").fh;
        let fifo = client.mknod(&root, b"fifo", Mknoddata3::Fifo(mode(0o666)));
        let fifo = fifo.expect("MKNOD").fh;
        let file = client.new_file(&root, b"file", 0o644);
        for (fh, read, write) in [
            (&dir, Nfsstat3::Isdir, Nfsstat3::Isdir),
            (&link, Nfsstat3::Inval, Nfsstat3::Inval),
            (&fifo, Nfsstat3::Inval, Nfsstat3::Inval),
        ] {
            let attr = client.attr(fh);
            let fail = client.read(fh, 0, 1).expect_err("no regular file");
            assert_eq!((fail.status, fail.with), (read, Some(attr)));
            for stable in StableHow::ALL {
                let fail = client.write(fh, 0, b"x", *stable);
                let fail = fail.expect_err("no regular file");
                assert_eq!(fail.status, write);
                exact_wcc(&fail.with, &attr, &attr);
            }
            assert_eq!(client.commit(fh, 0, 0).status(), read);
        }
        client.set_login(Login::user(1000, 1000));
        client.read(&file, 0, 1).expect("mode 644");
        let attr = client.attr(&file);
        let fail = client.write(&file, 0, b"x", StableHow::Unstable);
        let fail = fail.expect_err("mode 644");
        assert_eq!(fail.status, Nfsstat3::Acces);
        exact_wcc(&fail.with, &attr, &attr);
        assert_eq!(client.commit(&file, 0, 0).status(), Nfsstat3::Acces);
        client.set_login(Login::root());
        for offset in [i64::MAX as u64, i64::MAX as u64 - 1, u64::MAX - 1, u64::MAX] {
            let fail = client.write(&file, offset, b"xyz", StableHow::Unstable);
            assert_eq!(fail.status(), Nfsstat3::Fbig, "{offset}");
        }
        // Above what ext4 can map, below what Linux can count.
        let fail = client.write(&file, 1 << 60, b"xyz", StableHow::Unstable);
        assert_eq!(fail.status(), Nfsstat3::Fbig);
        assert_eq!(client.attr(&file).size, 0);
    }
}

fn write_counted(client: &mut Client, file: &[u8], count: u32, data: &[u8]) -> Write3Res {
    let args = Write3Args {
        file: NfsFh3(file),
        offset: 0,
        count,
        stable: StableHow::FileSync,
        data: Data3(data),
    };
    client.nfs(Proc3::Write, &args).results()
}

/// `count` and the length of the data are both on the wire and may disagree.
#[test]
fn write_counts_that_disagree() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    let wrote = write_counted(&mut client, &file, 3, b"0123456789");
    assert_eq!(wrote.ok().expect("WRITE").count, 3);
    assert_eq!(client.attr(&file).size, 3);
    let wrote = write_counted(&mut client, &file, 11, b"0123456789");
    assert_eq!(wrote.status(), Nfsstat3::Inval);
    let wrote = write_counted(&mut client, &file, 0, b"");
    assert_eq!(wrote.ok().expect("WRITE of nothing").count, 0);
    assert_eq!(client.attr(&file).size, 3);
}

#[test]
fn writes_of_every_stability() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let mut expected = Vec::new();
        let mut verf: Option<Writeverf3> = None;
        for (n, stable) in StableHow::ALL.iter().cycle().take(9).enumerate() {
            let data = pattern(5000 + n, n as u64);
            let before = client.attr(&file);
            let wrote = client.write(&file, expected.len() as u64, &data, *stable);
            let wrote = wrote.expect("WRITE");
            exact_wcc(&wrote.file_wcc, &before, &client.attr(&file));
            assert_eq!(wrote.count as usize, data.len());
            assert!(wrote.committed >= *stable);
            assert_eq!(*verf.get_or_insert(wrote.verf), wrote.verf);
            expected.extend(data);
            let after = wrote.file_wcc.after.expect("attributes");
            assert_eq!(after.size as usize, expected.len());
            assert!(after.mtime.seconds > 1_600_000_000);
        }
        let before = client.attr(&file);
        let commit = client.commit(&file, 0, 0).expect("COMMIT");
        exact_wcc(&commit.file_wcc, &before, &client.attr(&file));
        assert_eq!(Some(commit.verf), verf);
        for (offset, count) in [(0, 1), (100, 50), (1 << 40, 10), (u64::MAX, u32::MAX)] {
            client.commit(&file, offset, count).expect("any range");
        }
        let read = client.read(&file, 0, 1 << 20).expect("READ");
        assert!(read.data == expected);
        assert!(std::fs::read(server.export().join("file")).expect("the file") == expected);
        // Over what is there, and with a hole.
        client
            .write(&file, 10, b"inside", StableHow::Unstable)
            .expect("WRITE");
        assert_eq!(client.attr(&file).size as usize, expected.len());
        client
            .write(&file, 1 << 30, b"end", StableHow::Unstable)
            .expect("WRITE");
        let read = client.read(&file, (1 << 30) - 2, 10).expect("READ");
        assert_eq!(read.data, b"\0\0end");
    }
}

/// The write verifier is the same as long as the server lives, for every file and connection, and another after that.
#[test]
fn write_and_commit_verifiers_tell_lives_apart() {
    let mut server = TestServer::start();
    let mut seen: Vec<Writeverf3> = Vec::new();
    for life in 0..4 {
        let (mut client, root) = server.mounted();
        let mut other = server.client();
        let mut of_life = None;
        for n in 0..3 {
            let name = format!("f{life}{n}");
            let file = client.new_file(&root, name.as_bytes(), 0o644);
            for client in [&mut client, &mut other] {
                let wrote = client.write(&file, 0, b"x", StableHow::Unstable);
                let wrote = wrote.expect("WRITE");
                let commit = client.commit(&file, 0, 0).expect("COMMIT");
                assert_eq!(wrote.verf, commit.verf);
                assert_eq!(*of_life.get_or_insert(wrote.verf), wrote.verf);
            }
        }
        let verf = of_life.expect("written");
        assert!(!seen.contains(&verf), "a verifier of an earlier life");
        seen.push(verf);
        drop((client, other));
        if life % 2 == 0 {
            server.kill9();
            server.start_again();
        } else {
            server.restart();
        }
    }
}

/// Data said to be stable, and data committed, is in the file after SIGKILL. (Of the page cache only a power cut says more;
/// see the crash tests.)
#[test]
fn stable_data_survives_sigkill() {
    let mut server = TestServer::start();
    let (mut client, root) = server.mounted();
    let data = pattern(300_000, 5);
    let stable = client.new_file(&root, b"stable", 0o644);
    client
        .write(&stable, 0, &data, StableHow::FileSync)
        .expect("WRITE");
    let committed = client.new_file(&root, b"committed", 0o644);
    client
        .write(&committed, 0, &data, StableHow::Unstable)
        .expect("WRITE");
    client.commit(&committed, 0, 0).expect("COMMIT");
    server.kill9();
    drop(client);
    server.start_again();
    let mut client = server.client();
    for fh in [&stable, &committed] {
        assert!(client.read(fh, 0, 1 << 20).expect("READ").data == data);
    }
}

/// Many writers to one file and many readers of another at once, over several connections.
#[test]
fn parallel_data() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        const PIECE: usize = 10_000;
        std::thread::scope(|scope| {
            for lane in 0..4_usize {
                let (file, mut client) = (&file, server.client());
                scope.spawn(move || {
                    let mut xids = Vec::new();
                    for n in 0..32 {
                        let at = (n * 4 + lane) * PIECE;
                        let data = pattern(PIECE, at as u64);
                        let stable = StableHow::ALL[n % 3];
                        xids.push(client.start_write(file, at as u64, &data, stable));
                    }
                    for xid in xids {
                        let wrote = client.finish_write(xid).expect("WRITE");
                        assert_eq!(wrote.count as usize, PIECE);
                    }
                });
            }
        });
        client.commit(&file, 0, 0).expect("COMMIT");
        for n in 0..128 {
            let at = n * PIECE;
            let read = client.read(&file, at as u64, PIECE as u32).expect("READ");
            assert!(read.data == pattern(PIECE, at as u64), "piece {n}");
        }
    }
}
