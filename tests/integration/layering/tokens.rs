//! Rust text as words and signs, with comments, strings and characters gone: enough to find paths, blocks and
//! functions, and not a parser.

/// One word or sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
}

/// Splits source text. A string or character literal becomes the one token `""`.
pub fn split(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let (next, kind) = step(&chars, at);
        let text: String = match kind {
            Kind::Nothing => String::new(),
            Kind::Literal => "\"\"".to_owned(),
            Kind::Text => chars[at..next].iter().collect(),
        };
        if !text.is_empty() {
            tokens.push(Token { text, line });
        }
        line += chars[at..next].iter().filter(|c| **c == '\n').count();
        at = next;
    }
    tokens
}

enum Kind {
    Nothing,
    Literal,
    Text,
}

/// Where the thing at `at` ends, and what it was.
fn step(chars: &[char], at: usize) -> (usize, Kind) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        c if c.is_whitespace() => (at + 1, Kind::Nothing),
        '/' if next == Some('/') => (find(chars, at, '\n'), Kind::Nothing),
        '/' if next == Some('*') => (block_comment(chars, at), Kind::Nothing),
        '"' => (string(chars, at + 1), Kind::Literal),
        '\'' => match character(chars, at) {
            Some(end) => (end, Kind::Literal),
            None => (at + 1, Kind::Nothing),
        },
        'r' | 'b' | 'c' => match prefixed(chars, at) {
            Some(end) => (end, Kind::Literal),
            None => (word(chars, at), Kind::Text),
        },
        c if c.is_alphanumeric() || c == '_' => (word(chars, at), Kind::Text),
        ':' if next == Some(':') => (at + 2, Kind::Text),
        _ => (at + 1, Kind::Text),
    }
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    (from..chars.len()).find(|at| chars[*at] == wanted).unwrap_or(chars.len())
}

fn word(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|at| !chars[*at].is_alphanumeric() && chars[*at] != '_').unwrap_or(chars.len())
}

/// Block comments nest in Rust.
fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// The end of a string whose opening quote is just before `at`.
fn string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a character literal, or `None` for a lifetime.
fn character(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1)?, chars.get(at + 2)) {
        ('\\', _) => Some(find(chars, at + 3, '\'') + 1),
        (_, Some('\'')) => Some(at + 3),
        _ => None,
    }
}

/// The end of `b"…"`, `b'…'`, `r"…"`, `r#"…"#`, `br#"…"#` and their kind; `None` where the letters begin a word.
fn prefixed(chars: &[char], at: usize) -> Option<usize> {
    let letters = (at..chars.len()).find(|at| !matches!(chars[*at], 'r' | 'b' | 'c'))?;
    let raw = chars[at..letters].contains(&'r');
    let hashes = (letters..chars.len()).take_while(|at| chars[*at] == '#').count();
    match chars.get(letters + hashes)? {
        '"' if raw => {
            let closing: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let rest: String = chars[letters + hashes + 1..].iter().collect();
            let end = rest.find(&closing)?;
            Some(letters + hashes + 1 + rest[..end].chars().count() + closing.len())
        }
        '"' if hashes == 0 => Some(string(chars, letters + 1)),
        '\'' if hashes == 0 && letters == at + 1 && chars[at] == 'b' => character(chars, letters),
        _ => None,
    }
}

#[test]
fn comments_strings_and_characters_are_no_words() {
    let source =
        "a // unsafe\n/* unsafe /* unsafe */ */ \"unsafe\\\"\" r#\"unsafe\"# b\"unsafe\" '\"' b'\\'' 'x: &'static c::d";
    let words: Vec<String> = split(source).into_iter().map(|token| token.text).collect();
    assert_eq!(words, ["a", "\"\"", "\"\"", "\"\"", "\"\"", "\"\"", "x", ":", "&", "static", "c", "::", "d"]);
}
