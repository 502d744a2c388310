//! `fairlane cancel` and `retry` for one build or many, and which builds a rule would affect.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::{Output, Tone};
use fairlane_common::build::BuildState;
use fairlane_common::id::BuildId;
use fairlane_common::rule::Pattern;
use fairlane_dispatcher::api::{BuildRequest, BuildView, CancelAnswer};
use reqwest::Method;

use super::builds::{self, Wanted};
use super::lists::{PAGE, PAGES_MAX, now};
use super::submit;
use crate::args::{Cancel, Retry};
use crate::client::{Client, reason_query};

/// Most builds that one command looks at.
const LOOKED_AT: usize = (PAGE * PAGES_MAX) as usize;

pub(crate) async fn cancel(args: Cancel, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let query = reason_query(args.reason);
    if let Some(id) = &args.id {
        let id = builds::find(&client, id).await?;
        if args.dry_run {
            let build: BuildView = client.get(&format!("v1/builds/{id}"), &[]).await?;
            return Ok(would(&client, &[build], "cancelled", output).await);
        }
        return cancel_one(&client, id, &query, output).await.map(|()| Exit::Good);
    }
    let wanted = Wanted { state: args.state, lane: args.lane, limit: LOOKED_AT, ..Wanted::default() };
    let (mut found, more) = builds::list(&client, &wanted).await?;
    found.retain(|build| !build.state.is_ended());
    if args.dry_run {
        return Ok(would(&client, &found, "cancelled", output).await);
    }
    for build in &found {
        cancel_one(&client, build.id, &query, output).await?;
    }
    summary(found.len(), "cancelled", more, output);
    Ok(Exit::Good)
}

async fn cancel_one(client: &Client, id: BuildId, query: &[(&str, String)], output: Output) -> Result<()> {
    let answer: CancelAnswer = client.send(Method::DELETE, &format!("v1/builds/{id}"), query, None).await?;
    if output.is_json() {
        output.json(&answer);
    } else if answer.stopping {
        output.talk(&format!("Build {id} is being stopped; it ends when its run is gone."));
    } else if answer.state == BuildState::Cancelled {
        output.talk(&format!("Build {id} is cancelled."));
    } else {
        output.talk(&format!("Build {id} had already ended: it {}.", answer.state));
    }
    Ok(())
}

pub(crate) async fn retry(args: Retry, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let since = args.since.as_deref().map(human::parse_span).transpose()?;
    let (found, more) = if let Some(id) = &args.id {
        let id = builds::find(&client, id).await?;
        let build: BuildView = client.get(&format!("v1/builds/{id}"), &[]).await?;
        if build.state != BuildState::Failed {
            return Err(Stop::usage(format!("build {id} has not failed: it is {}", build.state)).into());
        }
        if build.expired {
            let ago = human::ago(build.ended_ms.unwrap_or(0), now(&client).await);
            return Err(Stop::usage(format!(
                "build {id} ended {ago}, and its request is gone: submit it again"
            ))
            .into());
        }
        (vec![build], false)
    } else {
        let wanted = Wanted { lane: args.lane, limit: LOOKED_AT, ..Wanted::default() };
        let (all, more) = builds::list(&client, &wanted).await?;
        let oldest = match since {
            Some(span) => builds::since(&client, span).await,
            None => 0,
        };
        let mut latest = latest_of_each_image(all);
        latest.retain(|build| {
            build.state == BuildState::Failed
                && !build.expired
                && build.ended_ms.is_some_and(|at| at >= oldest)
                && args.class.is_none_or(|class| build.class == Some(class))
        });
        (latest, more)
    };
    if args.dry_run {
        return Ok(would(&client, &found, "built again", output).await);
    }
    for build in &found {
        let answer = submit::ask(&client, &BuildRequest::again(build)).await?;
        if output.is_json() {
            output.json(&answer);
        } else {
            output.talk(&format!(
                "Build {} of {} was requested again, as {}.",
                build.id, build.lane, answer.id
            ));
        }
    }
    summary(found.len(), "requested again", more, output);
    Ok(Exit::Good)
}

/// The latest build of each image: an earlier failure no longer matters.
fn latest_of_each_image(all: Vec<BuildView>) -> Vec<BuildView> {
    let mut latest: BTreeMap<String, BuildView> = BTreeMap::new();
    for build in all {
        match latest.get(&build.image) {
            Some(other) if other.id > build.id => {}
            _ => drop(latest.insert(build.image.clone(), build)),
        }
    }
    let mut builds: Vec<BuildView> = latest.into_values().collect();
    builds.sort_by_key(|build| build.id);
    builds
}

/// Which builds and lanes a rule with this pattern would affect now.
pub(super) async fn touched(client: &Client, pattern: &Pattern, output: Output) -> Result<Exit> {
    let lane = pattern.is_lane().then(|| pattern.as_str().parse()).transpose()?;
    let (mut found, _) =
        builds::list(client, &Wanted { lane, limit: LOOKED_AT, ..Wanted::default() }).await?;
    found.retain(|build| !build.state.is_ended() && pattern.matches(&build.lane));
    Ok(would(client, &found, "affected", output).await)
}

/// Lists the builds that a command would act on.
async fn would(client: &Client, found: &[BuildView], done: &str, output: Output) -> Exit {
    if output.is_json() {
        for build in found {
            output.json(build);
        }
        return Exit::Good;
    }
    if !found.is_empty() {
        output.table(&builds::table(found, now(client).await, output));
    }
    let lanes: BTreeSet<&str> = found.iter().map(|build| build.lane.as_str()).collect();
    output.talk(&format!(
        "Nothing was changed: {} in {} would be {done}.",
        human::many(found.len() as u64, "build"),
        human::many(lanes.len() as u64, "lane")
    ));
    Exit::Good
}

fn summary(count: usize, done: &str, more: bool, output: Output) {
    if output.is_json() {
        return;
    }
    let were = if count == 1 { "was" } else { "were" };
    output.talk(&format!("{} {were} {done}.", human::many(count as u64, "build")));
    if more {
        let text = format!("Only the first {LOOKED_AT} builds were looked at; there may be more that match.");
        output.talk(&output.paint_talk(Tone::Warning, &text));
    }
}
