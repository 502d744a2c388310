//! Metrics. Those of this process are counted as things happen; those of the queue are read from
//! Redis when somebody scrapes, so that every dispatcher shows the same.

use std::time::Duration;

use fairlane_common::queue::Queue;
use fairlane_common::queue::inspect::Snapshot;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::redis_wait::bounded;

/// What became of a request for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    New,
    Joined,
    Ended,
    Conflict,
    Banned,
    Full,
    Invalid,
    Failed,
}

/// Labels of requests for builds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Asked {
    pub(crate) outcome: Outcome,
}

/// Labels of HTTP requests: the route's template, never the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// What this process counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) asked: Family<Asked, Counter>,
    pub(crate) requests: Family<Request, Counter>,
    pub(crate) streams: Gauge,
    pub(crate) slow_readers: Counter,
    pub(crate) log_bytes: Counter,
    pub(crate) latency: Latency,
}

/// How long answers take to begin, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency(pub(crate) Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]))
    }
}

impl Metrics {
    /// All metrics in the text format. `wait` bounds each look at the queue.
    pub(crate) async fn text(&self, queue: &Queue, wait: Duration) -> String {
        let mut registry = Registry::with_prefix("fairlane");
        self.register(&mut registry);
        let snapshot = bounded(wait, queue.snapshot()).await.ok();
        let up = Gauge::<i64>::default();
        up.set(snapshot.is_some().into());
        registry.register("redis_up", "Whether Redis answers", up);
        if let Some(snapshot) = snapshot {
            register_queue(&mut registry, &snapshot);
        }
        let memory = bounded(wait, async { Ok(queue.memory().await) }).await.ok().flatten();
        if let Some(memory) = memory {
            let help = "Memory that Redis uses; of a Cluster that of its fullest node";
            gauge(&mut registry, "redis_memory_used_bytes", help, memory.used);
            gauge(&mut registry, "redis_memory_max_bytes", "Redis's maxmemory; 0 for none", memory.max);
        }
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            tracing::error!("the metrics could not be written");
        }
        text
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("builds_asked", "Requests for builds by what became of them", self.asked.clone());
        registry.register("http_requests", "HTTP requests by route and status", self.requests.clone());
        let help = "Time until an answer begins";
        registry.register_with_unit("http_latency", help, Unit::Seconds, self.latency.0.clone());
        registry.register("streams", "Event streams that are open here", self.streams.clone());
        registry.register(
            "slow_readers",
            "Streams let go because nobody read them",
            self.slow_readers.clone(),
        );
        let help = "Log read from Redis for streams";
        registry.register_with_unit("log_read", help, Unit::Bytes, self.log_bytes.clone());
    }
}

fn gauge(registry: &mut Registry, name: &'static str, help: &'static str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    waits_for: &'static str,
}

fn register_queue(registry: &mut Registry, of: &Snapshot) {
    for (name, help, value) in [
        ("queued_builds", "Builds that wait", of.queued),
        ("leased_builds", "Builds that a worker holds", of.leased),
        ("orphaned_builds", "Builds that wait for adoption", of.orphaned),
        ("set_aside", "Builds and timers that could not be handled; fairlane doctor lists them", of.aside),
        ("ended_builds", "Ended builds that are still known", of.ended),
        ("workers", "Live workers", of.workers),
        ("dispatchers", "Live dispatchers", of.dispatchers),
        (
            "workers_paused",
            "Workers that take no builds for the time being, such as for a full cluster",
            of.paused,
        ),
        (
            "nodes_avoided",
            "Nodes and hosts of process workers on which builds fail and which are avoided",
            of.avoided,
        ),
        ("slots", "Slots of live workers; of drained and paused ones as many as they run", of.slots),
        ("people", "People who wait, over all dispatchers", of.people),
        ("background_builds", "Background builds that hold a slot", of.background),
        ("background_builds_max", "Most background builds that may hold a slot", of.background_max),
    ] {
        gauge(registry, name, help, value);
    }
    let repairs = Counter::<u64>::default();
    repairs.inc_by(of.repairs);
    let help = "Things in Redis that did not fit and were mended; the audit stream says which";
    registry.register("repairs", help, repairs);
    gauge(registry, "logs_bytes", "Logs of ended builds in Redis", of.logs_bytes);
    let missing = Counter::<u64>::default();
    missing.inc_by(of.log_lines_missing);
    let help = "Log lines that were left out because Redis did not take them";
    registry.register("log_lines_missing", help, missing);
    let age = of.oldest_asked.map_or(0, |asked| of.now.saturating_sub(asked) / 1000);
    gauge(registry, "oldest_wait_seconds", "How long the build has waited that waits longest", age);
    if let Some(mean) = of.mean_ms {
        gauge(registry, "build_mean_seconds", "Mean duration of the latest builds", mean / 1000);
    }
    let lanes = Family::<Waiting, Gauge>::default();
    for (waits_for, count) in [
        ("ready", of.lanes_ready),
        ("burst", of.lanes_burst),
        ("full", of.lanes_full),
        ("held", of.lanes_held),
    ] {
        lanes.get_or_create(&Waiting { waits_for }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("lanes", "Lanes with builds in line by what they wait for", lanes);
}
