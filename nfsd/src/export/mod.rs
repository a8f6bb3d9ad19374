//! What is exported to whom: the table requests are checked against.
//!
//! [`ExportTable`] never changes; a reload builds a new one and swaps it in, and requests in flight keep the options
//! they matched by their `Arc`. Nothing here waits or touches the file system, except the [`names::Resolver`] that
//! [`load`] is given.

pub mod client;
pub mod fsid;
pub mod names;
pub mod options;
pub mod parse;
pub mod squash;

use crate::finding::{Findings, Place};
use client::{Client, Match, Matcher, Peer};
use fsid::Fsid;
use names::Resolver;
use options::Options;
use parse::Grant;
use siphasher::sip::SipHasher24;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One exported directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Names the export in file handles: a hash of `fsid=`, or of the path where none is given. The same after every
    /// restart, unique in the table.
    pub id: u32,
    /// Absolute path, one spelling.
    pub path: PathBuf,
    /// `fsid=`, if given.
    pub fsid: Option<Fsid>,
    /// Who may use it and how, in the order they are tried.
    pub clients: Vec<(Matcher, Arc<Options>)>,
}

impl Export {
    /// What `peer` may do here. Tries hosts, networks (longest prefix first), wildcards, everyone (exports(5)).
    pub fn access(&self, peer: &Peer<'_>) -> Access<'_> {
        for (matcher, options) in &self.clients {
            match matcher.matches(peer) {
                Match::Yes => return Access::Granted(options),
                Match::NeedsName => return Access::NeedsName,
                Match::No => {}
            }
        }
        Access::Denied
    }
}

/// What a peer may do with an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Use it with these options.
    Granted(&'a Arc<Options>),
    /// Nothing; also for exports that do not exist.
    Denied,
    /// That depends on the peer's host name: look it up ([`names::Names`]) and ask again.
    NeedsName,
}

impl<'a> Access<'a> {
    /// The options, if access is granted.
    pub fn granted(self) -> Option<&'a Arc<Options>> {
        match self {
            Access::Granted(options) => Some(options),
            Access::Denied | Access::NeedsName => None,
        }
    }
}

/// Answer to a path to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The export to use.
    Granted {
        /// The deepest export at or above the path that lets the peer in.
        export: &'a Export,
        /// What the peer may do with it.
        options: &'a Arc<Options>,
        /// The path below `export.path`, empty for the export itself. Not looked at: it may not exist.
        below: PathBuf,
    },
    /// The path is in an export, but the peer may use none of them (MNT3ERR_ACCES).
    Denied,
    /// No export at or above the path, or not a path (RFC 1813 5.2.1: MNT3ERR_ACCES too, so as not to tell them apart).
    NotExported,
    /// That depends on the peer's host name.
    NeedsName,
}

/// Everything exported. Immutable; the default exports nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportTable {
    exports: Vec<Export>,
    by_id: Vec<(u32, usize)>,
}

/// Reads exports(5) text and resolves its host names. `first_line` is the number of the first line of `text` in `file`.
///
/// The table must not be used when `found.has_errors()`.
pub fn load(
    file: &str,
    first_line: u32,
    text: &[u8],
    resolver: &dyn Resolver,
    found: &mut Findings,
) -> ExportTable {
    let grants = parse::parse(file, first_line, text, found);
    ExportTable::build(file, grants, resolver, found)
}

impl ExportTable {
    /// Groups grants by path, resolves host names and checks what can only be seen across entries.
    pub fn build(
        file: &str,
        grants: Vec<Grant>,
        resolver: &dyn Resolver,
        found: &mut Findings,
    ) -> ExportTable {
        let mut table = ExportTable::default();
        let mut places: HashMap<PathBuf, usize> = HashMap::new();
        let mut lines: HashMap<(PathBuf, Client), u32> = HashMap::new();
        for grant in grants {
            let at = Place {
                file,
                line: grant.line,
            };
            let key = (grant.path.clone(), grant.client.clone());
            if let Some(line) = lines.get(&key) {
                let message = format!(
                    "{} is already exported to \"{}\" in line {line}",
                    path(&grant.path),
                    grant.client
                );
                found.error(
                    at,
                    message,
                    &format!("{}({})", grant.client, grant.options),
                    "remove one of the two",
                );
                continue;
            }
            lines.insert(key, grant.line);
            let place = *places.entry(grant.path.clone()).or_insert_with(|| {
                let (path, clients) = (grant.path.clone(), Vec::new());
                table.exports.push(Export {
                    id: 0,
                    path,
                    fsid: None,
                    clients,
                });
                table.exports.len() - 1
            });
            if let Some(export) = table.exports.get_mut(place) {
                add(export, grant, resolver, at, found);
            }
        }
        table.number(file, &lines, found);
        table
    }

    /// Gives every export its id; two with the same are refused, as their file handles could not be told apart.
    fn number(
        &mut self,
        file: &str,
        lines: &HashMap<(PathBuf, Client), u32>,
        found: &mut Findings,
    ) {
        let line_of = |export: &Export| {
            let key = |client: &Client| (export.path.clone(), client.clone());
            export
                .clients
                .iter()
                .filter_map(|(m, _)| lines.get(&key(m.client())).copied())
                .min()
                .unwrap_or(0)
        };
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for place in 0..self.exports.len() {
            let Some(export) = self.exports.get_mut(place) else {
                continue;
            };
            export
                .clients
                .sort_by_key(|(matcher, _)| matcher.client().rank());
            export.id = export_id(&export.path, export.fsid);
            let id = export.id;
            let Some(first) = seen
                .insert(id, place)
                .and_then(|first| self.exports.get(first))
            else {
                continue;
            };
            let Some(export) = self.exports.get(place) else {
                continue;
            };
            let at = Place {
                file,
                line: line_of(export),
            };
            match export.fsid {
                Some(fsid) if first.fsid == Some(fsid) => {
                    let message = format!(
                        "{} and {} have the same fsid",
                        path(&first.path),
                        path(&export.path)
                    );
                    found.error(
                        at,
                        message,
                        &format!("fsid={fsid}"),
                        "give each export its own fsid",
                    );
                }
                _ => {
                    let message = format!(
                        "{} and {} get the same export id",
                        path(&first.path),
                        path(&export.path)
                    );
                    let fix = "give one of them an fsid= of its own, or another one";
                    found.error(at, message, &format!("{id:#010x}"), fix);
                }
            }
        }
        self.by_id = self
            .exports
            .iter()
            .enumerate()
            .map(|(place, export)| (export.id, place))
            .collect();
        self.by_id.sort_unstable();
    }

    /// The export a file handle names.
    pub fn get(&self, id: u32) -> Option<&Export> {
        let place = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, place) = self.by_id.get(place)?;
        self.exports.get(*place)
    }

    /// What `peer` may do with the export a file handle names.
    pub fn lookup(&self, id: u32, peer: &Peer<'_>) -> Access<'_> {
        self.get(id)
            .map_or(Access::Denied, |export| export.access(peer))
    }

    /// The export for a path a peer wants to mount: the deepest one at or above the path that lets the peer in.
    ///
    /// As with the kernel's server, an export of which the peer is not a client does not hide the ones above it.
    pub fn find_by_path(&self, wanted: &Path, peer: &Peer<'_>) -> Found<'_> {
        let Ok(wanted) = parse::check_path(wanted.as_os_str().as_bytes()) else {
            return Found::NotExported;
        };
        let above = |export: &&Export| wanted.starts_with(&export.path);
        let mut candidates: Vec<&Export> = self.exports.iter().filter(above).collect();
        if candidates.is_empty() {
            return Found::NotExported;
        }
        candidates.sort_by_key(|export| std::cmp::Reverse(export.path.as_os_str().len()));
        for export in candidates {
            match export.access(peer) {
                Access::Granted(options) => {
                    let below = wanted
                        .strip_prefix(&export.path)
                        .unwrap_or(Path::new(""))
                        .to_owned();
                    return Found::Granted {
                        export,
                        options,
                        below,
                    };
                }
                Access::NeedsName => return Found::NeedsName,
                Access::Denied => {}
            }
        }
        Found::Denied
    }

    /// The exports `peer` may use, for the EXPORT procedure of MOUNT: others are not its business.
    ///
    /// `None` when that depends on the peer's host name.
    pub fn visible_to(&self, peer: &Peer<'_>) -> Option<Vec<&Export>> {
        let mut visible = Vec::new();
        for export in &self.exports {
            match export.access(peer) {
                Access::Granted(_) => visible.push(export),
                Access::Denied => {}
                Access::NeedsName => return None,
            }
        }
        Some(visible)
    }

    /// Every export, in the order of the file.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// Whether any client is a wildcard name, so that names of peers may be needed.
    pub fn needs_names(&self) -> bool {
        let mut clients = self.exports.iter().flat_map(|export| &export.clients);
        clients.any(|(matcher, _)| matches!(matcher.client(), Client::Wildcard(_)))
    }
}

/// Adds a client to its export.
fn add(
    export: &mut Export,
    grant: Grant,
    resolver: &dyn Resolver,
    at: Place<'_>,
    found: &mut Findings,
) {
    match (export.fsid, grant.options.fsid) {
        (Some(before), Some(now)) if before != now => {
            let message = format!("{} has another fsid for another client", path(&export.path));
            let value = format!("fsid={before}, fsid={now}");
            return found.error(
                at,
                message,
                &value,
                "give all clients of an export the same fsid",
            );
        }
        (None, now) => export.fsid = now,
        _ => {}
    }
    let addresses = match &grant.client {
        Client::Host(name) => resolver.addresses(name).unwrap_or_else(|error| {
            let fix = "correct the name, or run `ringnfs reload` when it can be resolved";
            found.warning(
                at,
                format!("cannot resolve the host name, it gets no access: {error}"),
                name,
                fix,
            );
            Vec::new()
        }),
        _ => Vec::new(),
    };
    export.clients.push((
        Matcher::new(grant.client, addresses),
        Arc::new(grant.options),
    ));
}

fn path(path: &Path) -> String {
    parse::escape(path)
}

/// The id of an export in file handles. Must never change: handles live as long as clients have them.
fn export_id(path: &Path, fsid: Option<Fsid>) -> u32 {
    let mut hasher = SipHasher24::new();
    match fsid {
        Some(fsid) => hasher.write(format!("fsid {fsid}").as_bytes()),
        None => {
            hasher.write(b"path ");
            hasher.write(path.as_os_str().as_bytes());
        }
    }
    let [.., a, b, c, d] = hasher.finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The table as an exports(5) file that reads back the same.
impl fmt::Display for ExportTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for export in &self.exports {
            write!(f, "{}", path(&export.path))?;
            for (matcher, options) in &export.clients {
                write!(f, " {}({options})", matcher.client())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
