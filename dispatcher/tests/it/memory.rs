//! Redis's memory as clients and operators see it, and a Redis that accepts no writes.

use fairlane_common::queue::{LogBudget, LogLimits, Outcome};
use fairlane_testkit::{RedisServer, wait_for};
use serde_json::Value;

use crate::support::{Dispatcher, SOON, Worker, problem, request, send};

/// A build that has ended, with a log of about 480 KB.
async fn ended(dispatcher: &Dispatcher, worker: &Worker, name: &str) -> fairlane_common::BuildId {
    let id = dispatcher.build(name).await;
    let mut run = worker.claim().await;
    run.write_long(30, 16_000).await;
    run.finish(Outcome::Succeeded).await;
    id
}

/// A dispatcher that removes no logs.
async fn careful(redis: &RedisServer) -> Dispatcher {
    let budget = LogBudget::Bytes(1 << 40);
    Dispatcher::start_with(&redis.url(), |settings| {
        settings.log_limits = LogLimits { budget, ..LogLimits::default() };
    })
    .await
}

async fn pruned(dispatcher: &Dispatcher, query: &str) -> Value {
    let response = send(dispatcher.delete(&format!("/v1/logs?{query}"))).await;
    assert_eq!(response.status().as_u16(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn logs_are_pruned_by_an_operator_and_their_readers_are_told() {
    let redis = RedisServer::start_default().await;
    let dispatcher = careful(&redis).await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let id = ended(&dispatcher, &worker, "one").await;
    let log = format!("/v1/builds/{id}/log");
    let whole = send(dispatcher.get(&log)).await.text().await.unwrap();
    assert_eq!(whole.lines().count(), 30);

    let dry = pruned(&dispatcher, "to=300KB&dry_run=true").await;
    assert_eq!((&dry["logs"], &dry["dry_run"]), (&1.into(), &true.into()), "{dry}");
    let done = pruned(&dispatcher, "to=300KB").await;
    assert_eq!((&done["logs"], &done["more"]), (&1.into(), &false.into()), "{done}");
    let short = send(dispatcher.get(&log)).await.text().await.unwrap();
    assert!(short.contains("lines were removed to free memory ---"), "{short}");
    assert!(short.starts_with("line 0") && short.lines().last().unwrap().starts_with("line 29"));

    let metrics = send(dispatcher.get("/metrics")).await.text().await.unwrap();
    assert!(metrics.contains(&format!("fairlane_logs_bytes {}", done["left_bytes"])), "{metrics}");
    assert!(
        metrics.contains("fairlane_redis_memory_used_bytes ")
            && metrics.contains("fairlane_redis_memory_max_bytes 0")
    );

    pruned(&dispatcher, "older_than=0s").await;
    let (status, word, body) = problem(send(dispatcher.get(&log)).await).await;
    assert_eq!((status, word.as_str()), (410, "log-removed"), "{body}");
    let mut stream = dispatcher.follow(id, "").await;
    stream.end().await;
    assert_eq!(stream.notices, ["log-removed"]);

    for (query, says) in [("", "older_than=6h"), ("to=lots", "200MB"), ("older_than=soon", "15m")] {
        let (status, word, body) = problem(send(dispatcher.delete(&format!("/v1/logs?{query}"))).await).await;
        assert_eq!((status, word.as_str()), (400, "bad-parameter"));
        assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
    }
}

#[tokio::test]
async fn a_full_redis_is_told_by_readyz_and_its_refusal_says_what_helps() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    wait_for("readyz to tell", SOON, async || {
        let ready = send(dispatcher.get("/readyz")).await;
        assert_eq!(ready.status().as_u16(), 200, "it still cancels and streams");
        let body: Value = ready.json().await.unwrap();
        let status = body["status"].as_str().unwrap_or_default().to_owned();
        if status.contains("memory is nearly used up") { Ok(()) } else { Err(status) }
    })
    .await;
    let (status, word, body) = problem(send(dispatcher.post("/v1/builds").json(&request("two"))).await).await;
    assert_eq!((status, word.as_str()), (429, "memory"));
    assert!(body["detail"].as_str().unwrap().contains("fairlane logs prune"), "{body}");
    assert_eq!(send(dispatcher.delete(&format!("/v1/builds/{id}"))).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_redis_that_takes_no_changes_is_named_so() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let (status, word, body) = problem(send(dispatcher.post("/v1/builds").json(&request("one"))).await).await;
    assert_eq!((status, word.as_str()), (503, "redis-refuses"), "{body}");
    assert!(body["detail"].as_str().unwrap().contains("too few replicas"), "{body}");
    wait_for("readyz to tell", SOON, async || send(dispatcher.get("/readyz")).await.status().as_u16() == 503)
        .await;
    let (_, word, _) = problem(send(dispatcher.get("/readyz")).await).await;
    assert_eq!(word, "redis-refuses");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    wait_for("readyz to be well", SOON, async || {
        send(dispatcher.get("/readyz")).await.status().as_u16() == 200
    })
    .await;
}
