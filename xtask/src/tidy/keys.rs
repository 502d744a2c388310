//! Only one file spells out Redis keys.

use super::{Finding, Source};

const KEYS_FILE: &str = "common/src/keys.rs";
/// Split, so that this file is not reported.
const SPELLINGS: &[&str] = &[concat!("{fair", "lane}"), concat!("fairlane", ":log")];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let code = sources.iter().filter(|source| {
        source.has_extension(".rs")
            && source.path != KEYS_FILE
            && !source.is_test()
            && !source.path.starts_with("testkit/")
    });
    code.flat_map(in_source).collect()
}

fn in_source(source: &Source) -> Vec<Finding> {
    // Unit tests are at the end of a file.
    let lines = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let spelled = lines.filter(|(_, line)| {
        !line.trim_start().starts_with("//") && SPELLINGS.iter().any(|spelling| line.contains(spelling))
    });
    spelled
        .map(|(number, _)| {
            Finding::at_line(
                source,
                number,
                format!("a Redis key: build it with a function from {KEYS_FILE}"),
            )
        })
        .collect()
}
