//! Deleting and evicting.

use serde_json::{Value, json};

use super::read::{key, with_kind};
use crate::kube::call::Call;
use crate::kube::deletion;
use crate::kube::disruption;
use crate::kube::object::{Key, Kind, text};
use crate::kube::shared::Shared;
use crate::kube::status::{Answer, Status, json_response};

/// Answers a DELETE of one object.
pub(super) fn one(shared: &Shared, call: &Call, kind: &'static Kind, body: &[u8]) -> Answer {
    let key = key(call, kind);
    let options = options(body)?;
    let object = shared.store().get(&key).ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    check_preconditions(kind, &object, &options["preconditions"])?;
    let in_query = call.number("gracePeriodSeconds")?;
    let grace =
        options["gracePeriodSeconds"].as_i64().or(in_query).and_then(|grace| u64::try_from(grace).ok());
    if call.is_dry() {
        return Ok(json_response(200, &with_kind(kind, &deletion::preview(&object, grace))));
    }
    let gone =
        deletion::delete(shared, &key, grace).ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    if kind.name == "Pod" {
        return Ok(json_response(200, &with_kind(kind, &gone)));
    }
    let details = json!({ "name": key.name, "kind": kind.resource, "uid": gone["metadata"]["uid"] });
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    Ok(json_response(200, &status))
}

/// Answers a DELETE of all that a selector matches.
pub(super) fn many(shared: &Shared, call: &Call, kind: &'static Kind) -> Answer {
    let selector = call.selector(kind)?;
    let grace = call.number("gracePeriodSeconds")?.and_then(|grace| u64::try_from(grace).ok());
    let objects = shared.store().list(kind.resource, call.namespace.as_deref());
    let mut items = Vec::new();
    for object in objects.iter().filter(|object| selector.matches(object)) {
        let key =
            Key::new(kind.resource, text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        items.push(Value::clone(object));
        deletion::delete(shared, &key, grace);
    }
    let version = shared.store().version().to_string();
    let list = json!({
        "kind": format!("{}List", kind.name), "apiVersion": kind.api_version(),
        "metadata": { "resourceVersion": version }, "items": items,
    });
    Ok(json_response(200, &list))
}

/// Answers a POST to a pod's `eviction`.
pub(super) fn evict(shared: &Shared, call: &Call, body: &[u8]) -> Answer {
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let key = Key::new("pods", namespace, call.name.as_deref().unwrap_or_default());
    let options = options(body)?;
    let pod = shared.store().get(&key).ok_or_else(|| Status::not_found("pods", &key.name))?;
    let kind = call.kind.ok_or_else(Status::no_such_resource)?;
    check_preconditions(kind, &pod, &options["deleteOptions"]["preconditions"])?;
    if let Some(budget) = disruption::budget_of(shared, namespace, &pod) {
        let why = format!("The disruption budget {budget} needs 1 healthy pods and has 1 currently");
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        return Err(Status::new(429, Some("TooManyRequests"), message)
            .details(json!({ "causes": [{ "reason": "DisruptionBudget", "message": why }] })));
    }
    disruption::delete(shared, &key, disruption::EVICTED, "Eviction API: evicting");
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(json_response(201, &status))
}

fn options(body: &[u8]) -> Result<Value, Status> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("invalid DeleteOptions: {error}")))
}

fn check_preconditions(kind: &Kind, object: &Value, wanted: &Value) -> Result<(), Status> {
    let name = text(object, "/metadata/name");
    let uid = text(object, "/metadata/uid");
    if let Some(wanted) = wanted["uid"].as_str().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(kind.name, name, &why));
    }
    let version = text(object, "/metadata/resourceVersion");
    if let Some(wanted) = wanted["resourceVersion"].as_str().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(Status::conflict(kind.name, name, &why));
    }
    Ok(())
}
