//! `fairlane completions`: a script for the user's shell.

use anyhow::Result;
use clap::CommandFactory;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::output::Output;

use crate::args::{Cli, Completions};

pub(crate) fn run(args: &Completions, output: Output) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fairlane", &mut script);
    output.data(String::from_utf8(script)?.trim_end());
    Ok(Exit::Good)
}
