//! Getting and listing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde_json::{Value, json};

use crate::kube::call::Call;
use crate::kube::object::{Key, Kind, Object, text};
use crate::kube::quota;
use crate::kube::shared::Shared;
use crate::kube::status::{Answer, Status, json_response};

/// How long a list waits for a future resource version: three seconds in reality.
const FUTURE_WAIT: Duration = Duration::from_millis(500);

/// An object for a response, with its kind.
pub(super) fn with_kind(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    object["kind"] = json!(kind.name);
    object["apiVersion"] = json!(kind.api_version());
    object
}

/// The key a call names.
pub(super) fn key(call: &Call, kind: &Kind) -> Key {
    let namespace = if kind.namespaced { call.namespace.as_deref().unwrap_or_default() } else { "" };
    Key::new(kind.resource, namespace, call.name.as_deref().unwrap_or_default())
}

/// Answers a GET of one object.
pub(super) fn get(shared: &Shared, call: &Call, kind: &'static Kind) -> Answer {
    let key = key(call, kind);
    let found = shared.store().get(&key);
    let object = found.ok_or_else(|| Status::not_found(kind.resource, &key.name))?;
    Ok(json_response(200, &with_kind(kind, &counted(shared, kind, &object))))
}

/// A quota shows what is used now; other objects are returned as stored.
fn counted(shared: &Shared, kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if kind.name == "ResourceQuota" {
        let pods = shared.store().list("pods", Some(text(&object, "/metadata/namespace")));
        quota::count(&mut object, &pods);
    }
    object
}

/// Answers a GET of many.
pub(super) async fn list(shared: &Arc<Shared>, call: &Call, kind: &'static Kind) -> Answer {
    let selector = call.selector(kind)?;
    let limit =
        call.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0);
    let page = Page::read(call.text("continue"))?;
    let (mut objects, version) = match &page {
        Some(page) => page.objects(shared, call, kind)?,
        None => current(shared, call, kind).await?,
    };
    objects.retain(|object| {
        selector.matches(object) && page.as_ref().is_none_or(|page| place(object) >= page.start)
    });
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if let Some(limit) = limit.filter(|&limit| limit < objects.len()) {
        metadata["remainingItemCount"] = json!(objects.len() - limit);
        objects.truncate(limit);
        let start = format!("{}\0", objects.last().map(|object| place(object)).unwrap_or_default());
        metadata["continue"] = json!(Page { version: Some(version), start }.token());
    }
    let items = objects.iter().map(|object| counted(shared, kind, object)).collect::<Vec<_>>();
    let list = json!({
        "kind": format!("{}List", kind.name), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
    });
    Ok(json_response(200, &list))
}

fn place(object: &Value) -> String {
    format!("/{}", text(object, "/metadata/name"))
}

async fn current(
    shared: &Arc<Shared>,
    call: &Call,
    kind: &'static Kind,
) -> Result<(Vec<Object>, u64), Status> {
    let asked = call.text("resourceVersion");
    let version = match asked {
        "" => 0,
        asked => asked.parse::<u64>().map_err(|_| {
            let why = format!("strconv.ParseUint: parsing \"{asked}\": invalid syntax");
            Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: \"{asked}\": {why}"
            ))
        })?,
    };
    if version > 0 && call.text("resourceVersionMatch") == "Exact" {
        let objects = shared.store().list_at(kind.resource, call.namespace.as_deref(), version);
        let too_old = || Status::expired("The resourceVersion for the provided list is too old.");
        return Ok((objects.ok_or_else(too_old)?, version));
    }
    let mut changed = shared.store().subscribe();
    let arrives = changed.wait_for(|current| *current >= version);
    if tokio::time::timeout(FUTURE_WAIT, arrives).await.is_err() {
        let current = shared.store().version();
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        let causes =
            json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
        return Err(Status::new(504, Some("Timeout"), message)
            .details(json!({ "causes": causes, "retryAfterSeconds": 1 }))
            .retry_after(1));
    }
    let store = shared.store();
    Ok((store.list(kind.resource, call.namespace.as_deref()), store.version()))
}

/// Where a list continues.
struct Page {
    /// The version of the whole list; `None` for the current one.
    version: Option<u64>,
    start: String,
}

impl Page {
    fn read(token: &str) -> Result<Option<Self>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let decoded =
            BASE64.decode(token).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let read = decoded.as_ref().and_then(|token| {
            let version = token["rv"].as_i64()?;
            Some(Self { version: u64::try_from(version).ok(), start: token["start"].as_str()?.to_owned() })
        });
        let invalid = || {
            Status::bad_request(
                "invalid continue token: continue key is not valid: invalid character '\\u0081' looking for \
                 beginning of value",
            )
        };
        read.map(Some).ok_or_else(invalid)
    }

    fn token(&self) -> String {
        let version = self.version.and_then(|version| i64::try_from(version).ok()).unwrap_or(-1);
        let token = json!({ "v": "meta.k8s.io/v1", "rv": version, "start": self.start });
        BASE64.encode(token.to_string())
    }

    fn objects(
        &self,
        shared: &Shared,
        call: &Call,
        kind: &'static Kind,
    ) -> Result<(Vec<Object>, u64), Status> {
        let store = shared.store();
        let namespace = call.namespace.as_deref();
        let Some(version) = self.version else {
            return Ok((store.list(kind.resource, namespace), store.version()));
        };
        let objects = store.list_at(kind.resource, namespace, version).ok_or_else(|| {
            let fresh = Self { version: None, start: self.start.clone() }.token();
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start \
                 a new list without the continue parameter, or use the continue token in this response to \
                 retrieve the remainder of the results. Continuing with the provided token results in an \
                 inconsistent list - objects that were created, modified, or deleted between the time the first \
                 chunk was returned and now may show up in the list.",
            )
            .metadata(json!({ "continue": fresh }))
        })?;
        Ok((objects, version))
    }
}
