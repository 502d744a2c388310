//! What the document of the API says of all operations alike: the problems that each can answer with,
//! and what common parameters may be.

use fairlane_common::limits;
use serde_json::{Map, Value, json};

use crate::problem::{self, Kind};

/// Problems that any operation under `/v1` can answer with.
const EVERYWHERE: &[Kind] = &[
    problem::BAD_PARAMETER,
    problem::NOT_SIGNED_IN,
    problem::FORBIDDEN,
    problem::TOO_MANY_REQUESTS_OF_TOKEN,
    problem::TOO_MANY_REQUESTS_FROM_HERE,
    problem::TOO_MANY_FROM_HERE,
    problem::HEAD_TOO_LARGE,
    problem::INTERNAL,
    problem::REDIS_AWAY,
    problem::WRONG_SCHEMA,
    problem::TOO_MANY_CONNECTIONS,
];
/// Problems of operations with a body.
const WITH_BODY: &[Kind] = &[
    problem::MALFORMED_JSON,
    problem::TOO_SLOW,
    problem::TOO_LARGE,
    problem::WRONG_CONTENT_TYPE,
    problem::INVALID_FIELD,
];
/// Problems of operations with parameters of their own.
const BY_OPERATION: &[(&str, &[Kind])] = &[
    (
        "ask_for_build",
        &[
            problem::BANNED,
            problem::CONFLICT,
            problem::ARGUMENT_NOT_ALLOWED,
            problem::NO_SEAL_KEY,
            problem::FULL,
            problem::MEMORY,
            problem::REFILLING,
        ],
    ),
    ("show_build", &[problem::UNKNOWN_BUILD, problem::REFILLING]),
    ("cancel_build", &[problem::UNKNOWN_BUILD, problem::REFILLING]),
    (
        "follow_build",
        &[problem::BAD_CURSOR, problem::UNKNOWN_BUILD, problem::TOO_MANY_STREAMS, problem::REFILLING],
    ),
    ("set_watchers", &[problem::UNKNOWN_BUILD, problem::UNKNOWN_SUBSCRIBER, problem::OTHER_DISPATCHER]),
    ("read_log", &[problem::UNKNOWN_BUILD, problem::TOO_MANY_STREAMS, problem::REFILLING]),
    ("list_builds", &[problem::BAD_CURSOR]),
    ("list_lanes", &[problem::BAD_CURSOR]),
    ("list_acts", &[problem::BAD_CURSOR]),
    ("list_changes", &[problem::BAD_CURSOR]),
    ("show_lane", &[problem::UNKNOWN_LANE]),
    ("delete_rule", &[problem::UNKNOWN_RULE]),
    ("drain_worker", &[problem::UNKNOWN_WORKER]),
    ("clear_node", &[problem::UNKNOWN_NODE]),
];

/// Adds to each operation what it has in common with others.
pub(super) fn complete(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if path.starts_with("/v1/") {
                add_problems(operation);
            }
            for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
                describe(parameter);
            }
        }
    }
}

fn add_problems(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let own = BY_OPERATION.iter().find(|(name, _)| *name == id).map_or(&[][..], |(_, kinds)| kinds);
    let with_body = if operation.get("requestBody").is_some() { WITH_BODY } else { &[] };
    let kinds: Vec<Kind> = [EVERYWHERE, with_body, own].concat();
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for kind in &kinds {
        let status = kind.status();
        let of_status = kinds.iter().filter(|other| other.status() == status);
        let types: Vec<String> = of_status.map(|kind| kind.urn()).collect();
        let meanings: Vec<&str> =
            kinds.iter().filter(|other| other.status() == status).map(|kind| kind.summary().1).collect();
        let mut response = json!({
            "description": meanings.join("; "),
            "content": { "application/problem+json": { "schema": { "allOf": [
                { "$ref": "#/components/schemas/Problem" },
                { "properties": { "type": { "type": "string", "enum": types } } },
            ] } } },
        });
        if matches!(status, 429 | 503) {
            response["headers"] = json!({ "Retry-After": {
                "description": "after how many seconds to try again, where that is known",
                "schema": { "type": "integer", "minimum": 0 },
            } });
        }
        responses.insert(status.to_string(), response);
    }
}

/// Says of a parameter that many operations have what it may be.
fn describe(parameter: &mut Value) {
    let cursor = json!({ "type": "string", "minLength": 1, "maxLength": 100 });
    let schema = match (parameter["name"].as_str(), parameter["in"].as_str()) {
        (Some("limit"), _) => {
            json!({ "type": "integer", "minimum": 1, "maximum": limits::PAGE, "default": limits::PAGE })
        }
        (Some("state"), _) => json!({ "$ref": "#/components/schemas/BuildState" }),
        (Some("cursor" | "last_event_id"), _) => cursor,
        (Some("build"), _) => json!({ "type": "string", "format": "uuid" }),
        (Some("since"), _) => json!({ "type": "string", "examples": ["10m", "1d", "1795000000000"] }),
        (Some("pattern" | "lane"), _) => {
            json!({ "type": "string", "minLength": 1, "maxLength": limits::REPO_BYTES_MAX })
        }
        (Some("id"), Some("path")) if parameter["description"] == "the build's id" => {
            json!({ "type": "string", "format": "uuid" })
        }
        (Some("reason"), _) => json!({ "type": "string", "maxLength": 500 }),
        _ => return,
    };
    parameter["schema"] = schema;
}
