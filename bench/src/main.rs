//! `fairlane-bench`: what the queue costs, and what a day of launches comes to on it.
//!
//! People call it as `fairlane bench` and `fairlane replay`, which run it with their own arguments. It is a
//! program apart so that none of it is in what serves builds.
//!
//! A measurement ([`measure`]) opens a queue under a prefix of its own, does the same to it and to a
//! yardstick in turns, and tells what each cost Redis. A replay ([`replay`]) reads the launches of a day,
//! moves a simulated clock from one to the next, and has one worker build them through the queue's own
//! scripts; a second bookkeeping checks the queue's promises as it goes. Either uses a redis-server of its
//! own ([`server`]), which ends with it; only a measurement can be pointed at another one.

mod args;
mod measure;
mod raw;
mod replay;
mod server;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use args::{Cli, Command};
use fairlane_clikit::exit::{self, Exit};
use fairlane_clikit::line::Line;
use fairlane_clikit::redis_server;

/// How long tasks that still run may take once the work is done.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

fn run(arguments: &[OsString]) -> Result<Exit> {
    let cli: Cli = Line::of_part(arguments)?.parse(arguments)?;
    let output = cli.everywhere.output();
    if let Command::RedisGuard { parent, program, folder } = &cli.command {
        redis_server::guard(*parent, program, folder)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Bench(args) => Box::pin(measure::run(*args, output)).await,
            Command::Replay(args) => Box::pin(replay::run(*args, output)).await,
            Command::RedisGuard { .. } => Ok(Exit::Good),
        }
    });
    runtime.shutdown_timeout(LEAVE_LIMIT);
    result
}
