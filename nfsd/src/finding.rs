//! What is wrong with a configuration or exports file: where, what, and how to put it right.
//!
//! Readers of configuration push into one [`Findings`] and go on, so that an administrator sees every fault of a
//! file at once and not one per attempt.

use std::fmt;

/// Findings kept of one load; a file with more faults than this is not an exports file.
const MOST_FINDINGS: usize = 200;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Accepted, and worth knowing when files are checked.
    Note,
    /// Accepted, but probably not what was meant.
    Warning,
    /// Refused: the server does not start with it.
    Error,
}

impl Severity {
    /// The lower-case word used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One fault, printed as `FILE:LINE: SEVERITY: MESSAGE: "VALUE"; fix: FIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The file as the administrator named it, or the command line option.
    pub file: String,
    /// Line in that file, from 1; 0 where there are no lines (command line).
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// The text it is about; empty when there is none to quote.
    pub value: String,
    /// What to write instead; empty when nothing has to change.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        write!(f, " {}: {}", self.severity.name(), self.message)?;
        if !self.value.is_empty() {
            write!(f, ": \"{}\"", self.value.escape_debug())?;
        }
        if !self.fix.is_empty() {
            write!(f, "; fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// The place a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// File name, or the name of a command line option.
    pub file: &'a str,
    /// Line from 1, 0 for none.
    pub line: u32,
}

/// Everything found in one load, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    errors: usize,
}

impl Findings {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one finding. Beyond 200 only the number of errors is kept.
    pub fn push(&mut self, finding: Finding) {
        self.errors += usize::from(finding.severity == Severity::Error);
        if self.list.len() < MOST_FINDINGS {
            self.list.push(finding);
        }
    }

    /// Records an error at `at`.
    pub fn error(
        &mut self,
        at: Place<'_>,
        message: impl Into<String>,
        value: &str,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Error, at, message.into(), value, fix.into());
    }

    /// Records a warning at `at`.
    pub fn warning(
        &mut self,
        at: Place<'_>,
        message: impl Into<String>,
        value: &str,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Warning, at, message.into(), value, fix.into());
    }

    /// Records a note at `at`.
    pub fn note(&mut self, at: Place<'_>, message: impl Into<String>, value: &str) {
        self.add(Severity::Note, at, message.into(), value, String::new());
    }

    fn add(
        &mut self,
        severity: Severity,
        at: Place<'_>,
        message: String,
        value: &str,
        fix: String,
    ) {
        let (file, value) = (at.file.to_owned(), value.to_owned());
        self.push(Finding {
            severity,
            file,
            line: at.line,
            message,
            value,
            fix,
        });
    }

    /// Whether the load has to be refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Number of errors, also of those beyond the kept ones.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Everything kept, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter()
    }

    /// Whether nothing at all was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends what another load found.
    pub fn append(&mut self, other: Findings) {
        let kept_errors = other
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .count();
        self.errors += other.errors - kept_errors;
        other
            .list
            .into_iter()
            .for_each(|finding| self.push(finding));
    }
}

/// One finding a line, errors and the rest in the order found.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// The name in `known` nearest to `word`, if near enough to be what was meant.
///
/// Near means at most two slips (insert, delete, replace, swap of neighbours), one in words of up to four letters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let allowed = if word.len() <= 4 { 1 } else { 2 };
    let scored = known.into_iter().map(|name| (slips(&word, name), name));
    scored
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// Optimal string alignment distance, case as given.
fn slips(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut now = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            now[j + 1] = replaced.min(last[j + 1] + 1).min(now[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                now[j + 1] = now[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, now);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_place_value_and_fix() {
        let mut found = Findings::new();
        found.error(
            Place {
                file: "/etc/exports",
                line: 3,
            },
            "unknown option",
            "rx",
            "write \"rw\"",
        );
        found.note(
            Place {
                file: "--options",
                line: 0,
            },
            "it is so",
            "",
        );
        assert_eq!(
            found.to_string(),
            "/etc/exports:3: error: unknown option: \"rx\"; fix: write \"rw\"\n--options: note: it is so"
        );
    }

    #[test]
    fn values_cannot_break_the_line() {
        let mut found = Findings::new();
        found.error(Place { file: "f", line: 1 }, "bad", "a\nb\u{1b}[31m", "");
        assert_eq!(found.to_string(), "f:1: error: bad: \"a\\nb\\u{1b}[31m\"");
    }

    #[test]
    fn nearest_finds_slips_and_nothing_far() {
        let names = ["ro", "rw", "no_root_squash", "root_squash", "sync", "async"];
        assert_eq!(nearest("no_root_sqash", names), Some("no_root_squash"));
        assert_eq!(nearest("ysnc", names), Some("sync"));
        assert_eq!(nearest("RW", names), Some("rw"));
        assert_eq!(nearest("banana", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn findings_are_bounded_and_errors_still_counted() {
        let mut found = Findings::new();
        for line in 0..500 {
            found.error(Place { file: "f", line }, "bad", "", "");
        }
        assert_eq!(found.iter().count(), MOST_FINDINGS);
        assert_eq!(found.errors(), 500);
        let mut all = Findings::new();
        all.append(found);
        assert_eq!(all.errors(), 500);
    }
}
