//! The rules the repository as a whole must keep, and the walk that reads it.

use crate::source::Source;
use std::collections::BTreeSet;
use std::path::Path;

/// What must stand at the top level.
const REQUIRED: &[&str] = &["Cargo.toml", "Cargo.lock", "nfsd", "vfs", "acl", "tests"];
/// What else may.
const OPTIONAL: &[&str] = &["README.md", ".ci", ".gitignore"];
/// And anything that begins with this.
const LICENSE: &str = "LICENSE";
/// Crates whose sources are under the rules for Rust.
const CRATES: &[&str] = &["acl/", "vfs/", "nfsd/", "tests/"];
/// Directories of the machine somebody works on, by their first component.
const MACHINE: &[&str] = &["home", "root", "work"];

/// Procedures or operations with one file each.
struct Family {
    /// Directory of the files.
    directory: &'static str,
    /// Files that may hold the table.
    tables: &'static [&'static str],
    /// The macro whose rows are the table.
    rows: &'static str,
    /// How a citation of its section begins; a digit must follow.
    citations: &'static [&'static str],
    /// Words in the name of a test that is about another family.
    foreign: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        directory: "nfsd/src/nfs3/proc/",
        tables: &["nfsd/src/nfs3/mod.rs", "nfsd/src/nfs3/proc/mod.rs"],
        rows: "procs",
        citations: &["RFC 1813 3.3."],
        foreign: &["nfs4", "v4", "v40", "v41", "v42"],
    },
    Family {
        directory: "nfsd/src/nfs4/op/",
        tables: &["nfsd/src/nfs4/mod.rs", "nfsd/src/nfs4/op/mod.rs"],
        rows: "ops",
        citations: &["RFC 7530 ", "RFC 8881 ", "RFC 7862 ", "RFC 8276 "],
        foreign: &["nfs3", "v3"],
    },
];

/// Takes a path, a line and what is wrong there.
type Report<'a> = &'a mut dyn FnMut(&str, usize, String);

/// The name a rule reports under, and the rule.
type Rule = (&'static str, fn(&Tree, Report<'_>));

/// Every rule.
pub const RULES: &[Rule] = &[
    ("procedure-rfc", procedure_rfc),
    ("procedure-row", procedure_row),
    ("procedure-test", procedure_test),
    ("top-level", top_level),
    ("unreached", unreached),
    ("machine-path", machine_path),
];

/// The text files of a repository.
pub struct Tree {
    files: Vec<Source>,
}

impl Tree {
    /// A tree of these paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree {
            files: files
                .iter()
                .map(|(path, text)| Source::new(path, text))
                .collect(),
        }
    }

    /// Everything below `root` but `.git`, cache directories such as cargo's (they hold a CACHEDIR.TAG), and what a
    /// `.gitignore` excludes by a plain path. Files that are no text come with an empty one.
    pub fn read(root: &Path) -> Tree {
        let mut files = Vec::new();
        let mut pending = vec![String::new()];
        let mut ignored = BTreeSet::from([".git".to_owned()]);
        while let Some(directory) = pending.pop() {
            let here = root.join(&directory);
            if here.join("CACHEDIR.TAG").exists() {
                continue;
            }
            let ignore = std::fs::read_to_string(here.join(".gitignore")).unwrap_or_default();
            let anchored = ignore.lines().filter_map(|line| line.strip_prefix('/'));
            ignored
                .extend(anchored.map(|path| format!("{directory}{}", path.trim_end_matches('/'))));
            let unread = |error| -> ! { panic!("{}: {error}", here.display()) };
            for entry in std::fs::read_dir(&here).unwrap_or_else(|error| unread(error)) {
                let entry = entry.unwrap_or_else(|error| unread(error));
                let path = format!("{directory}{}", entry.file_name().to_string_lossy());
                if ignored.contains(&path) {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(format!("{path}/"));
                    continue;
                }
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                files.push(Source::new(
                    &path,
                    &String::from_utf8(bytes).unwrap_or_default(),
                ));
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Tree { files }
    }

    /// The Rust files of the crates.
    pub fn rust_files(&self) -> impl Iterator<Item = &Source> {
        let in_crate = |path: &str| CRATES.iter().any(|start| path.starts_with(start));
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(".rs") && in_crate(&file.path))
    }

    fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Calls `check` with each procedure: its family, its file and its name in lower case without underscores.
fn each_procedure(tree: &Tree, mut check: impl FnMut(&Family, &Source, &str)) {
    for family in FAMILIES {
        for file in &tree.files {
            let name = file
                .path
                .strip_prefix(family.directory)
                .and_then(|name| name.strip_suffix(".rs"));
            match name {
                Some(name) if name != "mod" && !name.contains('/') => {
                    check(family, file, &plain(name))
                }
                _ => {}
            }
        }
    }
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "")
}

fn procedure_rfc(tree: &Tree, report: Report<'_>) {
    each_procedure(tree, |family, file, _| {
        let cites = |line: &str| {
            family.citations.iter().any(|citation| {
                line.split(citation)
                    .skip(1)
                    .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        };
        if !file.header().any(cites) {
            let form = family.citations.join("N or ");
            report(
                &file.path,
                1,
                format!("the //! cites no section; write {form}N"),
            );
        }
    });
}

fn procedure_row(tree: &Tree, report: Report<'_>) {
    each_procedure(tree, |family, file, name| {
        let tables = family.tables.iter().filter_map(|path| tree.file(path));
        if !tables
            .into_iter()
            .any(|table| has_row(table, family.rows, name))
        {
            let places = family.tables.join(" or ");
            report(
                &file.path,
                1,
                format!("no row in {}! of {places}", family.rows),
            );
        }
    });
}

/// Whether `name` stands inside a use of the macro `rows`.
fn has_row(table: &Source, rows: &str, name: &str) -> bool {
    (0..table.tokens.len())
        .filter(|&index| table.matches(index, &[rows, "!"]))
        .any(|index| {
            let end = table.closing(index + 2).unwrap_or(index);
            (index + 2..end).any(|at| plain(table.token(at)) == name)
        })
}

fn procedure_test(tree: &Tree, report: Report<'_>) {
    let tests = test_names(tree);
    each_procedure(tree, |family, file, name| {
        let about = |words: &&Vec<String>| {
            !words
                .iter()
                .any(|word| family.foreign.contains(&word.as_str()))
                && has_run(words, name)
        };
        if !tests.iter().any(|words| about(&words)) {
            report(
                &file.path,
                1,
                "no #[test] under tests/ has its name in its own".to_owned(),
            );
        }
    });
}

/// The words of the path and name of every test under tests/, this one's own left out.
fn test_names(tree: &Tree) -> Vec<Vec<String>> {
    let mut names = Vec::new();
    for file in tree.rust_files() {
        let Some(path) = file.path.strip_prefix("tests/") else {
            continue;
        };
        if path.starts_with("tidy") {
            continue;
        }
        for function in file.functions().iter().filter(|function| function.is_test) {
            let full = format!("{}_{}", path.trim_end_matches(".rs"), function.name);
            names.push(
                full.to_lowercase()
                    .split(['/', '_'])
                    .map(str::to_owned)
                    .collect(),
            );
        }
    }
    names
}

/// Whether some words in a row make up `name`.
fn has_run(words: &[String], name: &str) -> bool {
    (0..words.len())
        .any(|start| (start + 1..=words.len()).any(|end| words[start..end].concat() == name))
}

fn top_level(tree: &Tree, report: Report<'_>) {
    let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let present: BTreeSet<String> = tree.files.iter().map(|file| top(&file.path)).collect();
    for file in &tree.files {
        let entry = top(&file.path);
        let known = [REQUIRED, OPTIONAL].concat().contains(&entry.as_str());
        if !known && !entry.starts_with(LICENSE) {
            report(
                &file.path,
                1,
                format!("{entry} has no place at the top level"),
            );
        }
    }
    for entry in REQUIRED.iter().filter(|entry| !present.contains(**entry)) {
        report(entry, 1, "missing".to_owned());
    }
}

/// What no module declares is never built, and no other rule is worth anything there.
fn unreached(tree: &Tree, report: Report<'_>) {
    for file in tree.rust_files() {
        let Some((directory, name)) = declared(&file.path) else {
            continue;
        };
        let parents = [
            format!("{directory}.rs"),
            format!("{directory}/mod.rs"),
            format!("{directory}/lib.rs"),
            format!("{directory}/main.rs"),
        ];
        let declares = |parent: &Source| {
            let tokens = 0..parent.tokens.len();
            tokens
                .into_iter()
                .any(|at| parent.matches(at, &["mod", name, ";"]))
        };
        let parents = parents.iter().filter_map(|path| tree.file(path));
        if !parents.into_iter().any(declares) {
            report(
                &file.path,
                1,
                format!("no module of {directory} says mod {name}"),
            );
        }
    }
}

/// The directory of the module that must declare the file of this path, and the file's name there; `None` for the roots
/// of crates and for what is not below a `src`.
fn declared(path: &str) -> Option<(&str, &str)> {
    let (_, below) = path.split_once("/src/")?;
    let parts: Vec<&str> = below.split('/').collect();
    if matches!(
        parts[..],
        ["lib.rs" | "main.rs"] | ["bin", _] | ["bin", _, "main.rs"]
    ) {
        return None;
    }
    let (directory, name) = path.strip_suffix(".rs")?.rsplit_once('/')?;
    match name {
        "mod" => directory.rsplit_once('/'),
        _ => Some((directory, name)),
    }
}

fn machine_path(tree: &Tree, report: Report<'_>) {
    for file in &tree.files {
        for (index, line) in file.lines.iter().enumerate() {
            if let Some(place) = MACHINE.iter().find(|place| names_place(line, place)) {
                report(
                    &file.path,
                    index + 1,
                    format!("a path under /{place} of somebody's machine"),
                );
            }
        }
    }
}

/// Whether `line` has an absolute path below the directory `place` of the root.
fn names_place(line: &str, place: &str) -> bool {
    let path = format!("/{place}/");
    let starts = |at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || "_-.})".contains(char))
    };
    line.match_indices(&path).any(|(at, _)| starts(at))
}
