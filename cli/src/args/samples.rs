//! The command that shows the queue over time.

use clap::Args;

use super::Reach;

/// Show the queue over time: people waiting, builds running, what ended
///
/// Dispatchers and workers keep one sample a minute for 7 days.
///
/// Example: fairlane history --since 7d --step 2h
#[derive(Debug, Args)]
#[command(display_order = 7)]
pub(crate) struct History {
    /// How far back, at most 7d: 90m, 24h, 3d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) since: String,
    /// Time that each line covers
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = ["1m", "5m", "10m", "30m", "1h", "2h"])]
    pub(crate) step: String,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
