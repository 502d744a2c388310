//! The HTTP API.
//!
//! The path of a request, from the outside in: `service` counts it, compresses the response, shares the
//! response with others who accept that (`shared`), and sets its caching headers (`responses`). The route's
//! arguments check who may call (`caller`) and parse the request (`input`, `request`). The route calls the
//! queue with a time limit for Redis (`App::ask`), and `view` converts the queue's types to those of [`api`].
//! Every error is a `problem`, with a stable type and a text that says what to do.
//!
//! Each route is defined together with its documentation, and neither can exist without the other: the
//! document at `/openapi.json` is generated from the same lines that route requests.

mod activity;
mod builds;
pub(crate) mod caller;
mod campaigns;
mod document;
mod events;
mod health;
mod history;
pub(crate) mod input;
mod lanes;
pub(crate) mod log;
mod nodes;
mod page;
mod policy;
mod prune;
mod queue;
mod request;
pub(crate) mod responses;
mod rules;
mod shared;
pub(crate) mod unique_json;
pub(crate) mod view;
mod whoami;
mod workers;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{Redirect, Response};
use tokio::time::Instant;
use tower::ServiceExt as _;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::metrics;
use crate::problem::{self, Refusal, UNKNOWN_PATH, WRONG_METHOD};
use crate::state::App;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Fairlane",
        description = "A build queue for BinderHub. Errors are application/problem+json with a stable `type`."
    ),
    components(schemas(
        api::Problem, api::StateEvent, api::LogEvent, api::NoticeEvent, api::EndEvent, api::MovedEvent,
        api::SecretsBody
    )),
    modifiers(&Security)
)]
struct Document;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
        document.security = Some(vec![SecurityRequirement::new("token", [] as [&str; 0])]);
    }
}

/// All routes, and the document that describes them.
pub(crate) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(builds::ask, builds::list))
        .routes(routes!(builds::show, builds::cancel))
        .routes(routes!(builds::promote))
        .routes(routes!(events::follow))
        .routes(routes!(events::watchers))
        .routes(routes!(log::read))
        .routes(routes!(prune::prune))
        .routes(routes!(queue::show))
        .routes(routes!(queue::scale))
        .routes(routes!(history::show))
        .routes(routes!(lanes::list))
        .routes(routes!(lanes::show))
        .routes(routes!(rules::list, rules::set, rules::delete))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::clear))
        .routes(routes!(policy::show, policy::set))
        .routes(routes!(campaigns::list, campaigns::create))
        .routes(routes!(campaigns::show, campaigns::change, campaigns::cancel))
        .routes(routes!(campaigns::list_items, campaigns::add))
        .routes(routes!(activity::acts))
        .routes(routes!(activity::changes))
        .routes(routes!(whoami::show))
        .routes(routes!(health::metrics))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

/// Everything that a dispatcher serves: at `/`, and below the base path if there is one.
pub(crate) fn service(app: Arc<App>) -> axum::Router {
    let Some(base) = app.settings.base_path.clone() else { return at_root(app) };
    let to_page = Redirect::temporary(&format!("{base}/"));
    let prefix = base.clone();
    // This comes before routing, so that routes, their metrics and their caching do not depend on the base
    // path.
    let inner = at_root(app).map_request(move |request| base.strip(request));
    axum::Router::new()
        .route(prefix.as_str(), axum::routing::get(async move || to_page.clone()))
        .fallback_service(inner)
}

fn at_root(app: Arc<App>) -> axum::Router {
    let (router, document) = router().split_for_parts();
    let document = Arc::new(openapi_text(document));
    router
        .route(
            "/openapi.json",
            axum::routing::get(move || async move {
                ([(axum::http::header::CONTENT_TYPE, "application/json")], document.as_str().to_owned())
            }),
        )
        .merge(page::routes())
        .fallback(async || Refusal::new(UNKNOWN_PATH, "no such path; /openapi.json lists all paths"))
        .method_not_allowed_fallback(async || {
            Refusal::new(WRONG_METHOD, "this path does not support that method; see /openapi.json")
        })
        .layer(middleware::from_fn(responses::revalidate))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), shared::share))
        .layer(responses::compression())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .with_state(app)
}

/// The methods that metrics and logs distinguish.
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// Counts a request and its response time. The path is not logged, because it may contain anything.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    // A method can be any word, and each one would create a new time series that is kept forever.
    let is_method = |known: &&str| known.eq_ignore_ascii_case(request.method().as_str());
    let method = METHODS.into_iter().find(is_method).unwrap_or("other");
    let began = Instant::now();
    let response = next.run(request).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    tracing::debug!(
        http.method = method,
        http.route = route,
        http.status = status,
        took_ms = took.as_millis(),
        "{method} {route}: {status}"
    );
    let route = metrics::Route { method, route };
    app.metrics.latency.get_or_create(&route).observe(took.as_secs_f64());
    app.metrics.requests.get_or_create(&metrics::Request { route, status }).inc();
    response
}

/// The API's document as JSON, as `/openapi.json` serves it.
pub fn openapi() -> String {
    openapi_text(router().into_openapi())
}

/// Completes the document: adds the kinds of errors, and writes paths in the syntax of such documents.
fn openapi_text(mut document: OpenApi) -> String {
    use std::fmt::Write as _;
    let mut text = document.info.description.take().unwrap_or_default();
    text.push_str("\n\n| type | status | meaning |\n|---|---|---|\n");
    for kind in problem::ALL {
        let (status, title) = kind.summary();
        let _ = writeln!(text, "| `{}` | {status} | {title} |", kind.urn());
    }
    document.info.description = Some(text);
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    self::document::complete(&mut document);
    serde_json::to_string_pretty(&document).unwrap_or_default()
}
