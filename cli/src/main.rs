//! `fairlane`: runs Fairlane, requests builds, shows the queue.

mod args;
mod client;
mod commands;
mod follow;
mod otlp;
mod progress;
mod repo2docker;
mod seal_key;
mod source;
mod top;
mod trust;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use args::{Cli, Command};
use fairlane_clikit::exit::{self, Exit};
use fairlane_clikit::line::Line;
use fairlane_clikit::output::Output;
use fairlane_common::telemetry::{self, LogFormat};

/// How long background tasks may take to end once the command is done.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = helped(std::env::args_os().collect());
    // A supervisor runs in a build's environment and folder, so it must not read settings files there.
    if arguments.get(1).is_some_and(|command| command == "supervise") {
        // A supervisor can only log an error, and its log goes to the worker's.
        let _ = telemetry::init("warn", LogFormat::Text, false);
        return fairlane_worker::supervise_main();
    }
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

/// Makes `fairlane help rule ban` mean `fairlane rule ban --help`.
fn helped(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|command| command == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

fn run(arguments: &[OsString]) -> Result<Exit> {
    let line = Line::new(arguments)?;
    let cli: Cli = line.parse(arguments)?;
    let output = cli.everywhere.output();
    if let Command::RedisGuard(guard) = &cli.command {
        guard.run()?;
    }
    if let Command::Completions(args) = &cli.command {
        return commands::completions::run(args, output);
    }
    if let Command::ImportBinderHub(args) = &cli.command {
        return commands::import_binderhub::run(args, output);
    }
    if let Command::Bench(_) | Command::Replay(_) = &cli.command {
        return commands::passed_on::run(arguments);
    }
    let serves = matches!(cli.command, Command::Up(_) | Command::Dispatcher { .. } | Command::Worker { .. });
    let mut builder = if serves {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(dispatch(cli, &line, output));
    runtime.shutdown_timeout(LEAVE_LIMIT);
    result
}

async fn dispatch(cli: Cli, line: &Line, output: Output) -> Result<Exit> {
    match cli.command {
        Command::Up(args) => Box::pin(commands::up::run(*args, line, output)).await,
        Command::Dispatcher { args, log } => Box::pin(commands::serve::dispatcher(*args, &log, output)).await,
        Command::Worker { args, log } => Box::pin(commands::serve::worker(*args, &log, output)).await,
        Command::Submit(args) => Box::pin(commands::submit::run(*args, output)).await,
        Command::Watch(args) => commands::watch::run(args, output).await,
        Command::Logs(args) => commands::logs::run(args, output).await,
        Command::Queue(args) => commands::queue::run(args, output).await,
        Command::Top(args) => Box::pin(top::run(args, output)).await,
        Command::Lanes(args) => commands::queue::lanes(args, output).await,
        Command::Why(args) => commands::queue::why(args, output).await,
        Command::Rule { rule } => Box::pin(commands::rule::run(rule, output)).await,
        Command::Campaign { campaign } => Box::pin(commands::campaign::run(campaign, output)).await,
        Command::Workers(args) => commands::workers::run(args, output).await,
        Command::Drain(args) => commands::workers::drain(args, output).await,
        Command::Nodes(args) => commands::nodes::run(args, output).await,
        Command::History(args) => commands::samples::history(args, output).await,
        Command::Events(args) => commands::history::events(args, output).await,
        Command::Audit(args) => commands::history::audit(args, output).await,
        Command::Cancel(args) => commands::bulk::cancel(args, output).await,
        Command::Retry(args) => Box::pin(commands::bulk::retry(args, output)).await,
        Command::Policy(args) => commands::policy::run(args, output).await,
        Command::Doctor(args) => Box::pin(commands::doctor::run(*args, output)).await,
        Command::Completions(_)
        | Command::ImportBinderHub(_)
        | Command::RedisGuard(_)
        | Command::Bench(_)
        | Command::Replay(_) => Ok(Exit::Good),
    }
}
