//! `full-redis`: many builds with large logs in a Redis with little memory. All must end, and none may wait for
//! it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{live, run};

/// The test that does it.
const TEST: &str = "full_redis::builds_in_a_small_redis_all_end_and_none_waits_for_memory";

/// Runs it and prints the result.
pub(crate) fn run_builds(root: &Path, words: &[String]) -> Result<()> {
    let [mut memory, mut builds, mut log] = [60, 200, 4];
    let mut release = false;
    for word in words {
        if word == "--release" {
            release = true;
            continue;
        }
        match word.split_once('=').map(|(name, value)| (name, value.parse::<u32>())) {
            Some(("--memory-mb", Ok(value))) => memory = value,
            Some(("--builds", Ok(value))) => builds = value,
            Some(("--log-mb", Ok(value))) => log = value,
            _ => {
                bail!(
                    "unknown option '{word}'; the options are --memory-mb=60, --builds=200, --log-mb=4 and \
                     --release"
                )
            }
        }
    }
    packages::ensure(&[packages::REDIS])?;
    let mut command = live(root, release, TEST);
    command.env("FAIRLANE_FULL_REDIS", format!("{memory},{builds},{log}"));
    run(&mut command)
}
