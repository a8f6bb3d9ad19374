//! Tests of exports(5) syntax.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> (Vec<Grant>, String) {
    let mut found = Findings::new();
    let grants = parse("exports", 1, text.as_bytes(), &mut found);
    (grants, found.to_string())
}

/// `path client(options)@line` of each grant of a file without faults.
fn shown(text: &str) -> Vec<String> {
    let (grants, found) = read(text);
    assert_eq!(found, "", "{text}");
    let show = |g: &Grant| {
        format!(
            "{} {}({})@{}",
            g.path.display(),
            g.client,
            g.options,
            g.line
        )
    };
    grants.iter().map(show).collect()
}

fn fault(text: &str) -> String {
    let (_, found) = read(text);
    found.strip_prefix("exports:").unwrap_or(&found).to_owned()
}

#[test]
fn plain_entries() {
    assert_eq!(
        shown("/srv 10.0.0.0/8(rw) ws1\n\n  /home\t*(ro,async)  \n"),
        [
            "/srv 10.0.0.0/8(rw,sync,root_squash)@1",
            "/srv ws1(ro,sync,root_squash)@1",
            "/home *(ro,async,root_squash)@3"
        ]
    );
    assert_eq!(shown("/a *()"), ["/a *(ro,sync,root_squash)@1"]);
    assert!(shown("").is_empty() && shown("\n# nothing\n \t \r\n").is_empty());
}

#[test]
fn comments_and_continuations() {
    assert_eq!(shown("/a *(rw) # (ro) \"\n/b#c *\n").len(), 2);
    assert_eq!(
        shown("/a \\\n  x(rw) \\\r\n y\\\n z(rw)\n/b w"),
        [
            "/a x(rw,sync,root_squash)@2",
            "/a y(ro,sync,root_squash)@3",
            "/a z(rw,sync,root_squash)@4",
            "/b w(ro,sync,root_squash)@5"
        ]
    );
    let (grants, found) = read("# old: \\\n/a *(rw)\n/b *\n");
    assert_eq!(grants.len(), 1);
    assert_eq!(
        found,
        "exports:1: warning: the comment goes on in the next line; fix: remove the backslash at the end of the comment"
    );
}

#[test]
fn quotes_and_escapes() {
    for text in ["\"/a b\" *", "/a\\040b *", "/\"a b\" *", "\"/a\\040b\" *"] {
        assert_eq!(shown(text), ["/a b *(ro,sync,root_squash)@1"], "{text}");
    }
    assert_eq!(shown("\"/a(b)\" *"), ["/a(b) *(ro,sync,root_squash)@1"]);
    assert_eq!(
        shown("/a\\\\b\\9\\400 *"),
        ["/a\\\\b\\9\\400 *(ro,sync,root_squash)@1"]
    );
    let (grants, _) = read("/\\377\\303\\244 *");
    assert_eq!(
        grants.first().map(|g| g.path.as_os_str().as_bytes()),
        Some(&b"/\xff\xc3\xa4"[..])
    );
}

#[test]
fn default_sections() {
    assert_eq!(
        shown("/a -rw,async ws1 ws2(ro) -sync ws3\n/b ws1"),
        [
            "/a ws1(rw,async,root_squash)@1",
            "/a ws2(ro,async,root_squash)@1",
            "/a ws3(rw,sync,root_squash)@1",
            "/b ws1(ro,sync,root_squash)@2"
        ]
    );
}

#[test]
fn paths_get_one_spelling() {
    assert_eq!(
        shown("//srv///share/ *"),
        ["/srv/share *(ro,sync,root_squash)@1"]
    );
    assert_eq!(shown("/ *"), ["/ *(ro,sync,root_squash)@1"]);
}

#[test]
fn the_space_before_the_options() {
    assert_eq!(
        fault("/srv ws1 (rw)"),
        "1: error: a space before the options: they would apply to everyone, and \"ws1\" gets none: \"(rw)\"; \
         fix: remove the space: ws1(rw); or write *(rw) for everyone"
    );
    assert_eq!(
        fault("/srv (rw)"),
        "1: error: options without a client would apply to everyone: \"(rw)\"; fix: write CLIENT(rw), or *(rw) for everyone"
    );
    assert_eq!(fault("/srv ws1(ro) (rw)").lines().count(), 1);
    assert_eq!(
        fault("/srv(rw)"),
        "1: error: no client between the path and its options: \"/srv(rw)\"; \
         fix: write /srv CLIENT(rw), or /srv *(rw) for everyone; quote a path with parentheses"
    );
}

#[test]
fn faults_of_syntax() {
    let cases = [
        (
            "srv *",
            "1: error: the path is not absolute: \"srv\"; fix: start it with /",
        ),
        (
            "/a/../b *",
            "1: error: the path has \".\" or \"..\" in it: \"/a/../b\"; fix: write the path without them",
        ),
        (
            "/a\\000 *",
            "1: error: not a path: \"/a\\\\000\"; fix: use at most 4095 bytes and no \\000",
        ),
        (
            "/a",
            "1: error: no client is named: \"/a\"; fix: write /a CLIENT(ro), or /a *(ro) for everyone",
        ),
        (
            "/a -rw",
            "1: error: no client is named: \"/a\"; fix: write /a CLIENT(ro), or /a *(ro) for everyone",
        ),
        (
            "/a *(rw, sync)",
            "1: error: a space inside the option list: \"*(rw, sync)\"; fix: write *(rw,sync)",
        ),
        (
            "/a *(rw,\\\n sync)",
            "1: error: a space inside the option list: \"*(rw, sync)\"; fix: write *(rw,sync)",
        ),
        (
            "/a *(rw",
            "1: error: the option list is not closed: \"*(rw\"; fix: add the missing \")\"",
        ),
        (
            "/a rw)",
            "1: error: \")\" without \"(\": \"rw)\"; fix: write CLIENT(OPTIONS) without spaces",
        ),
        (
            "/a x(rw)y(ro)",
            "1: error: text after the option list: \"x(rw)y(ro)\"; fix: write x(rw), then a space before the next client",
        ),
        (
            "\n\"/a *\n/b *",
            "2: error: a quote is not closed: \"/a *\"; fix: add the missing \"",
        ),
        (
            "/a @staff(rw)",
            "1: error: netgroups are not supported: \"@staff\"; fix: name the hosts, a network (10.0.0.0/8) or *.DOMAIN",
        ),
    ];
    for (text, expected) in cases {
        let all = fault(text);
        assert_eq!(all.lines().next(), Some(expected), "{text:?}");
    }
    let mut found = Findings::new();
    parse("exports", 1, b"/a \xff(rw)", &mut found);
    assert!(found.to_string().contains("not UTF-8 text"), "{found}");
}

#[test]
fn every_fault_is_reported_with_its_line() {
    let (grants, found) = read("srv *(rx)\n/ok *(rw)\n/b @x(ro,rw) ws1(anonuid=q)\n");
    assert_eq!(
        grants.iter().filter(|g| g.path == Path::new("/ok")).count(),
        1
    );
    let lines: Vec<&str> = found
        .lines()
        .map(|l| l.split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        [
            "exports:1:",
            "exports:1:",
            "exports:3:",
            "exports:3:",
            "exports:3:"
        ],
        "{found}"
    );
}

#[test]
fn the_first_line_can_be_inside_another_file() {
    let mut found = Findings::new();
    parse("ringnfs.toml", 40, b"\n/a *(rx)", &mut found);
    assert!(
        found.to_string().starts_with("ringnfs.toml:41: "),
        "{found}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse("f", 1, &text, &mut Findings::new());
    }

    #[test]
    fn any_mixture_of_syntax_is_read_without_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("/a"), Just(" "), Just("("), Just(")"), Just("*"), Just(","), Just("rw"), Just("\\"), Just("\n"),
                Just("\""), Just("#"), Just("-"), Just("="), Just("fsid="), Just("sec="), Just("\\040"), Just("[::1]"),
                Just("10.0.0.0/"), Just("8"), Just("anonuid="), Just("mp="), Just("\r"), Just("@"), Just("ä")
            ],
            0..40,
        )
    ) {
        parse("f", u32::MAX, words.concat().as_bytes(), &mut Findings::new());
    }

    #[test]
    fn escaped_paths_read_back(name in proptest::collection::vec(1u8.., 1..40)) {
        let mut bytes = b"/".to_vec();
        bytes.extend(name);
        if let Ok(path) = check_path(&bytes) {
            let mut found = Findings::new();
            let grants = parse("f", 1, format!("{} *", escape(&path)).as_bytes(), &mut found);
            prop_assert!(found.is_empty(), "{}", found);
            prop_assert_eq!(grants.first().map(|g| g.path.clone()), Some(path));
        }
    }
}
