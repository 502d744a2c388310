//! `campaign`: a long campaign on real processes. People come all the time, a worker and a dispatcher are killed, and
//! Redis restarts.

use std::path::Path;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{live, run};

/// The test that does it, with fewer builds in the suite.
const TEST: &str = "campaign::live::a_campaign_survives_a_bad_day_and_people_do_not_notice_it";

/// Runs it, and prints the figures.
pub(crate) fn run_live(root: &Path, words: &[String]) -> Result<()> {
    let mut builds = 200;
    for word in words {
        match word.split_once('=').map(|(name, value)| (name, value.parse::<u32>())) {
            Some(("--builds", Ok(value))) => builds = value,
            _ => bail!("unknown option '{word}'; the option is --builds=200"),
        }
    }
    packages::ensure(&[packages::REDIS])?;
    let mut command = live(root, false, TEST);
    command.env("FAIRLANE_CAMPAIGN_BUILDS", builds.to_string());
    run(&mut command)
}
