//! Patching and replacing.

use serde_json::{Value, json};

use super::read::{key, with_kind};
use crate::kube::call::Call;
use crate::kube::deletion;
use crate::kube::object::{Key, Kind, text};
use crate::kube::patch;
use crate::kube::shared::Shared;
use crate::kube::status::{Answer, Cause, Status, json_response};
use crate::kube::validate;

/// Fields of a pod's spec that may change while it lives.
const MUTABLE: [&str; 4] =
    ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName"];
/// What a server says about the others.
const IMMUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// Answers a PATCH.
pub(super) fn patch(shared: &Shared, call: &Call, kind: &'static Kind, body: &[u8]) -> Answer {
    let key = key(call, kind);
    let before = shared.store().get(&key).ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    let wanted = serde_json::from_slice::<Value>(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut after = Value::clone(&before);
    match call.content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => patch::merge(&mut after, &wanted),
        "application/strategic-merge-patch+json" => patch::strategic(&mut after, &wanted),
        "application/json-patch+json" => patch::json_patch(&mut after, &wanted).ok_or_else(|| {
            let message = "the server rejected our request due to an error in our request";
            Status::new(422, Some("Invalid"), message).details(json!({}))
        })?,
        "application/apply-patch+yaml" => apply(shared, call, &key, &mut after, wanted)?,
        _ => {
            let message = "415: Unsupported Media Type";
            return Err(Status::new(415, Some("UnsupportedMediaType"), message).details(json!({})));
        }
    }
    commit(shared, call, kind, &key, &before, after)
}

/// Answers a PUT.
pub(super) fn replace(shared: &Shared, call: &Call, kind: &'static Kind, body: &[u8]) -> Answer {
    let key = key(call, kind);
    let before = shared.store().get(&key).ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    let after = serde_json::from_slice::<Value>(body)
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: {error}")))?;
    commit(shared, call, kind, &key, &before, after)
}

/// Server-side apply: the first one to apply a field owns it.
fn apply(
    shared: &Shared,
    call: &Call,
    key: &Key,
    after: &mut Value,
    mut wanted: Value,
) -> Result<(), Status> {
    if let Some(fields) = wanted.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    let mut leaves = Vec::new();
    collect_leaves(&wanted, String::new(), &mut leaves);
    let manager = call.text("fieldManager").to_owned();
    let mut owners = shared.applied();
    for (path, value) in &leaves {
        let owner = owners.get(&(key.clone(), path.clone()));
        let pointer = path.replace('.', "/");
        let differs = after.pointer(&pointer).is_some_and(|there| there != value);
        if let Some(owner) = owner.filter(|owner| **owner != manager && differs && !call.flag("force")) {
            let message = format!("conflict with \"{owner}\"");
            let causes = json!([{ "reason": "FieldManagerConflict", "message": message, "field": path }]);
            let why = format!("Apply failed with 1 conflict: {message}: {path}");
            return Err(Status::new(409, Some("Conflict"), why).details(json!({ "causes": causes })));
        }
    }
    for (path, _) in leaves.into_iter().filter(|(path, _)| path != ".metadata.name") {
        owners.insert((key.clone(), path), manager.clone());
    }
    patch::strategic(after, &wanted);
    Ok(())
}

fn collect_leaves(value: &Value, path: String, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect_leaves(value, format!("{path}.{name}"), leaves);
            }
        }
        leaf => leaves.push((path, leaf.clone())),
    }
}

fn commit(
    shared: &Shared,
    call: &Call,
    kind: &'static Kind,
    key: &Key,
    before: &Value,
    mut after: Value,
) -> Answer {
    if let Some(fields) = after.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    check(kind, key, before, &after)?;
    if let Some(metadata) = after["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null() && value != &json!([]));
    }
    if call.is_dry() {
        return Ok(json_response(200, &with_kind(kind, &after)));
    }
    let mut store = shared.store();
    // Somebody else may have changed it since `before` was read.
    let unchanged = store
        .get(key)
        .is_some_and(|now| now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]);
    if !unchanged {
        return Err(conflict(kind, key));
    }
    let changed = store.update(key, |object| *object = after);
    drop(store);
    let changed = changed.ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    shared.collect_orphaned(key);
    deletion::remove_unheld(shared, key);
    Ok(json_response(200, &with_kind(kind, &changed)))
}

fn check(kind: &'static Kind, key: &Key, before: &Value, after: &Value) -> Result<(), Status> {
    let field = |object: &Value, name: &str| text(object, &format!("/metadata/{name}")).to_owned();
    if field(after, "uid") != field(before, "uid") {
        let cause =
            Cause::invalid("metadata.uid", &format!("\"{}\"", field(after, "uid")), "field is immutable");
        let (causes, one) = ([cause.clone(), cause.clone()], [cause]);
        let twice = Status::invalid(kind.name, &key.name, &causes);
        let details = twice.body()["details"].clone();
        return Err(Status::invalid(kind.name, &key.name, &one).details(details));
    }
    let version = field(after, "resourceVersion");
    if !version.is_empty() && version != field(before, "resourceVersion") {
        return Err(conflict(kind, key));
    }
    if kind.name == "Pod" && frozen(&before["spec"]) != frozen(&after["spec"]) {
        return Err(Status::invalid(kind.name, &key.name, &[Cause::forbidden("spec", IMMUTABLE)]));
    }
    let causes = validate::causes(kind, after);
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(kind.name, &key.name, &causes)) }
}

fn conflict(kind: &Kind, key: &Key) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(kind.resource, &key.name, why)
}

/// A pod's spec without the mutable fields.
fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| !MUTABLE.contains(&name.as_str()));
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    spec
}
