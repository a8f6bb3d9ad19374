//! A session's slots: exactly one execution of each request (RFC 8881 2.10.6).
//!
//! ```text
//! free(n) --request n+1--> busy(n+1) --SlotGuard::complete or drop--> free(n+1)
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::Principal;
use super::session::Session;
use crate::nfs4::status::Nfsstat4;

/// Replies up to this size are kept even if the client did not ask for it: a retransmission then
/// gets its answer, and that costs less than finding out why it did not.
const SMALL: usize = 512;

/// What makes a retransmission the same request (RFC 8881 2.10.6.1.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// Who asks.
    pub principal: Principal,
    /// Number of operations.
    pub ops: u32,
    /// Hash over the length and the beginning of the arguments.
    pub sum: u64,
}

/// A slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Of the last request begun; 0 before the first.
    sequence: u32,
    busy: bool,
    /// The client wants the reply kept.
    keep: bool,
    /// `reply` is that of the last request.
    kept: bool,
    print: Option<Print>,
    reply: Vec<u8>,
}

/// What a request in a slot turned out to be.
pub(super) enum Seen {
    /// Not seen before.
    New,
    /// A retransmission, and this was the reply.
    Again(Arc<[u8]>),
    /// A retransmission whose reply was not kept.
    Unkept,
}

impl Slot {
    /// Takes the slot for the request of this number.
    ///
    /// # Errors
    /// `DELAY` while that very request runs, `SEQ_MISORDERED` for a number that is not next,
    /// `SEQ_FALSE_RETRY` for the number of another request.
    pub(super) fn begin(
        &mut self,
        sequence: u32,
        print: Print,
        keep: bool,
    ) -> Result<Seen, Nfsstat4> {
        if self.busy && sequence == self.sequence {
            return Err(Nfsstat4::Delay);
        }
        if !self.busy && sequence == self.sequence.wrapping_add(1) {
            self.sequence = sequence;
            self.print = Some(print);
            self.keep = keep;
            self.kept = false;
            self.busy = true;
            return Ok(Seen::New);
        }
        match self.print {
            Some(before) if !self.busy && sequence == self.sequence => {
                if before != print {
                    return Err(Nfsstat4::SeqFalseRetry);
                }
                Ok(match self.kept {
                    true => Seen::Again(self.reply.as_slice().into()),
                    false => Seen::Unkept,
                })
            }
            _ => Err(Nfsstat4::SeqMisordered),
        }
    }

    fn end(&mut self, reply: Option<(&[u8], Option<&[u8]>)>) {
        self.busy = false;
        let Some((bytes, payload)) = reply else {
            return;
        };
        let small = payload.is_none() && bytes.len() <= SMALL;
        self.reply.clear();
        if self.reply.capacity() > 2 * SMALL {
            self.reply = Vec::new();
        }
        if self.keep || small {
            self.reply.extend_from_slice(bytes);
            if let Some(payload) = payload {
                self.reply.extend_from_slice(payload);
                let padded = bytes.len() + payload.len().next_multiple_of(4);
                self.reply.resize(padded, 0);
            }
            self.kept = true;
        }
    }

    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.kept = false;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }
}

/// The slots of one session.
pub(super) struct Slots(Box<[Mutex<Slot>]>);

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Slots((0..count).map(|_| Mutex::default()).collect())
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// # Errors
    /// `BADSLOT`.
    pub(super) fn get(&self, slot: u32) -> Result<MutexGuard<'_, Slot>, Nfsstat4> {
        let slot = self.0.get(slot as usize).ok_or(Nfsstat4::Badslot)?;
        Ok(slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request runs in one of them.
    pub(super) fn any_busy(&self) -> bool {
        (0..self.len()).any(|i| self.get(i).is_ok_and(|slot| slot.is_busy()))
    }
}

/// A slot a request runs in. Dropped without [`SlotGuard::complete`], the slot is free again and
/// the request's retransmission learns that its reply was not kept.
pub struct SlotGuard {
    pub(super) session: Arc<Session>,
    pub(super) slot: u32,
    pub(super) done: bool,
}

impl SlotGuard {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The request has this reply: results from the status of the COMPOUND on, and a payload that
    /// follows them unpadded.
    pub fn complete(mut self, reply: &[u8], payload: Option<&[u8]>) {
        self.done = true;
        if let Ok(mut slot) = self.session.slots.get(self.slot) {
            slot.end(Some((reply, payload)));
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Ok(mut slot) = self.session.slots.get(self.slot) {
            slot.end(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(sum: u64) -> Print {
        Print {
            principal: Principal::Sys(0),
            ops: 2,
            sum,
        }
    }

    fn ok(seen: Result<Seen, Nfsstat4>) -> &'static str {
        match seen {
            Ok(Seen::New) => "new",
            Ok(Seen::Again(_)) => "again",
            Ok(Seen::Unkept) => "unkept",
            Err(status) => status.name(),
        }
    }

    #[test]
    fn a_slot_takes_numbers_in_order() {
        let mut slot = Slot::default();
        for wrong in [0, 2, u32::MAX] {
            assert_eq!(
                ok(slot.begin(wrong, print(1), false)),
                "NFS4ERR_SEQ_MISORDERED"
            );
        }
        assert_eq!(ok(slot.begin(1, print(1), false)), "new");
        assert_eq!(ok(slot.begin(1, print(1), false)), "NFS4ERR_DELAY");
        assert_eq!(ok(slot.begin(2, print(2), false)), "NFS4ERR_SEQ_MISORDERED");
        slot.end(Some((b"answer 1", None)));
        assert_eq!(ok(slot.begin(1, print(1), false)), "again");
        assert_eq!(
            ok(slot.begin(1, print(7), false)),
            "NFS4ERR_SEQ_FALSE_RETRY"
        );
        let other = Print {
            principal: Principal::Sys(5),
            ..print(1)
        };
        assert_eq!(ok(slot.begin(1, other, false)), "NFS4ERR_SEQ_FALSE_RETRY");
        assert_eq!(ok(slot.begin(3, print(1), false)), "NFS4ERR_SEQ_MISORDERED");
        assert_eq!(ok(slot.begin(2, print(2), false)), "new");
    }

    #[test]
    fn numbers_wrap_around() {
        let mut slot = Slot {
            sequence: u32::MAX,
            ..Slot::default()
        };
        assert_eq!(ok(slot.begin(0, print(1), true)), "new");
        slot.end(Some((b"x", None)));
        assert_eq!(ok(slot.begin(0, print(1), true)), "again");
        assert_eq!(ok(slot.begin(1, print(1), true)), "new");
    }

    #[test]
    fn what_is_kept() {
        let long = vec![7; SMALL + 4];
        let mut slot = Slot::default();
        let mut sequence = 0;
        let mut run = |keep, bytes: &[u8], payload| {
            sequence += 1;
            assert_eq!(ok(slot.begin(sequence, print(1), keep)), "new");
            slot.end(Some((bytes, payload)));
            match slot.begin(sequence, print(1), keep) {
                Ok(Seen::Again(reply)) => Some(reply.to_vec()),
                _ => None,
            }
        };
        assert_eq!(run(false, b"tiny", None).as_deref(), Some(&b"tiny"[..]));
        assert_eq!(run(false, &long, None), None);
        assert_eq!(run(true, &long, None).as_deref(), Some(&long[..]));
        assert_eq!(run(false, b"read", Some(&b"data"[..])), None);
        let flat = run(true, b"read", Some(&b"abcde"[..]));
        assert_eq!(flat.as_deref(), Some(&b"readabcde\0\0\0"[..]));
    }
}
