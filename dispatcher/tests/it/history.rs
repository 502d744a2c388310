//! The past: samples, builds that ended within 7 days, and who used the capacity.

use std::time::Duration;

use fairlane_common::id::BuildId;
use fairlane_common::queue::Outcome;
use fairlane_common::{BuildState, FailureCause, FailureClass};
use fairlane_dispatcher::api::{BuildPage, BuildView, History, UsagePage};
use fairlane_testkit::{RedisServer, wait_for};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Dispatcher, SOON, Worker, failed, problem, send};

fn failure(cause: &str) -> Outcome {
    failed(FailureClass::Repository, FailureCause::of(cause), "it broke")
}

async fn list(dispatcher: &Dispatcher, query: &str) -> Vec<BuildId> {
    let page: BuildPage = send(dispatcher.get(&format!("/v1/builds?{query}"))).await.json().await.unwrap();
    page.builds.iter().map(|build| build.id).collect()
}

/// Checks that a parameter is refused: the field, and what the message says.
async fn refused(dispatcher: &Dispatcher, path: &str, field: &str, says: &[&str]) {
    let (status, word, whole) = problem(send(dispatcher.get(path)).await).await;
    assert_eq!(
        (status, word.as_str(), &whole["field"]),
        (400, "bad-parameter", &json!(field)),
        "{path}: {whole}"
    );
    for words in says {
        assert!(whole["detail"].as_str().unwrap().contains(words), "{path}: {whole}");
    }
}

#[tokio::test]
async fn the_queue_over_time_is_told_in_steps() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    // The dispatcher's reaper takes the first sample at once. The test replaces it with older ones.
    let now: Vec<u64> = redis::cmd("TIME").query_async(&mut redis.connect().await).await.unwrap();
    let minute = now[0] / 60;
    wait_for("the first sample", SOON, async || {
        dispatcher.queue.samples(0).await.unwrap().samples.first().copied()
    })
    .await;
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("DEL").arg("{fairlane}:history").ignore();
    // Samples for ten steps of ten minutes, without one of the steps.
    let begin = (minute - 120) / 10 * 10;
    for at in (begin..begin + 100).filter(|at| !(begin + 40..begin + 50).contains(at)) {
        pipe.cmd("XADD").arg("{fairlane}:history").arg(format!("{}-0", at * 60_000));
        pipe.arg("people")
            .arg(at - begin)
            .arg("slot")
            .arg(3)
            .arg("started")
            .arg(2)
            .arg("oldest_s")
            .arg(at - begin)
            .ignore();
    }
    pipe.query_async::<()>(&mut redis.connect().await).await.unwrap();

    let path = format!("/v1/history?since={}&step=10m", begin * 60_000);
    let history: History = send(dispatcher.get(&path)).await.json().await.unwrap();
    assert_eq!((history.since_ms, history.step_ms), (begin * 60_000, 600_000));
    let seen: Vec<_> = history
        .samples
        .iter()
        .map(|s| (s.at_ms / 60_000 - begin, s.people, s.started, s.oldest_wait_s))
        .filter(|(at, ..)| *at < 100)
        .collect();
    assert_eq!(seen[..2], [(0, 4.5, 20, 9), (10, 14.5, 20, 19)]);
    assert_eq!(seen.len(), 9, "a gap stays a gap: {seen:?}");
    assert!((history.samples[0].waiting.slot - 3.0).abs() < 0.001);
    let week: History = send(dispatcher.get("/v1/history?since=7d")).await.json().await.unwrap();
    assert_eq!(week.step_ms, 1_800_000);
    let day: History = send(dispatcher.get("/v1/history")).await.json().await.unwrap();
    assert_eq!((day.step_ms, day.now_ms - day.since_ms), (300_000, 86_400_000));
}

#[tokio::test]
async fn unknown_steps_times_orders_and_filters_name_what_is_allowed() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    refused(&dispatcher, "/v1/history?step=7m", "step", &["1m, 5m, 10m, 30m, 1h, 2h"]).await;
    refused(&dispatcher, "/v1/history?since=8d", "since", &["7 days"]).await;
    refused(&dispatcher, "/v1/history?since=1500000000000", "since", &["7 days"]).await;
    refused(&dispatcher, "/v1/history?since=9999999999999", "since", &["past"]).await;
    refused(&dispatcher, "/v1/history?since=yesterday", "since", &["10m"]).await;
    refused(&dispatcher, "/v1/history?until=1h", "until", &["since, step"]).await;
    refused(&dispatcher, "/v1/lanes?order=size", "order", &["line or slot_hours"]).await;
    refused(&dispatcher, "/v1/lanes?order=slot_hours&cursor=0:0", "cursor", &["order, since, limit"]).await;
    refused(&dispatcher, "/v1/builds?state=done", "state", &["succeeded", "ended"]).await;
    refused(&dispatcher, "/v1/builds?cause=bad-luck", "cause", &["disk-full", "package"]).await;
    refused(&dispatcher, "/v1/builds?class=bad", "class", &["infrastructure"]).await;
    refused(&dispatcher, "/v1/builds?state=running&since=1h", "state", &["has not ended"]).await;
    for cursor in ["x", "past:x", "older:-1", "9:0"] {
        let answer = send(dispatcher.get(&format!("/v1/builds?cursor={cursor}"))).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{cursor}");
    }
}

#[tokio::test]
async fn ended_builds_are_found_and_filtered_after_their_hash_has_expired() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 4).await;
    let mut ids = vec![];
    for (name, outcome) in
        [("one", failure("package")), ("two", failure("no-ref")), ("three", Outcome::Succeeded)]
    {
        ids.push(dispatcher.build(name).await);
        worker.claim().await.finish(outcome).await;
    }
    let [package, no_ref, good] = ids[..] else { panic!("three") };
    let waiting = dispatcher.build("four").await;
    let show = async |id: BuildId| -> BuildView {
        send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap()
    };
    let whole = show(package).await;
    assert!(whole.name.is_some() && !whole.expired);
    redis::cmd("DEL")
        .arg(format!("{{fairlane}}:build:{package}"))
        .query_async::<()>(&mut redis.connect().await)
        .await
        .unwrap();

    let kept = show(package).await;
    assert_eq!(
        (kept.state, kept.cause.as_deref(), kept.reason.as_deref()),
        (BuildState::Failed, Some("package"), Some("it broke"))
    );
    for build in [&whole, &kept] {
        assert_eq!((build.attempts, build.peak_people), (Some(1), Some(1)));
        assert!(build.slot_seconds.is_some() && build.ended_ms.is_some());
    }
    assert!(kept.expired && kept.name.is_none() && kept.push.is_none(), "{kept:?}");
    assert_eq!((&kept.image, &kept.reference, &kept.repo), (&whole.image, &whole.reference, &whole.repo));
    let log = send(dispatcher.get(&format!("/v1/builds/{package}/log"))).await;
    let (status, word, whole) = problem(log).await;
    assert_eq!((status, word.as_str()), (410, "log-removed"));
    assert!(whole["detail"].as_str().unwrap().contains("a day"), "{whole}");
    let events = send(dispatcher.get(&format!("/v1/builds/{package}/events"))).await;
    assert_eq!(events.status(), StatusCode::NOT_FOUND);
    assert!(show(waiting).await.attempts.is_none());

    assert_eq!(list(&dispatcher, "").await, [waiting, good, no_ref, package]);
    assert_eq!(list(&dispatcher, "state=ended").await, [good, no_ref, package]);
    assert_eq!(list(&dispatcher, "state=failed&since=1h").await, [no_ref, package]);
    assert_eq!(list(&dispatcher, "cause=package").await, [package]);
    assert_eq!(list(&dispatcher, "class=stuck").await, []);
    assert_eq!(list(&dispatcher, "state=ended&lane=github.com/owner/three").await, [good]);
}

#[tokio::test]
async fn the_lanes_that_used_most_come_first() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 4).await;
    for (name, took) in [("short", 20), ("long", 200)] {
        dispatcher.build(name).await;
        let claimed = worker.claim().await;
        // The test measures real time.
        tokio::time::sleep(Duration::from_millis(took)).await;
        claimed.finish(Outcome::Succeeded).await;
    }
    let path = "/v1/lanes?order=slot_hours&since=1h";
    let usage: UsagePage = send(dispatcher.get(path)).await.json().await.unwrap();
    let lanes: Vec<&str> = usage.lanes.iter().map(|of| of.lane.as_str()).collect();
    assert_eq!(lanes, ["github.com/owner/long", "github.com/owner/short"]);
    let (long, short) = (&usage.lanes[0], &usage.lanes[1]);
    assert_eq!((long.builds, long.succeeded, long.failed, long.cancelled), (1, 1, 0, 0));
    assert!(
        long.mean_s >= 0.2 && long.share > short.share && (long.share + short.share - 1.0).abs() < 0.001,
        "{usage:?}"
    );
    // A request within the same minute gets the same answer.
    let again: UsagePage = send(dispatcher.get(path)).await.json().await.unwrap();
    assert_eq!(again.lanes, usage.lanes);
}
