//! A build's log as plain text.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fairlane_common::build::Build;
use fairlane_common::limits;
use fairlane_common::log::LogPage;
use futures::StreamExt;

use super::builds::known;
use crate::api::Problem;
use crate::hub::LogSeat;
use crate::problem::{Answer, LOG_REMOVED, Refusal};
use crate::routes::caller::Reader;
use crate::routes::input::{Params, PathId};
use crate::routes::responses::AsItComes;
use crate::state::App;
use crate::upkeep::outage::jitter;

/// How often a followed log is read. Event streams send lines at once. This is for people with curl, and must
/// not cost a subscription each.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many seconds to wait for the end of a log after its build has ended.
const LOG_END_WAIT: u32 = 5;

/// The message for a log that is gone.
pub(crate) const GONE_TEXT: &str =
    "the log of this build was removed to free memory in Redis; build it again to see it";

/// The same for a log that has expired.
const EXPIRED_TEXT: &str = "the log of this build has expired: logs are kept for a day after the build's end";

/// The log of a build's latest run, as plain text. With `follow` it goes on until the build has
/// ended. Scope `read`.
#[utoipa::path(
    get, path = "/v1/builds/{id}/log", operation_id = "read_log", tag = "builds",
    params(
        ("id" = String, Path, description = "the build's id"),
        ("follow" = Option<bool>, Query, description = "whether to keep sending new lines until the build has ended"),
    ),
    responses(
        (status = 200, description = "the log", body = String, content_type = "text/plain"),
        (status = 404, description = "no such build", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "the log was removed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Redis does not answer, or too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    _: Reader,
    PathId(id): PathId,
    params: Params,
) -> Answer<Response> {
    let params = params.only(&["follow"])?;
    let follow = params.flag("follow")?;
    let build = known(&app, id).await?;
    if build.recorded {
        return Err(Refusal::new(LOG_REMOVED, EXPIRED_TEXT).build(id));
    }
    if build.log_pruned.as_deref() == Some("gone") {
        return Err(Refusal::new(LOG_REMOVED, GONE_TEXT).build(id));
    }
    let run = newest_run(&app, &build).await?;
    let seat = if follow { Some(app.hub.seat_for_log()?) } else { None };
    let reader = Reading { _seat: seat, app, build, run, after: "0-0".to_owned(), follow, waits: 0 };
    let body = futures::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
            Ok(None) => None,
            // The connection is aborted, so that nobody takes half a log for the whole.
            Err(_) => Some((Err(std::io::Error::other("Redis does not answer")), None)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        ("x-accel-buffering", "no"),
        // A log may contain anything, so a browser must not render it as a page.
        ("x-content-type-options", "nosniff"),
    ];
    // A compressor polls the body once more after its end.
    let mut response = (headers, Body::from_stream(body.fuse())).into_response();
    if follow {
        response.extensions_mut().insert(AsItComes);
    }
    Ok(response)
}

/// The run with the newest log. For a build that waits for its next run, it is the previous one.
async fn newest_run(app: &App, build: &Build) -> Answer<u32> {
    let run = build.log_run.unwrap_or(build.attempt);
    if run > 1 && app.ask(app.queue.log_end(build.id, run, 1)).await?.1.is_empty() {
        return Ok(run - 1);
    }
    Ok(run)
}

struct Reading {
    // A followed log counts as a stream.
    _seat: Option<LogSeat>,
    app: Arc<App>,
    build: Build,
    run: u32,
    after: String,
    follow: bool,
    // How many reads found nothing since the build was seen to have ended.
    waits: u32,
}

impl Reading {
    async fn next(&mut self) -> Answer<Option<Bytes>> {
        loop {
            let read = self.app.queue.read_log(self.build.id, self.run, &self.after, limits::LOG_PAGE);
            match self.app.ask(read).await {
                Ok(page) => {
                    if let Some(last) = page.entries.last() {
                        self.after.clone_from(&last.id);
                        return Ok(Some(text(&page)));
                    }
                }
                Err(refusal) if !self.follow => return Err(refusal),
                Err(_) => {}
            }
            if !self.follow || self.is_over() {
                return Ok(None);
            }
            let shutdown = &self.app.hub.shutdown;
            tokio::select! {
                () = tokio::time::sleep(jitter(LOOK_AGAIN)) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
            match self.app.ask(self.app.queue.build(self.build.id)).await {
                Ok(Some(build)) => self.build = build,
                Ok(None) => return Ok(None),
                Err(_) => continue,
            }
            let newest = self.build.log_run.unwrap_or(self.build.attempt);
            if newest > self.run && !self.build.state.is_ended() {
                let before = std::mem::replace(&mut self.after, "0-0".to_owned());
                self.run = newest;
                if before != "0-0" {
                    return Ok(Some(Bytes::from("--- the build has started again ---\n")));
                }
            }
        }
    }

    fn is_over(&mut self) -> bool {
        if !self.build.state.is_ended() {
            return false;
        }
        self.waits += 1;
        let complete = self.build.log_end.as_ref().is_none_or(|end| *end == self.after);
        complete || self.waits > LOG_END_WAIT
    }
}

fn text(page: &LogPage) -> Bytes {
    let mut text = String::new();
    for (at, entry) in page.entries.iter().enumerate() {
        if let (Some(gap), true) = (page.gap(), at == page.before_gap) {
            let _ = writeln!(text, "--- {gap} ---");
        }
        text.push_str(&entry.text);
        text.push('\n');
    }
    Bytes::from(text)
}
