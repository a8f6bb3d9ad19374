//! Delegations of one file (RFC 8881 10.4): who has one, and what must wait until it is back. A
//! client never conflicts with its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::line::Notify;
use super::share::{Access, Deny};
use super::{ClientId, DelegId};

/// How long after a recall a file is not delegated again: where clients conflict once they do again.
pub const HOLD_OFF: Duration = Duration::from_secs(30);

/// Most that wait for the delegations of one file. With one more, the first is told before its time.
pub const WAITING_MAX: usize = 256;

/// What a delegation lets its holder decide alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DelegKind {
    /// Opens for reading (`OPEN_DELEGATE_READ`).
    Read,
    /// Everything (`OPEN_DELEGATE_WRITE`).
    Write,
}

/// How a delegation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DelegState {
    /// In force.
    Granted,
    /// In force, but asked back, at first then.
    Recalled(Instant),
    /// No longer in force: conflicts with nothing.
    Revoked,
}

/// Why a delegation is not granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Others use the file in a way that conflicts.
    Contention,
    /// It was recalled a short time ago.
    Recent,
    /// The client has one already, of this kind.
    Held(DelegKind),
}

struct Deleg {
    serial: u64,
    client: ClientId,
    id: DelegId,
    kind: DelegKind,
    state: DelegState,
}

/// The delegations of one file.
#[derive(Default)]
pub(super) struct Delegs {
    entries: Vec<Deleg>,
    quiet_until: Option<Instant>,
    waiting: VecDeque<Notify>,
    called: Vec<Notify>,
}

impl Delegs {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn in_force(&self) -> impl Iterator<Item = &Deleg> {
        self.entries
            .iter()
            .filter(|d| d.state != DelegState::Revoked)
    }

    /// One of this kind is in force.
    pub(super) fn has(&self, kind: DelegKind) -> bool {
        self.in_force().any(|d| d.kind == kind)
    }

    /// Whether other delegations, and the time, allow a new one.
    pub(super) fn may_grant(
        &self,
        client: ClientId,
        kind: DelegKind,
        now: Instant,
    ) -> Result<(), Refused> {
        if let Some(own) = self.in_force().find(|d| d.client == client) {
            return Err(Refused::Held(own.kind));
        }
        if self.quiet_until.is_some_and(|until| now < until) {
            return Err(Refused::Recent);
        }
        let both_read = |d: &Deleg| (d.kind, kind) == (DelegKind::Read, DelegKind::Read);
        if self.in_force().all(both_read) {
            Ok(())
        } else {
            Err(Refused::Contention)
        }
    }

    pub(super) fn insert(&mut self, serial: u64, client: ClientId, id: DelegId, kind: DelegKind) {
        self.entries.push(Deleg {
            serial,
            client,
            id,
            kind,
            state: DelegState::Granted,
        });
    }

    pub(super) fn remove(&mut self, serial: u64) {
        self.entries.retain(|d| d.serial != serial);
        self.called.extend(self.waiting.drain(..));
    }

    pub(super) fn state(&self, serial: u64) -> DelegState {
        let found = self.entries.iter().find(|d| d.serial == serial);
        found.map_or(DelegState::Revoked, |d| d.state)
    }

    /// Marks what conflicted as recalled; true if it was not yet. Also when it has been given back
    /// meanwhile the file is not delegated again for a while.
    pub(super) fn recall(&mut self, client: ClientId, id: DelegId, now: Instant) -> bool {
        let until = now.checked_add(HOLD_OFF);
        self.quiet_until = self.quiet_until.max(until);
        let granted = self
            .entries
            .iter_mut()
            .find(|d| (d.client, d.id, d.state) == (client, id, DelegState::Granted));
        let Some(deleg) = granted else { return false };
        deleg.state = DelegState::Recalled(now);
        true
    }

    pub(super) fn revoke(&mut self, serial: u64) {
        if let Some(deleg) = self.entries.iter_mut().find(|d| d.serial == serial) {
            deleg.state = DelegState::Revoked;
            self.called.extend(self.waiting.drain(..));
        }
    }

    /// Joins those who are told when a delegation is back, if any of `held` is not yet.
    pub(super) fn wait(&mut self, held: &[(ClientId, DelegId)], notify: Notify) -> bool {
        if !self.in_force().any(|d| held.contains(&(d.client, d.id))) {
            return false;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.called.extend(self.waiting.pop_front());
        }
        self.waiting.push_back(notify);
        true
    }

    /// Whom to tell now.
    pub(super) fn take_called(&mut self) -> Vec<Notify> {
        std::mem::take(&mut self.called)
    }

    /// Those in force that `client` does not hold itself: the ones for writing, and `all` the others.
    fn others(&self, client: Option<ClientId>, all: bool) -> Vec<(ClientId, DelegId)> {
        self.in_force()
            .filter(|d| Some(d.client) != client && (all || d.kind == DelegKind::Write))
            .map(|d| (d.client, d.id))
            .collect()
    }

    /// What an open must recall. A delegation for reading stands open for reading to everybody who
    /// does not deny that.
    pub(super) fn against_open(
        &self,
        client: ClientId,
        access: Access,
        deny: Deny,
    ) -> Vec<(ClientId, DelegId)> {
        let all = access.contains(Access::WRITE) || deny.contains(Deny::READ);
        self.others(Some(client), all)
    }

    /// What reading or writing, or a lock for that, must recall.
    pub(super) fn against_io(
        &self,
        client: Option<ClientId>,
        write: bool,
    ) -> Vec<(ClientId, DelegId)> {
        self.others(client, write)
    }

    /// What a change of attributes or names must recall.
    pub(super) fn against_change(&self, client: Option<ClientId>) -> Vec<(ClientId, DelegId)> {
        self.others(client, true)
    }

    /// Who else has it for writing, and with that the newest size and times (CB_GETATTR).
    pub(super) fn writer(&self, client: Option<ClientId>) -> Option<(ClientId, DelegId)> {
        self.others(client, false).first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);

    #[test]
    fn one_for_writing_or_many_for_reading() {
        let now = Instant::now();
        let mut delegs = Delegs::default();
        delegs.insert(1, A, DelegId(7), DelegKind::Read);
        assert_eq!(
            delegs.may_grant(A, DelegKind::Read, now),
            Err(Refused::Held(DelegKind::Read))
        );
        assert_eq!(delegs.may_grant(B, DelegKind::Read, now), Ok(()));
        let contention = Err(Refused::Contention);
        assert_eq!(delegs.may_grant(B, DelegKind::Write, now), contention);
        delegs.revoke(1);
        assert_eq!(delegs.may_grant(B, DelegKind::Write, now), Ok(()));
        delegs.insert(2, B, DelegId(7), DelegKind::Write);
        assert_eq!(delegs.may_grant(A, DelegKind::Read, now), contention);
        assert_eq!(delegs.writer(Some(A)), Some((B, DelegId(7))));
        assert_eq!(delegs.writer(Some(B)), None);
    }

    #[test]
    fn what_must_be_recalled() {
        let mut delegs = Delegs::default();
        delegs.insert(1, A, DelegId(7), DelegKind::Read);
        let open = |d: &Delegs, access, deny| d.against_open(B, access, deny).len();
        assert_eq!(open(&delegs, Access::READ, Deny::WRITE), 0);
        assert_eq!(open(&delegs, Access::READ, Deny::READ), 1);
        assert_eq!(open(&delegs, Access::WRITE, Deny::NONE), 1);
        assert_eq!(delegs.against_io(None, false), []);
        assert_eq!(delegs.against_io(None, true), [(A, DelegId(7))]);
        assert_eq!(delegs.against_change(Some(B)), [(A, DelegId(7))]);
        // Never its own.
        assert_eq!(delegs.against_open(A, Access::BOTH, Deny::BOTH), []);
        assert_eq!(delegs.against_change(Some(A)), []);
        delegs.remove(1);
        delegs.insert(2, A, DelegId(8), DelegKind::Write);
        assert_eq!(open(&delegs, Access::READ, Deny::NONE), 1);
        assert_eq!(delegs.against_io(None, false), [(A, DelegId(8))]);
        delegs.revoke(2);
        assert_eq!(delegs.against_io(None, true), [], "revoked");
    }

    #[test]
    fn who_waits_is_told_when_one_is_back() {
        let mut delegs = Delegs::default();
        delegs.insert(1, A, DelegId(7), DelegKind::Read);
        delegs.insert(2, B, DelegId(7), DelegKind::Read);
        let notify: Notify = std::sync::Arc::new(|| {});
        assert!(!delegs.wait(&[(A, DelegId(8))], notify.clone()), "back");
        for _ in 0..=WAITING_MAX {
            assert!(delegs.wait(&[(A, DelegId(7))], notify.clone()));
        }
        assert_eq!(delegs.take_called().len(), 1, "no room");
        delegs.remove(2);
        assert_eq!(delegs.take_called().len(), WAITING_MAX);
        assert!(delegs.wait(&[(A, DelegId(7))], notify.clone()));
        delegs.revoke(1);
        assert_eq!(delegs.take_called().len(), 1);
        assert!(!delegs.wait(&[(A, DelegId(7))], notify));
    }

    #[test]
    fn recalled_files_rest_for_a_while() {
        let now = Instant::now();
        let mut delegs = Delegs::default();
        delegs.insert(1, A, DelegId(7), DelegKind::Read);
        assert!(delegs.recall(A, DelegId(7), now));
        let later = now + Duration::from_secs(1);
        assert!(!delegs.recall(A, DelegId(7), later), "once");
        assert_eq!(delegs.state(1), DelegState::Recalled(now));
        assert_eq!(delegs.against_io(None, true).len(), 1, "still in force");
        delegs.remove(1);
        let recent = Err(Refused::Recent);
        assert_eq!(delegs.may_grant(B, DelegKind::Read, later), recent);
        let end = later + HOLD_OFF;
        assert_eq!(delegs.may_grant(B, DelegKind::Read, end), Ok(()));
        // One that was given back just before counts as well.
        assert!(!delegs.recall(B, DelegId(9), end));
        assert_eq!(delegs.may_grant(A, DelegKind::Read, end), recent);
    }
}
