//! Creating.

use serde_json::{Value, json};

use super::read::with_kind;
use crate::kube::call::Call;
use crate::kube::defaults;
use crate::kube::object::{Key, Kind, born, is_terminating, text};
use crate::kube::quota;
use crate::kube::shared::Shared;
use crate::kube::status::{Answer, Status, json_response};
use crate::kube::validate;

/// etcd accepts no larger object.
const OBJECT_BYTES_MAX: usize = 1_572_864;

/// Answers a POST.
pub(super) fn answer(
    shared: &Shared,
    call: &Call,
    kind: &'static Kind,
    body: &[u8],
    quota_exceeded: bool,
) -> Answer {
    let mut object = decode(call, kind, body)?;
    let namespace = if kind.namespaced { call.namespace.clone().unwrap_or_default() } else { String::new() };
    let given = text(&object, "/metadata/namespace");
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let unknown = validate::unknown_field(kind, &object);
    if let Some(field) = unknown.as_ref().filter(|_| call.text("fieldValidation") == "Strict") {
        return Err(Status::bad_request(format!(
            "{0} in version \"v1\" cannot be handled as a {0}: strict decoding error: unknown field \"{field}\"",
            kind.name
        )));
    }
    if let Some(field) = &unknown {
        validate::drop_field(&mut object, field);
    }
    name(&mut object);
    let name = text(&object, "/metadata/name").to_owned();
    if kind.namespaced {
        check_namespace(shared, kind, &namespace, &name)?;
    }
    if kind.name == "Pod" {
        check_references(shared, &object, &namespace, &name)?;
    }
    object["metadata"]["namespace"] = json!(namespace);
    defaults::fill(kind, &mut object, call);
    let causes = validate::causes(kind, &object);
    if !causes.is_empty() {
        return Err(Status::invalid(kind.name, &name, &causes));
    }
    let key = Key::new(kind.resource, &namespace, &name);
    let mut store = shared.store();
    if let Some(there) = store.get(&key) {
        return Err(Status::already_exists(kind.resource, &name, is_terminating(&there)));
    }
    if quota_exceeded {
        let why = "exceeded quota: builds, requested: pods=1, used: pods=1, limited: pods=1";
        return Err(Status::forbidden(kind.resource, Some(&name), why));
    }
    if kind.name == "Pod" {
        let quotas = store.list("resourcequotas", Some(&namespace));
        if !quotas.is_empty() {
            quota::check(&quotas, &store.list("pods", Some(&namespace)), &object)?;
        }
    }
    if call.is_dry() {
        born(&mut object, Some(&namespace));
        return Ok(warned(json_response(201, &with_kind(kind, &object)), unknown.as_deref()));
    }
    if object.to_string().len() > OBJECT_BYTES_MAX {
        return Err(Status::new(500, None, "etcdserver: request is too large"));
    }
    let created = store.create(&key, object);
    drop(store);
    shared.collect_orphaned(&key);
    Ok(warned(json_response(201, &with_kind(kind, &created)), unknown.as_deref()))
}

fn decode(call: &Call, kind: &Kind, body: &[u8]) -> Result<Value, Status> {
    if !call.content_type.contains("json") {
        let message = "the body of the request was in an unknown format - accepted media types include: \
                       application/json, application/yaml, application/vnd.kubernetes.protobuf";
        return Err(Status::new(415, Some("UnsupportedMediaType"), message));
    }
    let object = serde_json::from_slice::<Value>(body).map_err(|_| {
        let text = String::from_utf8_lossy(body);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse \
             error: invalid character 'n' looking for beginning of object key string ({text})",
            kind.name
        ))
    })?;
    let given = text(&object, "/kind");
    if !given.is_empty() && given != kind.name {
        return Err(Status::bad_request(format!(
            "{given} in version \"v1\" cannot be handled as a {0}: converting (v1.{given}) to (core.{0}): unknown \
             conversion",
            kind.name
        )));
    }
    if let Some(wrong) = validate::wrong_quantity(&object) {
        return Err(Status::bad_request(format!(
            "{0} in version \"v1\" cannot be handled as a {0}: {wrong}",
            kind.name
        )));
    }
    let mut object = object;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    Ok(object)
}

fn name(object: &mut Value) {
    let prefix = text(object, "/metadata/generateName").to_owned();
    if text(object, "/metadata/name").is_empty() && !prefix.is_empty() {
        let suffix = &uuid::Uuid::new_v4().simple().to_string()[..5];
        object["metadata"]["name"] = json!(format!("{prefix}{suffix}"));
    }
}

fn check_namespace(shared: &Shared, kind: &Kind, namespace: &str, name: &str) -> Result<(), Status> {
    let key = Key::new("namespaces", "", namespace);
    let found = shared.store().get(&key).ok_or_else(|| Status::not_found("namespaces", namespace))?;
    if text(&found, "/status/phase") != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = json!({
        "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    });
    Err(Status::forbidden(kind.resource, Some(name), &why)
        .details(json!({ "name": name, "kind": kind.resource, "causes": [cause] })))
}

/// Refuses a pod whose account or priority class does not exist; each namespace has an account `default`.
fn check_references(shared: &Shared, pod: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let account = text(pod, "/spec/serviceAccountName");
    let class = text(pod, "/spec/priorityClassName");
    let store = shared.store();
    let why = if !matches!(account, "" | "default")
        && !store.exists(&Key::new("serviceaccounts", namespace, account))
    {
        format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        )
    } else if !matches!(class, "" | "system-node-critical" | "system-cluster-critical")
        && !store.exists(&Key::new("priorityclasses", "", class))
    {
        format!("no PriorityClass with name {class} was found")
    } else {
        return Ok(());
    };
    Err(Status::forbidden("pods", Some(name), &why))
}

fn warned(
    mut answer: axum::http::Response<axum::body::Body>,
    unknown: Option<&str>,
) -> axum::http::Response<axum::body::Body> {
    let warning = unknown.map(|field| format!("299 - \"unknown field \\\"{field}\\\"\""));
    if let Some(value) = warning.and_then(|warning| warning.parse().ok()) {
        answer.headers_mut().insert("warning", value);
    }
    answer
}
