//! What a worker counts, for its metrics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fairlane_common::queue::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::build::judge::Verdict;

/// What a worker counts.
#[derive(Debug)]
pub(crate) struct Counts {
    ended: Family<Ended, Counter>,
    /// When the heartbeat began that Redis acknowledged last.
    heartbeat: Mutex<Instant>,
}

/// Labels of runs that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    /// That of a failure; else empty.
    class: String,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self { ended: Family::default(), heartbeat: Mutex::new(Instant::now()) }
    }

    /// Redis has acknowledged a heartbeat that began at `began`.
    pub(crate) fn heartbeat(&self, began: Instant) {
        *self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// A run has ended.
    pub(crate) fn ended(&self, verdict: &Verdict) {
        let (outcome, class) = match verdict {
            Verdict::Finish(Outcome::Succeeded) => ("succeeded", String::new()),
            Verdict::Finish(Outcome::AlreadyThere) => ("already_there", String::new()),
            Verdict::Finish(Outcome::Failed { class, .. }) => ("failed", class.to_string()),
            Verdict::Finish(Outcome::Cancelled) => ("cancelled", String::new()),
            Verdict::HandOver => ("handed_over", String::new()),
            Verdict::Lost(_) => ("lost", String::new()),
            Verdict::LetGo => ("let_go", String::new()),
        };
        self.ended.get_or_create(&Ended { outcome, class }).inc();
    }

    /// Time since the heartbeat that Redis acknowledged last.
    pub(crate) fn heartbeat_age(&self) -> Duration {
        self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Runs that ended here, by outcome and, for failures, by class; a build may take several";
        registry.register("runs_ended", help, self.ended.clone());
    }
}
