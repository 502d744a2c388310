//! What monitoring asks a worker: whether it is ready, and its metrics.
//!
//! A worker is ready while Redis answers, that is, while its last acknowledged heartbeat is younger than a lease.
//! Once it shuts down it is not ready, although builds may still run. A worker that just claims no builds for a
//! while is ready and says why: a full cluster or an operator's drain should not block a rollout, and a restart
//! would not help.
//!
//! Nothing here calls Redis or the cluster. Responses contain what the worker knows, and work while either is
//! away.

use std::sync::Arc;

use fairlane_http::Probe;
use fairlane_http::metrics::{gauge, gauges, registry, seconds, shared};
use prometheus_client::registry::Registry;

use super::state::Worker;

/// Answers for a worker.
pub(crate) struct WorkerProbe(pub(crate) Arc<Worker>);

impl WorkerProbe {
    /// Each reason for claiming nothing, with a text if it applies.
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
        let mut registry = registry("worker");
        let ours = registry.sub_registry_with_prefix("fairlane");
        let slots = worker.settings.slots.get() as u64;
        gauge(ours, "worker_slots", "Builds that this worker may run at once", slots);
        let running = worker.builds.len() as u64;
        gauge(ours, "worker_running_builds", "Builds that this worker works on", running);
        let age = worker.counts.heartbeat_age().as_secs_f64();
        let help =
            "Time since the heartbeat that Redis acknowledged last; leases end after --lease (use max)";
        seconds(ours, "worker_heartbeat_age", help, age);
        let pauses = self.pauses().map(|(reason, why)| (reason, why.is_some().into()));
        gauges(ours, "worker_paused", "Whether no builds are claimed for this reason", "reason", pauses);
        if let Some(oldest) = worker.executor.oldest_pending() {
            let help = shared("How long the oldest build pod has been pending; 0 if none is");
            seconds(ours, "worker_oldest_pending_pod", help, oldest.as_secs_f64());
        }
        worker.counts.register(ours, &worker.settings.host);
        worker.queue.register_calls(ours);
        registry
    }
}
