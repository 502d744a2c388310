//! The policy of the queue, which decides what build is next.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::queue::By;

use crate::api::{PolicyBody, PolicyView, Problem};
use crate::problem::Answer;
use crate::routes::caller::{Operator, Reader};
use crate::routes::input::{JsonBody, Params};
use crate::routes::view;
use crate::state::App;

/// The policy in force, who set it and when. Scope `read`.
#[utoipa::path(
    get, path = "/v1/policy", operation_id = "show_policy", tag = "policy",
    responses((status = 200, description = "the policy", body = PolicyView))
)]
pub(super) async fn show(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<PolicyView>> {
    params.only(&[])?;
    Ok(Json(view::policy(app.ask(app.queue.policy()).await?)))
}

/// Set the policy, replacing the previous one: absent fields get their defaults again. It takes effect at
/// once for claims; a queued build keeps its position until people join or leave it. Scope `operate`.
#[utoipa::path(
    put, path = "/v1/policy", operation_id = "set_policy", tag = "policy", request_body = PolicyBody,
    params(("reason" = Option<String>, Query, description = "why, for the audit log")),
    responses(
        (status = 200, description = "the policy now", body = PolicyView),
        (status = 422, description = "a field is unknown or out of range", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    params: Params,
    body: JsonBody,
) -> Answer<Json<PolicyView>> {
    let reason = params.only(&["reason"])?.reason()?;
    let policy: PolicyBody = body.object()?.decode()?;
    app.ask(app.queue.set_policy(&policy, By { name: &caller.name, reason: &reason })).await?;
    tracing::info!(by = caller.name, "the policy was set");
    Ok(Json(view::policy(app.ask(app.queue.policy()).await?)))
}
