//! Tests of the pseudo file system.

use super::*;
use crate::export::{ExportTable, load};
use crate::finding::Findings;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Knows no hosts.
struct Nobody;

impl crate::export::names::Resolver for Nobody {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such host"))
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn table(lines: &[&str]) -> ExportTable {
    let mut found = Findings::new();
    let text = lines.join("\n");
    let table = load("exports", 1, text.as_bytes(), &Nobody, &mut found);
    assert!(!found.has_errors(), "{found}");
    table
}

fn built(table: &ExportTable) -> PseudoFs {
    let mut found = Findings::new();
    let fs = PseudoFs::build(table.exports(), 7, &mut found);
    assert_eq!(found.to_string(), "");
    fs
}

fn id(table: &ExportTable, path: &str) -> u32 {
    let export = table.exports().iter().find(|e| e.path == Path::new(path));
    export.expect("an export").id
}

/// Follows `path` from the root; stops in the first export.
fn walk(fs: &PseudoFs, path: &Path, allowed: Allowed<'_>) -> Option<Target> {
    let mut at = fs.root(allowed);
    for name in components(path) {
        match at {
            Target::Export(_) => break,
            Target::Node(node) => at = fs.lookup(node, name, allowed)?,
        }
    }
    Some(at)
}

fn names(fs: &PseudoFs, node: u64, allowed: Allowed<'_>) -> BTreeSet<Vec<u8>> {
    let entries = fs.entries(node, 0, allowed);
    entries.map(|e| e.name.to_vec()).collect()
}

#[test]
fn a_client_sees_what_leads_to_its_exports() {
    let table = table(&["/srv/a *(ro)", "/srv/b/c *(ro)", "/home *(ro)"]);
    let fs = built(&table);
    let all = |_: u32| true;
    let Target::Node(root) = fs.root(&all) else {
        panic!("a pseudo root");
    };
    assert_eq!(fs.len(), 3, "/, /srv and /srv/b");
    assert_eq!(
        names(&fs, root, &all),
        BTreeSet::from([b"srv".to_vec(), b"home".to_vec()])
    );
    let c = id(&table, "/srv/b/c");
    let only_c = |export: u32| export == c;
    assert_eq!(names(&fs, root, &only_c), BTreeSet::from([b"srv".to_vec()]));
    assert_eq!(fs.lookup(root, b"home", &only_c), None);
    assert_eq!(fs.lookup(root, b"nothing", &all), None);
    assert_eq!(
        walk(&fs, Path::new("/srv/b/c"), &only_c),
        Some(Target::Export(c))
    );
    let none = |_: u32| false;
    assert_eq!(names(&fs, root, &none), BTreeSet::new());
    assert!(fs.visible(root, &none) && !fs.visible(root + 1, &all));
    assert_eq!(fs.parent(root, &all), None);
}

#[test]
fn an_inner_export_is_found_by_those_the_outer_one_refuses() {
    let table = table(&["/srv *(ro)", "/srv/b/c *(ro)"]);
    let fs = built(&table);
    let (outer, inner) = (id(&table, "/srv"), id(&table, "/srv/b/c"));
    let both = |_: u32| true;
    let only_inner = |export: u32| export == inner;
    let way = Path::new("/srv/b/c");
    assert_eq!(walk(&fs, way, &both), Some(Target::Export(outer)));
    assert_eq!(walk(&fs, way, &only_inner), Some(Target::Export(inner)));
    let Some(Target::Node(b)) = walk(&fs, Path::new("/srv/b"), &only_inner) else {
        panic!("a directory");
    };
    assert!(matches!(fs.parent(b, &only_inner), Some(Target::Node(_))));
    assert_eq!(fs.parent(b, &both), Some(Target::Export(outer)));
}

#[test]
fn some_exports_are_the_root() {
    let slash = table(&["/ *(ro)", "/srv *(ro)"]);
    let fs = built(&slash);
    let top = id(&slash, "/");
    assert_eq!(fs.root(&|_| true), Target::Export(top));
    assert_eq!(fs.root(&|e| e != top), Target::Node(root_id()));
    assert_eq!(fs.standing(top).expect("it stands").parent, None);
    let marked = table(&["/data *(ro)", "/srv/v4 *(ro,fsid=0)"]);
    let fs = built(&marked);
    let top = id(&marked, "/srv/v4");
    assert_eq!(fs.root(&|_| true), Target::Export(top));
    let Target::Node(root) = fs.root(&|e| e != top) else {
        panic!("a pseudo root");
    };
    assert_eq!(
        fs.lookup(root, b"data", &|e| e != top),
        Some(Target::Export(id(&marked, "/data")))
    );
}

#[test]
fn ids_never_change() {
    // Clients keep handles made of these: a change here breaks them.
    let fs = built(&table(&["/srv/a *(ro)"]));
    let srv = fs.lookup(root_id(), b"srv", &|_| true);
    assert_eq!(
        (root_id(), srv),
        (
            2_591_995_569_483_408_613,
            Some(Target::Node(5_385_682_059_100_060_185))
        )
    );
}

#[test]
fn two_paths_with_one_id_are_refused() {
    let table = table(&["/a/x *(ro)", "/b/y *(ro)"]);
    let mut found = Findings::new();
    PseudoFs::build_with(table.exports(), 1, &mut found, |_, _| 77);
    assert!(found.to_string().contains("id of another one"), "{found}");
}

/// Paths of a few short components, so that they share and nest.
fn paths() -> impl Strategy<Value = Vec<PathBuf>> {
    let component = prop_oneof![Just("a"), Just("b"), Just("c"), Just("\u{e9} d")];
    let path = proptest::collection::vec(component, 0..5)
        .prop_map(|components| PathBuf::from(format!("/{}", components.join("/"))));
    proptest::collection::btree_set(path, 0..12).prop_map(|set| set.into_iter().collect())
}

fn exports(paths: &[PathBuf]) -> Vec<Export> {
    let export = |(id, path): (usize, &PathBuf)| Export {
        id: id as u32 + 100,
        path: path.clone(),
        fsid: None,
        clients: Vec::new(),
    };
    paths.iter().enumerate().map(export).collect()
}

/// Every directory a client can get to, with its path and the way back.
fn reachable(fs: &PseudoFs, allowed: Allowed<'_>) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = match fs.root(allowed) {
        Target::Node(node) => vec![(PathBuf::from("/"), node)],
        Target::Export(_) => Vec::new(),
    };
    while let Some((path, node)) = open.pop() {
        for entry in fs.entries(node, 0, allowed) {
            if let Target::Node(below) = entry.target {
                let name = std::ffi::OsStr::from_bytes(entry.name);
                open.push((path.join(name), below));
            }
        }
        found.push((path, node));
    }
    found
}

proptest! {
    #[test]
    fn every_export_is_reached_and_nothing_else_is_seen(paths in paths(), mask: u16, step in 1..4usize) {
        let exports = exports(&paths);
        let mut found = Findings::new();
        let fs = PseudoFs::build(&exports, 7, &mut found);
        prop_assert!(found.is_empty());
        let may: HashSet<u32> = exports
            .iter()
            .enumerate()
            .filter(|(place, _)| mask & (1 << place) != 0)
            .map(|(_, e)| e.id)
            .collect();
        let allowed = |export: u32| may.contains(&export);
        let mine: Vec<&Export> = exports.iter().filter(|e| allowed(e.id)).collect();
        for export in &mine {
            // The outermost of its exports on the way is where the walk in here ends.
            let outer = mine.iter().filter(|o| export.path.starts_with(&o.path));
            let outer = outer.min_by_key(|o| o.path.as_os_str().len()).expect("itself");
            prop_assert_eq!(walk(&fs, &export.path, &allowed), Some(Target::Export(outer.id)));
        }
        for (path, node) in reachable(&fs, &allowed) {
            prop_assert_eq!(path_id(&path), node);
            prop_assert!(fs.visible(node, &allowed));
            let mut expected: BTreeSet<Vec<u8>> = BTreeSet::new();
            for export in &mine {
                if let Ok(rest) = export.path.strip_prefix(&path) {
                    expected.extend(components(rest).next().map(<[u8]>::to_vec));
                }
            }
            prop_assert_eq!(names(&fs, node, &allowed), expected);
            // In pages of any size it is the same list, each name once.
            let whole: Vec<_> = fs.entries(node, 0, &allowed).collect();
            let (mut paged, mut cookie) = (Vec::new(), 0);
            loop {
                let page: Vec<_> = fs.entries(node, cookie, &allowed).take(step).collect();
                let Some(last) = page.last() else { break };
                cookie = last.cookie;
                paged.extend(page);
            }
            prop_assert_eq!(&paged, &whole);
            for entry in whole {
                prop_assert!(entry.cookie >= FIRST_COOKIE && i64::try_from(entry.cookie).is_ok());
                prop_assert_eq!(fs.lookup(node, entry.name, &allowed), Some(entry.target));
                match entry.target {
                    Target::Node(below) => {
                        prop_assert_eq!(fs.parent(below, &allowed), Some(Target::Node(node)));
                        prop_assert_eq!(below, entry.fileid);
                    }
                    Target::Export(below) => {
                        let standing = Standing { fileid: entry.fileid, parent: Some(node) };
                        prop_assert_eq!(fs.standing(below), Some(standing));
                    }
                }
            }
        }
    }

    /// What other exports come and go does not move a directory.
    #[test]
    fn ids_depend_on_the_path_alone(one in paths(), two in paths()) {
        let ids = |paths: &[PathBuf]| {
            let fs = PseudoFs::build(&exports(paths), 7, &mut Findings::new());
            // Nobody may use "/" itself, so that the whole tree is seen.
            let rest: HashSet<u32> = exports(paths).iter().filter(|e| e.path != Path::new("/")).map(|e| e.id).collect();
            reachable(&fs, &|e| rest.contains(&e)).into_iter().collect::<HashMap<_, _>>()
        };
        let (one, two) = (ids(&one), ids(&two));
        for (path, node) in &one {
            prop_assert!(two.get(path).is_none_or(|other| other == node));
        }
    }
}
