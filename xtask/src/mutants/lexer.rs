//! The words of a Lua file, and where its brackets, blocks and statements begin and end.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name of a variable, a function or a field.
    Name,
    /// A word of Lua itself.
    Keyword,
    Number,
    /// A literal text, with its quotes.
    Text,
    /// Operators and punctuation.
    Sign,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Its place in the file, in bytes.
    pub(crate) start: usize,
}

impl Token<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];
const LONG_SIGNS: &[&str] = &["...", "..", "==", "~=", "<=", ">="];

/// A file as words.
pub(crate) struct Code<'a> {
    pub(crate) text: &'a str,
    pub(crate) tokens: Vec<Token<'a>>,
    /// Where the bracket or block that a word opens is closed.
    mates: Vec<Option<usize>>,
}

impl<'a> Code<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let tokens = tokens_of(text);
        let mates = mates_of(&tokens);
        Self { text, tokens, mates }
    }

    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == word && token.kind != Kind::Text)
    }

    pub(crate) fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    pub(crate) fn mate(&self, at: usize) -> Option<usize> {
        self.mates.get(at).copied().flatten()
    }

    /// Whether an expression may end with this word.
    pub(crate) fn ends_expression(&self, at: usize) -> bool {
        let token = &self.tokens[at];
        match token.kind {
            Kind::Name | Kind::Number | Kind::Text => true,
            _ => [")", "]", "}", "end", "nil", "true", "false", "..."].contains(&token.text),
        }
    }

    pub(crate) fn starts_statement(&self, at: usize) -> bool {
        let can = self.tokens[at].kind == Kind::Name
            || self.is_any(at, &["if", "for", "while", "repeat", "local", "return", "break", "function"]);
        can && (at == 0
            || self.is_any(at - 1, &["then", "do", "else", "repeat", "break"])
            || self.ends_expression(at - 1))
    }

    /// The word after the expression, or list of expressions, that begins here.
    pub(crate) fn end_of_expressions(&self, from: usize) -> usize {
        const CLOSERS: &[&str] = &["end", "else", "elseif", "until", "then", "do", ")", "]", "}", ";"];
        let mut at = from;
        while at < self.tokens.len() {
            if self.is_any(at, CLOSERS) || (at > from && self.starts_statement(at)) {
                break;
            }
            at = self.mate(at).unwrap_or(at) + 1;
        }
        at
    }

    /// The elements between two brackets, as ranges of words.
    pub(crate) fn elements(&self, open: usize) -> Vec<std::ops::Range<usize>> {
        let Some(close) = self.mate(open) else { return Vec::new() };
        let mut elements = Vec::new();
        let (mut from, mut at) = (open + 1, open + 1);
        while at < close {
            if self.is(at, ",") {
                elements.push(from..at);
                from = at + 1;
            }
            at = self.mate(at).unwrap_or(at) + 1;
        }
        if from < close {
            elements.push(from..close);
        }
        elements
    }
}

fn tokens_of(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let span = |fits: fn(u8) -> bool| rest.bytes().take_while(|byte| fits(*byte)).count();
        let (kind, length) = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            b'\'' | b'"' => (Kind::Text, literal(rest.as_bytes())),
            b'0'..=b'9' => (Kind::Number, span(|byte| byte.is_ascii_alphanumeric() || byte == b'.')),
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = span(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                (if KEYWORDS.contains(&&rest[..length]) { Kind::Keyword } else { Kind::Name }, length)
            }
            _ => (
                Kind::Sign,
                LONG_SIGNS.iter().find(|sign| rest.starts_with(**sign)).map_or(1, |sign| sign.len()),
            ),
        };
        tokens.push(Token { kind, text: &rest[..length], start: at });
        at += length;
    }
    tokens
}

/// The length of a literal text.
fn literal(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != rest[0] {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn mates_of(tokens: &[Token<'_>]) -> Vec<Option<usize>> {
    let mut mates = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Text {
            continue;
        }
        match token.text {
            "(" | "[" | "{" | "function" | "if" | "do" | "repeat" => open.push(at),
            ")" | "]" | "}" | "end" | "until" => {
                if let Some(from) = open.pop() {
                    mates[from] = Some(at);
                }
            }
            _ => {}
        }
    }
    mates
}
