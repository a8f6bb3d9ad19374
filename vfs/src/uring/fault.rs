//! Fault injection (test builds only): a rule makes operations of one opcode fail with an errno or
//! come back short. Rules are per process, set by a test or by `RINGNFS_FAULTS` at start.

use std::sync::{Mutex, PoisonError};

use super::inflight::AnyOp;

/// What to do to a matching operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Complete with this errno, without doing anything.
    Fail(i32),
    /// Ask for half of the bytes.
    Short,
}

/// One rule: the opcode, what to do, operations to let pass first, and how often to strike.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// io_uring opcode.
    pub code: u8,
    /// What to do.
    pub fault: Fault,
    /// Matching operations left alone first.
    pub skip: u64,
    /// Operations to hit; `u64::MAX` for all.
    pub count: u64,
}

static RULES: Mutex<Vec<Rule>> = Mutex::new(Vec::new());

/// Replaces all rules.
pub fn set(rules: Vec<Rule>) {
    *RULES.lock().unwrap_or_else(PoisonError::into_inner) = rules;
}

/// Parses `CODE:ERRNO|short[:SKIP[:COUNT]]`, comma separated, numbers in decimal.
///
/// # Errors
/// The first rule that does not parse.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let rule = |part: &str| -> Option<Rule> {
        let mut fields = part.split(':');
        let code = fields.next()?.parse().ok()?;
        let fault = match fields.next()? {
            "short" => Fault::Short,
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

/// The result to force on this operation, if any; shortens it if that is the rule.
pub(super) fn plan(code: u8, op: &mut dyn AnyOp) -> Option<i32> {
    let mut rules = RULES.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules.iter_mut().find(|r| r.code == code && r.count > 0)?;
    if rule.skip > 0 {
        rule.skip -= 1;
        return None;
    }
    rule.count = rule.count.saturating_sub(u64::from(rule.count != u64::MAX));
    match rule.fault {
        Fault::Fail(errno) => Some(-errno),
        Fault::Short => {
            op.shorten();
            None
        }
    }
}
