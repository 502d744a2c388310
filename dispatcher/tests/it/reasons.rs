//! Reasons that operators give, in the audit log; and promoting a background build.

use fairlane_dispatcher::api::{ActPage, BuildView};
use fairlane_testkit::RedisServer;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{Dispatcher, Worker, problem, request, send};

async fn shown(dispatcher: &Dispatcher, id: &str) -> BuildView {
    send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap()
}

async fn acts(dispatcher: &Dispatcher) -> Vec<(String, Option<String>)> {
    let page: ActPage = send(dispatcher.get("/v1/audit")).await.json().await.unwrap();
    page.acts.into_iter().map(|act| (act.act, act.reason)).collect()
}

async fn done(request: RequestBuilder) {
    let response = send(request).await;
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
}

#[tokio::test]
async fn every_act_has_its_reason_in_the_audit() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 3).await;
    for name in ["a", "b", "c"] {
        dispatcher.build(name).await;
        worker.claim().await.fail_on("bad-node").await;
    }
    let (rules, reason) = ("/v1/rules?pattern=github.com/owner/a", "a%20disk%20is%20full");
    done(dispatcher.put(&format!("{rules}&reason={reason}")).json(&json!({ "limit": 1 }))).await;
    done(dispatcher.delete(&format!("{rules}&reason=it%20is%20over%0A"))).await;
    done(dispatcher.post("/v1/workers/fake/drain?reason=maintenance")).await;
    done(dispatcher.delete("/v1/nodes/bad-node?reason=repaired")).await;
    done(dispatcher.put("/v1/policy?reason=a%20quiet%20night").json(&json!({ "limit": 3 }))).await;
    done(dispatcher.put("/v1/policy").json(&json!({}))).await;
    let known = acts(&dispatcher).await;
    for (act, reason) in [
        ("rule set", "a disk is full"),
        ("rule removed", "it is over"),
        ("drain", "maintenance"),
        ("node cleared", "repaired"),
        ("policy set", "a quiet night"),
    ] {
        assert!(known.contains(&(act.to_owned(), Some(reason.to_owned()))), "{act}: {known:?}");
    }
    assert_eq!(known[0], ("policy set".to_owned(), None));

    let long = format!("{rules}&reason={}", "x".repeat(501));
    let (status, word, body) = problem(send(dispatcher.put(&long).json(&json!({ "limit": 1 }))).await).await;
    assert_eq!((status, word.as_str(), &body["field"]), (400, "bad-parameter", &json!("reason")));
    let listed: Value = send(dispatcher.get("/v1/rules")).await.json().await.unwrap();
    assert_eq!(listed["rules"], json!({}), "nothing is half done");
    dispatcher.stop().await;
}

#[tokio::test]
async fn a_background_build_is_promoted() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let mut body = request("nightly");
    body["priority"] = json!("background");
    let id = dispatcher.ask(&body).await.1.id.to_string();
    for name in ["a", "b"] {
        dispatcher.build(name).await;
    }
    let position = async || dispatcher.queue.position(id.parse().unwrap()).await.unwrap();
    assert_eq!(position().await, Some((3, 3)));
    let promote = || dispatcher.post(&format!("/v1/builds/{id}/promote?reason=a%20course%20starts"));
    let answer: Value = send(promote()).await.json().await.unwrap();
    assert_eq!(answer, json!({ "id": id, "was_background": true }));
    assert_eq!(shown(&dispatcher, &id).await.priority.word(), "interactive");
    assert_eq!(position().await, Some((1, 3)), "it was asked for first");
    let answer: Value = send(promote()).await.json().await.unwrap();
    assert_eq!(answer["was_background"], false);
    let promoted: Vec<_> = acts(&dispatcher).await.into_iter().filter(|(act, _)| act == "promote").collect();
    assert_eq!(promoted, [("promote".to_owned(), Some("a course starts".to_owned()))], "once");

    send(dispatcher.delete(&format!("/v1/builds/{id}"))).await;
    let (status, word, _) = problem(send(promote()).await).await;
    assert_eq!((status, word.as_str()), (409, "ended-build"));
    let unknown = dispatcher.post("/v1/builds/0190f7a0-0000-7000-8000-000000000000/promote");
    assert_eq!(problem(send(unknown).await).await.0, 404);
    dispatcher.stop().await;
}

#[tokio::test]
async fn a_running_build_that_is_promoted_is_no_background_build_any_more() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let mut body = request("nightly");
    body["priority"] = json!("background");
    let id = dispatcher.ask(&body).await.1.id;
    let worker = Worker::start(&dispatcher.queue, 3).await;
    let run = worker.claim().await;
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().background, 1);
    done(dispatcher.post(&format!("/v1/builds/{id}/promote"))).await;
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().background, 0);
    run.finish(fairlane_common::queue::Outcome::Succeeded).await;
    assert_eq!(dispatcher.queue.snapshot().await.unwrap().background, 0);
    assert_eq!(dispatcher.queue.check(1000).await.unwrap().problems, Vec::<String>::new());
    dispatcher.stop().await;
}
