//! Helm's own engine, which renders the chart for these tests.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{objects_in, read, root};
use crate::commands::import_binderhub::merge;

/// Objects in the order in which a cluster needs them; others come after these.
const ORDER: [&str; 9] = [
    "Namespace",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Service",
];

/// What became of a case: see `xtask/src/helm.py`.
#[derive(Debug, Deserialize)]
pub(super) struct Rendered {
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) lint: Vec<String>,
}

impl Rendered {
    /// The templates' texts, without the notes.
    fn manifests(&self) -> impl Iterator<Item = &str> {
        let manifests = self.files.iter().filter(|(name, _)| *name != "NOTES.txt");
        manifests.map(|(_, text)| text.as_str())
    }

    pub(super) fn objects(&self) -> Vec<Value> {
        assert_eq!(self.error, "");
        self.manifests().flat_map(objects_in).collect()
    }

    pub(super) fn object(&self, kind: &str, name: &str) -> Value {
        let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects().into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The objects as one file, without the pod of `helm test`.
    pub(super) fn text(&self) -> String {
        let parts = self.manifests().flat_map(|text| text.split("\n---\n"));
        let parts =
            parts.map(|part| part.trim().trim_start_matches("---\n")).filter(|part| part.contains("kind: "));
        let mut parts: Vec<&str> = parts.filter(|part| !part.contains("helm.sh/hook")).collect();
        let kind = |part: &str| part.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap().to_owned();
        parts.sort_by_key(|part| ORDER.iter().position(|one| *one == kind(part)).unwrap_or(ORDER.len()));
        parts.join("\n---\n")
    }
}

/// Renders these cases; nothing where Helm's engine is not installed, as `cargo xtask test` does.
pub(super) fn render(cases: &[Value]) -> Option<Vec<Rendered>> {
    let python = root().join("target/helm/bin/python");
    if !python.is_file() {
        println!("SKIPPED: `cargo xtask test` installs Helm's engine");
        return None;
    }
    let mut script = Command::new(python);
    script.arg(root().join("xtask/src/helm.py")).arg(root().join("deploy/helm/fairlane"));
    let pipes = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = pipes.spawn().unwrap();
    script.stdin.take().unwrap().write_all(&serde_json::to_vec(cases).unwrap()).unwrap();
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

pub(super) fn case(values: &Value) -> Value {
    json!({"namespace": "fairlane", "values": values, "lint": true})
}

/// The name and the values of every variant.
pub(super) fn variants() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root().join("deploy/helm/variants")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let names = files.iter().map(|file| file.trim_end_matches(".yaml"));
    names.map(|name| (name.to_owned(), variant(name))).collect()
}

pub(super) fn variant(name: &str) -> Value {
    serde_saphyr::from_str(&read(&format!("deploy/helm/variants/{name}.yaml"))).unwrap()
}

/// The least values, with these changes.
pub(super) fn minimal(changes: &Value) -> Value {
    let mut values = variant("minimal");
    merge(&mut values, changes.clone());
    values
}
