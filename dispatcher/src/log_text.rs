//! A build's log as plain text, as people and the archive get it.

use std::fmt::Write as _;

use fairlane_common::build::Build;
use fairlane_common::log::LogPage;
use fairlane_common::{Queue, Result};

/// The run with the newest log. For a build that waits for its next run, it is the previous one.
pub(crate) async fn newest_run(queue: &Queue, build: &Build) -> Result<u32> {
    let run = build.log_run.unwrap_or(build.attempt);
    if run > 1 && queue.log_end(build.id, run, 1).await?.1.is_empty() {
        return Ok(run - 1);
    }
    Ok(run)
}

/// The lines of a page, and a note where lines are missing.
pub(crate) fn text(page: &LogPage) -> String {
    let mut text = String::new();
    for (at, entry) in page.entries.iter().enumerate() {
        if let (Some(gap), true) = (page.gap(), at == page.before_gap) {
            let _ = writeln!(text, "--- {gap} ---");
        }
        text.push_str(&entry.text);
        text.push('\n');
    }
    text
}
