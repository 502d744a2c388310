//! The web page in a real browser, over a real dispatcher and Redis.

mod acts;
mod load;
mod logs;
mod views;

use fairlane_common::id::BuildId;
use fairlane_common::{FailureCause, FailureClass, Rule};
use fairlane_testkit::RedisServer;
use serde_json::json;

use crate::support::{self, Dispatcher, Run, Worker, request};

/// A queue with a bit of everything.
pub(crate) struct Scene {
    pub(crate) redis: RedisServer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) _worker: Worker,
    pub(crate) running: Run,
    pub(crate) queued: BuildId,
    pub(crate) failed: BuildId,
}

impl Scene {
    /// A running build with a log, builds in line, a failed one, a held lane, an avoided node, a paused worker.
    pub(crate) async fn start() -> Self {
        let redis = RedisServer::start_default().await;
        let dispatcher = Dispatcher::start(&redis.url()).await;
        let queue = dispatcher.queue.clone();
        let worker = Worker::start_on(&queue, 2, 5).await;
        for name in ["x", "y", "z"] {
            dispatcher.build(name).await;
            worker.claim().await.fail_on("node-7").await;
        }
        let failed = dispatcher.build("broken").await;
        let run = worker.claim_of(failed).await;
        let reason = "no matching distribution for tensorflow==1.0";
        run.finish(support::failed(FailureClass::Repository, FailureCause::OTHER, reason)).await;
        let popular = dispatcher.build("popular").await;
        let mut running = worker.claim_of(popular).await;
        running.write(40).await;
        Worker::start(&queue, 3).await.pause("the cluster is full: 0 of 12 CPUs are free").await;
        let hold: Rule =
            serde_json::from_value(json!({ "hold": { "message": "their server is down" } })).unwrap();
        queue.set_rule(&"github.com/owner/held".parse().unwrap(), &hold, "ann").await.unwrap();
        dispatcher.build("held").await;
        let mut nightly = request("nightly");
        nightly["priority"] = json!("background");
        dispatcher.ask(&nightly).await;
        let queued = dispatcher.build("queued").await;
        Self { redis, dispatcher, _worker: worker, running, queued, failed }
    }

    /// The address of a view.
    pub(crate) fn view(&self, path: &str) -> String {
        format!("{}/#/{path}", self.dispatcher.url)
    }
}
