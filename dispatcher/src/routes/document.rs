//! What the API's document says about all operations: the problems that each can return, and the values of
//! common parameters.

use fairlane_common::build::BuildState;
use fairlane_common::cause::CAUSES;
use fairlane_common::limits;
use serde_json::{Value, json};

use super::history::STEPS;
use super::input::REASON_CHARS_MAX;
use super::request::NAME_BYTES_MAX;
use crate::problem::{self, Kind};

/// Problems that any operation under `/v1` can return.
const EVERYWHERE: &[Kind] = &[
    problem::BAD_PARAMETER,
    problem::NOT_SIGNED_IN,
    problem::FORBIDDEN,
    problem::TOO_MANY_REQUESTS_OF_TOKEN,
    problem::TOO_MANY_REQUESTS_FROM_HERE,
    problem::TOO_MANY_FROM_HERE,
    problem::INTERNAL,
    problem::REDIS_AWAY,
    problem::REDIS_REFUSES,
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
/// Problems that only some operations can return.
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
    ("promote_build", &[problem::UNKNOWN_BUILD, problem::ENDED_BUILD, problem::REFILLING]),
    (
        "follow_build",
        &[problem::BAD_CURSOR, problem::UNKNOWN_BUILD, problem::TOO_MANY_STREAMS, problem::REFILLING],
    ),
    ("set_watchers", &[problem::UNKNOWN_BUILD, problem::UNKNOWN_SUBSCRIBER, problem::OTHER_DISPATCHER]),
    (
        "read_log",
        &[
            problem::UNKNOWN_BUILD,
            problem::LOG_REMOVED,
            problem::ARCHIVE_AWAY,
            problem::TOO_MANY_STREAMS,
            problem::REFILLING,
        ],
    ),
    ("list_builds", &[problem::BAD_CURSOR]),
    ("list_lanes", &[problem::BAD_CURSOR]),
    ("list_workers", &[problem::BAD_CURSOR]),
    ("list_acts", &[problem::BAD_CURSOR]),
    ("list_changes", &[problem::BAD_CURSOR]),
    ("show_lane", &[problem::UNKNOWN_LANE]),
    ("delete_rule", &[problem::UNKNOWN_RULE]),
    ("drain_worker", &[problem::UNKNOWN_WORKER]),
    ("clear_node", &[problem::UNKNOWN_NODE]),
    (
        "create_campaign",
        &[problem::CAMPAIGN_EXISTS, problem::ARGUMENT_NOT_ALLOWED, problem::FULL, problem::MEMORY],
    ),
    ("show_campaign", &[problem::UNKNOWN_CAMPAIGN, problem::UNREADABLE]),
    ("change_campaign", &[problem::UNKNOWN_CAMPAIGN, problem::CAMPAIGN_ENDED]),
    ("cancel_campaign", &[problem::UNKNOWN_CAMPAIGN, problem::CAMPAIGN_ENDED]),
    ("list_campaign_items", &[problem::UNKNOWN_CAMPAIGN, problem::UNREADABLE, problem::BAD_CURSOR]),
    (
        "add_campaign_items",
        &[
            problem::UNKNOWN_CAMPAIGN,
            problem::CAMPAIGN_ENDED,
            problem::WRONG_FIRST,
            problem::ARGUMENT_NOT_ALLOWED,
            problem::MEMORY,
        ],
    ),
];

/// One segment of a lane's name, and a whole name. Addresses of repositories are accepted, too; this is their
/// normal form.
const SEGMENT: &str = r"[!#$%&()+,.0-9:;=?@A-Z_a-z~][!#$%&()+,.0-9:;=?@A-Z_a-z~-]*";
const LANE: &str = r"[0-9A-Za-z][0-9A-Za-z.-]*(/[0-9A-Z_a-z.~-]+)+";

/// Adds what operations have in common, and what the types cannot say about schemas.
pub(super) fn complete(document: &mut Value) {
    let schemas = &mut document["components"]["schemas"];
    schemas["SecretsBody"]["properties"]["registry_credentials"]["type"] =
        json!(["object", "string", "null"]);
    for body in ["BuildRequest", "DrainBody"] {
        allow_null(&mut schemas[body]);
    }
    let request = &mut schemas["BuildRequest"]["properties"];
    let labels = &mut request["labels"];
    labels["maxProperties"] = limits::LABELS_MAX.into();
    labels["propertyNames"] = json!({ "type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX });
    labels["additionalProperties"]["maxLength"] = limits::ARG_BYTES_MAX.into();
    let argument = json!({ "type": "string", "pattern": "^--", "maxLength": limits::ARG_BYTES_MAX });
    request["repo2docker_args"]["items"] = argument;
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if path.starts_with("/v1/") {
                add_problems(operation);
                if method == "get" {
                    add_unchanged(operation);
                }
            }
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            parameters.into_iter().flatten().for_each(describe);
        }
    }
}

/// Allows null for all optional fields.
fn allow_null(schema: &mut Value) {
    let needed = schema["required"].clone();
    let is_needed = |name: &str| needed.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    for (name, field) in schema["properties"].as_object_mut().into_iter().flatten() {
        if is_needed(name) || field.get("oneOf").is_some() || field["type"].is_array() {
            continue;
        }
        if field.get("$ref").is_some() {
            *field = json!({ "oneOf": [field, { "type": "null" }] });
        } else {
            field["type"] = json!([field["type"], "null"]);
        }
    }
}

/// Describes the response to a client that already has the current version.
fn add_unchanged(operation: &mut Value) {
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let Some(good) = responses.get_mut("200") else { return };
    if good["content"].get("application/json").is_none() {
        return;
    }
    good["headers"] = json!({ "ETag": {
        "description": "identifies this version of the response; send it back as If-None-Match", "schema": { "type": "string" },
    } });
    let unchanged = json!({ "description": "nothing has changed since the response with this ETag" });
    responses.insert("304".to_owned(), unchanged);
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
                "description": "seconds to wait before retrying, if known",
                "schema": { "type": "integer", "minimum": 0 },
            } });
        }
        responses.insert(status.to_string(), response);
    }
}

/// Describes the values of a common parameter.
fn describe(parameter: &mut Value) {
    // An empty parameter is treated like an absent one.
    let text = |max: usize, pattern: &str| json!({ "type": "string", "maxLength": max, "pattern": format!("^({pattern})?$") });
    let schema = match (parameter["name"].as_str(), parameter["in"].as_str()) {
        (Some("limit"), _) => {
            json!({ "type": "integer", "minimum": 1, "maximum": limits::PAGE, "default": limits::PAGE })
        }
        (Some("state"), _)
            if parameter["description"].as_str().is_some_and(|text| text.contains("ended:")) =>
        {
            let words = BuildState::ALL.iter().map(|state| state.word()).chain(["ended"]);
            json!({ "type": "string", "enum": words.collect::<Vec<_>>() })
        }
        (Some("state"), _) if parameter["description"].as_str().is_some_and(|text| text.contains("item")) => {
            json!({ "$ref": "#/components/schemas/ItemState" })
        }
        (Some("state"), _) => json!({ "$ref": "#/components/schemas/BuildState" }),
        (Some("class"), _) => json!({ "$ref": "#/components/schemas/FailureClass" }),
        (Some("cause"), _) => json!({ "type": "string", "enum": CAUSES }),
        (Some("step"), _) => json!({ "type": "string", "enum": STEPS.map(|(word, _)| word) }),
        (Some("order"), _) => json!({ "type": "string", "enum": ["line", "slot_hours"], "default": "line" }),
        (Some("last_event_id" | "Last-Event-ID"), _) => text(100, r"\d+:\d+-\d+:\d+"),
        (Some("cursor"), _) => text(100, "[A-Za-z0-9:._-]+"),
        (Some("build"), _) => text(36, "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
        (Some("since"), _) => json!({
            "type": "string",
            "pattern": r"^(\d{13,16}|(\d{1,6}[smhdw])+)?$",
            "examples": ["10m", "1d", "1795000000000"],
        }),
        (Some("pattern"), _) => text(limits::REPO_BYTES_MAX, &format!(r"\*|{LANE}|({SEGMENT}/){{1,4}}\*")),
        (Some("lane"), _) => text(limits::REPO_BYTES_MAX, LANE),
        (Some("id"), Some("path")) if parameter["description"] == "the build's id" => {
            json!({ "type": "string", "format": "uuid" })
        }
        (Some("id" | "worker"), _) => text(100, "[A-Za-z0-9._-]+"),
        (Some("node" | "cluster"), _) => text(253, "[!-~]+"),
        (Some("name"), Some("path")) => json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" }),
        (Some("reason"), _) => json!({ "type": "string", "maxLength": REASON_CHARS_MAX }),
        _ => return,
    };
    parameter["schema"] = schema;
}
