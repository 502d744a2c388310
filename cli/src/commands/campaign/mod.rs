//! `fairlane campaign`: many builds in the background.

mod plan;

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::output::Output;

use crate::args::Campaign;

/// Runs the command.
pub(crate) async fn run(campaign: Campaign, output: Output) -> Result<Exit> {
    match campaign {
        Campaign::Plan(args) => Box::pin(plan::run(*args, output)).await,
    }
}
