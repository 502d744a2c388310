//! Parses a request.

use std::collections::HashMap;

use axum::extract::Query;
use axum::http::{HeaderMap, Method, Uri, header};

use super::object::{Kind, kind_of};
use super::rights::User;
use super::selectors::Selector;
use super::status::Status;

/// A parsed request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) verb: &'static str,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) kind: Option<&'static Kind>,
    pub(super) query: HashMap<String, String>,
    pub(super) content_type: String,
    pub(super) user: User,
}

impl Call {
    /// Parses a path below `/api/v1` or `/apis/…`; `None` for any other path.
    pub(super) fn parse(method: &Method, uri: &Uri, headers: &HeaderMap, user: User) -> Option<Self> {
        let query =
            Query::<HashMap<String, String>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default();
        let parts = uri.path().split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, rest) = rest.split_first()?;
        let name = rest.first().map(|&name| name.to_owned());
        let subresource = rest.get(1).map_or(String::new(), |&sub| sub.to_owned());
        let watches = matches!(query.get("watch").map(String::as_str), Some("true" | "1"));
        let verb = match (method, &name) {
            (&Method::POST, _) => "create",
            (&Method::PUT, Some(_)) => "update",
            (&Method::PUT, None) => "none",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            (&Method::DELETE, None) => "deletecollection",
            (_, Some(_)) => "get",
            (_, None) if watches => "watch",
            (_, None) => "list",
        };
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Some(Self {
            verb,
            group: group.to_owned(),
            resource: (*resource).to_owned(),
            subresource,
            namespace: namespace.map(str::to_owned),
            name,
            kind: kind_of(group, resource),
            query,
            content_type: content_type.unwrap_or_default().to_owned(),
            user,
        })
    }

    /// The resource as rights name it: `pods` or `pods/log`.
    pub(super) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// `verb resource`, as counters, rights and faults name it.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.verb, self.full_resource())
    }

    pub(super) fn text(&self, parameter: &str) -> &str {
        self.query.get(parameter).map_or("", String::as_str)
    }

    pub(super) fn flag(&self, parameter: &str) -> bool {
        matches!(self.text(parameter), "true" | "1")
    }

    pub(super) fn is_dry(&self) -> bool {
        self.text("dryRun") == "All"
    }

    /// A query parameter that is a number; status 400 if it is not one.
    pub(super) fn number(&self, parameter: &str) -> Result<Option<i64>, Status> {
        let text = self.text(parameter);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")))
    }

    pub(super) fn selector(&self, kind: &Kind) -> Result<Selector, Status> {
        let (labels, fields) = (self.text("labelSelector"), self.text("fieldSelector"));
        Selector::parse(kind, self.namespace.as_deref(), labels, fields)
    }
}
