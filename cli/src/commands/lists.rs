//! What all commands that print lists share.

use fairlane_clikit::output::Tone;
use fairlane_common::build::BuildState;
use fairlane_dispatcher::api::QueueView;

use crate::client::Client;

/// Entries on each page that is requested.
pub(super) const PAGE: u32 = 200;
/// Most pages of a list that are read. For more than 10,000 entries, use the API.
pub(super) const PAGES_MAX: u32 = 50;

/// The queue's time, or this machine's if the token may not read the queue.
pub(super) async fn now(client: &Client) -> u64 {
    match client.get::<QueueView>("v1/queue", &[]).await {
        Ok(view) => view.totals.now_ms,
        Err(_) => u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
    }
}

/// The meaning of a state, for its color.
pub(crate) fn tone_of(state: BuildState) -> Option<Tone> {
    match state {
        BuildState::Succeeded => Some(Tone::Good),
        BuildState::Failed => Some(Tone::Bad),
        BuildState::Cancelled | BuildState::Orphaned => Some(Tone::Warning),
        BuildState::Starting | BuildState::Running => Some(Tone::Strong),
        BuildState::Queued => None,
    }
}
