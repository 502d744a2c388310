//! The queue in numbers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::{MemoryView, Problem, QueueView, ScaleView};
use crate::problem::Answer;
use crate::routes::caller::Reader;
use crate::routes::input::Params;
use crate::routes::view;
use crate::state::App;

/// How many lanes are returned with the totals: a screenful.
const LANES: usize = 50;

/// The queue's numbers, and the lanes with the next builds. Scope `read`.
#[utoipa::path(
    get, path = "/v1/queue", operation_id = "show_queue", tag = "queue",
    responses(
        (status = 200, description = "the queue", body = QueueView),
        (status = 503, description = "Redis does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<QueueView>> {
    params.only(&[])?;
    let look = async {
        let (lanes, aside) = (app.queue.lanes(LANES, None).await?, app.queue.aside().await?);
        let problems = app.problems.problems(&app.queue, &app.outlook, &app.history).await?;
        Ok((app.queue.snapshot().await?, lanes, aside, app.queue.memory().await, problems))
    };
    let (snapshot, lanes, aside, memory, problems) = app.ask(look).await?;
    let more_lanes = lanes.cursor.is_some();
    let lanes = lanes.items.into_iter().map(view::lane).collect();
    let aside = aside.into_iter().map(view::aside).collect();
    let memory = memory.map(|of| MemoryView { used_bytes: of.used, max_bytes: of.max });
    Ok(Json(QueueView {
        totals: view::totals(&snapshot),
        lanes,
        problems: problems.to_vec(),
        more_lanes,
        memory,
        aside,
    }))
}

/// Numbers for an autoscaler: provide `wanted_slots` slots, within your limits. Scope `read`.
#[utoipa::path(
    get, path = "/v1/scale", operation_id = "show_scale", tag = "queue",
    responses(
        (status = 200, description = "how many slots the queue could use", body = ScaleView),
        (status = 503, description = "Redis does not answer", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn scale(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<ScaleView>> {
    params.only(&[])?;
    Ok(Json(view::scale(app.ask(app.queue.scale()).await?)))
}
