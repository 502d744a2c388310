//! The data of server-sent events. A stream has, in this order: a `state`; then `log`, `state` and `notice`
//! events as they occur; and finally one `end` or `moved`, after which it closes.

use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::id::BuildId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BuildView;

/// Event `state`: the build's state; sent first, and at every change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StateEvent {
    /// This stream's name for `PUT /v1/builds/{id}/watchers`. Only in the stream's first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// The build.
    #[serde(flatten)]
    pub build: BuildView,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written, according to its source (RFC 3339); may be empty.
    pub t: String,
    /// Its text, colors and carriage returns kept.
    pub text: String,
}

/// Event `log`: new lines, each sent once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEvent {
    /// The run that wrote them.
    pub run: u32,
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// Event `notice`: something that readers of the log should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoticeEvent {
    /// `attempt` (the log of another run starts), `dropped` (lines are missing here), `log-incomplete` (the
    /// end of the log did not arrive in time), `waiting` (the build is unknown at the moment).
    pub kind: String,
    /// One sentence for people.
    pub text: String,
    /// The run that it is about.
    pub run: u32,
    /// For `dropped`: how many lines are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// Event `end`: the build has ended and its log was sent. The stream closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndEvent {
    /// The build.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// `succeeded`, `failed` or `cancelled`; absent if the queue lost the build with its data: request it
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BuildState>,
    /// The class of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The cause of its failure, a word of `docs/failures.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The reason for its failure or cancellation, or for a success without a run: `already in the registry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last lines of its log, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// The image, empty if the queue lost the build.
    pub image: String,
    /// The attempt that it ended in.
    pub attempt: u32,
    /// The number of its last run.
    #[serde(default)]
    pub run: u32,
}

/// Event `moved`: another build took over its run after Redis was emptied. The stream closes;
/// follow that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MovedEvent {
    /// The build that was followed.
    #[schema(value_type = String, format = "uuid")]
    pub id: BuildId,
    /// The build to follow.
    #[schema(value_type = String, format = "uuid")]
    pub to: BuildId,
}
