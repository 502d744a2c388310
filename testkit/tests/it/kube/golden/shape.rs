//! What must be equal of two answers: everything but names the server gives and times.

use serde_json::{Map, Value, json};

/// Fields whose values differ from run to run.
const TIMES: [&str; 12] = [
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "firstTimestamp",
    "lastTimestamp",
    "eventTime",
    "time",
    "lastHeartbeatTime",
    "timeAdded",
];
const GIVEN: [&str; 9] = [
    "uid",
    "resourceVersion",
    "containerID",
    "podIP",
    "hostIP",
    "ip",
    "continue",
    "reportingInstance",
    "imageID",
];
/// Fields that a fake need not have: who manages which field, the user of a container, what the kernel was told.
const LEFT_OUT: [&str; 3] = ["managedFields", "user", "allocatedResources"];
/// The memory limit that a real kubelet reports now and then where there is none.
const NO_LIMIT: &str = "9007199254740988Ki";

/// The value with everything made equal that may differ.
pub(super) fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(normal_object(fields)),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn normal_object(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut normalized = Map::new();
    for (name, value) in fields {
        let name_of_field = name.as_str();
        if LEFT_OUT.contains(&name_of_field) {
            continue;
        }
        let given = GIVEN.contains(&name_of_field) && value.as_str().is_some_and(|text| !text.is_empty());
        let value = match value {
            Value::String(text) if TIMES.contains(&name_of_field) && !text.starts_with("1970") => {
                json!("<time>")
            }
            _ if given => json!(format!("<{name}>")),
            Value::String(text) if matches!(name_of_field, "message" | "reason") => json!(blurred(text)),
            other if name_of_field == "resources" && other.to_string().contains(NO_LIMIT) => json!({}),
            other => normal(other),
        };
        normalized.insert(name.clone(), value);
    }
    if normalized.contains_key("involvedObject")
        && let Some(metadata) = normalized.get_mut("metadata")
    {
        metadata["name"] = json!("<event>");
    }
    if let Some(labels) =
        normalized.get_mut("metadata").filter(|metadata| metadata.get("generateName").is_some())
    {
        labels["name"] = json!("<generated>");
    }
    normalized
}

/// A sentence without uids and long numbers.
pub(super) fn blurred(text: &str) -> String {
    let mut blurred = String::new();
    for word in split_words(text) {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        if is_uid(word) {
            blurred.push_str("<uid>");
        } else if digits == word.len() && digits >= 3 {
            blurred.push('#');
        } else {
            blurred.push_str(word);
        }
    }
    blurred
}

/// The uids in a text, in order.
pub(super) fn uids(text: &str) -> Vec<String> {
    split_words(text).into_iter().filter(|word| is_uid(word)).map(str::to_owned).collect()
}

fn is_uid(word: &str) -> bool {
    word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

fn split_words(text: &str) -> Vec<&str> {
    let inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if inside(first) {
            rest.find(|letter| !inside(letter)).unwrap_or(rest.len())
        } else {
            rest.find(inside).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(end);
        words.push(word);
        rest = tail;
    }
    words
}

/// Where two normalized values differ.
pub(super) fn differences(real: &Value, fake: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", real, fake, &mut found);
    found
}

fn compare(path: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    match (real, fake) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names = one.keys().chain(other.keys()).collect::<Vec<_>>();
            names.sort();
            names.dedup();
            for name in names {
                let path = format!("{path}/{name}");
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => compare(&path, one, other, found),
                    (Some(one), None) => found.push(format!("{path}: real {one}, fake has none")),
                    (None, Some(other)) => found.push(format!("{path}: real has none, fake {other}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}/{index}"), one, other, found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{path}: real {one}, fake {other}")),
    }
}

#[test]
fn a_difference_is_found_and_what_may_differ_is_none() {
    let real = json!({ "metadata": { "uid": "a", "name": "x" }, "message": "rv 1234 of x", "code": 409 });
    let same = json!({ "metadata": { "uid": "b", "name": "x" }, "message": "rv 999 of x", "code": 409 });
    assert_eq!(differences(&normal(&real), &normal(&same)), Vec::<String>::new());
    let other = json!({ "metadata": { "name": "x" }, "message": "rv 1234 of y", "code": 422 });
    let found = differences(&normal(&real), &normal(&other));
    assert_eq!(found.len(), 3, "{found:?}");
}
