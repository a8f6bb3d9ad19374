//! Every operation of NFS version 4 over a socket.

#[path = "nfs4/acls.rs"]
mod acls;
#[path = "nfs4/attributes.rs"]
mod attributes;
#[path = "nfs4/callbacks.rs"]
mod callbacks;
#[path = "nfs4/clients.rs"]
mod clients;
#[path = "nfs4/compounds.rs"]
mod compounds;
#[path = "nfs4/deadlock.rs"]
mod deadlock;
#[path = "nfs4/delegations.rs"]
mod delegations;
#[path = "nfs4/errors.rs"]
mod errors;
#[path = "nfs4/flavors.rs"]
mod flavors;
#[path = "nfs4/fuzz.rs"]
mod fuzz;
#[path = "nfs4/hammer.rs"]
mod hammer;
#[path = "nfs4/handles.rs"]
mod handles;
#[path = "nfs4/host_fuse.rs"]
mod host_fuse;
#[path = "nfs4/host_locks.rs"]
mod host_locks;
#[path = "nfs4/host_opens.rs"]
mod host_opens;
#[path = "nfs4/kernel.rs"]
mod kernel;
#[path = "nfs4/names.rs"]
mod names;
#[path = "nfs4/new_acls.rs"]
mod new_acls;
#[path = "nfs4/pynfs_found.rs"]
mod pynfs_found;
#[path = "nfs4/recovery.rs"]
mod recovery;
#[path = "nfs4/recovery_claims.rs"]
mod recovery_claims;
#[path = "nfs4/recovery_store.rs"]
mod recovery_store;
#[path = "nfs4/recovery_twice.rs"]
mod recovery_twice;
#[path = "nfs4/reference.rs"]
mod reference;
#[path = "nfs4/scale.rs"]
mod scale;
#[path = "nfs4/sessions.rs"]
mod sessions;
#[path = "nfs4/state.rs"]
mod state;
#[path = "nfs4/transfers.rs"]
mod transfers;
#[path = "nfs4/v42_copy.rs"]
mod v42_copy;
#[path = "nfs4/v42_space.rs"]
mod v42_space;
#[path = "nfs4/want_delegation.rs"]
mod want_delegation;
#[path = "nfs4/xattrs.rs"]
mod xattrs;

use tests::client::nfs4::{Ops, mode4};
use tests::client::session::Session;
use tests::client::{Client, Fh, encode};
use tests::daemon::TestServer;

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::types::*;

/// A client at the export's root.
fn at_export(server: &TestServer) -> (Client, Fh) {
    let mut client = server.client();
    let path = server.export();
    let ops = Ops::new().putrootfh().walk(path.to_str().expect("text"));
    let mut done = client.compound(0, &ops.getfh());
    done.ok(Op4::Putrootfh);
    while done.left > 1 {
        done.ok(Op4::Lookup);
    }
    let fh = done.fh();
    (client, fh)
}

/// A session of minor version 2, and the export's root.
fn session(server: &TestServer) -> (Session, Fh) {
    let mut session = Session::new(server.client(), 2);
    let root = session.walk(server.export().to_str().expect("text"));
    (session, root)
}

/// Opens a file of a directory, which must be there, with OPEN4_SHARE_ACCESS_* bits.
fn open(session: &mut Session, dir: &[u8], name: &[u8], access: u32) -> Stateid4 {
    let mut args = Vec::new();
    // Sequence number, access, deny, client ID; an owner; no create; a name.
    for word in [0, access, 0, 0, 0, 4] {
        args.extend(u32::to_be_bytes(word));
    }
    args.extend(b"open");
    args.extend([0; 8]);
    args.extend(encode(&Component4(name)));
    let ops = Ops::new().putfh(dir).raw(Op4::Open.wire(), &args);
    let mut done = session.call(&ops);
    done.ok(Op4::Putfh);
    done.body(Op4::Open)
}

/// CREATE with a mode, in the current directory.
fn create(ops: Ops, what: &Createtype4<'_>, name: &[u8]) -> Ops {
    let mut args = encode(what);
    args.extend(encode(&Component4(name)));
    args.extend(mode4(0o750));
    ops.raw(Op4::Create.wire(), &args)
}
