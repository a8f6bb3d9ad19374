//! Faults injected below the VFS: each operation of io_uring fails in turn, and the client is told what happened.

use nfsd::nfs3::Proc3;
use nfsd::nfs3::status::{Nfsstat3, from_errno, restrict};
use nfsd::nfs3::types::{Createhow3, StableHow};
use tests::client::nfs3::{Outcome as _, mode, size};
use tests::client::{Client, Fh};
use tests::daemon::{Setup, TestServer};

/// Numbers of io_uring operations (`io_uring_enter(2)`).
mod op {
    pub const FSYNC: u8 = 3;
    pub const FALLOCATE: u8 = 17;
    pub const OPENAT: u8 = 18;
    pub const STATX: u8 = 21;
    pub const READ: u8 = 22;
    pub const WRITE: u8 = 23;
    pub const OPENAT2: u8 = 28;
    pub const RENAMEAT: u8 = 35;
    pub const UNLINKAT: u8 = 36;
    pub const MKDIRAT: u8 = 37;
    pub const SYMLINKAT: u8 = 38;
    pub const LINKAT: u8 = 39;
    pub const SETXATTR: u8 = 42;
    pub const FTRUNCATE: u8 = 55;
}

const ERRNOS: [i32; 5] = [
    libc::EIO,
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EROFS,
    libc::EMFILE,
];

/// What the operations work on.
struct Bed {
    // The connection ends before the server does.
    client: Client,
    server: TestServer,
    root: Fh,
    file: Fh,
    serial: u32,
}

impl Bed {
    fn new() -> Bed {
        let server = Setup::default().policy("ring").faults("").start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        client
            .write(&file, 0, &[5; 50_000], StableHow::FileSync)
            .expect("WRITE");
        Bed {
            server,
            client,
            root,
            file,
            serial: 0,
        }
    }

    fn faults(&self, rules: &str) {
        self.server
            .control(&format!("faults {rules}"))
            .expect("fault injection");
    }

    /// A name not used before.
    fn name(&mut self) -> Vec<u8> {
        self.serial += 1;
        format!("n{}", self.serial).into_bytes()
    }

    /// A new file under a new name, made without faults.
    fn victim(&mut self) -> Vec<u8> {
        let name = self.name();
        self.client.new_file(&self.root, &name, 0o644);
        name
    }
}

/// An operation of the kernel, the procedure that needs it, and how to call that: prepare without faults, then run.
type Case = (
    u8,
    &'static str,
    Proc3,
    fn(&mut Bed) -> Vec<u8>,
    fn(&mut Bed, &[u8]) -> Nfsstat3,
);

const CASES: &[Case] = &[
    (
        op::STATX,
        "GETATTR",
        Proc3::Getattr,
        |_| Vec::new(),
        |b, _| b.client.getattr(&b.file).status(),
    ),
    (
        op::READ,
        "READ",
        Proc3::Read,
        |_| Vec::new(),
        |b, _| b.client.read(&b.file, 0, 10_000).status(),
    ),
    (
        op::WRITE,
        "WRITE",
        Proc3::Write,
        |_| Vec::new(),
        |b, _| {
            let data = [1; 10_000];
            b.client
                .write(&b.file, 0, &data, StableHow::Unstable)
                .status()
        },
    ),
    (
        op::FSYNC,
        "WRITE FILE_SYNC",
        Proc3::Write,
        |_| Vec::new(),
        |b, _| {
            let data = [1; 100];
            b.client
                .write(&b.file, 0, &data, StableHow::FileSync)
                .status()
        },
    ),
    (
        op::FSYNC,
        "WRITE DATA_SYNC",
        Proc3::Write,
        |_| Vec::new(),
        |b, _| {
            let data = [1; 100];
            b.client
                .write(&b.file, 0, &data, StableHow::DataSync)
                .status()
        },
    ),
    (
        op::FSYNC,
        "COMMIT",
        Proc3::Commit,
        |b| {
            let data = [1; 100];
            let wrote = b.client.write(&b.file, 0, &data, StableHow::Unstable);
            wrote.expect("WRITE");
            Vec::new()
        },
        |b, _| b.client.commit(&b.file, 0, 0).status(),
    ),
    (op::FSYNC, "CREATE", Proc3::Create, Bed::name, |b, name| {
        let how = Createhow3::Guarded(mode(0o644));
        b.client.create(&b.root, name, how).status()
    }),
    (op::OPENAT, "CREATE", Proc3::Create, Bed::name, |b, name| {
        let how = Createhow3::Guarded(mode(0o644));
        b.client.create(&b.root, name, how).status()
    }),
    (
        op::SETXATTR,
        "CREATE EXCLUSIVE",
        Proc3::Create,
        Bed::name,
        |b, name| {
            b.client
                .create(&b.root, name, Createhow3::Exclusive([1; 8]))
                .status()
        },
    ),
    (
        op::OPENAT,
        "LOOKUP",
        Proc3::Lookup,
        |b| {
            let name = b.name();
            let path = b
                .server
                .export()
                .join(String::from_utf8_lossy(&name).as_ref());
            std::fs::write(path, "x").expect("a file");
            name
        },
        |b, name| b.client.lookup(&b.root, name).status(),
    ),
    (op::MKDIRAT, "MKDIR", Proc3::Mkdir, Bed::name, |b, name| {
        b.client.mkdir(&b.root, name, mode(0o755)).status()
    }),
    (
        op::SYMLINKAT,
        "SYMLINK",
        Proc3::Symlink,
        Bed::name,
        |b, name| b.client.symlink(&b.root, name, b"to").status(),
    ),
    (op::LINKAT, "LINK", Proc3::Link, Bed::name, |b, name| {
        b.client.link(&b.file, &b.root, name).status()
    }),
    (
        op::UNLINKAT,
        "REMOVE",
        Proc3::Remove,
        Bed::victim,
        |b, name| b.client.remove(&b.root, name).status(),
    ),
    (
        op::UNLINKAT,
        "RMDIR",
        Proc3::Rmdir,
        |b| {
            let name = b.name();
            b.client.new_dir(&b.root, &name, 0o755);
            name
        },
        |b, name| b.client.rmdir(&b.root, name).status(),
    ),
    (
        op::RENAMEAT,
        "RENAME",
        Proc3::Rename,
        Bed::victim,
        |b, name| {
            let to = b.name();
            b.client.rename((&b.root, name), (&b.root, &to)).status()
        },
    ),
    (
        op::FTRUNCATE,
        "SETATTR size",
        Proc3::Setattr,
        |_| Vec::new(),
        |b, _| b.client.setattr(&b.file, size(100_000), None).status(),
    ),
];

/// Of an operation that has more than one opcode on this kernel, faults are set for all.
fn same(code: u8) -> Vec<u8> {
    match code {
        op::OPENAT | op::OPENAT2 => vec![op::OPENAT, op::OPENAT2],
        op::FTRUNCATE => vec![op::FTRUNCATE, op::FALLOCATE],
        code => vec![code],
    }
}

/// Every operation with every errno: the right status, the same call works as soon as the fault is gone, and nothing is
/// leaked (which the end of the server checks).
#[test]
fn every_operation_fails_with_every_errno() {
    let mut bed = Bed::new();
    for (code, what, procedure, prepare, run) in CASES {
        for errno in ERRNOS {
            let name = prepare(&mut bed);
            let rules: Vec<String> = same(*code)
                .into_iter()
                .map(|code| format!("{code}:{errno}"))
                .collect();
            bed.faults(&rules.join(","));
            let status = run(&mut bed, &name);
            bed.faults("");
            let expected = restrict(*procedure, from_errno(errno));
            // Exclusive creates have another place for their verifier.
            let fallback = *code == op::SETXATTR && errno == libc::ENOSPC && status == Nfsstat3::Ok;
            // Names made before the sync failed are there; that they may be lost is what the client was told.
            assert!(
                status == expected || fallback,
                "{what}, errno {errno}: {status}, not {expected}"
            );
            let again = prepare(&mut bed);
            assert_eq!(
                run(&mut bed, &again),
                Nfsstat3::Ok,
                "{what} without a fault"
            );
        }
    }
}

/// A failed fsync(2) loses data the client believes to be on its way: COMMIT says so, and the write verifier changes, so
/// that every client sends again what it has not seen committed.
#[test]
fn failed_syncs_change_the_verifier() {
    for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT] {
        let mut bed = Bed::new();
        let other = bed.client.new_file(&bed.root, b"other", 0o644);
        let write = |bed: &mut Bed, fh: &Fh| {
            let wrote = bed.client.write(fh, 0, b"data", StableHow::Unstable);
            wrote.expect("WRITE").verf
        };
        let file = bed.file.clone();
        let before = write(&mut bed, &file);
        assert_eq!(write(&mut bed, &other), before);
        bed.faults(&format!("{}:{errno}:0:1", op::FSYNC));
        let fail = bed.client.commit(&file, 0, 0).expect_err("a failed fsync");
        assert_eq!(fail.status, restrict(Proc3::Commit, from_errno(errno)));
        assert!(fail.with.after.is_some());
        let commit = bed.client.commit(&other, 0, 0).expect("COMMIT");
        assert_ne!(commit.verf, before, "errno {errno}");
        assert_eq!(write(&mut bed, &file), commit.verf);
        // A stable write that fails the same way.
        bed.faults(&format!("{}:{errno}:0:1", op::FSYNC));
        let fail = bed.client.write(&file, 0, b"data", StableHow::FileSync);
        assert_eq!(fail.status(), restrict(Proc3::Write, from_errno(errno)));
        let after = write(&mut bed, &file);
        assert_ne!(after, commit.verf);
    }
}

/// Several COMMITs share one fsync(2); when it fails, all of them fail.
#[test]
fn everyone_who_shares_a_failed_sync_is_told() {
    let mut bed = Bed::new();
    let file = bed.file.clone();
    let mut clients: Vec<Client> = (0..8).map(|_| bed.server.client()).collect();
    for client in &mut clients {
        client
            .write(&file, 0, b"data", StableHow::Unstable)
            .expect("WRITE");
    }
    bed.faults(&format!("{}:{}", op::FSYNC, libc::EIO));
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                let status = client.commit(&file, 0, 0).status();
                assert_eq!(status, Nfsstat3::Io);
            });
        }
    });
    bed.faults("");
    bed.client.commit(&file, 0, 0).expect("COMMIT");
}

/// Reads and writes that come back short are carried on with: the client gets all it asked for.
#[test]
fn short_reads_and_writes() {
    let mut bed = Bed::new();
    let data: Vec<u8> = (0..900_000_u32).map(|i| (i % 241) as u8).collect();
    bed.faults(&format!("{}:short,{}:short", op::READ, op::WRITE));
    for stable in StableHow::ALL {
        let wrote = bed.client.write(&bed.file, 7, &data, *stable);
        assert_eq!(wrote.expect("WRITE").count as usize, data.len());
        let read = bed.client.read(&bed.file, 7, data.len() as u32);
        let read = read.expect("READ");
        assert!(read.data == data && read.eof);
    }
    bed.faults("");
}

/// A write that fails half way says how far it came, and its data is there.
#[test]
fn writes_that_fail_half_way() {
    let mut bed = Bed::new();
    let rules = format!("{0}:short:0:1,{0}:{1}", op::WRITE, libc::ENOSPC);
    bed.faults(&rules);
    let data = [9; 40_000];
    let wrote = bed.client.write(&bed.file, 0, &data, StableHow::FileSync);
    bed.faults("");
    let count = wrote.expect("a part").count as usize;
    assert!(count > 0 && count < data.len(), "{count}");
    let read = bed.client.read(&bed.file, 0, 40_000).expect("READ");
    assert!(read.data[..count].iter().all(|b| *b == 9));
    assert!(read.data[count..].iter().all(|b| *b == 5));
}
