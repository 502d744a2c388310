//! Lanes: what they wait for, and what the queue knows about them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::id::Lane;

use crate::api::{LanePage, LaneView, Problem};
use crate::problem::{Answer, Refusal, UNKNOWN_LANE};
use crate::routes::caller::Reader;
use crate::routes::input::{Params, PathText};
use crate::routes::view;
use crate::state::App;

/// A page of lanes, in the order of their next builds. Scope `read`.
#[utoipa::path(
    get, path = "/v1/lanes", operation_id = "list_lanes", tag = "queue",
    params(
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses(
        (status = 200, description = "a page", body = LanePage),
        (status = 400, description = "a bad cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<LanePage>> {
    let params = params.only(&["limit", "cursor"])?;
    let page = app.ask(app.queue.lanes(params.limit()?, params.text("cursor"))).await?;
    Ok(Json(LanePage { lanes: page.items.into_iter().map(view::lane).collect(), cursor: page.cursor }))
}

/// One lane. Scope `read`.
#[utoipa::path(
    get, path = "/v1/lanes/{*lane}", operation_id = "show_lane", tag = "queue",
    params(("lane" = String, Path, description = "the lane, such as github.com/owner/name")),
    responses(
        (status = 200, description = "the lane", body = LaneView),
        (status = 404, description = "no such lane", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Reader,
    PathText(name): PathText,
) -> Answer<Json<LaneView>> {
    let unknown = |why: &str| Refusal::new(UNKNOWN_LANE, format!("lane: {why}")).field("lane");
    let lane: Lane = name.parse().map_err(|why: fairlane_common::Invalid| unknown(&why.why))?;
    let found = app.ask(app.queue.lane(&lane)).await?;
    let known = found.at.is_some()
        || found.queued + found.permits + found.builds.0 + found.builds.1 > 0
        || found.held.is_some()
        || found.banned.is_some();
    if !known {
        return Err(unknown(&format!(
            "no build was ever requested in {lane}; GET /v1/lanes lists the lanes with builds"
        )));
    }
    Ok(Json(view::lane(found)))
}
