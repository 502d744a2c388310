//! `page-load`: what fifty open pages cost the dispatcher and Redis, and what a log of 1,000 lines a second costs a
//! browser.

use std::path::Path;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{cargo, run};

/// The tests that measure.
const TESTS: &str = "browser::load::";

/// Measures, and prints the figures.
pub(crate) fn measure(root: &Path, words: &[String]) -> Result<()> {
    let mut command = cargo(root, &["test", "--workspace", "--test", "it"]);
    match words {
        [] => {}
        [word] if word == "--release" => drop(command.arg("--release")),
        _ => bail!("the only option is --release: measure an optimized dispatcher"),
    }
    packages::ensure(&[packages::REDIS, packages::CHROMIUM, packages::CHROMIUM_DRIVER])?;
    command.args(["--", TESTS, "--nocapture", "--ignored", "--test-threads=1"]).env("RUST_LOG", "off");
    run(&mut command)
}
