//! The queue, lanes, rules and workers.

use std::collections::BTreeMap;

use fairlane_common::id::{BuildId, Lane, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::CurrentProblem;

pub use fairlane_common::rule::{Rule as RuleBody, Stop};

/// The queue's numbers, as one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// When the snapshot was taken.
    pub now_ms: u64,
    /// Builds that wait, including those in backoff.
    pub queued: u64,
    /// Builds leased to a worker.
    pub leased: u64,
    /// Builds that wait for adoption.
    pub orphaned: u64,
    /// Live workers.
    pub workers: u64,
    /// Live dispatchers.
    pub dispatchers: u64,
    /// Slots of live workers that are not shutting down; a drained or paused worker counts as many as it has
    /// running builds.
    pub slots: u64,
    /// Why none of the live workers accepts builds, for operators; absent if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nobody_takes: Option<String>,
    /// People who wait, across all dispatchers.
    pub people: u64,
    /// Background builds that occupy a slot.
    pub background: u64,
    /// Maximum number of background builds at once.
    pub background_max: u64,
    /// Mean duration of the latest builds, in seconds; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_seconds: Option<u64>,
    /// How long the longest-waiting build has waited, in seconds; absent when none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_wait_seconds: Option<u64>,
    /// Lanes that may start a build now.
    pub lanes_ready: u64,
    /// Lanes that may start a build only while more than half of all slots are free.
    pub lanes_burst: u64,
    /// Lanes at their maximum number of permits.
    pub lanes_full: u64,
    /// Lanes that a rule holds.
    pub lanes_held: u64,
    /// Ended builds that are still known.
    pub ended: u64,
    /// Builds that push to a registry; counted while a push limit is set.
    #[serde(default)]
    pub pushing: u64,
    /// Builds that are built and wait until they may push.
    #[serde(default)]
    pub push_waiting: u64,
    /// Campaigns that run.
    #[serde(default)]
    pub campaigns: u64,
    /// Builds of campaigns, also of paused ones, that are in line or run.
    #[serde(default)]
    pub campaign_builds: u64,
}

/// The queue in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Its numbers.
    pub totals: Totals,
    /// The first lanes, in the order of their next builds.
    pub lanes: Vec<LaneView>,
    /// What is wrong now, the worst first; at most a second old.
    #[serde(default)]
    pub problems: Vec<CurrentProblem>,
    /// Whether there are more lanes; `GET /v1/lanes` lists them all.
    pub more_lanes: bool,
    /// Redis's memory; absent if Redis does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryView>,
    /// What could not be processed and was set aside, so that it does not hold up anything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<AsideView>,
}

/// Redis's memory; in a Cluster, that of its fullest node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryView {
    /// Bytes in use.
    pub used_bytes: u64,
    /// The limit, `maxmemory`; 0 if there is none.
    pub max_bytes: u64,
}

/// A build, a rule or a timer that this release cannot handle: changed by hand, or written by a newer release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AsideView {
    /// What it is: `build:<id>`, `rule:<pattern>`, `timer:<timer>`.
    pub what: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Why.
    pub why: String,
}

/// A page of lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LanePage {
    /// Lanes with builds in line, in the order of their next builds, then those with only running builds.
    pub lanes: Vec<LaneView>,
    /// Where the next page starts; absent after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A lane: what it waits for, and what the queue knows about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneView {
    /// Its name.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// What it waits for: `ready`, `burst`, `full`, `held` or `shared:<name>`; absent when nothing
    /// is in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its builds in line, not counting those in backoff.
    pub queued: u64,
    /// Permits in use.
    pub permits: u64,
    /// Permits it may have.
    pub limit: u64,
    /// Permits it may have while more than half of all slots are free.
    pub burst: u64,
    /// The build that has held a permit longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub holder: Option<BuildId>,
    /// Since when `holder` has held a permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_since_ms: Option<u64>,
    /// The limit that it shares with other lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedLimit>,
    /// The rule that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<StopView>,
    /// The rule that bans it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banned: Option<StopView>,
    /// Expected duration of its next build, in seconds; absent before its first success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_seconds: Option<u64>,
    /// Mean duration of builds that fail because of the repository, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_mean_seconds: Option<u64>,
    /// Builds that succeeded.
    pub succeeded: u64,
    /// Builds that failed.
    pub failed: u64,
    /// When a build of the lane last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_ms: Option<u64>,
    /// Why a build of the lane last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A limit that several lanes share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedLimit {
    /// The pattern of the rule that set it, or `slow`.
    pub name: String,
    /// Permits that the lanes may have together.
    pub limit: u64,
    /// Permits in use.
    pub permits: u64,
}

/// A rule that holds or bans a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopView {
    /// The rule's pattern.
    pub pattern: String,
    /// The operator's message; may be empty.
    pub message: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleList {
    /// Rules by pattern.
    pub rules: BTreeMap<String, RuleBody>,
    /// Rules that cannot be read, with the reason: changed by hand, or written by a newer release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unreadable: BTreeMap<String, String>,
}

/// What a change of rules did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleAnswer {
    /// The pattern in its normal form.
    pub pattern: String,
    /// Whether there was a rule before.
    pub existed: bool,
    /// For a rule on one lane: how many of its builds are queued or live now.
    pub live: u64,
    /// What the operator should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A page of live workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// Workers in the order of their ids.
    pub workers: Vec<WorkerView>,
    /// Drained names without a live worker, on each page: a worker that starts there will claim no builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<DrainedName>,
    /// Where the next page starts; absent after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A name whose workers claim no builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedName {
    /// The name: a host's, or a pod's.
    pub name: String,
    /// Since when.
    pub since_ms: u64,
    /// By whom.
    pub by: String,
}

/// Until when a host is avoided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostAvoided {
    /// Until when.
    pub until_ms: u64,
    /// The cause of the latest failure that counted against it.
    pub reason: String,
}

/// Since when and by whom a worker is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedView {
    /// Since when.
    pub since_ms: u64,
    /// By whom.
    pub by: String,
}

/// A worker as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: WorkerId,
    /// Its host.
    pub host: String,
    /// Its release.
    pub version: String,
    /// Where its runs live.
    pub place: String,
    /// Its slots.
    pub slots: u64,
    /// Builds that it held at its latest heartbeat.
    pub running: u64,
    /// Whether it claims no more builds: it is drained, or shutting down.
    pub draining: bool,
    /// Since when and by whom it is drained; it claims builds again once this is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainedView>,
    /// Why it accepts no builds for now, such as a full cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Set if builds fail on its host: the host gets no builds for a while, or one a minute if it is the only
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avoided: Option<HostAvoided>,
    /// Number of nodes that its builds can run on; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Its latest heartbeat.
    pub seen_ms: u64,
}

/// Whether a worker is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainBody {
    /// `false` lets it claim builds again. Default `true`.
    #[serde(default = "yes")]
    pub drain: bool,
}

fn yes() -> bool {
    true
}

/// The result of draining, or of undoing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainAnswer {
    /// The worker or the name that was given.
    #[schema(value_type = String)]
    pub id: WorkerId,
    /// Whether it is drained now.
    pub drain: bool,
    /// The name that the drain applies to, even after a restart: the worker's host or pod.
    #[serde(default)]
    pub name: String,
    /// The live workers of that name.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub workers: Vec<WorkerId>,
}
