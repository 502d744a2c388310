//! What the dispatcher says is wrong with the queue.

use fairlane_common::Rule;
use fairlane_dispatcher::api::{CurrentProblem, QueueView};
use fairlane_testkit::{RedisServer, wait_for_eq};
use serde_json::json;

use crate::support::{Dispatcher, SOON, Worker, send};

async fn problems(dispatcher: &Dispatcher) -> Vec<CurrentProblem> {
    // Redis may be too busy to answer in time.
    let queue: Option<QueueView> = send(dispatcher.get("/v1/queue")).await.json().await.ok();
    queue.map(|queue| queue.problems).unwrap_or_default()
}

/// Waits until there are these kinds of problems, in this order. What is said may be a second old.
async fn there_are(dispatcher: &Dispatcher, kinds: &[&str]) {
    wait_for_eq("the problems", SOON, json!(kinds), async || {
        problems(dispatcher).await.iter().map(|problem| json!(problem.kind)).collect()
    })
    .await;
}

#[tokio::test]
async fn the_queue_says_what_is_wrong_with_it() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    there_are(&dispatcher, &["no-worker", "redis-append-only"]).await;

    let worker = Worker::start_on(&dispatcher.queue, 2, 5).await;
    for name in ["x", "y", "z"] {
        dispatcher.build(name).await;
        worker.claim().await.fail_on("node-7").await;
    }
    Worker::start(&dispatcher.queue, 3).await.pause("the cluster is full.").await;
    let hold: Rule = serde_json::from_value(json!({ "hold": { "message": "" } })).unwrap();
    dispatcher.queue.set_rule(&"github.com/owner/held".parse().unwrap(), &hold, "ann").await.unwrap();
    dispatcher.build("held").await;
    there_are(&dispatcher, &["redis-append-only", "worker-paused", "node-avoided", "lanes-held"]).await;

    let all = problems(&dispatcher).await;
    let begin =
        "Host node-7 gets no builds for another 30 min, because builds of 3 repositories failed there: ";
    assert!(all[2].sentence.starts_with(begin), "{all:?}");
    assert_eq!(all[2].link.as_deref(), Some("#/workers"));
    assert_eq!(all[2].command.as_deref(), Some("fairlane nodes clear node-7"));
    assert!(all[1].sentence.ends_with(" has paused: the cluster is full."), "{all:?}");

    redis.command(&["CONFIG", "SET", "appendonly", "yes"]).await;
    dispatcher.queue.clear_node(&"node-7".parse().unwrap(), None, "ann").await.unwrap();
    there_are(&dispatcher, &["worker-paused", "lanes-held"]).await;
    dispatcher.stop().await;
}
