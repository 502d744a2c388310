//! The operator's pod template: a pod in YAML that is merged into each build pod, the way Kubernetes
//! merges: by field, and lists of named things by name.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::DeepMerge as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

#[cfg(test)]
use super::CONTAINER;
use super::OURS;

/// Largest file; Kubernetes accepts pods of 1.5 MiB at most.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Fields that a template must not set, and why or what to use instead. List entries are found by name.
const OWNED: &[(&str, &str)] = &[
    ("metadata.name", "each pod is named after its build"),
    ("metadata.generateName", "each pod is named after its build"),
    ("metadata.namespace", "use --namespace"),
    ("metadata.ownerReferences", "pods outlive their worker"),
    ("metadata.labels.component", "Fairlane finds build pods by it"),
    ("metadata.labels.name", "it is the pod's own name"),
    ("metadata.annotations.binder-repo", "it is the build's repository"),
    ("spec.restartPolicy", "a build is tried again by the queue, as another pod"),
    ("spec.nodeName", "use nodeSelector or affinity: nodes that fail builds are avoided"),
    ("spec.activeDeadlineSeconds", "use --timeout"),
    ("spec.containers.builder.args", "use --command"),
    ("spec.containers.builder.env.GIT_CREDENTIAL_ENV", "it comes from the build's secrets"),
    (
        "spec.containers.builder.env.CONTAINER_ENGINE_REGISTRY_CREDENTIALS",
        "it comes from the build's secrets",
    ),
    ("status", "a template has none"),
];

/// Lists whose entries are merged by name and therefore need one. `*` stands for every entry.
const NAMED: &[&str] = &[
    "spec.containers",
    "spec.initContainers",
    "spec.volumes",
    "spec.imagePullSecrets",
    "spec.containers.*.env",
];

/// A pod that is merged into each build pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodTemplate(Box<Pod>);

impl PodTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It cannot be read, is not a pod, sets a field that belongs to Fairlane, or has fields that no pod has; the
    /// message names the field.
    pub fn read(file: &Path) -> Result<Self> {
        let read = || {
            let size = std::fs::metadata(file)?.len();
            ensure!(size <= FILE_BYTES_MAX, "it has {size} bytes: too many for a pod");
            Self::parse(&std::fs::read_to_string(file)?)
        };
        read().with_context(|| format!("the pod template {} cannot be used", file.display()))
    }

    /// Parses a template's text.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| {
            // Only the first line: later lines quote the file, which may contain secrets.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            anyhow::anyhow!("it is not YAML: {}", first.trim_start_matches("error: "))
        })?;
        let Value::Object(fields) = &value else {
            bail!("it is not a pod: it must be a mapping with `metadata` and `spec`");
        };
        for (field, expected) in [("kind", "Pod"), ("apiVersion", "v1")] {
            if let Some(found) = fields.get(field) {
                ensure!(found == expected, "it is not a pod: its {field} is {found}, not {expected}");
            }
        }
        ensure!(
            fields.contains_key("spec") || fields.contains_key("metadata"),
            "it is not a pod: it has neither `metadata` nor `spec`"
        );
        for (path, why) in OWNED {
            if let Some(place) = find(&value, path) {
                bail!("{place} is Fairlane's own: {why}");
            }
        }
        own_keys(&value)?;
        let pod: Pod = serde_path_to_error::deserialize(&value)
            .map_err(|error| anyhow::anyhow!("{}: {}", error.path(), error.inner()))?;
        differs(&value, &serde_json::to_value(&pod)?, "")?;
        for list in NAMED {
            nameless(&value, list)?;
        }
        Ok(Self(Box::new(pod)))
    }

    /// Merges it into a build pod.
    pub(super) fn merge_into(&self, pod: &mut Pod) {
        pod.merge_from((*self.0).clone());
    }
}

/// Labels and annotations that start with `fairlane/` are ours.
fn own_keys(value: &Value) -> Result<()> {
    for kind in ["labels", "annotations"] {
        let keys = value.pointer(&format!("/metadata/{kind}")).and_then(Value::as_object);
        if let Some(key) = keys.into_iter().flat_map(|keys| keys.keys()).find(|key| key.starts_with(OURS)) {
            bail!("metadata.{kind}.{key} is Fairlane's own: choose another name");
        }
    }
    Ok(())
}

/// If `path` leads to something, its place in notation for people.
fn find(value: &Value, path: &str) -> Option<String> {
    fn walk(value: &Value, steps: &[&str], place: String) -> Option<String> {
        let Some((step, rest)) = steps.split_first() else { return Some(place) };
        match value {
            Value::Object(fields) => {
                let place = if place.is_empty() { (*step).to_owned() } else { format!("{place}.{step}") };
                walk(fields.get(*step)?, rest, place)
            }
            Value::Array(entries) => entries.iter().enumerate().find_map(|(i, entry)| {
                let fits = entry.get("name").is_some_and(|name| name == step);
                if fits { walk(entry, rest, format!("{place}[{i}]")) } else { None }
            }),
            _ => None,
        }
    }
    walk(value, &path.split('.').collect::<Vec<_>>(), String::new())
}

/// Refuses a list entry without a name where one is needed.
fn nameless(value: &Value, path: &str) -> Result<()> {
    fn walk(value: &Value, steps: &[&str], place: &str) -> Result<()> {
        match (value, steps.split_first()) {
            (Value::Array(entries), None) => {
                for (i, entry) in entries.iter().enumerate() {
                    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
                    ensure!(
                        !name.is_empty(),
                        "{place}[{i}].name: it is missing; list entries are merged by name"
                    );
                }
            }
            (Value::Array(entries), Some((&"*", rest))) => {
                for (i, entry) in entries.iter().enumerate() {
                    walk(entry, rest, &format!("{place}[{i}]"))?;
                }
            }
            (Value::Object(fields), Some((step, rest))) => {
                if let Some(field) = fields.get(*step) {
                    walk(field, rest, format!("{place}.{step}").trim_start_matches('.'))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
    walk(value, &path.split('.').collect::<Vec<_>>(), "")
}

/// Compares the template with what a pod has kept of it: unknown fields are lost in the conversion.
fn differs(written: &Value, kept: &Value, place: &str) -> Result<()> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (key, value) in written {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                ensure!(
                    !value.is_null(),
                    "{place} is empty: leave it out (nothing can be deleted by a template)"
                );
                let Some(kept) = kept.get(key) else {
                    bail!("{place}: no pod has such a field (is it misspelled, or in the wrong place?)");
                };
                differs(value, kept, &place)?;
            }
        }
        (Value::Array(written), Value::Array(kept)) => {
            for (i, value) in written.iter().enumerate() {
                let Some(kept) = kept.get(i) else { bail!("{place}[{i}] is invalid") };
                differs(value, kept, &format!("{place}[{i}]"))?;
            }
        }
        (written, kept) => {
            // Quantities may be written as numbers, but are kept as strings.
            let text = written.to_string();
            let same = written == kept || kept.as_str() == Some(text.as_str());
            ensure!(same, "{place}: {written} is invalid; a pod would have {kept}");
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests/template.rs"]
mod tests;
