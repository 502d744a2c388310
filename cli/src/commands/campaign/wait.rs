//! `fairlane campaign wait`.

use std::time::Duration;

use anyhow::Result;
use fairlane_clikit::exit::{self, Exit, Stop};
use fairlane_clikit::output::Output;
use fairlane_dispatcher::api::{CampaignState, CampaignView};
use tokio::time::Instant;

use super::get;
use super::status::percent;
use crate::args::CampaignWait;
use crate::client::Client;

/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(super) async fn run(args: CampaignWait, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach.clone())?;
    let look = async {
        let mut told = String::new();
        let mut say = |text: String| {
            if text != told {
                output.talk(&text);
                told = text;
            }
        };
        loop {
            match get(&client, &args.name).await {
                Ok(view) => {
                    if view.standing && args.coverage.is_none() {
                        let message =
                            format!("{} goes on until it is cancelled; name a --coverage", view.name);
                        return Err(Stop::usage(message).into());
                    }
                    if let Some(end) = end(&view, args.coverage) {
                        said(&view, end, output);
                        return Ok(end);
                    }
                    if !output.is_json() {
                        let coverage = percent(view.launches_covered, view.launches);
                        let held = match view.state {
                            CampaignState::Running => String::new(),
                            state => format!("; {} is {state}", view.name),
                        };
                        say(format!("{coverage} of all expected launches find their image{held}"));
                    }
                }
                // A dispatcher may come back, and the campaign goes on without one.
                Err(error) if exit::of(&error) == Exit::Unreachable => say(exit::in_full(&error)),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let late = async {
        match args.timeout {
            Some(time) => tokio::time::sleep_until(Instant::now() + time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = look => end,
        () = late => {
            output.talk("The timeout is over; the campaign goes on.");
            Ok(Exit::TimedOut)
        }
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// How waiting ends with a campaign in this state, if it does.
fn end(view: &CampaignView, coverage: Option<f64>) -> Option<Exit> {
    // Not a hair's breadth below, which is only how sums are rounded.
    if coverage.is_some_and(|coverage| view.coverage + 1e-9 >= coverage) {
        return Some(Exit::Good);
    }
    view.ended_ms?;
    Some(match view.state {
        CampaignState::Cancelled => Exit::Cancelled,
        _ if coverage.is_some() => Exit::Failed,
        _ => Exit::Good,
    })
}

fn said(view: &CampaignView, end: Exit, output: Output) {
    if output.is_json() {
        output.json(view);
        return;
    }
    let coverage = percent(view.launches_covered, view.launches);
    let how = if end == Exit::Failed { ", fewer than asked for" } else { "" };
    let state = if view.ended_ms.is_some() { format!(" is {}", view.state) } else { String::new() };
    output.talk(&format!("{}{state}: {coverage} of all expected launches find their image{how}.", view.name));
}
