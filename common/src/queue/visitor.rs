//! What somebody who waits for a build is told about it: a kind for programs and a sentence for people, without ids,
//! permits and names that only operators know.

use serde::{Deserialize, Serialize};

use crate::build::{Build, BuildState};

/// What a build waits for or is doing. Programs rely on it; the words do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It waits in line for a free slot.
    Line,
    /// It waits for other builds of its repository.
    Lane,
    /// It waits for builds of other repositories that share a limit with its own.
    SharedLimit,
    /// It is a background build, and interactive builds have the slots.
    Background,
    /// Its latest run failed, and it is tried again.
    Retry,
    /// An operator holds its repository's builds.
    Held,
    /// No worker accepts builds.
    NoWorker,
    /// Workers accept no builds for now, for example because their cluster is full.
    Paused,
    /// Its run is being started.
    Starting,
    /// Its run is alive.
    Running,
    /// Its worker is gone; another one takes its run over.
    Orphaned,
    /// Its run is being stopped.
    Stopping,
    /// It has ended.
    Ended,
}

/// The status of a build, for the people who wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Visitor {
    /// What it waits for, or is doing.
    pub stage: Stage,
    /// One or two sentences; empty if there is nothing to say.
    pub text: String,
    /// How many builds of the same repository are ahead of it in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
}

/// What a queued build waits for, with the facts that people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waits {
    Line { place: Option<u64> },
    Lane { running: u64, ahead: u64 },
    SharedLimit,
    Background,
    Retry { attempt: u32, reason: String, wait_ms: u64 },
    Held { message: String, left_ms: Option<u64> },
    NoWorker,
    Paused,
}

impl Visitor {
    /// The status of a waiting build; `wait_ms` is the expected time until it starts.
    pub(super) fn queued(waits: &Waits, wait_ms: Option<u64>) -> Self {
        let wait = wait_ms.filter(|ms| *ms > 0).map(spoken);
        let about = wait.as_ref().map(|wait| format!(", in about {wait}")).unwrap_or_default();
        let starts = |what: &str| {
            wait.as_ref().map(|wait| format!(" {what} starts in about {wait}.")).unwrap_or_default()
        };
        let (stage, text) = match waits {
            Waits::Line { place } => {
                let text = match place {
                    Some(1) => format!("Your build is next{about}."),
                    Some(place) => format!("{} ahead of yours.{}", builds(place - 1), starts("Yours")),
                    None => format!("Your build is in line.{}", starts("It")),
                };
                (Stage::Line, text)
            }
            Waits::Lane { running, ahead } => {
                let others = match running {
                    0 | 1 => "Another version of this repository is being built.".to_owned(),
                    n => format!("{n} other versions of this repository are being built."),
                };
                let yours = match ahead {
                    0 => "Yours is next".to_owned(),
                    1 => "Yours comes after one more".to_owned(),
                    n => format!("Yours comes after {n} more"),
                };
                (Stage::Lane, format!("{others} {yours}{about}."))
            }
            Waits::SharedLimit => {
                let text =
                    "Only a few builds of this kind can run at once. Yours starts when one of them ends";
                (Stage::SharedLimit, format!("{text}{about}."))
            }
            Waits::Background => (
                Stage::Background,
                "Builds that people are waiting for go first. Yours starts after them.".to_owned(),
            ),
            Waits::Retry { attempt, reason, wait_ms } => {
                let reason = reason.trim_end_matches('.');
                let text = format!(
                    "Attempt {} failed: {reason}. Attempt {attempt} starts",
                    attempt.saturating_sub(1)
                );
                let when =
                    if *wait_ms == 0 { " soon".to_owned() } else { format!(" in {}", spoken(*wait_ms)) };
                (Stage::Retry, format!("{text}{when}."))
            }
            Waits::Held { message, left_ms } => {
                let left = left_ms.map(|ms| format!(" for another {}", spoken(ms))).unwrap_or_default();
                let message = if message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", message.trim_end_matches('.'))
                };
                (Stage::Held, format!("Builds of this repository are on hold{left}{message}."))
            }
            Waits::NoWorker => (
                Stage::NoWorker,
                "No machine is available to build on at the moment. Your build keeps its position in line."
                    .to_owned(),
            ),
            Waits::Paused => (
                Stage::Paused,
                "No new builds can start at the moment. Your build keeps its position in line.".to_owned(),
            ),
        };
        let ahead = if let Waits::Lane { ahead, .. } = waits { Some(*ahead) } else { None };
        Self { stage, text, ahead }
    }

    /// The status of a build that has started; `is_late` if it takes longer than expected.
    pub(super) fn started(build: &Build, left_ms: Option<u64>, is_late: bool) -> Self {
        let (stage, text) = match build.state {
            _ if build.state.is_ended() => (Stage::Ended, String::new()),
            _ if build.cancelling => (Stage::Stopping, "Your build is being stopped.".to_owned()),
            BuildState::Orphaned => (
                Stage::Orphaned,
                "The machine running your build is gone. Another one is taking over the build.".to_owned(),
            ),
            BuildState::Running if build.waits_to_push() => {
                let text = "Your image is built. It will be uploaded as soon as other uploads are done.";
                (Stage::Running, text.to_owned())
            }
            BuildState::Running => {
                let left = left_ms
                    .map(|ms| format!(" and should be ready in about {}", spoken(ms)))
                    .unwrap_or_default();
                let what = if is_late { "is taking longer than expected" } else { "is running" };
                (Stage::Running, format!("Your build {what}{left}."))
            }
            _ => (Stage::Starting, "Your build is starting.".to_owned()),
        };
        Self { stage, text, ahead: None }
    }
}

fn builds(count: u64) -> String {
    if count == 1 { "One build is".to_owned() } else { format!("{count} builds are") }
}

/// A number with its noun: `1 build`, `2 builds`.
pub fn many(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// A span of time in words.
pub fn spoken(ms: u64) -> String {
    let s = ms.div_ceil(1000).max(1);
    match s {
        0..90 => many(s, "second"),
        90..5400 => many((s + 30) / 60, "minute"),
        5400..172_800 => many((s + 1800) / 3600, "hour"),
        _ => many((s + 43_200) / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_sentences_of_their_own() {
        let minutes = Some(4 * 60_000);
        let lane = |running, ahead| Waits::Lane { running, ahead };
        for (waits, wait, text) in [
            (
                lane(1, 0),
                minutes,
                "Another version of this repository is being built. Yours is next, in about 4 minutes.",
            ),
            (
                lane(2, 1),
                None,
                "2 other versions of this repository are being built. Yours comes after one more.",
            ),
            (
                lane(1, 7),
                Some(7_200_000),
                "Another version of this repository is being built. Yours comes after 7 more, in about 2 hours.",
            ),
            (Waits::Line { place: Some(1) }, Some(0), "Your build is next."),
            (
                Waits::Line { place: Some(2) },
                Some(1000),
                "One build is ahead of yours. Yours starts in about 1 second.",
            ),
            (
                Waits::Line { place: Some(13) },
                minutes,
                "12 builds are ahead of yours. Yours starts in about 4 minutes.",
            ),
            (
                Waits::Retry { attempt: 2, reason: "no space left on the node".to_owned(), wait_ms: 30_000 },
                None,
                "Attempt 1 failed: no space left on the node. Attempt 2 starts in 30 seconds.",
            ),
            (
                Waits::Held { message: "the cache is being renewed".to_owned(), left_ms: None },
                None,
                "Builds of this repository are on hold: the cache is being renewed.",
            ),
            (
                Waits::Held { message: String::new(), left_ms: minutes },
                None,
                "Builds of this repository are on hold for another 4 minutes.",
            ),
        ] {
            assert_eq!(Visitor::queued(&waits, wait).text, text);
        }
        assert_eq!(
            [1, 89_000, 90_000, 5_400_000, 200_000_000].map(spoken).join(", "),
            "1 second, 89 seconds, 2 minutes, 2 hours, 2 days"
        );
    }

    #[test]
    fn programs_go_by_a_word() {
        let told = Visitor::queued(&Waits::Lane { running: 1, ahead: 2 }, None);
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!((json["stage"].as_str(), json["ahead"].as_u64()), (Some("lane"), Some(2)));
        assert_eq!(serde_json::to_value(Stage::SharedLimit).unwrap(), "shared-limit");
    }
}
