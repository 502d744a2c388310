//! Files and functions that are too long to keep in mind.

use super::{Finding, Source};

const SOURCE_LINES_MAX: usize = 400;
const TEST_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Extensions of files that are written by hand.
const WRITTEN: &[&str] = &[".rs", ".lua", ".py", ".sh"];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let written = sources.iter().filter(|source| WRITTEN.iter().any(|end| source.has_extension(end)));
    written.flat_map(|source| file(source).into_iter().chain(functions(source))).collect()
}

fn file(source: &Source) -> Option<Finding> {
    let (lines, max) =
        (source.text.lines().count(), if source.is_test() { TEST_LINES_MAX } else { SOURCE_LINES_MAX });
    (lines > max).then(|| {
        Finding::in_file(source, format!("{lines} lines; the maximum is {max}: split it by subject"))
    })
}

/// In a formatted Rust file, a function ends with a brace that is indented like its first line.
fn functions(source: &Source) -> Vec<Finding> {
    if !source.has_extension(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut open: Vec<(usize, String, &str)> = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some((start, _, name)) = open.pop_if(|(_, end, _)| line == *end) {
            let length = number - start + 1;
            if length > FUNCTION_LINES_MAX {
                let advice = format!(
                    "`{name}` has {length} lines; the maximum is {FUNCTION_LINES_MAX}: move a part into another function"
                );
                findings.push(Finding::at_line(source, start, advice));
            }
        }
        let is_whole = line.ends_with(';') || line.ends_with('}');
        if let Some(name) = function_name(trimmed).filter(|_| !is_whole) {
            open.push((number, format!("{indent}}}"), name));
        }
    }
    findings
}

/// The name of the function that starts in a line.
pub(crate) fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let before = ["pub", "pub(crate)", "pub(super)", "const", "async", "extern", "\"C\""];
    let word = words.find(|word| !before.contains(word))?;
    let name = words.next().filter(|_| word == "fn")?;
    Some(name.split(['(', '<']).next().unwrap_or(name))
}
