//! `fairlane campaign`: many builds in the background.

mod plan;
mod queue;
mod report;
mod start;
mod status;
mod wait;
mod watch;

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::Output;
use fairlane_common::queue::campaigns::CampaignName;
use fairlane_dispatcher::api::{CampaignCancelAnswer, CampaignItemPage, CampaignItemView, CampaignView};
use reqwest::Method;
use serde_json::json;

use crate::args::{Campaign, CampaignAct};
use crate::client::{Client, reason_query};

const PATH: &str = "v1/campaigns";

pub(crate) async fn run(command: Campaign, output: Output) -> Result<Exit> {
    match command {
        Campaign::Plan(args) => Box::pin(plan::run(*args, output)).await,
        Campaign::Start(args) => Box::pin(start::run(*args, output)).await,
        Campaign::List { reach } => status::list(&Client::new(reach)?, output).await,
        Campaign::Status { name, watch, reach } => {
            status::run(&Client::new(reach)?, &name, watch, output).await
        }
        Campaign::Pause(act) => set(act, "paused", output).await,
        Campaign::Resume(act) => set(act, "running", output).await,
        Campaign::Cancel { act, running } => cancel(act, running, output).await,
        Campaign::Report(args) => report::run(args, output).await,
        Campaign::Wait(args) => wait::run(args, output).await,
        Campaign::Watch(args) => Box::pin(watch::run(*args, output)).await,
    }
}

fn path(name: &CampaignName) -> String {
    format!("{PATH}/{name}")
}

async fn get(client: &Client, name: &CampaignName) -> Result<CampaignView> {
    client.get(&path(name), &[]).await
}

/// All items of a campaign, or those in a state.
async fn items(client: &Client, name: &CampaignName, state: Option<&str>) -> Result<Vec<CampaignItemView>> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let mut query: Vec<_> = state.map(|state| ("state", state.to_owned())).into_iter().collect();
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: CampaignItemPage = client.get(&format!("{}/items", path(name)), &query).await?;
        all.extend(page.items);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

async fn set(act: CampaignAct, state: &str, output: Output) -> Result<Exit> {
    let client = Client::new(act.reach)?;
    let body = json!({ "state": state });
    let view: CampaignView =
        client.send(Method::PATCH, &path(&act.name), &reason_query(act.reason), Some(&body)).await?;
    if output.is_json() {
        output.json(&view);
    } else if state == "paused" {
        let builds = human::many(view.building, "running build");
        output.talk(&format!("{} is paused; {builds} will finish.", view.name));
    } else {
        output.talk(&format!("{} goes on; {} to start.", view.name, human::many(view.waiting, "build")));
    }
    Ok(Exit::Good)
}

async fn cancel(act: CampaignAct, running: bool, output: Output) -> Result<Exit> {
    let client = Client::new(act.reach)?;
    let mut query = reason_query(act.reason);
    query.push(("running", running.to_string()));
    let answer: CampaignCancelAnswer = client.send(Method::DELETE, &path(&act.name), &query, None).await?;
    if output.is_json() {
        output.json(&answer);
        return Ok(Exit::Good);
    }
    let dropped = match answer.dropped {
        0 => String::new(),
        count => format!("; {} will not be made", human::many(count, "build")),
    };
    output.talk(&format!("{} is cancelled{dropped}.", act.name));
    for (what, count) in [("will be stopped", answer.stopping), ("will finish", answer.finishing)] {
        if count > 0 {
            output.talk(&format!("{} {what}.", human::many(count, "running build")));
        }
    }
    Ok(Exit::Good)
}
