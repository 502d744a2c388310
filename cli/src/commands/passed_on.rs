//! `fairlane bench` and `fairlane replay`, which run another program with their arguments.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fairlane_clikit::exit::Exit;
use fairlane_clikit::program;

const PROGRAM: &str = "fairlane-bench";

/// Replaces this process with that program.
///
/// # Errors
/// Always: if it succeeds, it does not return.
pub(crate) fn run(arguments: &[OsString]) -> Result<Exit> {
    let Some(program) = program::of_ours(PROGRAM) else {
        bail!(
            "the program {PROGRAM}, which does this, is neither beside `fairlane` nor in PATH; \
             install it from the same release (`cargo build --release` makes both)"
        );
    };
    let failed = Command::new(&program).args(arguments.iter().skip(1)).exec();
    Err(failed).with_context(|| format!("{} cannot be started", program.display()))
}
