//! `fairlane bench` and `fairlane replay`: another program, which reads their arguments itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use fairlane_clikit::exit::Exit;
use fairlane_clikit::program;

/// The program that measures and replays.
const PROGRAM: &str = "fairlane-bench";

/// Becomes that program, with the arguments of this one.
///
/// # Errors
/// Always an error: on success this process is another program.
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
