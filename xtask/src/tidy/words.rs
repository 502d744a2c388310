//! Notes to self, which nobody comes back to.

use super::{Finding, Source};

/// Split, so that this file is not reported.
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.has_extension(".lock")) {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(note) = NOTES.iter().find(|note| has_word(line, note)) {
                let advice = format!("{note}: do it now, or remove the note and open an issue");
                findings.push(Finding::at_line(source, number, advice));
            }
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}
