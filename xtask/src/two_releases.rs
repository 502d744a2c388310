//! `two-releases`: processes of this release and of the previous one on one Redis.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::{live, run};
use crate::{former, packages};

/// The test that runs both.
const TEST: &str = "two_releases::a_hundred_kube_and_process_builds_by_two_releases";

/// Builds the previous release and runs the test.
pub(crate) fn run_scene(root: &Path, words: &[String]) -> Result<()> {
    let commit = match words {
        [] => None,
        [word] if former::commit_of(word).is_some() => former::commit_of(word),
        _ => bail!("the only option is --former=COMMIT"),
    };
    packages::ensure(&[packages::REDIS])?;
    let program = former::build(root, commit)?;
    run(live(root, false, TEST).env(former::VARIABLE, program))
}
