//! Converts the queue's types to those of the API.

use fairlane_common::build::Build;
use fairlane_common::log::LogEntry;
use fairlane_common::queue::{Act, Aside, Change, PolicyInForce, Unreadable, Why, inspect};

use crate::api::{
    ActView, AsideView, BuildView, ChangeView, DrainedView, HostAvoided, LaneView, LastLine, NodeView,
    PolicyView, ScaleView, SharedLimit, StopView, Totals, UnreadableView, WorkerView,
};

/// Most bytes of a last line that are shown.
const LINE_BYTES_MAX: usize = 2000;

/// Milliseconds as seconds, rounded up, because "0 s" would mean that something is over.
pub(crate) fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

/// A build; the fields for scope `read` are only included if `private`.
pub(crate) fn build(build: &Build, why: Option<&Why>, private: bool) -> BuildView {
    let position = why.and_then(|why| why.position);
    let (ended, whole) = (build.state.is_ended(), private && !build.recorded);
    BuildView {
        id: build.id,
        state: build.state,
        lane: build.lane.clone(),
        repo: build.spec.repo.to_string(),
        reference: build.spec.reference.to_string(),
        image: build.spec.image.to_string(),
        priority: build.spec.priority,
        campaign: build.campaign.clone().filter(|_| private),
        attempt: build.attempt_shown(),
        run: build.attempt,
        failed_attempts: build.failed_attempts,
        seq: build.seq,
        people: build.people,
        position: position.map(|(place, _)| place),
        line: position.map(|(_, line)| line),
        eta_seconds: why.and_then(|why| why.eta_ms).map(seconds),
        why: why.map(|why| why.text.clone()),
        visitor: why.map(|why| why.visitor.clone()),
        asked_ms: build.asked,
        expected_seconds: seconds(why.map_or(build.expected, |why| why.expected_ms)),
        not_before_ms: build.not_before,
        claimed_ms: build.claimed,
        started_ms: build.started,
        ended_ms: build.ended,
        worker: build.worker.clone(),
        note: build.note.clone(),
        place: build.place.clone().filter(|_| private),
        class: build.class,
        cause: build.cause.clone(),
        reason: build.reason.clone(),
        cancelling: build.cancelling,
        avoid_nodes: build.avoided_names(),
        moved: build.moved,
        attempts: ended.then(|| build.attempts()),
        node: build.node.clone().filter(|_| ended),
        slot_seconds: ended.then(|| round_seconds(build.slot_ms)),
        peak_people: ended.then_some(build.peak),
        expired: build.recorded,
        // A record does not have these fields.
        name: whole.then(|| build.spec.name.clone()),
        labels: whole.then(|| build.spec.labels.clone()),
        repo2docker_args: whole.then(|| build.spec.args.clone()),
        push: whole.then_some(build.spec.push),
        log_tail: build.log_tail.clone().filter(|_| private),
        last_line: None,
    }
}

/// Milliseconds as seconds with one digit after the decimal point.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of years fit")]
pub(crate) fn round_seconds(ms: u64) -> f64 {
    (ms as f64 / 100.0).round() / 10.0
}

pub(crate) fn last_line(entry: &LogEntry) -> LastLine {
    let at_ms = entry.id.split('-').next().and_then(|at| at.parse().ok()).unwrap_or(0);
    LastLine { at_ms, text: entry.text[..entry.text.floor_char_boundary(LINE_BYTES_MAX)].to_owned() }
}

pub(crate) fn aside(of: Aside) -> AsideView {
    AsideView { what: of.what, since_ms: of.at, why: of.why }
}

pub(crate) fn unreadable(of: Unreadable) -> UnreadableView {
    UnreadableView { id: of.id, why: of.why }
}

pub(crate) fn totals(of: &inspect::Snapshot) -> Totals {
    Totals {
        now_ms: of.now,
        queued: of.queued,
        leased: of.leased,
        orphaned: of.orphaned,
        workers: of.workers,
        dispatchers: of.dispatchers,
        slots: of.slots,
        nobody_takes: of.nobody_takes(),
        people: of.people,
        background: of.background,
        background_max: of.background_max,
        mean_seconds: of.mean_ms.map(seconds),
        oldest_wait_seconds: of.oldest_asked.map(|asked| of.now.saturating_sub(asked) / 1000),
        lanes_ready: of.lanes_ready,
        lanes_burst: of.lanes_burst,
        lanes_full: of.lanes_full,
        lanes_held: of.lanes_held,
        ended: of.ended,
        pushing: of.pushing,
        push_waiting: of.push_waiting,
        campaigns: of.campaigns,
        campaign_builds: of.campaign_builds,
    }
}

pub(crate) fn lane(of: inspect::LaneView) -> LaneView {
    let stop = |stop: Option<(String, String, Option<u64>)>| {
        stop.map(|(pattern, message, until_ms)| StopView { pattern, message, until_ms })
    };
    // The name of the set without the common prefix.
    let waits_for = of.at.map(|set| match set.strip_prefix("lanes") {
        Some("") => "ready".to_owned(),
        Some(rest) => rest.trim_start_matches(':').to_owned(),
        None => set,
    });
    LaneView {
        lane: of.lane,
        waits_for,
        queued: of.queued,
        permits: of.permits,
        limit: of.limit,
        burst: of.burst,
        holder: of.holder.map(|(id, _)| id),
        holder_since_ms: of.holder.map(|(_, since)| since),
        shared: of.shared.map(|(name, limit, permits)| SharedLimit { name, limit, permits }),
        held: stop(of.held),
        banned: stop(of.banned),
        mean_seconds: of.mean_ms.map(seconds),
        failed_mean_seconds: of.failed_mean_ms.map(seconds),
        succeeded: of.builds.0,
        failed: of.builds.1,
        last_failure_ms: of.last_failure.as_ref().map(|(at, _)| *at),
        last_failure: of.last_failure.map(|(_, reason)| reason),
    }
}

pub(crate) fn worker(of: inspect::WorkerView) -> WorkerView {
    WorkerView {
        id: of.id,
        host: of.host,
        version: of.version,
        place: of.place,
        slots: of.slots,
        running: of.running,
        draining: of.draining || of.drained.is_some(),
        drained: of.drained.map(|drained| DrainedView { since_ms: drained.at, by: drained.by }),
        paused: of.paused,
        avoided: of.avoided.map(|(until_ms, reason)| HostAvoided { until_ms, reason }),
        nodes: Some(of.nodes).filter(|nodes| *nodes > 0),
        seen_ms: of.seen,
    }
}

pub(crate) fn node(of: inspect::NodeView) -> NodeView {
    NodeView {
        node: of.name,
        reason: of.reason,
        since_ms: of.since,
        until_ms: of.until,
        lanes: of.lanes,
        cluster: of.cluster,
        probed_ms: of.probed,
    }
}

pub(crate) fn scale(of: inspect::Scale) -> ScaleView {
    ScaleView {
        queued: of.queued,
        startable: of.startable,
        running: of.running,
        slots: of.slots,
        wanted_slots: of.wanted_slots,
    }
}

pub(crate) fn act(of: Act) -> ActView {
    let Act { at, by, act, what, detail, reason } = of;
    ActView { at_ms: at, by, act, what, detail, reason: Some(reason).filter(|reason| !reason.is_empty()) }
}

pub(crate) fn change(of: Change) -> ChangeView {
    let Change { at, build, lane, state, seq, worker, class, cause, node, reason } = of;
    ChangeView { at_ms: at, build, lane, state, seq, worker, class, cause, node, reason }
}

pub(crate) fn policy(of: PolicyInForce) -> PolicyView {
    let PolicyInForce { in_force, set, by, at } = of;
    PolicyView { in_force, set, by, at_ms: at }
}
