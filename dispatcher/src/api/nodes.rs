//! Nodes that builds had better not go to, and how many slots the queue could use.

use fairlane_common::id::NodeName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The nodes that are avoided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// Nodes, those first that will be avoided longest.
    pub nodes: Vec<NodeView>,
}

/// A node, or a host of process workers, on which builds of several repositories failed for causes that lie with it. No build goes
/// there for a while; where it is the only one it gets one a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// What the latest build failed of that was counted against it.
    pub reason: String,
    /// Since when it is avoided.
    pub since_ms: u64,
    /// When it is used again by itself.
    pub until_ms: u64,
    /// Repositories whose builds failed there within ten minutes.
    pub lanes: u64,
    /// The cluster that it is in; `process` for the host of process workers.
    pub cluster: String,
    /// When it was last given a build to see whether it still fails, where it is the only node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed_ms: Option<u64>,
}

/// A node that was cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeAnswer {
    /// The node. Builds go there again, and its failures are forgotten.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// The cluster that it is in.
    #[serde(default)]
    pub cluster: String,
}

/// How many slots the queue could use, for what adds and removes workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// Builds that wait.
    pub queued: u64,
    /// Those of them that nothing holds up but a free slot.
    pub startable: u64,
    /// Builds that run.
    pub running: u64,
    /// Slots of live workers that take builds.
    pub slots: u64,
    /// Slots that would start all startable builds at once.
    pub wanted_slots: u64,
}
