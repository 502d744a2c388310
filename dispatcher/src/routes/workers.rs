//! Workers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::id::WorkerId;
use fairlane_common::queue::By;

use crate::api::{DrainAnswer, DrainBody, DrainedName, Problem, WorkerList};
use crate::problem::{Answer, Refusal, UNKNOWN_WORKER};
use crate::routes::caller::{Operator, Reader};
use crate::routes::input::{OptionalBody, Params, PathText};
use crate::routes::view;
use crate::state::App;

/// A page of live workers. Scope `read`.
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "list_workers", tag = "workers",
    params(
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses((status = 200, description = "a page", body = WorkerList))
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<WorkerList>> {
    let params = params.only(&["limit", "cursor"])?;
    let (limit, after) = (params.limit()?, params.cursor::<WorkerId>()?);
    let (mut workers, mut drained) =
        app.ask(async { tokio::try_join!(app.queue.workers(), app.queue.drained()) }).await?;
    drained.retain(|name, _| workers.iter().all(|worker| worker.host != *name));
    let drained = drained.into_iter().map(|(name, of)| DrainedName { name, since_ms: of.at, by: of.by });
    // Workers come and go, so a page starts after a name, not at a number.
    workers.retain(|worker| after.as_ref().is_none_or(|after| worker.id > *after));
    let more = workers.len() > limit;
    workers.truncate(limit);
    let cursor = workers.last().filter(|_| more).map(|worker| worker.id.to_string());
    Ok(Json(WorkerList {
        workers: workers.into_iter().map(view::worker).collect(),
        drained: drained.collect(),
        cursor,
    }))
}

/// Stop a worker from claiming builds until `{"drain": false}` undoes it. Its running builds go on. This
/// applies to the name of its host or pod, and so survives a restart. Scope `operate`.
#[utoipa::path(
    post, path = "/v1/workers/{id}/drain", operation_id = "drain_worker", tag = "workers", request_body = Option<DrainBody>,
    params(
        ("id" = String, Path, description = "the worker's id, or the name of its host or pod"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "the worker is drained, or no longer drained", body = DrainAnswer),
        (status = 404, description = "no such worker", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathText(name): PathText,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Answer<Json<DrainAnswer>> {
    let unknown = || {
        let detail = "id: no live worker has that id or name; GET /v1/workers lists them";
        Refusal::new(UNKNOWN_WORKER, detail).field("id")
    };
    let reason = params.only(&["reason"])?.reason()?;
    let id: WorkerId = name.parse().map_err(|_| unknown())?;
    let drain = match body {
        Some(body) => {
            let mut fields = body.object()?;
            fields.nothing_else(&["drain"])?;
            fields.maybe("drain", "true or false")?.unwrap_or(true)
        }
        None => true,
    };
    let by = By { name: &caller.name, reason: &reason };
    let change = app.ask(app.queue.drain_worker(&id, drain, by)).await?.ok_or_else(unknown)?;
    tracing::info!(name = change.name, by = caller.name, drain, "worker drained or undrained");
    Ok(Json(DrainAnswer { id, drain, name: change.name, workers: change.workers }))
}
