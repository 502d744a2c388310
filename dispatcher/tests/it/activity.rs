//! What happened recently: acts and changes, newest first, in pages of limited size.

use fairlane_common::queue::Outcome;
use fairlane_common::{FailureCause, FailureClass};
use fairlane_dispatcher::api::{ActPage, ActView, ChangePage, ChangeView};
use fairlane_testkit::RedisServer;
use serde_json::json;

use crate::support::{Dispatcher, SOON, Worker, failed, problem, send};

async fn acts(dispatcher: &Dispatcher, query: &str) -> Vec<ActView> {
    let page: ActPage = send(dispatcher.get(&format!("/v1/audit{query}"))).await.json().await.unwrap();
    page.acts
}

async fn changes(dispatcher: &Dispatcher, query: &str) -> Vec<ChangeView> {
    let page: ChangePage = send(dispatcher.get(&format!("/v1/activity{query}"))).await.json().await.unwrap();
    page.changes
}

#[tokio::test]
async fn a_rule_that_is_gone_is_known_by_what_it_said() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let path = "/v1/rules?pattern=github.com/evil/*";
    let ban = json!({ "ban": { "message": "mines coins" } });
    assert!(send(dispatcher.put(path).json(&ban)).await.status().is_success());
    assert!(send(dispatcher.delete(path)).await.status().is_success());
    let id = dispatcher.build("one").await;
    assert!(
        send(dispatcher.delete(&format!("/v1/builds/{id}?reason=too%20big"))).await.status().is_success()
    );

    let all = acts(&dispatcher, "").await;
    let said: Vec<_> = all.iter().map(|act| (act.act.as_str(), act.what.as_str(), act.by.as_str())).collect();
    let pattern = "github.com/evil/*";
    let id = id.to_string();
    assert_eq!(
        said,
        [("cancel", &*id, "local"), ("rule removed", pattern, "local"), ("rule set", pattern, "local")]
    );
    assert_eq!(all[0].detail, "too big");
    assert!(all[1].detail.contains("mines coins"), "{all:?}");
    assert!(all[0].at_ms >= all[2].at_ms);

    assert_eq!(acts(&dispatcher, "?act=cancel").await.len(), 1);
    assert_eq!(acts(&dispatcher, "?what=github.com/evil/*&since=10m").await.len(), 2);
    assert_eq!(acts(&dispatcher, "?by=nobody").await, []);
    assert_eq!(acts(&dispatcher, "?since=9999999999999").await, []);
}

#[tokio::test]
async fn every_change_of_a_build_is_told_with_worker_and_reason() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 4).await;
    let failing = dispatcher.build("one").await;
    let failure = |class| failed(class, FailureCause::OTHER, "no Docker daemon");
    worker.claim().await.finish(failure(FailureClass::Infrastructure)).await;
    let good = dispatcher.build("two").await;
    worker.claim().await.finish(Outcome::Succeeded).await;

    let of = |build: &str| format!("?build={build}&since=1h");
    let told = changes(&dispatcher, &of(&failing.to_string())).await;
    let states: Vec<&str> = told.iter().map(|change| change.state.word()).collect();
    assert_eq!(states, ["queued", "running", "starting", "queued"]);
    assert_eq!(told[0].class, Some(FailureClass::Infrastructure));
    assert_eq!(told[0].reason.as_deref(), Some("no Docker daemon"));
    assert_eq!(told[0].worker.as_ref(), Some(&worker.id), "whose run failed");
    assert_eq!((told[3].worker.as_ref(), told[3].reason.as_deref()), (None, None));

    let ended = changes(&dispatcher, "?state=succeeded").await;
    assert_eq!(ended.iter().map(|change| change.build).collect::<Vec<_>>(), [good]);
    assert_eq!(changes(&dispatcher, "?lane=github.com/owner/two").await.len(), 4);
    assert_eq!(changes(&dispatcher, &format!("?worker={}", worker.id)).await.len(), 6);
    assert_eq!(changes(&dispatcher, "?worker=nobody-12345678").await, []);
}

#[tokio::test]
async fn pages_lead_to_one_another_and_filters_cost_no_call_without_bound() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        // A debug build on a busy machine takes a while to read ten thousand entries.
        settings.bounds.redis_wait = SOON;
    })
    .await;
    for name in ["one", "two", "three", "four", "five"] {
        dispatcher.build(name).await;
    }
    let (mut lanes, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = send(dispatcher.get(&format!("/v1/activity?limit=2{next}"))).await;
        let page: ChangePage = page.json().await.unwrap();
        assert!(page.changes.len() <= 2);
        lanes.extend(page.changes.into_iter().map(|change| change.lane.to_string()));
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let of = |name: &str| format!("github.com/owner/{name}");
    assert_eq!(lanes, ["five", "four", "three", "two", "one"].map(of));
    assert_eq!(pages, 3);

    // More entries than one page may read; the one that matches comes last.
    let mut pipe = redis::pipe();
    for _ in 0..12_000 {
        pipe.cmd("XADD").arg("{fairlane}:audit").arg("*");
        pipe.arg("at")
            .arg(1)
            .arg("by")
            .arg("a")
            .arg("act")
            .arg("x")
            .arg("what")
            .arg("y")
            .arg("detail")
            .arg("")
            .ignore();
    }
    let rare = "/v1/rules?pattern=github.com/rare/*";
    assert!(send(dispatcher.put(rare).json(&json!({ "limit": 1 }))).await.status().is_success());
    pipe.query_async::<()>(&mut redis.connect().await).await.unwrap();
    let page: ActPage = send(dispatcher.get("/v1/audit?act=rule%20set")).await.json().await.unwrap();
    assert_eq!(page.acts, []);
    let cursor = page.cursor.expect("more to read");
    assert_eq!(acts(&dispatcher, &format!("?act=rule%20set&cursor={cursor}")).await.len(), 1);
}

#[tokio::test]
async fn parameters_of_lists_say_what_they_may_be() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    for (path, field) in [
        ("/v1/audit?since=yesterday", "since"),
        ("/v1/audit?since=1795000000", "since"),
        ("/v1/audit?limit=201", "limit"),
        ("/v1/activity?limit=0", "limit"),
        ("/v1/activity?limit=1000", "limit"),
        ("/v1/activity?state=lost", "state"),
        ("/v1/activity?build=one", "build"),
        ("/v1/builds?limit=1000", "limit"),
        ("/v1/lanes?limit=1000", "limit"),
    ] {
        let (status, word, whole) = problem(send(dispatcher.get(path)).await).await;
        assert_eq!(
            (status, word.as_str(), &whole["field"]),
            (400, "bad-parameter", &json!(field)),
            "{path}: {whole}"
        );
    }
    for path in ["/v1/audit?cursor=zzz", "/v1/activity?cursor=1-2-3"] {
        assert_eq!(problem(send(dispatcher.get(path)).await).await.1, "bad-cursor", "{path}");
    }
}
