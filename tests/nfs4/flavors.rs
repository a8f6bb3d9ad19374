//! Exports that do not take the flavor of the request: WRONGSEC, and by which operation (RFC 8881 2.6.3.1.1), and what
//! SECINFO and MOUNT say of them.

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::Ops;
use tests::client::session::Session;
use tests::client::{Client, Fh, Login};
use tests::daemon::{Setup, TestServer, fresh_dir};

use super::state::{DENY_NONE, READ, What, open};

/// One export for AUTH_SYS with another in it for AUTH_NONE.
fn server() -> TestServer {
    let exports =
        "@DIR@/export *(rw,insecure,no_root_squash)\n@DIR@/export/in *(rw,insecure,sec=none)\n";
    let dir = fresh_dir();
    std::fs::create_dir_all(dir.path().join("export/in")).expect("directories");
    std::fs::write(dir.path().join("export/in/f"), b"data").expect("a file");
    Setup::exports(exports).start_in(dir)
}

/// A session by AUTH_SYS, the outer root, and the inner one, which somebody without a name has found.
fn bed(server: &TestServer) -> (Session, Fh, Fh) {
    let mut session = Session::new(server.client(), 1);
    let outer = session.walk(server.export().to_str().expect("text"));
    let mut nobody = server.client().with_login(Login::None);
    let path = server.export().join("in");
    let (inner, _) = nobody
        .mnt(path.to_str().expect("text").as_bytes())
        .expect("MNT");
    (session, outer, inner)
}

fn secinfo(name: &[u8]) -> Ops {
    Ops::new().op(Op4::Secinfo, &Component4(name))
}

fn style(style: u32) -> Ops {
    Ops::new().op(Op4::SecinfoNoName, &style)
}

#[test]
fn wrongsec_of_a_name() {
    let server = server();
    let (mut session, outer, _) = bed(&server);
    let mut names = |ops: Ops| session.at(&outer, &ops);
    assert_eq!(names(Ops::new().lookup(b"in")).status, S::Wrongsec);
    // That its export does not take AUTH_SYS is what SECINFO is asked for, and takes the filehandle with it.
    let mut done = names(secinfo(b"in").getfh());
    assert_eq!(done.body::<u32>(Op4::Secinfo), 1);
    assert_eq!(done.more::<u32>(), 0, "AUTH_NONE");
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
    let mut done = names(style(0).getfh());
    assert_eq!(done.body::<u32>(Op4::SecinfoNoName), 1);
    assert_eq!(done.more::<u32>(), 1, "AUTH_SYS");
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
}

#[test]
fn wrongsec_of_a_filehandle() {
    let server = server();
    let (mut session, outer, inner) = bed(&server);
    let mut at = |ops: Ops| {
        let mut done = session.call(&Ops::new().putfh(&inner).then(&ops));
        let put = done.status_of(Op4::Putfh);
        (put, done)
    };
    // By PUTFH itself, where what follows uses the file.
    for ops in [
        Ops::new().getattr(&[bit::SIZE]),
        Ops::new().getfh(),
        Ops::new().bare(Op4::Savefh),
        Ops::new().op(Op4::Remove, &Component4(b"f")),
        Ops::new().bare(Op4::Lookupp),
    ] {
        assert_eq!(at(ops).0, S::Wrongsec);
    }
    // Not if nothing does, or another takes its place.
    assert_eq!(at(Ops::new()).1.status, S::Ok);
    assert_eq!(at(Ops::new().putfh(&outer).getfh()).1.status, S::Ok);
    assert_eq!(at(Ops::new().putrootfh()).1.status, S::Ok);
    // By what takes a name in it.
    let (put, done) = at(Ops::new().lookup(b"f"));
    assert_eq!((put, done.status), (S::Ok, S::Wrongsec));
    let named = open(
        Ops::new(),
        0,
        (READ, DENY_NONE),
        (0, b"o"),
        What::Name(b"f"),
    );
    let (put, done) = at(named);
    assert_eq!((put, done.status), (S::Ok, S::Wrongsec));
    // Never for who asks what would be right.
    let (_, mut done) = at(style(0).getfh());
    assert_eq!(done.body::<u32>(Op4::SecinfoNoName), 1);
    assert_eq!(done.more::<u32>(), 0);
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
    let (_, mut done) = at(secinfo(b"f").getfh());
    assert_eq!(done.body::<u32>(Op4::Secinfo), 1);
    assert_eq!(done.more::<u32>(), 0);
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
    assert_eq!(server.stat("nfs4.opens"), 0);
}

#[test]
fn wrongsec_of_the_root() {
    let exports = "/ *(ro,insecure,sec=none)\n";
    let server = Setup::exports(exports).start();
    let mut client = server.client();
    let mut at = |ops: Ops| client.compound(0, &ops);
    for put in [Op4::Putrootfh, Op4::Putpubfh] {
        let ops = Ops::new().bare(put);
        assert_eq!(at(ops.clone()).status, S::Ok, "alone");
        let mut done = at(ops.clone().getfh());
        assert_eq!(done.status_of(put), S::Wrongsec);
        let mut done = at(ops.lookup(b"etc"));
        done.ok(put);
        assert_eq!(done.status_of(Op4::Lookup), S::Wrongsec);
    }
    let mut done = at(Ops::new().putrootfh().then(&secinfo(b"etc")));
    done.ok(Op4::Putrootfh);
    assert_eq!(done.body::<u32>(Op4::Secinfo), 1);
    assert_eq!(done.more::<u32>(), 0);
    let mut client = server.client().with_login(Login::None);
    let done = client.compound(0, &Ops::new().putrootfh().lookup(b"etc").getfh());
    assert_eq!(done.status, S::Ok);
}

/// A filehandle kept with SAVEFH was usable, and stays so.
#[test]
fn what_is_saved_can_be_restored() {
    let server = server();
    let (mut session, outer, inner) = bed(&server);
    let ops = Ops::new()
        .putfh(&outer)
        .bare(Op4::Savefh)
        .putfh(&inner)
        .bare(Op4::Restorefh)
        .getfh();
    assert_eq!(session.call(&ops).status, S::Ok);
}

#[test]
fn mount_says_which_flavors() {
    let server = server();
    let inner = server.export().join("in");
    let inner = inner.to_str().expect("text").as_bytes();
    // MNT itself takes any flavor: its client is to learn which one the export takes.
    let mnt = |client: &mut Client, path: &[u8]| client.mnt(path).map(|(_, flavors)| flavors);
    let outer = server.export();
    let outer = outer.to_str().expect("text").as_bytes();
    for login in [Login::root(), Login::None] {
        let mut client = server.client().with_login(login);
        assert_eq!(mnt(&mut client, outer), Ok(vec![1]));
        assert_eq!(mnt(&mut client, inner), Ok(vec![0]));
    }
    // Then the export holds to it: version 3 has no better word.
    let mut client = server.client();
    let (root, _) = client.mnt(inner).expect("MNT");
    let refused = client.getattr(&root).expect_err("AUTH_SYS");
    assert_eq!(refused.status, nfsd::nfs3::status::Nfsstat3::Acces);
    let mut client = client.with_login(Login::None);
    assert!(client.getattr(&root).is_ok());
}
