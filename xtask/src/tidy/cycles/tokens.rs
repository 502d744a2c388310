//! Rust code as a flat list of tokens, without comments.

use std::str::FromStr;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

pub(super) struct Token {
    /// A word, a literal, `::`, a bracket, or one other punctuation character.
    pub(super) text: String,
    /// Counted from 0.
    pub(super) line: usize,
}

/// The tokens of a file; none if it is not valid Rust, which the compiler reports.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    flatten(TokenStream::from_str(text).unwrap_or_default(), &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut after_colon = false;
    for tree in stream {
        let line = tree.span().start().line - 1;
        let was_after_colon = std::mem::replace(&mut after_colon, false);
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line - 1 });
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' && was_after_colon => {
                tokens.pop();
                tokens.push(Token { text: "::".to_owned(), line });
            }
            TokenTree::Punct(mark) => {
                after_colon = mark.as_char() == ':' && mark.spacing() == Spacing::Joint;
                tokens.push(Token { text: mark.to_string(), line });
            }
            other => tokens.push(Token { text: other.to_string().trim_start_matches("r#").to_owned(), line }),
        }
    }
}

pub(super) fn is_word(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// How many of the tokens belong to the bracket that the first one opens.
pub(super) fn group_length(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// How many of the tokens make up the item that they begin with.
pub(super) fn item_length(tokens: &[Token]) -> usize {
    let texts = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut ends_with_semicolon = false;
    let mut at = 0;
    while at < tokens.len() {
        match texts(at) {
            "use" | "static" | "type" => ends_with_semicolon = true,
            "const" => ends_with_semicolon = texts(at + 1) != "fn",
            ";" => return at + 1,
            "{" if !ends_with_semicolon => return at + group_length(&tokens[at..]),
            "(" | "[" | "{" => {
                at += group_length(&tokens[at..]);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    at
}
