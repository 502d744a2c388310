//! What happened recently: what operators did, and how builds changed state.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::queue::{ActFilter, ChangeFilter, Since};

use crate::api::{ActPage, ChangePage, Problem};
use crate::problem::Answer;
use crate::routes::caller::Reader;
use crate::routes::input::Params;
use crate::routes::view;
use crate::state::App;

/// What operators did, newest first: who, what, to what, and when. Scope `read`.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "list_acts", tag = "activity",
    params(
        ("since" = Option<String>, Query, description = "only entries after this time: a duration before now, such as 10m or 1d, or Unix milliseconds"),
        ("by" = Option<String>, Query, description = "only acts by the token with this name"),
        ("act" = Option<String>, Query, description = "only acts of this kind, such as 'rule set'"),
        ("what" = Option<String>, Query, description = "only acts on exactly this pattern, lane, build, worker or node"),
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses(
        (status = 200, description = "a page", body = ActPage),
        (status = 400, description = "an invalid parameter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn acts(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<ActPage>> {
    let params = params.only(&["since", "by", "act", "what", "limit", "cursor"])?;
    let text = |name| params.text(name).map(str::to_owned);
    let filter = ActFilter {
        since: params.parse::<Since>("since")?,
        by: text("by"),
        act: text("act"),
        what: text("what"),
        limit: params.limit()?,
        cursor: text("cursor"),
    };
    let page = app.ask(app.queue.acts(&filter)).await?;
    Ok(Json(ActPage { acts: page.items.into_iter().map(view::act).collect(), cursor: page.cursor }))
}

/// How builds changed state, newest first. Redis keeps the latest 50,000 changes. Scope `read`.
#[utoipa::path(
    get, path = "/v1/activity", operation_id = "list_changes", tag = "activity",
    params(
        ("since" = Option<String>, Query, description = "only entries after this time: a duration before now, such as 10m or 1d, or Unix milliseconds"),
        ("lane" = Option<String>, Query, description = "only changes to builds of this lane (or repository)"),
        ("worker" = Option<String>, Query, description = "only changes that involve this worker"),
        ("state" = Option<String>, Query, description = "only changes into this state"),
        ("build" = Option<String>, Query, description = "only changes to the build with this id"),
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses(
        (status = 200, description = "a page", body = ChangePage),
        (status = 400, description = "an invalid parameter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    _: Reader,
    params: Params,
) -> Answer<Json<ChangePage>> {
    let params = params.only(&["since", "lane", "worker", "state", "build", "limit", "cursor"])?;
    let filter = ChangeFilter {
        since: params.parse::<Since>("since")?,
        lane: params.parse("lane")?,
        worker: params.parse("worker")?,
        state: params.parse("state")?,
        build: params.parse("build")?,
        limit: params.limit()?,
        cursor: params.text("cursor").map(str::to_owned),
    };
    let page = app.ask(app.queue.changes(&filter)).await?;
    let changes = page.items.into_iter().map(view::change).collect();
    Ok(Json(ChangePage { changes, cursor: page.cursor }))
}
