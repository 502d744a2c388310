//! Follows the probe's pod until it has ended, or will not start.

use std::time::Duration;

use fairlane_clikit::human;
use fairlane_clikit::output::{Colors, Output, clean};
use fairlane_worker::pod::{Failure, Observed, PodCause, PodSettings, Waiting, observe};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use super::{Answer, Asker, obstacles, results};
use crate::commands::doctor::findings::Findings;

/// How often the pod is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the scheduler may refuse: it looks at once, and again when something changes.
const UNSCHEDULABLE_PATIENCE: Duration = Duration::from_secs(10);

/// What is needed to follow a probe's pod.
pub(super) struct Follow<'a> {
    pub(super) asker: &'a Asker<'a>,
    pub(super) settings: &'a PodSettings,
    /// A build pod, which is not bound to one node.
    pub(super) build_pod: &'a Pod,
    pub(super) node: (&'a str, Option<&'a Node>),
    pub(super) timeout: Duration,
    pub(super) output: Output,
}

/// Why the pod waits, and since when for this cause.
struct Wait {
    waiting: Waiting,
    since: Instant,
}

impl Follow<'_> {
    /// Reports how far it came, what it found, and what is in the way.
    pub(super) async fn to_end(&self, mut pod: Pod, findings: &mut Findings) {
        let (start, name) = (Instant::now(), pod.metadata.name.clone().unwrap_or_default());
        let (mut wait, mut said): (Option<Wait>, String) = (None, String::new());
        loop {
            let events = match self.asker.events_of(&pod).await {
                Answer::Known(events) => events,
                Answer::Denied | Answer::Failed(_) => Vec::new(),
            };
            let note = match observe(&pod, &events) {
                Observed::Pending(waiting) => {
                    let same = wait.as_ref().filter(|known| cause_of(&known.waiting) == cause_of(&waiting));
                    let since = same.map_or_else(Instant::now, |known| known.since);
                    let latest = wait.insert(Wait { waiting, since });
                    if since.elapsed() >= patience(&latest.waiting) {
                        return self.not_started(&latest.waiting.hopeless.failure, findings);
                    }
                    latest.waiting.note.clone()
                }
                Observed::Running { note } => {
                    wait = None;
                    note.unwrap_or_else(|| "the checks are running".to_owned())
                }
                Observed::Ended { exit, failure } => {
                    return self.ended(&name, (exit.code, failure), start.elapsed(), findings).await;
                }
            };
            if note != said {
                self.output.talk(&clean(&note, Colors::Drop));
                said = note;
            }
            if start.elapsed() >= self.timeout {
                return self.too_late(wait, findings);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match self.asker.pod(&name).await {
                Answer::Known(Some(latest)) => pod = latest,
                Answer::Known(None) => {
                    let text = "somebody deleted the probe's pod while it ran";
                    return findings.error("pod", text, "Try again.");
                }
                // The time limit ends this.
                Answer::Denied | Answer::Failed(_) => {}
            }
        }
    }

    fn not_started(&self, failure: &Failure, findings: &mut Findings) {
        let (name, node) = self.node;
        if failure.cause == PodCause::Unschedulable {
            let all = obstacles(self.build_pod, node);
            for (what, advice) in &all {
                findings.error("schedule", format!("{name}: {what}"), advice.as_str());
            }
            let (says, advice) = (format!("the scheduler puts no build on {name}: {}", failure.reason), "");
            return findings.error(
                "schedule",
                says,
                if all.is_empty() {
                    "If it is full, wait until other pods have ended, or add nodes; `kubectl describe node` shows \
                     what runs there."
                } else {
                    advice
                },
            );
        }
        findings.error(failure.cause.word(), failure.reason.clone(), failure.cause.advice());
    }

    fn too_late(&self, wait: Option<Wait>, findings: &mut Findings) {
        if let Some(wait) = wait {
            return self.not_started(&wait.waiting.hopeless.failure, findings);
        }
        let text =
            format!("the checks did not end within {}", human::span_of_seconds(self.timeout.as_secs_f64()));
        findings.error("checks", text, "The node is very slow or hangs: look at its load and its disk.");
    }

    async fn ended(
        &self,
        name: &str,
        (exit_code, failure): (Option<i32>, Option<Failure>),
        took: Duration,
        findings: &mut Findings,
    ) {
        let node = self.node.0;
        if let Some(failure) = &failure
            && !has_no_shell(failure)
        {
            return findings.error(failure.cause.word(), failure.reason.clone(), failure.cause.advice());
        }
        findings.ok("schedule", format!("the scheduler puts builds on {node}"));
        findings.ok(
            "start",
            format!(
                "build image and volumes are there; the pod took {}",
                human::span_of_seconds(took.as_secs_f64())
            ),
        );
        if failure.is_some() {
            let text = format!("nothing was checked inside the pod: {} has no sh", self.settings.build_image);
            return findings.warning("checks", text, "");
        }
        match self.asker.log_of(name).await {
            Answer::Known(log) => {
                results::judge(&log, exit_code, self.settings.docker_socket.as_deref(), findings);
            }
            Answer::Denied => findings.warning(
                "checks",
                "this account may not read logs of pods, so their results are unknown",
                "The chart's value rbac.create grants it to workers.",
            ),
            Answer::Failed(why) => {
                findings.warning("checks", format!("their results cannot be read: {why}"), "Try again.");
            }
        }
    }
}

fn cause_of(waiting: &Waiting) -> PodCause {
    waiting.hopeless.failure.cause
}

fn patience(waiting: &Waiting) -> Duration {
    match (cause_of(waiting), waiting.hopeless.patience) {
        (PodCause::Unschedulable, _) => UNSCHEDULABLE_PATIENCE,
        (_, Some(patience)) => patience,
        // The time limit of the whole ends this.
        (_, None) => Duration::MAX,
    }
}

/// Whether only the check could not run: a build runs another command.
fn has_no_shell(failure: &Failure) -> bool {
    failure.cause == PodCause::CannotStart
        && ["\"sh\"", "not found"].iter().all(|words| failure.reason.contains(words))
}
