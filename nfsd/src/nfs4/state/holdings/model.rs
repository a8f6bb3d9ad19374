//! Holdings against a model that has nothing but lists: the same script runs on both, and they are compared after every
//! step. Scripts are drawn by proptest, or read from bytes for the fuzz target.

use std::time::Instant;

use vfs::locks::{Deny, Held, LockKind, Range};

use super::super::lock::LockRequest;
use super::super::open::{By, OpenRequest};
use super::super::stateid::Name;
use super::*;

const CLIENTS: usize = 3;
const FILES: usize = 2;
const BYTES: u64 = 6;
const EPOCH: u32 = 7;
const LIMIT: usize = 1000;
/// Most steps of a script from bytes.
const STEPS_MAX: usize = 250;

#[derive(Clone, Copy, Debug)]
struct Who {
    client: usize,
    owner: u8,
    file: usize,
}

#[derive(Clone, Debug)]
enum Do {
    Open(Who, u8, u8),
    Downgrade(Who, u8, u8),
    Close(Who),
    Lock(Who, u8, u64, u64, bool),
    Unlock(Who, u8, u64, u64),
    Free(Who, u8),
}

/// Each four bytes are one step: what, who, and two arguments. Any bytes are a script.
///
/// # Panics
/// If holdings and model differ.
pub fn run(bytes: &[u8]) {
    let (steps, _) = bytes.as_chunks::<4>();
    let steps: Vec<Do> = steps.iter().take(STEPS_MAX).map(read).collect();
    follow(&steps);
}

fn read(&[what, who, a, b]: &[u8; 4]) -> Do {
    let w = Who {
        client: usize::from(who) % CLIENTS,
        owner: who >> 2 & 1,
        file: usize::from(who >> 3) % FILES,
    };
    let (locker, write) = (who >> 4 & 1, who >> 5 & 1 != 0);
    let (access, deny) = (1 + a % 3, b % 4);
    let from = u64::from(a) % BYTES;
    let len = 1 + u64::from(b) % (BYTES - from);
    match what % 8 {
        0 | 1 => Do::Open(w, access, deny),
        2 => Do::Downgrade(w, access, deny),
        3 => Do::Close(w),
        4 | 5 => Do::Lock(w, locker, from, len, write),
        6 => Do::Unlock(w, locker, from, len),
        _ => Do::Free(w, locker),
    }
}

/// An open as the model has it: each time it was opened, and its seqid.
#[derive(Clone, Debug)]
struct ModelOpen {
    client: usize,
    owner: u8,
    file: usize,
    times: Vec<(u8, u8)>,
    seqid: u32,
}

impl ModelOpen {
    fn union(&self) -> (u8, u8) {
        let times = self.times.iter();
        times.fold((0, 0), |(a, d), (access, deny)| (a | access, d | deny))
    }
}

#[derive(Clone, Debug)]
struct ModelSet {
    client: usize,
    owner: u8,
    file: usize,
    locker: u8,
    seqid: u32,
}

#[derive(Default)]
struct Model {
    opens: Vec<ModelOpen>,
    sets: Vec<ModelSet>,
    /// Client, locker, file, byte, for writing.
    bytes: Vec<(usize, u8, usize, u64, bool)>,
}

impl Model {
    fn at(&mut self, w: Who) -> Option<&mut ModelOpen> {
        let same = |o: &&mut ModelOpen| (o.client, o.owner, o.file) == (w.client, w.owner, w.file);
        self.opens.iter_mut().find(same)
    }

    fn set(&mut self, w: Who, locker: u8) -> Option<&mut ModelSet> {
        self.sets
            .iter_mut()
            .find(|s| (s.client, s.owner, s.file, s.locker) == (w.client, w.owner, w.file, locker))
    }

    fn open(&mut self, w: Who, access: u8, deny: u8) -> Option<u32> {
        let mut of_file = self.opens.iter().filter(|o| o.file == w.file);
        let clash = of_file.any(|o| {
            let (held, denied) = o.union();
            access & denied | deny & held != 0
        });
        if clash {
            return None;
        }
        if let Some(open) = self.at(w) {
            open.times.push((access, deny));
            open.seqid += 1;
            return Some(open.seqid);
        }
        self.opens.push(ModelOpen {
            client: w.client,
            owner: w.owner,
            file: w.file,
            times: vec![(access, deny)],
            seqid: 1,
        });
        Some(1)
    }

    fn downgrade(&mut self, w: Who, access: u8, deny: u8) -> Option<u32> {
        let open = self.at(w)?;
        let within = |(a, d): &&(u8, u8)| a & !access == 0 && d & !deny == 0;
        let times: Vec<_> = open.times.iter().filter(within).copied().collect();
        let union = times.iter().fold((0, 0), |(a, d), t| (a | t.0, d | t.1));
        if times.is_empty() || union != (access, deny) {
            return None;
        }
        open.times = times;
        open.seqid += 1;
        Some(open.seqid)
    }

    /// An owner's locks on a file go with the last open it locks under.
    fn drop_set(&mut self, client: usize, locker: u8, file: usize) {
        let left = |s: &ModelSet| (s.client, s.locker, s.file) == (client, locker, file);
        if !self.sets.iter().any(left) {
            self.bytes
                .retain(|b| (b.0, b.1, b.2) != (client, locker, file));
        }
    }

    fn close(&mut self, w: Who) -> bool {
        let had = self.at(w).is_some();
        let same = |c: usize, o: u8, f: usize| (c, o, f) == (w.client, w.owner, w.file);
        self.opens.retain(|o| !same(o.client, o.owner, o.file));
        self.sets.retain(|s| !same(s.client, s.owner, s.file));
        for locker in 0..2 {
            self.drop_set(w.client, locker, w.file);
        }
        had
    }

    fn lock(&mut self, w: Who, locker: u8, from: u64, len: u64, write: bool) -> Option<u32> {
        let (access, _) = self.at(w)?.union();
        if access & if write { 2 } else { 1 } == 0 {
            return None;
        }
        let range = from..from + len;
        let clash = self.bytes.iter().any(|(c, l, f, byte, excl)| {
            (*c, *l) != (w.client, locker)
                && *f == w.file
                && range.contains(byte)
                && (*excl || write)
        });
        if clash {
            return None;
        }
        self.clear(w, locker, from, len);
        let lock = |byte| (w.client, locker, w.file, byte, write);
        self.bytes.extend(range.map(lock));
        if let Some(set) = self.set(w, locker) {
            set.seqid += 1;
            return Some(set.seqid);
        }
        self.sets.push(ModelSet {
            client: w.client,
            owner: w.owner,
            file: w.file,
            locker,
            seqid: 1,
        });
        Some(1)
    }

    fn clear(&mut self, w: Who, locker: u8, from: u64, len: u64) {
        let range = from..from + len;
        self.bytes.retain(|(c, l, f, byte, _)| {
            (*c, *l, *f) != (w.client, locker, w.file) || !range.contains(byte)
        });
    }

    fn free(&mut self, w: Who, locker: u8) -> bool {
        let mine =
            |b: &(usize, u8, usize, u64, bool)| (b.0, b.1, b.2) == (w.client, locker, w.file);
        if self.set(w, locker).is_none() || self.bytes.iter().any(mine) {
            return false;
        }
        self.sets.retain(|s| {
            (s.client, s.owner, s.file, s.locker) != (w.client, w.owner, w.file, locker)
        });
        true
    }
}

struct Real {
    files: Vec<Arc<FileLocks>>,
    clients: Vec<Holdings>,
    now: Instant,
}

fn home(client: usize) -> Home {
    Home {
        epoch: EPOCH,
        client: client as u32 + 1,
        minor: 1,
    }
}

fn range(offset: u64, length: u64) -> Range {
    Range::new(offset, length).expect("a range")
}

fn of(access: u8, deny: u8) -> (Access, Deny) {
    (
        Access::from_bits_truncate(access),
        Deny::from_bits_truncate(deny),
    )
}

impl Real {
    fn open_key(&self, w: Who) -> Option<u32> {
        let held = &self.clients[w.client];
        let owner = held.open_owner_names.get(&[w.owner][..])?;
        let file = FileKey::of(&self.files[w.file]);
        held.open_of.get(&(*owner, file)).copied()
    }

    fn set_key(&self, w: Who, locker: u8) -> Option<u32> {
        let open = self.open_key(w)?;
        let held = &self.clients[w.client];
        let owner = held.lock_owner_names.get(&[locker][..])?;
        held.locks_of.get(&(*owner, open)).copied()
    }

    /// The seqid an operation gives, `None` for a refusal.
    fn run(&mut self, what: &Do) -> Option<u32> {
        let now = self.now;
        match *what {
            Do::Open(w, access, deny) => {
                let (access, deny) = of(access, deny);
                let request = OpenRequest {
                    by: By::Name(&[w.owner]),
                    locks: &self.files[w.file],
                    access,
                    deny,
                    user: 7,
                    pin: None,
                    limit: LIMIT,
                };
                let granted = self.clients[w.client].open(home(w.client), request);
                granted.ok().map(|g| g.stateid.seqid)
            }
            Do::Downgrade(w, access, deny) => {
                let ((access, deny), key) = (of(access, deny), self.open_key(w)?);
                let held = &mut self.clients[w.client];
                let stateid = held.downgrade(home(w.client), key, access, deny);
                stateid.ok().map(|s| s.seqid)
            }
            Do::Close(w) => {
                let key = self.open_key(w)?;
                let closed = self.clients[w.client].close(home(w.client), key);
                closed.ok().map(|_| 0)
            }
            Do::Lock(w, locker, from, len, write) => {
                let key = self.open_key(w)?;
                let kind = if write {
                    LockKind::Write
                } else {
                    LockKind::Read
                };
                let request = LockRequest {
                    range: range(from, len),
                    kind,
                    limit: LIMIT,
                };
                let held = &mut self.clients[w.client];
                let locked = held.lock_under(home(w.client), key, &[locker], None, request, now);
                locked.ok().map(|s| s.seqid)
            }
            Do::Unlock(w, locker, from, len) => {
                let key = self.set_key(w, locker)?;
                let held = &mut self.clients[w.client];
                let unlocked = held.unlock(home(w.client), key, range(from, len));
                unlocked.ok().map(|s| s.seqid)
            }
            Do::Free(w, locker) => {
                let key = self.set_key(w, locker)?;
                self.clients[w.client].free_locks(key).ok().map(|_| 0)
            }
        }
    }
}

fn expected(model: &mut Model, what: &Do) -> Option<u32> {
    match *what {
        Do::Open(w, access, deny) => model.open(w, access, deny),
        Do::Downgrade(w, access, deny) => model.downgrade(w, access, deny),
        Do::Close(w) => model.close(w).then_some(0),
        Do::Lock(w, locker, from, len, write) => model.lock(w, locker, from, len, write),
        Do::Unlock(w, locker, from, len) => {
            let set = model.set(w, locker)?;
            set.seqid += 1;
            let seqid = set.seqid;
            model.clear(w, locker, from, len);
            Some(seqid)
        }
        Do::Free(w, locker) => model.free(w, locker).then_some(0),
    }
}

/// What the model says of a lock-owner's bytes of a file, as ranges.
fn ranges(model: &Model, set: &ModelSet) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    for at in 0..BYTES {
        let of_set = |b: &&(usize, u8, usize, u64, bool)| {
            (b.0, b.1, b.2, b.3) == (set.client, set.locker, set.file, at)
        };
        let Some(byte) = model.bytes.iter().find(of_set) else {
            continue;
        };
        let kind = if byte.4 {
            LockKind::Write
        } else {
            LockKind::Read
        };
        match held.last_mut() {
            Some(last) if last.kind == kind && last.range.last() + 1 == at => {
                last.range = range(last.range.offset(), last.range.length() + 1);
            }
            _ => held.push(Held {
                range: range(at, 1),
                kind,
            }),
        }
    }
    held
}

/// Compares all of it: who holds what, which stateids are good, and how much there is.
fn compare(model: &Model, real: &Real) {
    for open in &model.opens {
        let w = Who {
            client: open.client,
            owner: open.owner,
            file: open.file,
        };
        let (held, home) = (&real.clients[w.client], home(w.client));
        let key = real.open_key(w).expect("the model has it");
        let entry = held.open_at(key).expect("an open");
        let (access, deny) = of(open.union().0, open.union().1);
        assert_eq!((entry.share.access(), entry.share.deny()), (access, deny));
        let name = Name::parse(home.stateid(Kind::Open, key, 1).other).expect("ours");
        let file = FileKey::of(&real.files[w.file]);
        let check = |seqid| held.check(home, name, seqid, &[Kind::Open], Some(file));
        assert_eq!(check(open.seqid), Ok(()));
        assert_eq!(check(open.seqid + 1), Err(Nfsstat4::BadStateid));
        if open.seqid > 1 {
            assert_eq!(check(open.seqid - 1), Err(Nfsstat4::OldStateid));
        }
        assert_eq!(held.io_access(home, name, 0, file), Ok(access));
    }
    for set in &model.sets {
        let w = Who {
            client: set.client,
            owner: set.owner,
            file: set.file,
        };
        let key = real.set_key(w, set.locker).expect("the model has it");
        let entry = real.clients[w.client].locks_at(key).expect("a set");
        assert_eq!(entry.seqid, set.seqid);
        assert_eq!(entry.guard.held(), ranges(model, set));
    }
    for (client, held) in real.clients.iter().enumerate() {
        let counts = held.counts();
        let opens = model.opens.iter().filter(|o| o.client == client).count();
        let sets = model.sets.iter().filter(|s| s.client == client).count();
        assert_eq!((counts.opens, counts.lock_sets), (opens, sets));
    }
}

fn follow(script: &[Do]) {
    let mut model = Model::default();
    let mut real = Real {
        files: (0..FILES).map(|_| FileLocks::alone()).collect(),
        clients: (0..CLIENTS).map(|_| Holdings::default()).collect(),
        now: vfs::exec::now(),
    };
    for (step, what) in script.iter().enumerate() {
        let expected = expected(&mut model, what);
        assert_eq!(real.run(what), expected, "{step} {what:?}");
        compare(&model, &real);
    }
    for open in model.opens {
        let w = Who {
            client: open.client,
            owner: open.owner,
            file: open.file,
        };
        assert_eq!(real.run(&Do::Close(w)), Some(0));
    }
    for held in &real.clients {
        assert_eq!(held.counts(), Counts::default());
    }
    assert!(real.files.iter().all(|file| !file.busy()));
}

#[cfg(test)]
mod drawn {
    use proptest::prelude::*;

    use super::*;

    fn who() -> impl Strategy<Value = Who> {
        (0..CLIENTS, 0..2_u8, 0..FILES).prop_map(|(client, owner, file)| Who {
            client,
            owner,
            file,
        })
    }

    fn what() -> impl Strategy<Value = Do> {
        let access = 1..4_u8;
        let deny = prop_oneof![4 => Just(0_u8), 1 => 0..4_u8];
        let bytes = (0..BYTES).prop_flat_map(|from| (Just(from), 1..=BYTES - from));
        prop_oneof![
            4 => (who(), access.clone(), deny.clone()).prop_map(|(w, a, d)| Do::Open(w, a, d)),
            2 => (who(), access, deny).prop_map(|(w, a, d)| Do::Downgrade(w, a, d)),
            2 => who().prop_map(Do::Close),
            4 => (who(), 0..2_u8, bytes.clone(), any::<bool>())
                .prop_map(|(w, l, (from, len), write)| Do::Lock(w, l, from, len, write)),
            3 => (who(), 0..2_u8, bytes).prop_map(|(w, l, (from, len))| Do::Unlock(w, l, from, len)),
            1 => (who(), 0..2_u8).prop_map(|(w, l)| Do::Free(w, l)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn holdings_do_what_lists_would(script in proptest::collection::vec(what(), 1..120)) {
            follow(&script);
        }

        #[test]
        fn any_bytes_are_a_script(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            run(&bytes);
        }
    }
}
