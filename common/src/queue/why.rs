//! Why a build waits, and for how long: one sentence with its facts.

use serde::Serialize;

use super::Queue;
use super::inspect::Snapshot;
use super::outlook::{Outlook, Standing};
use super::spread::Spread;
use super::visitor::{Visitor, Waits};
use crate::build::{Build, BuildState, Priority};
use crate::error::Result;

/// Why a build is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// One sentence for operators, with all facts.
    pub text: String,
    /// What the people who wait for it are told.
    pub visitor: Visitor,
    /// Its position in line, from 1, and the length of the line; `None` once it has started.
    pub position: Option<(u64, u64)>,
    /// Expected time until its image is ready, in milliseconds; `None` if unknown.
    pub eta_ms: Option<u64>,
    /// How long its run is expected to take in total, as known now, in milliseconds.
    pub expected_ms: u64,
}

impl Queue {
    /// Says why a build waits.
    pub async fn why(&self, build: &Build) -> Result<Why> {
        self.why_with(build, &self.outlook().await?).await
    }

    /// Like [`Self::why`], from an outlook that is shared by many answers.
    pub async fn why_with(&self, build: &Build, outlook: &Outlook) -> Result<Why> {
        let (snapshot, spread) = (outlook.snapshot(), outlook.spread(build));
        let expected_ms = rounded(spread.left(0));
        if build.state != BuildState::Queued {
            let age =
                build.claimed.filter(|_| !build.state.is_ended()).map(|at| snapshot.now.saturating_sub(at));
            let eta_ms = age.map(|age| rounded(spread.left(age)));
            let is_late = age.is_some_and(|age| spread.is_late(age));
            let (text, visitor) = (started(build, age, spread), Visitor::started(build, eta_ms, is_late));
            return Ok(Why { text, visitor, position: None, eta_ms, expected_ms });
        }
        let standing = self.standing(build, outlook).await?;
        let facts = Facts { build, snapshot, standing: &standing };
        let (waits, mut text) = queued(&facts);
        if let (Some(campaign), Priority::Background) = (&build.campaign, build.spec.priority) {
            text = format!("{text} (campaign {campaign})");
        }
        let eta_ms = standing.start.map(|start| rounded(start + spread.left(0)));
        let visitor = Visitor::queued(&waits, standing.start.map(rounded_wait));
        Ok(Why { text, visitor, position: standing.position, eta_ms, expected_ms })
    }
}

/// Rounds a duration for display: estimates change a little all the time, and nobody needs them to the
/// second.
fn rounded(ms: u64) -> u64 {
    let step = match ms {
        0..90_000 => 5_000,
        90_000..600_000 => 15_000,
        600_000..5_400_000 => 60_000,
        _ => 600_000,
    };
    ((ms + step / 2) / step * step).max(step)
}

/// The same for a time until start, which may be 0.
fn rounded_wait(ms: u64) -> u64 {
    if ms == 0 { 0 } else { rounded(ms) }
}

fn started(build: &Build, age: Option<u64>, spread: Spread) -> String {
    let worker = build.worker.as_ref().map_or("a worker", |worker| worker.as_str());
    let reason = build.reason.as_deref().unwrap_or("no reason was given");
    let note = build.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let since = age.map_or_else(String::new, |age| format!(" for {}", span(age)));
    match build.state {
        _ if build.cancelling && !build.state.is_ended() => format!("being stopped on {worker} ({reason})"),
        BuildState::Starting => format!("starting on {worker}{since}{note}"),
        BuildState::Running => {
            format!("running on {worker}{since}; expected to take {}{note}", span(spread.left(0)))
        }
        BuildState::Orphaned => {
            format!("its worker {worker} is gone; waiting for another one to take the run over")
        }
        BuildState::Failed => format!("failed: {reason}"),
        BuildState::Cancelled => format!("cancelled: {reason}"),
        BuildState::Succeeded | BuildState::Queued => build.state.to_string(),
    }
}

/// What is known about a waiting build.
struct Facts<'a> {
    build: &'a Build,
    snapshot: &'a Snapshot,
    standing: &'a Standing,
}

/// What a build waits for, and the sentence for operators.
fn queued(facts: &Facts<'_>) -> (Waits, String) {
    let Facts { build, snapshot, standing } = facts;
    let (lane, position) = (&standing.lane, standing.position);
    if let Some(at) = build.not_before {
        let reason = build.reason.as_deref().unwrap_or("no reason was given");
        let wait_ms = at.saturating_sub(snapshot.now);
        // Runs that were lost with their worker do not count.
        let attempt = build.failed_attempts.saturating_add(1);
        let text = format!("attempt {attempt} starts in {}; the last one failed: {reason}", span(wait_ms));
        return (Waits::Retry { attempt, reason: reason.to_owned(), wait_ms }, text);
    }
    if let Some((rule, message, until)) = &lane.held {
        let left_ms = until.map(|at| at.saturating_sub(snapshot.now));
        let until = left_ms.map_or_else(
            || "until an operator releases it".to_owned(),
            |ms| format!("for another {}", span(ms)),
        );
        let said = if message.is_empty() { String::new() } else { format!(": {message}") };
        let text = format!("held by the rule for {rule} {until}{said}");
        return (Waits::Held { message: message.clone(), left_ms }, text);
    }
    if snapshot.workers == 0 {
        return (Waits::NoWorker, "no live worker".to_owned());
    }
    if snapshot.taking == 0 && snapshot.paused == 0 && snapshot.probing.is_none() {
        return (Waits::NoWorker, format!("no worker claims builds: {DRAINED}"));
    }
    if let Some(waits) = waits_for_permit(facts) {
        return waits;
    }
    if build.spec.priority == Priority::Background && snapshot.background >= snapshot.background_max {
        let text = format!(
            "waiting for a slot of the background share: {} of {} in use",
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
    match standing.start.map(rounded_wait) {
        None => (waits, place),
        Some(0) => (waits, format!("{place}, starting at once")),
        Some(wait) => (waits, format!("{place}, expected to start in about {}", span(wait))),
    }
}

/// The text if no worker accepts builds because somebody decided so.
const DRAINED: &str = "an operator drained all of them, or they are shutting down";

impl Snapshot {
    /// Why none of the live workers accepts builds; `None` if one does, or if there are no live workers.
    pub fn nobody_takes(&self) -> Option<String> {
        if self.workers == 0 || self.taking > 0 {
            return None;
        }
        if let Some((node, at)) = &self.probing {
            let next = at.saturating_sub(self.now);
            let when = if next == 0 { "now".to_owned() } else { format!("in {}", span(next)) };
            let (cluster, name) = node.rsplit_once('/').unwrap_or(("", node));
            let what = if cluster == crate::id::HOSTS { "host" } else { "node" };
            return Some(format!(
                "builds fail on {name}, the only {what}: it gets one build a minute as a test; \
                 the next one comes {when}"
            ));
        }
        Some(self.paused_why.clone().unwrap_or_else(|| DRAINED.to_owned()))
    }
}

fn waits_for_permit(facts: &Facts<'_>) -> Option<(Waits, String)> {
    let (lane, snapshot) = (&facts.standing.lane, facts.snapshot);
    let at = lane.at.as_deref()?;
    if let (Some((name, limit, permits)), true) = (&lane.shared, at.starts_with("lanes:shared:")) {
        let whose = if name == "slow" { "all slow lanes".to_owned() } else { format!("all of {name}") };
        let text = format!("waiting for a permit shared by {whose}: {permits} of {limit} in use");
        return (permits >= limit).then_some((Waits::SharedLimit, text));
    }
    let most = match at {
        "lanes:full" => lane.burst,
        "lanes:burst" => lane.limit,
        _ => return None,
    };
    let holder = lane.holder.as_ref().map_or_else(String::new, |(id, since)| {
        format!("; build {id} has had one for {}", span(snapshot.now.saturating_sub(*since)))
    });
    let borrow = if at == "lanes:burst" {
        "; the lane may borrow one while more than half of all slots are free"
    } else {
        ""
    };
    let waits = Waits::Lane { running: lane.permits, ahead: facts.standing.lane_ahead };
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
    fn figures_are_told_as_precisely_as_they_are_known() {
        assert_eq!(
            [0, 1, 1200, 8_000, 92_000, 97_000, 171_000, 630_000, 4_000_000, 9_000_000]
                .map(|ms| rounded(ms) / 1000),
            [5, 5, 5, 10, 90, 90, 165, 660, 4020, 9000]
        );
        assert_eq!([0, 1].map(rounded_wait), [0, 5000]);
    }

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
