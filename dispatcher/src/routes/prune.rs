//! Removing logs of ended builds, to free Redis's memory.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::queue::{Prune, parse_size};

use crate::api::PrunedLogs;
use crate::problem::{Answer, BAD_PARAMETER, Refusal};
use crate::routes::caller::Operator;
use crate::routes::input::Params;
use crate::state::App;

/// Remove logs of ended builds, oldest first: those older than a given age, or until all of them use no more
/// than a given size (they are shortened first). Each call removes a limited number: while `more` is true,
/// send the request again. Scope `operate`; recorded in the audit log.
#[utoipa::path(
    delete, path = "/v1/logs", operation_id = "prune_logs", tag = "builds",
    params(
        ("older_than" = Option<String>, Query, description = "remove logs of builds that ended longer ago than this: 90s, 15m, 6h"),
        ("to" = Option<String>, Query, description = "remove the oldest logs until this much is left: 500KB, 200MB, 2GB"),
        ("dry_run" = Option<bool>, Query, description = "only report how much would be removed"),
    ),
    responses((status = 200, description = "what was removed", body = PrunedLogs))
)]
pub(super) async fn prune(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    params: Params,
) -> Answer<Json<PrunedLogs>> {
    let params = params.only(&["older_than", "to", "dry_run"])?;
    let older_than = params.text("older_than").map(|text| {
        humantime::parse_duration(text)
            .map_err(|_| bad("older_than", "must be a time such as 90s, 15m or 6h"))
    });
    let to_bytes = params
        .text("to")
        .map(|text| parse_size(text).ok_or_else(|| bad("to", "must be a size such as 200MB")));
    let prune = Prune {
        older_than: older_than.transpose()?,
        to_bytes: to_bytes.transpose()?,
        dry_run: params.flag("dry_run")?,
    };
    if prune.older_than.is_none() && prune.to_bytes.is_none() {
        return Err(bad(
            "older_than",
            "choose which logs: older_than=6h, or to=200MB to remove the oldest until that much is left",
        ));
    }
    let pruned = app.queue.prune_logs(&prune, &caller.name).await?;
    if !prune.dry_run {
        tracing::info!(logs = pruned.logs, bytes = pruned.bytes, by = caller.name, "logs pruned");
    }
    let fairlane_common::queue::Pruned { logs, bytes, left, more } = pruned;
    Ok(Json(PrunedLogs { logs, bytes, left_bytes: left, more, dry_run: prune.dry_run }))
}

fn bad(field: &str, why: &str) -> Refusal {
    Refusal::new(BAD_PARAMETER, format!("{field}: {why}")).field(field)
}
