//! The web page for operators. Its files in `dispatcher/page` are included in the program: there is no build
//! step, and nothing is loaded from elsewhere.
//!
//! The files contain no data, so they need no token. The page asks for a token and calls the same API as
//! everybody.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::responses::{hex, names};
use crate::problem::{Refusal, UNKNOWN_PATH};
use crate::state::App;

/// The folder of the page's files, followed by a version that changes with any of them.
const FOLDER: &str = "page";
/// Stands for that folder and version in `index.html`.
const PLACEHOLDER: &str = "PAGE_FOLDER";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page: its name, its type, and its contents.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! files {
    ($($name:literal $kind:ident,)+) => {
        &[$(($name, $kind, include_bytes!(concat!("../../page/", $name)).as_slice()),)+]
    };
}

const FILES: &[File] = files! {
    "style.css" STYLE,
    "views.css" STYLE,
    "icon.svg" IMAGE,
    "app.js" SCRIPT,
    "api.js" SCRIPT,
    "words.js" SCRIPT,
    "parts.js" SCRIPT,
    "chart.js" SCRIPT,
    "problems.js" SCRIPT,
    "now.js" SCRIPT,
    "builds.js" SCRIPT,
    "build.js" SCRIPT,
    "log.js" SCRIPT,
    "log-lines.js" SCRIPT,
    "lane.js" SCRIPT,
    "act.js" SCRIPT,
    "workers.js" SCRIPT,
    "rules.js" SCRIPT,
    "capacity.js" SCRIPT,
    "campaigns.js" SCRIPT,
    "campaign-acts.js" SCRIPT,
    "vendor/preact.js" SCRIPT,
    "vendor/uplot.js" SCRIPT,
    "vendor/uplot.css" STYLE,
    "vendor/ansi_up.js" SCRIPT,
    "vendor/LICENSES.txt" TEXT,
};

const INDEX: &str = include_str!("../../page/index.html");

/// The page may only run its own scripts, only connects to its own dispatcher, and cannot be shown within
/// another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `index.html`, its entity tag, and the version of all files.
struct Page {
    version: String,
    index: String,
    tag: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(INDEX.as_bytes());
    for (name, _, bytes) in FILES {
        context.update(name.as_bytes());
        context.update(bytes);
    }
    let version = hex(&context.finish().as_ref()[..8]);
    let index = INDEX.replace(PLACEHOLDER, &format!("{FOLDER}/{version}"));
    let tag = HeaderValue::try_from(format!("W/\"{version}\"")).unwrap_or(HeaderValue::from_static("W/\"\""));
    Page { version, index, tag }
});

/// The page's paths.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(index))
        .route(&format!("/{FOLDER}/{{version}}/{{*name}}"), get(file))
        .layer(middleware::from_fn(protect))
}

async fn index(headers: HeaderMap) -> Response {
    let answer =
        [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (header::ETAG, PAGE.tag.clone())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| names(known, PAGE.tag.to_str().unwrap_or("?")))
    {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    (answer, [kind], PAGE.index.as_str()).into_response()
}

async fn file(Path((version, name)): Path<(String, String)>) -> Response {
    let Some((_, kind, bytes)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return Refusal::new(UNKNOWN_PATH, "the page has no such file; open / for the page").into_response();
    };
    // During an upgrade, `index.html` may come from another dispatcher.
    let keeping = if version == PAGE.version { "public, max-age=31536000, immutable" } else { "no-store" };
    ([(header::CACHE_CONTROL, keeping), (header::CONTENT_TYPE, kind)], *bytes).into_response()
}

async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_served_and_named_once() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut there = Vec::new();
        for sub in ["", "vendor/"] {
            for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    there.push(format!("{sub}{}", entry.file_name().to_string_lossy()));
                }
            }
        }
        there.retain(|name| name != "index.html");
        there.sort();
        let mut served: Vec<_> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        served.sort();
        assert_eq!(there, served);
        for (name, ..) in FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            let listed = INDEX.matches(&format!("{PLACEHOLDER}/{name}\"")).count();
            assert_eq!(
                listed, 1,
                "index.html loads {name} at once, or the page would load it in a second step"
            );
        }
    }
}
