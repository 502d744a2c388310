//! What is made of the pods of a real cluster, where transcripts of one are at hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::Value;

use super::*;
use crate::kubernetes::pod::PodCause;

/// Where the transcripts are: lists of requests and answers in JSON.
fn folder() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/kube-golden");
    let folder = std::env::var_os("FAIRLANE_KUBE_TRANSCRIPTS").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Every object in an answer, lists taken apart.
fn objects(answer: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut take = |value: &Value| match value["kind"].as_str() {
        Some(kind @ ("PodList" | "EventList")) => {
            let items = value["items"].as_array().cloned().unwrap_or_default();
            found.extend(items.into_iter().map(|item| (kind.trim_end_matches("List").to_owned(), item)));
        }
        Some(kind @ ("Pod" | "Event")) => found.push((kind.to_owned(), value.clone())),
        _ => {}
    };
    take(&answer["body"]);
    for item in answer["stream"].as_array().into_iter().flatten() {
        take(&item["event"]["object"]);
    }
    found
}

fn summary(pod: &Pod, events: &[Event]) -> String {
    match observe(pod, events) {
        Observed::Pending(waiting) => format!("pending {}", waiting.hopeless.failure.cause.word()),
        Observed::Running { note: None } => "running".to_owned(),
        Observed::Running { note: Some(_) } => "silent".to_owned(),
        Observed::Ended { exit, failure } => {
            let code = exit.code.map_or_else(|| "?".to_owned(), |code| code.to_string());
            format!("ended {code} {}", failure.map_or("", |failure| failure.cause.word()))
                .trim_end()
                .to_owned()
        }
    }
}

/// Of each pod in a transcript what it went through, by what we make of it.
fn lives(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).unwrap().replace("\"name\":\"build\"", "\"name\":\"builder\"");
    let text = text.replace("\"name\": \"build\"", "\"name\": \"builder\"");
    let calls: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let mut pods: Vec<Pod> = Vec::new();
    for (kind, object) in calls.iter().flat_map(|call| objects(&call["response"])) {
        if kind == "Pod" {
            pods.push(serde_json::from_value(object).unwrap());
        } else {
            let event: Event = serde_json::from_value(object).unwrap();
            events.entry(event.involved_object.name.clone().unwrap_or_default()).or_default().push(event);
        }
    }
    // Answers to requests and streams are out of order; the versions of the objects are not.
    let version =
        |pod: &Pod| pod.metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    pods.sort_by_key(version);
    let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in &pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let events = events.get(&name).map_or(&[][..], Vec::as_slice);
        let life = lives.entry(name).or_default();
        let now = summary(pod, events);
        if life.last() != Some(&now) {
            life.push(now);
        }
    }
    lives.iter().fold(String::new(), |mut text, (name, life)| {
        writeln!(text, "{name}: {}", life.join(" > ")).unwrap();
        text
    })
}

#[test]
fn pods_of_a_real_cluster_are_understood() {
    let Some(folder) = folder() else {
        eprintln!("no transcripts of a real cluster here: nothing to compare with");
        return;
    };
    let mut text = String::new();
    for file in [
        "03b-watch-delete-running",
        "07-eviction",
        "12-container-failures",
        "13-evicted-by-kubelet",
        "18-kubelet-down-node-lost",
        "19-preempted",
        "21-node-lost-taint-eviction",
    ] {
        writeln!(text, "# {file}\n{}", lives(&folder.join(format!("{file}.json")))).unwrap();
    }
    insta::assert_snapshot!("pods_of_a_real_cluster", text);
    assert!(PodCause::ALL.iter().filter(|cause| text.contains(cause.word())).count() >= 10);
}
