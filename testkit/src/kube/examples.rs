//! Nodes and pods for tests that need no cluster.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

/// A node with 8 CPUs, 32 GiB and this much disk, with `change` merged into it.
///
/// # Panics
/// The result is not a node.
pub fn node(name: &str, disk: &str, change: &Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": {
            "allocatable": { "cpu": "8", "memory": "32Gi", "ephemeral-storage": disk },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    merge(&mut node, change);
    serde_json::from_value(node).unwrap_or_else(|error| panic!("no such object: {error}"))
}

/// A build pod with this spec in addition to its container.
///
/// # Panics
/// The spec is invalid.
pub fn pod(change: &Value) -> Pod {
    let mut spec = json!({ "containers": [{ "name": "builder" }] });
    merge(&mut spec, change);
    serde_json::from_value(json!({ "metadata": { "name": "build-x" }, "spec": spec }))
        .unwrap_or_else(|error| panic!("no such object: {error}"))
}

/// The change that taints a node.
pub fn tainted(key: &str, value: &str, effect: &str) -> Value {
    json!({ "spec": { "taints": [{ "key": key, "value": value, "effect": effect }] } })
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
