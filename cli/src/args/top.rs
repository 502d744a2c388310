//! Options of `top`.

use clap::Args;

use super::Reach;

/// Watch the queue on a full screen: problems, builds, lanes, workers, logs
///
/// Refreshes every second. Keys are as in htop: F1 lists them, q quits.
///
/// Example: fairlane top
#[derive(Debug, Args)]
#[command(display_order = 4)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) reach: Reach,
}
