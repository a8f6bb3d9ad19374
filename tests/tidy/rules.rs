//! The rules a single file of Rust must keep.

use crate::source::Source;

/// Lines in a file.
const FILE_LINES: usize = 800;
/// Lines in a function, from `fn` to the closing brace.
const FUNCTION_LINES: usize = 120;

// In the lists below a path that ends in a slash stands for all that is under it.

/// Where `unsafe` may stand; files under tests/ are named one by one.
const UNSAFE: &[&str] = &["vfs/src/uring/", "vfs/src/sys.rs"];
/// Where the server itself may print; everything else uses tracing.
const PRINT: &[&str] = &["nfsd/src/main.rs", "nfsd/src/cli.rs", "nfsd/src/cli/"];
/// Where the clock may be read; everything else is handed `now`. The log stamps its own lines.
const CLOCK: &[&str] = &["vfs/src/exec.rs", "vfs/src/exec/", "nfsd/src/log.rs"];
/// Modules that decide and never wait.
const PURE: &[&str] = &[
    "acl/src/",
    "nfsd/src/export/",
    "nfsd/src/nfs4/state/",
    "nfsd/src/rpc/auth/",
    "nfsd/src/rpc/drc.rs",
    "nfsd/src/rpc/msg.rs",
    "nfsd/src/rpc/record.rs",
    "nfsd/src/xdr/",
    "vfs/src/locks/",
];
/// Words that say nothing about what is in a file or module.
const EMPTY_WORDS: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers",
];

/// Takes a line and what is wrong there.
type Report<'a> = &'a mut dyn FnMut(usize, String);

/// The name a rule reports under, and the rule.
type Rule = (&'static str, fn(&Source, Report<'_>));

/// Every rule.
pub const RULES: &[Rule] = &[
    ("header", header),
    ("file-length", file_length),
    ("function-length", function_length),
    ("unsafe-place", unsafe_place),
    ("unsafe-comment", unsafe_comment),
    ("unfinished", unfinished),
    ("print", print),
    ("pure", pure),
    ("clock", clock),
    ("name", name),
];

fn listed(path: &str, list: &[&str]) -> bool {
    list.iter()
        .any(|entry| path == *entry || (entry.ends_with('/') && path.starts_with(entry)))
}

/// Whether the whole file is test, bench or build code.
fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "build.rs"))
}

/// Reports each token for which `message` has one, outside of test code.
fn outside_tests(source: &Source, report: Report<'_>, message: impl Fn(usize) -> Option<String>) {
    if is_test_file(&source.path) {
        return;
    }
    let test_lines = source.test_lines();
    for (index, token) in source.tokens.iter().enumerate() {
        if let Some(message) = message(index)
            && !test_lines.iter().any(|lines| lines.contains(&token.line))
        {
            report(token.line, message);
        }
    }
}

fn header(source: &Source, report: Report<'_>) {
    if source.header().next().is_none() {
        report(1, "the file does not open with //!".to_owned());
    }
}

fn file_length(source: &Source, report: Report<'_>) {
    if source.lines.len() > FILE_LINES {
        report(
            FILE_LINES + 1,
            format!("{} lines, at most {FILE_LINES}", source.lines.len()),
        );
    }
}

fn function_length(source: &Source, report: Report<'_>) {
    for function in source.functions() {
        let lines = function.lines.end() - function.lines.start() + 1;
        if lines > FUNCTION_LINES {
            let message = format!(
                "{} has {lines} lines, at most {FUNCTION_LINES}",
                function.name
            );
            report(*function.lines.start(), message);
        }
    }
}

fn unsafe_place(source: &Source, report: Report<'_>) {
    if listed(&source.path, UNSAFE) {
        return;
    }
    for token in source.tokens.iter().filter(|token| token.text == "unsafe") {
        report(token.line, format!("unsafe outside {}", UNSAFE.join(", ")));
    }
}

fn unsafe_comment(source: &Source, report: Report<'_>) {
    for (index, token) in source.tokens.iter().enumerate() {
        let opens = matches!(source.token(index + 1), "{" | "impl" | "extern");
        if token.text == "unsafe" && opens && !has_safety_comment(source, token.line) {
            report(token.line, "no SAFETY: comment before it".to_owned());
        }
    }
}

/// Whether a comment with `SAFETY:` stands on this line, or above the statement the line belongs to.
fn has_safety_comment(source: &Source, line: usize) -> bool {
    let says = |index: usize| source.comments[index].contains("SAFETY:");
    if says(line - 1) {
        return true;
    }
    for index in (0..line - 1).rev() {
        let code = source.code[index].trim();
        if code.is_empty() && source.comments[index].trim().is_empty() {
            return false;
        }
        if code.ends_with([';', '{', '}']) {
            return false;
        }
        if says(index) {
            return true;
        }
    }
    false
}

fn unfinished(source: &Source, report: Report<'_>) {
    for (index, token) in source.tokens.iter().enumerate() {
        let is_macro = source.token(index + 1) == "!";
        match token.text.as_str() {
            "todo" | "unimplemented" | "dbg" if is_macro => {
                report(token.line, format!("{}! is not for the tree", token.text));
            }
            "dead_code" if is_silenced(source, index) => {
                report(token.line, "dead code goes, it is not silenced".to_owned());
            }
            _ => {}
        }
    }
}

/// Whether the lint at `index` is named in an `allow` or `expect`.
fn is_silenced(source: &Source, index: usize) -> bool {
    let levels = ["allow", "expect", "warn", "deny", "forbid"];
    let level = (0..index)
        .rev()
        .map(|at| source.token(at))
        .find(|text| levels.contains(text));
    matches!(level, Some("allow" | "expect"))
}

fn print(source: &Source, report: Report<'_>) {
    if listed(&source.path, PRINT) {
        return;
    }
    let macros = ["print", "println", "eprint", "eprintln"];
    outside_tests(source, report, |index| {
        let name = source.token(index);
        (macros.contains(&name) && source.token(index + 1) == "!")
            .then(|| format!("{name}! outside {}; use tracing", PRINT.join(", ")))
    });
}

fn pure(source: &Source, report: Report<'_>) {
    if !listed(&source.path, PURE) {
        return;
    }
    for token in &source.tokens {
        if matches!(token.text.as_str(), "async" | "await") {
            report(token.line, format!("{} in a pure module", token.text));
        }
    }
}

fn clock(source: &Source, report: Report<'_>) {
    if listed(&source.path, CLOCK) {
        return;
    }
    outside_tests(source, report, |index| {
        let reads = match source.token(index) {
            "Instant" | "SystemTime" => source.matches(index + 1, &[":", ":", "now"]),
            "." => source.matches(index + 1, &["elapsed", "(", ")"]),
            "clock_gettime" => true,
            _ => false,
        };
        reads.then(|| format!("the clock is read outside {}; take now", CLOCK.join(", ")))
    });
}

fn name(source: &Source, report: Report<'_>) {
    let empty = |name: &str| {
        let mut words = name.split(['/', '_', '-', '.']);
        words
            .find(|word| EMPTY_WORDS.contains(word))
            .map(|word| format!("{word} says nothing"))
    };
    if let Some(message) = empty(&source.path) {
        report(1, message);
    }
    for (index, token) in source.tokens.iter().enumerate() {
        if token.text == "mod"
            && let Some(message) = empty(source.token(index + 1))
        {
            report(token.line, message);
        }
    }
}
