//! For monitoring. Open to everybody: these routes show no builds.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fairlane_common::limits;
use fairlane_http::metrics_response;

use crate::api::{Health, Problem};
use crate::problem::{Answer, Refusal};
use crate::state::App;

/// Metrics of the queue and of this dispatcher, as docs/metrics.md lists them.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", security(()), tag = "health",
    responses((
        status = 200, description = "for Prometheus; OpenMetrics if the request accepts it",
        content((String = "text/plain"), (String = "application/openmetrics-text"))
    ))
)]
pub(super) async fn metrics(State(app): State<Arc<App>>, request: HeaderMap) -> Response {
    metrics_response(&request, &app.metrics.registry(&app.queue, app.settings.bounds.redis_wait).await)
}

/// Whether this dispatcher is alive.
#[utoipa::path(
    get, path = "/healthz", operation_id = "is_alive", security(()), tag = "health",
    responses((status = 200, description = "the dispatcher is alive", body = Health))
)]
pub(super) async fn live(State(app): State<Arc<App>>) -> Json<Health> {
    Json(health(&app))
}

/// Whether this dispatcher is ready: Redis answers, accepts writes, and holds a queue of a known layout. It
/// stays ready when Redis's memory is nearly used up, but the status says so.
#[utoipa::path(
    get, path = "/readyz", operation_id = "is_ready", security(()), tag = "health",
    responses(
        (status = 200, description = "the dispatcher is ready", body = Health),
        (status = 503, description = "Redis does not answer or rejects writes", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Answer<Json<Health>> {
    app.ask(app.queue.snapshot()).await?;
    if let Some(why) = app.writes.refusal() {
        return Err(Refusal::redis_refuses(why));
    }
    let mut health = health(&app);
    let memory = app.ask(async { Ok(app.queue.memory().await) }).await?;
    if let Some(memory) = memory.filter(|memory| memory.percent() >= limits::MEMORY_FULL_PERCENT) {
        health.status = format!("Redis's memory is nearly used up ({} %)", memory.percent());
    }
    Ok(Json(health))
}

fn health(app: &App) -> Health {
    Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dispatcher: app.dispatcher.to_string(),
    }
}
