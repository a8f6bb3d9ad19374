//! A Rust source file as the rules look at it: code without comments and literals, comments by line, tokens.

use std::ops::RangeInclusive;

/// One token of code: an identifier, keyword or number, or a single character of punctuation.
#[derive(Debug)]
pub struct Token {
    /// The token itself.
    pub text: String,
    /// Line it stands on, from one.
    pub line: usize,
}

/// A file of Rust, taken apart.
#[derive(Debug)]
pub struct Source {
    /// Path below the root of the repository.
    pub path: String,
    /// The text as it is, by line.
    pub lines: Vec<String>,
    /// The text by line with comments and the contents of literals blanked.
    pub code: Vec<String>,
    /// The comment on each line, empty if there is none.
    pub comments: Vec<String>,
    /// The code as tokens.
    pub tokens: Vec<Token>,
}

/// A function: its name and the lines from `fn` to its closing brace.
pub struct Function<'a> {
    /// Name, as declared.
    pub name: &'a str,
    /// First and last line.
    pub lines: RangeInclusive<usize>,
    /// Whether it carries `#[test]`.
    pub is_test: bool,
}

impl Source {
    /// Takes `text` apart. Anything goes: what is no Rust gives useless tokens, not an error.
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        let tokens = tokenize(&code);
        let by_line = |text: &str| text.lines().map(str::to_owned).collect();
        Source {
            path: path.to_owned(),
            lines: by_line(text),
            code: by_line(&code),
            comments: by_line(&comments),
            tokens,
        }
    }

    /// The text of token `index`, empty beyond the end.
    pub fn token(&self, index: usize) -> &str {
        self.tokens
            .get(index)
            .map_or("", |token| token.text.as_str())
    }

    /// Whether the tokens from `index` on are `expected`.
    pub fn matches(&self, index: usize, expected: &[&str]) -> bool {
        expected
            .iter()
            .enumerate()
            .all(|(offset, text)| self.token(index + offset) == *text)
    }

    /// The index of the token that closes the bracket at `open`.
    pub fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for index in open..self.tokens.len() {
            match self.token(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => continue,
            }
            if depth == 0 {
                return Some(index);
            }
        }
        None
    }

    /// Every function with a body, nested ones and those in macros too.
    pub fn functions(&self) -> Vec<Function<'_>> {
        (0..self.tokens.len())
            .filter_map(|index| self.function_at(index))
            .collect()
    }

    fn function_at(&self, index: usize) -> Option<Function<'_>> {
        let name = self.token(index + 1);
        let named = name.starts_with(|first: char| first.is_alphabetic() || "_$".contains(first));
        if self.token(index) != "fn" || !named {
            return None;
        }
        let mut at = index + 2;
        let end = loop {
            match self.token(at) {
                "" | ";" => return None,
                "{" => break self.closing(at)?,
                "(" | "[" => at = self.closing(at)?,
                _ => {}
            }
            at += 1;
        };
        let lines = self.tokens[index].line..=self.tokens[end].line;
        Some(Function {
            name,
            lines,
            is_test: self.follows_test_attribute(index),
        })
    }

    /// Whether `#[test]` is among the attributes before the item whose keyword is at `index`.
    fn follows_test_attribute(&self, index: usize) -> bool {
        let start = (0..index)
            .rev()
            .find(|&at| matches!(self.token(at), ";" | "{" | "}"));
        (start.map_or(0, |at| at + 1)..index).any(|at| self.matches(at, &["#", "[", "test", "]"]))
    }

    /// The lines of inline modules that are only built for tests.
    pub fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let mut found = Vec::new();
        for index in 0..self.tokens.len() {
            if !self.matches(index, &["#", "[", "cfg", "("]) {
                continue;
            }
            let Some(mut at) = self.closing(index + 1) else {
                continue;
            };
            let condition = &self.tokens[index..at];
            let has = |word| condition.iter().any(|token| token.text == word);
            if !has("test") || has("not") || has("any") {
                continue;
            }
            while self.token(at + 1) == "#" {
                at = self.closing(at + 2).unwrap_or(self.tokens.len());
            }
            if self.token(at + 1) != "mod" || self.token(at + 3) != "{" {
                continue;
            }
            if let Some(end) = self.closing(at + 3) {
                found.push(self.tokens[index].line..=self.tokens[end].line);
            }
        }
        found
    }

    /// The leading `//!` lines.
    pub fn header(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map_while(|line| line.strip_prefix("//!"))
    }
}

/// `text` twice, each line for line: with all but code blanked, and with all but comments blanked.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (len, is) = piece(&chars, at);
        for &char in &chars[at..at + len] {
            let kept = |keep: bool| if keep || char == '\n' { char } else { ' ' };
            code.push(kept(is == Piece::Code));
            comments.push(kept(is == Piece::Comment));
        }
        at += len;
    }
    (code, comments)
}

#[derive(PartialEq)]
enum Piece {
    Code,
    Comment,
    Literal,
}

/// Length and sort of the piece of text that starts at `at`.
fn piece(chars: &[char], at: usize) -> (usize, Piece) {
    let rest = &chars[at..];
    let next = |offset: usize| rest.get(offset).copied().unwrap_or('\0');
    match (next(0), next(1)) {
        ('/', '/') => {
            let len = rest
                .iter()
                .position(|&char| char == '\n')
                .unwrap_or(rest.len());
            (len, Piece::Comment)
        }
        ('/', '*') => (block_comment(rest), Piece::Comment),
        ('"', _) => (quoted(rest, '"'), Piece::Literal),
        // A quote that closes after one character, or after an escape, is a char; else it opens a lifetime.
        ('\'', '\\') => (quoted(rest, '\''), Piece::Literal),
        ('\'', _) if next(2) == '\'' => (3, Piece::Literal),
        (first, _) if is_word(first) => {
            let len = rest
                .iter()
                .position(|&char| !is_word(char))
                .unwrap_or(rest.len());
            let word: String = rest[..len].iter().collect();
            match raw_string(&rest[len..]) {
                Some(raw) if matches!(word.as_str(), "r" | "br" | "cr") => {
                    (len + raw, Piece::Literal)
                }
                _ => (len, Piece::Code),
            }
        }
        _ => (1, Piece::Code),
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Length of the comment at the start of `rest`; block comments nest.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the literal at the start of `rest`, up to `quote` or the end of the text.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of what follows the `r` of a raw string, `None` if it is none.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&char| char == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let ends = |at: usize| {
        rest[at] == '"'
            && rest[at + 1..]
                .iter()
                .take(hashes)
                .filter(|&&char| char == '#')
                .count()
                == hashes
    };
    let end = (hashes + 1..rest.len()).find(|&at| ends(at));
    Some(end.map_or(rest.len(), |at| at + 1 + hashes))
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = match rest.find(|char| !is_word(char)) {
                Some(0) => first.len_utf8(),
                Some(len) => len,
                None => rest.len(),
            };
            tokens.push(Token {
                text: rest[..len].to_owned(),
                line: index + 1,
            });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

#[test]
fn literals_and_comments_are_no_code() {
    let text = "a \"b\\\"c\" 'd' '\\'' 'e: f // g\nr#\"h\"i\"# /* j /* k */ l\n*/ m b'n' br\"o\" r#p \"q\n r\"";
    let source = Source::new("x.rs", text);
    let tokens: Vec<&str> = source
        .tokens
        .iter()
        .map(|token| token.text.as_str())
        .collect();
    assert_eq!(tokens, ["a", "'", "e", ":", "f", "m", "b", "r", "#", "p"]);
    assert_eq!(source.comments[0].trim(), "// g");
    assert_eq!(source.lines.len(), source.code.len());
    for unfinished in [
        "\"a",
        "'\\",
        "/* a",
        "r#\"a\"",
        "\"\\",
        "fn a(",
        "#[cfg(",
        "#[cfg(test)] #",
    ] {
        let source = Source::new("x.rs", unfinished);
        assert!(source.functions().is_empty() && source.test_lines().is_empty());
    }
}
