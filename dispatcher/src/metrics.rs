//! Metrics. Those of this process are counted as they happen; those of the queue are read from Redis at each
//! scrape, so that every dispatcher shows the same values.

use std::time::Duration;

use fairlane_common::queue::Queue;
use fairlane_common::queue::inspect::Snapshot;
use fairlane_http::gauge;
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

/// Time until the response starts, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency(pub(crate) Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]))
    }
}

impl Metrics {
    /// All metrics. `wait` limits each read of the queue.
    pub(crate) async fn registry(&self, queue: &Queue, wait: Duration) -> Registry {
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
            let help = "Memory that Redis uses; in a Cluster, of its fullest node";
            gauge(&mut registry, "redis_memory_used_bytes", help, memory.used);
            gauge(&mut registry, "redis_memory_max_bytes", "Redis's maxmemory; 0 if unset", memory.max);
        }
        registry
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("builds_asked", "Build requests by outcome", self.asked.clone());
        registry.register("http_requests", "HTTP requests by route and status", self.requests.clone());
        let help = "Time until the response starts";
        registry.register_with_unit("http_latency", help, Unit::Seconds, self.latency.0.clone());
        registry.register("streams", "Open event streams of this dispatcher", self.streams.clone());
        registry.register(
            "slow_readers",
            "Streams closed because the client stopped reading",
            self.slow_readers.clone(),
        );
        let help = "Log read from Redis for streams";
        registry.register_with_unit("log_read", help, Unit::Bytes, self.log_bytes.clone());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    waits_for: &'static str,
}

fn register_queue(registry: &mut Registry, of: &Snapshot) {
    for (name, help, value) in [
        ("queued_builds", "Builds that wait", of.queued),
        ("leased_builds", "Builds leased to a worker", of.leased),
        ("orphaned_builds", "Builds that wait for adoption", of.orphaned),
        ("set_aside", "Builds and timers that could not be handled; fairlane doctor lists them", of.aside),
        ("ended_builds", "Ended builds that are still known", of.ended),
        ("workers", "Live workers", of.workers),
        ("dispatchers", "Live dispatchers", of.dispatchers),
        (
            "workers_paused",
            "Workers that have paused claiming, for example because the cluster is full",
            of.paused,
        ),
        ("nodes_avoided", "Nodes and hosts avoided because builds fail there", of.avoided),
        ("slots", "Slots of live workers; drained and paused workers count only the slots in use", of.slots),
        ("people", "People who wait, across all dispatchers", of.people),
        ("background_builds", "Background builds that occupy a slot", of.background),
        ("background_builds_max", "Maximum number of background builds at once", of.background_max),
    ] {
        gauge(registry, name, help, value);
    }
    let repairs = Counter::<u64>::default();
    repairs.inc_by(of.repairs);
    let help = "Inconsistencies in Redis that were repaired; the audit log lists them";
    registry.register("repairs", help, repairs);
    gauge(registry, "logs_bytes", "Logs of ended builds in Redis", of.logs_bytes);
    let missing = Counter::<u64>::default();
    missing.inc_by(of.log_lines_missing);
    let help = "Log lines dropped because Redis could not store them";
    registry.register("log_lines_missing", help, missing);
    let age = of.oldest_asked.map_or(0, |asked| of.now.saturating_sub(asked) / 1000);
    gauge(registry, "oldest_wait_seconds", "How long the longest-waiting build has waited", age);
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
    registry.register("lanes", "Lanes with queued builds, by what they wait for", lanes);
}
