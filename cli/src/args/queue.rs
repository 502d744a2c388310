//! Commands that look at the queue.

use clap::{Args, ValueEnum};
use fairlane_common::build::BuildState;
use fairlane_common::id::Lane;

use super::{BuildRef, Reach, states};

/// Show the queue: waiting builds, running builds, and the lanes with the next builds
///
/// Examples:
///   fairlane queue
///   fairlane queue -w
///   fairlane queue --builds --state failed --since 1h
#[derive(Debug, Args)]
#[command(display_order = 4, verbatim_doc_comment)]
pub(crate) struct Queue {
    /// List builds instead: waiting ones in the order of the line, then running ones, then ended ones
    #[arg(long)]
    pub(crate) builds: bool,
    /// Only builds in this state
    #[arg(long, requires = "builds", value_name = "STATE", value_parser = states())]
    pub(crate) state: Option<BuildState>,
    /// Only builds of this lane
    #[arg(long, requires = "builds", value_name = "LANE")]
    pub(crate) lane: Option<Lane>,
    /// Only builds that were requested, started or ended within this time: 90s, 15m, 2h, 3d
    #[arg(long, requires = "builds", value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Sort the listed builds
    #[arg(long, requires = "builds", value_name = "ORDER", value_enum, default_value_t = Sort::Line)]
    pub(crate) sort: Sort,
    /// At most this many builds
    #[arg(long, requires = "builds", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Refresh every 2 s until Ctrl-C
    #[arg(long, short)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// List lanes (one per repository) that have live builds, or show one lane
///
/// Example: fairlane lanes github.com/jupyterlab/jupyterlab-demo
#[derive(Debug, Args)]
#[command(display_order = 5)]
pub(crate) struct Lanes {
    /// A lane, or a repository's address
    pub(crate) lane: Option<Lane>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Explain what a build is waiting for, or how it ended
///
/// Example: fairlane why 0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d
#[derive(Debug, Args)]
#[command(display_order = 6)]
pub(crate) struct Why {
    /// The build: its id, or 6 or more characters of its beginning or end
    pub(crate) id: BuildRef,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// In which order builds are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Waiting builds in the order of the line, then running ones, then ended ones (latest first)
    Line,
    /// Oldest request first
    Age,
    /// Longest-running first
    Ran,
    /// Most people first
    People,
    /// By lane
    Lane,
}
