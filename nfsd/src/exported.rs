//! Everything made of the list of exports, as one value: a request sees the exports before a reload or those after it,
//! never some of both.

use std::collections::HashMap;
use std::sync::Arc;

use vfs::{KernelHandle, Vfs};

use crate::export::ExportTable;
use crate::fh::HandleKey;
use crate::finding::Findings;
use crate::junction::{Covered, Junctions};
use crate::nfs4::pseudo::{Allowed, PseudoFs, Target};
use crate::roots;
use crate::server::Root;

/// What is in force. Immutable; requests keep what they began with.
pub struct Exported {
    /// Grows with every reload, from 1; 0 is the empty one before the first.
    pub generation: u64,
    /// What is exported to whom.
    pub table: Arc<ExportTable>,
    /// Root directory of each export.
    pub roots: HashMap<u32, Root>,
    /// The way to them for NFSv4 clients.
    pub pseudo: PseudoFs,
    /// Exports below other exports.
    pub junctions: Junctions,
}

/// What a directory reached by LOOKUP in an export is for NFSv4 (see [`Exported::crossing`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// What it seems to be.
    Stay,
    /// The root of an export, or a directory of the pseudo file system that leads to one.
    Into(Target),
    /// Another file system that this client may not use (`NFS4ERR_ACCESS`).
    Refused,
}

/// What is above the root of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Above<'a> {
    /// Nothing: it is what PUTROOTFH leads to.
    Nothing,
    /// This directory of the pseudo file system.
    Pseudo(u64),
    /// The directory above this one, in another export.
    Covered(&'a Covered),
}

impl Default for Exported {
    fn default() -> Self {
        Exported {
            generation: 0,
            table: Arc::default(),
            roots: HashMap::new(),
            pseudo: PseudoFs::build(&[], 0, &mut Findings::new()),
            junctions: Junctions::default(),
        }
    }
}

impl Exported {
    /// Opens the exports of `table`, which are to follow `self` at `now`, in nanoseconds since the epoch. Must not be
    /// put in force when `found.has_errors()`.
    pub fn next(
        &self,
        vfs: &Arc<Vfs>,
        table: ExportTable,
        key: &HandleKey,
        now: u64,
        found: &mut Findings,
    ) -> Self {
        let before = self.pseudo.change();
        let change = if self.generation > 0 && *self.table == table {
            before
        } else {
            now.max(before + 1)
        };
        let roots = roots::open(vfs, &table, key, found);
        let pseudo = PseudoFs::build(table.exports(), change, found);
        let junctions = Junctions::find(table.exports(), &roots, found);
        Exported {
            generation: self.generation + 1,
            table: Arc::new(table),
            roots,
            pseudo,
            junctions,
        }
    }

    /// What a directory that LOOKUP or READDIR found in the export `outer` is. `fsid` and `handle` are those of the file
    /// found, `allowed` is asked only at a junction.
    ///
    /// As with the kernel's server a client that may not use the inner export stays in the outer one when both are on
    /// one file system: nothing there is hidden from it anyway. Another file system is refused, whatever the outer
    /// export would show: what a mount covers is not meant to be seen, nor is a mount whose export names others.
    pub fn crossing(
        &self,
        outer: u32,
        fsid: u64,
        handle: &KernelHandle,
        allowed: Allowed<'_>,
    ) -> Crossing {
        let Some(junction) = self.junctions.at(outer, fsid, handle) else {
            return Crossing::Stay;
        };
        let node = junction.node.filter(|n| self.pseudo.visible(*n, allowed));
        match (junction.inner, node) {
            (Some(inner), _) if allowed(inner) => Crossing::Into(Target::Export(inner)),
            (_, Some(node)) => Crossing::Into(Target::Node(node)),
            (Some(_), None) if junction.foreign => Crossing::Refused,
            _ => Crossing::Stay,
        }
    }

    /// Where LOOKUPP leads from the root of an export: up the way this client came down.
    pub fn above(&self, export: u32, allowed: Allowed<'_>) -> Above<'_> {
        if self.pseudo.root(allowed) == Target::Export(export) {
            return Above::Nothing;
        }
        let covered = self.junctions.covered_by(export);
        if let Some(covered) = covered.iter().find(|c| allowed(c.outer)) {
            return Above::Covered(covered);
        }
        let standing = self.pseudo.standing(export);
        match standing.and_then(|standing| standing.parent) {
            Some(parent) => Above::Pseudo(parent),
            None => Above::Nothing,
        }
    }

    /// The `mounted_on_fileid` of the root of an export (RFC 8881 5.8.2.23). `None` for the root of all, which is
    /// mounted on nothing: there it is the `fileid`.
    pub fn mounted_on(&self, export: u32, allowed: Allowed<'_>) -> Option<u64> {
        match self.above(export, allowed) {
            Above::Nothing => None,
            Above::Covered(covered) => Some(covered.fileid),
            Above::Pseudo(_) => self.pseudo.standing(export).map(|s| s.fileid),
        }
    }
}

#[cfg(test)]
mod tests;
