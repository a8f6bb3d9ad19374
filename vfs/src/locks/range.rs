//! Byte-range locks with the semantics of POSIX (fcntl(2), RFC 8881 18.10, NLM_LOCK): an owner's new
//! lock replaces what it held there, neighbours of one kind are one, and only others conflict.

use std::collections::BTreeMap;
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{ClientId, Holder, OwnerId};

/// Most ranges one owner may hold on one file.
pub const OWNER_RANGES_MAX: usize = 1 << 14;
/// Most ranges all owners together may hold on one file.
pub const FILE_RANGES_MAX: usize = 1 << 16;

/// A range of bytes, never empty: from a first to a last offset, up to 2^64 - 1, which is the end of
/// every file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    first: u64,
    last: u64,
}

/// How a range is locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
}

impl Range {
    /// From an offset and a length as NFSv4 has them, where a length of 2^64 - 1 means up to the end
    /// of the file. `None`, for `NFS4ERR_INVAL`, without a length or when both together are 2^64
    /// or more (RFC 8881 18.10.3).
    pub fn new(offset: u64, length: u64) -> Option<Self> {
        if length == u64::MAX {
            return Some(Range::from(offset));
        }
        let end = offset.checked_add(length)?;
        let last = end.checked_sub(1).filter(|last| *last >= offset)?;
        Some(Range {
            first: offset,
            last,
        })
    }

    /// From an offset to the end of the file: NLM's length of zero.
    pub fn from(offset: u64) -> Self {
        Range {
            first: offset,
            last: u64::MAX,
        }
    }

    /// First byte.
    pub fn offset(&self) -> u64 {
        self.first
    }

    /// Bytes; 2^64 - 1 for all up to the end of the file.
    pub fn length(&self) -> u64 {
        match self.last {
            u64::MAX => u64::MAX,
            last => last - self.first + 1,
        }
    }

    /// Last byte, 2^64 - 1 for the end of the file.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Some byte is in both.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Every byte of `other` is in this one.
    pub fn contains(&self, other: &Range) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// What of it lies before and behind `other`, which it overlaps.
    pub(super) fn without(&self, other: &Range) -> impl Iterator<Item = Range> + use<> {
        let left = other
            .first
            .checked_sub(1)
            .map(|last| Range { last, ..*self });
        let right = other
            .last
            .checked_add(1)
            .map(|first| Range { first, ..*self });
        let sides = left.into_iter().chain(right);
        sides.filter(|side| side.first <= side.last)
    }

    /// 0 for a byte, else k for a distance between first and last from 2^(k-1) to 2^k - 1.
    fn size(&self) -> u8 {
        (u64::BITS - (self.last - self.first).leading_zeros()) as u8
    }
}

impl LockKind {
    /// Two locks of different owners on the same byte exclude each other.
    pub fn conflicts(self, other: LockKind) -> bool {
        self == LockKind::Write || other == LockKind::Write
    }
}

/// A range held, or asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which bytes.
    pub range: Range,
    /// How.
    pub kind: LockKind,
}

/// The last byte that can be locked on the host (`off_t`): what NFS has beyond that, only the table knows.
const HOST_LAST: u64 = i64::MAX as u64;

/// A part of a file, and how all owners together have it locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) range: Range,
    pub(super) kind: Option<LockKind>,
}

/// Adds a part behind the others. `end` is the first byte that is not in it.
fn append(pieces: &mut Vec<Piece>, first: u64, end: u64, kind: Option<LockKind>) {
    let Some(last) = end.checked_sub(1).filter(|last| *last >= first) else {
        return;
    };
    match pieces.last_mut() {
        Some(piece) if piece.kind == kind => piece.range.last = last,
        _ => pieces.push(Piece {
            range: Range { first, last },
            kind,
        }),
    }
}

/// The same with everything locked at least like this.
pub(super) fn raised(pieces: &[Piece], kind: LockKind) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (Range { first, last }, kind) = (piece.range, piece.kind.max(Some(kind)));
        append(&mut out, first, last + 1, kind);
    }
    out
}

/// No room for another range.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
struct Owner {
    client: ClientId,
    guards: u32,
    /// When it got the first of what it holds.
    since: Option<Instant>,
    /// Sorted and apart; those that touch differ in kind.
    held: Vec<Held>,
}

#[derive(Clone, Copy)]
struct Indexed {
    last: u64,
    kind: LockKind,
    client: ClientId,
}

/// The locked ranges of one file. Beside each owner's there is one index of all, by size, then first
/// byte: ranges of about one size that meet a given one begin close to it.
#[derive(Default)]
pub(super) struct Ranges {
    owners: HashMap<OwnerId, Owner, FixedState>,
    index: BTreeMap<(u8, u64, OwnerId), Indexed>,
}

/// An owner's ranges from `held` that `range` touches, and what is to stand in their place when
/// `range` becomes `kind`, or free.
fn replace(
    held: &[Held],
    range: Range,
    kind: Option<LockKind>,
) -> (std::ops::Range<usize>, Vec<Held>) {
    let before = range.first.saturating_sub(1);
    let after = range.last.saturating_add(1);
    let from = held.partition_point(|h| h.range.last < before);
    let to = from + held[from..].partition_point(|h| h.range.first <= after);
    let mut new = range;
    let (mut left, mut right) = (None, None);
    for h in &held[from..to] {
        if kind == Some(h.kind) {
            new.first = new.first.min(h.range.first);
            new.last = new.last.max(h.range.last);
            continue;
        }
        // The subtractions cannot wrap: there is a byte before, and one behind.
        if h.range.first < range.first {
            let last = h.range.last.min(range.first - 1);
            let range = Range { last, ..h.range };
            left = Some(Held { range, ..*h });
        }
        if h.range.last > range.last {
            let first = h.range.first.max(range.last + 1);
            let range = Range { first, ..h.range };
            right = Some(Held { range, ..*h });
        }
    }
    let new = kind.map(|kind| Held { range: new, kind });
    (from..to, left.into_iter().chain(new).chain(right).collect())
}

fn kind_of(readers: usize, writers: usize) -> Option<LockKind> {
    match (readers, writers) {
        (_, 1..) => Some(LockKind::Write),
        (1.., _) => Some(LockKind::Read),
        _ => None,
    }
}

impl Ranges {
    /// Ranges held.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Nobody locks anything.
    pub(super) fn is_free(&self) -> bool {
        self.index.is_empty()
    }

    /// Nobody locks anything or is about to.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// An owner comes, with one guard more.
    pub(super) fn enter(&mut self, holder: Holder) {
        let owner = self.owners.entry(holder.owner).or_insert(Owner {
            client: holder.client,
            guards: 0,
            since: None,
            held: Vec::new(),
        });
        owner.guards += 1;
    }

    /// From the first to the last byte of what an owner holds.
    pub(super) fn hull(&self, owner: OwnerId) -> Option<Range> {
        let held = self.held(owner);
        Some(Range {
            first: held.first()?.range.first,
            last: held.last()?.range.last,
        })
    }

    /// One of an owner's guards goes: with the last go its ranges.
    pub(super) fn leave(&mut self, owner: OwnerId) {
        let Some(entry) = self.owners.get_mut(&owner) else {
            return;
        };
        entry.guards -= 1;
        if entry.guards > 0 {
            return;
        }
        for h in &entry.held {
            self.index.remove(&(h.range.size(), h.range.first, owner));
        }
        self.owners.remove(&owner);
    }

    /// An owner got a lock at this time.
    pub(super) fn stamp(&mut self, owner: OwnerId, now: Instant) {
        if let Some(entry) = self.owners.get_mut(&owner) {
            entry.since.get_or_insert(now);
        }
    }

    /// Since when an owner has been holding something.
    pub(super) fn since(&self, owner: OwnerId) -> Option<Instant> {
        let entry = self.owners.get(&owner)?;
        entry.since.filter(|_| !entry.held.is_empty())
    }

    /// What an owner holds, sorted.
    pub(super) fn held(&self, owner: OwnerId) -> &[Held] {
        self.owners.get(&owner).map_or(&[], |o| &o.held)
    }

    /// Makes `range` the owner's, or nobody's. Whether others allow that is asked before.
    pub(super) fn set(
        &mut self,
        owner: OwnerId,
        range: Range,
        kind: Option<LockKind>,
    ) -> Result<(), Full> {
        let Some(entry) = self.owners.get_mut(&owner) else {
            return Ok(());
        };
        let (old, new) = replace(&entry.held, range, kind);
        let more = new.len().saturating_sub(old.len());
        let full =
            entry.held.len() + more > OWNER_RANGES_MAX || self.index.len() + more > FILE_RANGES_MAX;
        if more > 0 && full {
            return Err(Full);
        }
        for h in &entry.held[old.clone()] {
            self.index.remove(&(h.range.size(), h.range.first, owner));
        }
        for h in &new {
            let indexed = Indexed {
                last: h.range.last,
                kind: h.kind,
                client: entry.client,
            };
            self.index
                .insert((h.range.size(), h.range.first, owner), indexed);
        }
        entry.held.splice(old, new);
        if entry.held.is_empty() {
            entry.since = None;
        }
        Ok(())
    }

    /// The first of others' ranges that excludes `wanted`: the one that begins lowest.
    pub(super) fn conflict(&self, owner: OwnerId, wanted: Held) -> Option<(Holder, Held)> {
        let mut lowest: Option<(Holder, Held)> = None;
        let mut size = self.index.keys().next().map(|(size, ..)| *size);
        while let Some(this) = size {
            if let Some(found) = self.conflict_of_size(this, owner, wanted)
                && lowest.is_none_or(|(holder, held)| {
                    (found.1.range.first, found.0.owner) < (held.range.first, holder.owner)
                })
            {
                lowest = Some(found);
            }
            let next = (this + 1, 0, OwnerId(0))..;
            size = self.index.range(next).next().map(|((size, ..), _)| *size);
        }
        lowest
    }

    fn conflict_of_size(&self, size: u8, owner: OwnerId, wanted: Held) -> Option<(Holder, Held)> {
        self.of_size(size, wanted.range)
            .find(|((.., theirs), held)| *theirs != owner && held.kind.conflicts(wanted.kind))
            .map(|(&(_, first, theirs), held)| {
                let holder = Holder {
                    client: held.client,
                    owner: theirs,
                };
                let range = Range {
                    first,
                    last: held.last,
                };
                let kind = held.kind;
                (holder, Held { range, kind })
            })
    }

    /// Others that hold what excludes `wanted`, at most `most`.
    pub(super) fn in_the_way(&self, owner: OwnerId, wanted: Held, most: usize) -> Vec<Holder> {
        let Held { range, kind } = wanted;
        let meets = |o: &Owner| {
            let from = o.held.partition_point(|h| h.range.last < range.first);
            let mut met = o.held[from..]
                .iter()
                .take_while(|h| h.range.first <= range.last);
            met.any(|h| h.kind.conflicts(kind))
        };
        let others = self.owners.iter().filter(|(theirs, _)| **theirs != owner);
        others
            .filter(|(_, o)| meets(o))
            .take(most)
            .map(|(owner, o)| Holder {
                client: o.client,
                owner: *owner,
            })
            .collect()
    }

    /// How all owners together have a range locked, and `more`, as far as the host can lock it: parts that
    /// touch differ in kind.
    pub(super) fn cover(&self, range: Range, more: impl Iterator<Item = Held>) -> Vec<Piece> {
        let (first, end) = (range.first, range.last.min(HOST_LAST) + 1);
        let mut edges = Vec::new();
        let more = more.map(|held| (held.range, held.kind));
        for (held, kind) in self.within(range).into_iter().chain(more) {
            let (begin, behind) = (held.first.max(first), held.last.min(end - 1) + 1);
            if begin < behind {
                edges.push((begin, kind, true));
                edges.push((behind, kind, false));
            }
        }
        edges.sort_unstable_by_key(|(at, ..)| *at);
        let (mut pieces, mut at) = (Vec::new(), first);
        let (mut readers, mut writers) = (0_usize, 0_usize);
        for (edge, kind, begins) in edges {
            append(&mut pieces, at, edge, kind_of(readers, writers));
            at = edge;
            let count = match kind {
                LockKind::Read => &mut readers,
                LockKind::Write => &mut writers,
            };
            *count = if begins { *count + 1 } else { *count - 1 };
        }
        append(&mut pieces, at, end, kind_of(readers, writers));
        pieces
    }

    /// Every range held that overlaps `range`, in no order.
    fn within(&self, range: Range) -> Vec<(Range, LockKind)> {
        let mut found = Vec::new();
        let mut size = self.index.keys().next().map(|(size, ..)| *size);
        while let Some(this) = size {
            let of_size = self.of_size(this, range);
            found.extend(of_size.map(|(&(_, first, _), held)| {
                let last = held.last;
                (Range { first, last }, held.kind)
            }));
            let next = (this + 1, 0, OwnerId(0))..;
            size = self.index.range(next).next().map(|((size, ..), _)| *size);
        }
        found
    }

    /// Of one size those that overlap `range`, by their first byte.
    fn of_size(
        &self,
        size: u8,
        range: Range,
    ) -> impl Iterator<Item = (&(u8, u64, OwnerId), &Indexed)> {
        let reach = u64::MAX
            .checked_shr(u64::BITS - u32::from(size))
            .unwrap_or(0);
        let from = (size, range.first.saturating_sub(reach), OwnerId(0));
        let to = (size, range.last, OwnerId(u64::MAX));
        self.index
            .range(from..=to)
            .filter(move |(_, held)| held.last >= range.first)
    }

    /// Somebody else than `client` holds a lock, or at least one for writing.
    pub(super) fn any_other(&self, client: ClientId, writing: bool) -> bool {
        let wanted = |h: &Held| !writing || h.kind == LockKind::Write;
        self.owners
            .values()
            .any(|o| o.client != client && o.held.iter().any(wanted))
    }
}

#[cfg(test)]
mod tests;
