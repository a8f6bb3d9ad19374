//! Shares, ranges and delegations of one file together, against a naive model: lists of what
//! everybody holds, and a byte array for each lock owner. Scripts are drawn by proptest, or read from bytes for the fuzz
//! target.

use std::time::Duration;

use super::*;

const CLIENTS: u64 = 4;
const OWNERS: u64 = 8;
const BYTES: usize = 8;
/// Most steps of a script from bytes.
const STEPS_MAX: usize = 250;

#[derive(Clone, Debug)]
enum Step {
    Open(u64, u8, u8),
    Upgrade(usize, u8, u8),
    Exchange(usize, u8, u8),
    Downgrade(usize, u8, u8),
    Close(usize),
    Locker(u64),
    Lock(usize, usize, usize, LockKind),
    Unlock(usize, usize, usize),
    DropLocker(usize),
    Delegate(u64, DelegKind),
    Recall(usize),
    Revoke(usize),
    Return(usize),
    Io(Option<u64>, bool, bool),
    Change(Option<u64>),
    Sleep(u64),
}

/// Each four bytes are one step: what, and three arguments. Any bytes are a script.
///
/// # Panics
/// If table and model differ.
pub fn run(bytes: &[u8]) {
    let (steps, _) = bytes.as_chunks::<4>();
    let steps: Vec<Step> = steps.iter().take(STEPS_MAX).map(read).collect();
    follow(&steps);
}

fn read(&[what, n, a, b]: &[u8; 4]) -> Step {
    use Step::*;
    let at = usize::from(n);
    let (owner, client) = (u64::from(n) % OWNERS, u64::from(n) % CLIENTS);
    let (wants, denies) = (a % 4, b % 4);
    let (from, to) = (usize::from(a) % BYTES, usize::from(b) % BYTES);
    let nobody = n >> 7 != 0;
    let writes = what >> 7 != 0;
    let (lock, deleg) = if writes {
        (LockKind::Write, DelegKind::Write)
    } else {
        (LockKind::Read, DelegKind::Read)
    };
    match what % 17 {
        0 => Open(owner, wants, denies),
        1 => Upgrade(at, wants, denies),
        2 => Exchange(at, wants, denies),
        3 => Downgrade(at, wants, denies),
        4 => Close(at),
        5 => Locker(owner),
        6 | 7 => Lock(at, from, to, lock),
        8 => Unlock(at, from, to),
        9 => DropLocker(at),
        10 => Delegate(client, deleg),
        11 => Recall(at),
        12 => Revoke(at),
        13 => Return(at),
        14 => Io((!nobody).then_some(client), writes, a % 2 != 0),
        15 => Change((!nobody).then_some(client)),
        _ => Sleep(u64::from(a) % 40),
    }
}

struct Share {
    guard: ShareGuard,
    holder: Holder,
    opens: Vec<(u8, u8)>,
}

struct Deleg {
    guard: DelegGuard,
    client: u64,
    kind: DelegKind,
    revoked: bool,
}

struct World {
    file: Arc<FileLocks>,
    now: Instant,
    rests_until: Option<Instant>,
    shares: Vec<Share>,
    lockers: Vec<LockGuard>,
    bytes: [[Option<LockKind>; BYTES]; OWNERS as usize],
    delegs: Vec<Deleg>,
    next: u64,
}

/// Two owners to a client.
fn whose(owner: u64) -> Holder {
    Holder {
        client: ClientId(owner % CLIENTS),
        owner: OwnerId(owner),
    }
}

fn union(opens: &[(u8, u8)]) -> (u8, u8) {
    opens
        .iter()
        .fold((0, 0), |all, o| (all.0 | o.0, all.1 | o.1))
}

fn bytes(offset: u64, length: u64) -> Range {
    Range::new(offset, length).expect("a range")
}

fn access(bits: u8) -> Access {
    Access::from_bits_truncate(bits)
}

fn deny(bits: u8) -> Deny {
    Deny::from_bits_truncate(bits)
}

fn pick<T>(list: &[T], n: usize) -> Option<usize> {
    (!list.is_empty()).then(|| n % list.len())
}

/// Of conflicts only the sort is compared: which holder is named first is open.
fn sort<T>(result: &Result<T, Conflict>) -> u8 {
    match result {
        Ok(_) => 0,
        Err(Conflict::Deleg(list)) => {
            assert!(!list.is_empty());
            1
        }
        Err(Conflict::Share(_)) => 2,
        Err(Conflict::Lock(..)) => 3,
        Err(Conflict::Full | Conflict::Host(..)) => 4,
    }
}

impl World {
    fn new() -> Self {
        World {
            file: FileLocks::alone(),
            now: crate::exec::now(),
            rests_until: None,
            shares: Vec::new(),
            lockers: Vec::new(),
            bytes: Default::default(),
            delegs: Vec::new(),
            next: 0,
        }
    }

    fn recalls(&self, client: Option<ClientId>, all: bool) -> bool {
        self.delegs.iter().any(|d| {
            let other = client != Some(ClientId(d.client));
            !d.revoked && other && (all || d.kind == DelegKind::Write)
        })
    }

    /// The sort of conflict an open meets; `except` is the share it replaces.
    fn open_meets(&self, client: ClientId, a: u8, d: u8, except: Option<usize>) -> u8 {
        if self.recalls(Some(client), a & 2 != 0 || d & 1 != 0) {
            return 1;
        }
        let shares = self.shares.iter().enumerate();
        let mut others = shares.filter(|(n, _)| Some(*n) != except);
        let meets = others.any(|(_, s)| {
            let (held, denied) = union(&s.opens);
            a & denied | d & held != 0
        });
        if meets { 2 } else { 0 }
    }

    fn lock_meets(&self, owner: u64, from: usize, to: usize, kind: LockKind) -> u8 {
        if self.recalls(Some(whose(owner).client), kind == LockKind::Write) {
            return 1;
        }
        let met = (0..OWNERS as usize)
            .filter(|o| *o as u64 != owner)
            .any(|o| {
                let mut there = self.bytes[o][from..=to].iter().flatten();
                there.any(|held| *held == LockKind::Write || kind == LockKind::Write)
            });
        if met { 3 } else { 0 }
    }

    fn delegate_refused(&self, client: u64, kind: DelegKind) -> Option<Refused> {
        let mut in_force = self.delegs.iter().filter(|d| !d.revoked);
        if let Some(own) = in_force.clone().find(|d| d.client == client) {
            return Some(Refused::Held(own.kind));
        }
        if self.rests_until.is_some_and(|until| self.now < until) {
            return Some(Refused::Recent);
        }
        let write = kind == DelegKind::Write;
        let opened = self.shares.iter().any(|s| {
            let (held, denied) = union(&s.opens);
            s.holder.client != ClientId(client) && (write || held & 2 != 0 || denied & 1 != 0)
        });
        let locked = (0..OWNERS).any(|o| {
            let mut held = self.bytes[o as usize].iter().flatten();
            whose(o).client != ClientId(client) && held.any(|k| write || *k == LockKind::Write)
        });
        let given = in_force.any(|d| write || d.kind == DelegKind::Write);
        (opened || locked || given).then_some(Refused::Contention)
    }

    fn share_step(&mut self, step: &Step) {
        match *step {
            Step::Open(owner, a, d) => {
                let holder = whose(owner);
                let opened = self
                    .file
                    .open(holder.client, holder.owner, access(a), deny(d));
                assert_eq!(sort(&opened), self.open_meets(holder.client, a, d, None));
                if let Ok(guard) = opened {
                    let opens = vec![(a, d)];
                    self.shares.push(Share {
                        guard,
                        holder,
                        opens,
                    });
                }
            }
            Step::Upgrade(n, a, d) => {
                let Some(n) = pick(&self.shares, n) else {
                    return;
                };
                let meets = self.open_meets(self.shares[n].holder.client, a, d, None);
                let share = &mut self.shares[n];
                let done = share.guard.upgrade(access(a), deny(d));
                assert_eq!(sort(&done), meets);
                if done.is_ok() {
                    share.opens.push((a, d));
                }
            }
            Step::Exchange(n, a, d) => {
                let Some(n) = pick(&self.shares, n) else {
                    return;
                };
                let meets = self.open_meets(self.shares[n].holder.client, a, d, Some(n));
                let share = &mut self.shares[n];
                let done = share.guard.exchange(access(a), deny(d));
                assert_eq!(sort(&done), meets);
                if done.is_ok() {
                    share.opens = vec![(a, d)];
                }
            }
            Step::Downgrade(n, a, d) => {
                let Some(n) = pick(&self.shares, n) else {
                    return;
                };
                let share = &mut self.shares[n];
                let mut kept = share.opens.clone();
                kept.retain(|o| o.0 & !a == 0 && o.1 & !d == 0);
                let good = !kept.is_empty() && union(&kept) == (a, d);
                assert_eq!(share.guard.downgrade(access(a), deny(d)).is_ok(), good);
                if good {
                    share.opens = kept;
                }
            }
            Step::Close(n) => {
                if let Some(n) = pick(&self.shares, n) {
                    self.shares.swap_remove(n);
                }
            }
            _ => {}
        }
    }

    fn lock_step(&mut self, step: &Step) {
        let range = |from: usize, to: usize| {
            let (from, to) = (from.min(to), from.max(to));
            (from, to, bytes(from as u64, (to - from + 1) as u64))
        };
        match *step {
            Step::Locker(owner) => {
                let holder = whose(owner);
                let guard = self.file.locker(holder.client, holder.owner);
                self.lockers.push(guard);
            }
            Step::Lock(n, from, to, kind) => {
                let Some(n) = pick(&self.lockers, n) else {
                    return;
                };
                let (from, to, range) = range(from, to);
                let guard = &self.lockers[n];
                let holder = guard.holder();
                let meets = self.lock_meets(holder.owner.0, from, to, kind);
                let test = self.file.test(holder.client, holder.owner, range, kind);
                let done = guard.lock(range, kind, self.now);
                assert_eq!((sort(&done), &test), (meets, &done));
                if done.is_ok() {
                    self.bytes[holder.owner.0 as usize][from..=to].fill(Some(kind));
                }
            }
            Step::Unlock(n, from, to) => {
                let Some(n) = pick(&self.lockers, n) else {
                    return;
                };
                let (from, to, range) = range(from, to);
                let guard = &self.lockers[n];
                guard.unlock(range).expect("room");
                self.bytes[guard.holder().owner.0 as usize][from..=to].fill(None);
            }
            Step::DropLocker(n) => {
                let Some(n) = pick(&self.lockers, n) else {
                    return;
                };
                let owner = self.lockers.swap_remove(n).holder().owner;
                if self.lockers.iter().all(|l| l.holder().owner != owner) {
                    self.bytes[owner.0 as usize] = Default::default();
                }
            }
            _ => {}
        }
    }

    fn deleg_step(&mut self, step: &Step) {
        match *step {
            Step::Delegate(client, kind) => {
                self.next += 1;
                let id = DelegId(self.next);
                let given = self.file.delegate(ClientId(client), id, kind, self.now);
                let refused = self.delegate_refused(client, kind);
                assert_eq!(given.as_ref().err().copied(), refused);
                if let Ok(guard) = given {
                    self.delegs.push(Deleg {
                        guard,
                        client,
                        kind,
                        revoked: false,
                    });
                }
            }
            Step::Recall(n) => {
                let Some(n) = pick(&self.delegs, n) else {
                    return;
                };
                let first = self.delegs[n].guard.state() == DelegState::Granted;
                assert_eq!(self.delegs[n].guard.recall(self.now), first);
                self.rests_until = self.rests_until.max(Some(self.now + HOLD_OFF));
            }
            Step::Revoke(n) => {
                let Some(n) = pick(&self.delegs, n) else {
                    return;
                };
                self.delegs[n].guard.revoke();
                self.delegs[n].revoked = true;
            }
            Step::Return(n) => {
                if let Some(n) = pick(&self.delegs, n) {
                    self.delegs.swap_remove(n);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Io(client, write, bypass) => {
                let client = client.map(ClientId);
                let bit = if write { 2 } else { 1 };
                let denied = |s: &Share| union(&s.opens).1 & bit != 0;
                let expected = if self.recalls(client, write) {
                    1
                } else if (write || !bypass) && self.shares.iter().any(denied) {
                    2
                } else {
                    0
                };
                assert_eq!(sort(&self.file.io(client, write, bypass)), expected);
            }
            Step::Change(client) => {
                let client = client.map(ClientId);
                let expected = u8::from(self.recalls(client, true));
                assert_eq!(sort(&self.file.change(client)), expected);
            }
            Step::Sleep(seconds) => self.now += Duration::from_secs(seconds),
            _ => {
                self.share_step(step);
                self.lock_step(step);
                self.deleg_step(step);
            }
        }
        let runs = |held: &[Option<LockKind>; BYTES]| {
            held.chunk_by(|a, b| a == b)
                .filter(|run| run[0].is_some())
                .count()
        };
        let holds = [self.shares.len(), self.lockers.len(), self.delegs.len()];
        let expected = Counts {
            files: u64::from(holds != [0, 0, 0]),
            shares: self.shares.len() as u64,
            ranges: self.bytes.iter().map(runs).sum::<usize>() as u64,
            delegations: self.delegs.len() as u64,
            waiters: 0,
            mirrors: 0,
        };
        assert_eq!(self.file.counts(), expected);
        for share in &self.shares {
            let is = (share.guard.access().bits(), share.guard.deny().bits());
            assert_eq!(is, union(&share.opens));
        }
    }
}

fn follow(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    let file = world.file.clone();
    drop(world);
    assert_eq!(file.counts(), Counts::default());
    assert_eq!(file.flags.load(SeqCst), 0);
}

#[cfg(test)]
mod drawn {
    use proptest::prelude::*;

    use super::*;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        use Step::*;
        let at = || 0..1000usize;
        let (bits, byte) = (|| 0..4u8, || 0..BYTES);
        let client = || prop::option::of(0..CLIENTS);
        let lock = prop_oneof![Just(LockKind::Read), Just(LockKind::Write)];
        let deleg = prop_oneof![Just(DelegKind::Read), Just(DelegKind::Write)];
        let deny = || prop_oneof![4 => Just(0u8), 1 => 0..4u8];
        let step = prop_oneof![
            6 => (0..OWNERS, bits(), deny()).prop_map(|(o, a, d)| Open(o, a, d)),
            3 => (at(), bits(), deny()).prop_map(|(n, a, d)| Upgrade(n, a, d)),
            1 => (at(), bits(), deny()).prop_map(|(n, a, d)| Exchange(n, a, d)),
            3 => (at(), bits(), deny()).prop_map(|(n, a, d)| Downgrade(n, a, d)),
            4 => at().prop_map(Close),
            3 => (0..OWNERS).prop_map(Locker),
            8 => (at(), byte(), byte(), lock).prop_map(|(n, a, b, k)| Lock(n, a, b, k)),
            3 => (at(), byte(), byte()).prop_map(|(n, a, b)| Unlock(n, a, b)),
            2 => at().prop_map(DropLocker),
            5 => (0..CLIENTS, deleg).prop_map(|(c, k)| Delegate(c, k)),
            1 => at().prop_map(Recall),
            1 => at().prop_map(Revoke),
            3 => at().prop_map(Return),
            3 => (client(), any::<bool>(), any::<bool>()).prop_map(|(c, w, b)| Io(c, w, b)),
            2 => client().prop_map(Change),
            2 => (0..40u64).prop_map(Sleep),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn everything_together(steps in steps()) {
            follow(&steps);
        }

        #[test]
        fn any_bytes_are_a_script(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            run(&bytes);
        }
    }
}
