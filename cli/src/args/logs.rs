//! Showing a build's log, and removing logs of ended builds.

use clap::{ArgGroup, Args, Subcommand};

use super::{BuildRef, Reach};

/// Show a build's log, or remove old ones
///
/// Examples:
///   fairlane logs -f 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d
///   fairlane logs prune --older-than 6h
#[derive(Debug, Args)]
#[command(
    display_order = 3,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Logs {
    #[command(subcommand)]
    pub(crate) act: Option<LogsAct>,
    /// The build: its id, or 6 or more characters of its beginning or end
    #[arg(required = true)]
    pub(crate) id: Option<BuildRef>,
    /// Follow the log until the build ends
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// What to do with logs.
#[derive(Debug, Subcommand)]
pub(crate) enum LogsAct {
    Prune(LogsPrune),
}

/// Remove logs of ended builds from Redis, the oldest first
///
/// Fairlane also does this on its own: after --log-keep, beyond --log-budget, or
/// when Redis runs short of memory (see `fairlane worker --help`).
///
/// Examples:
///   fairlane logs prune --older-than 6h
///   fairlane logs prune --to 100MB --dry-run
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group = ArgGroup::new("which").args(["older_than", "to"]).required(true).multiple(true))]
pub(crate) struct LogsPrune {
    /// Remove logs of builds that ended longer ago than this: 90s, 15m, 6h
    #[arg(long, value_name = "TIME")]
    pub(crate) older_than: Option<String>,
    /// Remove the oldest logs until logs of ended builds take at most this much: 500KB, 200MB, 2GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) to: Option<String>,
    /// Only say how much would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
