//! Errors as clients see them: `application/problem+json`, with a sentence that says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fairlane_common::Invalid;
use fairlane_common::id::BuildId;

use crate::api::Problem;

/// A handler's result.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// A kind of error. Its word never changes, because clients depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    word: &'static str,
    title: &'static str,
    status: StatusCode,
}

macro_rules! kinds {
    ($($name:ident = $word:literal, $status:ident, $title:literal;)+) => {
        $(pub(crate) const $name: Kind =
            Kind { word: $word, title: $title, status: StatusCode::$status };)+
        /// Every kind, for the API's document and for tests.
        pub(crate) const ALL: &[Kind] = &[$($name,)+];
    };
}

kinds! {
    MALFORMED_JSON = "malformed-json", BAD_REQUEST, "The body is not JSON";
    BAD_PARAMETER = "bad-parameter", BAD_REQUEST, "Invalid parameter";
    BAD_CURSOR = "bad-cursor", BAD_REQUEST, "Invalid cursor";
    NOT_SIGNED_IN = "not-signed-in", UNAUTHORIZED, "A token is needed";
    FORBIDDEN = "forbidden", FORBIDDEN, "The token does not allow this";
    BANNED = "banned", FORBIDDEN, "The repository is banned";
    UNKNOWN_BUILD = "unknown-build", NOT_FOUND, "No such build";
    LOG_REMOVED = "log-removed", GONE, "The log was removed to free memory";
    ENDED_BUILD = "ended-build", CONFLICT, "The build has ended";
    UNKNOWN_LANE = "unknown-lane", NOT_FOUND, "No such lane";
    UNKNOWN_RULE = "unknown-rule", NOT_FOUND, "No such rule";
    UNKNOWN_WORKER = "unknown-worker", NOT_FOUND, "No such worker";
    UNKNOWN_NODE = "unknown-node", NOT_FOUND, "No avoided node has this name";
    AMBIGUOUS_NODE = "ambiguous-node", CONFLICT, "Nodes of several clusters have this name";
    UNKNOWN_SUBSCRIBER = "unknown-subscriber", NOT_FOUND, "No such subscriber";
    UNKNOWN_CAMPAIGN = "unknown-campaign", NOT_FOUND, "No such campaign";
    CAMPAIGN_EXISTS = "campaign-exists", CONFLICT, "A campaign of this name exists";
    CAMPAIGN_ENDED = "campaign-ended", CONFLICT, "The campaign has ended";
    WRONG_FIRST = "wrong-first", CONFLICT, "The campaign has another number of items";
    UNKNOWN_PATH = "unknown-path", NOT_FOUND, "No such path";
    WRONG_METHOD = "wrong-method", METHOD_NOT_ALLOWED, "The method is not allowed here";
    TOO_SLOW = "too-slow", REQUEST_TIMEOUT, "The request took too long to arrive";
    CONFLICT = "conflict", CONFLICT, "The image is being built from something else";
    TOO_LARGE = "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    WRONG_CONTENT_TYPE = "wrong-content-type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    OTHER_DISPATCHER = "other-dispatcher", MISDIRECTED_REQUEST, "Another dispatcher serves that stream";
    INVALID_FIELD = "invalid-field", UNPROCESSABLE_ENTITY, "Invalid field";
    ARGUMENT_NOT_ALLOWED = "argument-not-allowed", UNPROCESSABLE_ENTITY, "The argument is not allowed";
    NO_SEAL_KEY = "no-seal-key", UNPROCESSABLE_ENTITY, "Secrets cannot be sealed";
    TOO_MANY_REQUESTS_OF_TOKEN = "token-limit", TOO_MANY_REQUESTS, "Rate limit reached for this token";
    TOO_MANY_REQUESTS_FROM_HERE = "address-limit", TOO_MANY_REQUESTS, "Rate limit reached for your address";
    TOO_MANY_FROM_HERE = "address-connections", TOO_MANY_REQUESTS, "Too many connections from your address";
    FULL = "full", TOO_MANY_REQUESTS, "The queue is full";
    MEMORY = "memory", TOO_MANY_REQUESTS, "Redis's memory is nearly used up";
    TOO_MANY_CONNECTIONS = "too-many-connections", SERVICE_UNAVAILABLE, "This dispatcher has reached its connection limit";
    TOO_MANY_STREAMS = "too-many-streams", SERVICE_UNAVAILABLE, "This dispatcher has reached its stream limit";
    REDIS_AWAY = "redis-away", SERVICE_UNAVAILABLE, "Redis does not answer";
    ARCHIVE_AWAY = "archive-away", SERVICE_UNAVAILABLE, "The log archive does not answer";
    REDIS_REFUSES = "redis-refuses", SERVICE_UNAVAILABLE, "Redis rejects writes";
    REFILLING = "refilling", SERVICE_UNAVAILABLE, "Redis was emptied; running builds are being registered again";
    WRONG_SCHEMA = "wrong-schema", SERVICE_UNAVAILABLE, "The queue in Redis has another schema version";
    UNREADABLE = "unreadable-build", SERVICE_UNAVAILABLE, "This release cannot read the build";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something is wrong on our side";
}

impl Kind {
    /// Its HTTP status.
    pub(crate) fn status(self) -> u16 {
        self.status.as_u16()
    }

    /// The identifier for programs.
    pub(crate) fn urn(self) -> String {
        format!("urn:fairlane:error:{}", self.word)
    }

    /// The HTTP status and the title, for the API's document.
    pub(crate) fn summary(self) -> (u16, &'static str) {
        (self.status.as_u16(), self.title)
    }
}

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(Box<Problem>);

impl Refusal {
    /// An error of `kind`; `detail` says what went wrong here and what to do.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: kind.urn(),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail: detail.into(),
            message: None,
            field: None,
            retry_after: None,
            build: None,
        }))
    }

    /// The identifier for programs.
    pub(crate) fn urn(&self) -> &str {
        &self.0.kind
    }

    /// Names the field or parameter with the error.
    pub(crate) fn field(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    /// Names the entry of a list that the field with the error belongs to.
    pub(crate) fn within(mut self, entry: &str) -> Self {
        self.0.detail = format!("{entry}.{}", self.0.detail);
        self.0.field = self.0.field.map(|field| format!("{entry}.{field}"));
        self
    }

    /// Tells the client how many seconds to wait before it retries.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Sets the text for people.
    pub(crate) fn message(mut self, message: &str) -> Self {
        self.0.message = Some(message.to_owned());
        self
    }

    /// Names the build that causes the conflict.
    pub(crate) fn build(mut self, id: BuildId) -> Self {
        self.0.build = Some(id);
        self
    }

    /// An invalid value of `field`.
    pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(INVALID_FIELD, format!("{field}: {why}")).field(field)
    }

    /// There is no build with that id.
    pub(crate) fn unknown_build(id: &str) -> Self {
        let shown = printable(id);
        let detail = format!(
            "no build has the id '{shown}'; ended builds are forgotten after 24 h. \
             GET /v1/builds lists the known ones"
        );
        Self::new(UNKNOWN_BUILD, detail).field("id")
    }

    /// Redis was emptied a moment ago.
    pub(crate) fn refilling(wait_ms: u64) -> Self {
        let seconds = wait_ms.div_ceil(1000).max(1);
        let detail = format!(
            "Redis lost its data; workers are registering the builds that still run, so that nothing is built \
             twice; retry in {seconds} s"
        );
        Self::new(REFILLING, detail).retry_after(seconds)
    }

    /// Redis answers but accepts no writes.
    pub(crate) fn redis_refuses(why: &str) -> Self {
        Self::new(REDIS_REFUSES, format!("{why}; nothing is lost")).retry_after(5)
    }

    /// Redis did not answer within a request's time limit.
    pub(crate) fn redis_away() -> Self {
        Self::new(REDIS_AWAY, "Redis does not answer; nothing is lost, try again in a moment").retry_after(2)
    }
}

/// What may be shown of a name that somebody has sent.
pub(crate) fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(80).collect()
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let kind = match invalid.field {
            "cursor" => BAD_CURSOR,
            _ => INVALID_FIELD,
        };
        Self::new(kind, invalid.to_string()).field(invalid.field)
    }
}

impl From<fairlane_common::Error> for Refusal {
    fn from(error: fairlane_common::Error) -> Self {
        use fairlane_common::Error;
        match error {
            Error::Unavailable(cause) => {
                tracing::debug!(error = %cause, "Redis does not answer");
                match Error::Unavailable(cause).refusal() {
                    Some(why) => Self::redis_refuses(why),
                    None => Self::redis_away(),
                }
            }
            Error::OutOfMemory(_) => Self::memory(),
            Error::Schema { .. } => Self::new(WRONG_SCHEMA, error.to_string()).retry_after(60),
            Error::Invalid(invalid) => invalid.into(),
            Error::Unreadable(_) => {
                let detail = format!("{error}; a dispatcher of the newer release can serve it");
                Self::new(UNREADABLE, detail).retry_after(60)
            }
            other => {
                tracing::error!(error = %other, "a request failed");
                Self::new(INTERNAL, "unexpected reply from Redis; see the dispatcher's log")
            }
        }
    }
}

impl Refusal {
    /// Redis's memory is nearly used up.
    pub(crate) fn memory() -> Self {
        let detail = "Redis's memory is nearly used up, so no new builds are accepted. Logs of ended builds are removed \
                      automatically; if that is not enough, an operator can remove more (fairlane logs prune) or \
                      raise maxmemory";
        Self::new(MEMORY, detail).retry_after(30)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fairlane\""));
        }
        response
    }
}
