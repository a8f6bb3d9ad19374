//! Hosts, owners, requests that wait, in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use vfs::locks::{DelegId, DelegKind};

use super::*;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

struct World {
    hosts: Hosts,
    file: Arc<FileLocks>,
    now: Instant,
    called: Arc<AtomicUsize>,
}

fn world() -> World {
    World {
        hosts: Hosts::default(),
        file: FileLocks::alone(),
        now: Instant::now(),
        called: Arc::default(),
    }
}

fn held(first: u64, len: u64, kind: LockKind) -> Held {
    let range = Range::new(first, len).expect("a range");
    Held { range, kind }
}

fn request(svid: i32, wanted: Held) -> Request {
    Request {
        owner: OwnerName {
            svid,
            oh: Box::from(&b"oh"[..]),
        },
        wanted,
        state: 1,
        asked: Asked {
            vers: 4,
            message: false,
            here: None,
            fh: Box::from(&b"fh"[..]),
            offset: wanted.range.offset(),
            len: wanted.range.length(),
        },
    }
}

fn write(svid: i32, first: u64, len: u64) -> Request {
    request(svid, held(first, len, LockKind::Write))
}

impl World {
    fn host(&self, ip: IpAddr, name: &str) -> Arc<Host> {
        self.hosts
            .host(ip, name.as_bytes(), self.now)
            .expect("room")
    }

    fn lock(&self, host: &Host, request: &Request) -> bool {
        host.lock(&self.file, request, self.now).is_ok()
    }

    fn notify(&self) -> Notify {
        let called = self.called.clone();
        Arc::new(move || {
            called.fetch_add(1, SeqCst);
        })
    }

    fn wait(&self, host: &Host, request: &Request) -> Option<u64> {
        let notify = self.notify();
        let waits = host.wait(&self.file, (request, None), self.now, false, |_| notify);
        waits.expect("room")
    }

    fn calls(&self) -> usize {
        self.called.swap(0, SeqCst)
    }

    fn attempt(&self, host: &Host, serial: u64) -> &'static str {
        match host.attempt(serial, self.now, self.notify()) {
            Attempt::Over => "over",
            Attempt::Waiting => "waiting",
            Attempt::Delegated(..) => "delegated",
            Attempt::Unasked(..) => "unasked",
            Attempt::Granted(_) => "granted",
        }
    }
}

#[test]
fn owners_are_processes_of_hosts() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "a"));
    assert!(w.lock(&a, &write(1, 0, 10)));
    assert!(w.lock(&a, &write(1, 5, 10)), "its own");
    assert!(!w.lock(&a, &write(2, 5, 1)), "another process");
    assert!(!w.lock(&b, &write(1, 5, 1)), "another address");
    assert!(!w.lock(&w.host(IP, "b"), &write(1, 5, 1)), "another name");
    let mut handle = write(1, 5, 1);
    handle.owner.oh = Box::from(&b"other"[..]);
    assert!(!w.lock(&a, &handle), "another handle");
    assert!(b.is_idle(), "what is refused leaves nothing");
    assert_eq!(a.lines().len(), 1);
    let all = Range::from(0);
    a.unlock(&w.file, &write(1, 0, 1).owner, all).expect("room");
    assert!(a.is_idle() && !w.file.busy());
}

#[test]
fn who_waits_is_granted_and_told() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let (first, second) = (write(1, 0, 10), write(7, 5, 10));
    assert!(w.lock(&a, &first));
    let serial = w.wait(&b, &second).expect("new");
    assert_eq!(w.wait(&b, &second), None, "asked again");
    assert_eq!((w.calls(), w.attempt(&b, serial)), (0, "waiting"));
    a.unlock(&w.file, &first.owner, Range::from(0))
        .expect("room");
    assert_eq!(w.calls(), 1);
    let granted = b.attempt(serial, w.now, w.notify());
    let Attempt::Granted(grant) = granted else {
        panic!()
    };
    assert_eq!(grant.asked, second.asked);
    assert_eq!(
        (grant.owner, grant.kind),
        (second.owner.clone(), LockKind::Write)
    );
    assert_eq!(w.attempt(&b, serial), "over", "told by one task only");
    assert!(
        b.is_untold(serial) && !w.lock(&a, &first),
        "held from now on"
    );
    b.told(serial, true);
    assert!(!b.is_untold(serial) && !w.lock(&a, &first));
    b.told(serial, false);
    assert!(!w.lock(&a, &first), "once");
}

#[test]
fn a_grant_nobody_wants_is_unlocked() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let (first, second) = (write(1, 0, 10), write(7, 5, 10));
    assert!(w.lock(&a, &first));
    let serial = w.wait(&b, &second).expect("new");
    a.unlock(&w.file, &first.owner, Range::from(0))
        .expect("room");
    assert_eq!(w.attempt(&b, serial), "granted");
    b.told(serial, false);
    assert!(b.is_idle() && !w.file.busy());
    // The host asked again, was answered, and says no to a call that came late.
    assert!(w.lock(&a, &first));
    let serial = w.wait(&b, &second).expect("new");
    a.unlock(&w.file, &first.owner, Range::from(0))
        .expect("room");
    assert_eq!(w.attempt(&b, serial), "granted");
    assert!(w.lock(&b, &second));
    b.told(serial, false);
    assert!(!w.lock(&a, &first), "it has the lock");
}

/// A host took the lock at the first call, its answer came too late, and to the second it says that
/// nobody waits there any more.
#[test]
fn a_grant_told_twice_stays() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let (first, second) = (write(1, 0, 10), write(7, 5, 10));
    let granted = || {
        assert!(w.lock(&a, &first));
        let serial = w.wait(&b, &second).expect("new");
        assert!(!b.call(serial), "nothing to tell yet");
        a.free(None);
        assert_eq!(w.attempt(&b, serial), "granted");
        assert!(b.call(serial));
        serial
    };
    let all = Range::from(0);
    let serial = granted();
    assert!(b.call(serial));
    b.told(serial, false);
    assert!(!b.call(serial), "left alone from now on");
    assert!(!w.lock(&a, &first), "it may have the lock");
    // In two pieces, neither of which is what was granted.
    for piece in [(5, 3), (8, 9)] {
        assert!(!w.lock(&a, &write(1, 14, 1)), "locked still");
        let range = Range::new(piece.0, piece.1).expect("a range");
        b.unlock(&w.file, &second.owner, range).expect("room");
    }
    assert!(b.is_idle() && !w.file.busy());
    // It never took it, and says so in its own way.
    let serial = granted();
    assert!(b.call(serial));
    b.told(serial, false);
    assert!(b.cancel(&w.file, &second.owner, second.wanted));
    assert!(b.is_idle() && !w.file.busy());
    // The answer to the first comes at last, before or after that to the second.
    for answers in [[true, false], [false, true]] {
        let serial = granted();
        assert!(b.call(serial));
        for wanted in answers {
            b.told(serial, wanted);
        }
        assert!(!b.is_untold(serial) && !w.lock(&a, &first));
        b.unlock(&w.file, &second.owner, all).expect("room");
    }
    // The first call did not reach it.
    let serial = granted();
    b.uncall(serial);
    assert!(b.call(serial));
    b.told(serial, false);
    assert!(b.is_idle() && !w.file.busy());
}

/// Two hosts at one address, which a GRANTED_RES does not tell apart.
#[test]
fn numbers_of_requests_are_of_one_host() {
    let w = world();
    let (a, b, c) = (w.host(IP, "a"), w.host(OTHER, "b"), w.host(OTHER, "c"));
    assert!(w.lock(&a, &write(1, 0, 10)));
    let second = w.wait(&b, &write(2, 0, 10)).expect("new");
    let third = w.wait(&c, &write(3, 0, 10)).expect("new");
    assert_ne!(second, third);
}

#[test]
fn cancelled_requests() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let (first, second) = (write(1, 0, 10), write(7, 5, 10));
    assert!(w.lock(&a, &first));
    assert!(!b.cancel(&w.file, &second.owner, second.wanted), "none");
    let serial = w.wait(&b, &second).expect("new");
    let other = held(5, 10, LockKind::Read);
    assert!(!b.cancel(&w.file, &second.owner, other), "another kind");
    assert!(b.cancel(&w.file, &second.owner, second.wanted));
    assert!(b.is_idle());
    assert_eq!(w.attempt(&b, serial), "over");
    // Granted already, not told.
    let serial = w.wait(&b, &second).expect("new");
    a.free(None);
    assert_eq!(w.attempt(&b, serial), "granted");
    assert!(b.cancel(&w.file, &second.owner, second.wanted));
    assert!(b.is_idle() && !w.file.busy());
    // By an unlock of more than it.
    assert!(w.lock(&a, &first));
    let serial = w.wait(&b, &second).expect("new");
    b.unlock(&w.file, &second.owner, Range::from(0))
        .expect("room");
    assert_eq!(w.attempt(&b, serial), "over");
    assert!(b.is_idle());
}

#[test]
fn the_line_is_fair() {
    let w = world();
    let (a, b, c) = (w.host(IP, "a"), w.host(OTHER, "b"), w.host(OTHER, "c"));
    assert!(w.lock(&a, &write(1, 0, 10)));
    let second = w.wait(&b, &write(2, 0, 10)).expect("new");
    let third = w.wait(&c, &write(3, 0, 10)).expect("new");
    a.free(None);
    assert_eq!(w.calls(), 1);
    assert!(!w.lock(&a, &write(1, 0, 1)), "kept for the next");
    assert_eq!(w.attempt(&c, third), "waiting");
    assert_eq!(w.attempt(&b, second), "granted");
    b.told(second, true);
    b.free(None);
    assert_eq!((w.calls(), w.attempt(&c, third)), (1, "granted"));
}

#[test]
fn who_came_too_late_is_in_line_again() {
    let mut w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    assert!(w.lock(&a, &write(1, 0, 10)));
    let serial = w.wait(&b, &write(2, 0, 10)).expect("new");
    a.free(None);
    assert_eq!(w.calls(), 1);
    assert!(!w.lock(&a, &write(1, 0, 10)));
    w.now += 2 * vfs::locks::KEPT;
    assert!(w.lock(&a, &write(1, 0, 10)), "its time is over");
    assert_eq!(w.attempt(&b, serial), "waiting");
    a.free(None);
    assert_eq!((w.calls(), w.attempt(&b, serial)), (1, "granted"));
}

#[test]
fn delegations_come_back_first() {
    let w = world();
    let b = w.host(OTHER, "b");
    let four = ClientId(4);
    let delegated = w.file.delegate(four, DelegId(1), DelegKind::Write, w.now);
    let delegated = delegated.expect("free");
    let wanted = write(2, 0, 10);
    let conflict = b.lock(&w.file, &wanted, w.now);
    assert_eq!(conflict, Err(Conflict::Deleg(vec![(four, DelegId(1))])));
    let notify = w.notify();
    let waits = b.wait(&w.file, (&wanted, None), w.now, true, |_| notify);
    let serial = waits.expect("room").expect("new");
    assert_eq!(w.attempt(&b, serial), "delegated");
    drop(delegated);
    assert_eq!(w.attempt(&b, serial), "granted");
}

#[test]
fn a_restarted_host_loses_what_it_had_before() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    assert!(w.lock(&a, &write(1, 0, 10)));
    assert!(w.lock(&b, &write(1, 50, 10)));
    let mut new = write(1, 20, 10);
    (new.state, new.owner.svid) = (3, 2);
    assert!(w.lock(&a, &new));
    a.free(Some(3));
    assert!(w.lock(&b, &write(1, 0, 10)), "freed");
    assert!(!w.lock(&b, &write(1, 20, 1)), "locked after the restart");
    assert!(!w.lock(&a, &write(1, 50, 1)), "another host's");
    a.free(None);
    b.free(None);
    assert!(!w.file.busy());
}

#[test]
fn shares() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let share = |host: &Host, oh: &[u8], access, deny| {
        let done = host.share(&w.file, oh, (access, deny), w.now);
        done.is_ok()
    };
    assert!(share(&a, b"1", Access::READ, Deny::WRITE));
    assert!(share(&a, b"2", Access::READ, Deny::WRITE));
    assert!(!share(&b, b"1", Access::WRITE, Deny::NONE));
    assert!(!share(&b, b"1", Access::READ, Deny::READ));
    a.unshare(&w.file, b"1");
    a.unshare(&w.file, b"1");
    assert!(
        !share(&b, b"1", Access::WRITE, Deny::NONE),
        "denied by one still"
    );
    assert!(
        share(&a, b"2", Access::READ, Deny::NONE),
        "in its own place"
    );
    assert!(share(&b, b"1", Access::WRITE, Deny::NONE));
    assert!(w.file.io(None, true, false).is_ok());
    a.free(None);
    b.unshare(&w.file, b"1");
    assert!(a.is_idle() && b.is_idle() && !w.file.busy());
}

#[test]
fn a_restart_that_is_told_late_or_again() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    let share = |host: &Host, oh: &[u8]| {
        let done = host.share(&w.file, oh, (Access::READ, Deny::WRITE), w.now);
        assert_eq!(done, Ok(()));
    };
    let names = |host: &Host| {
        let lines = host.lines().into_iter();
        let mut names: Vec<_> = lines.map(|line| line.owner.oh).collect();
        names.sort();
        names.concat()
    };
    share(&a, b"1");
    share(&b, b"b");
    a.free(Some(3));
    assert_eq!(names(&a), b"", "what it had before");
    share(&a, b"2");
    // Locked by a call that says nothing of its state: shares never do.
    assert!(w.lock(&a, &write(1, 0, 1)));
    a.free(Some(3));
    assert_eq!(names(&a), b"2oh", "told again");
    a.free(Some(5));
    assert_eq!(names(&a), b"", "restarted again");
    share(&a, b"3");
    let mut new = write(2, 0, 1);
    new.state = 7;
    assert!(w.lock(&a, &new));
    share(&a, b"4");
    a.free(Some(7));
    assert_eq!(names(&a), b"4oh", "told after its first lock");
    share(&a, b"5");
    a.free(None);
    assert_eq!((&*names(&a), &*names(&b)), (&b""[..], &b"b"[..]));
}

#[test]
fn names_in_notifications() {
    let key = |name: &str| HostKey {
        ip: IP,
        name: name.as_bytes().into(),
    };
    assert!(key("host").is_called(b"HOST"));
    assert!(key("host").is_called(b"host.example.org"));
    assert!(key("host.example.org").is_called(b"host"));
    for other in ["hos", "hostess", "", "other", "example.org", ".host"] {
        assert!(!key("host").is_called(other.as_bytes()), "{other}");
    }
}

#[test]
fn a_notification_concerns_its_own_address() {
    let w = world();
    w.host(OTHER, "c");
    assert!(w.hosts.called(IP, b"c").is_empty());
    let a = w.host(IP, "a");
    assert_eq!(w.hosts.called(IP, b"any").len(), 1, "nobody else there");
    assert!(w.hosts.called(IP, b"c").is_empty(), "another's name");
    w.host(IP, "b");
    let called = w.hosts.called(IP, b"a.example.org");
    assert!(matches!(&called[..], [host] if host.id == a.id));
    assert!(w.hosts.called(IP, b"any").is_empty());
}

#[test]
fn idle_hosts_are_forgotten() {
    let mut w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    a.set_durable();
    b.set_durable();
    assert!(w.lock(&b, &write(1, 0, 1)));
    assert!(w.hosts.sweep(w.now).is_empty());
    w.now += IDLE;
    let gone = w.hosts.sweep(w.now);
    assert!(matches!(&gone[..], [key] if *key == a.key));
    assert!(!w.lock(&a, &write(2, 5, 1)), "out of the table");
    assert!(w.hosts.by_id(a.id).is_none() && w.hosts.by_id(b.id).is_some());
    assert_ne!(w.host(IP, "a").id, a.id);
}

#[test]
fn a_file_that_is_gone() {
    let w = world();
    let a = w.host(IP, "a");
    assert!(w.lock(&a, &write(1, 0, 10)));
    a.unlock_stale(b"other", &write(1, 0, 1).owner);
    assert!(!a.is_idle());
    a.unlock_stale(b"fh", &write(1, 0, 1).owner);
    assert!(a.is_idle() && !w.file.busy());
}

#[test]
fn waits_are_bounded() {
    let w = world();
    let (a, b) = (w.host(IP, "a"), w.host(OTHER, "b"));
    assert!(w.lock(&a, &write(1, 0, 1 << 20)));
    for n in 0..WAITS_MAX as u64 {
        assert!(w.wait(&b, &write(1, n, 1)).is_some());
    }
    let notify = w.notify();
    let one_more = b.wait(&w.file, (&write(2, 0, 9), None), w.now, false, |_| notify);
    assert_eq!(one_more, Err(Full));
    assert_eq!(b.lines().len(), WAITS_MAX);
    b.free(None);
    assert!(b.is_idle());
}

#[test]
fn hosts_and_what_one_holds_are_bounded() {
    let w = world();
    let a = w.host(IP, "a");
    // Files have bounds of their own.
    let files: Vec<_> = (0..SETS_MAX / 256).map(|_| FileLocks::alone()).collect();
    for file in &files {
        for n in 0..256 {
            let request = write(n, n as u64, 1);
            assert_eq!(a.lock(file, &request, w.now), Ok(()));
        }
    }
    let one_more = write(256, 1 << 20, 1);
    assert_eq!(a.lock(&files[0], &one_more, w.now), Err(Conflict::Full));
    let share = |host: &Host| host.share(&w.file, b"oh", (Access::READ, Deny::NONE), w.now);
    assert_eq!(share(&a), Err(Conflict::Full));
    let known = write(7, 1 << 20, 1);
    assert_eq!(a.lock(&files[0], &known, w.now), Ok(()), "has its set");
    assert_eq!(share(&w.host(IP, "b")), Ok(()), "another host");
    for n in 2..HOSTS_MAX {
        w.host(OTHER, &n.to_string());
    }
    assert!(matches!(w.hosts.host(OTHER, b"c", w.now), Err(Full)));
    assert!(w.hosts.host(IP, b"b", w.now).is_ok(), "known");
}
