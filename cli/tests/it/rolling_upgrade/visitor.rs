//! Somebody who follows a build as the adapter for `BinderHub` does: when a stream breaks, the next one goes on after the last
//! event.

use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use fairlane_common::BuildState;
use fairlane_dispatcher::api::{EndEvent, LogEvent};
use futures::StreamExt;
use reqwest::{Client, StatusCode};

/// Pause before another stream is opened, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 100..500;

/// What somebody saw of a build.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// The lines of the log.
    pub(super) lines: Vec<String>,
    /// The states in which the build ended; there should be one.
    pub(super) ends: Vec<Option<BuildState>>,
    /// Notices and refusals; there should be none.
    pub(super) unexpected: Vec<String>,
    /// How often a stream broke.
    pub(super) breaks: usize,
    /// The longest time without a stream.
    pub(super) longest_away: Duration,
}

/// Follows the build whose events are at `url` to its end. Who `forgets` does not say which event was the last.
pub(super) async fn follow(client: Client, url: String, forgets: bool) -> Visit {
    let mut visit = Visit::default();
    let mut cursor = String::new();
    let mut lost: Option<Instant> = None;
    while visit.ends.is_empty() {
        let mut request = client.get(&url);
        if !cursor.is_empty() && !forgets {
            request = request.header("last-event-id", &cursor);
        }
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                if let Some(lost) = lost.take() {
                    visit.longest_away = visit.longest_away.max(lost.elapsed());
                }
                let mut events = std::pin::pin!(answer.bytes_stream().eventsource());
                while let Some(Ok(event)) = events.next().await {
                    if !event.id.is_empty() {
                        cursor.clone_from(&event.id);
                    }
                    visit.take_in(&event.event, &event.data);
                }
                visit.breaks += usize::from(visit.ends.is_empty());
            }
            // A dispatcher that cannot answer now says 503; whatever else it says is final.
            Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                visit.unexpected.push(format!("{} for {url}", answer.status()));
                return visit;
            }
            _ => {}
        }
        lost = lost.or_else(|| Some(Instant::now()));
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
    }
    visit
}

impl Visit {
    fn take_in(&mut self, name: &str, data: &str) {
        match name {
            "log" => {
                let event: LogEvent = serde_json::from_str(data).unwrap();
                self.lines.extend(event.lines.into_iter().map(|line| line.text));
            }
            "end" => self.ends.push(serde_json::from_str::<EndEvent>(data).unwrap().state),
            "state" => {}
            _ => self.unexpected.push(format!("{name}: {data}")),
        }
    }
}
