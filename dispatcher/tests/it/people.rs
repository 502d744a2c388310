//! People: counted per dispatcher, told to the queue, forgotten with their dispatcher.

use fairlane_testkit::{RedisServer, wait_for_eq};
use serde_json::json;

use crate::support::{Dispatcher, SOON, problem, send};

#[tokio::test]
async fn streams_say_how_many_stand_behind_them() {
    let redis = RedisServer::start_default().await;
    let (one, two) = (Dispatcher::start(&redis.url()).await, Dispatcher::start(&redis.url()).await);
    let id = one.build("one").await;
    let people = async || one.queue.build(id).await.unwrap().unwrap().people;
    let mut stream = one.follow(id, "?watchers=5").await;
    stream.state(|_| true).await;
    let mut other = two.follow(id, "").await;
    other.state(|_| true).await;
    wait_for_eq("the people", SOON, 6, people).await;

    let path = format!("/v1/builds/{id}/watchers");
    let body = json!({ "subscriber": stream.subscriber, "count": 9 });
    let set = send(one.put(&path).json(&body)).await;
    assert_eq!(set.json::<serde_json::Value>().await.unwrap()["people"], 9);
    wait_for_eq("the people", SOON, 10, people).await;
    // Everybody who watches hears of it.
    other.state(|state| state.build.people == 10).await;

    assert_eq!(problem(send(two.put(&path).json(&body)).await).await.1, "other-dispatcher");
    let gone = format!("{}9", stream.subscriber);
    let gone = send(one.put(&path).json(&json!({ "subscriber": gone, "count": 1 }))).await;
    assert_eq!(problem(gone).await.1, "unknown-subscriber");

    drop(stream);
    wait_for_eq("the people", SOON, 1, people).await;
    two.stop().await;
    wait_for_eq("the people", SOON, 0, people).await;
}

#[tokio::test]
async fn counts_come_back_after_the_queue_forgot_them() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let id = dispatcher.build("one").await;
    let mut stream = dispatcher.follow(id, "?watchers=7").await;
    stream.state(|state| state.build.people == 7).await;
    // The dispatcher's counts are lost, as after a failover; its heartbeat finds that out.
    dispatcher.queue.leave_dispatcher(&dispatcher_id(&stream.subscriber)).await.unwrap();
    wait_for_eq("the people", SOON, 7, async || dispatcher.queue.build(id).await.unwrap().unwrap().people)
        .await;
}

fn dispatcher_id(subscriber: &str) -> fairlane_common::id::DispatcherId {
    subscriber.rsplit_once('.').unwrap().0.parse().unwrap()
}
