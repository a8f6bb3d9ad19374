//! Tests of the grace period, in virtual time.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TIME: Duration = Duration::from_secs(90);
const ROOT: &str = "sys:0";

fn key(class: Class, name: &str) -> ClientKey {
    ClientKey::new(class, name.as_bytes()).expect("short")
}

fn v40(name: &str) -> ClientKey {
    key(Class::V40, name)
}

fn v41(name: &str) -> ClientKey {
    key(Class::V41, name)
}

fn record() -> ClientRecord {
    ClientRecord::new([1; 8], ROOT, None)
}

fn revoked() -> ClientRecord {
    ClientRecord {
        may_reclaim: false,
        ..record()
    }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn grace(keys: &[ClientKey]) -> (Grace, Instant) {
    let now = Instant::now();
    let records: Vec<_> = keys.iter().map(|key| (key.clone(), record())).collect();
    (Grace::new(&records, TIME, now), now)
}

fn reclaim(grace: &Grace, key: &ClientKey, now: Instant) -> Result<(), Refused> {
    grace.may_reclaim(key, ROOT, now).map(drop)
}

/// The end, which must have come.
fn end(grace: &Grace, now: Instant) -> Ending {
    let Step::End(ending) = grace.step(now) else {
        panic!("not the end: {:?}", grace.step(now));
    };
    ending
}

fn ending(drop: &[ClientKey], distrust: &[ClientKey]) -> Ending {
    Ending {
        drop: drop.to_vec(),
        distrust: distrust.to_vec(),
    }
}

#[test]
fn without_records_there_is_no_grace() {
    let (grace, now) = grace(&[]);
    assert!(!grace.in_grace());
    assert_eq!(grace.step(now), Step::Over);
    assert_eq!(reclaim(&grace, &v41("a"), now), Err(Refused::NoGrace));
    assert_eq!(grace.left(now), None);
}

#[test]
fn clients_that_may_not_reclaim_open_no_grace_and_are_cleared_away() {
    let now = Instant::now();
    let grace = Grace::new(&[(v41("a"), revoked())], TIME, now);
    assert!(!grace.in_grace());
    assert_eq!(reclaim(&grace, &v41("a"), now), Err(Refused::NoGrace));
    assert_eq!(end(&grace, now), ending(&[v41("a")], &[]));
    grace.ended();
    assert_eq!(grace.step(now), Step::Over);
}

#[test]
fn time_ends_it_and_who_did_not_come_is_dropped() {
    let (grace, now) = grace(&[v41("a"), v40("b")]);
    assert!(grace.in_grace());
    assert_eq!(grace.left(now), Some(TIME));
    assert_eq!(
        grace.step(after(now, 89)),
        Step::Wait(after(now, 90)),
        "a second too early"
    );
    assert_eq!(
        end(&grace, after(now, 90)),
        ending(&[v40("b"), v41("a")], &[])
    );
    assert!(grace.in_grace(), "not before it is on disk");
    assert_eq!(
        reclaim(&grace, &v41("a"), after(now, 90)),
        Err(Refused::NoGrace),
        "it is being dropped"
    );
    assert_eq!(
        end(&grace, after(now, 91)),
        ending(&[v40("b"), v41("a")], &[]),
        "the store failed: again"
    );
    grace.ended();
    assert!(!grace.in_grace());
    assert_eq!(grace.step(after(now, 92)), Step::Over);
    assert_eq!(
        reclaim(&grace, &v41("a"), after(now, 92)),
        Err(Refused::NoGrace)
    );
}

#[test]
fn it_ends_as_soon_as_all_known_clients_completed() {
    let (grace, now) = grace(&[v41("a"), v41("b")]);
    assert_eq!(reclaim(&grace, &v41("a"), now), Ok(()));
    assert!(!grace.reclaim_complete(&v41("stranger")));
    assert!(!grace.reclaim_complete(&v41("a")));
    assert!(!grace.reclaim_complete(&v41("a")), "twice counts once");
    assert_eq!(grace.awaited(), 1);
    assert!(matches!(grace.step(after(now, 1)), Step::Wait(_)));
    // With nothing to reclaim, it says so at once.
    assert!(grace.reclaim_complete(&v41("b")));
    assert_eq!(end(&grace, after(now, 1)), ending(&[], &[]));
    grace.ended();
    assert!(!grace.in_grace());
}

#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    let (grace, now) = grace(&[v41("a"), v40("b")]);
    assert!(!grace.reclaim_complete(&v41("a")));
    assert!(!grace.forget(&v41("a")), "b is still awaited");
    assert!(grace.forget(&v40("b")));
    assert!(!grace.forget(&v40("b")));
    assert_eq!(end(&grace, now), ending(&[], &[]));
}

#[test]
fn version_4_0_takes_all_the_time_and_keeps_who_reclaimed() {
    let (grace, now) = grace(&[v41("a"), v40("b"), v40("c"), v40("d")]);
    assert!(!grace.reclaim_complete(&v41("a")));
    for client in [v40("b"), v40("d")] {
        grace.goes_on(&client); // not yet
        assert_eq!(reclaim(&grace, &client, after(now, 10)), Ok(()));
    }
    grace.goes_on(&v40("b"));
    grace.goes_on(&v40("c"));
    assert_eq!(grace.step(after(now, 89)), Step::Wait(after(now, 90)));
    assert_eq!(
        end(&grace, after(now, 90)),
        ending(&[v40("c")], &[v40("d")])
    );
}

#[test]
fn reclaims_towards_the_end_extend_it_to_at_most_twice() {
    let (grace, now) = grace(&[v40("a")]);
    let mut reclaimed = 0;
    let at = |seconds| after(now, seconds);
    for second in 80..180 {
        reclaimed += u64::from(reclaim(&grace, &v40("a"), at(second)).is_ok());
        assert!(
            matches!(grace.step(at(second)), Step::Wait(_)),
            "at {second}"
        );
    }
    assert_eq!(reclaimed, 100);
    grace.goes_on(&v40("a"));
    assert_eq!(end(&grace, at(180)), ending(&[], &[]));

    let (grace, now) = self::grace(&[v40("a")]);
    assert_eq!(reclaim(&grace, &v40("a"), after(now, 88)), Ok(()));
    assert_eq!(grace.step(after(now, 90)), Step::Wait(after(now, 93)));
    assert_eq!(end(&grace, after(now, 93)), ending(&[], &[v40("a")]));
}

#[test]
fn no_reclaim_after_reclaim_complete() {
    let (grace, now) = grace(&[v41("a"), v41("b")]);
    assert_eq!(reclaim(&grace, &v41("a"), now), Ok(()));
    grace.reclaim_complete(&v41("a"));
    assert_eq!(reclaim(&grace, &v41("a"), now), Err(Refused::NoGrace));
}

#[test]
fn who_held_nothing_has_nothing_to_reclaim() {
    let (grace, now) = grace(&[v41("a")]);
    assert_eq!(reclaim(&grace, &v41("b"), now), Err(Refused::ReclaimBad));
    assert_eq!(
        reclaim(&grace, &v40("a"), now),
        Err(Refused::ReclaimBad),
        "another class is another client"
    );
    let as_user = grace.may_reclaim(&v41("a"), "sys:1000", now).map(drop);
    assert_eq!(as_user, Err(Refused::ReclaimBad));
    grace.forget(&v41("a"));
    assert_eq!(reclaim(&grace, &v41("a"), now), Err(Refused::ReclaimBad));
}

#[test]
fn an_unknown_principal_is_not_compared() {
    let now = Instant::now();
    let records = [(v41("a"), ClientRecord::new([0; 8], "", None))];
    let grace = Grace::new(&records, TIME, now);
    assert_eq!(reclaim(&grace, &v41("a"), now), Ok(()));
}

#[test]
fn a_reclaim_under_way_holds_up_the_end() {
    let (grace, now) = grace(&[v41("a"), v41("b")]);
    let under_way = grace.may_reclaim(&v41("a"), ROOT, now).expect("known");
    let late = after(now, 500);
    assert_eq!(grace.step(late), Step::Wait(late));
    drop(under_way);
    assert_eq!(end(&grace, late), ending(&[v41("b")], &[v41("a")]));
}

#[test]
fn hosts_of_nlm_have_the_whole_time() {
    let now = Instant::now();
    let none = Grace::new(&[], TIME, now).and_hosts(false);
    assert!(!none.in_grace() && none.may_reclaim_host(now).is_err());
    let grace = Grace::new(&[(v41("a"), record())], TIME, now).and_hosts(true);
    assert!(!grace.reclaim_complete(&v41("a")), "hosts may have more");
    let almost = now + TIME - Duration::from_millis(1);
    assert_eq!(grace.step(almost), Step::Wait(now + TIME));
    let reclaim = grace.may_reclaim_host(almost).expect("in grace");
    let late = almost + QUIET;
    assert_eq!(grace.step(late), Step::Wait(late), "under way");
    drop(reclaim);
    assert_eq!(end(&grace, late), Ending::default());
    assert!(
        grace.may_reclaim_host(late).is_err(),
        "the end is being written"
    );
    grace.ended();
    assert!(!grace.in_grace());
    let alone = Grace::new(&[], TIME, now).and_hosts(true);
    assert!(alone.in_grace() && alone.may_reclaim_host(now).is_ok());
    assert_eq!(end(&alone, now + TIME), Ending::default());
}

/// What the store makes of it all, for restarts in virtual time.
#[derive(Default)]
struct Disk(BTreeMap<ClientKey, ClientRecord>);

impl Disk {
    fn start(&self, now: Instant) -> Grace {
        let records: Vec<_> = self.0.clone().into_iter().collect();
        Grace::new(&records, TIME, now)
    }

    fn put(&mut self, key: &ClientKey) {
        self.0.insert(key.clone(), record());
    }

    fn end(&mut self, grace: &Grace, now: Instant) {
        let ending = end(grace, now);
        for key in &ending.drop {
            self.0.remove(key);
        }
        for key in &ending.distrust {
            self.0.insert(key.clone(), revoked());
        }
        grace.ended();
    }
}

/// RFC 8881 8.4.3, first edge condition: A loses its lease in a partition, B gets and returns what A had, the server
/// restarts, A comes back.
#[test]
fn edge_condition_one() {
    for class in [Class::V40, Class::V41] {
        let (a, b) = (key(class, "a"), key(class, "b"));
        let mut disk = Disk::default();
        disk.put(&a);
        disk.put(&b);
        disk.0.insert(a.clone(), revoked()); // before B gets it
        let now = Instant::now();
        let grace = disk.start(now);
        assert_eq!(reclaim(&grace, &a, now), Err(Refused::NoGrace));
        assert_eq!(reclaim(&grace, &b, now), Ok(()));
        // The same with the record removed.
        disk.0.remove(&a);
        let grace = disk.start(now);
        assert_eq!(reclaim(&grace, &a, now), Err(Refused::ReclaimBad));
    }
}

/// RFC 8881 8.4.3, second edge condition: the server restarts, A sleeps through the grace period, B gets and returns
/// what A had, the server restarts again, A comes back.
#[test]
fn edge_condition_two() {
    for class in [Class::V40, Class::V41] {
        let (a, b) = (key(class, "a"), key(class, "b"));
        let mut disk = Disk::default();
        disk.put(&a);
        disk.put(&b);
        let now = Instant::now();
        let grace = disk.start(now);
        assert_eq!(reclaim(&grace, &b, now), Ok(()));
        grace.reclaim_complete(&b);
        disk.end(&grace, after(now, 90));
        let grace = disk.start(now);
        assert_eq!(reclaim(&grace, &a, now), Err(Refused::ReclaimBad));
        assert_eq!(reclaim(&grace, &b, now), Ok(()));
    }
}

/// A restart within grace: nobody got anything new, so who had not come yet may still reclaim, and who reclaimed
/// may do so again.
#[test]
fn a_crash_within_grace_loses_no_right() {
    let (a, b) = (v41("a"), v41("b"));
    let mut disk = Disk::default();
    disk.put(&a);
    disk.put(&b);
    let now = Instant::now();
    let grace = disk.start(now);
    assert_eq!(reclaim(&grace, &b, now), Ok(()));
    grace.reclaim_complete(&b);
    disk.put(&b);
    // Even in the middle of ending, as long as the end is not on disk.
    assert_eq!(
        end(&grace, after(now, 90)),
        ending(std::slice::from_ref(&a), &[])
    );
    let grace = disk.start(now);
    assert_eq!(reclaim(&grace, &a, now), Ok(()));
    assert_eq!(reclaim(&grace, &b, now), Ok(()));
}

/// A client cut off in the middle of reclaiming: others may get the rest after grace, so it may not go on after the next
/// restart, unless it said in between that it is done, or in 4.0 did something else.
#[test]
fn half_a_reclaim_is_not_continued_after_the_next_restart() {
    for a in [v40("a"), v41("a")] {
        let mut disk = Disk::default();
        disk.put(&a);
        let now = Instant::now();
        let grace = disk.start(now);
        assert_eq!(reclaim(&grace, &a, now), Ok(()));
        disk.end(&grace, after(now, 90));
        assert!(!disk.start(now).in_grace());
        disk.put(&a); // RECLAIM_COMPLETE, RENEW
        assert_eq!(reclaim(&disk.start(now), &a, now), Ok(()));
    }
}

proptest! {
    /// Whatever clients do: grace ends by twice its time, never before the time while somebody is awaited, and
    /// exactly those are dropped that did not reclaim or complete.
    #[test]
    fn laws(
        classes in proptest::collection::vec(any::<bool>(), 1..6),
        events in proptest::collection::vec((0u64..200, 0usize..8, 0u8..4), 0..60),
    ) {
        let keys: Vec<_> = classes.iter().enumerate()
            .map(|(i, v41)| key(if *v41 { Class::V41 } else { Class::V40 }, &i.to_string())).collect();
        let (grace, start) = grace(&keys);
        let mut events = events;
        events.sort();
        let (mut reclaimed, mut complete, mut gone) = ([false; 8], [false; 8], [false; 8]);
        let mut went_on = [false; 8];
        for second in 0..=180 {
            let now = after(start, second);
            for (_, who, what) in events.iter().filter(|(at, ..)| *at == second) {
                let stranger = v41("stranger");
                let client = keys.get(*who).unwrap_or(&stranger);
                match what {
                    0 => {
                        let can = *who < keys.len() && !complete[*who] && !gone[*who];
                        prop_assert_eq!(reclaim(&grace, client, now).is_ok(), can);
                        reclaimed[*who] |= can;
                        went_on[*who] &= !can;
                    }
                    1 => { grace.reclaim_complete(client); complete[*who] = true; }
                    2 => { grace.goes_on(client); went_on[*who] |= reclaimed[*who]; }
                    _ => { grace.forget(client); gone[*who] = true; }
                }
            }
            let awaited = (0..keys.len()).filter(|i| !complete[*i] && !gone[*i]).count();
            prop_assert_eq!(grace.awaited(), awaited);
            if let Step::End(ending) = grace.step(now) {
                prop_assert!(awaited == 0 || second >= 90);
                let mut drop: Vec<_> = (0..keys.len())
                    .filter(|i| !complete[*i] && !gone[*i] && !reclaimed[*i]).map(|i| keys[i].clone()).collect();
                drop.sort();
                prop_assert_eq!(ending.drop, drop);
                let unsure = |i: &usize| classes[*i] || !went_on[*i];
                let mut distrust: Vec<_> = (0..keys.len())
                    .filter(|i| !complete[*i] && !gone[*i] && reclaimed[*i] && unsure(i)).map(|i| keys[i].clone()).collect();
                distrust.sort();
                prop_assert_eq!(ending.distrust, distrust);
                grace.ended();
                prop_assert!(!grace.in_grace());
                return Ok(());
            }
        }
        prop_assert!(false, "grace never ended");
    }
}
