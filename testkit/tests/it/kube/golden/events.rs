//! Events of watches: what is told, in which order, and in which shape.

use serde_json::{Value, json};

use super::shape::{differences, normal};

/// A step of a pod's life, as a watch tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// What is compared between the real and the fake server, in order.
    pub(super) what: String,
    event: Value,
}

/// The steps of a transcript's stream.
pub(super) fn real(stream: &[Value]) -> Vec<Step> {
    steps(stream.iter().map(|one| one["event"].clone()).filter(|event| !event.is_null()))
}

/// The steps of what the fake sent.
pub(super) fn fake(text: &str) -> Vec<Step> {
    steps(text.lines().filter_map(|line| serde_json::from_str(line).ok()))
}

/// Each step once: a real kubelet writes some twice, and adjusts memory limits in between.
fn steps(events: impl Iterator<Item = Value>) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    for event in events {
        let what = describe(&event);
        if !steps.iter().rev().take(8).any(|step| step.what == what) {
            steps.push(Step { what, event });
        }
    }
    steps
}

fn describe(event: &Value) -> String {
    let object = &event["object"];
    if object["kind"] == "Status" || event["type"] == "BOOKMARK" {
        return format!("{} {}", event["type"], normal(object));
    }
    let status = &object["status"];
    let mut conditions = list(&status["conditions"])
        .iter()
        .map(|one| format!("{}={}:{}", text(&one["type"]), text(&one["status"]), text(&one["reason"])))
        .collect::<Vec<_>>();
    conditions.sort();
    let containers = list(&status["containerStatuses"])
        .iter()
        .map(|one| {
            let state = one["state"].as_object().and_then(|state| state.iter().next());
            let (kind, inner) = state.map_or(("none", &Value::Null), |(kind, inner)| (kind.as_str(), inner));
            format!("{} {kind} {} {}", text(&one["name"]), text(&inner["reason"]), inner["exitCode"])
        })
        .collect::<Vec<_>>();
    let metadata = &object["metadata"];
    format!(
        "{} {} {} grace={} generation={} labels={} {conditions:?} {containers:?}",
        text(&event["type"]),
        text(&metadata["name"]),
        text(&status["phase"]),
        metadata["deletionGracePeriodSeconds"],
        metadata["generation"],
        metadata["labels"],
    )
}

/// Where the fake's steps differ from the real ones: in their order, or in the shape of an object.
pub(super) fn compare(real: &[Step], fake: &[Step]) -> Vec<String> {
    let names = |steps: &[Step]| steps.iter().map(|step| step.what.clone()).collect::<Vec<_>>();
    let (one, other) = (names(real), names(fake));
    if one != other {
        return vec![format!(
            "steps: real\n      {}\n    fake\n      {}",
            one.join("\n      "),
            other.join("\n      ")
        )];
    }
    real.iter().zip(fake).flat_map(|(real, fake)| shapes(&real.event, &fake.event)).collect()
}

fn shapes(real: &Value, fake: &Value) -> Vec<String> {
    let (mut real, mut fake) = (normal(real), normal(fake));
    for event in [&mut real, &mut fake] {
        // Their order differs from write to write in a real cluster.
        if let Some(conditions) = event.pointer_mut("/object/status/conditions").and_then(Value::as_array_mut)
        {
            conditions.sort_by_key(|one| text(&one["type"]).to_owned());
        }
        // A script may say more here, so that a test knows how far it is.
        if let Some(command) = event.pointer_mut("/object/spec/containers/0/command/2") {
            *command = json!("<script>");
        }
        if event.pointer("/object/status/resources").is_some() {
            event["object"]["status"]["resources"] = json!({});
        }
    }
    differences(&real, &fake)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
