//! Redis goes away and comes back.

use std::time::{Duration, Instant};

use fairlane_common::build::BuildState;
use fairlane_common::queue::Outcome;
use fairlane_dispatcher::api::BuildView;
use fairlane_testkit::{AppendOnly, RedisServer, wait_for};

use serde_json::json;

use crate::support::{Dispatcher, SOON, Said, Worker, numbered, open, problem, request, send};

#[tokio::test]
async fn streams_stay_open_while_redis_restarts_and_requests_are_told_to_retry() {
    let redis = RedisServer::builder().append_only(AppendOnly::Always).start().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let mut stream = dispatcher.follow(id, "").await;
    run.write(5).await;
    stream.lines(5).await;

    redis.shut_down().await;
    let calls = [
        dispatcher.post("/v1/builds").json(&request("two")),
        dispatcher.get(&format!("/v1/builds/{id}")),
        dispatcher.get("/v1/queue"),
        dispatcher.get("/readyz"),
    ];
    for call in calls {
        let response = send(call).await;
        let retry_after = response.headers().get("retry-after").cloned();
        let (status, word, whole) = problem(response).await;
        assert_eq!((status, word.as_str()), (503, "redis-away"), "{whole}");
        assert_eq!(retry_after.unwrap(), whole["retry_after"].to_string().as_str());
    }
    assert_eq!(send(dispatcher.get("/healthz")).await.status().as_u16(), 200);
    let metrics = send(dispatcher.get("/metrics")).await.text().await.unwrap();
    assert!(metrics.contains("fairlane_redis_up 0"), "{metrics}");

    redis.start().await;
    let ready = async || send(dispatcher.get("/readyz")).await.status().as_u16() == 200;
    wait_for("the dispatcher to be ready again", SOON, ready).await;
    run.write(5).await;
    run.finish(Outcome::Succeeded).await;
    stream.end().await;
    assert_eq!(stream.lines, numbered(10));
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_bounded_wait() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start_with(&redis.url(), |settings| {
        settings.bounds.redis_wait = Duration::from_millis(200);
    })
    .await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "").await;
    stream.state(|_| true).await;
    redis.freeze();
    let began = Instant::now();
    let answers = futures::future::join_all(
        (0..50).map(|n| send(dispatcher.post("/v1/builds").json(&request(&format!("r{n}"))))),
    );
    for answer in answers.await {
        assert_eq!(answer.status().as_u16(), 503);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "fifty requests wait side by side");
    redis.thaw();
    let queue = open(&redis.url()).await;
    let mut run = Worker::start(&queue, 1).await.claim().await;
    while run.claimed.build.id != id {
        run.finish(Outcome::Succeeded).await;
        run = Worker::start(&queue, 1).await.claim().await;
    }
    run.write(3).await;
    run.finish(Outcome::Succeeded).await;
    stream.end().await;
    assert_eq!(stream.lines, numbered(3));
}

#[tokio::test]
async fn nearly_used_up_memory_refuses_new_builds_before_redis_does() {
    let redis = RedisServer::builder().max_memory(4 * 1024 * 1024).start().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let label = "x".repeat(4000);
    let refused = wait_for("a request to be refused", SOON, async || {
        let mut body = request(&format!("r{}", fastrand::u64(..)));
        body["labels"] = (0..30).map(|n| (format!("label{n}"), json!(label))).collect();
        let response = send(dispatcher.post("/v1/builds").json(&body)).await;
        (response.status().as_u16() != 202).then_some(response)
    })
    .await;
    let (status, word, whole) = problem(refused).await;
    assert_eq!((status, word.as_str()), (429, "memory"), "{whole}");
    assert!(whole["retry_after"].as_u64().is_some());
    // Builds that are already there continue.
    let run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    run.finish(Outcome::Succeeded).await;
}

#[tokio::test]
async fn an_emptied_redis_takes_nothing_until_runs_are_registered_and_streams_go_on() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let mut stream = dispatcher.follow(id, "?watchers=7").await;
    run.write(5).await;
    stream.lines(5).await;
    let waiting = dispatcher.build("waiting").await;
    redis.command(&["FLUSHALL"]).await;

    // Nobody knows yet which builds are new and which were lost.
    for call in [
        dispatcher.post("/v1/builds").json(&request("two")),
        dispatcher.post("/v1/builds").json(&request("one")),
        dispatcher.get(&format!("/v1/builds/{id}")),
        dispatcher.get(&format!("/v1/builds/{waiting}/events")),
        dispatcher.get(&format!("/v1/builds/{id}/log")),
    ] {
        let response = send(call).await;
        let retry_after = response.headers().get("retry-after").cloned();
        let (status, word, whole) = problem(response).await;
        assert_eq!((status, word.as_str()), (503, "refilling"), "{whole}");
        assert_eq!(retry_after.unwrap(), whole["retry_after"].to_string().as_str());
        assert!((1..=15).contains(&whole["retry_after"].as_u64().unwrap()), "{whole}");
    }
    while stream.notices.is_empty() {
        stream.next().await;
    }
    assert_eq!(stream.notices, ["waiting"]);
    // The dispatcher sends its counts twice, and no build is registered yet.
    let mut connection = redis.connect().await;
    let mut beats = std::collections::HashSet::new();
    while beats.len() < 2 {
        let mut seen = redis::cmd("ZRANGE");
        seen.arg("{fairlane}:dispatchers").arg(0).arg(-1).arg("WITHSCORES");
        beats.extend(seen.query_async::<Vec<(String, String)>>(&mut connection).await.unwrap());
        tokio::task::yield_now().await;
    }

    run.register().await;
    let state = stream.state(|state| state.build.state == BuildState::Running).await;
    assert_eq!(state.build.id, id);
    // Ends the refill window. After that, the people of the build are counted again.
    redis.command(&["HSET", "{fairlane}:totals", "refill_until", "1"]).await;
    // The event that reported the run may already have included them.
    if state.build.people != 7 {
        stream.state(|state| state.build.people == 7).await;
    }
    assert_eq!(send(dispatcher.post("/v1/builds").json(&request("one"))).await.status().as_u16(), 200);
    // The log is complete again, and whoever has followed it gets no line twice.
    run.write(3).await;
    run.write(7).await;
    run.finish(Outcome::Succeeded).await;
    let end = stream.end().await;
    assert_eq!((end.state, stream.lines), (Some(BuildState::Succeeded), numbered(10)));
    let log = send(dispatcher.get(&format!("/v1/builds/{id}/log"))).await.text().await.unwrap();
    assert_eq!(log.lines().count(), 10, "{log}");
}

#[tokio::test]
async fn a_build_that_another_took_over_sends_its_watchers_there() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    let mut stream = dispatcher.follow(id, "").await;
    run.write(1).await;
    stream.lines(1).await;
    redis.command(&["FLUSHALL"]).await;
    let refused = send(dispatcher.post("/v1/builds").json(&request("one"))).await;
    assert_eq!(refused.status().as_u16(), 503);
    redis.command(&["HSET", "{fairlane}:totals", "refill_until", "1"]).await;
    let new = dispatcher.build("one").await;
    run.register().await;
    assert_eq!(run.claimed.build.id, new, "the new build has the run");
    loop {
        match stream.next().await {
            Said::Moved => break,
            Said::Closed | Said::End(_) => panic!("the stream ended without a word"),
            _ => {}
        }
    }
    assert!(matches!(stream.next().await, Said::Closed));
    let old: BuildView = send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap();
    assert_eq!(old.moved, Some(new));
    let mut stream = dispatcher.follow(new, "").await;
    run.write(2).await;
    stream.lines(2).await;
    run.finish(Outcome::Succeeded).await;
    assert_eq!(stream.end().await.state, Some(BuildState::Succeeded));
}
