//! COMPOUND: one operation after the other until one fails (RFC 8881 16.2, RFC 7530 15.2).

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::MINOR_MAX;
use super::Op4;
use super::op;
use super::state::client::{Client, Principal};
use super::state::session::{Back, Session};
use super::state::slot::{Print, SlotGuard};
use super::status::Nfsstat4;
use super::types::{Stateid4, Tag4};
use crate::cx::{Cx, Opened, REPLY_MAX, Reply};
use crate::rpc::msg::Refusal;
use crate::rpc::record::MARK_LEN;
use crate::xdr::{Dec, XdrError};

/// Most operations of one COMPOUND outside a session.
pub const OPS_MAX: u32 = 128;
/// Beginning of a request that tells it from others.
const PRINT_BYTES: usize = 256;

/// What a filehandle names.
#[derive(Clone)]
pub enum Place {
    /// A file of an export.
    File(Opened),
    /// A directory of the pseudo file system above the exports.
    Pseudo(u64),
}

/// The session slot a request runs in.
pub struct Sequenced {
    /// The slot; it is free again when this is gone.
    pub slot: SlotGuard,
}

/// One COMPOUND while it runs.
pub struct Compound<'c> {
    /// The request.
    pub cx: &'c Cx,
    /// Minor version.
    pub minor: u32,
    /// Current filehandle.
    pub current: Option<Place>,
    /// Saved filehandle.
    pub saved: Option<Place>,
    /// Current stateid (4.1).
    pub stateid: Option<Stateid4>,
    /// Saved stateid (4.1).
    pub saved_stateid: Option<Stateid4>,
    /// The slot, once SEQUENCE has run.
    pub sequenced: Option<Sequenced>,
    /// The whole reply as it was sent before: SEQUENCE found a retransmission.
    pub replay: Option<Arc<[u8]>>,
    /// Position of the operation that runs, from 0.
    pub at: u32,
    /// How many operations the request has.
    pub ops: u32,
    /// Most bytes the results may take, counted from the status of the COMPOUND.
    pub limit: usize,
    /// Status of results that are longer.
    pub too_big: Nfsstat4,
    /// The operation that follows the one that runs, if that is known.
    pub next: Option<Op4>,
    /// The current filehandle is of this export, which may not be used with the flavor of the request.
    pub barred: Option<u32>,
    /// The last export found to be such.
    pub wrong_flavor: Cell<Option<u32>>,
    /// No operation runs any more: the status of the next one.
    pub refuse: Option<Nfsstat4>,
    /// An operation that modifies was begun.
    pub modified: bool,
    /// Tells the request from others, see [`Compound::print`].
    sum: u64,
    /// Where in the reply the results begin.
    start: usize,
}

impl<'c> Compound<'c> {
    fn new(cx: &'c Cx, minor: u32, ops: u32, start: usize, sum: u64) -> Self {
        Compound {
            cx,
            minor,
            current: None,
            saved: None,
            stateid: None,
            saved_stateid: None,
            sequenced: None,
            replay: None,
            at: 0,
            ops,
            limit: REPLY_MAX,
            // The same in an older word.
            too_big: match minor {
                0 => Nfsstat4::Resource,
                _ => Nfsstat4::RepTooBig,
            },
            next: None,
            barred: None,
            wrong_flavor: Cell::new(None),
            refuse: None,
            modified: false,
            sum,
            start,
        }
    }

    /// Who asks, as far as state is concerned.
    pub fn principal(&self) -> Principal {
        Principal::from(&self.cx.identity)
    }

    /// The session's client.
    ///
    /// # Errors
    /// `OP_NOT_IN_SESSION`.
    pub fn client(&self) -> Result<&Arc<Client>, Nfsstat4> {
        let session = self.session().ok_or(Nfsstat4::OpNotInSession)?;
        Ok(&session.client)
    }

    /// The session the request is in.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.sequenced.as_ref().map(|s| s.slot.session())
    }

    /// No operation follows the one that runs.
    pub fn is_last(&self) -> bool {
        self.at + 1 == self.ops
    }

    /// The connection, to send callbacks over.
    pub fn back(&self) -> Option<Arc<dyn Back>> {
        Some(Arc::new(self.cx.back()))
    }

    /// What makes a retransmission the same request.
    pub fn print(&self) -> Print {
        Print {
            principal: self.principal(),
            ops: self.ops,
            sum: self.sum,
        }
    }

    /// Bytes of the request with its RPC header, without record marking (RFC 8881 18.36.3).
    pub fn request_bytes(&self) -> usize {
        // The buffer of a long record begins with the mark.
        self.cx.record.len().saturating_sub(MARK_LEN)
    }

    /// The reply may have so many bytes with its RPC header; the status of longer ones.
    pub fn limit_reply(&mut self, bytes: usize, status: Nfsstat4) {
        self.limit = bytes.saturating_sub(self.start).min(REPLY_MAX);
        self.too_big = status;
    }

    /// The current filehandle.
    ///
    /// # Errors
    /// `NOFILEHANDLE`; `WRONGSEC` where PUTFH has left that to the operation.
    pub fn place(&self) -> Result<&Place, Nfsstat4> {
        self.current.as_ref().ok_or(match self.barred {
            Some(_) => Nfsstat4::Wrongsec,
            None => Nfsstat4::Nofilehandle,
        })
    }

    /// The current filehandle as a file of an export.
    ///
    /// # Errors
    /// `NOFILEHANDLE`; `ROFS` on the pseudo file system, where nothing can be changed: operations that
    /// do not change anything look at [`Compound::place`] themselves.
    pub fn file(&self) -> Result<&Opened, Nfsstat4> {
        match self.place()? {
            Place::File(opened) => Ok(opened),
            Place::Pseudo(_) => Err(Nfsstat4::Rofs),
        }
    }

    /// The saved filehandle as a file of an export.
    ///
    /// # Errors
    /// As [`Compound::file`].
    pub fn saved_file(&self) -> Result<&Opened, Nfsstat4> {
        match self.saved.as_ref().ok_or(Nfsstat4::Nofilehandle)? {
            Place::File(opened) => Ok(opened),
            Place::Pseudo(_) => Err(Nfsstat4::Rofs),
        }
    }

    /// Another current filehandle; the current stateid belonged to the old one (RFC 8881 16.2.3.1.2).
    pub fn set_current(&mut self, place: Place) {
        self.current = Some(place);
        self.barred = None;
        self.stateid = None;
    }

    /// As [`Compound::set_current`], what PUTFH and the like found. That the flavor is wrong there is
    /// said by what follows if that takes a name, or asks for the flavors; if nothing follows, or
    /// another filehandle, nobody needs to know (RFC 8881 2.6.3.1.1).
    ///
    /// # Errors
    /// As it was found.
    pub fn put_current(&mut self, found: Result<Place, Nfsstat4>) -> Result<(), Nfsstat4> {
        let left = self.is_last()
            || matches!(
                self.next,
                Some(
                    Op4::Lookup
                        | Op4::Open
                        | Op4::Secinfo
                        | Op4::SecinfoNoName
                        | Op4::Putfh
                        | Op4::Putpubfh
                        | Op4::Putrootfh
                        | Op4::Restorefh
                )
            );
        match found {
            Ok(place) => self.set_current(place),
            Err(Nfsstat4::Wrongsec) if left => {
                (self.current, self.stateid) = (None, None);
                self.barred = self.wrong_flavor.get();
            }
            Err(status) => return Err(status),
        }
        Ok(())
    }

    /// Bytes of results that still fit.
    pub fn room(&self, out: &Reply) -> usize {
        self.limit.saturating_sub(self.used(out))
    }

    /// The results are longer than they may be.
    pub fn over(&self, out: &Reply) -> bool {
        self.used(out) > self.limit
    }

    fn used(&self, out: &Reply) -> usize {
        let payload = out.payload.as_ref().map_or(0, |data| data.len());
        out.bytes.len().saturating_sub(self.start) + payload.next_multiple_of(4)
    }
}

/// The minor version of a COMPOUND, if its arguments begin like one.
pub fn minor(mut args: Dec<'_>) -> Option<u32> {
    args.get::<Tag4<'_>>().ok()?;
    args.u32().ok()
}

/// Decodes and runs a COMPOUND; the results are appended to `reply`.
///
/// # Errors
/// `GarbageArgs` for a header that does not decode, `SystemErr` for one that cannot be answered.
pub async fn run(cx: &Cx, mut args: Dec<'_>, reply: &mut Reply) -> Result<(), Refusal> {
    let tag: Tag4<'_> = args.get()?;
    let minor = args.u32()?;
    let ops = args.u32()?;
    let sum = match minor {
        0 => 0,
        _ => sum(args.rest()),
    };
    let start = reply.bytes.len();
    let head = put_head(reply, tag);
    let count_at = head.map_err(|_| Refusal::SystemErr)?;
    let mut c = Compound::new(cx, minor, ops, start, sum);
    let (status, count) = match refuse(minor, ops) {
        Some(status) => (status, 0),
        None => run_ops(&mut c, &mut args, reply).await,
    };
    if let Some(sent) = c.replay.take() {
        reply.truncate(start);
        reply.bytes.extend_from_slice(&sent);
        return Ok(());
    }
    reply.patch(start, status.wire());
    reply.patch(count_at, count);
    finish(c, reply, start);
    Ok(())
}

/// Keeps the reply for a retransmission, in the slot or, without one, for the duplicate request cache.
fn finish(mut c: Compound<'_>, reply: &mut Reply, start: usize) {
    if c.minor == 0 {
        reply.unkept = !c.modified;
        if c.modified {
            reply.settle_payload();
        }
    }
    if let Some(sequenced) = c.sequenced.take() {
        let payload = reply.payload.as_ref().map(|payload| &payload[..]);
        let results = reply.bytes.get(start..).unwrap_or_default();
        sequenced.slot.complete(results, payload);
    }
}

/// Hash over length and beginning of a request's operations.
fn sum(ops: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write_usize(ops.len());
    hasher.write(ops.get(..PRINT_BYTES).unwrap_or(ops));
    hasher.finish()
}

/// Status, tag and number of results; where the number is.
fn put_head(reply: &mut Reply, tag: Tag4<'_>) -> Result<usize, XdrError> {
    let mut enc = reply.enc();
    enc.u32(0)?;
    enc.put(&tag)?;
    let count_at = enc.pos();
    enc.u32(0)?;
    Ok(count_at)
}

fn refuse(minor: u32, ops: u32) -> Option<Nfsstat4> {
    if minor > MINOR_MAX {
        return Some(Nfsstat4::MinorVersMismatch);
    }
    (minor == 0 && ops > OPS_MAX).then_some(Nfsstat4::Resource)
}

/// Runs operations until one fails. Its status, and how many have results.
async fn run_ops(c: &mut Compound<'_>, args: &mut Dec<'_>, out: &mut Reply) -> (Nfsstat4, u32) {
    while c.at < c.ops {
        // What follows a READ's data must come after it.
        out.settle_payload();
        let number = args.u32();
        let status = match number {
            Ok(number) => op::run(c, number, args, out).await,
            Err(_) => return (Nfsstat4::Badxdr, c.at),
        };
        c.at += 1;
        if status != Nfsstat4::Ok || c.replay.is_some() {
            return (status, c.at);
        }
    }
    (Nfsstat4::Ok, c.at)
}
