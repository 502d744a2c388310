//! `fairlane-bench`: measures what the queue costs, and replays days of launches on it.
//!
//! People call it as `fairlane bench` and `fairlane replay`, which run it with their own arguments. It is a
//! separate program, so that programs that serve builds contain none of it.
//!
//! A measurement ([`measure`]) opens a queue with a separate prefix. The queue and a yardstick take turns at
//! the same work, and the result says what each cost Redis. A replay ([`replay`]) reads the launches of a day,
//! moves a simulated clock from one to the next, and has one worker build them through the queue's own
//! scripts; independent records check the queue's promises on the way. Both start a private redis-server
//! ([`server`]), which ends with them; only a measurement can use another one instead.

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

/// How long remaining tasks may take once the work is done.
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
    if let Command::RedisGuard(guard) = &cli.command {
        guard.run()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Bench(args) => Box::pin(measure::run(*args, output)).await,
            Command::Replay(args) => Box::pin(replay::run(*args, output)).await,
            Command::RedisGuard(_) => Ok(Exit::Good),
        }
    });
    runtime.shutdown_timeout(LEAVE_LIMIT);
    result
}
