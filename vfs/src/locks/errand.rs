//! Where a lock of the host may take its time (cluster and network file systems, FUSE), the pool runs its
//! calls, one after the other for each file, and nobody's thread or mutex waits for them. A lock is claimed
//! there before the table grants it, what is unlocked follows the table. What stands on the host is at
//! least what all owners have locked and all claims granted together: more only where it is to be lowered.

use std::sync::{Arc, Weak};

use super::mirror::Hand;
use super::range::{Held, Piece, Range};
use super::{Conflict, FileLocks, Holder, State};
use crate::exec::oneshot;
use crate::uring::blocking::Threads;

/// Parts to be lowered that are remembered apart; with more, all of the file is looked at.
const LOWER_MAX: usize = 64;

type Answer = oneshot::Sender<Result<(), Conflict>>;

struct Claimed {
    serial: u64,
    wanted: Held,
    /// Whom to answer: still to be asked for.
    asks: Option<Answer>,
    granted: bool,
}

/// What the pool is to do for one file.
pub(super) struct Slow {
    pool: Arc<Threads>,
    home: Weak<FileLocks>,
    /// The pool is at it.
    running: bool,
    /// That includes lowering.
    lowering: bool,
    /// All is to be locked through this description, which can be locked exclusively.
    next: Option<Hand>,
    /// What may be locked more than it should.
    lower: Vec<Range>,
    /// The last attempt failed: not again before something changes.
    stuck: bool,
    /// Who is told once all that was to be lowered has been.
    told: Vec<oneshot::Sender<()>>,
    finds: Vec<(Held, Answer)>,
    claims: Vec<Claimed>,
}

/// Some calls that belong together.
enum Errand {
    Move(Hand, Hand, Vec<Piece>),
    Lower(Hand, Vec<Piece>, Vec<oneshot::Sender<()>>),
    Find(Hand, Vec<(u64, Held)>, Vec<(Held, Answer)>),
    Claim(Hand, u64, Held, [Vec<Piece>; 2], Answer),
}

/// What came of them.
enum Done {
    /// The new description, and the old one, to be dropped without the mutex.
    Moved(Hand, Hand),
    /// What could not be.
    Lowered(Vec<Range>, Vec<oneshot::Sender<()>>),
    /// Who in line may come, or not.
    Found(Vec<(u64, bool)>, Vec<(Answer, Result<(), Conflict>)>),
    /// Something could not be undone, if that is set.
    Claimed(u64, Held, Result<(), Conflict>, bool, Answer),
}

impl Errand {
    fn run(self) -> Done {
        match self {
            Errand::Move(from, to, pieces) => {
                to.take_over(&from, &pieces);
                Done::Moved(to, from)
            }
            Errand::Lower(hand, pieces, told) => {
                let failed = |piece: &Piece| hand.set(piece).is_err();
                let left = pieces.into_iter().filter(failed);
                Done::Lowered(left.map(|piece| piece.range).collect(), told)
            }
            Errand::Find(hand, line, finds) => {
                let line = line.into_iter().map(|(serial, wanted)| {
                    let free = hand.find(wanted).is_none();
                    (serial, free)
                });
                let finds = finds.into_iter();
                let finds = finds.map(|(wanted, answer)| (answer, hand.conflict(wanted)));
                Done::Found(line.collect(), finds.collect())
            }
            Errand::Claim(hand, serial, wanted, [was, is], answer) => {
                let (taken, behind) = hand.take(&was, &is, wanted);
                // After any other error than that it is taken, who knows what stands there.
                let behind = behind || taken == Err(Conflict::Full);
                Done::Claimed(serial, wanted, taken, behind, answer)
            }
        }
    }
}

impl Done {
    /// After it has been entered, without the mutex.
    fn tell(self) {
        match self {
            Done::Moved(_, from) => drop(from),
            Done::Lowered(_, told) => told.into_iter().for_each(|one| one.send(())),
            Done::Found(_, finds) => finds.into_iter().for_each(|(one, found)| one.send(found)),
            Done::Claimed(_, _, taken, _, answer) => answer.send(taken),
        }
    }
}

impl Slow {
    pub(super) fn new(pool: Arc<Threads>, home: &Arc<FileLocks>) -> Self {
        Slow {
            pool,
            home: Arc::downgrade(home),
            running: false,
            lowering: false,
            next: None,
            lower: Vec::new(),
            stuck: false,
            told: Vec::new(),
            finds: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// These parts may be locked more than they should.
    pub(super) fn lower(&mut self, parts: impl Iterator<Item = Range>) {
        for part in parts {
            self.stuck = false;
            self.lower.push(part);
        }
        if self.lower.len() > LOWER_MAX {
            self.lower = vec![Range::from(0)];
        }
    }

    /// All that is locked moves to this description.
    pub(super) fn move_to(&mut self, to: Hand) {
        self.next.get_or_insert(to);
    }

    pub(super) fn granted(&self) -> impl Iterator<Item = Held> {
        let granted = self.claims.iter().filter(|claim| claim.granted);
        granted.map(|claim| claim.wanted)
    }

    /// Nothing is to be done, and nobody needs what has been.
    pub(super) fn is_idle(&self) -> bool {
        !self.running && !self.waits() && self.lower.is_empty() && self.claims.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_at_it(&self) -> bool {
        self.running || self.waits()
    }

    fn waits(&self) -> bool {
        let lower = !self.lower.is_empty() && !self.stuck;
        let asked = self.claims.iter().any(|claim| claim.asks.is_some());
        self.next.is_some() || lower || asked || !self.told.is_empty() || !self.finds.is_empty()
    }
}

impl State {
    fn slow(&mut self) -> Option<&mut Slow> {
        self.mirror.as_mut()?.slow.as_deref_mut()
    }

    /// The pool, if it is to begin.
    pub(super) fn start_errands(&mut self) -> Option<(Arc<Threads>, Pump)> {
        let line = &self.line;
        let slow = self.mirror.as_mut()?.slow.as_deref_mut()?;
        let asks = || line.as_ref().is_some_and(|line| line.asks());
        if slow.running || !(slow.waits() || asks()) {
            return None;
        }
        let file = slow.home.upgrade()?;
        slow.running = true;
        Some((slow.pool.clone(), Pump(Some(file))))
    }

    /// What comes next: first what makes less of what is locked.
    fn next_errand(&mut self) -> Option<Errand> {
        let hand = self.mirror.as_ref()?.hand.clone();
        if let Some(to) = self.slow()?.next.take() {
            return Some(Errand::Move(hand, to, self.cover(Range::from(0))));
        }
        let slow = self.slow()?;
        if !slow.told.is_empty() || !slow.lower.is_empty() && !slow.stuck {
            slow.lowering = true;
            let (parts, told) = (
                std::mem::take(&mut slow.lower),
                std::mem::take(&mut slow.told),
            );
            let pieces = parts.iter().flat_map(|part| self.cover(*part)).collect();
            return Some(Errand::Lower(hand, pieces, told));
        }
        let line = self.line.as_ref().map_or(Vec::new(), |line| line.asked());
        let slow = self.slow()?;
        let finds = std::mem::take(&mut slow.finds);
        if !line.is_empty() || !finds.is_empty() {
            return Some(Errand::Find(hand, line, finds));
        }
        let mut claims = slow.claims.iter_mut();
        let next = claims.find_map(|c| Some((c.serial, c.wanted, c.asks.take()?)));
        let Some((serial, wanted, answer)) = next else {
            slow.running = false;
            return None;
        };
        let was = self.cover(wanted.range);
        let is = super::range::raised(&was, wanted.kind);
        Some(Errand::Claim(hand, serial, wanted, [was, is], answer))
    }

    fn enter(&mut self, done: &Done) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(slow) = mirror.slow.as_deref_mut() else {
            return;
        };
        match done {
            Done::Moved(to, _) => mirror.hand = to.clone(),
            Done::Lowered(left, _) => {
                slow.lowering = false;
                slow.lower(left.iter().copied());
                slow.stuck = !left.is_empty();
                if let Some(first) = left.first() {
                    tracing::debug!(?first, "locks of the host's file stay for now");
                }
            }
            Done::Found(found, _) => {
                if let Some(line) = &mut self.line {
                    line.answered(found);
                }
            }
            Done::Claimed(serial, wanted, taken, behind, _) => {
                let at = slow.claims.iter().position(|c| c.serial == *serial);
                match at {
                    Some(at) if taken.is_ok() => slow.claims[at].granted = true,
                    Some(at) => drop(slow.claims.remove(at)),
                    None => {}
                }
                if *behind || at.is_none() {
                    slow.lower(std::iter::once(wanted.range));
                }
            }
        }
    }

    /// The pool did not do it, and will not: who waits is told so.
    fn give_up(&mut self) -> Vec<Box<dyn Send>> {
        if let Some(line) = &mut self.line {
            line.unanswered();
        }
        let Some(slow) = self.slow() else {
            return Vec::new();
        };
        (slow.running, slow.lowering, slow.stuck) = (false, false, true);
        let unanswered = slow.claims.extract_if(.., |claim| !claim.granted);
        let unanswered: Vec<_> = unanswered.collect();
        let (told, finds) = (
            std::mem::take(&mut slow.told),
            std::mem::take(&mut slow.finds),
        );
        vec![
            Box::new(unanswered),
            Box::new((told, finds)),
            Box::new(slow.next.take()),
        ]
    }

    fn drop_claim(&mut self, serial: u64) -> Option<Answer> {
        let claims = &self.slow()?.claims;
        let claim = claims.iter().find(|claim| claim.serial == serial)?;
        let (range, granted) = (claim.wanted.range, claim.granted);
        let is = self.cover(range);
        let claims = &mut self.slow()?.claims;
        let removed = claims.extract_if(.., |claim| claim.serial == serial).next();
        if granted {
            let to = self.cover(range);
            self.mirror.as_mut()?.shrink(&is, &to);
        }
        removed?.asks
    }
}

/// The pool's work for a file, until there is no more.
pub(super) struct Pump(Option<Arc<FileLocks>>);

impl Pump {
    /// Has the pool do it.
    pub(super) fn start(self, pool: &Threads) {
        // There is one of these for a file at most. If it cannot be had, dropping it says so.
        let _ = pool.add(Box::new(move || self.run()));
    }

    fn run(mut self) {
        let Some(file) = self.0.clone() else { return };
        let mut done: Option<Done> = None;
        loop {
            let next = file.with(|state| {
                if let Some(done) = &done {
                    state.enter(done);
                }
                state.next_errand()
            });
            if let Some(done) = done {
                done.tell();
            }
            let Some(errand) = next else { break };
            done = Some(errand.run());
        }
        // By now another may be at it.
        self.0 = None;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            drop(file.with(State::give_up));
        }
    }
}

/// A lock that stands on the host, so that it can be granted. It goes with the value unless it has been.
#[must_use = "the lock can be granted only while this lives"]
pub struct Claim {
    file: Arc<FileLocks>,
    serial: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let asks = self.file.with(|state| state.drop_claim(self.serial));
        drop(asks);
    }
}

/// Answers come by this.
pub(crate) type Asked = oneshot::Receiver<Result<(), Conflict>>;

impl FileLocks {
    /// Claims a lock on the host: see [`FileLocks::claim`].
    pub(crate) fn begin_claim(self: &Arc<Self>, wanted: Held) -> (Claim, Asked) {
        let (sender, answer) = oneshot::channel();
        let serial = self.with(|state| {
            let serial = state.serial();
            let Some(slow) = state.slow() else {
                sender.send(Ok(()));
                return serial;
            };
            slow.stuck = false;
            slow.claims.push(Claimed {
                serial,
                wanted,
                asks: Some(sender),
                granted: false,
            });
            serial
        });
        let file = self.clone();
        (Claim { file, serial }, answer)
    }

    /// The host did not let somebody have a lock: who was called from the line for it keeps its place there.
    pub(crate) fn hold_up(&self, holder: Holder, wanted: &Held) {
        self.with(|state| {
            if let Some(line) = &mut state.line {
                line.hold_up(holder.owner, wanted);
            }
        });
    }

    /// Asks the host whether it would let somebody have a lock: see [`FileLocks::tested`].
    pub(crate) fn begin_find(&self, wanted: Held) -> Asked {
        let (sender, answer) = oneshot::channel();
        self.with(|state| match state.slow() {
            Some(slow) => slow.finds.push((wanted, sender)),
            None => sender.send(Ok(())),
        });
        answer
    }

    /// What tells when all that is unlocked is unlocked on the host as well; `None` if it is.
    pub(crate) fn begin_settling(&self) -> Option<oneshot::Receiver<()>> {
        let lowers = |slow: &Slow| slow.lowering || !slow.lower.is_empty();
        if !self.lock().slow().is_some_and(|slow| lowers(slow)) {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        self.with(|state| {
            if let Some(slow) = state.slow() {
                slow.told.push(sender);
            }
        });
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::super::{HostFile, LockKind};
    use super::*;
    use crate::errno;

    struct Never;

    impl HostFile for Never {
        fn set(&self, _: Range, _: Option<LockKind>) -> errno::Result<()> {
            panic!("it is never asked");
        }

        fn find(&self, _: Held) -> errno::Result<Option<(Held, u32)>> {
            panic!("it is never asked");
        }
    }

    #[test]
    fn who_waits_is_told_when_the_pool_does_not_do_it() {
        let file = FileLocks::alone();
        let hosted = file.hosted(Arc::new(Never), true, Some(Threads::new(1, 1)));
        let (sender, mut answer) = oneshot::channel();
        let started = {
            let mut state = file.lock();
            let slow = state.slow().expect("a mirror");
            let (range, kind) = (Range::from(0), LockKind::Write);
            slow.claims.push(Claimed {
                serial: 1,
                wanted: Held { range, kind },
                asks: Some(sender),
                granted: false,
            });
            state.start_errands()
        };
        let (_pool, pump) = started.expect("something to do");
        drop(pump);
        let mut cx = Context::from_waker(Waker::noop());
        let told = Pin::new(&mut answer).poll(&mut cx);
        assert!(matches!(told, Poll::Ready(None)));
        drop(hosted);
        assert!(!file.busy(), "nothing is left of it");
    }
}
