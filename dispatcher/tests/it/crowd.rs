//! Many people watch one build: they need no further connections to Redis, and all see every line.

use fairlane_common::queue::Outcome;
use fairlane_testkit::{RedisServer, wait_for_eq};

use crate::support::{Dispatcher, SOON, Worker};

/// How many people watch. Each needs two sockets in this process.
const CROWD: usize = 300;
/// How many of them count for the build's position in line.
const COUNTED: u64 = 200;

#[tokio::test]
async fn watchers_cost_no_connection_to_redis() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    let id = dispatcher.build("popular").await;
    let mut run = worker.claim().await;
    run.write(3).await;
    // The first watcher opens whatever the dispatcher needs for all of them.
    let mut streams = vec![dispatcher.follow(id, "").await];
    streams[0].lines(3).await;
    let link = dispatcher.queue.link();
    let clients = async || link.redis_info("any").await.unwrap().number("connected_clients").unwrap();
    let before = clients().await;
    for _ in 1..CROWD {
        streams.push(dispatcher.follow(id, "").await);
    }
    wait_for_eq("the people", SOON, COUNTED, async || {
        dispatcher.queue.build(id).await.unwrap().unwrap().people
    })
    .await;
    run.write(20).await;
    for stream in &mut streams {
        stream.lines(23).await;
    }
    let after = clients().await;
    // Meanwhile, the pool for large reads may have opened its few connections.
    assert!(after <= before + 4, "{before} connections before the crowd came, {after} with it");
    run.finish(Outcome::Succeeded).await;
    for stream in &mut streams {
        stream.end().await;
    }
}
