//! `fairlane queue`, `lanes` and `why`: which builds wait, for what, and why.

use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Colors, Output, Table, Tone, clean};
use fairlane_dispatcher::api::{
    BuildView, CurrentProblem, LanePage, LaneView, LastLine, QueueView, StopView, Totals,
};

use super::builds;
use super::lists::{PAGE, PAGES_MAX, now, tone_of};
use crate::args::{Lanes, Queue, Why};
use crate::client::Client;
use crate::progress::{lines_of, sentence};

/// How often `queue -w` refreshes.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Queue, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    if !args.watch {
        return show(&client, &args, output).await;
    }
    tokio::select! {
        end = watch(&client, &args, output) => end,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Shows the queue again and again, even while no dispatcher answers, because one may come back.
async fn watch(client: &Client, args: &Queue, output: Output) -> Result<Exit> {
    loop {
        output.clear();
        match show(client, args, output).await {
            Err(error) if exit::of(&error) == Exit::Unreachable => output.talk(&exit::in_full(&error)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn show(client: &Client, args: &Queue, output: Output) -> Result<Exit> {
    if args.builds {
        return builds::run(client, args, output).await;
    }
    let view: QueueView = client.get("v1/queue", &[]).await?;
    if output.is_json() {
        output.json(&view);
        return Ok(Exit::Good);
    }
    totals(&view.totals, output);
    let table = lane_table(&view.lanes);
    if !table.is_empty() {
        output.data("");
        output.table(&table);
    }
    for problem in &view.problems {
        output.talk(&self::problem(problem));
    }
    if view.more_lanes {
        output.talk("There are more lanes: `fairlane lanes` lists them all.");
    }
    Ok(Exit::Good)
}

/// A problem as a sentence, with the command that helps.
pub(crate) fn problem(of: &CurrentProblem) -> String {
    let command = of.command.as_ref().map(|command| format!(" (`{command}`)")).unwrap_or_default();
    clean(&format!("{}{command}", of.sentence), Colors::Drop)
}

pub(crate) async fn lanes(args: Lanes, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    if let Some(lane) = args.lane {
        let view: LaneView = client.get(&format!("v1/lanes/{lane}"), &[]).await?;
        if output.is_json() {
            output.json(&view);
        } else {
            let now = now(&client).await;
            lane_details(&view, now, output);
        }
        return Ok(Exit::Good);
    }
    let mut all = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: LanePage = client.get("v1/lanes", &query).await?;
        all.extend(page.lanes);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    if output.is_json() {
        for lane in &all {
            output.json(lane);
        }
    } else if all.is_empty() {
        output.talk("No lane has a waiting or running build.");
    } else {
        output.table(&lane_table(&all));
    }
    if cursor.is_some() {
        output.talk(&format!("There are more than these {}.", all.len()));
    }
    Ok(Exit::Good)
}

pub(crate) async fn why(args: Why, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let id = builds::find(&client, &args.id).await?;
    let build: BuildView = client.get(&format!("v1/builds/{id}"), &[]).await?;
    if output.is_json() {
        output.json(&build);
        return Ok(Exit::Good);
    }
    let now = now(&client).await;
    let why = build.why.as_deref().map_or_else(|| sentence(&build), |why| clean(why, Colors::Drop));
    let state = output.paint(tone_of(build.state).unwrap_or(Tone::Strong), build.state.word());
    output.data(&format!("{state}{}", after(build.state.word(), &why)));
    let mut facts = vec![
        ("lane", build.lane.to_string()),
        ("image", build.image.clone()),
        ("requested", human::ago(build.asked_ms, now)),
        ("people", build.people.to_string()),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("campaign", build.campaign.clone());
    let in_line =
        |position| build.line.map_or_else(|| format!("{position}"), |line| format!("{position} of {line}"));
    add("position in line", build.position.map(in_line));
    add("ready", build.eta_seconds.map(|eta| human::about(eta * 1000)));
    add("failed attempts", (build.failed_attempts > 0).then(|| build.failed_attempts.to_string()));
    add("expected to take", (!build.state.is_ended()).then(|| human::span(build.expected_seconds * 1000)));
    add("next attempt", build.not_before_ms.map(|at| human::ahead(at, now)));
    add("started", build.started_ms.or(build.claimed_ms).map(|at| human::ago(at, now)));
    add("ended", build.ended_ms.map(|at| human::ago(at, now)));
    add("worker", build.worker.as_ref().map(ToString::to_string));
    add("note", build.note.clone());
    add("last line", build.last_line.as_ref().map(|line| last_line(line, now)));
    add("class", build.class.map(|class| class.to_string()));
    add("cause", build.cause.clone());
    add("reason", build.reason.clone());
    add("avoids nodes", (!build.avoid_nodes.is_empty()).then(|| build.avoid_nodes.join(", ")));
    add("moved to", build.moved.map(|id| id.to_string()));
    write_facts(&facts, output);
    Ok(Exit::Good)
}

/// `why` without the state at its beginning, which would repeat `state`.
fn after(state: &str, why: &str) -> String {
    let why = why
        .strip_prefix(&format!("{state}: {state}"))
        .map_or_else(|| why.to_owned(), |rest| format!("{state}{rest}"));
    match why.strip_prefix(state) {
        Some(rest) => rest.to_owned(),
        None if why.is_empty() => why,
        None => format!(": {why}"),
    }
}

fn last_line(line: &LastLine, now: u64) -> String {
    let said =
        lines_of(&line.text, Colors::Drop).into_iter().rfind(|line| !line.is_empty()).unwrap_or_default();
    format!("{}: {said}", human::ago(line.at_ms, now))
}

fn totals(totals: &Totals, output: Output) {
    let oldest = totals
        .oldest_wait_seconds
        .map(|wait| format!(", the longest for {}", human::span(wait * 1000)))
        .unwrap_or_default();
    let busy = totals.leased + totals.orphaned;
    let people = match totals.people {
        1 => "1 person is waiting".to_owned(),
        people => format!("{people} people are waiting"),
    };
    let workers = human::many(totals.workers, "worker");
    let mut facts = vec![
        ("waiting", format!("{}{oldest}", human::many(totals.queued, "build"))),
        ("running", format!("{} on {}", human::many(busy, "build"), human::many(totals.slots, "slot"))),
        ("people", people),
        ("processes", format!("{workers}, {}", human::many(totals.dispatchers, "dispatcher"))),
    ];
    if let Some(mean) = totals.mean_seconds {
        facts.push(("a build takes", format!("{} on average", human::span(mean * 1000))));
    }
    if totals.background > 0 {
        facts.push((
            "background",
            format!("{} of at most {} running", totals.background, totals.background_max),
        ));
    }
    if totals.campaigns + totals.campaign_builds > 0 {
        let of_them = format!("{} of their builds in line or running", totals.campaign_builds);
        facts.push(("campaigns", format!("{} running, {of_them}", totals.campaigns)));
    }
    if totals.pushing + totals.push_waiting > 0 {
        facts.push(("pushing", format!("{}, {} waiting to push", totals.pushing, totals.push_waiting)));
    }
    if totals.orphaned > 0 {
        facts.push(("orphaned", format!("{}; the worker is gone, another one takes over", totals.orphaned)));
    }
    write_facts(&facts, output);
    let what = if totals.workers == 0 {
        "No worker is running: start one with `fairlane worker`.".to_owned()
    } else if let Some(why) = &totals.nobody_takes {
        format!("No worker claims builds: {}.", clean(why, Colors::Drop))
    } else {
        return;
    };
    output.talk(&output.paint_talk(Tone::Warning, &what));
}

fn lane_table(lanes: &[LaneView]) -> Table {
    let mut table = Table::new([
        ("LANE", Align::Left),
        ("WAITING", Align::Right),
        ("RUNNING", Align::Right),
        ("LIMIT", Align::Right),
        ("TAKES", Align::Right),
        ("WAITS FOR", Align::Left),
    ]);
    for lane in lanes {
        let (words, tone) = waits_for(lane);
        table.row([
            (&lane.lane).into(),
            lane.queued.into(),
            lane.permits.into(),
            limit(lane).into(),
            lane.mean_seconds.map(|mean| human::span(mean * 1000)).unwrap_or_default().into(),
            Cell::toned(words, tone),
        ]);
    }
    table
}

/// A lane's limit, and its burst if that is higher than the limit.
pub(crate) fn limit(lane: &LaneView) -> String {
    if lane.burst > lane.limit { format!("{}-{}", lane.limit, lane.burst) } else { lane.limit.to_string() }
}

/// What a lane waits for, in words; empty if none of its builds is in line.
pub(crate) fn waits_for(lane: &LaneView) -> (String, Option<Tone>) {
    match lane.waits_for.as_deref() {
        None => (String::new(), None),
        Some("ready") => ("a slot".to_owned(), None),
        Some("burst") => ("a permit, or more free slots".to_owned(), Some(Tone::Faint)),
        Some("full") => ("a permit".to_owned(), Some(Tone::Warning)),
        Some("held") => {
            (lane.held.as_ref().map_or_else(|| "a rule".to_owned(), stop_words), Some(Tone::Warning))
        }
        Some(other) => match &lane.shared {
            Some(shared) => (
                format!("{} ({} of {} in use)", shared.name, shared.permits, shared.limit),
                Some(Tone::Warning),
            ),
            None => (other.to_owned(), None),
        },
    }
}

fn stop_words(stop: &StopView) -> String {
    let message = if stop.message.is_empty() { String::new() } else { format!(": {}", stop.message) };
    format!("rule {}{message}", stop.pattern)
}

fn lane_details(lane: &LaneView, now: u64, output: Output) {
    output.data(&output.paint(Tone::Strong, lane.lane.as_str()));
    let until = |stop: &StopView| {
        let end = stop.until_ms.map(|at| format!(", ends {}", human::ahead(at, now))).unwrap_or_default();
        format!("by {}{end}", stop_words(stop))
    };
    let mut facts = vec![
        ("waiting", lane.queued.to_string()),
        ("running", format!("{} of {}", lane.permits, limit(lane))),
        ("ended", format!("{} succeeded, {} failed", lane.succeeded, lane.failed)),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("waits for", lane.waits_for.is_some().then(|| waits_for(lane).0));
    add("a build takes", lane.mean_seconds.map(|mean| human::span(mean * 1000)));
    add("a failure takes", lane.failed_mean_seconds.map(|mean| human::span(mean * 1000)));
    let since = lane
        .holder_since_ms
        .map(|at| format!(", for {}", human::span(now.saturating_sub(at))))
        .unwrap_or_default();
    add("longest running", lane.holder.map(|id| format!("{id}{since}")));
    add(
        "shares",
        lane.shared
            .as_ref()
            .map(|shared| format!("{}: {} of {} in use", shared.name, shared.permits, shared.limit)),
    );
    add("held", lane.held.as_ref().map(until));
    add("banned", lane.banned.as_ref().map(until));
    let failure = lane.last_failure.as_deref().unwrap_or_default();
    add("last failure", lane.last_failure_ms.map(|at| format!("{}: {failure}", human::ago(at, now))));
    write_facts(&facts, output);
}

fn write_facts(facts: &[(&str, String)], output: Output) {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        let room = " ".repeat(width - name.len());
        output.data(&format!("{}{room}  {}", output.paint(Tone::Faint, name), clean(value, Colors::Drop)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_once() {
        for (state, why, rest) in [
            ("succeeded", "succeeded", ""),
            ("running", "running on w for 9 s", " on w for 9 s"),
            ("cancelled", "cancelled: cancelled by an operator", " by an operator"),
            ("cancelled", "cancelled: wrong branch", ": wrong branch"),
            ("failed", "failed (repository): exit code 1", " (repository): exit code 1"),
            ("queued", "1st in line", ": 1st in line"),
            ("queued", "", ""),
        ] {
            assert_eq!(after(state, why), rest, "{why}");
        }
    }
}
