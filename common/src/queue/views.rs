//! The types of the read-only views.

use serde::Serialize;

use crate::build::{BuildState, FailureClass};
use crate::cause::FailureCause;
use crate::id::{BuildId, NodeName, WorkerId};
use crate::repo::Lane;

/// The queue's numbers, as one snapshot. Times are Unix milliseconds of Redis's clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was taken.
    pub now: u64,
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
    /// People who wait, across all dispatchers.
    pub people: u64,
    /// Background builds that occupy a slot.
    pub background: u64,
    /// Maximum number of background builds at once.
    pub background_max: u64,
    /// Mean duration of the latest builds of all lanes, in milliseconds; `None` before the first.
    pub mean_ms: Option<u64>,
    /// Lanes that may start a build now.
    pub lanes_ready: u64,
    /// Lanes that may start a build only while more than half of all slots are free.
    pub lanes_burst: u64,
    /// Lanes at their burst.
    pub lanes_full: u64,
    /// Lanes that a rule holds.
    pub lanes_held: u64,
    /// When the longest-waiting build was requested. (In a long line, this may miss one until the repair walk
    /// has seen it.)
    pub oldest_asked: Option<u64>,
    /// Ended builds that are still known.
    pub ended: u64,
    /// Workers that accept builds. (Only examined while no slot is free or a node is avoided; otherwise all
    /// workers.)
    pub taking: u64,
    /// Workers that accept none for now, for example because their cluster is full.
    pub paused: u64,
    /// The reason of the first of them.
    pub paused_why: Option<String>,
    /// A place's only node, if it fails builds, as `<cluster>/<node>`, and when it may get its next build.
    pub probing: Option<(String, u64)>,
    /// Nodes and hosts that are avoided.
    pub avoided: u64,
    /// Until when nothing starts because Redis was emptied and runs are being registered again.
    pub refill_until: Option<u64>,
    /// Builds and timers that were set aside because they could not be handled ([`crate::Queue::aside`]).
    pub aside: u64,
    /// How often the queue has repaired an inconsistency.
    pub repairs: u64,
    /// Bytes that the logs of ended builds take.
    pub logs_bytes: u64,
    /// Lines missing from logs because Redis refused them.
    pub log_lines_missing: u64,
    /// Builds that push to a registry, counted while a push limit is set.
    pub pushing: u64,
    /// Builds that are built and wait to push.
    pub push_waiting: u64,
    /// Campaigns that run.
    pub campaigns: u64,
    /// Builds of campaigns, also of paused ones, that are in line or run.
    pub campaign_builds: u64,
}

/// A lane: what it waits for and what the queue knows of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneView {
    /// Its name.
    pub lane: Lane,
    /// The set that it is in, such as `lanes` or `lanes:full`; `None` when nothing is queued.
    pub at: Option<String>,
    /// Its builds in line, not counting those in backoff.
    pub queued: u64,
    /// Permits in use.
    pub permits: u64,
    /// The build that has held a permit longest, and since when.
    pub holder: Option<(BuildId, u64)>,
    /// Permits it may have.
    pub limit: u64,
    /// Permits it may have while more than half of all slots are free.
    pub burst: u64,
    /// The limit that it shares with other lanes: name, limit, permits in use.
    pub shared: Option<(String, u64, u64)>,
    /// The rule that holds it: pattern, message, end.
    pub held: Option<(String, String, Option<u64>)>,
    /// The rule that bans it: pattern, message, end.
    pub banned: Option<(String, String, Option<u64>)>,
    /// Expected duration of its next build, in milliseconds; `None` before its first success.
    pub mean_ms: Option<u64>,
    /// Mean duration of builds that fail because of the repository, in milliseconds.
    pub failed_mean_ms: Option<u64>,
    /// Builds ended: succeeded, failed.
    pub builds: (u64, u64),
    /// Its latest failure: when, and the reason.
    pub last_failure: Option<(u64, String)>,
}

/// A worker as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Its id.
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
    /// Whether it is shutting down.
    pub draining: bool,
    /// Since when and by whom it is drained: it claims no builds until that is undone.
    pub drained: Option<super::rules::Drained>,
    /// Why it takes no builds for the time being.
    pub paused: Option<String>,
    /// If builds fail on its host: until when the host gets none, and why.
    pub avoided: Option<(u64, String)>,
    /// How many nodes it knows.
    pub nodes: u64,
    /// Its latest heartbeat, Unix milliseconds.
    pub seen: u64,
}

/// A node that is avoided, or probed if it is the only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Until when, Unix milliseconds.
    pub until: u64,
    /// Since when, Unix milliseconds.
    pub since: u64,
    /// The cluster that it is in, as `k8s:<cluster>`; `process` for the host of process workers.
    pub cluster: String,
    /// The cause of the latest failure that counted against it.
    pub reason: String,
    /// Lanes whose builds failed on it within the time that counts.
    pub lanes: u64,
    /// When it last got a test build, Unix milliseconds.
    pub probed: Option<u64>,
}

/// How many slots the queue could use, for an autoscaler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Scale {
    /// Builds that wait.
    pub queued: u64,
    /// Those that wait only for a free slot.
    pub startable: u64,
    /// Running builds, including those that wait for adoption.
    pub running: u64,
    /// Slots of live workers that accept builds.
    pub slots: u64,
    /// Slots needed to start all of these at once, next to the running builds; higher if there are background
    /// builds, because these may hold only a share of the slots.
    pub wanted_slots: u64,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page starts; `None` after the last one.
    pub cursor: Option<String>,
    /// Builds that belong here and cannot be read.
    pub unreadable: Vec<super::Unreadable>,
}

/// Which builds to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<BuildState>,
    /// Only those that have ended. The same if one of the three last parts is there.
    pub ended: bool,
    /// Only those of this lane.
    pub lane: Option<Lane>,
    /// Only those that ended since then.
    pub since: Option<super::since::Since>,
    /// Only failures of this class.
    pub class: Option<FailureClass>,
    /// Only failures for this cause.
    pub cause: Option<FailureCause>,
    /// Only those whose lane, ref, image, name or id contains this text, whatever its case.
    pub text: Option<String>,
    /// At most this many ([`crate::limits::PAGE`] if 0, which is also the maximum).
    pub limit: usize,
    /// Where to start: the cursor of the page before.
    pub cursor: Option<String>,
}

/// What the read-only check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Entries that were compared.
    pub checked: u64,
    /// Inconsistencies, one sentence each; empty if all is well.
    pub problems: Vec<String>,
}
