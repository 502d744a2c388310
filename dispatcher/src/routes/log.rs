//! A build's log as plain text.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fairlane_common::build::Build;
use fairlane_common::id::BuildId;
use fairlane_common::limits;
use futures::StreamExt;

use super::builds::known;
use crate::api::Problem;
use crate::hub::LogSeat;
use crate::log_text::{newest_run, text};
use crate::problem::{ARCHIVE_AWAY, Answer, LOG_REMOVED, Refusal, UNKNOWN_BUILD};
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

const HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/plain; charset=utf-8"),
    ("x-accel-buffering", "no"),
    // A log may contain anything, so a browser must not render it as a page.
    ("x-content-type-options", "nosniff"),
];

/// The message for a log that is gone.
pub(crate) const GONE_TEXT: &str =
    "the log of this build was removed to free memory in Redis; build it again to see it";

/// The same for a log that has expired.
const EXPIRED_TEXT: &str = "the log of this build has expired: logs are kept for a day after the build's end";

/// The log of a build's latest run, as plain text. With `follow` it goes on until the build has
/// ended. If logs are archived, also the log of a build that is no longer known. Scope `read`.
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
        (status = 503, description = "Redis or the archive does not answer, or too many streams", body = Problem, content_type = "application/problem+json"),
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
    let build = match known(&app, id).await {
        Ok(build) => build,
        // The archive may keep logs for longer than Redis keeps records of builds.
        Err(refusal) if refusal.urn() == UNKNOWN_BUILD.urn() => return archived(&app, id, refusal).await,
        Err(refusal) => return Err(refusal),
    };
    if build.recorded {
        return archived(&app, id, Refusal::new(LOG_REMOVED, EXPIRED_TEXT).build(id)).await;
    }
    match build.log_pruned.as_deref() {
        Some("gone") => return archived(&app, id, Refusal::new(LOG_REMOVED, GONE_TEXT).build(id)).await,
        // The archive has all of it. If it does not answer, a part is better than nothing.
        Some(_) if build.archived => {
            let nothing = Refusal::new(LOG_REMOVED, GONE_TEXT);
            if let Ok(whole) = archived(&app, id, nothing).await {
                return Ok(whole);
            }
        }
        _ => {}
    }
    let run = app.ask(newest_run(&app.queue, &build)).await?;
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
    // A compressor polls the body once more after its end.
    let mut response = (HEADERS, Body::from_stream(body.fuse())).into_response();
    if follow {
        response.extensions_mut().insert(AsItComes);
    }
    Ok(response)
}

/// A log from the archive. `gone` is the answer if it is not there.
async fn archived(app: &App, id: BuildId, gone: Refusal) -> Answer<Response> {
    let Some(archive) = &app.settings.archive else { return Err(gone) };
    match archive.get(id).await {
        Ok(Some(log)) => Ok((HEADERS, Body::from_stream(log)).into_response()),
        Ok(None) => Err(gone),
        Err(why) => {
            tracing::warn!(build.id = %id, why, "a log cannot be read from the archive");
            let detail = "the log may be in the archive, which does not answer; try again later";
            Err(Refusal::new(ARCHIVE_AWAY, detail).retry_after(30).build(id))
        }
    }
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
                        return Ok(Some(Bytes::from(text(&page))));
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
