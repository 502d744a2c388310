//! What happened lately.

use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::id::{BuildId, Lane, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of what operators did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActPage {
    /// Acts, newest first.
    pub acts: Vec<ActView>,
    /// Where the next page starts; absent after the last one. A page may be short and still have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Something that an operator did, or that happened by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActView {
    /// When.
    pub at_ms: u64,
    /// The name of the token; `fairlane` for what happened by itself.
    pub by: String,
    /// What was done: `rule set`, `rule removed`, `rule ended`, `ban overridden`, `cancel`, `promote`,
    /// `drain`, `undrain`, `policy set`, `logs pruned`, `worker lost`, `node avoided`, `node taken back`, `node cleared`,
    /// `build forgotten`, `repaired`; later releases may add others.
    pub act: String,
    /// What it was done to: a pattern, a lane, a build's id, a worker, a node.
    pub what: String,
    /// Details such as the rule as JSON or the reason; may be empty.
    pub detail: String,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A page of changes to the states of builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangePage {
    /// Changes, newest first.
    pub changes: Vec<ChangeView>,
    /// Where the next page starts; absent after the last one. A page may be short and still have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A change of a build's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// When.
    pub at_ms: u64,
    /// The build.
    #[schema(value_type = String, format = "uuid")]
    pub build: BuildId,
    /// Its lane.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// The state that it went into.
    pub state: BuildState,
    /// The build's change counter after it.
    pub seq: u64,
    /// The worker that holds it, or held it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub worker: Option<WorkerId>,
    /// The class of the failure that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The cause of that failure, a word of `docs/failures.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The node or host of the run that ended here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The reason for a failure, a cancellation or a lost run: its first 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
