//! Leases, courtesy, and limits.

use super::*;

#[test]
fn sequence_renews_the_lease() {
    let mut w = world();
    let (client, session) = w.client(b"a", 1);
    for number in 1..5 {
        w.pass(80);
        assert!(!w.state.is_late(&client, w.now));
        let slot = w.begin(&sequence(session, 0, number)).expect("new");
        slot.complete(b"", None);
        // What fails does not.
        w.pass(10);
        let bad = w.state.sequence(&sequence(session, 9, 1), w.now);
        assert_eq!(bad.err(), Some(S::Badslot));
        assert_eq!(w.state.silence(&client, w.now).as_secs(), 10);
    }
    w.pass(81);
    assert!(w.state.is_late(&client, w.now));
}

#[test]
fn a_late_client_keeps_what_nobody_wants() {
    let mut w = world();
    let (client, session) = w.client(b"a", 1);
    assert!(!w.state.expire_if_courtesy(client.number, w.now));
    w.pass(3600);
    w.state.sweep(w.now);
    // It comes back, and all is as it was.
    w.begin(&sequence(session, 0, 1))
        .expect("there")
        .complete(b"", None);
    assert!(!w.state.expire_if_courtesy(client.number, w.now));
    w.pass(91);
    assert!(w.state.expire_if_courtesy(client.number, w.now));
    assert!(w.state.expire_if_courtesy(client.number, w.now));
    assert_eq!(w.begin(&sequence(session, 0, 2)).err(), Some(S::Badsession));
    let mut expired = Vec::new();
    // Again and again, until it is known to be gone.
    for _ in 0..2 {
        assert!(w.state.any_expired());
        let gone = w
            .state
            .each_expired(|client| expired.push(client.owner.to_vec()));
        assert_eq!(gone.map(|gone| gone.len()), Some(1));
    }
    let gone = w.state.each_expired(|_| ()).expect("known");
    w.state.settled(&gone);
    assert!(!w.state.any_expired());
    w.state.each_expired(|_| panic!("it is"));
    assert_eq!(expired, [b"a", b"a"]);
    w.assert_empty();
}

#[test]
fn a_late_client_is_gone_after_a_day() {
    let mut w = world();
    let (_, _) = w.client(b"a", 1);
    w.pass(24 * 3600);
    w.state.sweep(w.now);
    assert_eq!(w.state.counts().clients, 1);
    w.pass(1);
    w.state.sweep(w.now);
    w.assert_empty();
}

#[test]
fn who_holds_nothing_is_gone_after_one_lease() {
    let mut w = world();
    w.exchange(&who(b"a", 1, ROOT)).expect("new");
    w.set(&who(b"b", 1, ROOT), 1).expect("set");
    w.client40(b"c", 1);
    w.pass(90);
    w.state.sweep(w.now);
    assert_eq!(w.state.counts().clients, 3);
    w.pass(1);
    w.state.sweep(w.now);
    w.assert_empty();
    // Only what was confirmed can be in stable storage.
    let mut expired = 0;
    w.state.each_expired(|_| expired += 1);
    assert_eq!(expired, 1);
}

#[test]
fn a_request_that_runs_keeps_its_client() {
    let mut w = world();
    let (client, session) = w.client(b"a", 1);
    let slot = w.begin(&sequence(session, 0, 1)).expect("new");
    w.pass(48 * 3600);
    w.state.sweep(w.now);
    assert!(!w.state.expire_if_courtesy(client.number, w.now));
    drop(slot);
    assert!(w.state.expire_if_courtesy(client.number, w.now));
    w.assert_empty();
}

#[test]
fn a_client_that_came_again_keeps_its_stable_record() {
    let mut w = world();
    let (client, _) = w.client(b"a", 1);
    w.pass(91);
    assert!(w.state.expire_if_courtesy(client.number, w.now));
    let (new, _) = w.client(b"a", 1);
    // Until it has one, the old one must go.
    let mut removed = 0;
    assert!(w.state.each_expired(|_| removed += 1).is_some());
    assert_eq!(removed, 1);
    w.state.recording(&new, || ());
    let known = w.state.each_expired(|_| panic!("its new record would go"));
    assert!(known.is_none() && w.state.any_expired(), "it is on its way");
    new.recorded(false);
    assert!(w.state.each_expired(|_| removed += 1).is_some());
    w.state.recording(&new, || ());
    new.recorded(true);
    let known = w.state.each_expired(|_| panic!("its new record would go"));
    assert!(known.is_some_and(|gone| gone.is_empty()) && !w.state.any_expired());
}

#[test]
fn unconfirmed_records_are_bounded() {
    let w = world_with(Config {
        unconfirmed: 10,
        ..Config::default()
    });
    let mut made = Vec::new();
    for i in 0..100_u32 {
        let owner = i.to_be_bytes();
        made.push(w.exchange(&who(&owner, 1, ROOT)).expect("new").client);
    }
    assert_eq!(w.state.counts().clients, 10);
    // The youngest are there.
    assert!(w.state.client(made[89].number).is_none() && made[89].live().is_err());
    assert!(w.state.client(made[90].number).is_some());
    made.iter().for_each(|c| w.state.expire(c));
    w.assert_empty();
}

#[test]
fn clients_are_bounded() {
    let mut w = world_with(Config {
        clients: 3,
        ..Config::default()
    });
    let (first, _) = w.client(b"a", 1);
    w.pass(10);
    let (second, _) = w.client(b"b", 1);
    let fresh = w.exchange(&who(b"c", 1, ROOT)).expect("new").client;
    // First what is not confirmed goes.
    let (third, _) = w.client(b"d", 1);
    assert!(fresh.live().is_err());
    assert_eq!(w.exchange(&who(b"e", 1, ROOT)).err(), Some(S::Delay));
    assert_eq!(
        w.set(&who(b"e", 1, ROOT), 1),
        Err(Refused::Status(S::Delay))
    );
    // Then who is silent for longest beyond the lease.
    w.pass(91);
    w.exchange(&who(b"e", 1, ROOT)).expect("new");
    assert!(first.live().is_err() && second.live().is_ok() && third.live().is_ok());
    assert_eq!(w.state.counts().clients, 3);
}

#[test]
fn stateids_find_their_client() {
    let w = world();
    let (client, _) = w.client(b"a", 1);
    assert_eq!(w.state.number_of(client.clientid), Some(client.number));
    assert_eq!(w.state.number_of(client.clientid ^ 1 << 40), None);
    let found = w.state.client(client.number).expect("there");
    assert!(Arc::ptr_eq(&found, &client));
}
