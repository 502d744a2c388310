//! What a pod's events say that its status does not.

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;

use super::PodCause;
use super::cause::plain;

/// Prefix of the message of combined events.
const COMBINED: &str = "(combined from similar events): ";

/// What the latest events say about a pod that has not started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something keeps failing.
    Failed(PodCause, String),
    /// This image is being pulled.
    Pulling(String),
}

/// The latest reason why a pod does not start.
pub(super) fn told(pod: &Pod, events: &[Event]) -> Option<Told> {
    let mut found: Option<Told> = None;
    for event in about(pod, events) {
        let message = event.message.as_deref().unwrap_or_default();
        let message = plain(message.strip_prefix(COMBINED).unwrap_or(message));
        match event.reason.as_deref().unwrap_or_default() {
            // These events mean that whatever failed before has succeeded.
            "Pulled" | "Created" | "Started" => found = None,
            "Pulling" => found = Some(Told::Pulling(quoted(&message).to_owned())),
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => {
                let cause = mount_cause(&message);
                // From time to time the kubelet sends a summary that names no cause.
                let sums_up = cause == PodCause::MountFailed && matches!(found, Some(Told::Failed(..)));
                if !sums_up {
                    found = Some(Told::Failed(cause, message));
                }
            }
            "FailedCreatePodSandBox" | "FailedCreatePodContainer" => {
                found = Some(Told::Failed(PodCause::NoSandbox, message));
            }
            _ => {}
        }
    }
    found
}

/// Why the image could not be pulled the last time.
pub(super) fn pull_error(pod: &Pod, events: &[Event]) -> Option<String> {
    let messages = about(pod, events).into_iter().rev().filter_map(|event| event.message.as_deref());
    messages.filter_map(|message| message.strip_prefix("Failed to pull image \"")).find_map(|message| {
        let (_, error) = message.split_once("\": ")?;
        Some(plain(error))
    })
}

/// The events about this pod, not about an earlier one of its name; the oldest first.
fn about<'a>(pod: &Pod, events: &'a [Event]) -> Vec<&'a Event> {
    let uid = pod.metadata.uid.as_deref();
    let is_about = |event: &&Event| {
        let of = event.involved_object.uid.as_deref();
        of.is_none() || uid.is_none() || of == uid
    };
    let mut events: Vec<&Event> = events.iter().filter(is_about).collect();
    events.sort_by_key(|event| time_of(event));
    events
}

fn mount_cause(message: &str) -> PodCause {
    if message.contains("hostPath type check failed") {
        PodCause::NoSocket
    } else if message.contains("not found") && (message.contains("secret") || message.contains("configmap")) {
        PodCause::MissingObject
    } else {
        PodCause::MountFailed
    }
}

/// When an event was last seen. Those without a time come first.
fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = series.or(event.event_time.as_ref()).map(|time| time.0);
    let legacy = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).map(|time| time.0);
    legacy.or(last)
}

fn quoted(message: &str) -> &str {
    message.split('"').nth(1).unwrap_or_default()
}
