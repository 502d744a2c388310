//! `fairlane campaign watch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use fairlane_clikit::human;
use fairlane_common::queue::campaigns::CampaignName;

use super::super::Reach;
use super::{GitArgs, PacingArgs};

/// The shortest interval between two looks, so that no host is asked all the time.
const EVERY_MIN: Duration = Duration::from_secs(10);

/// Keep popular images fresh: follow launch events, and build new commits ahead
///
/// Checks regularly which specs are launched most, and whether their branches have
/// new commits. Adds the images of new commits to one campaign, which goes on until
/// it is cancelled. Each image is added once, even across restarts. An image that
/// was launched is not built again; with --registry-check, the registry says which
/// images are there.
///
/// Example:
///   fairlane campaign watch /var/log/binderhub/events.log --prefix registry.example.org/r2d-2026- --top 50
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CampaignWatch {
    /// Logs of launch events, one JSON object a line, followed past their rotation; - is standard input
    #[arg(value_name = "EVENTS", value_hint = ValueHint::FilePath, required = true)]
    pub(crate) events: Vec<PathBuf>,
    /// The images' prefix, as in BinderHub's image_prefix
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: String,
    /// Keep this many specs fresh
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top: u16,
    /// Count the launches of this many days
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=90))]
    pub(crate) days: u16,
    /// After this time, a launch weighs half as much
    #[arg(long, value_name = "TIME", value_parser = human::read_span, default_value = "3d")]
    pub(crate) half_life: Duration,
    /// How often to look for new commits
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "10m")]
    pub(crate) every: Duration,
    /// Look once, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// The campaign that builds them; it is created if there is none
    #[arg(long, value_name = "NAME", default_value = "fresh")]
    pub(crate) name: CampaignName,
    #[command(flatten)]
    pub(crate) pacing: PacingArgs,
    #[command(flatten)]
    pub(crate) git: GitArgs,
    #[command(flatten)]
    pub(crate) registry: fairlane_worker::RegistryCheckArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

fn interval(text: &str) -> Result<Duration, String> {
    match human::read_span(text)? {
        every if every < EVERY_MIN => Err("the shortest interval is 10s".to_owned()),
        every => Ok(every),
    }
}
