//! Every procedure of NFS version 3 over a socket: success, every error that can be reached, and the attributes that
//! come with either.

#[path = "nfs3/attributes.rs"]
mod attributes;
#[path = "nfs3/counters.rs"]
mod counters;
#[path = "nfs3/data.rs"]
mod data;
#[path = "nfs3/exports.rs"]
mod exports;
#[path = "nfs3/groups.rs"]
mod groups;
#[path = "nfs3/handles.rs"]
mod handles;
#[path = "nfs3/listing.rs"]
mod listing;
#[path = "nfs3/making.rs"]
mod making;
#[path = "nfs3/names.rs"]
mod names;
#[path = "nfs3/reference.rs"]
mod reference;
#[path = "nfs3/space.rs"]
mod space;
#[path = "nfs3/transfers.rs"]
mod transfers;
#[path = "nfs3/wcc.rs"]
mod wcc;

use nfsd::nfs3::Proc3;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, Fattr3, Mknoddata3, Sattr3, StableHow, WccAttr, WccData};
use tests::client::Client;
use tests::client::nfs3::{Outcome as _, mode};

/// Every procedure that takes a handle, on `fh` (and a name `n` in it), with its status. For directories: those for files
/// fail in their own way.
fn every(client: &mut Client, fh: &[u8]) -> Vec<(Proc3, Nfsstat3)> {
    let c = client;
    let name = b"n";
    vec![
        (Proc3::Getattr, c.getattr(fh).status()),
        (Proc3::Setattr, c.setattr(fh, mode(0o777), None).status()),
        (Proc3::Lookup, c.lookup(fh, name).status()),
        (Proc3::Access, c.access(fh, 0x3f).status()),
        (Proc3::Readlink, c.readlink(fh).status()),
        (Proc3::Read, c.read(fh, 0, 10).status()),
        (
            Proc3::Write,
            c.write(fh, 0, b"x", StableHow::FileSync).status(),
        ),
        (
            Proc3::Create,
            c.create(fh, name, Createhow3::Guarded(Sattr3::default()))
                .status(),
        ),
        (Proc3::Mkdir, c.mkdir(fh, name, Sattr3::default()).status()),
        (Proc3::Symlink, c.symlink(fh, name, b"t").status()),
        (
            Proc3::Mknod,
            c.mknod(fh, name, Mknoddata3::Fifo(Sattr3::default()))
                .status(),
        ),
        (Proc3::Remove, c.remove(fh, name).status()),
        (Proc3::Rmdir, c.rmdir(fh, name).status()),
        (Proc3::Rename, c.rename((fh, name), (fh, b"m")).status()),
        (Proc3::Link, c.link(fh, fh, name).status()),
        (Proc3::Readdir, c.readdir(fh, 0, [0; 8], 4096).status()),
        (
            Proc3::Readdirplus,
            c.readdirplus(fh, 0, [0; 8], (4096, 4096)).status(),
        ),
        (Proc3::Fsstat, c.fsstat(fh).status()),
        (Proc3::Fsinfo, c.fsinfo(fh).status()),
        (Proc3::Pathconf, c.pathconf(fh).status()),
        (Proc3::Commit, c.commit(fh, 0, 0).status()),
    ]
}

/// Every procedure answers with the same status.
#[track_caller]
fn all_are(statuses: &[(Proc3, Nfsstat3)], expected: Nfsstat3) {
    for (procedure, status) in statuses {
        assert_eq!(*status, expected, "{procedure}");
    }
}

/// Weak cache consistency data of an operation alone in the world: exactly what was before and what is after.
#[track_caller]
fn exact_wcc(wcc: &WccData, before: &Fattr3, after: &Fattr3) {
    assert_eq!(
        wcc.before,
        Some(WccAttr::from(before)),
        "attributes before the operation"
    );
    assert_eq!(wcc.after, Some(*after), "attributes after the operation");
}

/// The times of a file as they are compared.
fn times(attr: &Fattr3) -> [(u32, u32); 3] {
    [attr.atime, attr.mtime, attr.ctime].map(|t| (t.seconds, t.nseconds))
}
