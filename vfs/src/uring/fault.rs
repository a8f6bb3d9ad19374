//! Fault injection (test builds only): a rule makes operations of one opcode fail with an errno, come
//! back short, or not come back before they are let go. Rules are per process, set by a test or by
//! `RINGNFS_FAULTS` at start.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::inflight::{AnyOp, is_network};
use crate::errno::{Errno, Result};

/// What to do to a matching operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Complete with this errno, without doing anything.
    Fail(i32),
    /// Ask for half of the bytes.
    Short,
    /// Do it, but let nobody know before the rules are set anew.
    Hold,
    /// Of [`LOCKS`]: every file system is taken for one where they may wait for another host.
    Slow,
}

/// In place of an opcode: every operation on files, and every call of the blocking pool.
pub const ANY: u8 = u8::MAX;

/// In place of an opcode: locks on the host. Struck by none but [`Fault::Slow`].
pub const LOCKS: u8 = u8::MAX - 1;

/// One rule: the opcode, what to do, operations to let pass first, and how often to strike.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// io_uring opcode, or [`ANY`].
    pub code: u8,
    /// What to do.
    pub fault: Fault,
    /// Matching operations left alone first.
    pub skip: u64,
    /// Operations to hit; `u64::MAX` for all.
    pub count: u64,
}

struct Faults {
    rules: Vec<Rule>,
    /// Operations and calls held now.
    held: usize,
    /// Times the rules were set: what was held before the last time is let go.
    times: u64,
}

static FAULTS: Mutex<Faults> = Mutex::new(Faults {
    rules: Vec::new(),
    held: 0,
    times: 0,
});
static LET_GO: Condvar = Condvar::new();

fn faults() -> MutexGuard<'static, Faults> {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces all rules, and lets go of what is held.
pub fn set(rules: Vec<Rule>) {
    let mut faults = faults();
    faults.rules = rules;
    faults.held = 0;
    faults.times += 1;
    LET_GO.notify_all();
}

/// Whether locks on the host are to be taken for such that may wait.
pub fn slow_locks() -> bool {
    let slow = |rule: &Rule| matches!((rule.code, rule.fault), (LOCKS, Fault::Slow));
    faults().rules.iter().any(slow)
}

/// Operations and calls that are done and held back.
pub fn held() -> usize {
    faults().held
}

/// Whether every rule has struck as often as it can.
pub fn struck() -> bool {
    faults().rules.iter().all(|rule| rule.count == 0)
}

/// Something held back until the rules are set anew.
#[derive(Clone, Copy)]
pub(super) struct Held(u64);

impl Held {
    /// Now it is done, and counts as held.
    pub(super) fn begin(self) {
        let mut faults = faults();
        faults.held += usize::from(faults.times == self.0);
    }

    /// It may come back.
    pub(super) fn over(self) -> bool {
        faults().times != self.0
    }
}

/// Parses `CODE:ERRNO|short|hold[:SKIP[:COUNT]]`, comma separated, numbers in decimal; `*` for [`ANY`].
/// `locks:slow` for [`LOCKS`].
///
/// # Errors
/// The first rule that does not parse.
pub fn parse(text: &str) -> std::result::Result<Vec<Rule>, String> {
    let rule = |part: &str| -> Option<Rule> {
        let mut fields = part.split(':');
        let code = match fields.next()? {
            "*" => ANY,
            "locks" => LOCKS,
            code => code.parse().ok()?,
        };
        let fault = match fields.next()? {
            "short" => Fault::Short,
            "hold" => Fault::Hold,
            "slow" => Fault::Slow,
            errno => Fault::Fail(errno.parse().ok()?),
        };
        let skip = fields.next().map_or(Some(0), |f| f.parse().ok())?;
        let count = fields.next().map_or(Some(u64::MAX), |f| f.parse().ok())?;
        Some(Rule {
            code,
            fault,
            skip,
            count,
        })
    };
    text.split(',')
        .map(|part| rule(part).ok_or_else(|| part.to_owned()))
        .collect()
}

fn strike(faults: &mut Faults, fits: impl Fn(u8) -> bool) -> Option<Fault> {
    let mut rules = faults.rules.iter_mut();
    let rule = rules.find(|r| fits(r.code) && r.count > 0)?;
    if rule.skip > 0 {
        rule.skip -= 1;
        return None;
    }
    rule.count = rule.count.saturating_sub(u64::from(rule.count != u64::MAX));
    Some(rule.fault)
}

/// The result to force on this operation, if any, and whether to hold it; shortens it if that is the
/// rule.
pub(super) fn plan(code: u8, op: &mut dyn AnyOp) -> (Option<i32>, Option<Held>) {
    let mut faults = faults();
    let fits = |rule| rule == code || rule == ANY && !is_network(code);
    match strike(&mut faults, fits) {
        Some(Fault::Fail(errno)) => (Some(-errno), None),
        Some(Fault::Hold) => (None, Some(Held(faults.times))),
        Some(Fault::Short) => {
            op.shorten();
            (None, None)
        }
        Some(Fault::Slow) | None => (None, None),
    }
}

/// As [`plan`] for a call of the blocking pool: what it does, made to fail or to be held.
pub(super) fn plan_call<T>(work: impl FnOnce() -> Result<T>) -> impl FnOnce() -> Result<T> {
    let mut planned = faults();
    let fault = strike(&mut planned, |rule| rule == ANY);
    let times = planned.times;
    move || match fault {
        Some(Fault::Fail(errno)) => Err(Errno(errno)),
        Some(Fault::Hold) => {
            let result = work();
            Held(times).begin();
            let mut now = faults();
            while now.times == times {
                now = LET_GO.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
            result
        }
        _ => work(),
    }
}
