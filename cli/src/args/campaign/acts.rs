//! The commands of `fairlane campaign` that start, show and change campaigns.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use fairlane_clikit::exit::Stop;
use fairlane_clikit::human;
use fairlane_common::clock::millis;
use fairlane_common::queue::campaigns::{CampaignName, Hours, Pacing};

use super::super::Reach;
use super::share;

/// A campaign, and why somebody acts on it.
#[derive(Debug, Args)]
pub(crate) struct CampaignAct {
    /// The campaign
    pub(crate) name: CampaignName,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Start a campaign from a plan file
///
/// Says how long the builds will take, then starts them.
///
/// Examples:
///   fairlane campaign start spring plan.jsonl --share 0.5 --per-hour 100
///   fairlane campaign start spring plan.jsonl --hours 22:00-06:00 --time-zone Europe/Berlin
///   fairlane campaign start spring - --finish-within 12h < plan.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CampaignStart {
    /// A name for it: lowercase letters, digits and '-'
    pub(crate) name: CampaignName,
    /// A plan of `fairlane campaign plan`, or lines of JSON with repo, ref and image; - for standard input
    #[arg(value_name = "PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) plan: PathBuf,
    #[command(flatten)]
    pub(crate) pacing: PacingArgs,
    /// Start nothing if it is expected to take longer than this: 90m, 12h, 2d
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pub(crate) finish_within: Option<Duration>,
    /// Create it without starting it; `fairlane campaign resume` starts it
    #[arg(long)]
    pub(crate) paused: bool,
    /// Leave out lines that cannot be read, instead of starting nothing
    #[arg(long)]
    pub(crate) skip_bad_lines: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Report what a campaign has built, what failed and why, what it cost and what it saved
///
/// Example: fairlane campaign report spring --events events-2026-11-30.jsonl.gz
#[derive(Debug, Args)]
pub(crate) struct CampaignReport {
    /// The campaign
    pub(crate) name: CampaignName,
    /// Launch events since the campaign began: counts the launches that found an image that it built
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
    pub(crate) events: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Wait until enough expected launches find their image
///
/// For deployment scripts: exits with 0 once the coverage is reached, with 1 if the campaign ends below it, with 3 if
/// it is cancelled, with 6 if the timeout is over.
///
/// Example: fairlane campaign wait spring --coverage 0.9 --timeout 2h
#[derive(Debug, Args)]
pub(crate) struct CampaignWait {
    /// The campaign
    pub(crate) name: CampaignName,
    /// The part of all expected launches whose images must be there, from 0 to 1; without it, wait until the campaign
    /// ends
    #[arg(long, value_name = "FRACTION", value_parser = share)]
    pub(crate) coverage: Option<f64>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// How fast a campaign may go.
#[derive(Debug, Args)]
pub(crate) struct PacingArgs {
    /// Use at most this fraction of all slots; the policy's background share is the most
    #[arg(long, value_name = "FRACTION")]
    share: Option<f64>,
    /// Start at most this many builds within any 60 minutes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_hour: Option<u32>,
    /// Make no builds while somebody has waited longer than this for a slot, and for as long again afterwards
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pause_when_waiting: Option<Duration>,
    /// Make builds only in these hours of the day, such as 22:00-06:00
    #[arg(long, value_name = "FROM-TO")]
    hours: Option<Hours>,
    /// The time zone of these hours, such as Europe/Berlin; UTC by default
    #[arg(long, value_name = "ZONE", requires = "hours")]
    time_zone: Option<String>,
}

impl PacingArgs {
    /// # Errors
    /// If a value is out of its range.
    pub(crate) fn read(&self) -> Result<Pacing, Stop> {
        let pacing = Pacing {
            share: self.share,
            per_hour: self.per_hour,
            pause_when_waiting_ms: self.pause_when_waiting.map(millis),
            hours: self.hours,
            time_zone: self.time_zone.clone(),
        };
        pacing.check().map_err(Stop::usage)?;
        Ok(pacing)
    }
}
