//! Operators: rules and workers.

use fairlane_dispatcher::api::{BuildView, NodeList, RuleAnswer, RuleList, ScaleView, WorkerList};
use fairlane_testkit::{RedisServer, wait_for};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Dispatcher, SOON, Worker, problem, send};

#[tokio::test]
async fn rules_are_set_listed_and_removed() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let path = "/v1/rules?pattern=GitHub.com/JupyterLab/*";
    let set = send(dispatcher.put(path).json(&json!({ "limit": 4, "together": true }))).await;
    assert_eq!(set.status(), StatusCode::OK);
    let answer: RuleAnswer = set.json().await.unwrap();
    assert_eq!((answer.pattern.as_str(), answer.existed), ("github.com/jupyterlab/*", false));
    let list: RuleList = send(dispatcher.get("/v1/rules")).await.json().await.unwrap();
    assert_eq!(list.rules["github.com/jupyterlab/*"].limit, Some(4));
    let gone: RuleAnswer = send(dispatcher.delete(path)).await.json().await.unwrap();
    assert!(gone.existed);
    assert_eq!(problem(send(dispatcher.delete(path)).await).await.1, "unknown-rule");

    let until_built = json!({ "ban": { "message": "wait", "until_built": true } });
    let warned = send(dispatcher.put("/v1/rules?pattern=github.com/o/n").json(&until_built)).await;
    assert!(warned.json::<RuleAnswer>().await.unwrap().warning.is_some());
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    for (query, body, status, field) in [
        ("", json!({ "limit": 1 }), 400, "pattern"),
        ("?pattern=a/*/b", json!({ "limit": 1 }), 400, "pattern"),
        ("?pattern=github.com/o/n", json!({}), 422, "rule"),
        ("?pattern=github.com/o/n", json!({ "limit": 0 }), 422, "limit"),
        ("?pattern=github.com/o/n", json!({ "limit": 2, "burst": 1 }), 422, "burst"),
        ("?pattern=github.com/o/n", json!({ "limits": 2 }), 422, "limits"),
        ("?pattern=github.com/o/n", json!({ "limit": "two" }), 422, "limit"),
        ("?pattern=github.com/o/n", json!({ "limit": -1 }), 422, "limit"),
        ("?pattern=github.com/o/n", json!({ "ban": 3 }), 422, "ban"),
        ("?pattern=github.com/o/n", json!({ "limit": 2, "hold": [null, null] }), 422, "hold"),
        ("?pattern=github.com/o/n", json!({ "ban": { "until": "tomorrow" } }), 422, "ban.until"),
        ("?pattern=github.com/o/n", json!({ "limit": 2, "together": true }), 422, "together"),
        ("?pattern=github.com/o/*", json!({ "ban": { "until_built": true } }), 422, "until_built"),
    ] {
        let (seen, _, whole) =
            problem(send(dispatcher.put(&format!("/v1/rules{query}")).json(&body)).await).await;
        assert_eq!((seen, whole["field"].as_str()), (status, Some(field)), "{query} {body}: {whole}");
        let detail = whole["detail"].as_str().unwrap();
        assert!(
            ["u32", "u64", "struct", "pattern: pattern"].iter().all(|word| !detail.contains(word)),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn workers_are_listed_and_drained() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 3).await;
    let list = async || send(dispatcher.get("/v1/workers")).await.json::<WorkerList>().await.unwrap().workers;
    assert_eq!((list().await[0].slots, list().await[0].draining), (3, false));
    let path = format!("/v1/workers/{}/drain", worker.id);
    assert_eq!(send(dispatcher.post(&path)).await.status(), StatusCode::OK);
    let drained = list().await.remove(0);
    assert!(drained.draining && drained.drained.is_some_and(|drained| drained.since_ms > 0));
    // The name of the worker's host can be used, too.
    let path = format!("/v1/workers/{}/drain", drained.host);
    assert_eq!(send(dispatcher.post(&path).json(&json!({ "drain": false }))).await.status(), StatusCode::OK);
    assert!(!list().await[0].draining);
    for (path, body, word) in [
        ("/v1/workers/nobody/drain", json!({}), "unknown-worker"),
        ("/v1/workers/%2F/drain", json!({}), "unknown-worker"),
        (path.as_str(), json!({ "drain": "no" }), "invalid-field"),
        (path.as_str(), json!({ "drian": true }), "invalid-field"),
    ] {
        assert_eq!(problem(send(dispatcher.post(path).json(&body)).await).await.1, word, "{path} {body}");
    }
}

#[tokio::test]
async fn nodes_are_listed_and_cleared() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start_on(&dispatcher.queue, 3, 3).await;
    for repo in ["one", "two", "three"] {
        let id = dispatcher.build(repo).await;
        worker.claim().await.fail_on("node-1").await;
        assert_eq!(send(dispatcher.delete(&format!("/v1/builds/{id}"))).await.status(), StatusCode::OK);
    }
    let list = async || send(dispatcher.get("/v1/nodes")).await.json::<NodeList>().await.unwrap().nodes;
    let node = &list().await[0];
    assert_eq!(
        (node.node.as_str(), node.reason.as_str(), node.lanes),
        ("node-1", "no space left on device", 3)
    );
    assert_eq!(node.until_ms - node.since_ms, 30 * 60 * 1000);
    assert_eq!(send(dispatcher.delete("/v1/nodes/node-1")).await.status(), StatusCode::OK);
    assert!(list().await.is_empty());
    for path in ["/v1/nodes/node-1", "/v1/nodes/no%20node"] {
        let (status, word, _) = problem(send(dispatcher.delete(path)).await).await;
        assert_eq!((status, word.as_str()), (404, "unknown-node"), "{path}");
    }
}

#[tokio::test]
async fn a_full_cluster_is_shown_with_its_workers_and_builds() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 3).await;
    let id = dispatcher.build("one").await;
    let scale = async || send(dispatcher.get("/v1/scale")).await.json::<ScaleView>().await.unwrap();
    assert_eq!(scale().await, ScaleView { queued: 1, startable: 1, running: 0, slots: 3, wanted_slots: 1 });
    worker.pause("the cluster is full: exceeded quota").await;
    let list: WorkerList = send(dispatcher.get("/v1/workers")).await.json().await.unwrap();
    assert_eq!(list.workers[0].paused.as_deref(), Some("the cluster is full: exceeded quota"));
    // The dispatcher computes reasons from a snapshot that may be a second old.
    wait_for("the build to say so", SOON, async || {
        let answer = send(dispatcher.get(&format!("/v1/builds/{id}"))).await;
        let build: BuildView = answer.json().await.unwrap();
        build.why.as_deref() == Some("the cluster is full: exceeded quota")
    })
    .await;
    assert_eq!(scale().await.slots, 0);
}

#[tokio::test]
async fn workers_come_page_by_page() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(Worker::start(&dispatcher.queue, 1).await.id.to_string());
    }
    ids.sort();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: WorkerList =
            send(dispatcher.get(&format!("/v1/workers?limit=2&cursor={cursor}"))).await.json().await.unwrap();
        assert!(page.workers.len() <= 2);
        seen.extend(page.workers.iter().map(|worker| worker.id.to_string()));
        match page.cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let bad = send(dispatcher.get("/v1/workers?cursor=a/b")).await;
    assert_eq!(problem(bad).await.1, "bad-cursor");
}

#[tokio::test]
async fn a_running_build_has_its_last_line_and_when_that_came() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let mut run = worker.claim().await;
    let show = async || -> BuildView {
        send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap()
    };
    assert_eq!(show().await.last_line, None, "it has written none");
    run.write(3).await;
    let view = show().await;
    let line = view.last_line.unwrap();
    assert_eq!(line.text, "line 2");
    assert!(line.at_ms >= view.claimed_ms.unwrap(), "{line:?}");
    let list: serde_json::Value = send(dispatcher.get("/v1/builds")).await.json().await.unwrap();
    assert!(list["builds"][0].get("last_line").is_none());
}
