//! Nodes that builds should avoid, and how many slots the queue could use.

use fairlane_common::id::NodeName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The nodes that are avoided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// Nodes, longest remaining first.
    pub nodes: Vec<NodeView>,
}

/// A node, or a host of process workers, on which builds of several repositories failed because of the node.
/// It gets no builds for a while, or one a minute if it is the only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// The cause of the latest failure that counted against it.
    pub reason: String,
    /// Since when it is avoided.
    pub since_ms: u64,
    /// When it will be used again.
    pub until_ms: u64,
    /// Repositories whose builds failed there within ten minutes.
    pub lanes: u64,
    /// The cluster that it is in; `process` for the host of process workers.
    pub cluster: String,
    /// When it last got a test build, if it is the only node.
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

/// How many slots the queue could use, for an autoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// Builds that wait.
    pub queued: u64,
    /// Those that wait only for a free slot.
    pub startable: u64,
    /// Builds that run.
    pub running: u64,
    /// Slots of live workers that accept builds.
    pub slots: u64,
    /// Slots needed to start all of these at once, next to the running builds; higher if there are background
    /// builds, because these may hold only a share of the slots.
    pub wanted_slots: u64,
}
