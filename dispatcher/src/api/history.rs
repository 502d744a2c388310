//! The past of the queue: samples, and who used the capacity.

use fairlane_common::id::Lane;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The queue over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Redis's clock.
    pub now_ms: u64,
    /// Where it begins.
    pub since_ms: u64,
    /// How far apart the samples are.
    pub step_ms: u64,
    /// Oldest first. A step in which nobody took a sample, because Redis was away, is left out.
    pub samples: Vec<SampleView>,
}

/// The queue within a step: means of what was measured once a minute, and sums of what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// The beginning of the step.
    pub at_ms: u64,
    /// People who waited.
    pub people: f64,
    /// Builds with a slot.
    pub running: f64,
    /// Slots.
    pub slots: f64,
    /// The longest that a build had been waiting, in seconds.
    pub oldest_wait_s: u64,
    /// Builds that waited.
    pub waiting: WaitingView,
    /// Runs that started.
    pub started: u64,
    /// Builds that succeeded.
    pub succeeded: u64,
    /// Builds that were cancelled.
    pub cancelled: u64,
    /// Builds that failed.
    pub failed: FailedView,
}

/// Builds that waited, by what the next build of their lane waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitingView {
    /// A slot.
    pub slot: f64,
    /// A permit of its lane.
    pub permit: f64,
    /// A permit of a limit that lanes share.
    pub shared: f64,
    /// The end of a hold.
    pub held: f64,
    /// The end of a backoff.
    pub backoff: f64,
}

/// Builds that failed, by class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedView {
    /// The build itself failed.
    pub repository: u64,
    /// Something outside the repository failed.
    pub infrastructure: u64,
    /// Pending, silent or running for too long.
    pub stuck: u64,
}

/// Who used the capacity, by the builds that ended since then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsagePage {
    /// Since when.
    pub since_ms: u64,
    /// Lanes that used most, first.
    pub lanes: Vec<LaneUse>,
}

/// What the ended builds of a lane used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneUse {
    /// The lane.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// How many hours its builds held slots, over all their runs.
    pub slot_hours: f64,
    /// How many builds ended.
    pub builds: u64,
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// How long a build held slots, on average, in seconds.
    pub mean_s: f64,
    /// Its part of all slot-hours, from 0 to 1.
    pub share: f64,
}
