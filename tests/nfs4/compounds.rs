//! COMPOUND itself: versions, tags, illegal and unknown operations, where it stops.

use nfsd::nfs3::NFS_PROGRAM;
use nfsd::nfs4::op::ROWS;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::{NFS_V4, Op4, PROC_COMPOUND, PROC_NULL};
use nfsd::rpc::msg::Refusal;
use tests::client::nfs4::{COMPOUND, Ops, Raw, Results};
use tests::daemon::TestServer;

#[test]
fn null_and_unknown_procedures() {
    let server = TestServer::start();
    let mut client = server.client();
    let call = |client: &mut tests::client::Client, proc| {
        client.call([NFS_PROGRAM, NFS_V4, proc], &()).outcome()
    };
    assert_eq!(call(&mut client, PROC_NULL), Ok(()));
    assert_eq!(call(&mut client, PROC_COMPOUND), Err(Refusal::GarbageArgs));
    assert_eq!(call(&mut client, 2), Err(Refusal::ProcUnavail));
}

#[test]
fn tags_are_echoed_and_minor_versions_checked() {
    let server = TestServer::start();
    let mut client = server.client();
    for minor in 0..5 {
        let args = Ops::new().args(minor, b"what for");
        let results = Results::of(&client.call(COMPOUND, &Raw(&args)));
        let expected = if minor <= 2 {
            Nfsstat4::Ok
        } else {
            Nfsstat4::MinorVersMismatch
        };
        assert_eq!(results.status, expected);
        assert_eq!(results.tag, b"what for");
        results.end();
    }
    let garbage = client.call(COMPOUND, &Raw(&[0xff; 8]));
    assert_eq!(garbage.outcome(), Err(Refusal::GarbageArgs));
}

#[test]
fn operations_that_do_not_exist() {
    let server = TestServer::start();
    let mut client = server.client();
    for number in [0, 1, 2, 76, 10_043, 10_044, 10_045, u32::MAX] {
        let ops = Ops::new().putrootfh().raw(number, &[]).getfh();
        let mut done = client.compound(0, &ops);
        done.ok(Op4::Putrootfh);
        assert_eq!(done.status_of(Op4::Illegal), Nfsstat4::OpIllegal);
        done.end();
    }
    // Of a later minor version.
    let mut done = client.compound(0, &Ops::new().bare(Op4::Sequence));
    assert_eq!(done.status_of(Op4::Illegal), Nfsstat4::OpIllegal);
    done.end();
}

#[test]
fn arguments_cut_short_are_badxdr_for_every_operation() {
    let server = TestServer::start();
    let mut client = server.client();
    let bare = [
        Op4::Getfh,
        Op4::Lookupp,
        Op4::Putpubfh,
        Op4::Putrootfh,
        Op4::Readlink,
        Op4::Restorefh,
        Op4::Savefh,
    ];
    for row in ROWS.iter().filter(|row| row.op.minors().0 == 0) {
        let ops = Ops::new().putrootfh().raw(row.op.wire(), &[0, 0]);
        let mut done = client.compound(0, &ops);
        done.ok(Op4::Putrootfh);
        let status = done.status_of(row.op);
        assert_eq!(
            status != Nfsstat4::Badxdr,
            bare.contains(&row.op),
            "{} {status}",
            row.op
        );
    }
}

#[test]
fn too_many_operations() {
    let server = TestServer::start();
    let mut client = server.client();
    let ops = (0..nfsd::nfs4::compound::OPS_MAX).fold(Ops::new(), |ops, _| ops.putrootfh());
    let done = client.compound(0, &ops);
    assert_eq!(
        (done.status, done.left),
        (Nfsstat4::Ok, nfsd::nfs4::compound::OPS_MAX)
    );
    let done = client.compound(0, &ops.putrootfh());
    assert_eq!((done.status, done.left), (Nfsstat4::Resource, 0));
}

#[test]
fn without_a_filehandle() {
    let server = TestServer::start();
    let mut client = server.client();
    for op in [Op4::Getfh, Op4::Savefh, Op4::Readlink, Op4::Lookupp] {
        let mut done = client.compound(0, &Ops::new().bare(op));
        assert_eq!(done.status_of(op), Nfsstat4::Nofilehandle);
        done.end();
    }
    let mut done = client.compound(0, &Ops::new().bare(Op4::Restorefh));
    assert_eq!(done.status_of(Op4::Restorefh), Nfsstat4::Restorefh);
}

#[test]
fn later_versions_need_a_session() {
    let server = TestServer::start();
    let mut client = server.client();
    for minor in [1, 2] {
        let mut done = client.compound(minor, &Ops::new().putrootfh());
        assert_eq!(done.status_of(Op4::Putrootfh), Nfsstat4::OpNotInSession);
        done.end();
    }
}
