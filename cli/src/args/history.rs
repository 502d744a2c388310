//! Commands that show what happened.

use clap::Args;
use fairlane_common::build::BuildState;
use fairlane_common::id::{Lane, WorkerId};

use super::{BuildRef, Reach, states};

/// Show recent changes to builds, oldest first
///
/// Examples:
///   fairlane events --since 10m --state failed
///   fairlane events -f --lane github.com/owner/name
///   fairlane events --since 1d --build 1c2d3e4f
#[derive(Debug, Args)]
#[command(display_order = 7, verbatim_doc_comment)]
pub(crate) struct Events {
    /// How far back: 90s, 15m, 2h, 3d
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) since: String,
    /// Only builds of this lane
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<Lane>,
    /// Only changes to this build: its id, or 6 or more characters of its beginning or end
    #[arg(long, value_name = "ID")]
    pub(crate) build: Option<BuildRef>,
    /// Only changes that involve this worker
    #[arg(long, value_name = "WORKER")]
    pub(crate) worker: Option<WorkerId>,
    /// Only changes into this state
    #[arg(long, value_name = "STATE", value_parser = states())]
    pub(crate) state: Option<BuildState>,
    /// Keep showing new changes as they happen
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// At most this many, the latest ones
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Show what operators did: who, what, and when
///
/// Examples:
///   fairlane audit --since 1d --act 'rule set'
///   fairlane audit --what github.com/owner/name
#[derive(Debug, Args)]
#[command(display_order = 12, verbatim_doc_comment)]
pub(crate) struct Audit {
    /// How far back: 90s, 15m, 2h, 3d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub(crate) since: String,
    /// Only acts by the token with this name
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only acts of this kind, such as 'rule set'
    #[arg(long, value_name = "ACT")]
    pub(crate) act: Option<String>,
    /// Only acts on exactly this pattern, lane, build, worker or node
    #[arg(long, value_name = "NAME")]
    pub(crate) what: Option<String>,
    /// At most this many, the latest ones
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
