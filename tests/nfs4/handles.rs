//! Filehandles: where they come from, what is no filehandle, and what goes with them.

use std::fs;

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw};
use tests::client::{Client, encode};
use tests::daemon::{Setup, TestServer};

use super::state::{DENY_NONE, READ, What, open, opened, read};
use super::{at_export, session};

fn put(client: &mut Client, fh: &[u8]) -> S {
    client.compound(0, &Ops::new().putfh(fh)).status
}

#[test]
fn putfh_takes_what_getfh_gave() {
    let server = TestServer::start();
    fs::write(server.export().join("f"), b"data").expect("a file");
    let (mut client, root) = at_export(&server);
    let lookup = Ops::new().putfh(&root).lookup(b"f").getfh();
    let mut done = client.compound(0, &lookup);
    done.ok(Op4::Putfh);
    done.ok(Op4::Lookup);
    let fh = done.fh();
    assert!(fh.len() <= 128);
    let mut done = client.compound(0, &Ops::new().putfh(&fh).getfh());
    done.ok(Op4::Putfh);
    assert_eq!(done.fh(), fh);
    // Cut short, grown, changed in any byte, none at all.
    for len in 0..fh.len() {
        assert_eq!(put(&mut client, &fh[..len]), S::Badhandle, "{len} bytes");
    }
    assert_eq!(put(&mut client, &[&fh[..], &[0]].concat()), S::Badhandle);
    for at in 0..fh.len() {
        let mut forged = fh.clone();
        forged[at] ^= 1 << (at % 8);
        assert_eq!(put(&mut client, &forged), S::Badhandle, "byte {at}");
    }
    assert_eq!(put(&mut client, &[0xff; 128]), S::Badhandle);
    let long = Ops::new().op(Op4::Putfh, &Raw(&encode(&Tag4(&[7; 129]))));
    assert_eq!(client.compound(0, &long).status, S::Badxdr);
    // Of what was removed, also when its number is used again.
    let remove = Ops::new().op(Op4::Remove, &Component4(b"f"));
    let done = client.compound(0, &Ops::new().putfh(&root).then(&remove));
    assert_eq!(done.status, S::Ok);
    assert_eq!(put(&mut client, &fh), S::Stale);
    for i in 0..20 {
        fs::write(server.export().join(format!("g{i}")), b"").expect("a file");
    }
    assert_eq!(put(&mut client, &fh), S::Stale);
    // A current filehandle that was removed afterwards.
    let gone = Ops::new()
        .putfh(&root)
        .lookup(b"g0")
        .bare(Op4::Savefh)
        .putfh(&root)
        .op(Op4::Remove, &Component4(b"g0"))
        .bare(Op4::Restorefh)
        .getattr(&[1]);
    let done = client.compound(0, &gone);
    assert!([S::Ok, S::Stale].contains(&done.status), "{}", done.status);
}

#[test]
fn putfh_of_version_3_and_the_other_way_round() {
    let server = TestServer::start();
    let (mut three, root) = server.mounted();
    let (mut client, same) = at_export(&server);
    assert_eq!(root, same, "one handle for all versions");
    assert_eq!(put(&mut client, &root), S::Ok);
    three.getattr(&same).expect("the root");
    // But the pseudo file system is of version 4 alone.
    let mut done = client.compound(0, &Ops::new().putrootfh().getfh());
    done.ok(Op4::Putrootfh);
    let pseudo = done.fh();
    assert_eq!(put(&mut client, &pseudo), S::Ok);
    let refused = three.getattr(&pseudo).expect_err("not of version 3");
    use nfsd::nfs3::status::Nfsstat3;
    assert_eq!(refused.status, Nfsstat3::Badhandle);
}

#[test]
fn putfh_outlives_a_restart_and_not_its_export() {
    let mut server = Setup::exports("@DIR@/export *(rw,insecure,no_root_squash)").start();
    fs::create_dir(server.dir().join("other")).expect("a directory");
    let (client, root) = at_export(&server);
    drop(client);
    server.restart();
    let mut client = server.client();
    assert_eq!(put(&mut client, &root), S::Ok);
    let mut done = client.compound(0, &Ops::new().putrootfh().getfh());
    done.ok(Op4::Putrootfh);
    let pseudo = done.fh();
    server
        .reexport("@DIR@/other *(rw,insecure,no_root_squash)")
        .expect("reexported");
    assert_eq!(put(&mut client, &root), S::Stale);
    assert_eq!(put(&mut client, &pseudo), S::Ok);
}

#[test]
fn putrootfh_putpubfh_and_getfh() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut root = |op| {
        let mut done = client.compound(0, &Ops::new().bare(op).getfh().getfh());
        done.ok(op);
        let fh = done.fh();
        assert_eq!(done.fh(), fh, "as often as one likes");
        done.end();
        fh
    };
    assert_eq!(root(Op4::Putrootfh), root(Op4::Putpubfh));
    let (mut session, _) = session(&server);
    for op in [Op4::Putrootfh, Op4::Putpubfh] {
        let mut done = session.call(&Ops::new().bare(op).getfh());
        done.ok(op);
        assert_eq!(done.fh(), root(Op4::Putrootfh));
    }
    let mut done = session.call(&Ops::new().getfh());
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
}

#[test]
fn savefh_and_restorefh_keep_the_stateid_too() {
    let server = TestServer::start();
    let (mut session, root) = session(&server);
    fs::write(server.export().join("f"), b"data").expect("a file");
    let current = read(Ops::new(), &Stateid4::CURRENT, 4);
    let opens = open(
        Ops::new(),
        0,
        (READ, DENY_NONE),
        (0, b"o"),
        What::Name(b"f"),
    );
    // Right behind the OPEN; kept over other filehandles; lost with another one.
    let mut done = session.at(&root, &opens.clone().then(&current));
    opened(&mut done);
    assert_eq!(done.status_of(Op4::Read), S::Ok);
    let kept = opens
        .clone()
        .bare(Op4::Savefh)
        .putfh(&root)
        .bare(Op4::Restorefh)
        .then(&current);
    assert_eq!(session.at(&root, &kept).status, S::Ok);
    let lost = opens.clone().getfh().putfh(&root).lookup(b"f");
    let done = session.at(&root, &lost.then(&current));
    assert_eq!(done.status, S::BadStateid);
    // A filehandle saved without one brings none back.
    let before = Ops::new()
        .lookup(b"f")
        .bare(Op4::Savefh)
        .putfh(&root)
        .then(&opens)
        .bare(Op4::Restorefh)
        .then(&current);
    assert_eq!(session.at(&root, &before).status, S::BadStateid);
    // Without a saved one.
    let mut done = session.call(&Ops::new().bare(Op4::Restorefh));
    assert_eq!(done.status_of(Op4::Restorefh), S::Nofilehandle);
    let mut done = session.call(&Ops::new().bare(Op4::Savefh));
    assert_eq!(done.status_of(Op4::Savefh), S::Nofilehandle);
    // RESTOREFH leaves what is saved.
    let twice = Ops::new()
        .lookup(b"f")
        .bare(Op4::Savefh)
        .bare(Op4::Restorefh)
        .putrootfh()
        .bare(Op4::Restorefh)
        .getfh();
    assert_eq!(session.at(&root, &twice).status, S::Ok);
    let (mut client, _) = at_export(&server);
    let done = client.compound(0, &Ops::new().bare(Op4::Restorefh));
    assert_eq!(done.status, S::Restorefh);
}

/// SECINFO's flavors.
fn secinfo(name: &[u8]) -> Ops {
    Ops::new().op(Op4::Secinfo, &Component4(name))
}

#[test]
fn secinfo_of_names() {
    let server = TestServer::start();
    fs::write(server.export().join("f"), b"data").expect("a file");
    std::os::unix::fs::symlink("f", server.export().join("l")).expect("a link");
    let (mut client, root) = at_export(&server);
    let mut at = |ops: Ops| client.compound(0, &Ops::new().putfh(&root).then(&ops));
    let mut done = at(secinfo(b"f").getfh());
    done.ok(Op4::Putfh);
    assert_eq!(done.body::<u32>(Op4::Secinfo), 1);
    assert_eq!(done.more::<u32>(), 1, "AUTH_SYS");
    // In 4.0, the filehandle stays.
    assert_eq!(done.fh(), root);
    assert_eq!(at(secinfo(b"none")).status, S::Noent);
    assert_eq!(at(secinfo(b"")).status, S::Inval);
    assert_eq!(at(secinfo(&[b'x'; 256])).status, S::Nametoolong);
    let in_file = Ops::new().lookup(b"f").then(&secinfo(b"x"));
    assert_eq!(at(in_file).status, S::Notdir);
    let in_link = Ops::new().lookup(b"l").then(&secinfo(b"x"));
    assert_eq!(at(in_link).status, S::Notdir);
    let nowhere = client.compound(0, &secinfo(b"f"));
    assert_eq!(nowhere.status, S::Nofilehandle);
    // Since 4.1 it takes the filehandle with it.
    let (mut session, root) = session(&server);
    let mut done = session.at(&root, &secinfo(b"f").getfh());
    assert_eq!(done.body::<u32>(Op4::Secinfo), 1);
    assert_eq!(done.more::<u32>(), 1);
    assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
}

#[test]
fn secinfo_no_name_of_here_and_above() {
    let server = TestServer::start();
    fs::write(server.export().join("f"), b"data").expect("a file");
    let (mut session, root) = session(&server);
    let style = |style: u32| Ops::new().op(Op4::SecinfoNoName, &style);
    for which in [0, 1] {
        let mut done = session.at(&root, &style(which).getfh());
        assert!((1..=2).contains(&done.body::<u32>(Op4::SecinfoNoName)));
        assert_eq!(done.more::<u32>(), 1, "AUTH_SYS is preferred");
        if which == 1 {
            // Above the export is the pseudo file system, which anybody may see.
            assert_eq!(done.more::<u32>(), 0);
        }
        assert_eq!(done.status_of(Op4::Getfh), S::Nofilehandle);
    }
    let above = Ops::new().putrootfh().then(&style(1));
    assert_eq!(session.call(&above).status, S::Noent);
    let file = Ops::new().lookup(b"f").then(&style(1));
    assert_eq!(session.at(&root, &file).status, S::Notdir);
    assert_eq!(session.call(&style(0)).status, S::Nofilehandle);
    assert_eq!(session.at(&root, &style(2)).status, S::Badxdr);
}
