//! `fairlane watch`: follow a build until it ends.

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::output::Output;
use fairlane_common::build::BuildState;
use fairlane_common::id::BuildId;

use super::builds;
use crate::args::Watch;
use crate::client::Client;
use crate::follow::follow;
use crate::progress::Progress;

pub(crate) async fn run(args: Watch, output: Output) -> Result<Exit> {
    let client = Client::new(args.reach)?;
    let id = builds::find(&client, &args.id).await?;
    follow_to_end(&client, id, output).await
}

/// Shows a build until it ends; returns the exit code for its outcome.
pub(crate) async fn follow_to_end(client: &Client, id: BuildId, output: Output) -> Result<Exit> {
    let mut progress = Progress::new(output);
    let end = tokio::select! {
        end = follow(client, id, |happening, json| progress.show(happening, json)) => end?,
        _ = tokio::signal::ctrl_c() => {
            drop(progress);
            output.talk(&format!("The build goes on: `fairlane watch {id}` shows it again, `fairlane cancel {id}` ends it."));
            return Ok(Exit::Interrupted);
        }
    };
    Ok(exit_of(end.state))
}

/// The exit code for a build's final state.
pub(crate) fn exit_of(state: Option<BuildState>) -> Exit {
    match state {
        Some(BuildState::Failed) | None => Exit::Failed,
        Some(BuildState::Cancelled) => Exit::Cancelled,
        Some(_) => Exit::Good,
    }
}
