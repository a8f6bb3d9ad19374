//! The pseudo file system (RFC 8881 7.3): read-only directories from `/` down to every export, so that NFSv4 clients,
//! which have no MOUNT, find them by LOOKUP.
//!
//! What a client sees depends on what it may use: a name leads to an export it may use, or to directories that lead to
//! one, or it is not there. So every directory above an export exists here, also where another export covers it: who may
//! use the outer export finds the inner one through it ([`crate::junction`]), everybody else finds it here.
//!
//! A directory's id is a hash of its path and nothing else: file handles, file ids and READDIR cookies made of it stay
//! good over restarts and reloads. `fsid=0` (exports(5)) makes an export the root of what its clients see.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use siphasher::sip::SipHasher24;

use crate::export::Export;
use crate::export::fsid::Fsid;
use crate::finding::{Findings, Place};

/// The fsid (RFC 8881 5.8.1.9) of the pseudo file system, major and minor. Real file systems have minor 0.
pub const FSID: (u64, u64) = (0, 1);

/// READDIR cookies below this one are not for entries (RFC 8881 18.23.3).
const FIRST_COOKIE: u64 = 3;

/// Whether the client asking may use an export.
pub type Allowed<'a> = &'a dyn Fn(u32) -> bool;

/// What a name in the pseudo file system leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A pseudo directory, by its id.
    Node(u64),
    /// The root of an export.
    Export(u32),
}

/// A directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// One component, any bytes but NUL and `/`.
    pub name: &'a [u8],
    /// Where the next page begins; good for ever.
    pub cookie: u64,
    /// The `fileid` of a pseudo directory, the `mounted_on_fileid` of an export (RFC 8881 5.8.2.23).
    pub fileid: u64,
    /// What it is.
    pub target: Target,
}

#[derive(Debug)]
struct Child {
    name: Box<[u8]>,
    export: Option<u32>,
}

#[derive(Debug)]
struct Node {
    parent: Option<u64>,
    /// The export of this very path.
    export: Option<u32>,
    /// By id, which is the order of READDIR.
    children: BTreeMap<u64, Child>,
    /// Every export further down.
    below: Vec<u32>,
}

impl Node {
    fn new(parent: Option<u64>) -> Self {
        Node {
            parent,
            export: None,
            children: BTreeMap::new(),
            below: Vec::new(),
        }
    }

    fn visible(&self, allowed: Allowed<'_>) -> bool {
        self.below.iter().any(|export| allowed(*export))
    }
}

/// Where an export stands in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The id of its path: what the directory it covers has as `fileid`.
    pub fileid: u64,
    /// The directory above it; `None` for an export of `/`.
    pub parent: Option<u64>,
}

/// The tree. Immutable: a reload builds a new one.
#[derive(Debug)]
pub struct PseudoFs {
    nodes: HashMap<u64, Node>,
    exports: HashMap<u32, Standing>,
    /// The exports that are the root for those who may use them, first choice first.
    tops: Vec<u32>,
    change: u64,
}

/// The id of the directory `/`.
pub fn root_id() -> u64 {
    id_of(0, b"/")
}

/// The id of a name in a directory. 63 bits, as some clients hand cookies on as signed offsets.
fn id_of(parent: u64, name: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(b"pseudo ");
    hasher.write(&parent.to_be_bytes());
    hasher.write(name);
    (hasher.finish() & (u64::MAX >> 1)).max(FIRST_COOKIE)
}

/// The id of the directory `path`, whether it is in a tree or not.
pub fn path_id(path: &Path) -> u64 {
    components(path).fold(root_id(), id_of)
}

impl PseudoFs {
    /// The tree down to `exports`. `change` is its change attribute, and the nanoseconds since the epoch at which it
    /// came to be: a tree that differs from the one before must be given a larger one.
    ///
    /// Two paths with one id are an error in `found`; the tree must not be used then.
    pub fn build(exports: &[Export], change: u64, found: &mut Findings) -> Self {
        Self::build_with(exports, change, found, id_of)
    }

    fn build_with(
        exports: &[Export],
        change: u64,
        found: &mut Findings,
        id_of: fn(u64, &[u8]) -> u64,
    ) -> Self {
        let mut names: HashMap<u64, (u64, &[u8])> = HashMap::from([(root_id(), (0, &b"/"[..]))]);
        let mut nodes = HashMap::from([(root_id(), Node::new(None))]);
        let mut standings = HashMap::new();
        for export in exports {
            let mut standing = Standing {
                fileid: root_id(),
                parent: None,
            };
            for name in components(&export.path) {
                let (parent, id) = (standing.fileid, id_of(standing.fileid, name));
                if *names.entry(id).or_insert((parent, name)) != (parent, name) {
                    collision(export, id, found);
                    break;
                }
                let above = standing.parent;
                let dir = nodes.entry(parent).or_insert_with(|| Node::new(above));
                dir.below.push(export.id);
                dir.children.entry(id).or_insert_with(|| Child {
                    name: name.into(),
                    export: None,
                });
                standing = Standing {
                    fileid: id,
                    parent: Some(parent),
                };
            }
            standings.insert(export.id, standing);
        }
        for (export, standing) in &standings {
            if let Some(node) = nodes.get_mut(&standing.fileid) {
                node.export = Some(*export);
            }
            let parent = standing.parent.and_then(|parent| nodes.get_mut(&parent));
            if let Some(child) = parent.and_then(|p| p.children.get_mut(&standing.fileid)) {
                child.export = Some(*export);
            }
        }
        let marked = exports.iter().filter(|e| e.fsid == Some(Fsid::ROOT));
        let slash = exports.iter().filter(|e| e.path == Path::new("/"));
        PseudoFs {
            nodes,
            exports: standings,
            tops: marked.chain(slash).map(|e| e.id).collect(),
            change,
        }
    }

    /// What PUTROOTFH leads to: the export marked `fsid=0`, an export of `/`, or the pseudo directory `/`, which is
    /// there for everybody.
    pub fn root(&self, allowed: Allowed<'_>) -> Target {
        let top = self.tops.iter().find(|export| allowed(**export));
        top.map_or(Target::Node(root_id()), |export| Target::Export(*export))
    }

    /// Whether a directory exists and leads anywhere for this client; `/` always does. Otherwise its handle is stale.
    pub fn visible(&self, node: u64, allowed: Allowed<'_>) -> bool {
        let found = self.nodes.get(&node);
        found.is_some_and(|n| node == root_id() || n.visible(allowed))
    }

    fn target(&self, id: u64, export: Option<u32>, allowed: Allowed<'_>) -> Option<Target> {
        if let Some(export) = export.filter(|export| allowed(*export)) {
            return Some(Target::Export(export));
        }
        let node = self.nodes.get(&id)?;
        node.visible(allowed).then_some(Target::Node(id))
    }

    /// LOOKUP. `None` is NOENT: the name is not there, or not for this client, which cannot tell.
    pub fn lookup(&self, node: u64, name: &[u8], allowed: Allowed<'_>) -> Option<Target> {
        let id = id_of(node, name);
        let child = self.nodes.get(&node)?.children.get(&id)?;
        let same = *child.name == *name;
        same.then(|| self.target(id, child.export, allowed))?
    }

    /// LOOKUPP. `None` is NOENT: the root, or a directory that is gone.
    pub fn parent(&self, node: u64, allowed: Allowed<'_>) -> Option<Target> {
        let parent = self.nodes.get(&node)?.parent?;
        if parent == root_id() {
            return Some(self.root(allowed));
        }
        let export = self.nodes.get(&parent)?.export;
        self.target(parent, export, allowed)
    }

    /// READDIR: the entries after `cookie` (0 from the start), without `.` and `..`. A page goes on where the last one
    /// ended whatever was loaded in between.
    pub fn entries<'a>(
        &'a self,
        node: u64,
        cookie: u64,
        allowed: Allowed<'a>,
    ) -> impl Iterator<Item = Entry<'a>> {
        let after = (Bound::Excluded(cookie), Bound::Unbounded);
        let dir = self.nodes.get(&node).into_iter();
        let children = dir.flat_map(move |dir| dir.children.range(after));
        children.filter_map(move |(&id, child)| {
            Some(Entry {
                name: &child.name,
                cookie: id,
                fileid: id,
                target: self.target(id, child.export, allowed)?,
            })
        })
    }

    /// Where an export stands.
    pub fn standing(&self, export: u32) -> Option<Standing> {
        self.exports.get(&export).copied()
    }

    /// The change attribute of every directory; also their times, in nanoseconds since the epoch.
    pub fn change(&self) -> u64 {
        self.change
    }

    /// Number of directories.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

fn components(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    })
}

fn collision(export: &Export, id: u64, found: &mut Findings) {
    let path = export.path.display().to_string();
    let at = Place {
        file: &path,
        line: 0,
    };
    found.error(
        at,
        "a directory on the way has the id of another one in the pseudo file system",
        &format!("{id:#018x}"),
        "rename one of its directories",
    );
}

#[cfg(test)]
mod tests;
