//! The routes of campaigns: what they accept, refuse, show and change.

use fairlane_common::queue::Outcome;
use fairlane_common::{FailureCause, FailureClass};
use fairlane_dispatcher::api::{
    ActPage, BuildPage, BuildView, CampaignCancelAnswer, CampaignItemPage, CampaignItemsAnswer, CampaignList,
    CampaignState, CampaignView, ItemState, QueueView,
};
use fairlane_testkit::{RedisServer, wait_for, wait_for_eq};
use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{Dispatcher, SOON, Worker, failed, problem, request, send};

const CAMPAIGNS: &str = "/v1/campaigns";
const SPRING: &str = "/v1/campaigns/spring";
const ITEMS: &str = "/v1/campaigns/spring/items";

async fn start() -> (RedisServer, Dispatcher) {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    (redis, dispatcher)
}

/// An item: the image `r/<name>:1` of the repository `owner/<name>`.
fn item(name: &str) -> Value {
    request(name)
}

fn items(names: &[&str]) -> Value {
    names.iter().map(|name| item(name)).collect()
}

/// What a request is answered with, if it is accepted.
async fn got<T: DeserializeOwned>(request: RequestBuilder) -> T {
    let response = send(request).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn create(dispatcher: &Dispatcher, body: &Value) -> CampaignView {
    let response = send(dispatcher.post(CAMPAIGNS).json(body)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    response.json().await.unwrap()
}

/// A running campaign `spring` with items of these names.
async fn spring(dispatcher: &Dispatcher, names: &[&str]) -> CampaignView {
    create(dispatcher, &json!({ "name": "spring", "state": "running", "items": items(names) })).await
}

async fn shown(dispatcher: &Dispatcher) -> CampaignView {
    got(dispatcher.get(SPRING)).await
}

/// Waits until so many items of `spring` are in line or run.
async fn fed(dispatcher: &Dispatcher, count: u64) {
    wait_for_eq("builds of the campaign", SOON, count, async || shown(dispatcher).await.building).await;
}

/// A refusal must have this status and field, and say this.
async fn refused(sent: RequestBuilder, status: u16, field: &str, says: &str, what: &Value) {
    let (seen, _, whole) = problem(send(sent).await).await;
    assert_eq!((seen, whole["field"].as_str()), (status, Some(field)), "{what}: {whole}");
    let detail = whole["detail"].as_str().unwrap();
    assert!(detail.contains(field) && detail.contains(says), "{what}: {detail}");
    for internal in ["u64", "f64", "u32", "struct", "invalid type", "expected a"] {
        assert!(!detail.contains(internal), "{what}: {detail}");
    }
}

/// Acts and reasons of the audit log that name `spring`, oldest first.
async fn acts(dispatcher: &Dispatcher) -> Vec<(String, Option<String>)> {
    let page: ActPage = got(dispatcher.get("/v1/audit")).await;
    let ours = page.acts.into_iter().filter(|act| act.what == "spring").rev();
    ours.map(|act| (act.act, act.reason)).collect()
}

#[tokio::test]
async fn a_new_campaign_is_checked_field_by_field_before_anything_is_done() {
    let (_redis, dispatcher) = start().await;
    let ok = json!({ "name": "spring" });
    for (change, field, says) in [
        (json!({ "name": null }), "name", "is missing"),
        (json!({ "name": 3 }), "name", "must be a name"),
        (json!({ "name": "Spring" }), "name", "1 to 63 lowercase letters, digits or '-'"),
        (json!({ "name": "-a" }), "name", "does not start with '-'"),
        (json!({ "title": "x" }), "title", "known fields: name, request, launches"),
        (json!({ "request": "x".repeat(101) }), "request", "at most 100 bytes"),
        (json!({ "launches": -1 }), "launches", "from 0 to"),
        (json!({ "launches": 1e13 }), "launches", "from 0 to 1000000000000"),
        (json!({ "launches": "many" }), "launches", "must be a number, 0 or more"),
        (json!({ "launches_present": -0.5 }), "launches_present", "from 0 to"),
        (json!({ "state": "paused" }), "state", "must be 'running', or left out"),
        (json!({ "state": true }), "state", "must be 'running'"),
        (json!({ "items": "all" }), "items", "must be a list"),
        (json!({ "items": [] }), "items", "1 to 1000 items"),
        (json!({ "items": vec![0; 1001] }), "items", "send the others in further requests (100000 in all)"),
        (json!({ "pacing": 3 }), "pacing", "must be an object"),
    ] {
        let mut body = ok.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        refused(dispatcher.post(CAMPAIGNS).json(&body), 422, field, says, &change).await;
    }
    let long = dispatcher.post(&format!("{CAMPAIGNS}?reason={}", "x".repeat(501))).json(&ok);
    refused(long, 400, "reason", "at most 500 characters", &ok).await;
    refused(dispatcher.post(&format!("{CAMPAIGNS}?dry=1")).json(&ok), 400, "dry", "", &ok).await;
    let none: CampaignList = got(dispatcher.get(CAMPAIGNS)).await;
    assert!(none.campaigns.is_empty() && none.unreadable.is_empty(), "{none:?}");
    let act: ActPage = got(dispatcher.get("/v1/audit")).await;
    assert!(act.acts.is_empty(), "{act:?}");
}

#[tokio::test]
async fn each_item_is_checked_like_a_request_for_its_build() {
    let (_redis, dispatcher) = start().await;
    let loading = create(&dispatcher, &json!({ "name": "spring" })).await;
    assert_eq!((loading.state, loading.items), (CampaignState::Loading, 0));
    for (change, field, says) in [
        (json!({ "repo": null }), "repo", "is missing; it must be a Git URL or a DOI"),
        (json!({ "repo": "file:///etc" }), "repo", "--allow-local-repos"),
        (json!({ "repo": "no repository" }), "repo", ""),
        (json!({ "ref": 7 }), "ref", "a commit or a record's id"),
        (json!({ "image": "R/UPPER CASE" }), "image", ""),
        (json!({ "launches": -1 }), "launches", "from 0 to"),
        (json!({ "launches": "many" }), "launches", "must be a number"),
        (json!({ "expected_seconds": 604_801 }), "expected_seconds", "at most 604800 (7 days)"),
        (json!({ "expected_seconds": 1.5 }), "expected_seconds", "a whole number"),
        (json!({ "spec": "x".repeat(1001) }), "spec", "at most 1000 are allowed"),
        (json!({ "spec": "a\nb" }), "spec", "control characters"),
        (json!({ "push": "yes" }), "push", "true or false"),
        (json!({ "repo2docker_args": ["--privileged"] }), "repo2docker_args", "allowed arguments:"),
        (json!({ "repo2docker_args": "--debug" }), "repo2docker_args", "a list of strings"),
        (json!({ "expected_second": 3 }), "expected_second", "known fields: repo, ref, image, spec"),
        (json!({ "image": "r/one:1" }), "image", "the same as that of items[0]"),
    ] {
        let mut bad = item("two");
        bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let more = json!({ "first": 0, "items": [item("one"), bad] });
        let field = format!("items[1].{field}");
        refused(dispatcher.post(ITEMS).json(&more), 422, &field, says, &change).await;
        // A campaign is not created without its items.
        let new = json!({ "name": "autumn", "items": more["items"] });
        refused(dispatcher.post(CAMPAIGNS).json(&new), 422, &field, says, &change).await;
    }
    for bad in [json!(3), json!(["https://github.com/o/n", "1", "r/n:1"])] {
        let more = json!({ "first": 0, "items": [bad] });
        refused(dispatcher.post(ITEMS).json(&more), 422, "items[0]", "must be an object", &bad).await;
    }
    for (body, field, says) in [
        (json!({ "items": items(&["one"]) }), "first", "is missing; it must be how many items"),
        (json!({ "first": -1, "items": items(&["one"]) }), "first", "a whole number"),
        (json!({ "first": 0 }), "items", "is missing; it must be a list of items"),
        (json!({ "first": 0, "items": items(&["one"]), "state": "running" }), "state", "first, items"),
    ] {
        refused(dispatcher.post(ITEMS).json(&body), 422, field, says, &body).await;
    }
    let all: CampaignList = got(dispatcher.get(CAMPAIGNS)).await;
    assert_eq!((all.campaigns.len(), all.campaigns[0].items), (1, 0), "nothing is half done");
}

#[tokio::test]
async fn a_pacing_out_of_range_is_named_wherever_it_is_sent() {
    let (_redis, dispatcher) = start().await;
    create(&dispatcher, &json!({ "name": "spring" })).await;
    for (pacing, field, says) in [
        (json!({ "share": 0 }), "share", "from 0.01 to 1"),
        (json!({ "share": 1.01 }), "share", "from 0.01 to 1"),
        (json!({ "share": "half" }), "share", "must be a number"),
        (json!({ "per_hour": 0 }), "per_hour", "from 1 to 10000"),
        (json!({ "per_hour": 10_001 }), "per_hour", "from 1 to 10000"),
        (json!({ "per_hour": 1.5 }), "per_hour", "a whole number"),
        (json!({ "pause_when_waiting_ms": 999 }), "pause_when_waiting_ms", "from 1000 (1 s)"),
        (json!({ "pause_when_waiting_ms": 86_400_001 }), "pause_when_waiting_ms", "86400000 (24 h)"),
        (json!({ "hours": "at night" }), "hours", "write it as 22:00-06:00"),
        (json!({ "hours": "06:00-06:00" }), "hours", "begin and end at the same minute"),
        (json!({ "hours": 22 }), "hours", "must be a string"),
        (json!({ "hours": ["22:00"] }), "hours", "must not be a list"),
        (
            json!({ "hours": "22:00-06:00", "time_zone": "Mars/Olympus" }),
            "time_zone",
            "look like Europe/Berlin",
        ),
        (json!({ "pause": 1 }), "pause", "share"),
    ] {
        let field = format!("pacing.{field}");
        let patch = dispatcher.patch(SPRING);
        refused(patch.json(&json!({ "pacing": pacing })), 422, &field, says, &pacing).await;
        let new = json!({ "name": "autumn", "pacing": pacing });
        refused(dispatcher.post(CAMPAIGNS).json(&new), 422, &field, says, &pacing).await;
    }
    let zone = json!({ "name": "autumn", "pacing": { "time_zone": "Europe/Berlin" } });
    let says = "needs hours, such as 22:00-06:00";
    refused(dispatcher.post(CAMPAIGNS).json(&zone), 422, "pacing.time_zone", says, &zone).await;
    for (body, field, says) in [
        (json!({}), "body", "send state, pacing or both"),
        (json!({ "pacing": {} }), "body", "send state, pacing or both"),
        (json!({ "state": "stopped" }), "state", "must be 'running' or 'paused'"),
        (json!({ "name": "autumn" }), "name", "known fields: state, pacing"),
    ] {
        let patch = dispatcher.patch(SPRING).json(&body);
        refused(patch, 422, field, says, &body).await;
    }
    assert_eq!(shown(&dispatcher).await.pacing, fairlane_dispatcher::api::Pacing::default());
    assert_eq!(acts(&dispatcher).await.len(), 1);
}

#[tokio::test]
async fn what_is_not_there_or_over_is_refused_and_says_what_to_do() {
    let (_redis, dispatcher) = start().await;
    let patch = |path: &str, body: Value| dispatcher.patch(path).json(&body);
    let more = |first: u64| json!({ "first": first, "items": items(&["one"]) });
    for path in ["/v1/campaigns/winter", "/v1/campaigns/No%20Name", "/v1/campaigns/-"] {
        for sent in [
            dispatcher.get(path),
            dispatcher.get(&format!("{path}/items")),
            dispatcher.post(&format!("{path}/items")).json(&more(0)),
            patch(path, json!({ "state": "paused" })),
            dispatcher.delete(path),
        ] {
            let (status, word, whole) = problem(send(sent).await).await;
            assert_eq!((status, word.as_str()), (404, "unknown-campaign"), "{path}: {whole}");
            assert!(whole["detail"].as_str().unwrap().ends_with("GET /v1/campaigns lists them"), "{whole}");
        }
    }
    spring(&dispatcher, &["one"]).await;
    let (status, word, whole) =
        problem(send(dispatcher.post(CAMPAIGNS).json(&json!({ "name": "spring" }))).await).await;
    assert_eq!((status, word.as_str(), whole["field"].as_str()), (409, "campaign-exists", Some("name")));
    assert!(
        whole["detail"].as_str().unwrap().contains("exists and is running; choose another name"),
        "{whole}"
    );
    for first in [0, 2] {
        let other = json!({ "first": first, "items": items(&["two", "three"]) });
        let (status, word, whole) = problem(send(dispatcher.post(ITEMS).json(&other)).await).await;
        assert_eq!((status, word.as_str(), whole["field"].as_str()), (409, "wrong-first", Some("first")));
        assert!(whole["detail"].as_str().unwrap().contains("send the next ones with first = 1"), "{whole}");
    }
    let again = json!({ "first": 1, "items": items(&["two", "one"]) });
    refused(dispatcher.post(ITEMS).json(&again), 422, "items[1].image", "as its item 0", &again).await;

    let gone: CampaignCancelAnswer = got(dispatcher.delete(SPRING)).await;
    assert_eq!((gone.dropped, gone.stopping, gone.finishing), (1, 0, 0));
    let ended = [
        dispatcher.post(ITEMS).json(&more(1)),
        patch(SPRING, json!({ "state": "running" })),
        patch(SPRING, json!({ "pacing": { "share": 0.5 } })),
        dispatcher.delete(SPRING),
    ];
    for sent in ended {
        let (status, word, whole) = problem(send(sent).await).await;
        assert_eq!((status, word.as_str()), (409, "campaign-ended"), "{whole}");
        let detail = whole["detail"].as_str().unwrap();
        assert_eq!(detail, "the campaign 'spring' is cancelled; start a new one under another name");
    }
}

#[tokio::test]
async fn a_repeated_request_does_nothing_again() {
    let (_redis, dispatcher) = start().await;
    let body = json!({
        "name": "spring", "request": "a random text", "launches": 20, "launches_present": 5, "state": "running",
        "pacing": { "share": 0.5 }, "items": items(&["one", "two"]),
    });
    let first = create(&dispatcher, &body).await;
    for _ in 0..2 {
        let again = create(&dispatcher, &body).await;
        assert_eq!(
            (again.created_ms, again.items, again.state),
            (first.created_ms, 2, CampaignState::Running)
        );
    }
    assert_eq!((first.launches, first.launches_present, first.coverage), (20.0, 5.0, 0.25));
    let more = json!({ "first": 2, "items": items(&["three", "four"]) });
    for _ in 0..2 {
        let answer: CampaignItemsAnswer = got(dispatcher.post(ITEMS).json(&more)).await;
        assert_eq!(answer.items, 4);
    }
    let known = acts(&dispatcher).await;
    let words: Vec<&str> = known.iter().map(|(act, _)| act.as_str()).collect();
    assert_eq!(words, ["campaign created", "campaign started"]);
    // Without such a text, it is another campaign of the same name.
    let mut other = body.clone();
    other["request"] = Value::Null;
    assert_eq!(problem(send(dispatcher.post(CAMPAIGNS).json(&other)).await).await.1, "campaign-exists");

    // A repeated request does not undo what was done in between.
    let pause = dispatcher.patch(SPRING).json(&json!({ "state": "paused" }));
    let _: CampaignView = got(pause).await;
    assert_eq!(create(&dispatcher, &body).await.state, CampaignState::Paused);
}

#[tokio::test]
async fn items_come_page_by_page_and_by_state() {
    let (_redis, dispatcher) = start().await;
    let worker = Worker::start(&dispatcher.queue, 4).await;
    spring(&dispatcher, &["a", "b", "c", "d", "e"]).await;
    fed(&dispatcher, 3).await;
    let run = worker.claim().await;
    assert_eq!(run.claimed.build.lane.as_str(), "github.com/owner/a", "the best one is the first");
    run.finish(failed(FailureClass::Repository, FailureCause::OTHER, "no such package")).await;
    worker.claim().await.finish(Outcome::Succeeded).await;
    wait_for("their ends", SOON, async || {
        let view = shown(&dispatcher).await;
        (view.failed, view.built, view.building) == (1, 1, 1)
    })
    .await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: CampaignItemPage = got(dispatcher.get(&format!("{ITEMS}?limit=2&cursor={cursor}"))).await;
        assert!(page.items.len() <= 2);
        seen.extend(page.items);
        match page.cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let repos: Vec<&str> = seen.iter().filter_map(|item| item.repo.rsplit('/').next()).collect();
    assert_eq!(repos, ["a", "b", "c", "d", "e"]);
    let numbers: Vec<u64> = seen.iter().map(|item| item.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);

    let of = async |state: &str| -> Vec<_> {
        let page: CampaignItemPage = got(dispatcher.get(&format!("{ITEMS}?state={state}"))).await;
        page.items
    };
    let failure = of("failed").await.remove(0);
    assert_eq!(
        (failure.number, failure.state, failure.cause.as_deref()),
        (0, ItemState::Failed, Some("other"))
    );
    assert_eq!(failure.reason.as_deref(), Some("no such package"));
    assert!(failure.done_ms.is_some() && failure.build.is_some(), "{failure:?}");
    assert_eq!(of("built").await[0].number, 1);
    let building = of("building").await;
    assert_eq!(building.iter().map(|item| item.number).collect::<Vec<_>>(), [2]);
    let build: BuildView = got(dispatcher.get(&format!("/v1/builds/{}", building[0].build.unwrap()))).await;
    assert_eq!(build.lane.as_str(), "github.com/owner/c");
    assert_eq!(of("waiting").await.iter().map(|item| item.number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(of("joined").await, vec![]);

    for (query, word, says) in [
        ("state=done", "bad-parameter", "waiting, building, joined, built, present, built_by_people, failed"),
        ("cursor=two", "bad-cursor", "use the one from the previous page"),
        ("limit=0", "bad-parameter", "from 1 to 200"),
        ("order=size", "bad-parameter", "known parameters: state, limit, cursor"),
    ] {
        let (status, seen, whole) = problem(send(dispatcher.get(&format!("{ITEMS}?{query}"))).await).await;
        assert_eq!((status, seen.as_str()), (400, word), "{query}");
        assert!(whole["detail"].as_str().unwrap().contains(says), "{whole}");
    }
}

#[tokio::test]
async fn a_campaign_is_paced_paused_and_resumed_and_the_audit_says_why() {
    let (_redis, dispatcher) = start().await;
    let _worker = Worker::start(&dispatcher.queue, 4).await;
    let patch = |query: &str, body: Value| dispatcher.patch(&format!("{SPRING}{query}")).json(&body);
    spring(&dispatcher, &["a", "b", "c", "d", "e"]).await;
    fed(&dispatcher, 3).await;
    let paused: CampaignView =
        got(patch("?reason=the%20registry%20is%20slow", json!({ "state": "paused" }))).await;
    assert_eq!((paused.state, paused.building, paused.waiting), (CampaignState::Paused, 0, 5));
    assert!(paused.waits.unwrap().starts_with("paused by local "));

    let pacing = json!({
        "share": 0.5, "per_hour": 100, "pause_when_waiting_ms": 60_000, "hours": "00:00-23:59", "time_zone": "Europe/Berlin",
    });
    let paced: CampaignView = got(patch("?reason=by%20night", json!({ "pacing": pacing }))).await;
    assert_eq!(serde_json::to_value(&paced.pacing).unwrap(), pacing);
    assert_eq!(paced.state, CampaignState::Paused, "the pacing alone changes");
    let none = json!({ "hours": null, "time_zone": null, "per_hour": null });
    let resumed: CampaignView = got(patch("", json!({ "state": "running", "pacing": none }))).await;
    let left = json!({ "share": 0.5, "pause_when_waiting_ms": 60_000 });
    assert_eq!(serde_json::to_value(&resumed.pacing).unwrap(), left, "what is not named stays");
    // Half of four slots.
    fed(&dispatcher, 2).await;
    wait_for("its reason", SOON, async || {
        shown(&dispatcher).await.waits.is_some_and(|why| why == "2 of its builds run, its share of the slots")
    })
    .await;
    let known = acts(&dispatcher).await;
    let known: Vec<(&str, Option<&str>)> =
        known.iter().map(|(act, reason)| (act.as_str(), reason.as_deref())).collect();
    let expected = [
        ("campaign created", None),
        ("campaign started", None),
        ("campaign paused", Some("the registry is slow")),
        ("campaign pacing set", Some("by night")),
        ("campaign pacing set", None),
        ("campaign resumed", None),
    ];
    assert_eq!(known, expected);
}

#[tokio::test]
async fn a_cancelled_campaign_lets_its_builds_finish_unless_it_is_told_not_to() {
    let (_redis, dispatcher) = start().await;
    let worker = Worker::start(&dispatcher.queue, 4).await;
    spring(&dispatcher, &["a", "b", "c", "d", "e"]).await;
    fed(&dispatcher, 3).await;
    let run = worker.claim().await;
    for wrong in ["running=yes", "running=1"] {
        let (status, word, whole) =
            problem(send(dispatcher.delete(&format!("{SPRING}?{wrong}"))).await).await;
        assert_eq!((status, word.as_str(), &whole["field"]), (400, "bad-parameter", &json!("running")));
    }
    let gone: CampaignCancelAnswer = got(dispatcher.delete(&format!("{SPRING}?reason=not%20needed"))).await;
    assert_eq!((gone.dropped, gone.stopping, gone.finishing), (4, 0, 1));
    let view = shown(&dispatcher).await;
    assert_eq!((view.state, view.building, view.ended_ms), (CampaignState::Cancelled, 1, None));
    // Again, with its running builds.
    let gone: CampaignCancelAnswer = got(dispatcher.delete(&format!("{SPRING}?running=true"))).await;
    assert_eq!((gone.dropped, gone.stopping, gone.finishing), (0, 1, 0));
    let build: BuildView = got(dispatcher.get(&format!("/v1/builds/{}", run.claimed.build.id))).await;
    assert!(build.cancelling, "{build:?}");
    run.finish(Outcome::Cancelled).await;
    wait_for("its end", SOON, async || shown(&dispatcher).await.ended_ms.is_some()).await;
    assert_eq!(
        (shown(&dispatcher).await.cancelled, shown(&dispatcher).await.state),
        (1, CampaignState::Cancelled)
    );
    let known = acts(&dispatcher).await;
    assert!(known.contains(&("campaign cancelled".to_owned(), Some("not needed".to_owned()))), "{known:?}");
}

#[tokio::test]
async fn the_queue_counts_campaigns_and_their_builds_and_each_build_names_its_campaign() {
    let (_redis, dispatcher) = start().await;
    let queue = async || got::<QueueView>(dispatcher.get("/v1/queue")).await.totals;
    assert_eq!((queue().await.campaigns, queue().await.campaign_builds), (0, 0));
    let worker = Worker::start(&dispatcher.queue, 4).await;
    spring(&dispatcher, &["a", "b", "c", "d", "e"]).await;
    create(&dispatcher, &json!({ "name": "autumn", "items": items(&["f"]) })).await;
    fed(&dispatcher, 3).await;
    let run = worker.claim().await;
    assert_eq!(
        (queue().await.campaigns, queue().await.campaign_builds),
        (1, 3),
        "autumn has not been started"
    );
    let view = shown(&dispatcher).await;
    assert_eq!((view.building, view.in_line), (3, Some(2)));
    let list: CampaignList = got(dispatcher.get(CAMPAIGNS)).await;
    let names: Vec<&str> = list.campaigns.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, list.campaigns[1].in_line), (vec!["autumn", "spring"], None));

    let own = dispatcher.build("own").await;
    let path = |id| dispatcher.get(&format!("/v1/builds/{id}"));
    let (of_it, other): (BuildView, BuildView) =
        (got(path(run.claimed.build.id)).await, got(path(own)).await);
    assert_eq!((of_it.campaign.as_deref(), other.campaign), (Some("spring"), None));
    let page: BuildPage = got(dispatcher.get("/v1/builds")).await;
    assert_eq!(page.builds.iter().filter(|build| build.campaign.as_deref() == Some("spring")).count(), 3);

    // Two expected launches: one of an image that it builds, one of an image that somebody asks for first.
    run.finish(Outcome::Succeeded).await;
    dispatcher.ask(&item("e")).await;
    let people = wait_for("a run of it", SOON, async || {
        let run = worker.claim().await;
        if run.claimed.build.lane.as_str() == "github.com/owner/e" { Some(run) } else { None }
    })
    .await;
    people.finish(Outcome::Succeeded).await;
    wait_for("both", SOON, async || shown(&dispatcher).await.launches_covered >= 2.0).await;
    let view = shown(&dispatcher).await;
    assert_eq!((view.built, view.built_by_people, view.launches_built), (1, 1, 1.0));
}
