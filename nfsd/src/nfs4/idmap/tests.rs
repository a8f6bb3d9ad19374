//! Tests of owner strings.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A few accounts, and how often they were asked for.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
    broken: AtomicBool,
}

const ACCOUNTS: &[(Who, &str, u32)] = &[
    (Who::User, "root", 0),
    (Who::User, "ann", 1000),
    (Who::User, "a@b", 1001),
    (Who::User, "nul\0", 1002),
    (Who::Group, "staff", 50),
    (Who::User, "minus", u32::MAX),
];

impl Fake {
    fn ask<T>(&self, answer: Option<T>) -> io::Result<Option<T>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("away"));
        }
        Ok(answer)
    }
}

impl Accounts for Fake {
    fn id(&self, who: Who, name: &str) -> io::Result<Option<u32>> {
        let found = ACCOUNTS.iter().find(|(w, n, _)| (*w, *n) == (who, name));
        self.ask(found.map(|(_, _, id)| *id))
    }
    fn name(&self, who: Who, id: u32) -> io::Result<Option<String>> {
        let found = ACCOUNTS.iter().find(|(w, _, i)| (*w, *i) == (who, id));
        self.ask(found.map(|(_, name, _)| (*name).to_owned()))
    }
    fn domain(&self) -> Option<String> {
        Some("found.example".to_owned())
    }
}

fn idmap(send: Idmapping, domain: Option<&str>) -> (Idmap, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let idmap = Idmap::new(send, domain.map(str::to_owned), fake.clone());
    (idmap, fake)
}

/// As [`Idmap::owner`], asking in this thread.
fn owner(idmap: &Idmap, who: Who, id: u32, now: Instant) -> String {
    let owner = idmap.owner_now(who, id, now).unwrap_or_else(|| {
        let asked = idmap.shared.ask_name(who, id, now);
        asked.map_or(Owner::Number(id), Owner::Name)
    });
    let mut digits = [0; 10];
    String::from_utf8(owner.bytes(&mut digits).to_vec()).expect("text")
}

/// As [`Idmap::id`], asking in this thread.
fn id(idmap: &Idmap, who: Who, owner: &[u8], now: Instant) -> Result<u32, Unmapped> {
    let known = idmap.id_now(who, owner, now);
    known.unwrap_or_else(|| idmap.shared.ask_id(who, owner.into(), now))
}

#[test]
fn numbers_are_sent_unless_names_are_asked_for() {
    let now = exec::now();
    let (numeric, fake) = idmap(Idmapping::Numeric, None);
    for id in [0, 7, 1000, u32::MAX] {
        assert_eq!(owner(&numeric, Who::User, id, now), id.to_string());
    }
    assert_eq!(fake.asked.load(Ordering::Relaxed), 0);
    let (names, _) = idmap(Idmapping::Names, Some("example.org"));
    for (who, id, expected) in [
        (Who::User, 1000, "ann@example.org"),
        (Who::Group, 50, "staff@example.org"),
        (Who::Group, 1000, "1000"),
        (Who::User, 1001, "a@b@example.org"),
        (Who::User, 1002, "1002"),
        (Who::User, 4_000_000_000, "4000000000"),
    ] {
        assert_eq!(owner(&names, who, id, now), expected);
    }
    let (names, _) = idmap(Idmapping::Names, None);
    assert_eq!(owner(&names, Who::User, 0, now), "root@found.example");
}

#[test]
fn numbers_and_names_are_understood_either_way() {
    let now = exec::now();
    for send in [Idmapping::Numeric, Idmapping::Names] {
        let (idmap, _) = idmap(send, Some("Example.org"));
        let bad = Err(Unmapped::BadOwner);
        let long = format!("{}@example.org", "x".repeat(NAME_MAX + 1));
        for (who, string, expected) in [
            (Who::User, &b"0"[..], Ok(0)),
            (Who::Group, b"4294967294", Ok(4_294_967_294)),
            (Who::User, b"4294967295", bad),
            (Who::User, b"99999999999", bad),
            (Who::User, b"00", bad),
            (Who::User, b"01", bad),
            (Who::User, b"-1", bad),
            (Who::User, b"", bad),
            (Who::User, b"ann@example.ORG", Ok(1000)),
            (Who::User, b"ann@example.com", bad),
            (Who::User, b"ann@", bad),
            (Who::User, b"ann", bad),
            (Who::User, b"@example.org", bad),
            (Who::User, b"a@b@example.org", Ok(1001)),
            (Who::User, b"minus@example.org", bad),
            (Who::Group, b"ann@example.org", bad),
            (Who::Group, b"staff@example.org", Ok(50)),
            (Who::User, b"nobody", Ok(NOBODY)),
            (Who::User, b"nobody@example.org", Ok(NOBODY)),
            (Who::Group, b"nogroup@example.org", Ok(NOBODY)),
            (Who::User, b"OWNER@", bad),
            (Who::User, b"an\xffn@example.org", bad),
            (Who::User, b"nul\0@example.org", bad),
            (Who::User, long.as_bytes(), bad),
        ] {
            let got = id(&idmap, who, string, now);
            assert_eq!(got, expected, "{}", string.escape_ascii());
        }
    }
}

#[test]
fn answers_are_kept_for_a_while() {
    let now = exec::now();
    let (idmap, fake) = idmap(Idmapping::Names, Some("example.org"));
    let asked = || fake.asked.swap(0, Ordering::Relaxed);
    for (later, times) in [
        (Duration::ZERO, 4),
        (Duration::from_secs(1), 0),
        (ABSENT_KEPT, 2),
        (FOUND_KEPT, 4),
    ] {
        let now = now + later;
        assert_eq!(owner(&idmap, Who::User, 1000, now), "ann@example.org");
        assert_eq!(owner(&idmap, Who::User, 9, now), "9");
        assert_eq!(id(&idmap, Who::User, b"ann@example.org", now), Ok(1000));
        let none = id(&idmap, Who::User, b"eve@example.org", now);
        assert_eq!(none, Err(Unmapped::BadOwner));
        assert_eq!(asked(), times, "after {later:?}");
    }
    // Not even asked for.
    assert!(id(&idmap, Who::User, &[b'x'; OWNER_MAX + 1], now).is_err());
    assert_eq!(asked(), 0);
}

#[test]
fn a_database_that_is_away_means_later() {
    let now = exec::now();
    let (idmap, fake) = idmap(Idmapping::Names, Some("example.org"));
    fake.broken.store(true, Ordering::Relaxed);
    let ann = |now| id(&idmap, Who::User, b"ann@example.org", now);
    assert_eq!(ann(now), Err(Unmapped::Later));
    assert_eq!(owner(&idmap, Who::User, 1000, now), "1000");
    fake.broken.store(false, Ordering::Relaxed);
    assert_eq!(ann(now), Err(Unmapped::Later), "left alone for a while");
    let now = now + FAILED_KEPT;
    assert_eq!(ann(now), Ok(1000));
    assert_eq!(owner(&idmap, Who::User, 1000, now), "ann@example.org");
}

#[test]
fn what_is_remembered_is_bounded_and_made_up_names_push_nothing_out() {
    let now = exec::now();
    let (idmap, fake) = idmap(Idmapping::Names, Some("example.org"));
    assert_eq!(id(&idmap, Who::User, b"ann@example.org", now), Ok(1000));
    for n in 0..2 * ANSWERS_MAX as u32 + 10 {
        let made_up = format!("eve{n}@example.org");
        assert!(id(&idmap, Who::User, made_up.as_bytes(), now).is_err());
        let known = idmap.shared.known();
        assert!(known.ids.not.0.len() <= ANSWERS_MAX);
    }
    fake.asked.store(0, Ordering::Relaxed);
    assert_eq!(id(&idmap, Who::User, b"ann@example.org", now), Ok(1000));
    assert_eq!(fake.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_worker_asks_pool_threads_once() {
    let (idmap, fake) = idmap(Idmapping::Names, None);
    let config = vfs::uring::RingConfig {
        pool_bytes: 16 << 20,
        ..vfs::uring::RingConfig::default()
    };
    let asking = async move {
        for _ in 0..2 {
            let sent = idmap.owner(Who::User, 1000).await;
            assert_eq!(sent, Owner::Name("ann@found.example".into()));
            assert_eq!(idmap.owner(Who::User, 9).await, Owner::Number(9));
            let ann = idmap.id(Who::User, b"ann@FOUND.example").await;
            assert_eq!(ann, Ok(1000));
            let eve = idmap.id(Who::User, b"eve@found.example").await;
            assert_eq!(eve, Err(Unmapped::BadOwner));
        }
    };
    exec::block_on(&config, asking).expect("a worker");
    assert_eq!(fake.asked.load(Ordering::Relaxed), 4);
}

#[test]
fn this_machine_knows_root() {
    let accounts = SystemAccounts;
    for who in [Who::User, Who::Group] {
        assert_eq!(accounts.id(who, "root").expect("asked"), Some(0));
        assert_eq!(
            accounts.name(who, 0).expect("asked").as_deref(),
            Some("root")
        );
        let absent = accounts.id(who, "no such account, surely");
        assert_eq!(absent.expect("asked"), None);
        assert_eq!(accounts.id(who, "a\0b").expect("asked"), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600), text in "[a-z0-9@.\\x00]{0,40}") {
        let (idmap, _) = idmap(Idmapping::Names, Some("example.org"));
        let now = exec::now();
        for who in [Who::User, Who::Group] {
            let first = id(&idmap, who, &bytes, now);
            prop_assert_eq!(first, id(&idmap, who, &bytes, now));
            let _ = id(&idmap, who, text.as_bytes(), now);
        }
    }

    #[test]
    fn what_is_sent_is_understood(account: u32, named: bool) {
        prop_assume!(account != u32::MAX);
        let send = if named { Idmapping::Names } else { Idmapping::Numeric };
        let (idmap, _) = idmap(send, Some("example.org"));
        let now = exec::now();
        for who in [Who::User, Who::Group] {
            for account in [account, account % 1100] {
                let sent = owner(&idmap, who, account, now);
                prop_assert_eq!(id(&idmap, who, sent.as_bytes(), now), Ok(account));
            }
        }
    }
}
