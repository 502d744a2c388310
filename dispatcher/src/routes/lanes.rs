//! Lanes: what they wait for, and what the queue knows about them.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::id::Lane;
use serde::Serialize;

use crate::api::{LanePage, LaneView, Problem, UsagePage};
use crate::problem::{Answer, Refusal, UNKNOWN_LANE};
use crate::routes::caller::Reader;
use crate::routes::input::{Params, PathText};
use crate::routes::{history, view};
use crate::state::App;

/// A page of lanes, in the order of their next builds; or with `order=slot_hours` the lanes that used most of the
/// capacity, by the builds that ended since then. Scope `read`.
#[utoipa::path(
    get, path = "/v1/lanes", operation_id = "list_lanes", tag = "queue",
    params(
        ("order" = Option<String>, Query, description = "line (if absent) or slot_hours"),
        ("since" = Option<String>, Query, description = "with order=slot_hours, how far back: a time span such as 1h or 7d, or a time in Unix milliseconds; at most 7 days; 24h if absent"),
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page; only with order=line"),
    ),
    responses(
        (status = 200, description = "a page; with order=slot_hours a UsagePage", body = Lanes),
        (status = 400, description = "an invalid parameter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<Lanes>> {
    if params.parse::<Order>("order")? == Some(Order::SlotHours) {
        let params = params.only(&["order", "since", "limit"])?;
        return Ok(Json(Lanes::Use(history::usage(&app, &params).await?)));
    }
    let params = params.only(&["order", "limit", "cursor"])?;
    let page = app.ask(app.queue.lanes(params.limit()?, params.text("cursor"))).await?;
    let lanes = page.items.into_iter().map(view::lane).collect();
    Ok(Json(Lanes::Line(LanePage { lanes, cursor: page.cursor })))
}

/// What a list of lanes has, by its order.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Lanes {
    Line(LanePage),
    Use(UsagePage),
}

/// The order of a list of lanes.
#[derive(PartialEq, Eq)]
enum Order {
    Line,
    SlotHours,
}

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "line" => Ok(Self::Line),
            "slot_hours" => Ok(Self::SlotHours),
            _ => Err("must be line or slot_hours"),
        }
    }
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
