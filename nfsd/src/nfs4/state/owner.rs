//! Open-owners and lock-owners (RFC 8881 8.1, 9.1; RFC 7530 9.1.3), and the sequence of requests an
//! owner makes in version 4.0 (RFC 7530 9.1.7 to 9.1.11): one at a time, the last answer kept.

use std::sync::Arc;

use vfs::order::Turn;

use crate::nfs4::Op4;
use crate::nfs4::status::Nfsstat4;

/// Longest answer kept for a retransmission: an OPEN with a delegation is the longest there is. Of a
/// longer one only the status is.
pub const ANSWER_MAX: usize = 512;

/// The last answer an owner got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of which operation it is: an answer is never given to another one.
    pub op: Op4,
    /// Its status.
    pub status: Nfsstat4,
    /// The results that followed the status.
    pub body: Box<[u8]>,
    /// The current filehandle it left, of OPEN.
    pub fh: Option<Box<[u8]>>,
    /// Which request it answered: for OPENs of an owner nobody has confirmed.
    pub request: u64,
}

/// What a `seqid` makes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the next one.
    Next,
    /// It is the last one again.
    Again(Answer),
}

/// Requests of one owner in version 4.0.
#[derive(Default)]
pub struct Sequence {
    /// Of the last request that counted; `None` before the first.
    last: Option<u32>,
    answer: Option<Answer>,
}

impl Sequence {
    /// A sequence that begins with `seqid`.
    #[must_use]
    pub fn starting_at(seqid: u32) -> Self {
        Sequence {
            last: Some(seqid.wrapping_sub(1)),
            answer: None,
        }
    }

    /// The place of a request with `seqid` in the sequence.
    ///
    /// # Errors
    /// `BAD_SEQID`: neither the next one nor the last one again, or the last one was another operation.
    pub fn step(&self, op: Op4, seqid: u32) -> Result<Step, Nfsstat4> {
        let Some(last) = self.last else {
            return Ok(Step::Next);
        };
        if seqid == last.wrapping_add(1) {
            return Ok(Step::Next);
        }
        let again = self.answer.as_ref();
        let again = again
            .filter(|answer| seqid == last && answer.op == op)
            .cloned();
        again.map(Step::Again).ok_or(Nfsstat4::BadSeqid)
    }

    /// The last answer, if it was to this request.
    #[must_use]
    pub fn answered(&self, seqid: u32, request: u64) -> Option<&Answer> {
        let answer = self.answer.as_ref();
        answer.filter(|a| self.last == Some(seqid) && a.request == request)
    }

    /// The request of `seqid` is answered.
    pub fn done(&mut self, seqid: u32, mut answer: Answer) {
        if !counts(answer.status) {
            return;
        }
        if answer.body.len() > ANSWER_MAX {
            answer.body = Box::default();
            answer.status = Nfsstat4::Resource;
        }
        self.last = Some(seqid);
        self.answer = Some(answer);
    }
}

/// Whether a request of this outcome uses its `seqid` up (RFC 7530 9.1.7).
#[must_use]
pub const fn counts(status: Nfsstat4) -> bool {
    use Nfsstat4 as S;
    !matches!(
        status,
        S::StaleClientid
            | S::StaleStateid
            | S::BadStateid
            | S::BadSeqid
            | S::Badxdr
            | S::Resource
            | S::Nofilehandle
            | S::Moved
    )
}

/// Who opens files.
pub struct OpenOwner {
    /// Its name, unique in its client.
    pub name: Arc<[u8]>,
    /// Version 4.0: the client has confirmed it (RFC 7530 16.18.5).
    pub confirmed: bool,
    /// Version 4.0: order of its requests.
    pub sequence: Sequence,
    /// Version 4.0: held while a request of it runs.
    pub turn: Turn,
    /// What it has open.
    pub opens: u32,
    /// Version 4.0: what it closed last, whose stateid a retransmission still names.
    pub closed: Option<u32>,
    /// Version 4.0: moves with each request, so that it is known whether it has been idle since.
    pub stamp: u64,
}

impl OpenOwner {
    /// An owner with nothing open.
    #[must_use]
    pub fn new(name: Arc<[u8]>, confirmed: bool) -> Self {
        OpenOwner {
            name,
            confirmed,
            sequence: Sequence::default(),
            turn: Turn::default(),
            opens: 0,
            closed: None,
            stamp: 0,
        }
    }
}

/// Who locks byte ranges. It is there as long as it has locks, or waits for some.
pub struct LockOwner {
    /// Its name, unique in its client.
    pub name: Arc<[u8]>,
    /// Version 4.0: order of its requests.
    pub sequence: Sequence,
    /// Keys of its sets of locks, one for each open it locks under.
    pub sets: Vec<u32>,
    /// Places in lines.
    pub waits: u32,
}

impl LockOwner {
    /// An owner with nothing locked.
    #[must_use]
    pub fn new(name: Arc<[u8]>) -> Self {
        LockOwner {
            name,
            sequence: Sequence::default(),
            sets: Vec::new(),
            waits: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Nfsstat4, len: usize) -> Answer {
        Answer {
            op: Op4::Open,
            status,
            body: vec![7; len].into(),
            fh: None,
            request: 1,
        }
    }

    #[test]
    fn next_again_or_bad() {
        let mut sequence = Sequence::default();
        assert_eq!(
            sequence.step(Op4::Open, u32::MAX),
            Ok(Step::Next),
            "starts anywhere"
        );
        sequence.done(u32::MAX, answer(Nfsstat4::Ok, 8));
        assert_eq!(sequence.step(Op4::Open, 0), Ok(Step::Next));
        let again = sequence.step(Op4::Open, u32::MAX);
        assert_eq!(again, Ok(Step::Again(answer(Nfsstat4::Ok, 8))));
        for bad in [1, u32::MAX - 1] {
            assert_eq!(sequence.step(Op4::Open, bad), Err(Nfsstat4::BadSeqid));
        }
        // Another operation does not get that answer.
        assert_eq!(sequence.step(Op4::Close, u32::MAX), Err(Nfsstat4::BadSeqid));
        // A refusal that does not count leaves all as it was.
        sequence.done(0, answer(Nfsstat4::BadStateid, 0));
        assert_eq!(sequence.step(Op4::Open, 0), Ok(Step::Next));
        sequence.done(0, answer(Nfsstat4::Denied, 40));
        let again = sequence.step(Op4::Open, 0);
        assert_eq!(again, Ok(Step::Again(answer(Nfsstat4::Denied, 40))));
        assert!(sequence.answered(0, 1).is_some());
        assert!(sequence.answered(0, 2).is_none() && sequence.answered(1, 1).is_none());
    }

    #[test]
    fn a_sequence_that_starts_somewhere() {
        let sequence = Sequence::starting_at(0);
        assert_eq!(sequence.step(Op4::Open, 0), Ok(Step::Next));
        assert_eq!(sequence.step(Op4::Open, 1), Err(Nfsstat4::BadSeqid));
        // Nothing has been answered yet.
        assert_eq!(sequence.step(Op4::Open, u32::MAX), Err(Nfsstat4::BadSeqid));
    }

    #[test]
    fn long_answers_are_not_kept() {
        let mut sequence = Sequence::default();
        sequence.done(5, answer(Nfsstat4::Ok, ANSWER_MAX + 1));
        let again = sequence.step(Op4::Open, 5);
        assert_eq!(again, Ok(Step::Again(answer(Nfsstat4::Resource, 0))));
    }
}
