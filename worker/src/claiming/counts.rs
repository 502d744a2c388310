//! What a worker counts, for its metrics. Each fact is counted once over all workers: by the one that has it.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fairlane_common::queue::{Claimed, Finished, Outcome};
use fairlane_common::{BuildState, FailureClass, Priority};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::build::judge::Verdict;

/// Upper bounds in seconds. A build may wait for hours, and run for some.
const WAIT: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];
const BUILD: [f64; 11] = [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 7200.0, 21600.0];
const POD_START: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];
const ADOPTION: [f64; 9] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0, 600.0];
const LOG_DELAY: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What became of a build whose run has ended here.
const OUTCOMES: [&str; 4] = ["succeeded", "failed", "cancelled", "retried"];

/// Times by one label.
type Times = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// What a worker counts.
#[derive(Debug)]
pub(crate) struct Counts {
    ended: Family<Ended, Counter>,
    waits: Times,
    builds: Times,
    pod_starts: Histogram,
    adoptions: Histogram,
    log_delays: Histogram,
    /// When the heartbeat began that Redis acknowledged last.
    heartbeat: Mutex<Instant>,
}

/// Labels of runs that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    /// That of a failure; else empty.
    class: &'static str,
}

impl Counts {
    pub(crate) fn new() -> Self {
        let counts = Self {
            ended: Family::default(),
            waits: Times::new_with_constructor(|| Histogram::new(WAIT)),
            builds: Times::new_with_constructor(|| Histogram::new(BUILD)),
            pod_starts: Histogram::new(POD_START),
            adoptions: Histogram::new(ADOPTION),
            log_delays: Histogram::new(LOG_DELAY),
            heartbeat: Mutex::new(Instant::now()),
        };
        counts.show_all();
        counts
    }

    /// Shows all values of the labels from the start: a rate needs the zero before the first event.
    fn show_all(&self) {
        for outcome in ["succeeded", "already_there", "cancelled", "handed_over", "lost", "let_go"] {
            drop(self.ended.get_or_create(&Ended { outcome, class: "" }));
        }
        for class in FailureClass::ALL {
            drop(self.ended.get_or_create(&Ended { outcome: "failed", class: class.word() }));
        }
        for priority in Priority::ALL {
            drop(self.waits.get_or_create(&[("priority", priority.word())]));
        }
        for outcome in OUTCOMES {
            drop(self.builds.get_or_create(&[("outcome", outcome)]));
        }
    }

    /// Redis has acknowledged a heartbeat that was sent at `began`.
    pub(crate) fn heartbeat(&self, began: Instant) {
        *self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// A build was claimed: a new one starts, or a run without a holder is adopted. All times are Redis's.
    pub(crate) fn claimed(&self, claimed: &Claimed) {
        let build = &claimed.build;
        let since = |then: u64| Duration::from_millis(claimed.token.epoch.saturating_sub(then)).as_secs_f64();
        if claimed.adopted {
            if let Some(orphaned) = claimed.orphaned {
                self.adoptions.observe(since(orphaned));
            }
        } else if build.attempt == 1 {
            let priority = build.spec.priority.word();
            self.waits.get_or_create(&[("priority", priority)]).observe(since(build.asked));
        }
    }

    /// A pod came up after so long.
    pub(crate) fn pod_started(&self, after: Duration) {
        self.pod_starts.observe(after.as_secs_f64());
    }

    /// For the logs: how long their lines wait until they are stored.
    pub(crate) fn log_delays(&self) -> Histogram {
        self.log_delays.clone()
    }

    /// A run has ended.
    pub(crate) fn ended(&self, verdict: &Verdict) {
        let (outcome, class) = match verdict {
            Verdict::Finish(Outcome::Succeeded) => ("succeeded", ""),
            Verdict::Finish(Outcome::AlreadyThere) => ("already_there", ""),
            Verdict::Finish(Outcome::Failed { class, .. }) => ("failed", class.word()),
            Verdict::Finish(Outcome::Cancelled) => ("cancelled", ""),
            Verdict::HandOver => ("handed_over", ""),
            Verdict::Lost(_) => ("lost", ""),
            Verdict::LetGo => ("let_go", ""),
        };
        self.ended.get_or_create(&Ended { outcome, class }).inc();
    }

    /// The queue has heard of the end of a run, which took so long from its claim.
    pub(crate) fn finished(&self, finished: &Finished, took: Duration) {
        let outcome = match finished {
            Finished::Ended(BuildState::Succeeded) => "succeeded",
            Finished::Ended(BuildState::Failed) => "failed",
            Finished::Ended(BuildState::Cancelled) => "cancelled",
            Finished::Retried { .. } => "retried",
            // Nobody's end, or not this worker's.
            Finished::Ended(_) | Finished::Stale | Finished::Unknown => return,
        };
        self.builds.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// Time since the heartbeat that Redis acknowledged last.
    pub(crate) fn heartbeat_age(&self) -> Duration {
        self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Adds what was counted, under the prefix `fairlane`.
    pub(crate) fn register(&self, registry: &mut Registry, host: &str) {
        let help = "Time from the request for a build until its first run is claimed, by priority";
        registry.register_with_unit("build_wait", help, Unit::Seconds, self.waits.clone());
        let help = "Time from the claim of a run until its end, by what became of the build";
        registry.register_with_unit("build_duration", help, Unit::Seconds, self.builds.clone());
        let help = "Time from the creation of a build pod until its container runs";
        registry.register_with_unit("pod_start", help, Unit::Seconds, self.pod_starts.clone());
        let help = "Time from the end of a lease, or a handover, until another worker adopts the run";
        registry.register_with_unit("adoption_delay", help, Unit::Seconds, self.adoptions.clone());
        let help = "Time from reading a log line until Redis has stored it, of the first line of each write";
        registry.register_with_unit("log_delay", help, Unit::Seconds, self.log_delays.clone());
        let host = (Cow::from("host"), Cow::from(host.to_owned()));
        let help = "Runs that ended, by outcome, class of failure and host; a build may take several";
        let with_host = registry.sub_registry_with_label(host);
        with_host.register("worker_runs_ended", help, self.ended.clone());
    }
}

#[cfg(test)]
mod tests {
    use fairlane_common::{Build, Token};

    use super::*;
    use crate::fixtures::{build, token};

    fn text(counts: &Counts) -> String {
        let mut registry = Registry::default();
        counts.register(&mut registry, "h");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn claimed(attempt: u32, adopted: bool) -> Claimed {
        let build = Build { attempt, asked: 1000, ..build() };
        let token = Token { epoch: 8000, ..token(&build) };
        Claimed { token, build, adopted, orphaned: adopted.then_some(7500), avoided: Vec::new() }
    }

    #[test]
    fn only_the_first_start_of_a_build_ends_its_wait() {
        let counts = Counts::new();
        for (attempt, adopted) in [(1, false), (2, false), (1, true)] {
            counts.claimed(&claimed(attempt, adopted));
        }
        let text = text(&counts);
        for line in [
            "build_wait_seconds_count{priority=\"interactive\"} 1",
            "build_wait_seconds_sum{priority=\"interactive\"} 7.0",
            "build_wait_seconds_count{priority=\"background\"} 0",
            "adoption_delay_seconds_count 1",
            "adoption_delay_seconds_sum 0.5",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in:\n{text}");
        }
    }

    #[test]
    fn a_run_that_the_queue_did_not_take_as_ended_has_no_duration() {
        let counts = Counts::new();
        let took = Duration::from_secs(20);
        counts.finished(&Finished::Retried { not_before: 1, attempt: 2 }, took);
        counts.finished(&Finished::Ended(BuildState::Succeeded), took);
        counts.finished(&Finished::Stale, took);
        counts.finished(&Finished::Unknown, took);
        let text = text(&counts);
        for (outcome, count) in [("retried", 1), ("succeeded", 1), ("failed", 0), ("cancelled", 0)] {
            let line = format!("build_duration_seconds_count{{outcome=\"{outcome}\"}} {count}");
            assert!(text.lines().any(|have| have == line), "{line} in:\n{text}");
        }
    }
}
