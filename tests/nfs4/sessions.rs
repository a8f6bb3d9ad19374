//! Sessions: how they are made, each request once, limits of each, the connections they use, their end.

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::bind_conn_to_session::{
    BindConnToSessionArgs, BindConnToSessionRes, ChannelDirFromClient4 as From,
    ChannelDirFromServer4 as To,
};
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::sequence::{SequenceArgs, SequenceRes};
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::callbacks::PROGRAM;
use tests::client::nfs4::{COMPOUND, Ops, Raw, Results};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Login, PATIENCE, encode};
use tests::daemon::TestServer;

use super::state::{BOTH, DENY_NONE, What, open, opened, read, write};
use super::{at_export, create};

#[test]
fn create_session_answers_again_what_it_answered() {
    let server = TestServer::start();
    let mut client = server.client();
    let terms = Terms::new(1);
    let known = client.exchange_id(&terms, 0).expect("new");
    let (id, first) = (known.clientid, known.sequence);
    // Not in order; not a client's; not that of whom the record is.
    for wrong in [first.wrapping_sub(1), first + 1, first + 7] {
        let created = client.create_session(&terms, id, wrong);
        assert_eq!(created, Err(S::SeqMisordered), "{wrong}");
    }
    for wrong in [id ^ 1 << 32, id + 1000, 0] {
        let created = client.create_session(&terms, wrong, first);
        assert_eq!(created, Err(S::StaleClientid), "{wrong}");
    }
    let by_other = client.as_user(Login::user(7, 7), |client| {
        client.create_session(&terms, id, first)
    });
    assert_eq!(by_other, Err(S::ClidInuse));
    let created = client.create_session(&terms, id, first).expect("created");
    let mut again = server.client();
    assert_eq!(again.create_session(&terms, id, first), Ok(created));
    assert_eq!(server.stat("nfs4.sessions"), 1);
    let other = client.create_session(&terms, id, first + 1);
    assert_ne!(other.expect("another").id, created.id);
    assert_eq!(
        client.create_session(&terms, id, first),
        Err(S::SeqMisordered),
        "only the last is remembered"
    );
    assert_eq!(
        client.create_session(&terms, id, first + 3),
        Err(S::SeqMisordered)
    );
    // EXCHANGE_ID tells the next number.
    let known = client.exchange_id(&terms, 0).expect("known");
    assert_eq!(known.sequence, first + 2);
    // As many as a client may have.
    let mut at = first + 2;
    let refused = loop {
        match client.create_session(&terms, id, at) {
            Ok(_) => at += 1,
            Err(status) => break status,
        }
        assert!(at < first + 100, "without end");
    };
    assert_eq!((refused, server.stat("nfs4.sessions")), (S::Nospc, 16));
}

#[test]
fn create_session_negotiates() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut terms = Terms::new(1);
    let known = client.exchange_id(&terms, 0).expect("new");
    let mut ask = |change: &dyn Fn(&mut Terms), sequence| {
        let mut asked = terms.clone();
        change(&mut asked);
        client.create_session(&asked, known.clientid, sequence)
    };
    // What failed changed nothing: the same number may come again.
    let at = known.sequence;
    assert_eq!(ask(&|t| t.message = 64, at), Err(S::Toosmall));
    assert_eq!(ask(&|t| t.ops = 0, at), Err(S::Toosmall));
    let alone = |t: &mut Terms| (t.ops, t.flags) = (1, 2);
    assert_eq!(ask(&alone, at), Err(S::Toosmall), "callbacks take two");
    assert_eq!(ask(&|t| t.flags = 8, at), Err(S::Inval));
    // Too much is cut down, nothing is granted that was not asked for or is not there.
    let greedy = |t: &mut Terms| {
        (t.message, t.cached, t.ops, t.slots, t.flags) =
            (u32::MAX, u32::MAX, u32::MAX, u32::MAX, 1 | 4);
    };
    let created = ask(&greedy, at).expect("created");
    assert_eq!(created.flags, 0);
    assert!(created.message >= 1 << 20 && created.message <= 16 << 20);
    assert!(created.cached <= 64 << 10 && created.ops <= 1024 && created.slots <= 4096);
    let modest = |t: &mut Terms| {
        (t.message, t.cached, t.ops, t.slots, t.flags) = (4096, 512, 2, 0, 2);
    };
    let created = ask(&modest, at + 1).expect("created");
    let granted = (created.message, created.cached, created.ops, created.slots);
    assert_eq!((granted, created.flags), ((4096, 512, 2, 1), 2));
    // Outside of a session it is alone; of credentials for callbacks, some must be usable.
    terms.flags = 0;
    let args = terms.create_session(known.clientid, at + 2);
    let ops = Ops::new().raw(Op4::CreateSession.wire(), &args);
    assert_eq!(client.compound(1, &ops.putrootfh()).status, S::NotOnlyOp);
    let mut gss = args[..args.len() - 8].to_vec();
    gss.extend([1_u32, 6, 1, 0, 0].iter().flat_map(encode));
    let ops = Ops::new().raw(Op4::CreateSession.wire(), &gss);
    assert_eq!(client.compound(1, &ops).status, S::Noent);
}

/// A request of a session as it is, by position in its slot.
fn sequence(session: &Session, slot: u32, number: u32, keep: bool) -> Ops {
    let args = SequenceArgs {
        sessionid: session.created.id,
        sequenceid: number,
        slotid: slot,
        highest_slotid: slot,
        cachethis: keep,
    };
    Ops::new().op(Op4::Sequence, &args)
}

/// The bytes of the results of a COMPOUND.
fn bytes(client: &mut Client, ops: &Ops) -> Vec<u8> {
    let args = ops.args(1, b"tag");
    client.call(COMPOUND, &Raw(&args)).bytes().to_vec()
}

#[test]
fn sequence_runs_each_request_once() {
    let server = TestServer::start();
    let (mut client, root) = at_export(&server);
    let session = Session::new(server.client(), 1);
    let make =
        |ops: Ops, name: &[u8]| create(ops.putfh(&root), &Createtype4::Directory, name).getfh();
    // Asked for or small: kept, and answered over any connection.
    let first = make(sequence(&session, 1, 1, true), b"first");
    let answer = bytes(&mut client, &first);
    for _ in 0..2 {
        assert_eq!(bytes(&mut server.client(), &first), answer);
    }
    // One that failed as well, with its failure.
    let second = make(sequence(&session, 1, 2, false), b"first");
    let answer = bytes(&mut client, &second);
    assert_eq!(bytes(&mut client, &second), answer);
    assert_eq!(client.compound(1, &second).status, S::Exist);
    // Other requests of that number: others' arguments, another principal, another number of operations.
    let status = |client: &mut Client, ops: Ops| client.compound(1, &ops).status;
    let other = make(sequence(&session, 1, 2, false), b"other");
    assert_eq!(status(&mut client, other), S::SeqFalseRetry);
    let longer = second.clone().getfh();
    assert_eq!(status(&mut client, longer), S::SeqFalseRetry);
    let by_other = client.as_user(Login::user(7, 7), |client| status(client, second));
    assert_eq!(by_other, S::SeqFalseRetry);
    assert!(!server.export().join("other").exists());
    // Not in order; not a slot; not a session.
    for wrong in [0, 1, 4, u32::MAX] {
        let ops = sequence(&session, 1, wrong, false);
        assert_eq!(status(&mut client, ops), S::SeqMisordered, "{wrong}");
    }
    for wrong in [session.created.slots, u32::MAX] {
        let ops = sequence(&session, wrong, 1, false);
        assert_eq!(status(&mut client, ops), S::Badslot);
    }
    let mut elsewhere = Session::new(server.client(), 1);
    elsewhere.created.id[15] ^= 0xff;
    let ops = sequence(&elsewhere, 0, 2, false);
    assert_eq!(status(&mut client, ops), S::Badsession);
    // Nothing of that took the slot's next number; slots do not know each other.
    assert_eq!(status(&mut client, sequence(&session, 1, 3, false)), S::Ok);
    let mut done = client.compound(1, &sequence(&session, 2, 1, false));
    let res: SequenceRes = done.body(Op4::Sequence);
    assert_eq!((res.sessionid, res.slotid), (session.created.id, 2));
    assert_eq!(res.highest_slotid, session.created.slots - 1);
    // It comes first, and once.
    let twice = sequence(&session, 1, 4, false).then(&sequence(&session, 2, 2, false));
    assert_eq!(status(&mut client, twice), S::SequencePos);
    let late = Ops::new()
        .putrootfh()
        .then(&sequence(&session, 1, 5, false));
    assert_eq!(status(&mut client, late), S::OpNotInSession);
}

#[test]
fn sequence_of_a_reply_that_was_not_kept() {
    let server = TestServer::start();
    let mut session = Session::new(server.client(), 1);
    let (_, root) = at_export(&server);
    std::fs::write(server.export().join("f"), [7; 2000]).expect("a file");
    let name = server.export().join("f");
    let fh = session.walk(name.to_str().expect("text"));
    let data = read(Ops::new().putfh(&fh), &Stateid4::ANONYMOUS, 2000);
    for (keep, slot) in [(false, 1), (true, 2)] {
        let ops = sequence(&session, slot, 1, keep).then(&data);
        let first = bytes(&mut session.client, &ops);
        std::fs::write(&name, [8; 2000]).expect("changed");
        let again = bytes(&mut session.client, &ops);
        if keep {
            assert_eq!(again, first, "not read again");
            continue;
        }
        let mut done = session.client.compound(1, &ops);
        done.body::<SequenceRes>(Op4::Sequence);
        assert_eq!(done.status_of(Op4::Putfh), S::RetryUncachedRep);
        done.end();
        std::fs::write(&name, [7; 2000]).expect("changed back");
    }
    // The slot goes on.
    let next = sequence(&session, 1, 2, false).putfh(&root);
    assert_eq!(session.client.compound(1, &next).status, S::Ok);
}

#[test]
fn sequence_limits() {
    let server = TestServer::start();
    let (_, root) = at_export(&server);
    std::fs::write(server.export().join("f"), [7; 8000]).expect("a file");
    let mut terms = Terms::new(1);
    (terms.message, terms.cached, terms.ops) = (4096, 600, 6);
    let mut session = Session::on(server.client(), &terms);
    let name = server.export().join("f");
    let mut done = session.at(&root, &Ops::new().lookup(b"f").getfh());
    done.ok(Op4::Lookup);
    let fh = done.fh();
    let mut number = 0;
    let mut ask = |keep, ops: Ops, took: bool| {
        let ops = sequence(&session, 3, number + 1, keep).then(&ops);
        number += u32::from(took);
        session.client.compound(1, &ops)
    };
    // Of the request: refused by SEQUENCE, which takes no number then.
    let many = (0..6).fold(Ops::new(), |ops, _| ops.putrootfh());
    let mut done = ask(false, many, false);
    assert_eq!(done.status_of(Op4::Sequence), S::TooManyOps);
    let long = write(Ops::new().putfh(&fh), &Stateid4::ANONYMOUS, &[1; 4096]);
    let mut done = ask(false, long, false);
    assert_eq!(done.status_of(Op4::Sequence), S::ReqTooBig);
    // Of the reply: the operation that has too much to say.
    let data = |count| read(Ops::new().putfh(&fh), &Stateid4::ANONYMOUS, count);
    for (keep, count, expected) in [
        (false, 3500, S::Ok),
        (false, 4096, S::RepTooBig),
        (true, 100, S::Ok),
        (true, 1000, S::RepTooBigToCache),
    ] {
        let done = ask(keep, data(count), true);
        assert_eq!(done.status, expected, "{keep} {count}");
    }
    // What changes something is not begun if its results might not fit.
    let mut refused = 0;
    for count in (300..560).step_by(20) {
        let name = format!("d{count}");
        let ops = create(
            data(count).putfh(&root),
            &Createtype4::Directory,
            name.as_bytes(),
        );
        let done = ask(true, ops, true);
        let made = server.export().join(name).exists();
        assert_eq!(made, done.status == S::Ok, "{count} {}", done.status);
        // SEQUENCE, PUTFH, READ, PUTFH and the one that did not run.
        refused += u32::from(done.left == 5 && !made);
    }
    assert!(refused > 0, "there was always room");
    assert_eq!(std::fs::read(name).expect("data"), [7; 8000]);
}

fn bind(client: &mut Client, sessid: Sessionid4, dir: From) -> Result<To, S> {
    let args = BindConnToSessionArgs {
        sessid,
        dir,
        use_conn_in_rdma_mode: true,
    };
    let mut done = client.compound(1, &Ops::new().op(Op4::BindConnToSession, &args));
    match done.status_of(Op4::BindConnToSession) {
        S::Ok => {
            let res: BindConnToSessionRes = done.more();
            assert_eq!((res.sessid, res.use_conn_in_rdma_mode), (sessid, false));
            done.end();
            Ok(res.dir)
        }
        status => Err(status),
    }
}

#[test]
fn bind_conn_to_session() {
    let server = TestServer::start();
    let mut session = Session::new(server.client(), 1);
    let id = session.created.id;
    let mut second = server.client();
    // Used without being bound first: nobody protects state here (RFC 8881 2.10.8.3).
    let ops = session.sequenced(0, &Ops::new().putrootfh());
    assert_eq!(second.compound(1, &ops).status, S::Ok);
    assert_eq!(bind(&mut second, id, From::Fore), Ok(To::Fore));
    assert_eq!(bind(&mut second, id, From::Back), Ok(To::Back));
    assert_eq!(bind(&mut second, id, From::ForeOrBoth), Ok(To::Both));
    assert_eq!(bind(&mut second, id, From::BackOrBoth), Ok(To::Both));
    let mut wrong = id;
    wrong[8] ^= 1;
    assert_eq!(bind(&mut second, wrong, From::Fore), Err(S::Badsession));
    let args = |dir: u32| [id.to_vec(), encode(&dir), encode(&false)].concat();
    let ops = |dir| Ops::new().op(Op4::BindConnToSession, &Raw(&args(dir)));
    for dir in [0, 4, 8] {
        assert_eq!(second.compound(1, &ops(dir)).status, S::Badxdr, "{dir}");
    }
    // It is alone, also behind a SEQUENCE.
    let done = second.compound(1, &ops(1).putrootfh());
    assert_eq!(done.status, S::NotOnlyOp);
    assert_eq!(session.call(&ops(1)).status, S::NotOnlyOp);
}

#[test]
fn backchannel_ctl_changes_how_callbacks_are_made() {
    let server = TestServer::start();
    std::fs::write(server.export().join("f"), b"data").expect("a file");
    let mut a = Session::on(server.client(), &Terms::new(1).called_back());
    let mut b = Session::new(server.client(), 1);
    let name = server.export().join("f");
    let fh = a.walk(name.to_str().expect("text"));
    let open = |access: u32| open(Ops::new(), 0, (access, DENY_NONE), (0, b"o"), What::Fh);
    let mut done = a.at(&fh, &open(1));
    done.body::<Stateid4>(Op4::Open);
    done.more::<ChangeInfo4>();
    done.more::<u32>();
    done.more::<Bitmap4>();
    assert_eq!(done.more::<u32>(), 1, "a delegation for reading");
    let deleg: Stateid4 = done.more();
    let ctl = |words: &[u32]| {
        let args: Vec<u8> = words.iter().flat_map(encode).collect();
        Ops::new().op(Op4::BackchannelCtl, &Raw(&args))
    };
    assert_eq!(a.outside(&ctl(&[PROGRAM, 0])).status, S::OpNotInSession);
    // RPCSEC_GSS alone cannot be done.
    assert_eq!(a.call(&ctl(&[PROGRAM, 1, 6, 1, 0, 0])).status, S::Noent);
    assert_eq!(a.call(&ctl(&[PROGRAM, 1, 9])).status, S::Badxdr);
    let sys = [PROGRAM + 1, 1, 1, 5, 0, 77, 78, 0];
    a.call(&ctl(&sys)).ok(Op4::BackchannelCtl);
    assert_eq!(b.at(&fh, &open(2)).status, S::Delay);
    let call = a.client.next_call(PATIENCE).expect("a recall");
    // RPC version 2, the new program, AUTH_SYS with the new user and group.
    let words = |from: usize, n: usize| -> Vec<u32> {
        let part = &call[from..from + 4 * n];
        part.as_chunks::<4>()
            .0
            .iter()
            .map(|w| u32::from_be_bytes(*w))
            .collect()
    };
    assert_eq!(words(8, 2), [2, PROGRAM + 1]);
    assert_eq!(words(24, 7), [1, 20, 5, 0, 77, 78, 0]);
    let give_back = Ops::new().op(Op4::Delegreturn, &deleg);
    a.at(&fh, &give_back).ok(Op4::Delegreturn);
}

#[test]
fn destroy_session() {
    let server = TestServer::start();
    let (_, root) = at_export(&server);
    let terms = Terms::new(1);
    let mut session = Session::on(server.client(), &terms);
    let ops = open(
        Ops::new(),
        0,
        (BOTH, DENY_NONE),
        (0, b"o"),
        What::Make(b"f"),
    );
    let mut done = session.at(&root, &ops.getfh());
    let (stateid, _) = opened(&mut done);
    let fh = done.fh();
    let created = session.client.create_session(&terms, session.clientid, 2);
    let mut second = Session::of(
        server.client(),
        1,
        session.clientid,
        created.expect("a second"),
    );
    let destroy = |id: &Sessionid4| Ops::new().raw(Op4::DestroySession.wire(), id);
    let mut unknown = session.created.id;
    unknown[12] ^= 1;
    assert_eq!(session.outside(&destroy(&unknown)).status, S::Badsession);
    // Its own: last, or not at all.
    let own = destroy(&session.created.id);
    assert_eq!(session.call(&own.clone().putrootfh()).status, S::NotOnlyOp);
    session.call(&own).ok(Op4::DestroySession);
    let next = session.sequenced(0, &Ops::new());
    assert_eq!(session.client.compound(1, &next).status, S::Badsession);
    assert_eq!(session.outside(&own).status, S::Badsession, "gone already");
    // State is the client's, not the session's.
    let ops = write(Ops::new(), &stateid, b"x");
    assert_eq!(second.at(&fh, &ops).status, S::Ok);
    // Another session's, in the middle: fine.
    let created = second.client.create_session(&terms, second.clientid, 3);
    let third = created.expect("a third").id;
    let mut done = second.call(&destroy(&third).putrootfh());
    done.ok(Op4::DestroySession);
    done.ok(Op4::Putrootfh);
    // Requests under way end, and are answered.
    let slow = (0..20).fold(Ops::new(), |ops, _| ops.putfh(&fh).getattr(&[1, 3]));
    let started: Vec<u32> = (0..8).map(|slot| second.start(slot, &slow)).collect();
    let mut last = server.client();
    let done = last.compound(1, &destroy(&second.created.id));
    assert_eq!(done.status, S::Ok);
    for xid in started {
        let results = Results::of(&second.client.answer(xid));
        assert!([S::Ok, S::Badsession].contains(&results.status));
    }
}
