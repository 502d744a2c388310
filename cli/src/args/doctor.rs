//! Options of `doctor`.

#![expect(clippy::doc_markdown, reason = "the comments are the help, which people read as plain text")]

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use fairlane_dispatcher::ArchiveArgs;
use fairlane_worker::ExecutorKind;
use fairlane_worker::pod::KubernetesArgs;

use super::Reach;

/// How operations reach Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AclFor {
    /// As functions (Redis 7.0 or later).
    Functions,
    /// As scripts.
    Scripts,
}

/// Look for problems in Redis, the queue, dispatchers, workers and the build cluster
///
/// Checks the Redis given by --redis-url (by default that of `fairlane up` on this
/// machine) and the dispatchers. With --executor kubernetes, also checks the
/// cluster that a worker with the same options and environment would use. Changes
/// nothing. Each finding says what to do. Exit code 1 if there is an error.
///
/// Examples:
///   fairlane doctor --redis-url redis://127.0.0.1:6379
///   kubectl exec deployment/fairlane-worker -- fairlane doctor
///   kubectl exec deployment/fairlane-worker -- fairlane doctor --nodes
#[derive(Debug, Args)]
#[command(display_order = 12, verbatim_doc_comment)]
pub(crate) struct Doctor {
    /// Redis URL, as for `fairlane worker`
    #[arg(long, env = "FAIRLANE_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// The prefix of the queue's keys
    #[arg(long, env = "FAIRLANE_PREFIX", value_name = "PREFIX", default_value = "fairlane")]
    pub(crate) prefix: String,
    /// The data folder of `fairlane up`; ~/.local/share/fairlane by default
    #[arg(long, env = "FAIRLANE_DATA", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// Where builds run: process (on machines like this one) or kubernetes
    #[arg(long, env = "FAIRLANE_EXECUTOR", value_enum, default_value_t)]
    pub(crate) executor: ExecutorKind,
    /// Build command to look for on this machine
    #[arg(long, env = "FAIRLANE_COMMAND", value_name = "TEMPLATE")]
    pub(crate) command: Option<String>,
    /// Print Redis users for dispatchers, workers and readers as lines of an ACL file, and exit; `scripts` is for a
    /// Redis without functions
    #[arg(long, value_enum, value_name = "FOR", num_args = 0..=1, default_missing_value = "functions")]
    pub(crate) print_acl: Option<AclFor>,
    /// Look only at the cluster's nodes: which pools and which nodes can build, and what is wrong with the others
    #[arg(long, conflicts_with = "print_acl")]
    pub(crate) nodes: bool,
    #[command(flatten)]
    pub(crate) archive: ArchiveArgs,
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
