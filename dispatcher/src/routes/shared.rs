//! Responses that several callers share if they accept one from a moment ago.
//!
//! A request with `Cache-Control: max-age=2` may get a response that was made for somebody else up to two
//! seconds earlier. So fifty open pages cost Redis as much as one page does. All other requests are answered
//! from Redis.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body, Bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::Instant;

use super::caller::Reader;
use super::responses::{COMPRESSED_MIN, names};
use crate::problem::{INTERNAL, Refusal};
use crate::shared::{AGE_MAX, Kept};
use crate::state::App;

/// Routes for scope `read` whose responses are the same for everybody who has that scope.
const SHARED: &[&str] = &[
    "/v1/queue",
    "/v1/lanes",
    "/v1/lanes/{*lane}",
    "/v1/rules",
    "/v1/policy",
    "/v1/workers",
    "/v1/nodes",
    "/v1/builds",
    "/v1/builds/{id}",
    "/v1/activity",
    "/v1/audit",
    "/v1/history",
    "/v1/campaigns",
    "/v1/campaigns/{name}",
    "/v1/campaigns/{name}/items",
];

/// Answers with a shared response if the caller accepts one.
pub(crate) async fn share(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let is_shared = request.method() == Method::GET && SHARED.contains(&route);
    let age = accepted_age(request.headers()).filter(|_| is_shared);
    let key = request.uri().path_and_query().map(ToString::to_string);
    let Some(((age, key), slot)) =
        age.zip(key).and_then(|(age, key)| Some(((age, key.clone()), app.shared.slot(&key)?)))
    else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    if Reader::from_request_parts(&mut parts, &app).await.is_err() {
        // It may still be for them, with less in it: a build is also shown to those who may only submit.
        return next.run(Request::from_parts(parts, body)).await;
    }
    let asked = Asked::of(&parts.headers);
    let mut latest = slot.lock().await;
    if let Some(kept) = latest.as_ref().filter(|kept| kept.at.elapsed() < age) {
        let kept = Arc::clone(kept);
        drop(latest);
        return asked.answer(&kept);
    }
    // A full response is needed here, so it must not be a 304.
    parts.headers.remove(header::IF_NONE_MATCH);
    let at = Instant::now();
    let response = next.run(Request::from_parts(parts, body)).await;
    if matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    ) {
        return response;
    }
    tracing::trace!(key, "answer read for all who accept it");
    let Some(kept) = keep(at, response).await else {
        return Refusal::new(INTERNAL, "the response could not be encoded").into_response();
    };
    *latest = Some(Arc::clone(&kept));
    drop(latest);
    asked.answer(&kept)
}

/// How old a response may be, from `Cache-Control: max-age=<seconds>`.
fn accepted_age(headers: &HeaderMap) -> Option<Duration> {
    let wishes = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let mut seconds = None;
    for wish in wishes.split(',').map(str::trim) {
        match wish.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("max-age") => seconds = value.parse().ok(),
            _ if wish.eq_ignore_ascii_case("no-cache") || wish.eq_ignore_ascii_case("no-store") => {
                return None;
            }
            _ => {}
        }
    }
    seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds).min(AGE_MAX))
}

/// Reads a response to its end, and compresses it once for everybody.
async fn keep(at: Instant, response: Response) -> Option<Arc<Kept>> {
    let (head, body) = response.into_parts();
    let plain = body::to_bytes(body, usize::MAX).await.ok()?;
    let gzip = (plain.len() as u64 >= COMPRESSED_MIN).then(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory cannot fail.
        let _ = encoder.write_all(&plain);
        Bytes::from(encoder.finish().unwrap_or_default())
    });
    let mut headers = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::CACHE_CONTROL, header::ETAG, header::RETRY_AFTER] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding, authorization"));
    Some(Arc::new(Kept { at, status: head.status, headers, plain, gzip }))
}

/// Which forms of the response a caller can use.
struct Asked {
    known: Option<HeaderValue>,
    gzip: bool,
}

impl Asked {
    fn of(headers: &HeaderMap) -> Self {
        let encodings =
            headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
        let gzip = encodings.split(',').any(|one| {
            let mut parts = one.split(';').map(str::trim);
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
                && parts.all(|quality| !matches!(quality, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        });
        Self { known: headers.get(header::IF_NONE_MATCH).cloned(), gzip }
    }

    fn answer(&self, kept: &Kept) -> Response {
        let mut headers = kept.headers.clone();
        headers.insert(header::AGE, HeaderValue::from(kept.at.elapsed().as_secs()));
        let tag = kept.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        if let (Some(known), Some(tag)) = (&self.known, tag)
            && names(known, tag)
        {
            headers.remove(header::CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let body = match &kept.gzip {
            Some(gzip) if self.gzip => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip
            }
            _ => &kept.plain,
        };
        (kept.status, headers, Body::from(body.clone())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_an_age_accepts_one() {
        let age = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, text.parse().unwrap());
            accepted_age(&headers).map(|age| age.as_secs())
        };
        for (text, seconds) in [
            ("max-age=2", Some(2)),
            ("no-transform, Max-Age=2", Some(2)),
            ("max-age=3600", Some(10)),
            ("max-age=0", None),
            ("max-age=-1", None),
            ("max-age=2, no-cache", None),
            ("no-store", None),
            ("", None),
        ] {
            assert_eq!(age(text), seconds, "{text}");
        }
        assert_eq!(accepted_age(&HeaderMap::new()), None);
    }
}
