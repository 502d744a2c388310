//! Lists of builds, and finding a build by a part of its id.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Output, Table};
use fairlane_common::build::BuildState;
use fairlane_common::clock::millis;
use fairlane_common::id::{BuildId, Lane};
use fairlane_dispatcher::api::{BuildPage, BuildView};
use futures::StreamExt;

use super::lists::{PAGE, PAGES_MAX, now, tone_of};
use crate::args::{BuildRef, Queue, Sort};
use crate::client::Client;

/// Most builds that are requested one by one; more would make a long list slow.
const CLOSER_MAX: usize = 50;
/// How many of them are requested at once.
const CLOSER_AT_ONCE: usize = 8;
/// Characters of an id that a terminal shows. They are its last ones, because all ids begin with the time.
const SHORT_ID: usize = 8;
/// Characters of a commit that a table shows.
const COMMIT: usize = 12;

/// Which builds to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) state: Option<BuildState>,
    pub(super) lane: Option<Lane>,
    pub(super) limit: usize,
    /// Only builds requested, started or ended since this moment, in Unix milliseconds.
    pub(super) since: u64,
}

/// Fetches builds page by page; returns them, and whether there are more.
pub(super) async fn list(client: &Client, wanted: &Wanted) -> Result<(Vec<BuildView>, bool)> {
    let mut all: Vec<BuildView> = Vec::new();
    let mut cursor: Option<String> = None;
    // A page may have fewer builds than asked for, because entries that do not match are read too.
    for _ in 0..PAGES_MAX {
        let mut query = vec![("limit", (wanted.limit - all.len()).min(PAGE as usize).to_string())];
        query.extend(wanted.state.map(|state| ("state", state.to_string())));
        query.extend(wanted.lane.as_ref().map(|lane| ("lane", lane.to_string())));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: BuildPage = client.get("v1/builds", &query).await?;
        // Ended builds come latest first: once one is too old, so are all that follow.
        let done = page.builds.iter().any(|build| build.ended_ms.is_some_and(|at| at < wanted.since));
        all.extend(page.builds.into_iter().filter(|build| latest(build) >= wanted.since));
        cursor = page.cursor.filter(|_| !done);
        if cursor.is_none() || all.len() >= wanted.limit {
            break;
        }
    }
    Ok((all, cursor.is_some()))
}

/// When a build ended, started or was requested, whichever came last.
fn latest(build: &BuildView) -> u64 {
    build.ended_ms.or(build.claimed_ms).unwrap_or(build.asked_ms)
}

/// The build with this id, or whose id begins or ends with this text.
pub(super) async fn find(client: &Client, build: &BuildRef) -> Result<BuildId> {
    let text = build.as_str();
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let (all, is_cut) =
        list(client, &Wanted { limit: (PAGE * PAGES_MAX) as usize, ..Wanted::default() }).await?;
    let found: Vec<&BuildView> = all.iter().filter(|build| is_part(&build.id.to_string(), text)).collect();
    match found.as_slice() {
        [one] if !is_cut => Ok(one.id),
        [] => Err(Stop::usage(format!(
            "no build has an id that begins or ends with '{text}'; `fairlane queue --builds` lists the known builds"
        ))
        .into()),
        [_] => Err(Stop::usage("too many builds to search by part of an id; give the full id").into()),
        [one, two, ..] => Err(Stop::usage(format!(
            "{} builds have ids that begin or end with '{text}', such as {} and {}; give more of the id",
            found.len(),
            one.id,
            two.id
        ))
        .into()),
    }
}

fn is_part(id: &str, text: &str) -> bool {
    id.starts_with(text) || id.ends_with(text)
}

pub(super) async fn run(client: &Client, args: &Queue, output: Output) -> Result<Exit> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let since = match &args.since {
        Some(text) => since(client, human::parse_span(text)?).await,
        None => 0,
    };
    let wanted = Wanted { state: args.state, lane: args.lane.clone(), limit, since };
    let (mut all, more) = list(client, &wanted).await?;
    sort(&mut all, args.sort);
    if output.is_json() {
        for build in &all {
            output.json(build);
        }
    } else if all.is_empty() {
        output.talk("No builds match.");
    } else {
        look_closer(client, &mut all).await;
        output.table(&table(&all, now(client).await, output));
    }
    if more {
        output.talk(&format!("There are more than these {}; use --limit to see more.", all.len()));
    }
    Ok(Exit::Good)
}

/// The time `span` ago, by the queue's clock.
pub(super) async fn since(client: &Client, span: Duration) -> u64 {
    now(client).await.saturating_sub(millis(span))
}

fn sort(builds: &mut [BuildView], order: Sort) {
    match order {
        Sort::Line => {}
        Sort::Age => builds.sort_by_key(|build| build.asked_ms),
        Sort::Ran => {
            let running = |build: &BuildView| build.claimed_ms.filter(|_| !build.state.is_ended());
            builds.sort_by_key(|build| running(build).unwrap_or(u64::MAX));
        }
        Sort::People => builds.sort_by_key(|build| Reverse(build.people)),
        Sort::Lane => builds.sort_by(|one, other| one.lane.cmp(&other.lane)),
    }
}

/// Requests the first live builds again one by one, because lists include neither positions in line nor the
/// last log line of running builds.
async fn look_closer(client: &Client, all: &mut [BuildView]) {
    let live = all.iter_mut().filter(|build| !build.state.is_ended()).take(CLOSER_MAX);
    let asked = live.map(|build| async move {
        if let Ok(view) = client.get::<BuildView>(&format!("v1/builds/{}", build.id), &[]).await {
            *build = view;
        }
    });
    futures::stream::iter(asked).buffer_unordered(CLOSER_AT_ONCE).collect::<Vec<()>>().await;
}

/// An id as tables show it: on a terminal, only the part that distinguishes it.
pub(super) fn shown(id: BuildId, output: Output) -> String {
    let id = id.to_string();
    if output.is_narrow() { id[id.len() - SHORT_ID..].to_owned() } else { id }
}

/// Builds as a table.
pub(super) fn table(builds: &[BuildView], now: u64, output: Output) -> Table {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("STATE", Align::Left),
        ("PEOPLE", Align::Right),
        ("REQUESTED", Align::Right),
        ("LANE", Align::Left),
        ("REF", Align::Left),
        ("NOW", Align::Left),
    ]);
    for build in builds {
        table.row([
            shown(build.id, output).into(),
            Cell::toned(build.state.word(), tone_of(build.state)),
            build.people.into(),
            human::ago(build.asked_ms, now).into(),
            (&build.lane).into(),
            short(&build.reference).into(),
            format!("{}{}", details(build, now), campaign(build)).into(),
        ]);
    }
    table
}

/// The campaign of a build, to be added to its details.
fn campaign(build: &BuildView) -> String {
    build.campaign.as_ref().map(|name| format!(" (campaign {name})")).unwrap_or_default()
}

/// A commit's first characters; branches and tags are shown in full, because two may begin the same way.
fn short(reference: &str) -> &str {
    let is_commit = matches!(reference.len(), 40 | 64) && reference.chars().all(|c| c.is_ascii_hexdigit());
    if is_commit { &reference[..COMMIT] } else { reference }
}

/// The most useful detail of a build in its state.
fn details(build: &BuildView, now: u64) -> String {
    let reason = build.reason.as_deref().unwrap_or("no reason was given");
    let since = |at: Option<u64>| at.map(|at| human::span(now.saturating_sub(at)));
    match build.state {
        BuildState::Queued => {
            let position = build.position.map(|position| format!("position {position}"));
            let eta = build.eta_seconds.map(|eta| format!("ready {}", human::about(eta * 1000)));
            let retry =
                build.not_before_ms.map(|at| format!("attempt {} {}", build.attempt, human::ahead(at, now)));
            position.into_iter().chain(retry).chain(eta).collect::<Vec<_>>().join(", ")
        }
        BuildState::Starting | BuildState::Running | BuildState::Orphaned => {
            let worker = build.worker.as_ref().map_or_else(String::new, |worker| format!("on {worker}"));
            let ran = since(build.claimed_ms).map(|span| format!(" for {span}")).unwrap_or_default();
            let note = build.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            let takes = human::span(build.expected_seconds * 1000);
            let line = build.last_line.as_ref();
            let line =
                line.map(|line| format!(", last line {}", human::ago(line.at_ms, now))).unwrap_or_default();
            format!("{worker}{ran} of about {takes}{line}{note}")
        }
        BuildState::Failed => {
            let class = build.class.map(|class| format!("{class}, ")).unwrap_or_default();
            let when = build.ended_ms.map(|at| human::ago(at, now)).unwrap_or_default();
            format!("{class}{when}: {reason}")
        }
        BuildState::Succeeded => build.ended_ms.map(|at| human::ago(at, now)).unwrap_or_default(),
        BuildState::Cancelled => {
            format!("{}: {reason}", build.ended_ms.map(|at| human::ago(at, now)).unwrap_or_default())
        }
    }
}
