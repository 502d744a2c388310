//! Plants small faults in the text of a Lua file, one at a time.

use std::collections::HashMap;
use std::ops::Range;

use super::lexer::{Code, Kind};

/// A file with one fault.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    /// The name of the file, such as `claim.lua`.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// What kind of fault; see [`KINDS`].
    pub(crate) kind: &'static str,
    /// The line (or lines) as it is, and with the fault; spaces are normalized.
    pub(crate) before: String,
    pub(crate) after: String,
    /// Distinguishes equal faults in equal lines of a file, from 1.
    pub(crate) number: usize,
    /// What is replaced, in bytes of the file, and by what.
    pub(crate) range: Range<usize>,
    pub(crate) replacement: String,
}

/// The kinds of faults, and what they do.
pub(crate) const KINDS: &[(&str, &str)] = &[
    ("call", "drop a call"),
    ("assign", "drop an assignment"),
    ("condition", "a condition is always true, or never"),
    ("operand", "drop one side of `and` or `or`"),
    ("field", "drop a field and its value"),
    ("element", "drop an element of a list or table"),
    ("compare", "another comparison"),
    ("logic", "swap `and` and `or`"),
    ("not", "drop a `not`"),
    ("math", "another operator"),
    ("number", "one more; twice as much if above 100"),
    ("bounds", "swap min and max, floor and ceil"),
    ("bool", "swap true and false"),
    ("word", "compare with another word"),
    ("flag", "drop NX, XX or GT; another end of a set"),
    ("order", "swap two arguments, or an assignment and what uses it"),
];

/// Numbers above this are doubled: one more makes no difference that matters.
const SMALL: u64 = 100;

/// All mutants of a file.
pub(crate) fn mutants_of(file: &str, text: &str) -> Vec<Mutant> {
    let mut all = Mutator { code: Code::new(text), file, found: Vec::new() };
    for at in 0..all.code.tokens.len() {
        all.words(at);
        all.conditions(at);
        all.operands(at);
        all.statements(at);
        all.lists(at);
        all.arguments(at);
    }
    let mut seen = HashMap::new();
    for mutant in &mut all.found {
        let count = seen.entry((mutant.before.clone(), mutant.after.clone())).or_insert(0);
        *count += 1;
        mutant.number = *count;
    }
    all.found
}

struct Mutator<'a> {
    code: Code<'a>,
    file: &'a str,
    found: Vec<Mutant>,
}

impl Mutator<'_> {
    fn add(&mut self, kind: &'static str, range: Range<usize>, replacement: &str) {
        let text = self.code.text;
        let from = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let to = text[range.end..].find('\n').map_or(text.len(), |at| range.end + at);
        let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.found.push(Mutant {
            file: self.file.to_owned(),
            line: text[..range.start].matches('\n').count() + 1,
            kind,
            before: normal(&text[from..to]),
            after: normal(&format!("{}{replacement}{}", &text[from..range.start], &text[range.end..to])),
            number: 1,
            range,
            replacement: replacement.to_owned(),
        });
    }

    /// Replaces words `from` to `to` (not included).
    fn replace(&mut self, kind: &'static str, words: Range<usize>, replacement: &str) {
        let tokens = &self.code.tokens;
        let range = tokens[words.start].start..tokens[words.end - 1].end();
        self.add(kind, range, replacement);
    }

    /// Faults in one word.
    fn words(&mut self, at: usize) {
        let token = self.code.tokens[at];
        let one = at..at + 1;
        match token.kind {
            Kind::Sign | Kind::Keyword => self.sign(at),
            Kind::Number => self.replace("number", one, &more(token.text).unwrap_or_else(|| "9".to_owned())),
            Kind::Text => {
                let inner = &token.text[1..token.text.len() - 1];
                let compared = at > 0 && self.code.is_any(at - 1, &["==", "~="]);
                if let Some(more) = more(inner) {
                    self.replace("number", one, &format!("'{more}'"));
                } else if compared {
                    self.replace("word", one, &format!("'{inner}?'"));
                } else if inner == "-inf" || inner == "+inf" {
                    self.replace("flag", one, "NOW");
                } else if inner == "(" {
                    self.replace("flag", one, "''");
                }
            }
            Kind::Name => {
                let other = match token.text {
                    "min" => "max",
                    "max" => "min",
                    "floor" => "math.ceil",
                    "ceil" => "floor",
                    _ => return,
                };
                if self.code.is(at + 1, "(") {
                    self.replace("bounds", one, other);
                }
            }
        }
    }

    fn sign(&mut self, at: usize) {
        let binary = at > 0 && self.code.ends_expression(at - 1);
        let (kind, other) = match self.code.tokens[at].text {
            "<" => ("compare", "<="),
            "<=" => ("compare", "<"),
            ">" => ("compare", ">="),
            ">=" => ("compare", ">"),
            "==" => ("compare", "~="),
            "~=" => ("compare", "=="),
            "and" => ("logic", "or"),
            "or" => ("logic", "and"),
            "not" => ("not", ""),
            "true" => ("bool", "false"),
            "false" => ("bool", "true"),
            "+" => ("math", "-"),
            "-" if binary => ("math", "+"),
            "-" => ("math", ""),
            "*" => ("math", "/"),
            "/" => ("math", "*"),
            _ => return,
        };
        self.replace(kind, at..at + 1, other);
    }

    fn conditions(&mut self, at: usize) {
        if !self.code.is_any(at, &["if", "elseif", "while", "until"]) {
            return;
        }
        let to = self.code.end_of_expressions(at + 1);
        self.replace("condition", at + 1..to, "false");
        if !self.code.is(at, "while") {
            self.replace("condition", at + 1..to, "true");
        }
    }

    /// `A and B` becomes `A`, and `B`.
    fn operands(&mut self, at: usize) {
        const STARTS: &[&str] =
            &["=", "return", "if", "elseif", "while", "until", "in", "(", "{", "[", ",", "or"];
        if !self.code.is_any(at, &["and", "or"]) {
            return;
        }
        let weak: &[&str] = if self.code.is(at, "and") { &["and", "or"] } else { &["or"] };
        let mut to = at + 1;
        let limit = self.code.end_of_expressions(at + 1);
        while to < limit && !self.code.is_any(to, weak) && !self.code.is(to, ",") {
            to = self.code.mate(to).unwrap_or(to) + 1;
        }
        let end = self.code.tokens[to - 1].end();
        let before = self.code.tokens[at - 1].end();
        self.add("operand", before..end, "");
        // Back to where the left side begins.
        let mut from = at;
        while from > 0 && !self.code.is_any(from - 1, STARTS) && !self.code.is_any(from - 1, weak) {
            from -= 1;
            if self.code.is_any(from, &[")", "]", "}"]) {
                let close = from;
                while self.code.mate(from) != Some(close) {
                    from -= 1;
                }
            }
        }
        if !self.code.is_any(from.saturating_sub(1), weak) {
            let range = self.code.tokens[from].start..self.code.tokens[at + 1].start;
            self.add("operand", range, "");
        }
    }

    /// Drops a statement, or swaps an assignment with what follows and uses it.
    fn statements(&mut self, at: usize) {
        if self.code.tokens[at].kind != Kind::Name || !self.code.starts_statement(at) {
            return;
        }
        let end = self.code.end_of_expressions(at);
        let mut target = at + 1;
        while self.code.is_any(target, &[".", "[", "("]) {
            target = self.code.mate(target).map_or(target + 2, |close| close + 1);
        }
        if target >= end {
            if !self.code.is(at, "operation") && !self.code.is(at, "register") {
                self.replace("call", at..end, "");
            }
            return;
        }
        self.replace("assign", at..end, "");
        let name = self.code.tokens[target - 1].text.to_owned();
        let simple = end < self.code.tokens.len()
            && self.code.tokens[end].kind == Kind::Name
            && self.code.starts_statement(end);
        if !simple {
            return;
        }
        let next = self.code.end_of_expressions(end);
        if (end..next).any(|word| self.code.is(word, &name)) {
            let text = |words: Range<usize>| {
                self.code.text[self.code.tokens[words.start].start..self.code.tokens[words.end - 1].end()]
                    .to_owned()
            };
            let swapped = format!("{}\n{}", text(end..next), text(at..end));
            self.replace("order", at..next, &swapped);
        }
    }

    /// Drops an element of a list, or a pair of a list of names and values.
    fn lists(&mut self, open: usize) {
        let elements = self.code.elements(open);
        let kept_first = match self.code.tokens[open].text {
            // The tag of a reply stays.
            "{" => elements.len() % 2,
            "(" if open > 0 && elements.first().is_some_and(|first| self.is_text(first)) => {
                match self.code.tokens[elements[0].start].text {
                    "'HSET'" => 2,
                    "'HDEL'" | "'DEL'" if elements.len() > 3 => return self.drop_each(&elements, 2),
                    _ => return,
                }
            }
            _ => return,
        };
        let table = self.code.is(open, "{");
        let named =
            |element: &Range<usize>| self.code.is(element.start + 1, "=") || self.code.is(element.start, "[");
        if table && elements.iter().any(named)
            || !elements.get(kept_first).is_some_and(|first| self.is_text(first))
        {
            if table && elements.len() > 1 {
                self.drop_each(&elements, 0);
            }
            return;
        }
        let pairs = elements.get(kept_first..).unwrap_or_default();
        let all_texts = pairs.iter().all(|element| self.is_text(element));
        if table && all_texts {
            return self.drop_each(&elements, 0);
        }
        let whole = pairs.chunks(2).filter(|pair| pair.len() == 2 && self.is_text(&pair[0]));
        let whole: Vec<_> = whole.map(|pair| pair[0].start..pair[1].end).collect();
        for pair in whole {
            self.drop_element("field", pair);
        }
    }

    fn is_text(&self, element: &Range<usize>) -> bool {
        element.len() == 1 && self.code.tokens[element.start].kind == Kind::Text
    }

    fn drop_each(&mut self, elements: &[Range<usize>], from: usize) {
        for element in elements.iter().skip(from) {
            self.drop_element("element", element.clone());
        }
    }

    /// Drops words and the comma at one side of them.
    fn drop_element(&mut self, kind: &'static str, words: Range<usize>) {
        let before = self.code.is(words.start - 1, ",");
        let (from, to) = (words.start - usize::from(before), words.end);
        let to = if !before && self.code.is(to, ",") { to + 1 } else { to };
        self.replace(kind, from..to, "");
    }

    /// Faults in the arguments of a call.
    fn arguments(&mut self, open: usize) {
        let is_call = open > 1
            && self.code.is(open, "(")
            && self.code.tokens[open - 1].kind == Kind::Name
            && !self.code.is(open - 2, "function");
        if !is_call {
            return;
        }
        let elements = self.code.elements(open);
        for pair in elements.windows(2) {
            let names =
                pair.iter().all(|one| one.len() == 1 && self.code.tokens[one.start].kind == Kind::Name);
            if names {
                let (first, second) =
                    (self.code.tokens[pair[0].start].text, self.code.tokens[pair[1].start].text);
                self.replace("order", pair[0].start..pair[1].end, &format!("{second}, {first}"));
            }
        }
        let texts: Vec<_> = elements.into_iter().filter(|element| self.is_text(element)).collect();
        for element in texts {
            match self.code.tokens[element.start].text {
                "'NX'" | "'XX'" | "'GT'" => self.drop_element("flag", element),
                "'ZRANGE'" => self.replace("flag", element, "'ZREVRANGE'"),
                "'ZREVRANGE'" => self.replace("flag", element, "'ZRANGE'"),
                "'ZPOPMIN'" => self.replace("flag", element, "'ZPOPMAX'"),
                _ => {}
            }
        }
    }
}

/// A number that is one more or twice as much; nothing if it is no whole number.
fn more(text: &str) -> Option<String> {
    if text == "-1" {
        return Some("-2".to_owned());
    }
    let number: u64 = text.parse().ok()?;
    Some(if number <= SMALL { number + 1 } else { number * 2 }.to_string())
}
