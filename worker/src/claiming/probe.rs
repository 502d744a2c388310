//! What monitoring asks a worker: whether it is ready, and its metrics.
//!
//! A worker is ready while Redis answers: its last acknowledged heartbeat is younger than a lease. It
//! is not once it shuts down, though builds may still run. Whoever only takes no builds for a while is
//! ready, and says why: a full cluster or an operator's drain lets a rollout go on, and a restart would
//! change nothing.
//!
//! Nothing here asks Redis or the cluster. An answer says what the worker knows, and is given while
//! either is away.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fairlane_http::{Probe, gauge};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::state::Worker;

/// The label of why no build is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Paused {
    reason: &'static str,
}

/// Answers for a worker.
pub(crate) struct WorkerProbe(pub(crate) Arc<Worker>);

impl WorkerProbe {
    /// Each reason for claiming nothing, and what to say of it where it holds.
    fn pauses(&self) -> [(&'static str, Option<String>); 4] {
        let worker = &self.0;
        let said = |holds: bool, text: &str| holds.then(|| text.to_owned());
        [
            ("drained", said(worker.is_drained(), "drained by an operator")),
            ("avoided", said(worker.is_avoided(), "builds fail on this host; it gets none for a while")),
            ("redis_memory", worker.queue.memory_pause()),
            ("executor", worker.executor.paused()),
        ]
    }
}

impl Probe for WorkerProbe {
    fn name(&self) -> String {
        self.0.id.to_string()
    }

    fn ready(&self) -> Result<String, String> {
        if self.0.draining.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        let age = self.0.counts.heartbeat_age();
        if age > self.0.settings.lease {
            return Err(format!("Redis has not answered a heartbeat for {} s", age.as_secs()));
        }
        let paused = self.pauses().into_iter().find_map(|(_, why)| why);
        Ok(paused.map_or_else(|| "ok".to_owned(), |why| format!("claims no builds: {why}")))
    }

    fn metrics(&self) -> Registry {
        let worker = &self.0;
        let mut registry = Registry::with_prefix("fairlane_worker");
        let slots = worker.settings.slots.get() as u64;
        gauge(&mut registry, "slots", "Builds that this worker may run at once", slots);
        let running = worker.builds.len() as u64;
        gauge(&mut registry, "running_builds", "Builds that this worker works on", running);
        let age = Gauge::<f64, AtomicU64>::default();
        age.set(worker.counts.heartbeat_age().as_secs_f64());
        let help = "Time since the heartbeat that Redis acknowledged last; leases end after --lease";
        registry.register("heartbeat_age_seconds", help, age);
        worker.counts.register(&mut registry);
        let paused = Family::<Paused, Gauge>::default();
        for (reason, why) in self.pauses() {
            paused.get_or_create(&Paused { reason }).set(why.is_some().into());
        }
        registry.register("paused", "Whether no builds are claimed for this reason", paused);
        registry
    }
}
