//! Each invariant names the test that would fail without it.

use std::collections::HashSet;

use super::sizes::function_name;
use super::{Finding, Source};

const DOCUMENT: &str = "ARCHITECTURE.md";

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(document) = sources.iter().find(|source| source.path == DOCUMENT) else {
        return Vec::new();
    };
    let tests = tests(sources);
    let lines: Vec<_> = document.text.lines().collect();
    let starts: Vec<_> = (0..lines.len()).filter(|line| begins_invariant(lines[*line])).collect();
    let unproven = starts.iter().enumerate().filter(|(index, start)| {
        let end = starts.get(index + 1).copied().unwrap_or(lines.len());
        let paragraph = lines[**start..end].iter().take_while(|line| !line.trim().is_empty());
        !paragraph.flat_map(|line| quoted(line)).any(|name| tests.contains(name))
    });
    let advice = "this invariant names no test that exists: write `name_of_the_test` in backticks beside it";
    unproven.map(|(_, start)| Finding::at_line(document, *start, advice)).collect()
}

/// A line with `**I7**`.
fn begins_invariant(line: &str) -> bool {
    line.split("**I").skip(1).any(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        digits > 0 && rest[digits..].starts_with("**")
    })
}

/// The last part of each path in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).map(|text| text.rsplit("::").next().unwrap_or(text))
}

/// The functions below a `#[test]`, a `#[tokio::test]` or inside `proptest!`.
fn tests(sources: &[Source]) -> HashSet<&str> {
    let mut tests = HashSet::new();
    for source in sources.iter().filter(|source| source.has_extension(".rs")) {
        let mut is_next = false;
        for line in source.text.lines().map(str::trim) {
            is_next |= line.starts_with("#[") && (line.contains("test]") || line.contains("test("));
            if let Some(name) = function_name(line)
                && std::mem::take(&mut is_next)
            {
                tests.insert(name);
            }
        }
    }
    tests
}
