//! Host names of peers, looked up by threads of their own and remembered for a while.
//!
//! A name counts only when it leads back to the address it was found for: whoever runs the reverse zone of an address
//! can put any name there.

use super::client::Name;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer is used.
const KEPT: Duration = Duration::from_secs(600);
/// How long "no name" is used: shorter, as a name server may just have been away.
const ABSENT_KEPT: Duration = Duration::from_secs(60);
/// Addresses remembered.
const MOST_NAMES: usize = 4096;
/// Callers waiting at once.
const MOST_WAITING: usize = 1024;
/// Lookups at once: one name server that does not answer holds a thread for half a minute.
const THREADS: usize = 4;

/// Source of host names and addresses.
pub trait Resolver: Send + Sync {
    /// Addresses of a host name. May wait.
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
    /// The name an address claims. May wait.
    fn name(&self, addr: IpAddr) -> Option<String>;
}

/// The resolver of the system: getaddrinfo(3) and getnameinfo(3).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(dns_lookup::lookup_host(host)?.collect())
    }

    fn name(&self, addr: IpAddr) -> Option<String> {
        dns_lookup::lookup_addr(&addr).ok()
    }
}

/// The name of `addr` if its addresses include `addr`. May wait.
pub fn confirmed_name(resolver: &dyn Resolver, addr: IpAddr) -> Option<String> {
    let name = resolver.name(addr)?;
    let addresses = resolver.addresses(&name).ok()?;
    addresses
        .iter()
        .any(|found| found.to_canonical() == addr.to_canonical())
        .then_some(name)
}

/// What is remembered of an address; borrow it as [`Name`] for matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownName {
    /// Nothing, or too old: ask.
    Unasked,
    /// It has none that leads back to it.
    Absent,
    /// Its name.
    Is(Arc<str>),
}

impl KnownName {
    /// For [`super::client::Peer::new`].
    pub fn name(&self) -> Name<'_> {
        match self {
            KnownName::Unasked => Name::Unasked,
            KnownName::Absent => Name::Absent,
            KnownName::Is(name) => Name::Is(name),
        }
    }
}

/// Called once, from a lookup thread, with the answer ([`KnownName::Is`] or [`KnownName::Absent`]).
pub type Done = Box<dyn FnOnce(KnownName) + Send>;

struct Answer {
    name: Option<Arc<str>>,
    until: Instant,
}

#[derive(Default)]
struct State {
    answers: HashMap<IpAddr, Answer>,
    waiting: HashMap<IpAddr, Vec<Done>>,
    waiters: usize,
    queue: VecDeque<(IpAddr, Instant)>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in here: every change is one insert or remove.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of peers. Neither method waits for a lookup.
pub struct Names {
    shared: Arc<Shared>,
}

impl Names {
    /// Starts the lookup threads.
    pub fn start(resolver: Arc<dyn Resolver>) -> io::Result<Names> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let names = Names {
            shared: shared.clone(),
        };
        for _ in 0..THREADS {
            let (shared, resolver) = (shared.clone(), resolver.clone());
            thread::Builder::new()
                .name("names".to_owned())
                .spawn(move || look_up(&shared, &*resolver))?;
        }
        Ok(names)
    }

    /// What is known of `addr` at `now`.
    pub fn get(&self, addr: IpAddr, now: Instant) -> KnownName {
        match self.shared.lock().answers.get(&addr.to_canonical()) {
            Some(answer) if now < answer.until => match &answer.name {
                Some(name) => KnownName::Is(name.clone()),
                None => KnownName::Absent,
            },
            _ => KnownName::Unasked,
        }
    }

    /// Has the name of `addr` looked up, then calls `done`. With `false` too many wait already, `done` is dropped, and
    /// the request should be answered "try later" (NFS3ERR_JUKEBOX).
    pub fn ask(&self, addr: IpAddr, now: Instant, done: Done) -> bool {
        let addr = addr.to_canonical();
        let mut state = self.shared.lock();
        if state.waiters >= MOST_WAITING {
            return false;
        }
        state.waiters += 1;
        let waiting = state.waiting.entry(addr).or_default();
        waiting.push(done);
        if waiting.len() == 1 {
            state.queue.push_back((addr, now));
            self.shared.changed.notify_one();
        }
        true
    }
}

/// Lookup threads end after the lookup they are in; nobody waits for them.
impl Drop for Names {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        self.shared.changed.notify_all();
    }
}

fn look_up(shared: &Shared, resolver: &dyn Resolver) {
    let mut state = shared.lock();
    loop {
        if state.closed {
            return;
        }
        let Some((addr, asked)) = state.queue.pop_front() else {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let name: Option<Arc<str>> = confirmed_name(resolver, addr).map(Arc::from);
        let known = name.clone().map_or(KnownName::Absent, KnownName::Is);
        let until = asked + if name.is_some() { KEPT } else { ABSENT_KEPT };
        state = shared.lock();
        if state.answers.len() >= MOST_NAMES {
            state.answers.retain(|_, answer| answer.until > asked);
            if state.answers.len() >= MOST_NAMES {
                state.answers.clear();
            }
        }
        state.answers.insert(addr, Answer { name, until });
        let waiting = state.waiting.remove(&addr).unwrap_or_default();
        state.waiters -= waiting.len();
        drop(state);
        waiting.into_iter().for_each(|done| done(known.clone()));
        state = shared.lock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Fixed;

    impl Resolver for Fixed {
        fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            match host {
                "ws1.example.org" => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
        fn name(&self, addr: IpAddr) -> Option<String> {
            // 192.0.2.2 claims a name that is not its own.
            (addr != IpAddr::from([192, 0, 2, 3])).then(|| "ws1.example.org".to_owned())
        }
    }

    fn wait_for(names: &Names, addr: IpAddr, now: Instant) -> KnownName {
        let (sender, receiver) = mpsc::channel();
        assert!(names.ask(
            addr,
            now,
            Box::new(move |known| sender.send(known).unwrap_or_default())
        ));
        let known = receiver.recv().expect("an answer");
        assert_eq!(names.get(addr, now), known);
        known
    }

    #[test]
    fn names_are_looked_up_confirmed_and_kept() {
        let names = Names::start(Arc::new(Fixed)).expect("threads");
        let now = Instant::now();
        let addr = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(names.get(addr, now), KnownName::Unasked);
        assert_eq!(
            wait_for(&names, addr, now),
            KnownName::Is("ws1.example.org".into())
        );
        assert_eq!(
            names.get("::ffff:192.0.2.1".parse().expect("address"), now),
            names.get(addr, now)
        );
        assert_eq!(names.get(addr, now + KEPT), KnownName::Unasked);
    }

    #[test]
    fn names_that_do_not_lead_back_do_not_count() {
        let names = Names::start(Arc::new(Fixed)).expect("threads");
        let now = Instant::now();
        assert_eq!(
            wait_for(&names, IpAddr::from([192, 0, 2, 2]), now),
            KnownName::Absent
        );
        assert_eq!(
            wait_for(&names, IpAddr::from([192, 0, 2, 3]), now),
            KnownName::Absent
        );
        assert_eq!(
            names.get(IpAddr::from([192, 0, 2, 3]), now + ABSENT_KEPT),
            KnownName::Unasked
        );
    }

    /// Never answers until told to.
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl Resolver for Stuck {
        fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn name(&self, _: IpAddr) -> Option<String> {
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            None
        }
    }

    #[test]
    fn waiting_callers_are_bounded() {
        let (release, gate) = mpsc::channel();
        let names = Names::start(Arc::new(Stuck(Mutex::new(gate)))).expect("threads");
        let now = Instant::now();
        let addr = IpAddr::from([192, 0, 2, 9]);
        for _ in 0..MOST_WAITING {
            assert!(names.ask(addr, now, Box::new(|_| ())));
        }
        assert!(!names.ask(addr, now, Box::new(|_| ())));
        drop(release);
    }
}
