//! A worker by itself, in a process that tests can kill and freeze.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fairlane_common::Queue;
use fairlane_common::telemetry::{self, LogFormat};
use fairlane_worker::Args;

/// Claims builds and runs them
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    args: Args,
}

#[derive(Subcommand)]
enum Role {
    /// Watches over one run
    #[command(hide = true)]
    Supervise,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| telemetry::FILTER_DEFAULT.to_owned());
    if let Err(error) = telemetry::init(&filter, LogFormat::Text, false) {
        return fail(&error);
    }
    if let Some(Role::Supervise) = line.role {
        return fairlane_worker::supervise_main();
    }
    match work(line.args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

#[tokio::main]
async fn work(args: Args) -> anyhow::Result<()> {
    let shutdown = fairlane_worker::shutdown_on_signals()?;
    let queue = Queue::open(&args.redis_url, &args.prefix).await?;
    let settings = args.settings()?;
    Box::pin(fairlane_worker::run(settings, queue, shutdown, || ())).await?;
    Ok(())
}

fn fail(error: &str) -> ExitCode {
    // Where people look when a program does not start; nobody is left to be told if it is closed.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}
