//! What all responses have in common: compression, whether a client may cache them, and whether it already
//! has them.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use axum::body::{self, Body, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::CompressionLevel;
use tower_http::compression::{CompressionLayer, Predicate};

use crate::problem::{INTERNAL, Refusal};

/// Smaller responses fit into one packet without compression.
pub(super) const COMPRESSED_MIN: u64 = 1024;

/// Marks a response that is streamed, which a compressor would delay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsItComes;

/// Compresses responses with gzip if it is worth it and the client accepts gzip.
pub(crate) fn compression() -> CompressionLayer<Worth> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(Worth)
}

/// Decides whether compressing a response is worth it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worth;

impl Predicate for Worth {
    fn should_compress<B: HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let kind = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        !kind.starts_with(b"text/event-stream")
            && response.extensions().get::<AsItComes>().is_none()
            && response.body().size_hint().exact().is_none_or(|bytes| bytes >= COMPRESSED_MIN)
    }
}

/// The `Cache-Control` of a response.
fn keeping(route: &str) -> HeaderValue {
    HeaderValue::from_static(match route {
        "/openapi.json" => "public, max-age=300",
        // The client may keep a copy if it revalidates it each time.
        "/v1/queue" | "/v1/history" | "/v1/scale" | "/v1/lanes" | "/v1/lanes/{*lane}" | "/v1/rules"
        | "/v1/policy" | "/v1/workers" | "/v1/nodes" => "private, no-cache",
        // Logs, labels, and who did what must not be stored on any disk.
        _ => "no-store",
    })
}

/// Sets the caching headers of each response, and answers 304 if the client already has it.
pub(crate) async fn revalidate(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (keeping, is_get) = (keeping(route), request.method() == Method::GET);
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let keeping = if response.status().is_success() { keeping } else { HeaderValue::from_static("no-store") };
    let (mut head, mut body) = response.into_parts();
    if is_get && head.status == StatusCode::OK && is_json(&head.headers) {
        let Ok(bytes) = body::to_bytes(body, usize::MAX).await else {
            return Refusal::new(INTERNAL, "the response could not be encoded").into_response();
        };
        let tag = tag_of(&bytes);
        body = Body::from(bytes);
        if known.is_some_and(|known| names(&known, &tag)) {
            head.status = StatusCode::NOT_MODIFIED;
            head.headers.remove(header::CONTENT_TYPE);
            head.headers.remove(header::CONTENT_LENGTH);
            body = Body::empty();
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            head.headers.insert(header::ETAG, tag);
        }
    }
    head.headers.entry(header::CACHE_CONTROL).or_insert(keeping);
    Response::from_parts(head, body)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// An entity tag for these bytes; weak, because they may be compressed.
fn tag_of(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    format!("W/\"{}\"", hex(&digest.as_ref()[..16]))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a client's `If-None-Match` names this tag.
pub(super) fn names(known: &HeaderValue, tag: &str) -> bool {
    let known = known.to_str().unwrap_or_default();
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.split(',').any(|one| one.trim() == "*" || bare(one) == bare(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_as_weak_ones() {
        let tag = tag_of(b"{}");
        assert_eq!((tag.len(), &tag[..3]), (36, "W/\""));
        for (known, has) in
            [(tag.clone(), true), (tag[2..].to_owned(), true), (format!("\"a\", {tag}"), true)]
        {
            assert_eq!(names(&HeaderValue::from_str(&known).unwrap(), &tag), has, "{known}");
        }
        assert!(names(&HeaderValue::from_static("*"), &tag));
        assert!(!names(&HeaderValue::from_static("\"a\", W/\"b\""), &tag));
        assert_ne!(tag_of(b"{}"), tag_of(b"[]"));
    }
}
