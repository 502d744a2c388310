//! The HTTP API. Each route stands beside its documentation, and neither can be without the other.

mod activity;
mod builds;
pub(crate) mod caller;
mod document;
mod events;
mod health;
pub(crate) mod input;
mod lanes;
pub(crate) mod log;
mod nodes;
mod policy;
mod prune;
mod queue;
mod request;
pub(crate) mod responses;
mod rules;
pub(crate) mod unique_json;
pub(crate) mod view;
mod workers;

use std::sync::Arc;

use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::problem;
use crate::serve::App;

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
        .routes(routes!(events::follow))
        .routes(routes!(events::watchers))
        .routes(routes!(log::read))
        .routes(routes!(prune::prune))
        .routes(routes!(queue::show))
        .routes(routes!(queue::scale))
        .routes(routes!(lanes::list))
        .routes(routes!(lanes::show))
        .routes(routes!(rules::list, rules::set, rules::delete))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::clear))
        .routes(routes!(policy::show, policy::set))
        .routes(routes!(activity::acts))
        .routes(routes!(activity::changes))
        .routes(routes!(health::metrics))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

/// The API's document as JSON, as `/openapi.json` serves it.
pub fn openapi() -> String {
    openapi_text(router().into_openapi())
}

/// Finishes the document: the kinds of errors, and paths as such documents write them.
pub(crate) fn openapi_text(mut document: OpenApi) -> String {
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
