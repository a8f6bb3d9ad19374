//! Slots of a session's backchannel (RFC 8881 2.10.6.1): one call at a time in each, numbered.
//!
//! Whether a call ran whose reply never came is not known. Its slot then is uncertain: before it is
//! used for anything else, a CB_SEQUENCE alone with the same number finds out. The client either runs
//! that or knows the number already; both settle it, and no answer to the lost call is ever taken for
//! one to another.

use crate::nfs4::status::Nfsstat4;

/// Most slots used of one session: callbacks are few.
pub const SLOTS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    Busy,
    Uncertain,
    /// The client's idea of the slot cannot be known any more.
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    next: u32,
    state: Use,
}

/// The slots.
#[derive(Clone, Debug)]
pub struct BackSlots {
    slots: Vec<Slot>,
    /// How many the client wants used.
    target: usize,
}

/// A slot taken for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which slot.
    pub slot: u32,
    /// Number of the call.
    pub sequence: u32,
    /// Highest slot in use now.
    pub highest: u32,
    /// A call was lost here: first find out.
    pub uncertain: bool,
}

/// How a call in a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not sent.
    Unsent,
    /// CB_SEQUENCE succeeded; the client's `csr_target_highest_slotid`.
    Ran {
        /// Highest slot the client would like used.
        target: u32,
    },
    /// CB_SEQUENCE failed.
    Refused(Nfsstat4),
    /// There was no reply.
    Lost,
}

impl BackSlots {
    /// As many as were negotiated, within [`SLOTS_MAX`].
    #[must_use]
    pub fn new(negotiated: u32) -> Self {
        let count = (negotiated as usize).clamp(1, SLOTS_MAX);
        let fresh = Slot {
            next: 1,
            state: Use::Free,
        };
        BackSlots {
            slots: vec![fresh; count],
            target: count,
        }
    }

    /// Takes a slot: the lowest that is free, else one that is uncertain. `None` while there is none.
    pub fn take(&mut self) -> Option<Taken> {
        let usable = || self.slots.iter().take(self.target.max(1));
        let free = usable().position(|s| s.state == Use::Free);
        let at = free.or_else(|| usable().position(|s| s.state == Use::Uncertain))?;
        let slot = self.slots.get_mut(at)?;
        let uncertain = slot.state == Use::Uncertain;
        slot.state = Use::Busy;
        let sequence = slot.next;
        let highest = self.slots.iter().rposition(|s| s.state == Use::Busy);
        Some(Taken {
            slot: at as u32,
            sequence,
            highest: highest.unwrap_or(at) as u32,
            uncertain,
        })
    }

    /// The call in a slot has ended. `uncertain` as it was [`Taken`].
    pub fn end(&mut self, taken: &Taken, outcome: Outcome) {
        let count = self.slots.len();
        let Some(slot) = self.slots.get_mut(taken.slot as usize) else {
            return;
        };
        let known = taken.sequence.wrapping_add(1);
        (slot.next, slot.state) = match outcome {
            Outcome::Unsent if taken.uncertain => (taken.sequence, Use::Uncertain),
            Outcome::Unsent => (taken.sequence, Use::Free),
            Outcome::Lost => (taken.sequence, Use::Uncertain),
            Outcome::Ran { target } => {
                self.target = (target as usize).saturating_add(1).min(count);
                (known, Use::Free)
            }
            Outcome::Refused(status) => refused(taken, status),
        };
    }

    /// No call can use any slot any more.
    #[must_use]
    pub fn all_dead(&self) -> bool {
        self.slots.iter().all(|s| s.state == Use::Dead)
    }

    /// No call is under way.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.slots.iter().all(|s| s.state != Use::Busy)
    }
}

fn refused(taken: &Taken, status: Nfsstat4) -> (u32, Use) {
    match status {
        // The client has seen the number: an earlier transmission ran.
        Nfsstat4::RetryUncachedRep | Nfsstat4::SeqFalseRetry => {
            (taken.sequence.wrapping_add(1), Use::Free)
        }
        // The number stays unused, if it was.
        Nfsstat4::Delay if !taken.uncertain => (taken.sequence, Use::Free),
        // The client counts otherwise, or has no such slot.
        Nfsstat4::SeqMisordered | Nfsstat4::Badslot => (taken.sequence, Use::Dead),
        _ => (taken.sequence, Use::Uncertain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_are_taken_from_below_and_count() {
        let mut slots = BackSlots::new(2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((a.slot, a.sequence, a.highest), (0, 1, 0));
        assert_eq!((b.slot, b.sequence, b.highest), (1, 1, 1));
        assert_eq!(slots.take(), None);
        slots.end(&a, Outcome::Ran { target: 9 });
        let a = slots.take().unwrap();
        assert_eq!((a.slot, a.sequence, a.highest), (0, 2, 1));
        slots.end(&a, Outcome::Unsent);
        assert_eq!(slots.take().unwrap().sequence, 2);
        assert_eq!(BackSlots::new(0).slots.len(), 1);
        assert_eq!(BackSlots::new(u32::MAX).slots.len(), SLOTS_MAX);
    }

    #[test]
    fn a_lost_call_is_asked_about_before_its_slot_is_used() {
        let mut slots = BackSlots::new(1);
        let lost = slots.take().unwrap();
        slots.end(&lost, Outcome::Lost);
        let probe = slots.take().unwrap();
        assert!(probe.uncertain && probe.sequence == lost.sequence);
        slots.end(&probe, Outcome::Unsent);
        let probe = slots.take().unwrap();
        assert!(probe.uncertain, "not settled yet");
        slots.end(&probe, Outcome::Refused(Nfsstat4::RetryUncachedRep));
        let next = slots.take().unwrap();
        assert_eq!((next.sequence, next.uncertain), (2, false));
        slots.end(&next, Outcome::Refused(Nfsstat4::Delay));
        let again = slots.take().unwrap();
        assert_eq!((again.sequence, again.uncertain), (2, false));
        slots.end(&again, Outcome::Refused(Nfsstat4::SeqMisordered));
        assert!(slots.all_dead() && slots.take().is_none() && slots.idle());
    }

    #[test]
    fn the_client_may_want_fewer() {
        let mut slots = BackSlots::new(4);
        let one = slots.take().unwrap();
        slots.end(&one, Outcome::Ran { target: 0 });
        assert_eq!(slots.take().unwrap().slot, 0);
        assert_eq!(slots.take(), None);
    }

    proptest! {
        /// The client's side of every slot, as RFC 8881 2.10.6.1 has it: it is never surprised, and a
        /// new call never has the number of one that ran.
        #[test]
        fn numbers_agree(steps in proptest::collection::vec((0..4_u8, any::<bool>()), 1..60)) {
            let mut slots = BackSlots::new(3);
            let mut seen = [0_u32; 3];
            for (step, arrives) in steps {
                let taken = slots.take().unwrap();
                let last = &mut seen[taken.slot as usize];
                let fresh = taken.sequence == last.wrapping_add(1);
                prop_assert!(fresh || taken.uncertain && taken.sequence == *last);
                let outcome = match step {
                    0 => Outcome::Unsent,
                    1 => {
                        if arrives {
                            *last = taken.sequence;
                        }
                        Outcome::Lost
                    }
                    2 => Outcome::Refused(Nfsstat4::Delay),
                    _ if fresh => {
                        *last = taken.sequence;
                        Outcome::Ran { target: 2 }
                    }
                    _ => Outcome::Refused(Nfsstat4::SeqFalseRetry),
                };
                slots.end(&taken, outcome);
                prop_assert!(slots.idle());
            }
        }
    }
}
