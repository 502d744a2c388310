//! The JSON of the HTTP API: what clients send and receive. Rust clients decode with these types; the API
//! document is generated from them.
//!
//! Fields that end in `_ms` are Unix milliseconds of Redis's clock. Absent values are left out.

mod activity;
mod builds;
mod campaigns;
mod events;
mod history;
mod logs;
mod nodes;
mod policy;
mod problems;
mod queue;
mod secrets;

use fairlane_common::id::BuildId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use activity::{ActPage, ActView, ChangePage, ChangeView};
pub use builds::{
    BuildAnswer, BuildPage, BuildRequest, BuildView, CancelAnswer, LastLine, PromoteAnswer, UnreadableView,
    WatchersAnswer, WatchersBody,
};
pub use campaigns::{
    CampaignCancelAnswer, CampaignChange, CampaignItem, CampaignItemPage, CampaignItemView, CampaignItems,
    CampaignItemsAnswer, CampaignList, CampaignRequest, CampaignState, CampaignView, ItemState, Pacing,
};
pub use events::{EndEvent, LogEvent, LogLine, MovedEvent, NoticeEvent, StateEvent};
pub use history::{FailedView, History, LaneUse, SampleView, UsagePage, WaitingView};
pub use logs::PrunedLogs;
pub use nodes::{NodeAnswer, NodeList, NodeView, ScaleView};
pub use policy::{PolicyBody, PolicyView};
pub use problems::{CurrentProblem, ProblemKind, Severity};
pub use queue::{
    AsideView, DrainAnswer, DrainBody, DrainedName, DrainedView, HostAvoided, LanePage, LaneView, MemoryView,
    QueueView, RuleAnswer, RuleBody, RuleList, SharedLimit, Stop, StopView, Totals, WorkerList, WorkerView,
};
pub use secrets::SecretsBody;

/// Whether this dispatcher is alive, or ready to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or a warning that Redis's memory is nearly used up.
    pub status: String,
    /// The release that runs.
    pub version: String,
    /// This dispatcher's id.
    pub dispatcher: String,
}

/// Who a caller is, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The token's name; `local` without a token.
    pub name: String,
    /// Its scopes: `submit`, `read`, `operate`.
    pub scopes: Vec<String>,
    /// Whether a token was sent. Without tokens, a dispatcher on a loopback address allows everything.
    pub signed_in: bool,
}

/// An error in the format of RFC 9457 (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of error for programs: `urn:fairlane:error:<word>`. It does not change.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:fairlane:error:[a-z-]+$")]
    pub kind: String,
    /// The kind of error in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here and what to do about it.
    pub detail: String,
    /// The text for people: for a ban, the operator's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The field or parameter with the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Retry after this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// For a conflict: the build that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub build: Option<BuildId>,
}
