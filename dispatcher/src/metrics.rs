//! Metrics of this process, counted as they happen. [`queue_metrics`](crate::queue_metrics) has those of the queue.

use std::time::Duration;

use fairlane_common::queue::Queue;
use fairlane_http::metrics::{gauge, registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::queue_metrics::QueueNow;

/// Upper bounds of the time until a response starts, in seconds. They are long because some requests wait for
/// Redis.
const LATENCY: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How a request for a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Outcome {
    const ALL: [Self; 8] = [
        Self::New,
        Self::Joined,
        Self::Ended,
        Self::Conflict,
        Self::Banned,
        Self::Full,
        Self::Invalid,
        Self::Failed,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Joined => "joined",
            Self::Ended => "ended",
            Self::Conflict => "conflict",
            Self::Banned => "banned",
            Self::Full => "full",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.word().encode(encoder)
    }
}

/// What became of an attempt to archive a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ArchiveResult {
    Stored,
    Failed,
    GivenUp,
}

impl ArchiveResult {
    const ALL: [Self; 3] = [Self::Stored, Self::Failed, Self::GivenUp];
}

impl EncodeLabelValue for ArchiveResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let word = match self {
            Self::Stored => "stored",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        };
        word.encode(encoder)
    }
}

/// Labels of logs that were to be archived.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ArchivedLog {
    result: ArchiveResult,
}

/// Labels of requests for builds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Asked {
    pub(crate) outcome: Outcome,
}

/// The method and route of a request; the route is its template, never the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) route: String,
}

/// Labels of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Request {
    #[prometheus(flatten)]
    pub(crate) route: Route,
    pub(crate) status: u16,
}

/// What this process counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) asked: Family<Asked, Counter>,
    pub(crate) requests: Family<Request, Counter>,
    /// Time until the response starts, in seconds.
    pub(crate) latency: Family<Route, Histogram, fn() -> Histogram>,
    pub(crate) streams: Gauge,
    pub(crate) slow_readers: Counter,
    pub(crate) log_bytes: Counter,
    archived: Family<ArchivedLog, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let asked = Family::<Asked, Counter>::default();
        // All series exist from the start, because a rate needs the zero before the first event.
        for outcome in Outcome::ALL {
            drop(asked.get_or_create(&Asked { outcome }));
        }
        let archived = Family::<ArchivedLog, Counter>::default();
        for result in ArchiveResult::ALL {
            drop(archived.get_or_create(&ArchivedLog { result }));
        }
        Self {
            archived,
            asked,
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY)),
            streams: Gauge::default(),
            slow_readers: Counter::default(),
            log_bytes: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts logs that were archived or were not.
    pub(crate) fn note_archived(&self, result: ArchiveResult, logs: u64) {
        self.archived.get_or_create(&ArchivedLog { result }).inc_by(logs);
    }

    /// All metrics. `wait` limits each read from the queue.
    pub(crate) async fn registry(&self, queue: &Queue, wait: Duration) -> Registry {
        let now = QueueNow::read(queue, wait).await;
        let mut registry = registry("dispatcher");
        let ours = registry.sub_registry_with_prefix("fairlane");
        self.register(ours);
        queue.register_calls(ours);
        gauge(ours, "redis_up", "Whether Redis answers this dispatcher", now.is_there().into());
        now.register(ours);
        registry
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("builds_asked", "Requests for builds, by outcome", self.asked.clone());
        let help = "HTTP requests, by method, route and status";
        registry.register("http_requests", help, self.requests.clone());
        let help = "Time until the response starts, by method and route";
        registry.register_with_unit("http_latency", help, Unit::Seconds, self.latency.clone());
        registry.register("streams", "Open event streams", self.streams.clone());
        registry.register(
            "slow_readers",
            "Streams closed because the client stopped reading",
            self.slow_readers.clone(),
        );
        let help =
            "Logs archived after the end of their builds, failed attempts, and logs given up, by result";
        registry.register("logs_archived", help, self.archived.clone());
        let help = "Log read from Redis for streams";
        registry.register_with_unit("log_read", help, Unit::Bytes, self.log_bytes.clone());
    }
}
