//! EXCHANGE_ID (RFC 8881 18.35.4), client IDs, DESTROY_CLIENTID.

use super::*;

#[test]
fn exchange_id_case_1_new_owner() {
    let w = world();
    let found = w.exchange(&who(b"a", 1, ROOT)).expect("new");
    assert_eq!((found.confirmed, found.sequence), (false, 1));
    assert_eq!(found.client.clientid >> 32, 0x1234_5678);
    let other = w.exchange(&who(b"b", 1, ROOT)).expect("new");
    assert_ne!(found.client.clientid, other.client.clientid);
}

#[test]
fn exchange_id_case_2_the_same_again() {
    let w = world();
    let (client, _) = w.client(b"a", 1);
    let again = w.exchange(&who(b"a", 1, ROOT)).expect("found");
    assert!(Arc::ptr_eq(&client, &again.client));
    assert_eq!((again.confirmed, again.sequence), (true, 2));
}

#[test]
fn exchange_id_case_3_collision() {
    let mut w = world();
    let (client, session) = w.client(b"a", 1);
    for boot in [1, 2] {
        let refused = w.exchange(&who(b"a", boot, OTHER)).err();
        assert_eq!(refused, Some(S::ClidInuse));
    }
    assert!(w.state.session(&session).is_some());
    // With the lease over, or nothing left, the name is free.
    w.pass(91);
    let taken = w.exchange(&who(b"a", 1, OTHER)).expect("new");
    assert_ne!(taken.client.clientid, client.clientid);
    assert!(w.state.session(&session).is_none() && client.live().is_err());
    let (_, session) = w.client(b"b", 1);
    w.state.destroy_session(&session).expect("there");
    assert!(!w.exchange(&who(b"b", 1, OTHER)).expect("new").confirmed);
}

#[test]
fn exchange_id_case_4_unconfirmed_is_replaced() {
    let w = world();
    for (boot, principal) in [(1, ROOT), (2, ROOT), (2, OTHER), (1, OTHER)] {
        let old = w.exchange(&who(b"a", 1, ROOT)).expect("new");
        let new = w.exchange(&who(b"a", boot, principal)).expect("new");
        assert_ne!(old.client.clientid, new.client.clientid);
        let gone = w.create(creation(old.client.clientid, 1));
        assert_eq!(gone, Err(S::StaleClientid));
    }
    assert_eq!(w.state.counts().clients, 1);
}

#[test]
fn exchange_id_case_5_restart() {
    let w = world();
    let (old, session) = w.client(b"a", 1);
    let first = w.exchange(&who(b"a", 2, ROOT)).expect("new");
    let new = w.exchange(&who(b"a", 3, ROOT)).expect("new");
    // Until it is confirmed, the old one goes on.
    assert!(w.state.session(&session).is_some());
    assert_eq!(
        w.create(creation(first.client.clientid, 1)),
        Err(S::StaleClientid)
    );
    w.create(creation(new.client.clientid, new.sequence))
        .expect("created");
    assert!(w.state.session(&session).is_none() && old.live().is_err());
    assert_eq!(w.create(creation(old.clientid, 2)), Err(S::StaleClientid));
    let counts = w.state.counts();
    assert_eq!(
        (counts.clients, counts.unconfirmed, counts.sessions),
        (1, 0, 1)
    );
    // A restart is not an expiry: the new record is in stable storage in place of the old.
    w.state.each_expired(|client| panic!("{}", client.number));
}

#[test]
fn exchange_id_cases_6_to_9_update() {
    let w = world();
    let update = |who: &Who<'_>| w.state.exchange_id(who, true, w.now);
    assert_eq!(update(&who(b"a", 1, ROOT)).err(), Some(S::Noent));
    let fresh = w.exchange(&who(b"a", 1, ROOT)).expect("new");
    assert_eq!(update(&who(b"a", 1, ROOT)).err(), Some(S::Noent));
    w.create(creation(fresh.client.clientid, 1))
        .expect("still there");
    let updated = update(&who(b"a", 1, ROOT)).expect("updated");
    assert!(updated.confirmed && Arc::ptr_eq(&updated.client, &fresh.client));
    assert_eq!(update(&who(b"a", 2, ROOT)).err(), Some(S::NotSame));
    assert_eq!(update(&who(b"a", 1, OTHER)).err(), Some(S::Perm));
}

#[test]
fn the_minor_versions_have_names_apart() {
    let w = world();
    let (new, _) = w.client(b"a", 1);
    let old = w.client40(b"a", 1);
    assert_ne!(new.clientid, old.clientid);
    assert!(new.live().is_ok() && old.live().is_ok());
    assert_eq!(w.create(creation(old.clientid, 1)), Err(S::StaleClientid));
    assert_eq!(
        w.confirm(new.clientid, [0; 8]).err(),
        Some(S::StaleClientid)
    );
    let minor2 = Who {
        minor: 2,
        ..who(b"a", 1, ROOT)
    };
    assert!(Arc::ptr_eq(
        &w.exchange(&minor2).expect("found").client,
        &new
    ));
}

#[test]
fn destroy_clientid_wants_nothing_left() {
    let w = world();
    let (client, session) = w.client(b"a", 1);
    let destroy = |clientid| w.state.destroy_clientid(clientid);
    assert_eq!(destroy(client.clientid), Err(S::ClientidBusy));
    w.state.destroy_session(&session).expect("there");
    assert_eq!(destroy(client.clientid), Ok(()));
    assert_eq!(destroy(client.clientid), Err(S::StaleClientid));
    assert_eq!(destroy(1), Err(S::StaleClientid));
    let fresh = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    assert_eq!(destroy(fresh.clientid), Ok(()));
    let old = w.client40(b"a", 1);
    assert_eq!(destroy(old.clientid), Err(S::StaleClientid));
    w.state.expire(&old);
    w.assert_empty();
}

#[test]
fn reclaim_complete_is_said_once() {
    let w = world();
    let (client, session) = w.client(b"a", 1);
    client.raise(SeqStatus::RESTART_RECLAIM_NEEDED);
    let status = || w.state.session(&session).expect("there").status();
    assert_eq!(status(), SeqStatus::RESTART_RECLAIM_NEEDED);
    assert!(!client.reclaim_is_complete());
    assert_eq!(client.reclaim_complete(), Ok(()));
    assert_eq!(client.reclaim_complete(), Err(S::CompleteAlready));
    assert!(client.reclaim_is_complete() && status().is_empty());
}

#[test]
fn many_threads_of_one_name_leave_one_record() {
    let w = world();
    let before = w.client(b"a", 0);
    std::thread::scope(|scope| {
        for boot in 1..5 {
            let w = &w;
            scope.spawn(move || {
                for turn in 0..200 {
                    let who = who(b"a", boot * 50 + turn % 2, ROOT);
                    let found = w.exchange(&who).expect("found or made");
                    // Another may have replaced it by now.
                    let _ = w.create(creation(found.client.clientid, found.sequence));
                    let _ = w.state.expire_if_courtesy(found.client.number, w.now);
                }
            });
        }
    });
    drop(before);
    let counts = w.state.counts();
    assert_eq!(counts.names, 1);
    assert!(
        counts.clients - counts.unconfirmed == 1 && counts.clients <= 2,
        "{counts:?}"
    );
    w.state.clients().iter().for_each(|c| w.state.expire(c));
    w.assert_empty();
}
