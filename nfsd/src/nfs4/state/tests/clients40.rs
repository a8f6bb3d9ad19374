//! SETCLIENTID (RFC 7530 16.33.5), SETCLIENTID_CONFIRM (16.34.5) and RENEW (16.29).

use super::*;

#[test]
fn setclientid_of_a_new_name() {
    let w = world();
    let (clientid, confirm) = w.set(&who(b"a", 1, ROOT), 1).expect("set");
    assert_eq!(w.confirm(clientid, [9; 8]).err(), Some(S::StaleClientid));
    let other = w.state.setclientid_confirm(clientid, confirm, OTHER, w.now);
    assert_eq!(other.err(), Some(S::ClidInuse));
    let client = w.confirm(clientid, confirm).expect("confirmed");
    assert!(client.is_confirmed() && client.lock().callback == Some(callback(1)));
    // Sent again.
    let again = w.confirm(clientid, confirm).expect("again");
    assert!(Arc::ptr_eq(&client, &again));
    assert_eq!(w.state.counts().clients, 1);
}

#[test]
fn setclientid_replaces_the_unconfirmed() {
    let w = world();
    for boot in [1, 2] {
        let (old, confirm) = w.set(&who(b"a", 1, ROOT), 1).expect("set");
        let (new, _) = w.set(&who(b"a", boot, ROOT), 1).expect("set");
        assert_ne!(old, new);
        assert_eq!(w.confirm(old, confirm).err(), Some(S::StaleClientid));
    }
    assert_eq!(w.state.counts().clients, 1);
}

#[test]
fn setclientid_of_the_same_boot_changes_callbacks() {
    let w = world();
    let client = w.client40(b"a", 1);
    let (clientid, first) = w.set(&who(b"a", 1, ROOT), 2).expect("set");
    assert_eq!(clientid, client.clientid);
    let (_, second) = w.set(&who(b"a", 1, ROOT), 3).expect("set");
    // Only the last counts, and only once confirmed.
    assert_eq!(w.confirm(clientid, first).err(), Some(S::StaleClientid));
    assert_eq!(client.lock().callback, Some(callback(1)));
    client.raise(SeqStatus::CB_PATH_DOWN);
    for _ in 0..2 {
        let done = w.confirm(clientid, second).expect("confirmed");
        assert!(Arc::ptr_eq(&done, &client));
        assert_eq!(client.lock().callback, Some(callback(3)));
    }
    assert!(client.status().is_empty());
    assert_eq!(w.state.counts().clients, 1);
}

#[test]
fn setclientid_update_drops_what_a_restart_left() {
    let w = world();
    let client = w.client40(b"a", 1);
    let (fresh, confirm) = w.set(&who(b"a", 2, ROOT), 2).expect("set");
    let (clientid, _) = w.set(&who(b"a", 1, ROOT), 3).expect("set");
    assert_eq!(clientid, client.clientid);
    assert_eq!(w.confirm(fresh, confirm).err(), Some(S::StaleClientid));
    // And the other way round.
    let (_, update) = w.set(&who(b"a", 1, ROOT), 4).expect("set");
    w.set(&who(b"a", 2, ROOT), 5).expect("set");
    assert_eq!(w.confirm(clientid, update).err(), Some(S::StaleClientid));
}

#[test]
fn setclientid_after_a_restart() {
    let w = world();
    let old = w.client40(b"a", 1);
    let (clientid, confirm) = w.set(&who(b"a", 2, ROOT), 2).expect("set");
    assert!(clientid != old.clientid && old.live().is_ok());
    let new = w.confirm(clientid, confirm).expect("confirmed");
    assert!(old.live().is_err() && new.live().is_ok());
    assert_eq!(
        w.state.renew_clientid(old.clientid, ROOT, w.now),
        Err(S::Expired)
    );
    assert_eq!(w.state.counts().clients, 1);
}

#[test]
fn setclientid_in_use() {
    let mut w = world();
    let old = w.client40(b"a", 1);
    // It has something: here a session stands for it.
    let (_, session) = w.client(b"x", 1);
    let session = w.state.session(&session).expect("there");
    old.lock().sessions.push(session);
    let refused = w.set(&who(b"a", 1, OTHER), 2);
    assert_eq!(refused, Err(Refused::InUse(Some(callback(1)))));
    w.pass(91);
    let (clientid, confirm) = w.set(&who(b"a", 1, OTHER), 2).expect("set");
    assert_ne!(clientid, old.clientid);
    let done = w.state.setclientid_confirm(clientid, confirm, OTHER, w.now);
    assert!(done.is_ok() && old.live().is_err());
}

#[test]
fn renew() {
    let mut w = world();
    let client = w.client40(b"a", 1);
    let renew = |w: &World, id| w.state.renew_clientid(id, ROOT, w.now);
    for _ in 0..3 {
        w.pass(60);
        assert_eq!(renew(&w, client.clientid), Ok(()));
    }
    let other = w.state.renew_clientid(client.clientid, OTHER, w.now);
    assert_eq!(other, Err(S::Access));
    assert_eq!(renew(&w, 5), Err(S::StaleClientid));
    assert_eq!(renew(&w, client.clientid + 1), Err(S::StaleClientid));
    let (fresh, _) = w.set(&who(b"b", 1, ROOT), 1).expect("set");
    assert_eq!(renew(&w, fresh), Err(S::StaleClientid));
    client.raise(SeqStatus::CB_PATH_DOWN);
    w.pass(60);
    assert_eq!(renew(&w, client.clientid), Err(S::CbPathDown));
    assert_eq!(w.state.silence(&client, w.now), Duration::ZERO);
    w.state.expire(&client);
    assert_eq!(renew(&w, client.clientid), Err(S::Expired));
}
