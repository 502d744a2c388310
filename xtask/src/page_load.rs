//! `page-load`: what fifty open pages cost the dispatcher and Redis, and what a log of 1,000 lines a second costs a
//! browser.

use std::path::Path;

use anyhow::{Result, bail};

use crate::packages;
use crate::shell::{live, run};

/// The tests that measure.
const TESTS: &str = "browser::load::";

/// Measures, and prints the figures.
pub(crate) fn measure(root: &Path, words: &[String]) -> Result<()> {
    let release = match words {
        [] => false,
        [word] if word == "--release" => true,
        _ => bail!("the only option is --release: measure an optimized dispatcher"),
    };
    packages::ensure(&[packages::REDIS, packages::CHROMIUM, packages::CHROMIUM_DRIVER])?;
    run(&mut live(root, release, TESTS))
}
