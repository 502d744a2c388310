//! Requesting, showing and cancelling builds.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use fairlane_common::FailureCause;
use fairlane_common::build::{Build, BuildState, FailureClass};
use fairlane_common::id::{BuildId, Lane};
use fairlane_common::queue::inspect::Filter;
use fairlane_common::queue::{Admitted, By, Cancelled, Promoted, Since, Submit, Submitted};
use fairlane_common::trace::{Kind, Span, TraceContext};

use super::request;
use crate::access::scope::Scope;
use crate::api::{BuildAnswer, BuildPage, BuildRequest, BuildView, CancelAnswer, Problem, PromoteAnswer};
use crate::metrics::{Asked, Outcome};
use crate::problem::{Answer, BAD_PARAMETER, BANNED, CONFLICT, ENDED_BUILD, FULL, Refusal};
use crate::routes::caller::{Caller, Operator, Reader, Submitter, Watcher};
use crate::routes::input::{JsonBody, Params, PathId};
use crate::routes::view;
use crate::state::App;

/// Request a build.
///
/// A live build of the same image is joined; one that ended recently answers with its outcome, unless `force`
/// is set. Scope `submit`.
#[utoipa::path(
    post, path = "/v1/builds", operation_id = "ask_for_build", tag = "builds", request_body = BuildRequest,
    responses(
        (status = 202, description = "a new build", body = BuildAnswer),
        (status = 200, description = "an existing build: one that was joined, or one that has just ended", body = BuildAnswer),
        (status = 403, description = "the repository is banned", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the image is being built from something else", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid field", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "the queue is full; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Redis does not answer, or was emptied and runs are being registered again; see Retry-After", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Submitter(caller): Submitter,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<(StatusCode, Json<BuildAnswer>)> {
    let id = BuildId::new();
    // By the standard, an invalid header is ignored.
    let place = headers.get("traceparent").and_then(|text| text.to_str().ok()?.parse::<TraceContext>().ok());
    let mut span = Span::of_build(Kind::Server, "POST /v1/builds", place, id);
    let answer = admit(&app, &caller, &body, id, span.context().or(place)).await;
    let (Ok((outcome, ..)) | Err((outcome, _))) = &answer;
    app.metrics.asked.get_or_create(&Asked { outcome: *outcome }).inc();
    let (outcome, admitted, lane) = answer.map_err(|(_, refusal)| {
        span.fail(refusal.urn());
        refusal
    })?;
    span.set("build.id", &admitted.id);
    span.set("build.lane", &lane);
    span.set("build.joined", &(outcome != Outcome::New));
    let status = if outcome == Outcome::New { StatusCode::ACCEPTED } else { StatusCode::OK };
    let (eta_seconds, ended_seconds_ago) = times(&app, &admitted).await;
    let Admitted { id, state, attempt, people, position, .. } = admitted;
    tracing::info!(build.id = %id, build.lane = %lane, ?outcome, "build requested");
    let joined = outcome != Outcome::New;
    let answer =
        BuildAnswer { id, state, joined, lane, position, people, eta_seconds, attempt, ended_seconds_ago };
    Ok((status, Json(answer)))
}

type Admission = Result<(Outcome, Admitted, Lane), (Outcome, Refusal)>;

async fn admit(
    app: &Arc<App>,
    caller: &Caller,
    body: &JsonBody,
    id: BuildId,
    place: Option<TraceContext>,
) -> Admission {
    let mut wanted = body
        .object()
        .and_then(|fields| request::read(fields, id, &app.settings))
        .map_err(|refusal| (Outcome::Invalid, refusal))?;
    wanted.spec.traceparent = place.map(|place| place.to_string()).unwrap_or_default();
    let lane = wanted.spec.repo.lane();
    if wanted.override_ban {
        caller.require(Scope::Operate).map_err(|refusal| (Outcome::Invalid, refusal))?;
    }
    let submit = Submit {
        id,
        spec: wanted.spec,
        force: wanted.force,
        // A ban applies to everybody who does not override it, including operators.
        override_ban: wanted.override_ban.then(|| caller.name.clone()),
        dispatcher: Some(app.dispatcher.clone()),
    };
    if app.is_memory_short(body.len()).await.map_err(|refusal| (Outcome::Failed, refusal))? {
        return Err((Outcome::Full, Refusal::memory()));
    }
    let image = submit.spec.image.clone();
    let submitted =
        app.ask(submit_and_count(app, submit, caller)).await.map_err(|refusal| (Outcome::Failed, refusal))?;
    match submitted {
        Submitted::New(admitted) => Ok((Outcome::New, admitted, lane)),
        Submitted::Joined(admitted) => Ok((Outcome::Joined, admitted, lane)),
        Submitted::Ended(admitted) => Ok((Outcome::Ended, admitted, lane)),
        Submitted::Conflict { id, .. } => {
            // The caller must not learn which repository the other request names.
            let detail = format!(
                "image: {image} is being built from another repository, ref or arguments by build {id}; wait until \
                 that ends, or request another image"
            );
            Err((Outcome::Conflict, Refusal::new(CONFLICT, detail).field("image").build(id)))
        }
        Submitted::Banned { pattern, message, until } => {
            Err((Outcome::Banned, banned(&pattern, &message, until)))
        }
        Submitted::Refilling { wait_ms } => Err((Outcome::Failed, Refusal::refilling(wait_ms))),
        Submitted::Full { what, max } => {
            let detail =
                format!("the {what} already has {max} builds, its maximum; retry when some have ended");
            Err((Outcome::Full, Refusal::new(FULL, detail).retry_after(60)))
        }
    }
}

/// Sends a request to the queue, which counts one more person. From then on, this dispatcher is responsible
/// for that count. It runs in a separate task, so that both happen even if the client hangs up or gets a
/// timeout.
fn submit_and_count(
    app: &Arc<App>,
    submit: Submit,
    caller: &Caller,
) -> impl Future<Output = fairlane_common::Result<Submitted>> + use<> {
    let (app, token) = (Arc::clone(app), caller.name.clone());
    let task = tokio::spawn(async move {
        let submitted = app.queue.submit(&submit).await?;
        if let Submitted::New(admitted) | Submitted::Joined(admitted) = &submitted
            && !admitted.state.is_ended()
        {
            app.people.asked(admitted.id, &token);
        }
        Ok(submitted)
    });
    async { task.await.unwrap_or_else(|_| Err(fairlane_common::Error::stopping())) }
}

fn banned(pattern: &str, message: &str, until: Option<u64>) -> Refusal {
    let message = if message.is_empty() { "the operators have banned this repository" } else { message };
    let until =
        until.and_then(|ms| i64::try_from(ms).ok()).and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let end = until.map(|at| format!(", until {}", at.strftime("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
    Refusal::new(BANNED, format!("{message} (rule {pattern}{end})")).message(message).field("repo")
}

/// The seconds until the image may be ready, and the seconds since the build ended. Never fails the request.
async fn times(app: &App, admitted: &Admitted) -> (Option<u64>, Option<u64>) {
    let look = async {
        let Some(build) = app.queue.build(admitted.id).await? else { return Ok((None, None)) };
        if let Some(ended) = build.ended {
            return Ok((
                None,
                Some(app.outlook.outlook().await?.snapshot().now.saturating_sub(ended) / 1000),
            ));
        }
        Ok((app.outlook.why(&build).await?.eta_ms.map(view::seconds), None))
    };
    app.ask(look).await.unwrap_or_default()
}

/// A page of builds: those in line first, in their order, then live ones, then those that ended within a day, latest
/// first. With `since`, `class`, `cause` or the state of an ended build: those that ended within 7 days, latest first.
/// Scope `read`.
#[utoipa::path(
    get, path = "/v1/builds", operation_id = "list_builds", tag = "builds",
    params(
        ("state" = Option<String>, Query, description = "only those in this state; ended: succeeded, failed or cancelled"),
        ("lane" = Option<String>, Query, description = "only those of this lane (or repository)"),
        ("since" = Option<String>, Query, description = "only those that ended later: a time span back from now, such as 10m or 1d, or a time in Unix milliseconds"),
        ("class" = Option<String>, Query, description = "only failures of this class"),
        ("cause" = Option<String>, Query, description = "only failures for this cause, a word of docs/failures.md"),
        ("q" = Option<String>, Query, description = "only those whose lane, ref, image, name or id contains this text, whatever its case; a page may be short and still have a cursor"),
        ("limit" = Option<usize>, Query, description = "maximum number; 200 if absent"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses(
        (status = 200, description = "a page", body = BuildPage),
        (status = 400, description = "invalid parameter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<BuildPage>> {
    let params = params.only(&["state", "lane", "since", "class", "cause", "q", "limit", "cursor"])?;
    let state = params.parse::<StateFilter>("state")?;
    let filter = Filter {
        state: state.as_ref().and_then(|state| state.0),
        ended: state.is_some_and(|state| state.0.is_none()),
        lane: params.parse::<Lane>("lane")?,
        since: params.parse::<Since>("since")?,
        class: params.parse::<FailureClass>("class")?,
        cause: params.parse::<FailureCause>("cause")?,
        text: params.text("q").map(str::to_owned),
        limit: params.limit()?,
        cursor: params.text("cursor").map(str::to_owned),
    };
    if let Some(state) = filter.state.filter(|state| filter.only_ended() && !state.is_ended()) {
        let detail = format!(
            "state: a build that is {state} has not ended; since, class and cause are for ended ones"
        );
        return Err(Refusal::new(BAD_PARAMETER, detail).field("state"));
    }
    let page = app.ask(app.queue.builds(&filter)).await?;
    let builds = page.items.iter().map(|build| view::build(build, None, true)).collect();
    let unreadable = page.unreadable.into_iter().map(view::unreadable).collect();
    Ok(Json(BuildPage { builds, cursor: page.cursor, unreadable }))
}

/// Which states to list: a single one, or if `None` all states of ended builds.
struct StateFilter(Option<BuildState>);

impl FromStr for StateFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ended" => Ok(Self(None)),
            _ => text.parse().map(|state| Self(Some(state))).map_err(|why: String| format!("{why}, ended")),
        }
    }
}

/// A build, and why it is in its state. A day after its end, its record is left: fewer fields, for 7 days. Scope `submit`
/// or `read`; labels and similar fields only with `read`.
#[utoipa::path(
    get, path = "/v1/builds/{id}", operation_id = "show_build", tag = "builds",
    params(("id" = String, Path, description = "the build's id")),
    responses(
        (status = 200, description = "the build", body = BuildView),
        (status = 404, description = "no such build", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Watcher(caller): Watcher,
    PathId(id): PathId,
) -> Answer<Json<BuildView>> {
    let private = caller.may(Scope::Read);
    let (build, mut view) = look(&app, id, private).await?;
    if private && matches!(build.state, BuildState::Starting | BuildState::Running | BuildState::Orphaned) {
        let (_, lines) = app.ask(app.queue.log_end(id, build.attempt, 1)).await?;
        view.last_line = lines.last().map(view::last_line);
    }
    Ok(Json(view))
}

/// A build, or its record. While workers are registering their runs, an unknown id gets a temporary error
/// instead of 404.
pub(super) async fn known(app: &App, id: BuildId) -> Answer<Build> {
    match app.ask(app.queue.build_or_record(id)).await? {
        Some(build) => Ok(build),
        None => Err(unknown(app, id).await),
    }
}

async fn unknown(app: &App, id: BuildId) -> Refusal {
    // Reads this again, because an answer from a second ago may be from before Redis was emptied.
    let wait = app.ask(app.queue.refilling()).await.ok().flatten();
    wait.map_or_else(|| Refusal::unknown_build(&id.to_string()), Refusal::refilling)
}

/// A build and its view.
pub(super) async fn look(app: &App, id: BuildId, private: bool) -> Answer<(Build, BuildView)> {
    let build = known(app, id).await?;
    let why = app.ask(app.outlook.why(&build)).await?;
    let view = view::build(&build, Some(&why), private);
    Ok((build, view))
}

/// Cancel a build for everybody who waits for it. Scope `operate`.
#[utoipa::path(
    delete, path = "/v1/builds/{id}", operation_id = "cancel_build", tag = "builds",
    params(
        ("id" = String, Path, description = "the build's id"),
        ("reason" = Option<String>, Query, description = "reason to show to the people who watch it"),
    ),
    responses(
        (status = 200, description = "the build has ended, through this request or earlier", body = CancelAnswer),
        (status = 202, description = "the build's run is being stopped", body = CancelAnswer),
        (status = 404, description = "no such build", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathId(id): PathId,
    params: Params,
) -> Answer<(StatusCode, Json<CancelAnswer>)> {
    let params = params.only(&["reason"])?;
    let reason = params.reason()?;
    let reason = if reason.is_empty() { "cancelled by an operator".to_owned() } else { reason };
    let cancelled = app.ask(app.queue.cancel(id, &caller.name, &reason)).await?;
    tracing::info!(build.id = %id, by = caller.name, ?cancelled, "build cancelled");
    match cancelled {
        Cancelled::Ended => {
            Ok((StatusCode::OK, Json(CancelAnswer { id, state: BuildState::Cancelled, stopping: false })))
        }
        Cancelled::Before(state) => Ok((StatusCode::OK, Json(CancelAnswer { id, state, stopping: false }))),
        Cancelled::Stopping => {
            let build = app.ask(app.queue.build(id)).await?;
            let state = build.map_or(BuildState::Running, |build| build.state);
            Ok((StatusCode::ACCEPTED, Json(CancelAnswer { id, state, stopping: true })))
        }
        Cancelled::Unknown => Err(unknown(&app, id).await),
    }
}

/// Make a background build interactive, as if somebody who waits had asked for it. Scope `operate`.
#[utoipa::path(
    post, path = "/v1/builds/{id}/promote", operation_id = "promote_build", tag = "builds",
    params(
        ("id" = String, Path, description = "the build's id"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "the build is interactive, through this request or earlier", body = PromoteAnswer),
        (status = 404, description = "no such build", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the build has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn promote(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathId(id): PathId,
    params: Params,
) -> Answer<Json<PromoteAnswer>> {
    let reason = params.only(&["reason"])?.reason()?;
    let by = By { name: &caller.name, reason: &reason };
    let promoted = app.ask(app.queue.promote(id, by)).await?;
    tracing::info!(build.id = %id, by = caller.name, ?promoted, "build promoted");
    match promoted {
        Promoted::Done => Ok(Json(PromoteAnswer { id, was_background: true })),
        Promoted::Before => Ok(Json(PromoteAnswer { id, was_background: false })),
        Promoted::Ended(state) => {
            let detail = format!("id: the build has ended as {state}; request it again");
            Err(Refusal::new(ENDED_BUILD, detail).field("id"))
        }
        Promoted::Unknown => Err(unknown(&app, id).await),
    }
}
