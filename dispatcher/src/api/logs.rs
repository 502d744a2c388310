//! Logs of ended builds that were removed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was removed, or, with `dry_run`, would be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedLogs {
    /// Logs that were removed or shortened.
    pub logs: u64,
    /// Bytes that this freed.
    pub bytes: u64,
    /// Bytes that the logs of ended builds still take.
    pub left_bytes: u64,
    /// Whether there is more to remove; if so, send the request again.
    pub more: bool,
    /// Whether this was only a dry run: nothing was removed.
    pub dry_run: bool,
}
