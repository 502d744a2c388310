//! Workers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::id::WorkerId;

use crate::api::{DrainAnswer, DrainBody, Problem, WorkerList};
use crate::app::App;
use crate::auth::{Operator, Reader};
use crate::input::{OptionalBody, Params, PathText};
use crate::problem::{Answer, Refusal, UNKNOWN_WORKER};
use crate::view;

/// All live workers. Scope `read`.
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "list_workers", tag = "workers",
    responses((status = 200, description = "the workers", body = WorkerList))
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<WorkerList>> {
    params.only(&[])?;
    let workers = app.ask(app.queue.workers()).await?;
    Ok(Json(WorkerList { workers: workers.into_iter().map(view::worker).collect() }))
}

/// Have a worker drain: it takes no more builds. `{"drain": false}` undoes it. Scope `operate`.
#[utoipa::path(
    post, path = "/v1/workers/{id}/drain", operation_id = "drain_worker", tag = "workers", request_body = Option<DrainBody>,
    params(("id" = String, Path, description = "the worker's id")),
    responses(
        (status = 200, description = "the worker was asked", body = DrainAnswer),
        (status = 404, description = "no such worker", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathText(name): PathText,
    OptionalBody(body): OptionalBody,
) -> Answer<Json<DrainAnswer>> {
    let unknown = || {
        Refusal::new(UNKNOWN_WORKER, "id: no live worker has that id; GET /v1/workers lists them").field("id")
    };
    let id: WorkerId = name.parse().map_err(|_| unknown())?;
    let drain = match body {
        Some(body) => {
            let mut fields = body.object()?;
            fields.nothing_else(&["drain"])?;
            fields.maybe("drain", "true or false")?.unwrap_or(true)
        }
        None => true,
    };
    if !app.ask(app.queue.drain_worker(&id, drain, &caller.name)).await? {
        return Err(unknown());
    }
    tracing::info!(worker.id = %id, by = caller.name, drain, "worker {id} asked to drain: {drain}");
    Ok(Json(DrainAnswer { id, drain }))
}
