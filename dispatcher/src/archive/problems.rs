//! What is wrong with archiving, as sentences.

use fairlane_common::queue::{ArchiveState, span};

/// A failure is mentioned for this long. While a store is away, it fails anew at least once a minute.
const FAILED_MS: u64 = 10 * 60_000;
/// A log that was given up is mentioned for this long.
const LOST_MS: u64 = 24 * 60 * 60_000;

/// The problems of archiving at the time `now`.
pub(crate) fn problems(state: &ArchiveState, now: u64) -> Vec<String> {
    let mut said = Vec::new();
    let within = |at: Option<u64>, ms: u64| at.map(|at| now.saturating_sub(at)).filter(|ago| *ago < ms);
    let plain = |why: &Option<String>| why.as_deref().unwrap_or("unknown").trim_end_matches('.').to_owned();
    if let Some(ago) = within(state.error_at, FAILED_MS)
        && state.waiting > 0
    {
        let logs = if state.waiting == 1 { "1 log waits" } else { &format!("{} logs wait", state.waiting) };
        let (ago, why) = (span(ago), plain(&state.error));
        said.push(format!("{logs} to be archived. The latest attempt failed {ago} ago: {why}."));
    }
    if let Some(ago) = within(state.lost_at, LOST_MS) {
        let (ago, why, lost) = (span(ago), plain(&state.lost_why), state.lost);
        let all = if lost > 1 { format!(" It is number {lost} so far.") } else { String::new() };
        said.push(format!("A log was not archived and is given up, {ago} ago: {why}.{all}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_losses_are_mentioned_for_a_while() {
        let now = 100 * 60 * 60_000;
        assert_eq!(problems(&ArchiveState::default(), now), Vec::<String>::new());
        let mut state = ArchiveState {
            waiting: 3,
            error: Some("s3://logs: no route to host.".to_owned()),
            error_at: Some(now - 60_000),
            ..ArchiveState::default()
        };
        let said = problems(&state, now).join(" ");
        assert!(said.starts_with("3 logs wait to be archived. The latest attempt failed"), "{said}");
        assert!(said.ends_with(" ago: s3://logs: no route to host."), "{said}");
        for settled in [
            ArchiveState { waiting: 0, ..state.clone() },
            ArchiveState { error_at: Some(now - FAILED_MS), ..state.clone() },
        ] {
            assert_eq!(problems(&settled, now), Vec::<String>::new());
        }
        state = ArchiveState {
            lost: 2,
            lost_at: Some(now - 60_000),
            lost_why: Some("away".to_owned()),
            ..ArchiveState::default()
        };
        let said = problems(&state, now).join(" ");
        assert!(said.contains("given up") && said.contains("away. It is number 2"), "{said}");
        state.lost_at = Some(now - LOST_MS);
        assert_eq!(problems(&state, now), Vec::<String>::new());
    }
}
