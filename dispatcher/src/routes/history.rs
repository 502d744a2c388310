//! The past of the queue.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fairlane_common::clock::millis;
use fairlane_common::queue::{KEPT, Sample, Since, Usage, in_steps};

use crate::api::{FailedView, History, LaneUse, Problem, SampleView, UsagePage, WaitingView};
use crate::problem::{Answer, BAD_PARAMETER, Refusal};
use crate::routes::caller::Reader;
use crate::routes::input::Params;
use crate::state::App;

/// The possible steps, with their minutes.
pub(super) const STEPS: [(&str, u64); 6] =
    [("1m", 1), ("5m", 5), ("10m", 10), ("30m", 30), ("1h", 60), ("2h", 120)];
/// Without a step, the smallest one is used that gives at most this many samples.
const SAMPLES_MAX: u128 = 400;
/// How far back to go by default.
const DAY: Since = Since::Ago(Duration::from_hours(24));

/// The queue over time: people waiting, builds running, what started and ended. One sample a minute is kept for 7 days.
/// Scope `read`.
#[utoipa::path(
    get, path = "/v1/history", operation_id = "show_history", tag = "queue",
    params(
        ("since" = Option<String>, Query, description = "how far back: a time span such as 1h or 7d, or a time in Unix milliseconds; at most 7 days; 24h if absent"),
        ("step" = Option<String>, Query, description = "1m, 5m, 10m, 30m, 1h or 2h; if absent, the smallest that gives at most 400 samples"),
    ),
    responses(
        (status = 200, description = "the samples", body = History),
        (status = 400, description = "an invalid parameter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<History>> {
    let params = params.only(&["since", "step"])?;
    let since = params.parse::<Since>("since")?.unwrap_or(DAY);
    let step = params.parse::<Step>("step")?;
    let (now_ms, samples) = app.ask(app.history.samples()).await?;
    let since_ms = kept(since, now_ms)?;
    let step = step.map_or_else(|| smallest(now_ms - since_ms), |step| step.0);
    let step_ms = millis(step);
    // The first step must be complete.
    let first = samples.partition_point(|sample| sample.at < since_ms / step_ms * step_ms);
    let samples = in_steps(&samples[first..], step).iter().map(sample).collect();
    Ok(Json(History { now_ms, since_ms, step_ms, samples }))
}

/// The lanes that used most of the capacity. See [`super::lanes::list`].
pub(super) async fn usage(app: &Arc<App>, params: &Params) -> Answer<UsagePage> {
    let since = params.parse::<Since>("since")?.unwrap_or(DAY);
    let (now_ms, _) = app.ask(app.history.samples()).await?;
    // The start of a time span is rounded to a minute, so that requests within the same minute share an
    // answer.
    let since_ms = kept(since, now_ms)?;
    let since_ms = if matches!(since, Since::Ago(_)) { since_ms / 60_000 * 60_000 } else { since_ms };
    let usage = app.ask(app.history.usage(since_ms)).await?;
    Ok(UsagePage { since_ms, lanes: lane_uses(&usage, params.limit()?) })
}

/// The start in Unix milliseconds, if it is within the time that is kept.
fn kept(since: Since, now_ms: u64) -> Answer<u64> {
    let oldest = now_ms.saturating_sub(millis(KEPT));
    match since {
        Since::Ago(ago) if ago <= KEPT => Ok(now_ms.saturating_sub(millis(ago))),
        // A minute more, for the time that a request takes.
        Since::At(at) if at + 60_000 >= oldest && at <= now_ms => Ok(at),
        Since::At(at) if at > now_ms => {
            Err(Refusal::new(BAD_PARAMETER, "since: must be in the past").field("since"))
        }
        _ => Err(Refusal::new(BAD_PARAMETER, "since: must be at most 7 days ago; nothing older is kept")
            .field("since")),
    }
}

/// One of [`STEPS`].
struct Step(Duration);

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = STEPS.iter().find(|(word, _)| *word == text);
        known
            .map(|(_, minutes)| Self(Duration::from_mins(*minutes)))
            .ok_or_else(|| format!("must be one of {}", STEPS.map(|(word, _)| word).join(", ")))
    }
}

fn smallest(span_ms: u64) -> Duration {
    let mut steps = STEPS.iter().map(|(_, minutes)| Duration::from_mins(*minutes));
    let span = u128::from(span_ms);
    steps.find(|step| span.div_ceil(step.as_millis()) <= SAMPLES_MAX).unwrap_or(Duration::from_hours(2))
}

fn sample(of: &Sample) -> SampleView {
    let Sample { at, people, running, slots, oldest_wait_s, waiting, started, succeeded, cancelled, failed } =
        *of;
    SampleView {
        at_ms: at,
        people,
        running,
        slots,
        oldest_wait_s,
        waiting: WaitingView {
            slot: waiting.slot,
            permit: waiting.permit,
            shared: waiting.shared,
            held: waiting.held,
            backoff: waiting.backoff,
        },
        started,
        succeeded,
        cancelled,
        failed: FailedView {
            repository: failed.repository,
            infrastructure: failed.infrastructure,
            stuck: failed.stuck,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of years fit")]
fn lane_uses(usage: &Usage, limit: usize) -> Vec<LaneUse> {
    let total = usage.lanes.iter().map(|(_, of)| of.slot_ms).sum::<u64>().max(1) as f64;
    let rounded = |number: f64, digits: f64| (number * digits).round() / digits;
    let view = |(lane, of): &(fairlane_common::Lane, fairlane_common::queue::Use)| LaneUse {
        lane: lane.clone(),
        slot_hours: rounded(of.slot_ms as f64 / 3_600_000.0, 1e4),
        builds: of.builds(),
        succeeded: of.succeeded,
        failed: of.failed,
        cancelled: of.cancelled,
        mean_s: rounded(of.slot_ms as f64 / of.builds().max(1) as f64 / 1000.0, 10.0),
        share: rounded(of.slot_ms as f64 / total, 1e4),
    };
    usage.lanes.iter().take(limit).map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_step_the_smallest_is_taken_that_gives_few_samples() {
        let minutes = |hours: u64| smallest(hours * 3_600_000).as_secs() / 60;
        assert_eq!([1, 6, 7, 24, 48, 7 * 24].map(minutes), [1, 1, 5, 5, 10, 30]);
    }
}
