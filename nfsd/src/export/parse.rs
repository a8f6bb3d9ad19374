//! The syntax of exports(5): `path client(options) client(options)`, `-options` defaults, `#` comments, `\` at the end
//! of a line, quoted paths and `\ooo` escapes.

use super::client::Client;
use super::options::{Options, parse_options};
use crate::finding::{Findings, Place};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Longest path, as in `PATH_MAX` of Linux.
const LONGEST_PATH: usize = 4095;

/// One `path client(options)` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Absolute, no `.` or `..`, no doubled or trailing slash.
    pub path: PathBuf,
    /// Whom it is for.
    pub client: Client,
    /// What they may do.
    pub options: Options,
    /// Line of the client in the file, from 1.
    pub line: u32,
}

/// Reads exports(5) text. `first_line` is the number of its first line in `file`.
///
/// Goes on after a fault; whoever uses the result must look at `found.has_errors()` first.
pub fn parse(file: &str, first_line: u32, text: &[u8], found: &mut Findings) -> Vec<Grant> {
    let mut grants = Vec::new();
    let mut scanner = Scanner {
        rest: text,
        line: first_line,
    };
    loop {
        let (words, more) = scanner.entry(file, found);
        if let Some((path, clients)) = words.split_first() {
            entry(file, path, clients, &mut grants, found);
        }
        if !more {
            return grants;
        }
    }
}

/// One word of an entry: quotes removed, escapes still in.
struct Word {
    bytes: Vec<u8>,
    line: u32,
    quoted: bool,
}

impl Word {
    fn place<'a>(&self, file: &'a str) -> Place<'a> {
        Place {
            file,
            line: self.line,
        }
    }
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Splits text into entries of words.
struct Scanner<'a> {
    rest: &'a [u8],
    line: u32,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line = self.line.saturating_add(u32::from(*byte == b'\n'));
        Some(*byte)
    }

    /// Takes a backslash and the line end after it, if that is what comes.
    fn continuation(&mut self) -> bool {
        let length = match self.rest {
            [b'\\', b'\n', ..] => 2,
            [b'\\', b'\r', b'\n', ..] => 3,
            _ => return false,
        };
        for _ in 0..length {
            self.next();
        }
        true
    }

    /// The words of the next entry, none for an empty line; and whether text is left.
    fn entry(&mut self, file: &str, found: &mut Findings) -> (Vec<Word>, bool) {
        let mut words = Vec::new();
        loop {
            if self.continuation() {
                continue;
            }
            match self.peek() {
                None => return (words, false),
                Some(b'\n') => {
                    self.next();
                    return (words, true);
                }
                Some(b'#') => self.comment(file, found),
                Some(byte) if byte.is_ascii_whitespace() => {
                    self.next();
                }
                Some(_) => words.push(self.word(file, found)),
            }
        }
    }

    /// Skips to the line end. Readers of exports(5) join lines before they look for comments, so a comment that ends in
    /// a backslash hides the next line too.
    fn comment(&mut self, file: &str, found: &mut Findings) {
        while let Some(byte) = self.peek() {
            let line = self.line;
            if self.continuation() {
                let fix = "remove the backslash at the end of the comment";
                found.warning(
                    Place { file, line },
                    "the comment goes on in the next line",
                    "",
                    fix,
                );
            } else if byte == b'\n' {
                return;
            } else {
                self.next();
            }
        }
    }

    fn word(&mut self, file: &str, found: &mut Findings) -> Word {
        let mut word = Word {
            bytes: Vec::new(),
            line: self.line,
            quoted: false,
        };
        let mut inside = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.next();
                    inside = !inside;
                    word.quoted = true;
                }
                None | Some(b'\n') if inside => {
                    found.error(
                        word.place(file),
                        "a quote is not closed",
                        &word.text(),
                        "add the missing \"",
                    );
                    return word;
                }
                None => return word,
                Some(byte) if !inside && byte.is_ascii_whitespace() => return word,
                Some(b'\\')
                    if self.rest.starts_with(b"\\\n") || self.rest.starts_with(b"\\\r\n") =>
                {
                    if !inside {
                        return word;
                    }
                    found.error(
                        word.place(file),
                        "a quote is not closed",
                        &word.text(),
                        "add the missing \"",
                    );
                    return word;
                }
                Some(byte) => {
                    self.next();
                    word.bytes.push(byte);
                }
            }
        }
    }
}

/// Replaces `\ooo` (three octal digits, at most `\377`) by the byte; other backslashes stay.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// A path as written in an exports file.
pub fn escape(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' | '#' | '(' | ')' => out.push_str(&format!("\\{:03o}", u32::from(c))),
                _ if c.is_ascii_whitespace() || c.is_ascii_control() => {
                    out.push_str(&format!("\\{:03o}", u32::from(c)));
                }
                _ => out.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| out.push_str(&format!("\\{byte:03o}")));
    }
    out
}

/// The exported directory in one spelling, or why it cannot be one (message, fix).
pub fn check_path(bytes: &[u8]) -> Result<PathBuf, (&'static str, &'static str)> {
    if !bytes.starts_with(b"/") {
        return Err(("the path is not absolute", "start it with /"));
    }
    if bytes.contains(&0) || bytes.len() > LONGEST_PATH {
        return Err(("not a path", "use at most 4095 bytes and no \\000"));
    }
    let names = || bytes.split(|b| *b == b'/').filter(|name| !name.is_empty());
    if names().any(|name| name == b"." || name == b"..") {
        return Err((
            "the path has \".\" or \"..\" in it",
            "write the path without them",
        ));
    }
    let mut path = Vec::with_capacity(bytes.len());
    for name in names() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// One entry: its path, then defaults and clients.
fn entry(
    file: &str,
    path_word: &Word,
    words: &[Word],
    grants: &mut Vec<Grant>,
    found: &mut Findings,
) {
    let at = path_word.place(file);
    if let (false, Some(open)) = (
        path_word.quoted,
        path_word.bytes.iter().position(|b| *b == b'('),
    ) {
        let path =
            String::from_utf8_lossy(path_word.bytes.get(..open).unwrap_or_default()).into_owned();
        let list =
            String::from_utf8_lossy(path_word.bytes.get(open..).unwrap_or_default()).into_owned();
        let fix = format!(
            "write {path} CLIENT{list}, or {path} *{list} for everyone; quote a path with parentheses"
        );
        return found.error(
            at,
            "no client between the path and its options",
            &path_word.text(),
            fix,
        );
    }
    let path = match check_path(&unescape(&path_word.bytes)) {
        Ok(path) => Some(path),
        Err((message, fix)) => {
            found.error(at, message, &path_word.text(), fix);
            None
        }
    };
    let mut defaults = Options::default();
    let mut clients = 0;
    let mut words = words.iter();
    let mut before: Option<String> = None;
    while let Some(word) = words.next() {
        let at = word.place(file);
        let Ok(text) = str::from_utf8(&word.bytes) else {
            found.error(
                at,
                "not UTF-8 text",
                &word.text(),
                "only paths may hold other bytes",
            );
            continue;
        };
        if let Some(list) = text.strip_prefix('-').filter(|_| !word.quoted) {
            defaults = parse_options(list, &defaults, at, found);
            continue;
        }
        clients += 1;
        if let Some(shared) = client(text, before.as_deref(), &mut words, &defaults, at, found)
            && let Some(path) = &path
        {
            grants.push(Grant {
                path: path.clone(),
                client: shared.0,
                options: shared.1,
                line: word.line,
            });
        }
        before = Some(text.to_owned());
    }
    if clients == 0 {
        let path = path_word.text();
        let fix = format!("write {path} CLIENT(ro), or {path} *(ro) for everyone");
        found.error(at, "no client is named", &path, fix);
    }
}

/// Reads `client` or `client(options)`; takes further words where a list has spaces in it.
fn client<'a>(
    text: &str,
    before: Option<&str>,
    words: &mut impl Iterator<Item = &'a Word>,
    defaults: &Options,
    at: Place<'_>,
    found: &mut Findings,
) -> Option<(Client, Options)> {
    let (name, list) = match text.split_once('(') {
        None if text.ends_with(')') => {
            found.error(
                at,
                "\")\" without \"(\"",
                text,
                "write CLIENT(OPTIONS) without spaces",
            );
            return None;
        }
        None => (text, ""),
        Some((name, rest)) => match rest.split_once(')') {
            Some((list, "")) => (name, list),
            Some((list, _)) => {
                let fix = format!("write {name}({list}), then a space before the next client");
                found.error(at, "text after the option list", text, fix);
                return None;
            }
            None => {
                unclosed(text, words, at, found);
                return None;
            }
        },
    };
    if name.is_empty() {
        stands_alone(text, before, at, found);
        return None;
    }
    let client = Client::parse(name)
        .map_err(|bad| found.error(at, bad.message, name, bad.fix))
        .ok();
    let options = parse_options(list, defaults, at, found);
    client.map(|client| (client, options))
}

/// `host (rw)` gives the host the defaults and everyone else `rw`, which nobody ever means.
fn stands_alone(list: &str, before: Option<&str>, at: Place<'_>, found: &mut Findings) {
    match before.filter(|before| !before.contains('(')) {
        Some(host) => {
            let message = format!(
                "a space before the options: they would apply to everyone, and \"{host}\" gets none"
            );
            let fix = format!("remove the space: {host}{list}; or write *{list} for everyone");
            found.error(at, message, list, fix);
        }
        None => {
            let fix = format!("write CLIENT{list}, or *{list} for everyone");
            found.error(
                at,
                "options without a client would apply to everyone",
                list,
                fix,
            );
        }
    }
}

/// An option list without `)`: with one in a later word, the mistake is the space.
fn unclosed<'a>(
    text: &str,
    words: &mut impl Iterator<Item = &'a Word>,
    at: Place<'_>,
    found: &mut Findings,
) {
    let mut joined = text.to_owned();
    let mut spaced = text.to_owned();
    for word in words {
        joined.push_str(&word.text());
        spaced.push(' ');
        spaced.push_str(&word.text());
        if word.bytes.contains(&b')') {
            return found.error(
                at,
                "a space inside the option list",
                &spaced,
                format!("write {joined}"),
            );
        }
    }
    found.error(
        at,
        "the option list is not closed",
        &spaced,
        "add the missing \")\"",
    );
}

#[cfg(test)]
mod tests;
