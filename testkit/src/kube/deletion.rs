//! Deletes objects.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::kubelet::Order;
use super::object::{Key, Object, is_terminating, list, seconds, text};
use super::shared::Shared;

/// Deletes an object as `DELETE` does, and returns the object for the response. A running pod is asked to exit
/// first.
pub(super) fn delete(shared: &Shared, key: &Key, grace: Option<u64>) -> Option<Object> {
    let object = shared.store().get(key)?;
    if key.resource != "pods" {
        let held = !list(&object, "/metadata/finalizers").is_empty();
        return if held { mark(shared, key, 0) } else { shared.store().remove(key) };
    }
    let uid = text(&object, "/metadata/uid");
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(30);
    let runs = !text(&object, "/spec/nodeName").is_empty()
        && !matches!(text(&object, "/status/phase"), "Succeeded" | "Failed");
    let grace = if runs { grace.unwrap_or(own) } else { 0 };
    if grace == 0 {
        let marked = mark(shared, key, 0);
        let last = remove_unheld(shared, key).or(marked);
        shared.order(uid, Order::Vanish);
        return last;
    }
    if is_terminating(&object) && object["metadata"]["deletionGracePeriodSeconds"].as_u64() <= Some(grace) {
        return Some(object);
    }
    let marked = mark(shared, key, grace);
    shared.order(uid, Order::Delete(Duration::from_secs(grace)));
    marked
}

/// Removes a pod whose processes are gone.
pub(super) fn finish(shared: &Shared, key: &Key, uid: &str) {
    if shared.store().get_same(key, uid).is_some() {
        mark(shared, key, 0);
        remove_unheld(shared, key);
    }
}

/// Removes an object that is being deleted, once it has no finalizers.
pub(super) fn remove_unheld(shared: &Shared, key: &Key) -> Option<Object> {
    let mut store = shared.store();
    let object = store.get(key)?;
    let over = object["metadata"]["deletionGracePeriodSeconds"].as_u64() == Some(0);
    if is_terminating(&object) && over && list(&object, "/metadata/finalizers").is_empty() {
        return store.remove(key);
    }
    None
}

fn mark(shared: &Shared, key: &Key, grace: u64) -> Option<Object> {
    shared.store().update(key, |object| mark_at(object, grace))
}

fn mark_at(object: &mut Value, grace: u64) {
    let again = is_terminating(object);
    let metadata = &mut object["metadata"];
    let due = Timestamp::now() + SignedDuration::from_secs(i64::try_from(grace).unwrap_or_default());
    metadata["deletionTimestamp"] = json!(seconds(due));
    metadata["deletionGracePeriodSeconds"] = json!(grace);
    if !again && let Some(generation) = metadata["generation"].as_u64() {
        metadata["generation"] = json!(generation + 1);
    }
}

/// The response to a deletion in a dry run.
pub(super) fn preview(object: &Value, grace: Option<u64>) -> Value {
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0);
    let mut preview = object.clone();
    mark_at(&mut preview, grace.unwrap_or(own));
    preview
}
