//! House rules, held by a test: each breach is reported as `file:line rule: what is wrong`.
//!
//! The limits and allow-lists are constants at the top of `tidy/rules.rs` (what one file must be) and `tidy/tree.rs`
//! (what the repository as a whole must be). Every rule has a snippet below that it must report: a rule that cannot
//! fail holds nothing.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use std::path::Path;
use tree::Tree;

/// Every breach in the tree, in the order of the files.
fn breaches(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust_files() {
        for (rule, check) in rules::RULES {
            check(file, &mut |line, message| {
                found.push(format!("{}:{line} {rule}: {message}", file.path));
            });
        }
    }
    for (rule, check) in tree::RULES {
        check(tree, &mut |path, line, message| {
            found.push(format!("{path}:{line} {rule}: {message}"));
        });
    }
    found
}

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent");
    let tree = Tree::read(root);
    assert!(
        tree.rust_files().count() > 5,
        "the walk found next to nothing in {}",
        root.display()
    );
    let found = breaches(&tree);
    assert!(
        found.is_empty(),
        "{} house rules broken:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

/// The walk sees everything but what is ignored or a cache: a stray file is found, build output is not.
#[test]
fn the_walk_skips_only_the_ignored() {
    let root = tempfile::tempdir().expect("a scratch directory");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    };
    write(".gitignore", "/target\n");
    write("tests/.gitignore", "/out/\n");
    for skipped in [
        ".git/a.rs",
        "target/a.rs",
        "tests/out/a.rs",
        "nfsd/cache/CACHEDIR.TAG",
        "nfsd/cache/a.rs",
    ] {
        write(skipped, "");
    }
    for seen in ["acl/src/a.rs", "nfsd/target/a.rs", "vfs/out/b/a.rs"] {
        write(seen, "");
    }
    let tree = Tree::read(root.path());
    let paths: Vec<&str> = tree.rust_files().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        ["acl/src/a.rs", "nfsd/target/a.rs", "vfs/out/b/a.rs"]
    );
}

/// The breaches of one file standing in an otherwise complete repository, as `line rule`.
fn of_snippet(path: &str, text: &str) -> Vec<String> {
    let mut files = vec![("Cargo.toml", ""), ("Cargo.lock", "")];
    for required in [
        "nfsd/src/lib.rs",
        "vfs/src/lib.rs",
        "acl/src/lib.rs",
        "tests/main.rs",
    ] {
        if required != path {
            files.push((required, "//! Empty.\n"));
        }
    }
    files.push((path, text));
    of_files(&files, path)
}

fn of_files(files: &[(&str, &str)], path: &str) -> Vec<String> {
    let mut found = breaches(&Tree::of(files));
    // These files stand alone: see files_are_reached.
    found.retain(|breach| !breach.contains(" unreached: "));
    let own = |breach: &String| {
        let rest = breach.strip_prefix(path)?.strip_prefix(':')?;
        rest.split(": ").next().map(str::to_owned)
    };
    let short: Vec<String> = found.iter().filter_map(own).collect();
    assert_eq!(
        short.len(),
        found.len(),
        "breaches outside {path}: {found:?}"
    );
    short
}

fn with_header(body: &str) -> String {
    format!("//! A file.\n{body}\n")
}

/// Asserts that `body`, below a header line, breaks exactly `expected` (line two is the first of `body`).
fn reports(path: &str, body: &str, expected: &[&str]) {
    assert_eq!(
        of_snippet(path, &with_header(body)),
        expected,
        "{path}: {body}"
    );
}

#[test]
fn header_is_required() {
    assert_eq!(of_snippet("vfs/src/a.rs", "fn a() {}\n"), ["1 header"]);
    assert_eq!(of_snippet("vfs/src/a.rs", ""), ["1 header"]);
    assert_eq!(
        of_snippet("vfs/src/a.rs", "// no\n//! late\n"),
        ["1 header"]
    );
    assert_eq!(of_snippet("vfs/src/a.rs", "//! A file.\n"), [""; 0]);
}

#[test]
fn lengths_are_bounded() {
    reports("vfs/src/a.rs", &"//\n".repeat(798), &[]);
    reports("vfs/src/a.rs", &"//\n".repeat(799), &["801 file-length"]);
    let function = |lines| format!("fn a(x: [u8; 3]) -> u8 {{\n{}}}", "// {\n".repeat(lines));
    reports("tests/a.rs", &function(118), &[]);
    reports("tests/a.rs", &function(119), &["2 function-length"]);
    let method = format!("impl A {{\n{}\n}}", function(119));
    reports("vfs/src/a.rs", &method, &["3 function-length"]);
}

#[test]
fn unsafe_has_its_places() {
    let bare = "fn a() { unsafe { b() } }";
    let documented = "// SAFETY: b is fine.\nunsafe { b() }";
    reports("nfsd/src/a.rs", documented, &["3 unsafe-place"]);
    reports(
        "nfsd/src/a.rs",
        bare,
        &["2 unsafe-place", "2 unsafe-comment"],
    );
    reports("tests/a.rs", documented, &["3 unsafe-place"]);
    reports("vfs/src/uring/op.rs", bare, &["2 unsafe-comment"]);
    reports("vfs/src/uring/op.rs", documented, &[]);
    reports(
        "vfs/src/sys.rs",
        "// Safe enough.\nunsafe impl Send for A {}",
        &["3 unsafe-comment"],
    );
    reports(
        "vfs/src/sys.rs",
        "// SAFETY: b is fine.\nlet a: A =\n    unsafe { b() };",
        &[],
    );
    reports(
        "vfs/src/sys.rs",
        "// SAFETY: of a.\nlet a = 1;\nunsafe { b() };",
        &["4 unsafe-comment"],
    );
    reports(
        "nfsd/src/a.rs",
        "#![forbid(unsafe_code)]\n// unsafe {\nconst A: &str = \"unsafe {\";",
        &[],
    );
}

#[test]
fn unfinished_code_is_reported() {
    reports(
        "nfsd/src/a.rs",
        "fn a() {\n    todo!()\n}",
        &["3 unfinished"],
    );
    reports(
        "tests/a.rs",
        "fn a() { unimplemented!(\"x\") }",
        &["2 unfinished"],
    );
    reports("tests/a.rs", "fn a() { dbg!(1); }", &["2 unfinished"]);
    reports(
        "acl/src/a.rs",
        "#[allow(unused, dead_code)]\nfn a() {}",
        &["2 unfinished"],
    );
    reports("acl/src/a.rs", "#![expect(dead_code)]", &["2 unfinished"]);
    reports(
        "acl/src/a.rs",
        "#![deny(dead_code)]\n// todo!()\nlet a = r#\"dbg!(\"\"#;",
        &[],
    );
}

#[test]
fn printing_has_its_places() {
    reports("vfs/src/a.rs", "fn a() { println!(\"x\") }", &["2 print"]);
    reports("nfsd/src/a.rs", "fn a() { eprint!(\"x\") }", &["2 print"]);
    reports("nfsd/src/main.rs", "fn main() { println!(\"x\") }", &[]);
    reports("tests/a.rs", "fn a() { println!(\"x\") }", &[]);
    let unit = "#[cfg(test)]\nmod tests {\n    fn a() { println!(\"x\") }\n}";
    reports("vfs/src/a.rs", unit, &[]);
    let after = format!("{unit}\nfn a() {{ println!(\"x\") }}");
    reports("vfs/src/a.rs", &after, &["6 print"]);
    reports(
        "vfs/src/a.rs",
        &unit.replace("cfg(test)", "cfg(not(test))"),
        &["4 print"],
    );
}

#[test]
fn pure_modules_never_wait() {
    for path in [
        "acl/src/a.rs",
        "nfsd/src/xdr/a.rs",
        "nfsd/src/rpc/msg.rs",
        "vfs/src/locks/range.rs",
    ] {
        reports(path, "pub async fn a() {}", &["2 pure"]);
    }
    reports(
        "nfsd/src/nfs4/state/open.rs",
        "fn a() { b.await }",
        &["2 pure"],
    );
    reports("nfsd/src/conn.rs", "pub async fn a() { b.await }", &[]);
    reports(
        "acl/src/a.rs",
        "// async\nconst A: &str = \"await\";\nfn r#asynchronous() {}",
        &[],
    );
}

#[test]
fn the_clock_has_its_place() {
    reports(
        "nfsd/src/a.rs",
        "fn a() { std::time::Instant::now(); }",
        &["2 clock"],
    );
    reports(
        "vfs/src/a.rs",
        "fn a() { SystemTime :: now(); }",
        &["2 clock"],
    );
    reports(
        "vfs/src/a.rs",
        "fn a(t: Instant) { t.elapsed(); }",
        &["2 clock"],
    );
    reports("vfs/src/a.rs", "fn a() { clock_gettime(B); }", &["2 clock"]);
    reports("vfs/src/exec.rs", "fn a() { Instant::now(); }", &[]);
    reports(
        "tests/bench/a.rs",
        "fn a() { Instant::now().elapsed(); }",
        &[],
    );
    reports("vfs/src/a.rs", "fn a(now: Instant) { b(now) }", &[]);
}

#[test]
fn names_say_something() {
    reports("vfs/src/io_util.rs", "", &["1 name"]);
    reports("nfsd/src/common/a.rs", "", &["1 name"]);
    reports("vfs/src/a.rs", "mod test_helpers {}", &["2 name"]);
    reports("vfs/src/commonality.rs", "mod utility_bill {}", &[]);
}

/// A repository with one NFSv3 procedure, its table and a test of it.
fn procedure(header: &str, table: &str, test: &str) -> Vec<String> {
    let table = with_header(table);
    let test = with_header(test);
    let files = [
        ("Cargo.toml", ""),
        ("Cargo.lock", ""),
        ("vfs/src/lib.rs", "//! Empty.\n"),
        ("acl/src/lib.rs", "//! Empty.\n"),
        ("nfsd/src/nfs3/mod.rs", table.as_str()),
        (
            "nfsd/src/nfs3/proc/mod.rs",
            "//! Procedures.\nmod readdirplus;\n",
        ),
        ("nfsd/src/nfs3/proc/readdirplus.rs", header),
        ("tests/nfs3.rs", test.as_str()),
    ];
    of_files(&files, "nfsd/src/nfs3/proc/readdirplus.rs")
}

#[test]
fn procedures_are_cited_listed_and_tested() {
    let header = "//! READDIRPLUS (RFC 1813 3.3.17).\n";
    let table = "procs! {\n    17 READDIRPLUS => readdirplus,\n}";
    let test = "#[test]\nfn readdir_plus_pages() {}";
    assert_eq!(procedure(header, table, test), [""; 0]);
    assert_eq!(
        procedure("//! READDIRPLUS (RFC 1813).\n", table, test),
        ["1 procedure-rfc"]
    );
    assert_eq!(
        procedure("//! A.\n// RFC 1813 3.3.17\n", table, test),
        ["1 procedure-rfc"]
    );
    for absent in [
        "procs! { 16 READDIR => readdir }",
        "mod readdirplus;",
        "// readdirplus",
    ] {
        assert_eq!(
            procedure(header, absent, test),
            ["1 procedure-row"],
            "{absent}"
        );
    }
    for absent in [
        "#[test]\nfn readdir_pages() {}",
        "fn readdirplus() {}",
        "#[test]\nfn nfs4_readdirplus() {}",
        "// readdirplus",
    ] {
        assert_eq!(
            procedure(header, table, absent),
            ["1 procedure-test"],
            "{absent}"
        );
    }
}

#[test]
fn operations_are_cited_listed_and_tested() {
    let body = "//! READ (RFC 8881 18.22).\n";
    let path = "nfsd/src/nfs4/op/read.rs";
    let expected = ["1 procedure-row", "1 procedure-test"];
    assert_eq!(of_snippet(path, body), expected);
    let expected = ["1 procedure-rfc", "1 procedure-row", "1 procedure-test"];
    assert_eq!(of_snippet(path, "//! READ (RFC 1813 3.3.6).\n"), expected);
}

#[test]
fn the_top_level_is_fixed() {
    assert_eq!(of_snippet("notes.txt", ""), ["1 top-level"]);
    assert_eq!(of_snippet("src/lib.rs", "//! A.\n"), ["1 top-level"]);
    for allowed in ["README.md", "LICENSE-MIT", ".ci/run", ".gitignore"] {
        assert_eq!(of_snippet(allowed, ""), [""; 0]);
    }
    let found = breaches(&Tree::of(&[("Cargo.toml", "")]));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found.contains(&"vfs:1 top-level: missing".to_owned()),
        "{found:?}"
    );
}

#[test]
fn files_are_reached() {
    let unreached = |files: &[(&str, &str)]| -> Vec<String> {
        let found = breaches(&Tree::of(files));
        let own = found
            .iter()
            .filter_map(|breach| breach.split_once(":1 unreached: "));
        own.map(|(path, _)| path.to_owned()).collect()
    };
    let tree = |root, inner| {
        unreached(&[
            ("vfs/src/lib.rs", root),
            ("vfs/src/a.rs", inner),
            ("vfs/src/a/b.rs", ""),
            ("vfs/src/c/mod.rs", "pub(crate) mod d;"),
            ("vfs/src/c/d.rs", ""),
            ("tests/src/bin/one.rs", ""),
            ("tests/src/bin/two/main.rs", "mod three;"),
            ("tests/src/bin/two/three.rs", ""),
            ("vfs/tests/suite/e.rs", ""),
        ])
    };
    assert_eq!(tree("mod a;\npub mod c;", "mod b;"), [""; 0]);
    assert_eq!(tree("mod a;\n// mod c;", "mod b;"), ["vfs/src/c/mod.rs"]);
    assert_eq!(tree("mod a {}\nmod c;", "mod b;"), ["vfs/src/a.rs"]);
    for absent in ["", "mod bc;", "mod a;", "\"mod b;\""] {
        assert_eq!(tree("mod a; mod c;", absent), ["vfs/src/a/b.rs"]);
    }
}

#[test]
fn machine_paths_are_reported() {
    for place in ["home", "root", "work"] {
        let text = format!("fine\nsee \"/{place}/x\"\n");
        assert_eq!(of_snippet("README.md", &text), ["2 machine-path"]);
        reports(
            "acl/src/a.rs",
            &format!("// at /{place}/x"),
            &["2 machine-path"],
        );
        assert_eq!(
            of_snippet("README.md", &format!("a/{place}/b /{place}")),
            [""; 0]
        );
    }
}
