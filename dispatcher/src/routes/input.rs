//! Bodies and parameters of requests. Each error says what is invalid.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use fairlane_common::id::BuildId;
use fairlane_common::limits;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::{
    Answer, BAD_CURSOR, BAD_PARAMETER, MALFORMED_JSON, Refusal, TOO_LARGE, TOO_SLOW, WRONG_CONTENT_TYPE,
};
use crate::routes::unique_json::Unique;

/// Longest body, in bytes: 32 arguments and 32 labels of 4 KiB each, two secrets of 16 KiB, and room for
/// JSON's escapes.
pub(crate) const BODY_BYTES_MAX: usize = 512 * 1024;
/// Longest reason that an operator can give, in characters.
pub(crate) const REASON_CHARS_MAX: usize = 500;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// A body that is declared as JSON and within its size limit, not parsed yet.
pub(crate) struct JsonBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(
                WRONG_CONTENT_TYPE,
                "send JSON, with the header Content-Type: application/json",
            ));
        }
        read(request).await.map(Self)
    }
}

async fn read(request: Request) -> Answer<Bytes> {
    let too_large = || Refusal::new(TOO_LARGE, format!("a body may have at most {BODY_BYTES_MAX} bytes"));
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_WAIT, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            Err(Refusal::new(TOO_SLOW, format!("the body did not arrive within {} s", BODY_WAIT.as_secs())))
        }
    }
}

impl JsonBody {
    /// Its size, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The body as an object, field by field.
    pub(crate) fn object(&self) -> Answer<Fields> {
        let Unique(value) = serde_json::from_slice(&self.0).map_err(|error| {
            // Only our own messages are shown; others repeat the input, which may be a secret.
            let text = error.to_string();
            let ours = text.split(" at line ").next().filter(|_| error.is_data());
            let why = ours.unwrap_or("this is not JSON");
            let detail = format!("line {}, column {}: {why}", error.line(), error.column());
            Refusal::new(MALFORMED_JSON, detail)
        })?;
        match value {
            Value::Object(fields) => Ok(Fields(fields)),
            _ => Err(Refusal::new(MALFORMED_JSON, "the body must be a JSON object")),
        }
    }
}

/// The body of a request for which a body is optional.
pub(crate) struct OptionalBody(pub(crate) Option<JsonBody>);

impl<S: Send + Sync> FromRequest<S> for OptionalBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            let body = JsonBody::from_request(request, state).await?;
            return Ok(Self((body.0.trim_ascii() != b"null").then_some(body)));
        }
        if read(request).await?.is_empty() {
            return Ok(Self(None));
        }
        Err(Refusal::new(WRONG_CONTENT_TYPE, "send JSON, with the header Content-Type: application/json"))
    }
}

/// The fields of a body, taken one by one so that an error can name the invalid one.
pub(crate) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Fields {
    /// A field that may be absent (or null).
    pub(crate) fn maybe<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> Answer<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            // serde's message is not shown, because it repeats the value, which may be a misplaced secret.
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|_| Refusal::invalid(name, format!("must be {what}"))),
        }
    }

    /// A field that must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> Answer<T> {
        self.maybe(name, what)?
            .ok_or_else(|| Refusal::invalid(name, format!("is missing; it must be {what}")))
    }

    /// A field's raw value.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// # Errors
    /// Names the first field that is not in `known`.
    pub(crate) fn nothing_else(&self, known: &[&str]) -> Answer<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
                Err(Refusal::invalid(&shown, format!("unknown field; known fields: {}", known.join(", "))))
            }
        }
    }

    /// All fields as one value, for types with good error messages and without secrets.
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Answer<T> {
        // serde also accepts a list for a struct, with the fields' values in order.
        if let Some((name, _)) = self.0.iter().find(|(_, value)| value.is_array()) {
            return Err(Refusal::invalid(name, "must not be a list"));
        }
        serde_path_to_error::deserialize(Value::Object(self.0)).map_err(|error| {
            let (path, text) = (error.path().to_string(), error.inner().to_string());
            if let Some(kind) = text.split_once(", expected ").and_then(|(_, kind)| in_words(kind)) {
                return Refusal::invalid(&path, format!("must be {kind}"));
            }
            // An unknown or missing field is named in the message; what is wrong with a value has the value's path.
            let field = text.split('`').nth(1).unwrap_or(if path == "." { "body" } else { path.as_str() });
            Refusal::invalid(field, text.strip_prefix(&format!("{path}: ")).unwrap_or(&text))
        })
    }
}

/// A kind of value in plain words. Our own types describe themselves.
fn in_words(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "u32" | "u64" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a string",
        _ if kind.starts_with("struct ") || kind == "a map" => "an object",
        _ => return None,
    })
}

/// The query of a request, taken parameter by parameter.
pub(crate) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await else {
            let detail = "the query cannot be read; write ?name=value&name=value";
            return Err(Refusal::new(BAD_PARAMETER, detail));
        };
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
            if params.insert(name, value).is_some() {
                let detail = format!("'{shown}' is given twice; send it once");
                return Err(Refusal::new(BAD_PARAMETER, detail).field(&shown));
            }
        }
        Ok(Self(params))
    }
}

impl Params {
    /// # Errors
    /// Names the first parameter that is not in `known`.
    pub(crate) fn only(self, known: &[&str]) -> Answer<Self> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some(name) => {
                let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let detail = format!("'{shown}' is not a known parameter; known parameters: {known}");
                Err(Refusal::new(BAD_PARAMETER, detail).field(&shown))
            }
        }
    }

    /// A parameter as text; an empty one is absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter that is parsed.
    pub(crate) fn parse<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Answer<Option<T>> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|error: T::Err| {
            let why = error.to_string();
            // Some types already begin their messages with their name.
            let why = why.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&why);
            Refusal::new(BAD_PARAMETER, format!("{name}: {why}")).field(name)
        })
    }

    /// Where a page starts, for lists whose cursor is one value.
    pub(crate) fn cursor<T: FromStr>(&self) -> Answer<Option<T>> {
        self.text("cursor").map(str::parse).transpose().map_err(|_: T::Err| {
            let detail = "cursor: not a cursor of this list; use the one from the previous page";
            Refusal::new(BAD_CURSOR, detail).field("cursor")
        })
    }

    /// A parameter that is a whole number.
    pub(crate) fn whole(&self, name: &str) -> Answer<Option<u64>> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|_| {
            Refusal::new(BAD_PARAMETER, format!("{name}: must be a whole number, 0 or more")).field(name)
        })
    }

    /// A parameter that is true or false; false by default.
    pub(crate) fn flag(&self, name: &str) -> Answer<bool> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::new(BAD_PARAMETER, format!("{name}: must be true or false")).field(name)),
        }
    }

    /// The reason for an act, for the audit log and, if a build is cancelled, for people; may be empty.
    pub(crate) fn reason(&self) -> Answer<String> {
        let reason = self.text("reason").unwrap_or_default();
        if reason.chars().count() > REASON_CHARS_MAX {
            let detail = format!("reason: at most {REASON_CHARS_MAX} characters are allowed");
            return Err(Refusal::new(BAD_PARAMETER, detail).field("reason"));
        }
        Ok(reason.chars().filter(|c| !c.is_control()).collect())
    }

    /// How many entries a page of a list should have.
    pub(crate) fn limit(&self) -> Answer<usize> {
        Ok(self.parse::<PageSize>("limit")?.map_or(limits::PAGE, |size| size.0))
    }
}

/// A page's size: from 1 to the maximum.
struct PageSize(usize);

impl FromStr for PageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(size) if (1..=limits::PAGE).contains(&size) => Ok(Self(size)),
            _ => Err(format!(
                "must be a number from 1 to {}; use the cursor to get the next page",
                limits::PAGE
            )),
        }
    }
}

/// The build that a path names.
pub(crate) struct PathId(pub(crate) BuildId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let text = PathText::from_request_parts(parts, state).await?.0;
        text.parse().map(Self).map_err(|_| Refusal::unknown_build(&text))
    }
}

/// The one variable part of a path.
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Refusal::new(BAD_PARAMETER, "the path cannot be read; it must be UTF-8")),
        }
    }
}
