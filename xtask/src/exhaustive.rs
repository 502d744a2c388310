//! `exhaustive`: all interleavings of the model with two mishaps each; the tests have one mishap.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::{cargo, run};

/// Runs it and prints the number of states.
pub(crate) fn run_model(root: &Path, words: &[String]) -> Result<()> {
    if !words.is_empty() {
        bail!("exhaustive takes no options");
    }
    run(cargo(root, &["test", "--package", "fairlane-exhaustive", "--"]).args([
        "two_mishaps",
        "--ignored",
        "--nocapture",
    ]))
}
