//! `fairlane campaign`.

mod acts;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use fairlane_campaign::resolve::Limits;
use fairlane_campaign::source::Hosts;
use fairlane_clikit::human;
use fairlane_common::queue::campaigns::CampaignName;

use super::Reach;
pub(crate) use acts::{CampaignAct, CampaignReport, CampaignStart, CampaignWait, PacingArgs};
pub(crate) use watch::CampaignWatch;

/// What to do with campaigns.
#[derive(Debug, Subcommand)]
pub(crate) enum Campaign {
    Plan(Box<CampaignPlan>),
    Start(Box<CampaignStart>),
    /// List campaigns: those that have not ended, and those of the last 30 days
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show how far a campaign is, and why it makes no build at the moment
    Status {
        /// The campaign
        name: CampaignName,
        /// Refresh every 2 s until Ctrl-C
        #[arg(long, short)]
        watch: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Pause a campaign: running builds finish, and no other one starts
    Pause(CampaignAct),
    /// Resume a paused campaign
    Resume(CampaignAct),
    /// Cancel a campaign: what has not started is not built
    Cancel {
        // Before `act`, whose last options are below the heading of the dispatcher.
        /// Cancel its running builds, too
        #[arg(long)]
        running: bool,
        #[command(flatten)]
        act: CampaignAct,
    },
    Report(CampaignReport),
    Wait(CampaignWait),
    Watch(Box<CampaignWatch>),
}

/// Write the list of builds for a campaign, most launched first
///
/// Reads launch events, as BinderHub logs them, or a list of repositories. Finds
/// the newest commit of each branch with `git ls-remote`, and names each image as
/// BinderHub would with the new prefix. Skips what cannot be built, and says why.
/// If a dispatcher answers, asks it how long builds take.
///
/// Examples:
///   fairlane campaign plan events-*.jsonl.gz --prefix registry.example.org/r2d-2026- --share 0.9 > plan.jsonl
///   fairlane campaign plan --list repositories.txt --prefix registry.example.org/r2d-2026- > plan.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CampaignPlan {
    /// Launch events, one JSON object a line, plain or gzipped; - is standard input
    #[arg(value_name = "EVENTS", value_hint = ValueHint::FilePath)]
    pub(crate) events: Vec<PathBuf>,
    /// Repositories to build, one a line: an address and a ref, or Provider:spec
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) list: Option<PathBuf>,
    /// Also what the queue built for people within this time, at the commits it built; needs --current-prefix
    #[arg(long, value_name = "TIME", value_parser = human::read_span, requires = "current_prefix")]
    pub(crate) from_queue: Option<Duration>,
    /// The images' new prefix, as in BinderHub's image_prefix
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: String,
    /// The prefix that BinderHub uses now
    #[arg(long, value_name = "PREFIX")]
    pub(crate) current_prefix: Option<String>,
    /// Plan even if the new prefix is the current one
    #[arg(long)]
    pub(crate) yes: bool,
    /// At most N builds
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Builds until this share of launches is covered, such as 0.9
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) share: Option<f64>,
    /// Builds that take at most H hours of slots together
    #[arg(long, value_name = "H", value_parser = hours)]
    pub(crate) slot_hours: Option<f64>,
    /// After this time, a launch weighs half as much
    #[arg(long, value_name = "TIME", value_parser = human::read_span, default_value = "3d")]
    pub(crate) half_life: Duration,
    /// Build the commits that launch events name, instead of the newest ones
    #[arg(long)]
    pub(crate) refs_as_given: bool,
    #[command(flatten)]
    pub(crate) git: GitArgs,
    /// Slots that the campaign may use; by default the queue's background share
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: Option<u32>,
    /// Refuse a plan that would take longer
    #[arg(long, value_name = "TIME", value_parser = human::read_span)]
    pub(crate) finish_within: Option<Duration>,
    /// Do not ask a dispatcher for build times and slots
    #[arg(long, conflicts_with = "from_queue")]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) registry: fairlane_worker::RegistryCheckArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Where repositories are, and how their newest commits are found.
#[derive(Debug, Args)]
pub(crate) struct GitArgs {
    /// Calls of `git ls-remote` to one host at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    per_host: u16,
    /// How long one such call may take
    #[arg(long, value_name = "TIME", value_parser = human::read_span, default_value = "30s")]
    git_timeout: Duration,
    /// Host of the provider GitHub
    #[arg(long, value_name = "HOST", default_value = "github.com")]
    github_host: String,
    /// Host of the provider GitLab
    #[arg(long, value_name = "HOST", default_value = "gitlab.com")]
    gitlab_host: String,
}

impl GitArgs {
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts { github: self.github_host.clone(), gitlab: self.gitlab_host.clone() }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { per_host: self.per_host.into(), timeout: self.git_timeout }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1, such as 0.9".to_owned())
}

fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours| (0.0..=1e6).contains(hours));
    hours.ok_or_else(|| "a number of hours, such as 7.5".to_owned())
}
