//! Derives the state of a run from its pod's status and events.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, Pod,
    PodCondition, PodStatus,
};
use k8s_openapi::jiff::Timestamp;

use super::cause::plain;
use super::events::{Told, pull_error, told};
use super::{CONTAINER, Failure, PodCause};
use crate::executor::Exit;

/// How much longer than its grace period the deletion of a pod that has not started may take, if its node answers.
const DELETION_SLACK: Duration = Duration::from_secs(20);

/// The state of a run's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Its container has not started.
    Pending(Waiting),
    /// Its container is running, as far as is known.
    Running {
        /// A note for people: its node does not answer.
        note: Option<String>,
    },
    /// Its container has ended, or nothing more will be heard of it.
    Ended {
        /// How the command ended; empty if unknown.
        exit: Exit,
        /// What happened to the pod, if it is more than the command's own end.
        failure: Option<Failure>,
    },
}

/// A pod that has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What it waits for, for people.
    pub note: String,
    /// Since when, by the cluster's clock.
    pub since: Option<Timestamp>,
    /// How the run fails if this goes on for too long.
    pub hopeless: Hopeless,
}

/// How a pod that does not start will fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hopeless {
    /// The failure in that case.
    pub failure: Failure,
    /// How long the same cause may last without a break until then; `None`: until the run's usual time to start is
    /// over.
    pub patience: Option<Duration>,
}

/// What a pod's status and its events mean. Events may be missing (for example without the right to list them),
/// late, or about an earlier pod of that name.
pub fn observe(pod: &Pod, events: &[Event]) -> Observed {
    observe_on(pod, events, false)
}

/// The same if the node's state is known; `silent` if the cluster has lost contact with it.
pub fn observe_on(pod: &Pod, events: &[Event], silent: bool) -> Observed {
    let view = View::of(pod);
    if let Some(end) = view.container.and_then(|status| terminated(status)) {
        return view.ended(end);
    }
    match view.status.phase.as_deref() {
        Some("Failed" | "Succeeded") => return view.failed(),
        _ if view.is_running() => {}
        // Only the kubelet could finish the deletion, and nothing shows that it ever started the pod.
        _ if view.is_given_up() || (silent && view.is_deleted()) => return view.lost("it does not answer"),
        _ => return Observed::Pending(view.waiting(events, silent)),
    }
    // Only the kubelet can say how a container ended, and a silent one never will.
    if view.node_is_silent() {
        if view.is_deleted() {
            return view.lost("it does not answer");
        }
        let node = view.node_shown();
        return Observed::Running {
            note: Some(format!("{node} does not answer; the build may still be running")),
        };
    }
    Observed::Running { note: None }
}

/// What happened to a pod that was gone before its container was seen to end.
pub fn gone(pod: &Pod) -> Failure {
    let view = View::of(pod);
    view.of_pod().unwrap_or_else(|| view.failure(PodCause::Deleted, ""))
}

/// The last lines of a failed container, from its pod's status, in case its log cannot be read.
pub fn last_words(pod: &Pod) -> Option<&str> {
    let end = View::of(pod).container.and_then(terminated)?;
    let is_own_end = end.reason.as_deref() == Some("Error");
    end.message.as_deref().filter(|message| is_own_end && !message.is_empty())
}

/// Whether its main container has ever run, according to its status: only then is there a log.
pub fn has_started(pod: &Pod) -> bool {
    let is_up = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    View::of(pod)
        .container
        .is_some_and(|status| [&status.state, &status.last_state].into_iter().flatten().any(is_up))
}

/// A pod, with the parts of it that are used most.
struct View<'a> {
    pod: &'a Pod,
    status: &'a PodStatus,
    node: Option<&'a str>,
    container: Option<&'a ContainerStatus>,
}

static NO_STATUS: std::sync::LazyLock<PodStatus> = std::sync::LazyLock::new(PodStatus::default);

impl<'a> View<'a> {
    fn of(pod: &'a Pod) -> Self {
        let status = pod.status.as_ref().unwrap_or(&NO_STATUS);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let container = containers.iter().find(|status| status.name == CONTAINER);
        Self { pod, status, node, container }
    }

    fn failure(&self, cause: PodCause, detail: &str) -> Failure {
        cause.failure(self.node, detail)
    }

    fn condition(&self, kind: &str) -> Option<&'a PodCondition> {
        self.status.conditions.as_deref().unwrap_or_default().iter().find(|found| found.type_ == kind)
    }

    fn node_shown(&self) -> String {
        self.node.map_or_else(|| "its node".to_owned(), |node| format!("node {node}"))
    }

    fn is_running(&self) -> bool {
        self.state().is_some_and(|state| state.running.is_some())
    }

    fn state(&self) -> Option<&'a ContainerState> {
        self.container.and_then(|status| status.state.as_ref())
    }

    fn waits_for(&self) -> Option<&'a ContainerStateWaiting> {
        self.state().and_then(|state| state.waiting.as_ref())
    }

    fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether the control plane gave the pod up because of its node's taint before any kubelet had accepted it:
    /// the node was already lost when the pod was scheduled.
    fn is_given_up(&self) -> bool {
        let by_taint = |found: &PodCondition| {
            found.status == "True" && found.reason.as_deref() == Some("DeletionByTaintManager")
        };
        let untaken = self.status.start_time.is_none() && self.container.is_none();
        self.is_deleted() && untaken && self.condition("DisruptionTarget").is_some_and(by_taint)
    }

    /// Whether the node controller marked the pod as not ready although its containers were last reported as
    /// ready: the kubelet is silent.
    fn node_is_silent(&self) -> bool {
        let is = |kind: &str, value: &str| self.condition(kind).is_some_and(|found| found.status == value);
        is("Ready", "False") && is("ContainersReady", "True")
    }

    fn lost(&self, detail: &str) -> Observed {
        Observed::Ended { exit: Exit::default(), failure: Some(self.failure(PodCause::NodeLost, detail)) }
    }

    /// The command has ended.
    fn ended(&self, end: &ContainerStateTerminated) -> Observed {
        let exit = Exit { code: Some(end.exit_code), signal: end.signal, stopped: None };
        if end.exit_code == 0 {
            return Observed::Ended { exit, failure: None };
        }
        let failure = self.of_pod().or_else(|| self.of_container(end)).or_else(|| self.of_deletion());
        // If the node was lost, the exit code is made up.
        let is_lost = failure.as_ref().is_some_and(|failure| failure.cause == PodCause::NodeLost);
        Observed::Ended { exit: if is_lost { Exit::default() } else { exit }, failure }
    }

    /// The pod has ended without a status of its main container.
    fn failed(&self) -> Observed {
        if self.status.phase.as_deref() == Some("Succeeded") {
            return Observed::Ended { exit: Exit { code: Some(0), ..Exit::default() }, failure: None };
        }
        // The pod garbage collector fails pods whose kubelet never reported their end.
        let lost = || self.is_running().then(|| self.failure(PodCause::NodeLost, ""));
        let failure = self.of_pod().or_else(|| self.of_init()).or_else(lost).or_else(|| self.of_deletion());
        let failure = failure.unwrap_or_else(|| {
            let words = [self.status.reason.as_deref(), self.status.message.as_deref()];
            self.failure(PodCause::Unexplained, &words.into_iter().flatten().collect::<Vec<_>>().join(": "))
        });
        Observed::Ended { exit: Exit::default(), failure: Some(failure) }
    }

    fn of_container(&self, end: &ContainerStateTerminated) -> Option<Failure> {
        let message = end.message.as_deref().unwrap_or_default();
        let (cause, detail) = match end.reason.as_deref()? {
            "OOMKilled" => match self.memory_limit() {
                Some(limit) => (PodCause::OwnMemory, limit),
                None => (PodCause::NodeMemory, ""),
            },
            "StartError" | "ContainerCannotRun" => (PodCause::CannotStart, message),
            "ContainerStatusUnknown" => (PodCause::NodeLost, message),
            _ => return None,
        };
        Some(self.failure(cause, detail))
    }

    fn of_deletion(&self) -> Option<Failure> {
        self.pod.metadata.deletion_timestamp.as_ref().map(|_| self.failure(PodCause::Deleted, ""))
    }

    /// What the pod's own reason and conditions say.
    fn of_pod(&self) -> Option<Failure> {
        let reason = self.status.reason.as_deref().unwrap_or_default();
        let message = self.status.message.as_deref().unwrap_or_default();
        let (cause, detail) = match reason {
            "Evicted" if is_own_limit(message) => (PodCause::OwnDisk, message),
            "Evicted" => (PodCause::NodePressure, message),
            "DeadlineExceeded" => {
                let waits = self.waits_for().and_then(|waiting| waiting.message.as_deref());
                (PodCause::Deadline, waits.unwrap_or(message))
            }
            "NodeLost" => (PodCause::NodeLost, message),
            "Terminated" | "NodeShutdown" | "Shutdown" => (PodCause::NodeShutdown, message),
            "Preempting" => (PodCause::Preempted, message),
            _ if is_rejection(reason) => {
                return Some(self.failure(PodCause::Rejected, &format!("{reason}: {message}")));
            }
            _ => return self.disruption(),
        };
        Some(self.failure(cause, detail))
    }

    fn disruption(&self) -> Option<Failure> {
        let found = self.condition("DisruptionTarget").filter(|found| found.status == "True")?;
        let cause = match found.reason.as_deref().unwrap_or_default() {
            "PreemptionByScheduler" => PodCause::Preempted,
            "DeletionByPodGC" => PodCause::NodeLost,
            "DeletionByTaintManager" if self.node_is_silent() => PodCause::NodeLost,
            "DeletionByTaintManager" => PodCause::Tainted,
            "TerminationByKubelet" => PodCause::NodeShutdown,
            _ => PodCause::Drained,
        };
        Some(self.failure(cause, found.message.as_deref().unwrap_or_default()))
    }

    fn of_init(&self) -> Option<Failure> {
        let inits = self.status.init_container_statuses.as_deref().unwrap_or_default();
        let (name, end) = inits.iter().find_map(|status| {
            let end = terminated(status).filter(|end| end.exit_code != 0)?;
            Some((&status.name, end))
        })?;
        let words = [end.reason.as_deref(), end.message.as_deref()];
        let words = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
        let detail = format!("{name} ended with exit code {} ({words})", end.exit_code);
        Some(self.failure(PodCause::InitFailed, &detail))
    }

    /// The memory limit that the container or its whole pod was given, not the node's, which the status also
    /// shows.
    fn memory_limit(&self) -> Option<&'a str> {
        let spec = self.pod.spec.as_ref()?;
        let container = spec.containers.iter().find(|container| container.name == CONTAINER)?;
        let limits = [container.resources.as_ref(), spec.resources.as_ref()];
        let limits = limits.into_iter().flatten().filter_map(|resources| resources.limits.as_ref());
        limits.filter_map(|limits| limits.get("memory")).map(|limit| limit.0.as_str()).next()
    }

    fn waiting(&self, events: &[Event], silent: bool) -> Waiting {
        let scheduled = self.condition("PodScheduled");
        let since = scheduled.and_then(|found| found.last_transition_time.as_ref());
        let since = since.or(self.pod.metadata.creation_timestamp.as_ref()).map(|time| time.0);
        if let Some(grace) = self.pod.metadata.deletion_timestamp.as_ref().map(|_| self.grace()) {
            let note = "its pod is being deleted".to_owned();
            let failure = self.of_pod().unwrap_or_else(|| self.failure(PodCause::Deleted, ""));
            let patience = Some(grace + DELETION_SLACK);
            return Waiting { note, since, hopeless: Hopeless { failure, patience } };
        }
        let (note, cause, detail) = if let Some(refused) = scheduled.filter(|found| found.status == "False") {
            let detail = scheduler_words(refused.message.as_deref().unwrap_or_default());
            (format!("waiting for a node: {detail}"), PodCause::Unschedulable, detail)
        } else if self.node.is_none() {
            pending("waiting for the scheduler".to_owned())
        } else if silent {
            pending(format!("{} does not answer", self.node_shown()))
        } else {
            self.waiting_on_node(events)
        };
        let failure = cause.failure(self.node, &detail);
        Waiting { note, since, hopeless: Hopeless { failure, patience: cause.patience() } }
    }

    /// The grace period that the kubelet gives it.
    fn grace(&self) -> Duration {
        let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// The note for people, the cause, and the detail.
    fn waiting_on_node(&self, events: &[Event]) -> (String, PodCause, String) {
        let node = self.node_shown();
        let waits = self.waits_for();
        let reason = waits.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let message = plain(waits.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default());
        let cause = match reason {
            "ErrImageNeverPull" => PodCause::ImageAbsent,
            "ErrImagePull"
            | "ImagePullBackOff"
            | "RegistryUnavailable"
            | "ImageInspectError"
            | "SignatureValidationFailed" => PodCause::ImagePull,
            "InvalidImageName" => PodCause::ImageName,
            "CreateContainerConfigError" if message.contains("not found") => PodCause::MissingObject,
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                PodCause::CannotCreate
            }
            _ => match told(self.pod, events) {
                Some(Told::Failed(cause, detail)) => return (format!("{node}: {detail}"), cause, detail),
                Some(Told::Pulling(image)) => {
                    return pending(format!("{node} is pulling the build image {image}"));
                }
                None if reason == "PodInitializing" => {
                    return pending(format!("its init containers are running on {node}"));
                }
                None => return pending(format!("being set up on {node}")),
            },
        };
        // Some releases of Kubernetes say only in the events why the last pull failed.
        let says_why = !message.ends_with('"');
        let error = if says_why { None } else { pull_error(self.pod, events) };
        let detail = error.unwrap_or(if message.is_empty() { reason.to_owned() } else { message });
        (format!("{node}: {detail}"), cause, detail)
    }
}

/// A pod with which nothing is wrong so far.
fn pending(note: String) -> (String, PodCause, String) {
    (note.clone(), PodCause::Pending, note)
}

/// Whether this is a reason by which a kubelet rejects a pod.
fn is_rejection(reason: &str) -> bool {
    let words = ["NodeAffinity", "NodeName", "NodePorts", "UnexpectedAdmissionError"];
    words.contains(&reason) || reason.starts_with("OutOf")
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref().and_then(|state| state.terminated.as_ref())
}

/// Whether an eviction was due to the pod's own limit, not to a shortage on the node.
fn is_own_limit(message: &str) -> bool {
    message.contains("exceeds the") || message.contains("exceeded its")
}

/// The scheduler's message, without what it says about preemption.
fn scheduler_words(message: &str) -> String {
    let end =
        [" preemption:", " no new claims to deallocate"].iter().filter_map(|words| message.find(words)).min();
    plain(&message[..end.unwrap_or(message.len())])
}

#[cfg(test)]
#[path = "tests/observe.rs"]
mod tests;

#[cfg(test)]
#[path = "tests/transcripts.rs"]
mod transcripts;
