//! ARCHITECTURE.md matches the code: each invariant names a test that exists, and so do all tests in the failure
//! tables and all files in backticks. The same goes for each line of the tables of docs/threat-model.md.

use std::collections::HashSet;

use super::sizes::function_name;
use super::{Finding, Source};

const DOCUMENT: &str = "ARCHITECTURE.md";
/// Each line of its tables names a test.
const THREATS: &str = "docs/threat-model.md";

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
    let advice = "this invariant names no test that exists: write `name_of_the_test` in backticks after it";
    let unproven = unproven.map(|(_, start)| Finding::at_line(document, *start, advice));
    let is_file = |path: &str| {
        sources.iter().any(|source| {
            source.path.strip_suffix(path).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        })
    };
    let no_test = named_tests(&lines).into_iter().filter(|(_, name)| !tests.contains(name));
    let no_file = named_files(&lines).into_iter().filter(|(_, name)| !is_file(name));
    let missing = no_test.map(|found| ("test", found)).chain(no_file.map(|found| ("file", found)));
    let missing = missing
        .map(|(what, (line, name))| Finding::at_line(document, line, format!("there is no {what} `{name}`")));
    unproven.chain(missing).chain(threats(sources, &tests)).collect()
}

/// Lines of the threat model's tables whose tests do not exist, or that name none.
fn threats(sources: &[Source], tests: &HashSet<&str>) -> Vec<Finding> {
    let Some(document) = sources.iter().find(|source| source.path == THREATS) else {
        return Vec::new();
    };
    let lines: Vec<_> = document.text.lines().collect();
    let named = named_tests(&lines);
    let missing = named.iter().filter(|(_, name)| !tests.contains(name));
    let missing =
        missing.map(|(line, name)| Finding::at_line(document, *line, format!("there is no test `{name}`")));
    let is_cannot =
        |line: &str| line.starts_with('|') && !line.starts_with("|-") && !line.ends_with("| test |");
    let unproven = lines
        .iter()
        .enumerate()
        .filter(|(number, line)| is_cannot(line) && !named.iter().any(|(of, _)| of == number));
    let advice = "this names no test: write `name_of_the_test` in the last column";
    missing.chain(unproven.map(|(number, _)| Finding::at_line(document, number, advice))).collect()
}

/// The tests in the last column of the failure tables, each with its line.
fn named_tests<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str)> {
    let mut is_table = false;
    let cells = lines.iter().enumerate().filter_map(|(number, line)| {
        is_table = line.starts_with('|') && (is_table || line.ends_with("| test |"));
        let cell = line.trim_end_matches(['|', ' ']).rsplit("| ").next()?;
        is_table.then_some((number, cell))
    });
    cells.flat_map(|(number, cell)| quoted(cell).map(move |name| (number, name))).collect()
}

/// Files in backticks, each with its line: full paths, or the ends of paths.
fn named_files<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str)> {
    let names =
        lines.iter().enumerate().flat_map(|(number, line)| quoted(line).map(move |name| (number, name)));
    names
        .filter(|(_, name)| [".rs", ".lua", ".py"].iter().any(|extension| name.ends_with(extension)))
        .collect()
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

/// The functions below a `#[test]`, a `#[tokio::test]` or inside `proptest!`, and the adapter's.
fn tests(sources: &[Source]) -> HashSet<&str> {
    let python =
        sources.iter().filter(|source| source.has_extension(".py")).flat_map(|source| source.text.lines());
    let names = python.filter_map(|line| line.split("def ").nth(1)?.split('(').next());
    let mut tests: HashSet<&str> = names.filter(|name| name.starts_with("test_")).collect();
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
