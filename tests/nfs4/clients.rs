//! Clients introduce themselves, stay, and go: every row of the case tables, with what the client held before.

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::setclientid::{
    CbClient4, NetName4, Netaddr4, NfsClientId4, SetclientidArgs, SetclientidRes,
};
use nfsd::nfs4::op::setclientid_confirm::SetclientidConfirmArgs;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, Login, encode};
use tests::daemon::{Setup, TestServer};

use super::at_export;
use super::host_locks::wait_for;
use super::state::{DENY_NONE, READ, What, open, opened};

const CONFIRMED: u32 = 0x8000_0000;
const UPDATE: u32 = 0x4000_0000;

fn terms(name: &[u8], boot: u8) -> Terms {
    Terms {
        verifier: [boot; 8],
        ..Terms::new(1).named(name)
    }
}

/// A file of an export as the client of `session` has it open.
fn open_41(session: &mut Session, root: &Fh) -> Stateid4 {
    let ops = open(
        Ops::new(),
        0,
        (READ, DENY_NONE),
        (0, b"o"),
        What::Make(b"f"),
    );
    let mut done = session.at(root, &ops);
    opened(&mut done).0
}

#[test]
fn exchange_id_case_table() {
    let server = TestServer::start();
    let mut client = server.client();
    let (_, root) = at_export(&server);
    let other = Login::user(7, 7);
    // 7: nothing to update. 1: new. 4: again, not confirmed yet.
    let one = terms(b"one", 1);
    assert_eq!(client.exchange_id(&one, UPDATE), Err(S::Noent));
    let first = client.exchange_id(&one, 0).expect("new");
    assert_eq!(first.flags & CONFIRMED, 0);
    assert_eq!(client.exchange_id(&one, UPDATE), Err(S::Noent));
    let second = client.exchange_id(&one, 0).expect("again");
    assert_ne!(second.clientid, first.clientid, "a record replaced");
    let gone = client.create_session(&one, first.clientid, first.sequence);
    assert_eq!(gone, Err(S::StaleClientid));
    let mut session = Session::on(server.client(), &one);
    // 2: asked again, confirmed. 6: an update.
    for flags in [0, UPDATE] {
        let same = client.exchange_id(&one, flags).expect("known");
        assert_eq!(same.clientid, session.clientid);
        assert_eq!(same.flags & CONFIRMED, CONFIRMED);
    }
    // 8 and 9: an update by another boot, and by another principal.
    let boot = terms(b"one", 2);
    assert_eq!(client.exchange_id(&boot, UPDATE), Err(S::NotSame));
    let by_other = |client: &mut Client, terms: &Terms, flags| {
        client.as_user(other.clone(), |client| client.exchange_id(terms, flags))
    };
    assert_eq!(by_other(&mut client, &one, UPDATE), Err(S::Perm));
    // 3: another principal's, while there is something to lose (a session counts).
    assert_eq!(by_other(&mut client, &one, 0), Err(S::ClidInuse));
    open_41(&mut session, &root);
    assert_eq!(by_other(&mut client, &boot, 0), Err(S::ClidInuse));
    // 5: the client restarted. What it had stays until the new record is confirmed.
    let fresh = client.exchange_id(&boot, 0).expect("restarted");
    assert_ne!(fresh.clientid, session.clientid);
    assert_eq!(fresh.flags & CONFIRMED, 0);
    session.call(&Ops::new().putrootfh()).ok(Op4::Putrootfh);
    assert_eq!(server.stat("nfs4.opens"), 1);
    let created = client.create_session(&boot, fresh.clientid, fresh.sequence);
    created.expect("confirmed");
    assert_eq!(server.stat("nfs4.opens"), 0, "gone with the old record");
    let old = session.sequenced(0, &Ops::new());
    assert_eq!(client.compound(1, &old).status, S::Badsession);
    // 3 again: with nothing to lose, the name goes to who asks.
    let idle = terms(b"idle", 1);
    Session::on(server.client(), &idle).end();
    by_other(&mut client, &idle, 0).expect("free again");
}

#[test]
fn exchange_id_arguments() {
    let server = TestServer::start();
    let mut client = server.client();
    let terms = terms(b"one", 1);
    for bad in [CONFIRMED, 0x8, 0x200, 0x10_0000] {
        assert_eq!(client.exchange_id(&terms, bad), Err(S::Inval), "{bad:#x}");
    }
    // State protection: by the machine's credential without RPCSEC_GSS, by a secret nobody offers.
    let head = [terms.verifier.to_vec(), encode(&OwnerName4(b"one"))].concat();
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(encode).collect() };
    let machine = words(&[0, 1, 0, 0, 0]);
    let secret = words(&[0, 2, 0, 0, 0, 0, 1, 1, 0]);
    let mut ask = |rest: &[u8]| {
        let args = [&head[..], rest].concat();
        let ops = Ops::new().raw(Op4::ExchangeId.wire(), &args);
        client.compound(1, &ops).status
    };
    assert_eq!(ask(&machine), S::Inval);
    assert_eq!(ask(&secret), S::EncrAlgUnsupp);
    assert_eq!(ask(&words(&[0, 3, 0])), S::Badxdr);
    // Outside of a session it is alone.
    let ops = Ops::new().raw(Op4::ExchangeId.wire(), &terms.exchange_id(0));
    assert_eq!(client.compound(1, &ops.putrootfh()).status, S::NotOnlyOp);
    // The versions have name spaces of their own.
    let forty = setclientid(&mut client, b"one", 1, 1).expect("new").0;
    let known = client.exchange_id(&terms, 0).expect("new");
    assert_ne!(known.clientid, forty);
    let created = client.create_session(&terms, forty, 1);
    assert_eq!(created, Err(S::StaleClientid));
}

#[test]
fn destroy_clientid() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut destroy = |minor, clientid: u64| {
        let ops = Ops::new().op(Op4::DestroyClientid, &clientid);
        client.compound(minor, &ops).status
    };
    let mut session = Session::new(server.client(), 1);
    let clientid = session.clientid;
    for minor in [1, 2] {
        assert_eq!(destroy(minor, clientid), S::ClientidBusy);
        assert_eq!(destroy(minor, clientid ^ 1 << 32), S::StaleClientid);
        assert_eq!(destroy(minor, clientid + 1000), S::StaleClientid);
    }
    // Its own session counts, too.
    let ops = Ops::new().op(Op4::DestroyClientid, &clientid);
    let mut done = session.call(&ops);
    assert_eq!(done.status_of(Op4::DestroyClientid), S::ClientidBusy);
    let mut client = session.end();
    let again = Ops::new().op(Op4::DestroyClientid, &clientid);
    assert_eq!(client.compound(1, &again).status, S::StaleClientid);
    // One that was never confirmed; not alone; not one of 4.0.
    let known = client.exchange_id(&terms(b"x", 1), 0).expect("new");
    let ops = Ops::new().op(Op4::DestroyClientid, &known.clientid);
    let done = client.compound(1, &ops.clone().putrootfh());
    assert_eq!(done.status, S::NotOnlyOp);
    assert_eq!(client.compound(1, &ops).status, S::Ok);
    let forty = setclientid(&mut client, b"x", 1, 1).expect("new").0;
    let ops = Ops::new().op(Op4::DestroyClientid, &forty);
    assert_eq!(client.compound(1, &ops).status, S::StaleClientid);
}

#[test]
fn reclaim_complete() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let ops = |one: bool| Ops::new().op(Op4::ReclaimComplete, &one);
    assert_eq!(client.compound(1, &ops(false)).status, S::OpNotInSession);
    let mut terms = Terms::new(1);
    terms.reclaim_complete = false;
    let mut session = Session::on(client, &terms);
    // Of one file system: there must be one, and it is not the end.
    assert_eq!(session.call(&ops(true)).status, S::Nofilehandle);
    session.at(&root, &ops(true)).ok(Op4::ReclaimComplete);
    session.call(&ops(false)).ok(Op4::ReclaimComplete);
    assert_eq!(session.call(&ops(false)).status, S::CompleteAlready);
    // Another session of the same client is no other client.
    let created = session.client.create_session(&terms, session.clientid, 2);
    let created = created.expect("a second session");
    let mut second = Session::of(server.client(), 1, session.clientid, created);
    assert_eq!(second.call(&ops(false)).status, S::CompleteAlready);
}

#[test]
fn set_ssv_is_for_nobody() {
    let server = TestServer::start();
    let mut session = Session::new(server.client(), 1);
    let args = [encode(&Tag4(b"secret")), encode(&Tag4(b"digest"))].concat();
    let ops = Ops::new().op(Op4::SetSsv, &Raw(&args));
    assert_eq!(session.call(&ops).status, S::Inval);
    assert_eq!(session.outside(&ops).status, S::OpNotInSession);
}

/// SETCLIENTID of a name and a boot, with `ident` for its callbacks.
fn setclientid(
    client: &mut Client,
    name: &[u8],
    boot: u8,
    ident: u32,
) -> Result<(u64, Verifier4), S> {
    let args = SetclientidArgs {
        client: NfsClientId4 {
            verifier: [boot; 8],
            id: OwnerName4(name),
        },
        callback: CbClient4 {
            program: 1,
            location: Netaddr4 {
                netid: NetName4(b"tcp"),
                addr: NetName4(b"0.0.0.0.0.0"),
            },
        },
        callback_ident: ident,
    };
    let mut done = client.compound(0, &Ops::new().op(Op4::Setclientid, &args));
    match done.status_of(Op4::Setclientid) {
        S::Ok => {
            let res: SetclientidRes = done.more();
            Ok((res.clientid, res.confirm))
        }
        S::ClidInuse => {
            let user: Netaddr4<'_> = done.more();
            assert_eq!(user.netid.0, b"tcp");
            assert_eq!(user.addr.0, b"0.0.0.0.0.0");
            done.end();
            Err(S::ClidInuse)
        }
        status => Err(status),
    }
}

fn confirm(client: &mut Client, (clientid, confirm): (u64, Verifier4)) -> S {
    let args = SetclientidConfirmArgs { clientid, confirm };
    let ops = Ops::new().op(Op4::SetclientidConfirm, &args);
    client.compound(0, &ops).status
}

fn renew(client: &mut Client, clientid: u64) -> S {
    let ops = Ops::new().op(Op4::Renew, &clientid);
    client.compound(0, &ops).status
}

/// OPEN of a file by a client of 4.0.
fn open_40(client: &mut Client, root: &Fh, clientid: u64, owner: &[u8]) -> S {
    let at = Ops::new().putfh(root);
    let shares = (READ, DENY_NONE);
    let ops = open(at, 1, shares, (clientid, owner), What::Make(b"f"));
    client.compound(0, &ops).status
}

#[test]
fn setclientid_and_setclientid_confirm_case_table() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let other = Login::user(7, 7);
    // New; and again before it is confirmed: the first one is gone.
    let first = setclientid(&mut client, b"one", 1, 1).expect("new");
    let second = setclientid(&mut client, b"one", 1, 1).expect("again");
    assert_ne!(first, second);
    assert_eq!(confirm(&mut client, first), S::StaleClientid);
    // Not before it is confirmed; not with another verifier; not by another principal.
    assert_eq!(
        open_40(&mut client, &root, second.0, b"a"),
        S::StaleClientid
    );
    assert_eq!(confirm(&mut client, (second.0, [9; 8])), S::StaleClientid);
    let by_other = client.as_user(other.clone(), |client| confirm(client, second));
    assert_eq!(by_other, S::ClidInuse);
    let of_other_boot = (second.0 ^ 1 << 32, second.1);
    assert_eq!(confirm(&mut client, of_other_boot), S::StaleClientid);
    for _ in 0..2 {
        assert_eq!(confirm(&mut client, second), S::Ok, "also again");
    }
    assert_eq!(open_40(&mut client, &root, second.0, b"a"), S::Ok);
    // Other callbacks: the same client, whatever it had is there.
    let update = setclientid(&mut client, b"one", 1, 2).expect("an update");
    assert_eq!(update.0, second.0);
    assert_ne!(update.1, second.1);
    assert_eq!(confirm(&mut client, second), S::Ok, "of before still");
    assert_eq!(confirm(&mut client, update), S::Ok);
    assert_eq!(confirm(&mut client, second), S::StaleClientid);
    assert_eq!(server.stat("nfs4.opens"), 1);
    // Another principal's, while there is something to lose: whose it is comes along.
    let stolen = client.as_user(other.clone(), |client| setclientid(client, b"one", 2, 1));
    assert_eq!(stolen, Err(S::ClidInuse));
    // The client restarted: what it had stays until that is confirmed.
    let restarted = setclientid(&mut client, b"one", 2, 1).expect("restarted");
    assert_ne!(restarted.0, update.0);
    assert_eq!(renew(&mut client, update.0), S::Ok);
    assert_eq!(server.stat("nfs4.opens"), 1);
    assert_eq!(confirm(&mut client, restarted), S::Ok);
    assert_eq!(server.stat("nfs4.opens"), 0);
    assert_eq!(open_40(&mut client, &root, update.0, b"a"), S::Expired);
    // An update and then a restart before it is confirmed: the update is void.
    let update = setclientid(&mut client, b"one", 2, 3).expect("an update");
    let again = setclientid(&mut client, b"one", 3, 1).expect("restarted");
    assert_eq!(confirm(&mut client, update), S::StaleClientid);
    // And the other way round.
    let update = setclientid(&mut client, b"one", 2, 3).expect("an update");
    assert_eq!(confirm(&mut client, again), S::StaleClientid);
    assert_eq!(confirm(&mut client, update), S::Ok);
    // With nothing to lose, another principal may have the name.
    let taken = client.as_user(other, |client| setclientid(client, b"one", 1, 1));
    taken.expect("free");
}

#[test]
fn setclientid_is_of_4_0_alone() {
    let server = TestServer::start();
    let mut session = Session::new(server.client(), 1);
    let ops = [
        Ops::new().op(Op4::Renew, &1_u64),
        Ops::new().op(Op4::SetclientidConfirm, &Raw(&[0; 16])),
        Ops::new().op(Op4::Setclientid, &Raw(&[0; 32])),
        Ops::new().op(Op4::OpenConfirm, &Raw(&[0; 20])),
        Ops::new().op(Op4::ReleaseLockowner, &Raw(&[0; 12])),
    ];
    for ops in ops {
        assert_eq!(session.call(&ops).status, S::Notsupp, "{ops:?}");
    }
}

#[test]
fn renew_keeps_the_lease() {
    let server = Setup::config("lease_time = \"5s\"\n").start();
    let (mut client, root) = at_export(&server);
    let made = setclientid(&mut client, b"one", 1, 1).expect("new");
    assert_eq!(renew(&mut client, made.0), S::StaleClientid, "unconfirmed");
    assert_eq!(confirm(&mut client, made), S::Ok);
    assert_eq!(renew(&mut client, made.0), S::Ok);
    assert_eq!(renew(&mut client, made.0 ^ 1 << 32), S::StaleClientid);
    assert_eq!(renew(&mut client, made.0 + 1000), S::StaleClientid);
    let by_other = client.as_user(Login::user(7, 7), |client| renew(client, made.0));
    assert_eq!(by_other, S::Access);
    // One lease without a word and nothing to lose: gone. With something, it stays.
    let kept = setclientid(&mut client, b"two", 1, 1).expect("new");
    assert_eq!(confirm(&mut client, kept), S::Ok);
    assert_eq!(open_40(&mut client, &root, kept.0, b"o"), S::Ok);
    wait_for(|| server.stat("nfs4.clients") == 1);
    assert_eq!(renew(&mut client, made.0), S::Expired);
    assert_eq!(renew(&mut client, kept.0), S::Ok, "a courtesy");
    server.control("expire").expect("expired");
    assert_eq!(renew(&mut client, kept.0), S::Expired);
    assert_eq!(open_40(&mut client, &root, kept.0, b"o"), S::Expired);
}
