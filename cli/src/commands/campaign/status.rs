//! `fairlane campaign list` and `status`.

use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Colors, Output, Table, Tone, clean};
use fairlane_common::queue::campaigns::{CampaignName, Pacing};
use fairlane_dispatcher::api::{CampaignList, CampaignState, CampaignView};

use super::super::lists::now;
use super::{PATH, get};
use crate::client::Client;

/// How often `status -w` refreshes.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A part of a whole in percent; unknown of nothing.
pub(super) fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1} %", (100.0 * part / whole).clamp(0.0, 100.0)) } else { "-".to_owned() }
}

fn tone(state: CampaignState) -> Option<Tone> {
    match state {
        CampaignState::Running => Some(Tone::Good),
        CampaignState::Loading | CampaignState::Paused => Some(Tone::Warning),
        CampaignState::Ended | CampaignState::Cancelled => None,
    }
}

fn done(view: &CampaignView) -> u64 {
    view.built + view.present + view.built_by_people + view.failed + view.cancelled
}

pub(super) async fn list(client: &Client, output: Output) -> Result<Exit> {
    let list: CampaignList = client.get(PATH, &[]).await?;
    if output.is_json() {
        for view in &list.campaigns {
            output.json(view);
        }
        return Ok(Exit::Good);
    }
    for name in &list.unreadable {
        output.talk(&format!("Cannot be read: {}", clean(name, Colors::Drop)));
    }
    if list.campaigns.is_empty() {
        output.talk("There are no campaigns; `fairlane campaign start` starts one.");
        return Ok(Exit::Good);
    }
    let now = now(client).await;
    let mut table = Table::new([
        ("CAMPAIGN", Align::Left),
        ("STATE", Align::Left),
        ("DONE", Align::Right),
        ("FAILED", Align::Right),
        ("COVERAGE", Align::Right),
        ("STARTED", Align::Right),
        ("END", Align::Right),
    ]);
    for view in &list.campaigns {
        let ends = match (view.ended_ms, view.expected_end_ms) {
            (Some(at), _) => human::ago(at, now),
            (None, Some(at)) => human::about(at.saturating_sub(now)),
            (None, None) => String::new(),
        };
        table.row([
            view.name.as_str().into(),
            Cell::toned(view.state.to_string(), tone(view.state)),
            format!("{}/{}", done(view), view.items).into(),
            Cell::toned(view.failed.to_string(), (view.failed > 0).then_some(Tone::Bad)),
            percent(view.launches_covered, view.launches).into(),
            view.started_ms.map(|at| human::ago(at, now)).unwrap_or_default().into(),
            ends.into(),
        ]);
    }
    output.table(&table);
    Ok(Exit::Good)
}

pub(super) async fn run(client: &Client, name: &CampaignName, watch: bool, output: Output) -> Result<Exit> {
    if !watch {
        show(client, name, output).await?;
        return Ok(Exit::Good);
    }
    let look = async {
        loop {
            output.clear();
            match show(client, name, output).await {
                Err(error) if exit::of(&error) == Exit::Unreachable => output.talk(&exit::in_full(&error)),
                Err(error) => return Err(error),
                Ok(true) => return Ok(Exit::Good),
                Ok(false) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        end = look => end,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Shows a campaign; returns whether it has ended.
async fn show(client: &Client, name: &CampaignName, output: Output) -> Result<bool> {
    let view = get(client, name).await?;
    if output.is_json() {
        output.json(&view);
    } else {
        describe(&view, now(client).await, output);
    }
    Ok(view.ended_ms.is_some())
}

pub(super) fn describe(view: &CampaignView, now: u64, output: Output) {
    let line = |label: &str, text: &str| output.data(&format!("{label:<12} {text}"));
    let state = view.state.to_string();
    let until = if view.standing && view.ended_ms.is_none() { ", until it is cancelled" } else { "" };
    let painted = tone(view.state).map_or_else(|| state.clone(), |tone| output.paint(tone, &state));
    line(&view.name, &format!("{painted}{until}"));
    if let Some(why) = &view.waits {
        line("waits", &clean(why, Colors::Drop));
    }
    line(
        "coverage",
        &format!(
            "{} of {:.0} expected launches find their image",
            percent(view.launches_covered, view.launches),
            view.launches
        ),
    );
    let mut parts = vec![format!("{} of {} done", done(view), view.items)];
    for (count, what) in [
        (view.built, "built"),
        (view.present, "already in the registry"),
        (view.built_by_people, "built for people"),
        (view.failed, "failed"),
        (view.cancelled, "cancelled"),
        (view.building, "in line or running"),
        (view.joined, "being built for people"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    line("builds", &parts.join(", "));
    line("pacing", &pacing(&view.pacing));
    let so_far = if view.ended_ms.is_some() { "" } else { " so far" };
    line("cost", &format!("{} of slots{so_far}", human::span_of_seconds(view.slot_seconds)));
    match (view.ended_ms, view.expected_end_ms) {
        (Some(at), _) => line("ended", &human::ago(at, now)),
        (None, Some(at)) => {
            line("ends", &format!("{}, if people need no slots", human::about(at.saturating_sub(now))));
        }
        (None, None) => {}
    }
}

fn pacing(of: &Pacing) -> String {
    let parts: Vec<String> = [
        of.share.map(|share| format!("at most {:.0} % of the slots", 100.0 * share)),
        of.per_hour.map(|most| format!("at most {most} starts an hour")),
        of.pause_when_waiting_ms
            .map(|ms| format!("pauses while people wait longer than {}", human::span(ms))),
        of.hours.map(|hours| format!("{hours} {}", of.time_zone.as_deref().unwrap_or("UTC"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "slots that people don't need".to_owned() } else { parts.join(", ") }
}
