//! Following a build: server-sent events, and how many people a stream stands for.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::builds::look;
use crate::api::{Problem, StateEvent, WatchersAnswer, WatchersBody};
use crate::hub::cursor::Cursor;
use crate::hub::stream;
use crate::problem::{Answer, BAD_CURSOR, OTHER_DISPATCHER, Refusal, UNKNOWN_SUBSCRIBER};
use crate::routes::caller::{Reader, Watcher};
use crate::routes::input::{JsonBody, Params, PathId};
use crate::state::App;

const LAST_EVENT_ID: &str = "last-event-id";

/// Follow a build.
///
/// Events: `state` (first, and at every change), `log`, `notice`, and finally `end` or `moved`. Every `id` is
/// a cursor that any dispatcher understands: send it back as `Last-Event-ID`, and the stream continues after
/// it. Scope `read`.
#[utoipa::path(
    get, path = "/v1/builds/{id}/events", operation_id = "follow_build", tag = "builds",
    params(
        ("id" = String, Path, description = "the build's id"),
        ("watchers" = Option<u64>, Query, description = "how many people this stream stands for; 1 if absent"),
        ("last_event_id" = Option<String>, Query, description = "for clients that cannot set Last-Event-ID"),
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was received"),
    ),
    responses(
        (status = 200, description = "the events, until the build has ended", body = StateEvent, content_type = "text/event-stream"),
        (status = 400, description = "a bad cursor", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such build", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Redis does not answer, or too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    Reader(caller): Reader,
    PathId(id): PathId,
    params: Params,
    headers: HeaderMap,
) -> Answer<Response> {
    let params = params.only(&["watchers", "last_event_id"])?;
    let watchers = params.whole("watchers")?.unwrap_or(1);
    let cursor = match params.text("last_event_id") {
        Some(text) => Some(cursor(text)?),
        None => match headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?")) {
            None | Some("") => None,
            Some(text) => Some(cursor(text)?),
        },
    };
    let (seat, run) = if let Some(joined) = app.hub.join(id, cursor)? {
        joined
    } else {
        let (build, view) = look(&app, id, true).await?;
        if build.recorded {
            return Err(Refusal::unknown_build(&id.to_string()));
        }
        app.hub.attach(&build, &view).await?
    };
    let subscription = app.people.subscribe(id, watchers, &caller.name);
    let events = stream::events(Arc::clone(&app.hub), seat, subscription, cursor, run);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-cache"),
        // Otherwise, proxies such as nginx would buffer events.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

fn cursor(text: &str) -> Answer<Cursor> {
    text.parse()
        .map_err(|why| Refusal::new(BAD_CURSOR, format!("last_event_id: {why}")).field("last_event_id"))
}

/// Set how many people a stream stands for. Scope `submit` or `read`.
#[utoipa::path(
    put, path = "/v1/builds/{id}/watchers", operation_id = "set_watchers", tag = "builds", request_body = WatchersBody,
    params(("id" = String, Path, description = "the build's id")),
    responses(
        (status = 200, description = "the count in effect", body = WatchersAnswer),
        (status = 404, description = "no such stream", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "another dispatcher has that stream", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn watchers(
    State(app): State<Arc<App>>,
    _: Watcher,
    PathId(id): PathId,
    body: JsonBody,
) -> Answer<Json<WatchersAnswer>> {
    let mut fields = body.object()?;
    fields.nothing_else(&["subscriber", "count"])?;
    let subscriber: String = fields.need("subscriber", "the subscriber from the stream's first event")?;
    let count: u64 = fields.need("count", "a whole number, 0 or more")?;
    let Some(serial) = app.people.serial(&subscriber) else {
        let detail = "subscriber: not a stream of this dispatcher; send this to the dispatcher that serves the stream, \
                      or open the stream anew with ?watchers=";
        return Err(Refusal::new(OTHER_DISPATCHER, detail).field("subscriber"));
    };
    let people = app.people.set(id, serial, count).ok_or_else(|| {
        let detail = "subscriber: no open stream of this build has that name; open one with ?watchers=";
        Refusal::new(UNKNOWN_SUBSCRIBER, detail).field("subscriber")
    })?;
    Ok(Json(WatchersAnswer { people }))
}
