//! `rolling-upgrade`: every process is replaced by another release, forwards and backwards, while builds run and
//! people follow them.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::{live, run};
use crate::{former, packages};

/// The test that does it, with fewer builds and one release in the suite.
const TEST: &str = "rolling_upgrade::a_rolling_upgrade_of_kube_and_process_workers_costs_nothing";

/// Builds the previous release, runs the test, and prints the figures.
pub(crate) fn run_upgrade(root: &Path, words: &[String]) -> Result<()> {
    let (mut commit, mut builds, mut streams) = (None, 200, 400);
    for word in words {
        let number = word.split_once('=').map(|(name, value)| (name, value.parse::<u32>()));
        match (former::commit_of(word), number) {
            (Some(named), _) => commit = Some(named),
            (_, Some(("--builds", Ok(value)))) => builds = value,
            (_, Some(("--streams", Ok(value)))) => streams = value,
            _ => bail!(
                "unknown option '{word}'; the options are --former=COMMIT, --builds=200 and --streams=400"
            ),
        }
    }
    packages::ensure(&[packages::REDIS])?;
    let program = former::build(root, commit)?;
    let mut command = live(root, false, TEST);
    command.env("FAIRLANE_ROLLING_UPGRADE", format!("{builds},{streams}"));
    run(command.env(former::VARIABLE, program))
}
