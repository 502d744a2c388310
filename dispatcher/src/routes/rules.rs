//! Rules: what operators set for lanes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::queue::By;
use fairlane_common::rule::{Pattern, Rule};

use crate::api::{Problem, RuleAnswer, RuleBody, RuleList};
use crate::problem::{Answer, BAD_PARAMETER, Refusal, UNKNOWN_RULE};
use crate::routes::caller::{Operator, Reader};
use crate::routes::input::{JsonBody, Params};
use crate::state::App;

/// All rules. Scope `read`.
#[utoipa::path(
    get, path = "/v1/rules", operation_id = "list_rules", tag = "rules",
    responses((status = 200, description = "the rules by pattern", body = RuleList))
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<RuleList>> {
    params.only(&[])?;
    let all = app.ask(app.queue.all_rules()).await?;
    Ok(Json(RuleList {
        unreadable: all.unreadable,
        rules: all.rules.into_iter().map(|(pattern, rule)| (pattern.to_string(), rule)).collect(),
    }))
}

/// Set the rule of a pattern, replacing the previous one. It takes effect at once. Scope `operate`.
#[utoipa::path(
    put, path = "/v1/rules", operation_id = "set_rule", tag = "rules", request_body = RuleBody,
    params(
        ("pattern" = String, Query, description = "a lane, or leading segments and a final *"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "what the change did", body = RuleAnswer),
        (status = 422, description = "invalid field", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    params: Params,
    body: JsonBody,
) -> Answer<Json<RuleAnswer>> {
    let (pattern, reason) = pattern_and_reason(params)?;
    let mut rule: Rule = body.object()?.decode()?;
    (rule.by, rule.at) = (None, None);
    rule.check(&pattern)?;
    let change =
        app.ask(app.queue.set_rule(&pattern, &rule, By { name: &caller.name, reason: &reason })).await?;
    tracing::info!(rule.pattern = %pattern, by = caller.name, "rule set");
    let until_built = [&rule.ban, &rule.hold].into_iter().flatten().any(|stop| stop.until_built);
    let warning = (until_built && change.live == 0).then(|| {
        "the rule ends when a build of the lane succeeds, but none is queued or running; request one with \
         override_ban"
            .to_owned()
    });
    Ok(Json(RuleAnswer { pattern: pattern.to_string(), existed: change.existed, live: change.live, warning }))
}

/// Remove the rule of a pattern. Scope `operate`.
#[utoipa::path(
    delete, path = "/v1/rules", operation_id = "delete_rule", tag = "rules",
    params(
        ("pattern" = String, Query, description = "a lane, or leading segments and a final *"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "the rule was removed", body = RuleAnswer),
        (status = 404, description = "there was none", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    params: Params,
) -> Answer<Json<RuleAnswer>> {
    let (pattern, reason) = pattern_and_reason(params)?;
    let change = app.ask(app.queue.delete_rule(&pattern, By { name: &caller.name, reason: &reason })).await?;
    if !change.existed {
        let detail = format!("pattern: there is no rule for {pattern}; GET /v1/rules lists the rules");
        return Err(Refusal::new(UNKNOWN_RULE, detail).field("pattern"));
    }
    tracing::info!(rule.pattern = %pattern, by = caller.name, "rule removed");
    Ok(Json(RuleAnswer { pattern: pattern.to_string(), existed: true, live: change.live, warning: None }))
}

fn pattern_and_reason(params: Params) -> Answer<(Pattern, String)> {
    let params = params.only(&["pattern", "reason"])?;
    let pattern = params.parse("pattern")?.ok_or_else(|| {
        let detail =
            "pattern: say which lanes, such as ?pattern=github.com/owner/name or ?pattern=github.com/owner/*";
        Refusal::new(BAD_PARAMETER, detail).field("pattern")
    })?;
    Ok((pattern, params.reason()?))
}
