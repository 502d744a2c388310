//! What an operator should know now, as sentences that say what to do.

use std::collections::BTreeMap;

use fairlane_clikit::output::{Colors, Tone, clean};
use fairlane_common::build::BuildState;
use fairlane_common::id::Lane;
use fairlane_dispatcher::api::{BuildView, WorkerView};

use super::data::Data;
use super::style::{count, people, span};
use super::trend::Trend;

/// A build is overdue when it has run this many times as long as expected, and for at least this long.
const OVERDUE: u64 = 3;
const OVERDUE_MS: u64 = 10 * 60_000;
/// Fewer people than this are no crowd.
const CROWD: u64 = 4;

/// All of them, the worst first; `now` by Redis's clock.
pub(super) fn problems(data: &Data, trend: &Trend, now: u64) -> Vec<(Tone, String)> {
    let mut found = Vec::new();
    let totals = &data.queue.totals;
    let mut bad = |text: String| found.push((Tone::Bad, clean(&text, Colors::Drop)));
    if totals.workers == 0 {
        bad("No worker is running. Start one with `fairlane worker`.".to_owned());
    } else if let Some(why) = &totals.nobody_takes {
        bad(format!("No worker claims builds: {why}."));
    }
    if let Some(warning) = &data.warning {
        bad(format!("{warning}. `fairlane doctor` says more."));
    }
    let mut warn = |text: String| found.push((Tone::Warning, clean(&text, Colors::Drop)));
    if totals.orphaned > 0 {
        let are = if totals.orphaned == 1 { "is" } else { "are" };
        warn(format!(
            "{} {are} without a worker; another one takes over.",
            count(totals.orphaned, "running build")
        ));
    }
    for worker in &data.workers.workers {
        about_worker(worker, now, &mut warn);
    }
    for node in &data.nodes.nodes {
        warn(avoided("Node", node.node.as_str(), now, node.until_ms, &node.reason));
    }
    if let Some(incident) = trend.incident() {
        warn(incident);
    }
    if let Some((lane, most, all)) = crowd(data) {
        warn(format!("{most} of {} wait for {lane}.", people(all)));
    }
    for build in data.live() {
        if let Some(since) = build.claimed_ms.filter(|_| is_overdue(build, now)) {
            warn(format!(
                "A build of {} has run for {}; {} was expected.",
                build.lane,
                span(since, now),
                span(0, build.expected_seconds * 1000)
            ));
        }
    }
    for lane in data.lanes.lanes.iter().filter(|lane| lane.queued > 0) {
        if let Some(hold) = &lane.held {
            let message =
                if hold.message.is_empty() { String::new() } else { format!(" ({})", hold.message) };
            warn(format!(
                "{} of {} held by the rule {}{message}. `fairlane rule release {}` starts them.",
                count(lane.queued, "build"),
                if lane.queued == 1 { format!("{} is", lane.lane) } else { format!("{} are", lane.lane) },
                hold.pattern,
                hold.pattern
            ));
        }
    }
    for one in &data.queue.aside {
        warn(format!(
            "Set aside, because it cannot be read: {}: {}.",
            one.what,
            one.why.trim_end_matches('.')
        ));
    }
    found
}

/// Whether a build has run much longer than expected.
pub(super) fn is_overdue(build: &BuildView, now: u64) -> bool {
    let ran =
        build.claimed_ms.filter(|_| build.state != BuildState::Queued).map(|since| now.saturating_sub(since));
    ran.is_some_and(|ran| ran > OVERDUE_MS && ran > OVERDUE * build.expected_seconds * 1000)
}

fn about_worker(worker: &WorkerView, now: u64, warn: &mut impl FnMut(String)) {
    if let Some(drained) = &worker.drained {
        warn(format!(
            "Worker {} was drained by {} {} ago. `fairlane drain {} --undo` lets it claim builds again.",
            worker.id,
            drained.by,
            span(drained.since_ms, now),
            worker.id
        ));
    }
    if let Some(why) = &worker.paused {
        warn(format!("Worker {} is paused: {}.", worker.id, why.trim_end_matches('.')));
    }
    if let Some(avoided) = &worker.avoided {
        warn(self::avoided("Host", &worker.host, now, avoided.until_ms, &avoided.reason));
    }
}

fn avoided(what: &str, name: &str, now: u64, until: u64, reason: &str) -> String {
    format!(
        "{what} {name} is avoided for another {}: {}. `fairlane nodes clear {name}` puts it back into use.",
        span(now, until),
        reason.trim_end_matches('.')
    )
}

/// The lane that more than half of all people wait for, if there are several lanes.
fn crowd(data: &Data) -> Option<(&Lane, u64, u64)> {
    let mut by_lane: BTreeMap<&Lane, u64> = BTreeMap::new();
    for build in data.live() {
        *by_lane.entry(&build.lane).or_default() += build.people;
    }
    let all: u64 = by_lane.values().sum();
    let (lane, most) = by_lane.iter().max_by_key(|(_, people)| **people)?;
    // Of a part of the line, no share can be told.
    (data.is_whole() && by_lane.len() > 1 && *most >= CROWD && most * 2 > all).then_some((*lane, *most, all))
}
