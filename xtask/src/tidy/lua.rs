//! Every script starts with its contract.

use super::{Finding, Source};

const FOLDER: &str = "common/lua/";
/// Parts of the library that operations share.
const SHARED: &[&str] = &[
    "prelude.lua",
    "lanes.lua",
    "history.lua",
    "ends.lua",
    "nodes.lua",
    "heal.lua",
    "enter.lua",
    "campaigns.lua",
];
/// What a header says, each in one of these words: the words of a call are `W`, those of a list `items`.
const CONTRACT: &[&[&str]] = &[&["Purpose"], &["KEYS"], &["W", "items", "ARGV"], &["Returns"]];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let scripts =
        sources.iter().filter(|source| source.path.starts_with(FOLDER) && source.has_extension(".lua"));
    scripts.flat_map(in_script).collect()
}

fn in_script(source: &Source) -> Vec<Finding> {
    let header: Vec<_> = source.text.lines().take_while(|line| line.starts_with("--")).collect();
    let wanted = if is_shared(source) { &CONTRACT[..1] } else { CONTRACT };
    // One line may have several: "KEYS, W, Returns: see …".
    let has = |word: &str| {
        let subjects = header.iter().filter_map(|line| line.split(':').next());
        subjects.flat_map(|text| text.split(|c: char| !c.is_alphanumeric())).any(|subject| subject == word)
    };
    let missing: Vec<_> =
        wanted.iter().filter(|words| !words.iter().any(|word| has(word))).map(|words| words[0]).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let advice = format!(
        "the comment at the top lacks {}: describe the script's purpose, its keys, its arguments with units, and \
         every reply (\"none\" if there is none)",
        missing.join(", ")
    );
    vec![Finding::in_file(source, advice)]
}

/// Whether it is one of the shared parts, which have a purpose but no keys and no replies.
fn is_shared(source: &Source) -> bool {
    let name = source.path.trim_start_matches(FOLDER);
    SHARED.contains(&name)
}
