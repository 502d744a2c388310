//! The arguments of a call, and how they are sent.

use std::borrow::Cow;
use std::collections::HashSet;

use super::By;

/// The arguments of a call: names and values, in any order. List items come last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args(Vec<Vec<u8>>);

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(mut self, name: &'static str, text: impl AsRef<[u8]>) -> Self {
        self.0.extend([name.as_bytes().to_vec(), text.as_ref().to_vec()]);
        self
    }

    pub(crate) fn show(self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.text(name, value.to_string())
    }

    pub(crate) fn flag(self, name: &'static str, flag: bool) -> Self {
        self.text(name, if flag { "1" } else { "0" })
    }

    /// Who acts, and why.
    pub(crate) fn by(self, by: By<'_>) -> Self {
        self.text("by", by.name).text("because", by.reason)
    }

    /// Leaves out an absent value; the script reads it as the empty text.
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.show(name, value),
            None => self,
        }
    }

    /// Appends `others`.
    pub(crate) fn with(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The arguments as they are sent. Of a list of several items, the names of their fields are sent once: `items`, the
    /// names, then the values of each item in this order.
    pub(crate) fn sent(&self) -> Vec<Cow<'_, [u8]>> {
        in_rows(&self.0)
    }
}

/// `words` are names and values; each item of a list begins with the same name.
fn in_rows(words: &[Vec<u8>]) -> Vec<Cow<'_, [u8]>> {
    let mut seen = HashSet::new();
    let first = words.iter().step_by(2).find(|name| !seen.insert(*name));
    let begin = first.and_then(|first| words.iter().step_by(2).position(|name| name == first));
    let (common, list) = words.split_at(begin.map_or(words.len(), |pairs| 2 * pairs));
    let mut sent: Vec<Cow<'_, [u8]>> = common.iter().map(Cow::from).collect();
    if list.is_empty() {
        return sent;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in list.iter().step_by(2) {
        if !names.contains(&name.as_slice()) {
            names.push(name);
        }
    }
    sent.extend([Cow::from(b"items".as_slice()), Cow::from(names.join(b" ".as_slice()))]);
    let mut rest = list.chunks_exact(2).peekable();
    while rest.peek().is_some() {
        let mut row = vec![Cow::from(b"".as_slice()); names.len()];
        let mut is_next = false;
        while let Some(pair) = rest.next_if(|pair| !is_next || pair[0] != names[0]) {
            is_next = true;
            if let Some(column) = names.iter().position(|name| *name == pair[0]) {
                row[column] = Cow::from(pair[1].as_slice());
            }
        }
        sent.extend(row);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_the_names_of_its_fields_once() {
        let sent = |args: &Args| {
            let words = args.sent();
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
        };
        let one = Args::new().text("worker", "w").text("id", "a").text("note", "n");
        assert_eq!(sent(&one), ["worker", "w", "id", "a", "note", "n"]);
        let args = one.text("id", "b").text("epoch", "7").text("id", "c");
        let rows = ["a", "n", "", "b", "", "7", "c", "", ""];
        assert_eq!(sent(&args), [&["worker", "w", "items", "id note epoch"], &rows[..]].concat());
        assert!(sent(&Args::new()).is_empty());
    }
}
