//! Errors as an API server words them: `Status` objects.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// A refusal: becomes a `Status` object with its HTTP code.
#[derive(Debug, Clone)]
pub(super) struct Status {
    code: u16,
    reason: Option<&'static str>,
    message: String,
    details: Option<Value>,
    metadata: Value,
    retry_after: Option<u32>,
}

/// A response of an API server.
pub(super) type Answer = Result<Response<Body>, Status>;

impl Status {
    pub(super) fn new(code: u16, reason: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, metadata: json!({}), retry_after: None }
    }

    pub(super) fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub(super) fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, Some("NotFound"), format!("{resource} \"{name}\" not found"))
            .details(json!({ "name": name, "kind": resource }))
    }

    /// The path is not part of this API.
    pub(super) fn no_such_resource() -> Self {
        Self::new(404, Some("NotFound"), "the server could not find the requested resource")
            .details(json!({}))
    }

    pub(super) fn already_exists(resource: &str, name: &str, being_deleted: bool) -> Self {
        let prefix = if being_deleted { "object is being deleted: " } else { "" };
        Self::new(409, Some("AlreadyExists"), format!("{prefix}{resource} \"{name}\" already exists"))
            .details(json!({ "name": name, "kind": resource }))
    }

    /// A conflict; `kind` is the resource or, for preconditions, the kind.
    pub(super) fn conflict(kind: &str, name: &str, why: &str) -> Self {
        Self::new(409, Some("Conflict"), format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}"))
            .details(json!({ "name": name, "kind": kind }))
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Some("BadRequest"), message)
    }

    pub(super) fn forbidden(resource: &str, name: Option<&str>, why: &str) -> Self {
        let subject = name.map_or_else(|| resource.to_owned(), |name| format!("{resource} \"{name}\""));
        let details = match name {
            Some(name) => json!({ "name": name, "kind": resource }),
            None => json!({ "kind": resource }),
        };
        Self::new(403, Some("Forbidden"), format!("{subject} is forbidden: {why}")).details(details)
    }

    /// 422 with one cause per field.
    pub(super) fn invalid(kind: &str, name: &str, causes: &[Cause]) -> Self {
        let sentence = |cause: &Cause| format!("{}: {}", cause.field, cause.message);
        let what = match causes {
            [only] => sentence(only),
            many => format!("[{}]", many.iter().map(sentence).collect::<Vec<_>>().join(", ")),
        };
        let causes = causes
            .iter()
            .map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }))
            .collect::<Vec<_>>();
        let mut details = json!({ "kind": kind, "causes": causes });
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        Self::new(422, Some("Invalid"), format!("{kind} \"{name}\" is invalid: {what}")).details(details)
    }

    /// 410: in an ERROR event of a watch, or as an answer to a list.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Some("Expired"), message)
    }

    pub(super) fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(reason) = self.reason {
            status["reason"] = json!(reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = json_response(self.code, &self.body());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Why one field is refused.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: String,
}

impl Cause {
    pub(super) fn required(field: impl Into<String>, more: &str) -> Self {
        Self { reason: "FieldValueRequired", message: format!("Required value{more}"), field: field.into() }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &str, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
            field: field.into(),
        }
    }

    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.into() }
    }
}

/// `value` as a response.
pub(super) fn json_response(code: u16, value: &Value) -> Response<Body> {
    response(code, "application/json", value.to_string())
}

/// Any body as a response, with the headers that an API server sends.
pub(super) fn response(code: u16, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert("audit-id", id);
    }
    response
}
