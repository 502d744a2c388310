//! Campaigns: lists of builds that are made in the background.

mod items;
mod view;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fairlane_common::id::BuildId;
use fairlane_common::queue::By;
use fairlane_common::queue::campaigns::{
    Added, CampaignCancelled, CampaignName, CampaignState, Changed, ItemState, Made, NewCampaign, Pacing,
    PacingChange,
};
use serde_json::{Map, Value};

use crate::api::{
    CampaignCancelAnswer, CampaignChange, CampaignItemPage, CampaignItems, CampaignItemsAnswer, CampaignList,
    CampaignRequest, CampaignView, Problem,
};
use crate::problem::{
    Answer, CAMPAIGN_ENDED, CAMPAIGN_EXISTS, FULL, Refusal, UNKNOWN_CAMPAIGN, WRONG_FIRST, printable,
};
use crate::routes::caller::{Operator, Reader};
use crate::routes::input::{JsonBody, Params, PathText};
use crate::state::App;
use items::{number, pacing_change, read_items};

/// Fields of a request for a new campaign.
const FIELDS: [&str; 8] =
    ["name", "request", "launches", "launches_present", "pacing", "standing", "items", "state"];

/// All campaigns that have not ended, and those of the last 30 days, newest first. Scope `read`.
#[utoipa::path(
    get, path = "/v1/campaigns", operation_id = "list_campaigns", tag = "campaigns",
    responses((status = 200, description = "the campaigns", body = CampaignList))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Reader,
    params: Params,
) -> Answer<Json<CampaignList>> {
    params.only(&[])?;
    let all = app.ask(app.queue.campaigns()).await?;
    let campaigns = all.campaigns.iter().map(|one| view::campaign(one, &all)).collect();
    Ok(Json(CampaignList { campaigns, unreadable: all.unreadable }))
}

/// Create a campaign. It makes builds once its state is `running`; it can get more items before and after. Scope
/// `operate`.
#[utoipa::path(
    post, path = "/v1/campaigns", operation_id = "create_campaign", tag = "campaigns", request_body = CampaignRequest,
    params(("reason" = Option<String>, Query, description = "why, for the audit log")),
    responses(
        (status = 201, description = "the campaign", body = CampaignView),
        (status = 409, description = "a campaign of this name exists", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    params: Params,
    body: JsonBody,
) -> Answer<(StatusCode, Json<CampaignView>)> {
    let reason = params.only(&["reason"])?.reason()?;
    let mut fields = body.object()?;
    fields.nothing_else(&FIELDS)?;
    let name: CampaignName = fields.need::<String>("name", "a name")?.parse()?;
    let request = fields.maybe::<String>("request", "a random text")?;
    if request.as_ref().is_some_and(|text| text.len() > 100) {
        return Err(Refusal::invalid("request", "must have at most 100 bytes"));
    }
    // Without one, a repeated request is another one.
    let request = request.unwrap_or_else(|| BuildId::new().to_string());
    let pacing = match fields.maybe::<Map<String, Value>>("pacing", "an object")? {
        Some(fields) => items::pacing(fields)?,
        None => Pacing::default(),
    };
    let launches = number(&mut fields, "launches")?;
    let launches_present = number(&mut fields, "launches_present")?.unwrap_or(0.0);
    let standing = fields.maybe::<bool>("standing", "true or false")?.unwrap_or(false);
    let running = match fields.maybe::<String>("state", "'running'")?.as_deref() {
        None => false,
        Some("running") => true,
        Some(_) => {
            return Err(Refusal::invalid(
                "state",
                "must be 'running', or left out until all items are there",
            ));
        }
    };
    let items = match fields.value("items") {
        Some(items) => read_items(items, &app)?,
        None => Vec::new(),
    };
    let new = NewCampaign { name: name.clone(), request, launches, launches_present, pacing, standing };
    check_memory(&app, &body).await?;
    let by = By { name: &caller.name, reason: &reason };
    match app.ask(app.queue.new_campaign(&new, by)).await? {
        Made::Made => {}
        Made::Exists(state) => {
            let detail = format!(
                "name: a campaign '{name}' exists and is {state}; choose another name (GET /v1/campaigns lists those in use)"
            );
            return Err(Refusal::new(CAMPAIGN_EXISTS, detail).field("name"));
        }
        Made::Full(max) => {
            let detail = format!("there are {max} campaigns that have not ended; cancel some first");
            return Err(Refusal::new(FULL, detail).retry_after(60));
        }
    }
    tracing::info!(campaign = %name, by = caller.name, "campaign created");
    if !items.is_empty() {
        added(&name, &app.ask(app.queue.add_items(&name, 0, &items)).await?)?;
    }
    // A repeated request does not resume a campaign that was paused in between.
    if running && read(&app, &name).await?.state == CampaignState::Loading {
        let none = PacingChange::default();
        app.ask(app.queue.change_campaign(&name, Some(true), &none, by)).await?;
    }
    app.feeder.note(1);
    app.feeder.look();
    Ok((StatusCode::CREATED, Json(read(&app, &name).await?)))
}

/// A campaign: how far it is, and why it makes no build at the moment. Scope `read`.
#[utoipa::path(
    get, path = "/v1/campaigns/{name}", operation_id = "show_campaign", tag = "campaigns",
    params(("name" = String, Path, description = "the campaign's name")),
    responses(
        (status = 200, description = "the campaign", body = CampaignView),
        (status = 404, description = "no campaign has this name", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Reader,
    PathText(name): PathText,
    params: Params,
) -> Answer<Json<CampaignView>> {
    params.only(&[])?;
    Ok(Json(read(&app, &known(&name)?).await?))
}

/// Start, pause or resume a campaign, or change its pacing. Scope `operate`.
///
/// A pause takes effect at once: builds that have not started go back to the campaign; running ones finish.
#[utoipa::path(
    patch, path = "/v1/campaigns/{name}", operation_id = "change_campaign", tag = "campaigns",
    request_body = CampaignChange,
    params(
        ("name" = String, Path, description = "the campaign's name"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "the campaign now", body = CampaignView),
        (status = 404, description = "no campaign has this name", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathText(name): PathText,
    params: Params,
    body: JsonBody,
) -> Answer<Json<CampaignView>> {
    let (name, reason) = (known(&name)?, params.only(&["reason"])?.reason()?);
    let mut fields = body.object()?;
    fields.nothing_else(&["state", "pacing"])?;
    let running = match fields.maybe::<String>("state", "'running' or 'paused'")?.as_deref() {
        None => None,
        Some("running") => Some(true),
        Some("paused") => Some(false),
        Some(_) => return Err(Refusal::invalid("state", "must be 'running' or 'paused'")),
    };
    let pacing = match fields.maybe::<Map<String, Value>>("pacing", "an object")? {
        Some(pacing) => pacing_change(pacing)?,
        None => PacingChange::default(),
    };
    if running.is_none() && pacing.names.is_empty() {
        return Err(Refusal::invalid("body", "nothing is to be changed; send state, pacing or both"));
    }
    let by = By { name: &caller.name, reason: &reason };
    match app.ask(app.queue.change_campaign(&name, running, &pacing, by)).await? {
        Changed::Changed(state, taken_back) => {
            tracing::info!(campaign = %name, %state, taken_back, by = caller.name, "campaign changed");
        }
        Changed::Unknown => return Err(unknown(&name)),
        Changed::Ended(state) => return Err(ended(&name, state)),
    }
    app.feeder.look();
    Ok(Json(read(&app, &name).await?))
}

/// Cancel a campaign: what has not started is not built. Running builds finish, unless `running=true`. Scope `operate`.
#[utoipa::path(
    delete, path = "/v1/campaigns/{name}", operation_id = "cancel_campaign", tag = "campaigns",
    params(
        ("name" = String, Path, description = "the campaign's name"),
        ("running" = Option<bool>, Query, description = "whether to cancel its running builds, too"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "what the cancellation did", body = CampaignCancelAnswer),
        (status = 404, description = "no campaign has this name", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathText(name): PathText,
    params: Params,
) -> Answer<Json<CampaignCancelAnswer>> {
    let (name, params) = (known(&name)?, params.only(&["running", "reason"])?);
    let (running, reason) = (params.flag("running")?, params.reason()?);
    let by = By { name: &caller.name, reason: &reason };
    match app.ask(app.queue.cancel_campaign(&name, running, by)).await? {
        CampaignCancelled::Cancelled { dropped, stopping, left } => {
            tracing::info!(campaign = %name, dropped, stopping, by = caller.name, "campaign cancelled");
            app.feeder.look();
            Ok(Json(CampaignCancelAnswer { dropped, stopping, finishing: left }))
        }
        CampaignCancelled::Unknown => Err(unknown(&name)),
        CampaignCancelled::Ended(state) => Err(ended(&name, state)),
    }
}

/// The items of a campaign, best first. Scope `read`.
#[utoipa::path(
    get, path = "/v1/campaigns/{name}/items", operation_id = "list_campaign_items", tag = "campaigns",
    params(
        ("name" = String, Path, description = "the campaign's name"),
        ("state" = Option<String>, Query, description = "only items in this state"),
        ("limit" = Option<usize>, Query, description = "how many at most"),
        ("cursor" = Option<String>, Query, description = "where to start: the cursor from the previous page"),
    ),
    responses(
        (status = 200, description = "a page of items", body = CampaignItemPage),
        (status = 404, description = "no campaign has this name", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list_items(
    State(app): State<Arc<App>>,
    _: Reader,
    PathText(name): PathText,
    params: Params,
) -> Answer<Json<CampaignItemPage>> {
    let (name, params) = (known(&name)?, params.only(&["state", "limit", "cursor"])?);
    let (state, limit) = (params.parse::<ItemState>("state")?, params.limit()?);
    let cursor = params.cursor::<u64>()?.unwrap_or(0);
    let look = async {
        let is_there = app.queue.campaign(&name).await?.is_some();
        Ok((is_there, app.queue.campaign_items(&name, state, cursor, limit).await?))
    };
    let (is_there, (items, cursor)) = app.ask(look).await?;
    if !is_there {
        return Err(unknown(&name));
    }
    let items = items.into_iter().map(view::item).collect();
    Ok(Json(CampaignItemPage { items, cursor: cursor.map(|cursor| cursor.to_string()) }))
}

/// Add items to a campaign that has `first` of them. Scope `operate`.
#[utoipa::path(
    post, path = "/v1/campaigns/{name}/items", operation_id = "add_campaign_items", tag = "campaigns",
    request_body = CampaignItems,
    params(("name" = String, Path, description = "the campaign's name")),
    responses(
        (status = 200, description = "how many items it has", body = CampaignItemsAnswer),
        (status = 404, description = "no campaign has this name", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has another number of items, or has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    _: Operator,
    PathText(name): PathText,
    params: Params,
    body: JsonBody,
) -> Answer<Json<CampaignItemsAnswer>> {
    params.only(&[])?;
    let name = known(&name)?;
    let mut fields = body.object()?;
    fields.nothing_else(&["first", "items"])?;
    let first = fields.need::<u64>("first", "how many items the campaign has, a whole number")?;
    let items = read_items(fields.need("items", "a list of items")?, &app)?;
    check_memory(&app, &body).await?;
    let items = added(&name, &app.ask(app.queue.add_items(&name, first, &items)).await?)?;
    app.feeder.look();
    Ok(Json(CampaignItemsAnswer { items }))
}

/// What is said of items that were added.
fn added(name: &CampaignName, answer: &Added) -> Answer<u64> {
    match answer {
        Added::Added(items) => Ok(*items),
        Added::Unknown => Err(unknown(name)),
        Added::Ended(state) => Err(ended(name, *state)),
        Added::Misfit(items) => {
            let detail = format!(
                "first: the campaign '{name}' has {items} items; send the next ones with first = {items}"
            );
            Err(Refusal::new(WRONG_FIRST, detail).field("first"))
        }
        Added::Duplicate(at, other) => {
            let why = format!("the campaign has this image already, as its item {other}");
            Err(Refusal::invalid(&format!("items[{at}].image"), why))
        }
        Added::Full(max) => {
            Err(Refusal::invalid("items", format!("a campaign can have at most {max} items")))
        }
    }
}

/// # Errors
/// Redis's memory is nearly used up.
async fn check_memory(app: &App, body: &JsonBody) -> Answer<()> {
    if app.is_memory_short(body.len()).await? { Err(Refusal::memory()) } else { Ok(()) }
}

async fn read(app: &App, name: &CampaignName) -> Answer<CampaignView> {
    let all = app.ask(app.queue.campaign(name)).await?;
    let found = all.as_ref().and_then(|all| Some(view::campaign(all.campaigns.first()?, all)));
    found.ok_or_else(|| unknown(name))
}

/// The campaign that a path names.
fn known(name: &str) -> Answer<CampaignName> {
    name.parse().map_err(|_| no_campaign(&printable(name)))
}

fn unknown(name: &CampaignName) -> Refusal {
    no_campaign(name.as_str())
}

fn no_campaign(name: &str) -> Refusal {
    let detail = format!("no campaign has the name '{name}'; GET /v1/campaigns lists them");
    Refusal::new(UNKNOWN_CAMPAIGN, detail).field("name")
}

fn ended(name: &CampaignName, state: CampaignState) -> Refusal {
    Refusal::new(
        CAMPAIGN_ENDED,
        format!("the campaign '{name}' is {state}; start a new one under another name"),
    )
}
