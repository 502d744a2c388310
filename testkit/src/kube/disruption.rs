//! Pods that are deleted by someone other than their owner.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::deletion;
use super::object::{Key, list, seconds, text};
use super::shared::Shared;

/// The reason that the eviction API sets.
pub(super) const EVICTED: &str = "EvictionByEvictionAPI";

/// Marks a pod with the reason, then deletes it with its own grace.
pub(super) fn delete(shared: &Shared, key: &Key, reason: &str, message: &str) {
    mark(shared, key, reason, message);
    deletion::delete(shared, key, None);
}

/// Sets the condition `DisruptionTarget` of a stored pod.
fn mark(shared: &Shared, key: &Key, reason: &str, message: &str) {
    shared.store().update(key, |pod| set_condition(pod, reason, message));
}

/// Sets the condition `DisruptionTarget`.
pub(super) fn set_condition(pod: &mut Value, reason: &str, message: &str) {
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": seconds(Timestamp::now()),
    });
    // Only the eviction API leaves it out.
    if reason != EVICTED {
        condition["observedGeneration"] = pod["metadata"]["generation"].clone();
    }
    let mut conditions = list(pod, "/status/conditions").to_vec();
    conditions.retain(|one| one["type"] != "DisruptionTarget");
    conditions.push(condition);
    pod["status"]["conditions"] = Value::Array(conditions);
}

/// The name of the disruption budget that protects a pod.
pub(super) fn budget_of(shared: &Shared, namespace: &str, pod: &Value) -> Option<String> {
    let budgets = shared.store().list("poddisruptionbudgets", Some(namespace));
    budgets.iter().find_map(|budget| {
        let wanted = budget.pointer("/spec/selector/matchLabels")?.as_object()?;
        let holds = wanted.iter().all(|(key, value)| pod["metadata"]["labels"].get(key) == Some(value));
        holds.then(|| text(budget, "/metadata/name").to_owned())
    })
}
