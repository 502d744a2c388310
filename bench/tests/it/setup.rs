//! The program in a folder of its own, away from this machine's settings.

use std::process::Command;
use std::time::Duration;

use fairlane_testkit::{Said, TempDir, command_in, run_within};

/// Generous: these machines do much else at the time.
const LIMIT: Duration = Duration::from_secs(40);

/// `fairlane-bench` with the arguments of `fairlane`, run in `home`.
pub(crate) fn fairlane<'a>(home: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    command_in(home, env!("CARGO_BIN_EXE_fairlane-bench"), arguments)
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Said {
    run_within(LIMIT, command).await
}
