//! The usual path: request a build, join it, look at it, follow it to its end.

use fairlane_common::FailureCause;
use fairlane_common::build::{BuildState, FailureClass};
use fairlane_common::queue::{Finished, Outcome};
use fairlane_dispatcher::api::{BuildPage, BuildView, CancelAnswer, LaneView, QueueView};
use fairlane_testkit::RedisServer;
use reqwest::StatusCode;

use crate::support::{Dispatcher, Worker, failed, numbered, request, send};

#[tokio::test]
async fn a_build_is_asked_for_joined_followed_and_answered_from_memory() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let (status, answer) = dispatcher.ask(&request("one")).await;
    assert_eq!((status, answer.state, answer.joined), (StatusCode::ACCEPTED, BuildState::Queued, false));
    assert_eq!((answer.position, answer.people, answer.attempt), (Some(1), 1, 1));
    assert_eq!(answer.lane.as_str(), "github.com/owner/one");
    let (status, again) = dispatcher.ask(&request("one")).await;
    assert_eq!((status, again.id, again.joined, again.people), (StatusCode::OK, answer.id, true, 2));

    let mut stream = dispatcher.follow(answer.id, "").await;
    let first = stream.state(|_| true).await;
    assert_eq!((first.build.state, first.build.position), (BuildState::Queued, Some(1)));
    assert!(first.build.why.is_some());

    let worker = Worker::start(&dispatcher.queue, 2).await;
    let mut run = worker.claim().await;
    stream.state(|state| state.build.state == BuildState::Running).await;
    run.write(3).await;
    stream.lines(3).await;
    run.write(2).await;
    assert_eq!(run.finish(Outcome::Succeeded).await, Finished::Ended(BuildState::Succeeded));
    let end = stream.end().await;
    assert_eq!((end.state, end.image.as_str()), (Some(BuildState::Succeeded), "r/one:1"));
    assert_eq!(stream.lines, numbered(5));

    let log = send(dispatcher.get(&format!("/v1/builds/{}/log", answer.id))).await.text().await.unwrap();
    assert_eq!(log, "line 0\nline 1\nline 2\nline 3\nline 4\n");
    let (status, after) = dispatcher.ask(&request("one")).await;
    assert_eq!((status, after.id, after.state), (StatusCode::OK, answer.id, BuildState::Succeeded));
    // Somebody who connects after the end still gets the whole log.
    let mut late = dispatcher.follow(answer.id, "").await;
    late.end().await;
    assert_eq!(late.lines, numbered(5));
}

#[tokio::test]
async fn a_failure_is_told_with_class_reason_and_tail() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("bad").await;
    let mut stream = dispatcher.follow(id, "").await;
    let run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    run.finish(failed(FailureClass::Repository, FailureCause::OTHER, "no such package")).await;
    let end = stream.end().await;
    assert_eq!((end.state, end.class), (Some(BuildState::Failed), Some(FailureClass::Repository)));
    assert_eq!((end.reason.as_deref(), end.log_tail.as_deref()), (Some("no such package"), Some("the tail")));
}

#[tokio::test]
async fn builds_and_lanes_are_listed_in_pages() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    for name in ["a", "b", "c"] {
        dispatcher.build(name).await;
    }
    let page: BuildPage = send(dispatcher.get("/v1/builds?limit=2&state=queued")).await.json().await.unwrap();
    assert_eq!(page.builds.len(), 2);
    let cursor = page.cursor.unwrap();
    let rest =
        dispatcher.get("/v1/builds").query(&[("limit", "2"), ("state", "queued"), ("cursor", &cursor)]);
    let rest: BuildPage = send(rest).await.json().await.unwrap();
    assert_eq!(rest.builds.len(), 1);
    let of_lane = dispatcher.get("/v1/builds?lane=github.com/owner/b");
    let of_lane: BuildPage = send(of_lane).await.json().await.unwrap();
    assert_eq!(of_lane.builds.len(), 1);

    let queue: QueueView = send(dispatcher.get("/v1/queue")).await.json().await.unwrap();
    assert_eq!((queue.totals.queued, queue.lanes.len(), queue.more_lanes), (3, 3, false));
    let lane: LaneView = send(dispatcher.get("/v1/lanes/github.com/owner/b")).await.json().await.unwrap();
    assert_eq!((lane.queued, lane.waits_for.as_deref()), (1, Some("ready")));
}

#[tokio::test]
async fn a_build_is_cancelled_for_all_its_watchers() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "").await;
    let answer = send(dispatcher.delete(&format!("/v1/builds/{id}?reason=not%20today"))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: CancelAnswer = answer.json().await.unwrap();
    assert_eq!((answer.state, answer.stopping), (BuildState::Cancelled, false));
    let end = stream.end().await;
    assert_eq!((end.state, end.reason.as_deref()), (Some(BuildState::Cancelled), Some("not today")));
    let view: BuildView = send(dispatcher.get(&format!("/v1/builds/{id}"))).await.json().await.unwrap();
    assert_eq!(view.state, BuildState::Cancelled);
}

#[tokio::test]
async fn a_followed_log_ends_with_its_build() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let log = send(dispatcher.get(&format!("/v1/builds/{id}/log?follow=true"))).await;
    let mut run = Worker::start(&dispatcher.queue, 1).await.claim().await;
    run.write(600).await;
    run.finish(Outcome::Succeeded).await;
    let text = tokio::time::timeout(crate::support::SOON, log.text()).await.unwrap().unwrap();
    assert_eq!(text.lines().map(str::to_owned).collect::<Vec<_>>(), numbered(600));
}

#[tokio::test]
async fn a_followed_log_goes_on_with_the_next_attempt() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let mut run = worker.claim().await;
    run.write(5).await;
    let log = send(dispatcher.get(&format!("/v1/builds/{id}/log?follow=true"))).await;
    run.finish(failed(FailureClass::Infrastructure, FailureCause::OTHER, "the node was lost")).await;
    let mut run = worker.claim().await;
    run.write(2).await;
    run.finish(Outcome::Succeeded).await;
    let text = tokio::time::timeout(crate::support::SOON, log.text()).await.unwrap().unwrap();
    let mut expected = numbered(5);
    expected.push("--- the build has started again ---".to_owned());
    expected.extend(numbered(2));
    assert_eq!(text.lines().map(str::to_owned).collect::<Vec<_>>(), expected);
}
