//! `fairlane events` and `audit`: recent history.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit};
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Cell, Colors, Output, Table, Tone, clean};
use fairlane_common::id::BuildId;
use fairlane_dispatcher::api::{ActPage, ActView, ChangePage, ChangeView};

use super::builds;
use super::lists::{PAGE, now, tone_of};
use super::rule;
use crate::args::{Audit, Events};
use crate::client::Client;

/// How often `events -f` asks for new changes.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Kinds of acts that `audit` can select; a dispatcher of a later release may know more.
const ACTS: &str = "rule set, rule removed, rule ended, ban overridden, cancel, promote, drain, undrain, policy set, \
                    logs pruned, campaign created, campaign started, campaign paused, campaign resumed, \
                    campaign pacing set, campaign cancelled, campaign ended, worker lost, node avoided, \
                    node taken back, node cleared, build forgotten, repaired";

pub(crate) async fn events(mut args: Events, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    if let Some(build) = &args.build {
        args.build = Some(builds::find(&client, build).await?.to_string().parse()?);
    }
    let since = human::parse_span(&args.since)?;
    let limit = args.limit as usize;
    let (mut all, more) = changes(&client, &args, format!("{}s", since.as_secs().max(1)), limit).await?;
    all.reverse();
    if more {
        output.talk(&format!("There were more than these {limit}; --limit shows more."));
    }
    if output.is_json() || args.follow {
        for change in &all {
            write_change(change, output);
        }
    } else if all.is_empty() {
        output.talk(&format!("No changes match in the last {}.", args.since));
    } else {
        output.table(&change_table(&all, output));
    }
    if !args.follow {
        return Ok(Exit::Good);
    }
    tokio::select! {
        end = follow(&client, &args, all, output) => end,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Shows new changes, each once, even if several have the same time.
async fn follow(client: &Client, args: &Events, shown: Vec<ChangeView>, output: Output) -> Result<Exit> {
    let mut is_away = false;
    let mut latest = shown.last().map_or(now(client).await, |change| change.at_ms);
    let mut seen: HashSet<(BuildId, u64)> = shown.iter().map(|change| (change.build, change.seq)).collect();
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let since = latest.saturating_sub(1).to_string();
        let mut all = match changes(client, args, since, usize::MAX).await {
            Ok((all, _)) => all,
            Err(error) if exit::of(&error) == Exit::Unreachable => {
                if !std::mem::replace(&mut is_away, true) {
                    output.talk(
                        &output
                            .paint_talk(Tone::Warning, &format!("{}; trying again", exit::in_full(&error))),
                    );
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if std::mem::take(&mut is_away) {
            output.talk("The dispatcher answers again; nothing was missed.");
        }
        all.reverse();
        let known = std::mem::take(&mut seen);
        for change in &all {
            if !known.contains(&(change.build, change.seq)) {
                write_change(change, output);
            }
            latest = latest.max(change.at_ms);
            seen.insert((change.build, change.seq));
        }
        if all.is_empty() {
            seen = known;
        }
    }
}

/// Changes, newest first, and whether there are more than `limit`.
async fn changes(
    client: &Client,
    args: &Events,
    since: String,
    limit: usize,
) -> Result<(Vec<ChangeView>, bool)> {
    let mut all: Vec<ChangeView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("since", since.clone()), ("limit", page(limit, all.len()))];
        query.extend(args.lane.as_ref().map(|lane| ("lane", lane.to_string())));
        query.extend(args.build.as_ref().map(|build| ("build", build.as_str().to_owned())));
        query.extend(args.worker.as_ref().map(|worker| ("worker", worker.to_string())));
        query.extend(args.state.map(|state| ("state", state.to_string())));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: ChangePage = client.get("v1/activity", &query).await?;
        all.extend(page.changes);
        cursor = page.cursor;
        if cursor.is_none() || all.len() >= limit {
            return Ok((all, cursor.is_some()));
        }
    }
}

fn page(limit: usize, have: usize) -> String {
    limit.saturating_sub(have).clamp(1, PAGE as usize).to_string()
}

/// Prints one change as a line.
fn write_change(change: &ChangeView, output: Output) {
    if output.is_json() {
        return output.json(change);
    }
    let state = format!("{:<9}", change.state.word());
    let state = tone_of(change.state).map_or_else(|| state.clone(), |tone| output.paint(tone, &state));
    let (time, id) = (human::instant(change.at_ms), builds::shown(change.build, output));
    output.data(format!("{time}  {state}  {id}  {}  {}", change.lane, about(change)).trim_end());
}

fn change_table(all: &[ChangeView], output: Output) -> Table {
    let mut table = Table::new([
        ("TIME (UTC)", Align::Right),
        ("STATE", Align::Left),
        ("ID", Align::Left),
        ("LANE", Align::Left),
        ("WHY", Align::Left),
    ]);
    for change in all {
        table.row([
            human::instant(change.at_ms).into(),
            Cell::toned(change.state.word(), tone_of(change.state)),
            builds::shown(change.build, output).into(),
            (&change.lane).into(),
            about(change).into(),
        ]);
    }
    table
}

fn about(change: &ChangeView) -> String {
    let worker = change.worker.as_ref().map(|worker| format!("on {worker}"));
    let class = change.class.map(|class| match &change.cause {
        Some(cause) => format!("{class} ({cause})"),
        None => class.to_string(),
    });
    let reason = change.reason.as_ref().map(|reason| clean(reason, Colors::Drop));
    worker.into_iter().chain(class).chain(reason).collect::<Vec<_>>().join(", ")
}

/// The details of an act and its reason; a rule is put into words.
fn detail(act: &ActView, now: u64) -> String {
    let rule = if act.act.starts_with("rule ") { rule::in_words(&act.detail, now) } else { None };
    let detail = rule.unwrap_or_else(|| act.detail.clone());
    let parts = [Some(detail), act.reason.clone()].into_iter().flatten();
    parts.filter(|part| !part.is_empty()).collect::<Vec<String>>().join("; ")
}

pub(crate) async fn audit(args: Audit, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let since = human::parse_span(&args.since)?;
    let limit = args.limit as usize;
    let mut all: Vec<ActView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query =
            vec![("since", format!("{}s", since.as_secs().max(1))), ("limit", page(limit, all.len()))];
        query.extend(args.by.clone().map(|by| ("by", by)));
        query.extend(args.act.clone().map(|act| ("act", act)));
        query.extend(args.what.clone().map(|what| ("what", what)));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: ActPage = client.get("v1/audit", &query).await?;
        all.extend(page.acts);
        cursor = page.cursor;
        if cursor.is_none() || all.len() >= limit {
            break;
        }
    }
    all.reverse();
    if cursor.is_some() {
        output.talk(&format!("There were more than these {limit}; --limit shows more."));
    }
    if output.is_json() {
        for act in &all {
            output.json(act);
        }
        return Ok(Exit::Good);
    }
    if all.is_empty() {
        output.talk(&format!("Nothing in the audit log matches in the last {}.", args.since));
        if args.act.as_deref().is_some_and(|act| ACTS.split(", ").all(|known| known != act)) {
            output.talk(&format!("Known acts: {ACTS}."));
        }
        return Ok(Exit::Good);
    }
    let now = now(&client).await;
    let mut table = Table::new([
        ("TIME (UTC)", Align::Right),
        ("BY", Align::Left),
        ("ACT", Align::Left),
        ("WHAT", Align::Left),
        ("DETAIL", Align::Left),
    ]);
    for act in &all {
        table.row([
            human::instant(act.at_ms).into(),
            (&act.by).into(),
            (&act.act).into(),
            (&act.what).into(),
            detail(act, now).into(),
        ]);
    }
    output.table(&table);
    Ok(Exit::Good)
}

#[cfg(test)]
mod tests {
    use super::ACTS;

    #[test]
    fn the_acts_are_those_that_the_queue_records() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/lua");
        let mut recorded = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            // The second argument; where it is a choice, every quoted word of it.
            for call in text.split("audit(").skip(1).filter(|call| !call.starts_with("by, act,")) {
                let act = call.split(", ").nth(1).unwrap_or_default();
                recorded.extend(
                    act.split('\'').skip(1).step_by(2).filter(|word| word.len() > 1).map(str::to_owned),
                );
            }
        }
        assert!(recorded.len() > 15, "{recorded:?}");
        let known: Vec<&str> = ACTS.split(", ").collect();
        for act in &recorded {
            // The state that decides between two acts is compared with these words.
            assert!(
                known.contains(&act.as_str()) || ["loading", "paused"].contains(&act.as_str()),
                "{act}: {known:?}"
            );
        }
        let page = std::fs::read_to_string(format!("{folder}/../../dispatcher/page/rules.js")).unwrap();
        for act in known {
            assert!(recorded.iter().any(|name| name == act), "nothing records '{act}'");
            assert!(page.contains(&format!("'{act}'")), "the page does not offer '{act}'");
        }
    }
}
