//! CREATE_SESSION (RFC 8881 18.36), SEQUENCE (18.46), BIND_CONN_TO_SESSION (18.34), DESTROY_SESSION
//! (18.37), BACKCHANNEL_CTL (18.33).

use super::*;

#[test]
fn create_session_runs_once() {
    let w = world();
    let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    let create = |sequence| w.create(creation(client.clientid, sequence));
    for wrong in [0, 2, u32::MAX] {
        assert_eq!(create(wrong), Err(S::SeqMisordered));
    }
    let first = create(1).expect("created");
    assert_eq!(create(1), Ok(first));
    assert_eq!(w.state.counts().sessions, 1);
    let second = create(2).expect("created");
    assert_ne!(second.session, first.session);
    assert_eq!(create(1), Err(S::SeqMisordered));
    assert_eq!(create(2), Ok(second));
    // A session more or less does not matter to a retransmission.
    w.state.destroy_session(&second.session).expect("there");
    assert_eq!(create(2), Ok(second));
}

#[test]
fn create_session_of_others() {
    let w = world();
    assert_eq!(w.create(creation(0x99 << 32 | 1, 1)), Err(S::StaleClientid));
    assert_eq!(
        w.create(creation(0x1234_5678 << 32 | 1, 1)),
        Err(S::StaleClientid)
    );
    let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    let mut ask = creation(client.clientid, 1);
    ask.principal = OTHER;
    assert_eq!(w.create(ask), Err(S::ClidInuse));
    // That was not the client's request, and took no number.
    assert_eq!(
        w.create(creation(client.clientid, 2)),
        Err(S::SeqMisordered)
    );
    w.create(creation(client.clientid, 1)).expect("created");
    // A confirmed client ID is for every user of the client.
    let mut ask = creation(client.clientid, 2);
    ask.principal = OTHER;
    w.create(ask).expect("created");
}

#[test]
fn create_session_that_fails_may_be_sent_again() {
    for then in [1, 2] {
        let w = world();
        let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
        let mut ask = creation(client.clientid, 1);
        ask.flags = 8;
        assert_eq!(w.create(ask), Err(S::Inval));
        assert!(!client.is_confirmed());
        assert_eq!(
            w.create(creation(client.clientid, 3)),
            Err(S::SeqMisordered)
        );
        w.create(creation(client.clientid, then)).expect("created");
        assert!(client.is_confirmed());
        let after = w.create(creation(client.clientid, then + 2));
        assert_eq!(after, Err(S::SeqMisordered));
    }
}

#[test]
fn create_session_negotiates() {
    let w = world_with(Config {
        slots: 64,
        ..Config::default()
    });
    let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    let fore = |sequence, fore| {
        w.create(CreateSession {
            fore,
            ..creation(client.clientid, sequence)
        })
    };
    let most = Channel {
        max_request: u32::MAX,
        max_response: u32::MAX,
        max_cached: u32::MAX,
        max_ops: u32::MAX,
        slots: u32::MAX,
    };
    let granted = fore(1, most).expect("created").fore;
    let expected = Channel {
        max_request: (1 << 20) + 4096,
        max_response: (1 << 20) + 4096,
        max_cached: 8192,
        max_ops: 128,
        slots: 64,
    };
    assert_eq!(granted, expected);
    assert_eq!(fore(2, CHANNEL).expect("created").fore, CHANNEL);
    let few = Channel {
        slots: 0,
        max_response: 512,
        ..CHANNEL
    };
    let granted = fore(3, few).expect("created").fore;
    assert_eq!((granted.slots, granted.max_cached), (1, 512));
    for small in [
        Channel {
            max_request: 20,
            ..CHANNEL
        },
        Channel {
            max_response: 20,
            ..CHANNEL
        },
        Channel {
            max_ops: 0,
            ..CHANNEL
        },
    ] {
        assert_eq!(fore(4, small), Err(S::Toosmall));
    }
}

#[test]
fn create_session_is_bounded() {
    let limits = Config {
        sessions_per_client: 2,
        cache_bytes: 40 * 1024,
        ..Config::default()
    };
    let w = world_with(limits);
    let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    let fore = Channel {
        slots: 32,
        ..CHANNEL
    };
    let create = |sequence| {
        w.create(CreateSession {
            fore,
            ..creation(client.clientid, sequence)
        })
    };
    let first = create(1).expect("created");
    assert_eq!(
        (first.fore.slots, w.state.counts().reserved),
        (32, 32 * 1024)
    );
    // The memory for replies is used up: few slots, but some.
    assert_eq!(create(2).expect("created").fore.slots, 8);
    assert_eq!(create(3), Err(S::Nospc));
    w.state.destroy_session(&first.session).expect("there");
    assert_eq!(w.state.counts().reserved, 8 * 1024);
    create(3).expect("created");
    w.state.expire(&client);
    drop(client);
    w.assert_empty();
}

#[test]
fn sequence_checks_the_request() {
    let w = world();
    let (_, session) = w.client(b"a", 1);
    let good = sequence(session, 3, 1);
    let print = Print {
        ops: 17,
        ..good.print
    };
    for (ask, status) in [
        (
            Sequence {
                session: [0; 16],
                ..good
            },
            S::Badsession,
        ),
        (Sequence { slot: 4, ..good }, S::Badslot),
        (Sequence { print, ..good }, S::TooManyOps),
        (
            Sequence {
                request_bytes: 4097,
                ..good
            },
            S::ReqTooBig,
        ),
        (
            Sequence {
                reply_bytes: 4097,
                ..good
            },
            S::RepTooBig,
        ),
        (
            Sequence {
                reply_bytes: 1025,
                ..good
            },
            S::RepTooBigToCache,
        ),
        (
            Sequence {
                sequence: 2,
                ..good
            },
            S::SeqMisordered,
        ),
    ] {
        assert_eq!(w.begin(&ask).err(), Some(status));
    }
    // None of that took the slot.
    w.begin(&good).expect("new").complete(b"", None);
}

#[test]
fn sequence_answers_again() {
    let w = world();
    let (_, session) = w.client(b"a", 1);
    let ask = sequence(session, 0, 1);
    let slot = w.begin(&ask).expect("new");
    assert_eq!(w.begin(&ask).err(), Some(S::Delay));
    slot.complete(b"results", Some(b"data"));
    for _ in 0..2 {
        let Ok(Turn::Replay(reply)) = w.state.sequence(&ask, w.now) else {
            panic!("not replayed");
        };
        assert_eq!(&reply[..], b"resultsdata");
    }
    let print = Print {
        sum: 1,
        ..ask.print
    };
    let other = w.begin(&Sequence { print, ..ask });
    assert_eq!(other.err(), Some(S::SeqFalseRetry));
    // Dropped in the middle, or too long to keep unasked: it ran, and is not to run again.
    drop(w.begin(&sequence(session, 0, 2)).expect("new"));
    let long = Sequence {
        keep: false,
        ..sequence(session, 1, 1)
    };
    w.begin(&long).expect("new").complete(&[0; 4000], None);
    for ask in [sequence(session, 0, 2), long] {
        assert!(matches!(w.state.sequence(&ask, w.now), Ok(Turn::Unkept(_))));
    }
    w.begin(&sequence(session, 0, 3))
        .expect("new")
        .complete(b"", None);
}

#[test]
fn destroy_session_does_not_wait() {
    let w = world();
    let (client, session) = w.client(b"a", 1);
    let slot = w.begin(&sequence(session, 0, 1)).expect("new");
    assert_eq!(w.state.destroy_session(&session), Ok(()));
    assert_eq!(w.state.destroy_session(&session), Err(S::Badsession));
    assert_eq!(w.begin(&sequence(session, 1, 1)).err(), Some(S::Badsession));
    assert!(client.lock().sessions.is_empty());
    let weak = Arc::downgrade(slot.session());
    slot.complete(b"late", None);
    assert!(weak.upgrade().is_none());
    w.state
        .destroy_clientid(client.clientid)
        .expect("nothing left");
    w.assert_empty();
}

#[test]
fn sessions_and_clients_do_not_keep_each_other() {
    let w = world();
    let (client, session) = w.client(b"a", 1);
    let weak = Arc::downgrade(&client);
    let session = Arc::downgrade(&w.state.session(&session).expect("there"));
    w.state.expire(&client);
    let gone = w.state.each_expired(|_| ()).expect("known");
    w.state.settled(&gone);
    drop(gone);
    drop(client);
    assert!(weak.upgrade().is_none() && session.upgrade().is_none());
}

#[test]
fn bind_conn_to_session() {
    let w = world();
    let (client, id) = w.client(b"a", 1);
    let both = Direction {
        fore: true,
        back: true,
    };
    let only = Direction {
        fore: true,
        back: false,
    };
    let bind = |wanted, must, conn: Option<Arc<Wire>>| {
        let conn = conn.map(|conn| conn as Arc<dyn Back>);
        w.state.bind(&id, wanted, must, conn, w.now)
    };
    let unknown = w.state.bind(&[1; 16], both, false, None, w.now);
    assert_eq!(unknown, Err(S::Badsession));
    assert_eq!(bind(both, false, None), Ok(only));
    assert_eq!(bind(both, true, None), Err(S::Inval));
    assert_eq!(bind(only, false, Some(wire(1))), Ok(only));
    assert!(client.back_conn().is_none());
    let (first, second) = (wire(1), wire(2));
    for conn in [&first, &second, &first] {
        assert_eq!(bind(both, false, Some(conn.clone())), Ok(both));
    }
    let back = |w: &World| {
        w.state
            .session(&id)
            .expect("there")
            .back_conn()
            .map(|c| c.id())
    };
    assert_eq!(back(&w), Some(1));
    first.close();
    assert_eq!(back(&w), Some(2));
    w.state.sweep(w.now);
    assert!(client.status().is_empty());
    second.close();
    w.state.sweep(w.now);
    let session = w.state.session(&id).expect("there");
    let down = SeqStatus::CB_PATH_DOWN | SeqStatus::CB_PATH_DOWN_SESSION;
    assert_eq!(session.status(), down);
    assert_eq!(bind(both, true, Some(wire(3))), Ok(both));
    assert!(session.status().is_empty());
    session.callback_failed(3);
    assert_eq!(session.status(), down);
}

#[test]
fn bound_connections_are_bounded() {
    let w = world();
    let (_, id) = w.client(b"a", 1);
    let session = w.state.session(&id).expect("there");
    let wires: Vec<_> = (0..40).map(wire).collect();
    wires
        .iter()
        .for_each(|wire| session.bind_back(wire.clone()));
    let kept = wires.iter().filter(|wire| Arc::strong_count(wire) > 1);
    assert_eq!(kept.count(), super::super::session::BACK_MAX);
}

#[test]
fn create_session_binds_its_connection() {
    let w = world();
    let client = w.exchange(&who(b"a", 1, ROOT)).expect("new").client;
    let create = |sequence, flags, conn: Option<Arc<dyn Back>>, back| {
        let created = w.create(CreateSession {
            flags,
            conn,
            back,
            ..creation(client.clientid, sequence)
        });
        created.map(|created| {
            (
                created.flags,
                w.state.session(&created.session).expect("there"),
            )
        })
    };
    let wanted = CreateFlags::CONN_BACK_CHAN;
    let (flags, session) = create(1, 7, Some(wire(5)), CHANNEL).expect("created");
    assert_eq!(
        (flags, session.back_conn().map(|c| c.id())),
        (wanted, Some(5))
    );
    let (flags, session) = create(2, wanted.bits(), None, CHANNEL).expect("created");
    assert!(flags.is_empty() && session.back_conn().is_none());
    let (flags, session) = create(3, 0, Some(wire(6)), CHANNEL).expect("created");
    assert!(flags.is_empty() && session.back_conn().is_none());
    // A backchannel that takes no callback.
    for back in [
        Channel {
            max_ops: 1,
            ..CHANNEL
        },
        Channel {
            max_request: 10,
            ..CHANNEL
        },
    ] {
        for flags in [wanted.bits(), 0] {
            let refused = create(4, flags, Some(wire(7)), back);
            assert_eq!(refused.err(), Some(S::Toosmall), "flags {flags}");
        }
    }
    // Any session's connection will do for the client.
    let (_, conn) = client.back_conn().expect("bound");
    assert_eq!(conn.id(), 5);
}

#[test]
fn backchannel_ctl_changes_callbacks() {
    let w = world();
    let (client, id) = w.client(b"a", 1);
    let session = w.state.session(&id).expect("there");
    client.raise(SeqStatus::BACKCHANNEL_FAULT);
    let target = CbTarget {
        program: 7,
        sec: CbSec::None,
    };
    session.set_callback(target.clone());
    assert_eq!(session.callback(), target);
    assert!(session.status().is_empty());
}
