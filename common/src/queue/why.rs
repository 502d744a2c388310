//! Why a build waits, and for how long: one sentence with its facts.

use serde::Serialize;

use super::Queue;
use super::inspect::{LaneView, Snapshot};
use super::visitor::{Visitor, Waits};
use crate::build::{Build, BuildState, Priority};
use crate::error::Result;

/// Why a build is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// One sentence for operators, with all facts.
    pub text: String,
    /// What the people who wait for it are told.
    pub visitor: Visitor,
    /// Its place in line, from 1, and the length of the line; `None` once it has started.
    pub position: Option<(u64, u64)>,
    /// Expected time until its image is ready, in milliseconds; `None` where nothing can be said.
    pub eta_ms: Option<u64>,
}

impl Queue {
    /// Says why a build waits.
    pub async fn why(&self, build: &Build) -> Result<Why> {
        let snapshot = self.snapshot().await?;
        self.why_with(build, &snapshot).await
    }

    /// Like [`Self::why`], from a snapshot that is shared by many answers.
    pub async fn why_with(&self, build: &Build, snapshot: &Snapshot) -> Result<Why> {
        if build.state != BuildState::Queued {
            let eta_ms = remaining(build, snapshot.now);
            let (text, visitor) = (started(build, snapshot.now), Visitor::started(build, eta_ms));
            return Ok(Why { text, visitor, position: None, eta_ms });
        }
        let ((position, lane_ahead), lane) = futures::try_join!(self.places(build), self.lane(&build.lane))?;
        let ahead = position.map_or(0, |(place, _)| place - 1);
        let wait = wait_ms(snapshot, ahead);
        let facts = Facts { build, lane: &lane, snapshot, position, lane_ahead, wait };
        let (waits, text) = queued(&facts);
        let held = lane.held.is_some() || snapshot.slots == 0 || snapshot.taking == 0;
        let eta_ms = match build.not_before {
            _ if held => None,
            Some(at) => Some(at.saturating_sub(snapshot.now) + build.expected),
            None => Some(wait + build.expected),
        };
        let visitor = Visitor::queued(&waits, eta_ms.map(|eta| eta.saturating_sub(build.expected)));
        Ok(Why { text, visitor, position, eta_ms })
    }
}

/// About how long until everything ahead has found a slot: as many builds as there are slots end
/// in one mean duration.
fn wait_ms(snapshot: &Snapshot, ahead: u64) -> u64 {
    let busy = snapshot.leased + snapshot.orphaned;
    let free = snapshot.slots.saturating_sub(busy);
    if snapshot.slots == 0 || ahead < free {
        return 0;
    }
    (ahead - free + 1) * snapshot.mean_ms.unwrap_or(DURATION_GUESS_MS) / snapshot.slots
}

/// What a build is taken to last before any has ended.
const DURATION_GUESS_MS: u64 = 180_000;

fn remaining(build: &Build, now: u64) -> Option<u64> {
    let since = build.claimed.filter(|_| !build.state.is_ended())?;
    Some((since + build.expected).saturating_sub(now))
}

fn started(build: &Build, now: u64) -> String {
    let worker = build.worker.as_ref().map_or("a worker", |worker| worker.as_str());
    let reason = build.reason.as_deref().unwrap_or("no reason was given");
    let note = build.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let since = build.claimed.map_or_else(String::new, |at| format!(" for {}", span(now.saturating_sub(at))));
    match build.state {
        _ if build.cancelling && !build.state.is_ended() => format!("being stopped on {worker} ({reason})"),
        BuildState::Starting => format!("starting on {worker}{since}{note}"),
        BuildState::Running => {
            format!("running on {worker}{since}; expected to take {}{note}", span(build.expected))
        }
        BuildState::Orphaned => {
            format!("its worker {worker} is gone; waiting for another one to take the run over")
        }
        BuildState::Failed => format!("failed: {reason}"),
        BuildState::Cancelled => format!("cancelled: {reason}"),
        BuildState::Succeeded | BuildState::Queued => build.state.to_string(),
    }
}

/// What is known of a build that waits.
struct Facts<'a> {
    build: &'a Build,
    lane: &'a LaneView,
    snapshot: &'a Snapshot,
    position: Option<(u64, u64)>,
    /// Builds of its lane that stand before it.
    lane_ahead: u64,
    wait: u64,
}

/// What a build waits for, and the sentence for operators.
fn queued(facts: &Facts<'_>) -> (Waits, String) {
    let Facts { build, lane, snapshot, position, wait, .. } = facts;
    if let Some(at) = build.not_before {
        let reason = build.reason.as_deref().unwrap_or("its last attempt failed");
        let wait_ms = at.saturating_sub(snapshot.now);
        // Runs that were lost with their worker do not count.
        let attempt = build.failed_attempts.saturating_add(1);
        let text =
            format!("attempt {attempt} starts in {}, because of the last one: {reason}", span(wait_ms));
        return (Waits::Retry { attempt, reason: reason.to_owned(), wait_ms }, text);
    }
    if let Some((rule, message, until)) = &lane.held {
        let left_ms = until.map(|at| at.saturating_sub(snapshot.now));
        let until = left_ms.map_or_else(
            || "until an operator releases it".to_owned(),
            |ms| format!("for {} more", span(ms)),
        );
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        let text = format!("held by the rule of {rule} {until}{said}");
        return (Waits::Held { message: message.clone(), left_ms }, text);
    }
    if snapshot.workers == 0 {
        return (Waits::NoWorker, "no live worker".to_owned());
    }
    if snapshot.taking == 0 && snapshot.paused == 0 && snapshot.probing.is_none() {
        return (Waits::NoWorker, format!("no worker takes builds: {DRAINED}"));
    }
    if let Some(waits) = waits_for_permit(facts) {
        return waits;
    }
    if build.spec.priority == Priority::Background && snapshot.background >= snapshot.background_max {
        let text = format!(
            "waiting for the background's share of the slots: {} of {} in use",
            snapshot.background, snapshot.background_max
        );
        return (Waits::Background, text);
    }
    if let Some(text) = snapshot.nobody_takes() {
        return (Waits::Paused, text);
    }
    let waits = Waits::Line { place: position.map(|(place, _)| place) };
    let place =
        position.map_or_else(|| "in line".to_owned(), |(place, _)| format!("{} in line", ordinal(place)));
    if *wait == 0 {
        return (waits, format!("{place}, starting at once"));
    }
    (waits, format!("{place}, next free slot expected in about {}", span(*wait)))
}

/// What is said where no worker takes builds by somebody's will.
const DRAINED: &str = "an operator drained all of them, or they are shutting down";

impl Snapshot {
    /// Why none of the workers that live takes builds; `None` where one does, or none lives.
    pub fn nobody_takes(&self) -> Option<String> {
        if self.workers == 0 || self.taking > 0 {
            return None;
        }
        if let Some((node, at)) = &self.probing {
            let next = at.saturating_sub(self.now);
            let when = if next == 0 { "now".to_owned() } else { format!("in {}", span(next)) };
            let (cluster, name) = node.rsplit_once('/').unwrap_or(("", node));
            let what = if cluster == super::HOSTS { "host" } else { "node" };
            return Some(format!(
                "builds fail on {name}, the only {what}: it gets one build a minute to see whether it still fails, \
                 the next one {when}"
            ));
        }
        Some(self.paused_why.clone().unwrap_or_else(|| DRAINED.to_owned()))
    }
}

fn waits_for_permit(facts: &Facts<'_>) -> Option<(Waits, String)> {
    let Facts { lane, snapshot, lane_ahead, .. } = facts;
    let at = lane.at.as_deref()?;
    if let (Some((name, limit, permits)), true) = (&lane.shared, at.starts_with("lanes:shared:")) {
        let whose = if name == "slow" {
            "all slow lanes together".to_owned()
        } else {
            format!("all of {name} together")
        };
        let text = format!("waiting for a permit of {whose}: {permits} of {limit} in use");
        return (permits >= limit).then_some((Waits::SharedLimit, text));
    }
    let most = match at {
        "lanes:full" => lane.burst,
        "lanes:burst" => lane.limit,
        _ => return None,
    };
    let holder = lane.holder.as_ref().map_or_else(String::new, |(id, since)| {
        format!(" by build {id} for {}", span(snapshot.now.saturating_sub(*since)))
    });
    let borrow = if at == "lanes:burst" {
        "; it may borrow one while more than half of all slots are free"
    } else {
        ""
    };
    let waits = Waits::Lane { running: lane.permits, ahead: *lane_ahead };
    let permits = lane.permits;
    Some((
        waits,
        format!("waiting for a permit of {}: {permits} of {most} in use{holder}{borrow}", lane.lane),
    ))
}

fn ordinal(n: u64) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// A span of time as people say it.
pub fn span(ms: u64) -> String {
    let s = ms.div_ceil(1000);
    match s {
        0..=1 => "1 s".to_owned(),
        2..=89 => format!("{s} s"),
        90..=5399 => format!("{} min", (s + 30) / 60),
        5400..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 101, 112].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st 101st 112th"
        );
        assert_eq!(
            [0, 1500, 60_000, 90_000, 2_520_000, 8_100_000, 300_000_000].map(span).join(", "),
            "1 s, 2 s, 60 s, 2 min, 42 min, 2 h 15 min, 3 days"
        );
    }
}
