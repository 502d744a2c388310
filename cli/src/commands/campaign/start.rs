//! `fairlane campaign start`.

use std::fs::File;
use std::io::{BufReader, stdin};

use anyhow::Result;
use fairlane_campaign::plan::Plan;
use fairlane_clikit::exit::{Exit, Stop};
use fairlane_clikit::human;
use fairlane_clikit::output::Output;
use fairlane_common::campaign::Item;
use fairlane_common::clock::millis;
use fairlane_common::id::BuildId;
use fairlane_common::queue::campaigns::{CampaignName, ITEMS_AT_ONCE};
use fairlane_dispatcher::api::{
    CampaignCancelAnswer, CampaignItems, CampaignItemsAnswer, CampaignRequest, CampaignState, CampaignView,
};
use reqwest::Method;
use serde_json::json;

use super::super::lists::now;
use super::status::percent;
use super::{PATH, get, path};
use crate::args::CampaignStart;
use crate::client::Client;

/// Most bytes of items in one request: a dispatcher accepts 512 KiB.
const BYTES_AT_ONCE: usize = 400 * 1024;

pub(super) async fn run(args: CampaignStart, output: Output) -> Result<Exit> {
    let pacing = args.pacing.read()?;
    let plan = read(&args, output)?;
    let client = Client::new(args.reach.clone())?;
    let request = CampaignRequest {
        name: args.name.to_string(),
        request: Some(BuildId::new().to_string()),
        launches: Some(plan.launches()),
        launches_present: Some(plan.launches_present()),
        pacing: Some(pacing),
        standing: false,
        items: Vec::new(),
        state: None,
    };
    let body = serde_json::to_value(&request)?;
    client.send::<CampaignView>(Method::POST, PATH, &[], Some(&body)).await?;
    // From here on it is there: whatever fails must not leave half of it behind.
    match load_and_start(&client, &args, &plan.items, output).await {
        Ok(view) => {
            said(&view, &plan.items, output);
            Ok(Exit::Good)
        }
        Err(error) => {
            let gone =
                client.send::<CampaignCancelAnswer>(Method::DELETE, &path(&args.name), &[], None).await;
            if gone.is_err() {
                output.talk(&format!("`fairlane campaign cancel {}` removes what is there.", args.name));
            }
            Err(error)
        }
    }
}

fn read(args: &CampaignStart, output: Output) -> Result<Plan> {
    let plan = if args.plan.as_os_str() == "-" {
        Plan::read(&mut stdin().lock(), "standard input".to_owned())
    } else {
        let name = args.plan.display().to_string();
        let file =
            File::open(&args.plan).map_err(|error| Stop::usage(format!("{name} cannot be read: {error}")))?;
        Plan::read(&mut BufReader::new(file), name)
    };
    if let Some(bad) = plan.bad.sentence() {
        if !args.skip_bad_lines {
            return Err(Stop::usage(format!(
                "{bad}\nCorrect the plan, or add --skip-bad-lines; nothing was started"
            ))
            .into());
        }
        output.talk(&bad);
    }
    if plan.items.is_empty() {
        return Err(Stop::usage(format!("{}: the plan has no builds", args.plan.display())).into());
    }
    Ok(plan)
}

async fn load_and_start(
    client: &Client,
    args: &CampaignStart,
    items: &[Item],
    output: Output,
) -> Result<CampaignView> {
    add(client, &args.name, 0, items).await?;
    let view = get(client, &args.name).await?;
    let now = now(client).await;
    let time = view.expected_end_ms.map(|end| end.saturating_sub(now));
    match (time, args.finish_within) {
        (Some(time), Some(most)) if time > millis(most) => {
            let most = human::span(millis(most));
            return Err(Stop::usage(format!(
                "the builds would take about {}, longer than {most}; nothing was started. Plan fewer builds, or give \
                 the campaign more slots",
                human::span(time)
            ))
            .into());
        }
        (None, Some(_)) => {
            return Err(Stop::usage("it is unknown how long the builds will take, because there is no slot for them; nothing was started").into());
        }
        (Some(time), None) => output
            .talk(&format!("The builds will take about {}, if people need no slots.", human::span(time))),
        (Some(time), Some(_)) => output.talk(&format!("The builds will take about {}.", human::span(time))),
        (None, None) => output
            .talk("There is no slot for the builds at the moment, so it is unknown how long they will take."),
    }
    let state = if args.paused { "paused" } else { "running" };
    client.send(Method::PATCH, &path(&args.name), &[], Some(&json!({ "state": state }))).await
}

/// Adds items to a campaign that has `first` of them.
pub(super) async fn add(client: &Client, name: &CampaignName, first: u64, items: &[Item]) -> Result<()> {
    let at = format!("{}/items", path(name));
    let mut sent = 0;
    while sent < items.len() {
        let count = fitting(&items[sent..])?;
        let more = CampaignItems { first: first + sent as u64, items: items[sent..sent + count].to_vec() };
        let body = serde_json::to_value(&more)?;
        client.send::<CampaignItemsAnswer>(Method::POST, &at, &[], Some(&body)).await?;
        sent += count;
    }
    Ok(())
}

/// How many of these items fit into one request.
fn fitting(items: &[Item]) -> Result<usize> {
    let mut bytes = 0;
    for (at, item) in items.iter().take(ITEMS_AT_ONCE).enumerate() {
        bytes += serde_json::to_vec(item)?.len() + 1;
        if bytes > BYTES_AT_ONCE {
            return Ok(at.max(1));
        }
    }
    Ok(items.len().min(ITEMS_AT_ONCE))
}

fn said(view: &CampaignView, items: &[Item], output: Output) {
    if output.is_json() {
        output.json(view);
        return;
    }
    let begun = if view.state == CampaignState::Paused { "created, and paused" } else { "started" };
    let builds = human::many(view.items, "build");
    let covers = percent(items.iter().map(|item| item.launches).sum(), view.launches);
    let present = if view.launches_present > 0.0 {
        format!("; {} find theirs already", percent(view.launches_present, view.launches))
    } else {
        String::new()
    };
    output.talk(&format!(
        "{} is {begun}: {builds} for the images of {covers} of all expected launches{present}. \
         `fairlane campaign status {} -w` follows it.",
        view.name, view.name
    ));
}
