//! How long a pod has waited, by the cluster's clock.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::CONTAINER;

/// How long a pod took from its creation until its container ran; `None` where its status does not say.
pub(crate) fn start_delay(pod: &Pod) -> Option<Duration> {
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let state = statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = || state.terminated.as_ref().and_then(|end| end.started_at.as_ref());
    Some(between(created, running.or_else(ended)?.0))
}

/// How long a pod has been pending at that time; `None` where it is not.
pub(crate) fn pending_for(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let waits = matches!(phase, None | Some("" | "Pending")) && pod.metadata.deletion_timestamp.is_none();
    waits.then(|| Some(between(pod.metadata.creation_timestamp.as_ref()?.0, now))).flatten()
}

/// Clocks differ a little: never below zero.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        let meta = json!({ "name": "p", "creationTimestamp": "2026-11-30T10:00:00Z" });
        serde_json::from_value(json!({ "metadata": meta, "status": status })).unwrap()
    }

    #[test]
    fn from_creation_to_the_start_of_its_container() {
        let started = json!({ "startedAt": "2026-11-30T10:00:07Z" });
        for state in [
            json!({ "running": started }),
            json!({ "terminated": { "exitCode": 0, "startedAt": started["startedAt"] } }),
        ] {
            let other = json!({ "name": "sidecar", "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": {} });
            let ours = json!({ "name": CONTAINER, "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": state });
            let pod = pod(&json!({ "phase": "Running", "containerStatuses": [other, ours] }));
            assert_eq!(start_delay(&pod), Some(Duration::from_secs(7)), "{state}");
        }
        assert_eq!(start_delay(&pod(&json!({ "phase": "Pending" }))), None);
    }

    #[test]
    fn only_a_pod_that_waits_is_pending() {
        let now = "2026-11-30T10:20:00Z".parse().unwrap();
        assert_eq!(pending_for(&pod(&json!({ "phase": "Pending" })), now), Some(Duration::from_mins(20)));
        assert_eq!(pending_for(&pod(&json!({})), now), Some(Duration::from_mins(20)));
        assert_eq!(pending_for(&pod(&json!({ "phase": "Running" })), now), None);
        let mut deleted = pod(&json!({ "phase": "Pending" }));
        deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
        assert_eq!(pending_for(&deleted, now), None);
        let early = "2026-11-30T09:59:59Z".parse().unwrap();
        assert_eq!(pending_for(&pod(&json!({ "phase": "Pending" })), early), Some(Duration::ZERO));
    }
}
