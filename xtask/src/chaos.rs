//! `chaos`: everything goes wrong at random while 300 clients ask for builds; every promise must be kept.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::mutants::{LIBRARY, WRITE_TO, WRITER};
use crate::packages;
use crate::shell::{live, quiet, run};

/// The test that does it.
const TEST: &str = "chaos::whatever_goes_wrong_no_promise_is_broken";
/// The part of the Lua that compares a token.
const FENCE: &str = "\n    and b.epoch == epoch and b.worker == worker\n";
const OPTIONS: &str = "the options are --minutes=2, --seed=1 and --release";

/// Runs it, and prints the report. `--without=fencing`, which is not for operators, plants a fault that it must find.
pub(crate) fn run_live(root: &Path, words: &[String]) -> Result<()> {
    let (mut minutes, mut seed, mut fencing, mut release) = (2.0, 1, true, false);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--minutes", value) if value.parse::<f64>().is_ok_and(|value| value > 0.0) => {
                minutes = value.parse()?;
            }
            ("--seed", value) if value.parse::<u64>().is_ok() => seed = value.parse()?,
            ("--without", "fencing") => fencing = false,
            ("--release", "") => release = true,
            _ => bail!("unknown option '{word}'; {OPTIONS}"),
        }
    }
    packages::ensure(&[packages::REDIS])?;
    if let Err(error) = packages::ensure(&[packages::FAKETIME]) {
        println!("\nSKIPPED: wrong clocks. {error:#}");
    }
    let mut command = live(root, release, TEST);
    command.env("FAIRLANE_CHAOS", format!("{minutes},{seed}"));
    if !fencing {
        println!("WITHOUT FENCING: holders of old leases may change builds. This must be found.");
        command.env(LIBRARY, without_fencing(root, release)?);
    }
    run(&mut command)
}

/// Writes a library in which every worker holds every build that runs.
fn without_fencing(root: &Path, release: bool) -> Result<PathBuf> {
    let folder = root.join("target/chaos");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("without-fencing.lua");
    quiet(live(root, release, WRITER).env(WRITE_TO, &path))?;
    let library = std::fs::read_to_string(&path)?;
    ensure!(library.matches(FENCE).count() == 1, "the library compares tokens in another way now");
    std::fs::write(&path, library.replace(FENCE, "\n"))?;
    Ok(path)
}
