//! The commands of `fairlane policy`.

use clap::{Args, Subcommand};

use super::Reach;

/// Show or change the queue's policy: limits, order, shares
///
/// Examples:
///   fairlane policy
///   fairlane policy set limit=3 overtake_max=2h background_share=0.5
///   fairlane policy set order=first-come
///   fairlane policy set push_limit=10 push_limit.registry.example.org=3
///   fairlane policy unset limit
#[derive(Debug, Args)]
#[command(display_order = 9, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) act: Option<PolicyAct>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// What to do with the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAct {
    /// Show the policy in force, and who set it
    Show {
        #[command(flatten)]
        reach: Reach,
    },
    /// Set fields; the others stay as they are
    ///
    /// Example: fairlane policy set limit=3 burst=5
    Set {
        /// A field and its value, such as limit=3, overtake_max=4h or order=first-come
        #[arg(required = true, value_name = "NAME=VALUE")]
        words: Vec<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Reset fields to their defaults
    ///
    /// Example: fairlane policy unset limit burst
    Unset {
        /// A field, as listed by `fairlane policy`
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        reach: Reach,
    },
}
