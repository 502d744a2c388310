//! The policy of the queue.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use fairlane_common::queue::Policy as PolicyBody;

/// The policy in force, and who set it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Every field, defaults filled in.
    pub in_force: PolicyBody,
    /// What was set; the other fields have their defaults.
    pub set: PolicyBody,
    /// Who set it: a token's name, or `settings` for a dispatcher's settings. Absent if nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}
