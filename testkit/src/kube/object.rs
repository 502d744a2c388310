//! Objects as JSON, and reading them.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

/// One kind of object the API knows.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) resource: &'static str,
    /// Such as `Pod`.
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) namespaced: bool,
}

impl Kind {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

const fn core(resource: &'static str, name: &'static str, namespaced: bool) -> Kind {
    Kind { resource, name, group: "", version: "v1", namespaced }
}

/// Every kind that is stored.
pub(super) static KINDS: [Kind; 11] = [
    core("pods", "Pod", true),
    core("secrets", "Secret", true),
    core("events", "Event", true),
    core("configmaps", "ConfigMap", true),
    core("resourcequotas", "ResourceQuota", true),
    core("nodes", "Node", false),
    core("namespaces", "Namespace", false),
    core("serviceaccounts", "ServiceAccount", true),
    Kind {
        resource: "priorityclasses",
        name: "PriorityClass",
        group: "scheduling.k8s.io",
        version: "v1",
        namespaced: false,
    },
    Kind { resource: "daemonsets", name: "DaemonSet", group: "apps", version: "v1", namespaced: true },
    Kind {
        resource: "poddisruptionbudgets",
        name: "PodDisruptionBudget",
        group: "policy",
        version: "v1",
        namespaced: true,
    },
];

/// The kind behind a resource of a path.
pub(super) fn kind_of(group: &str, resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.resource == resource)
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) resource: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(resource: &'static str, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// An object of some resource version: never changed, only replaced.
pub(super) type Object = Arc<Value>;

/// The value at a JSON pointer without escapes; much faster than the general version.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The text at a JSON pointer; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The array at a JSON pointer; empty if there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether there is a `deletionTimestamp`.
pub(super) fn is_terminating(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// The metadata an API server gives a new object.
pub(super) fn born(object: &mut Value, namespace: Option<&str>) {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
    metadata["creationTimestamp"] = json!(seconds(Timestamp::now()));
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(metadata) = metadata.as_object_mut() {
        for owned_by_the_server in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(owned_by_the_server);
        }
    }
}

/// A time in the format of objects: whole seconds.
pub(super) fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// A time in the format of new-style events.
pub(super) fn micros(at: Timestamp) -> String {
    format!("{at:.6}")
}
