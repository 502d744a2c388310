//! `night`: a night like that of the incident, with a real Prometheus that must fire exactly the expected alerts.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::shell::{live, run};

/// The test that plays it.
const TEST: &str = "night::the_alerts_of_a_night_are_those_that_belong";
const VARIANTS: [&str; 2] = ["as-shipped", "no-limits"];

/// Plays it, and prints the alerts.
pub(crate) fn play(root: &Path, words: &[String]) -> Result<()> {
    let mut command = live(root, false, TEST);
    for word in words {
        match word.split_once('=') {
            Some(("--variant", value)) if VARIANTS.contains(&value) => {
                command.env("FAIRLANE_NIGHT_VARIANT", value);
            }
            Some(("--quiet", value)) if value.parse::<u32>().is_ok() => {
                command.env("FAIRLANE_NIGHT_QUIET_S", value);
            }
            Some(("--screenshots", value)) => {
                std::fs::create_dir_all(value).with_context(|| format!("cannot make the folder {value}"))?;
                command.env("FAIRLANE_NIGHT_SCREENSHOTS", std::path::absolute(value)?);
                packages::ensure(&[packages::CHROMIUM, packages::CHROMIUM_DRIVER])?;
            }
            _ => bail!(
                "unknown option '{word}'; the options are --variant={}, --quiet=SECONDS and --screenshots=DIR",
                VARIANTS.join("|")
            ),
        }
    }
    packages::ensure(&[packages::REDIS, packages::PROMETHEUS])?;
    run(&mut command)
}
