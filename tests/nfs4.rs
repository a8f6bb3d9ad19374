//! Every operation of NFS version 4 over a socket.

#[path = "nfs4/attributes.rs"]
mod attributes;
#[path = "nfs4/callbacks.rs"]
mod callbacks;
#[path = "nfs4/compounds.rs"]
mod compounds;
#[path = "nfs4/fuzz.rs"]
mod fuzz;
#[path = "nfs4/names.rs"]
mod names;
#[path = "nfs4/state.rs"]
mod state;

use tests::client::nfs4::{Ops, mode4};
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

/// CREATE with a mode, in the current directory.
fn create(ops: Ops, what: &Createtype4<'_>, name: &[u8]) -> Ops {
    let mut args = encode(what);
    args.extend(encode(&Component4(name)));
    args.extend(mode4(0o750));
    ops.raw(Op4::Create.wire(), &args)
}
