//! The web page in a real browser, over a real dispatcher and Redis.

mod acts;
mod campaigns;
mod load;
mod logs;
mod views;
mod words;

use fairlane_common::campaign::Item;
use fairlane_common::id::BuildId;
use fairlane_common::queue::Queue;
use fairlane_common::queue::campaigns::{CampaignName, NewCampaign, Pacing, PacingChange};
use fairlane_common::{FailureCause, FailureClass, Rule};
use fairlane_dispatcher::api::ActPage;
use fairlane_testkit::RedisServer;
use serde_json::json;

use crate::support::{self, Dispatcher, Run, Worker, request, send};

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
        paused_campaign(&queue).await;
        Self { redis, dispatcher, _worker: worker, running, queued, failed }
    }

    /// The address of a view.
    pub(crate) fn view(&self, path: &str) -> String {
        format!("{}/#/{path}", self.dispatcher.url)
    }
}

/// The reason of the latest act of this kind, or its detail if it has no reason.
async fn reason_of(dispatcher: &Dispatcher, act: &str) -> Option<String> {
    let path = format!("/v1/audit?act={}", act.replace(' ', "%20"));
    let page: ActPage = send(dispatcher.get(&path)).await.json().await.unwrap();
    page.acts.first().and_then(|act| act.reason.clone().or_else(|| Some(act.detail.clone())))
}

/// A campaign with one item that makes no build.
async fn paused_campaign(queue: &Queue) {
    let name: CampaignName = "cache-2026-11".parse().unwrap();
    let (pacing, request) = (Pacing::default(), "of the scene".to_owned());
    let new = NewCampaign {
        name: name.clone(),
        request,
        launches: None,
        launches_present: 0.0,
        pacing,
        standing: false,
    };
    queue.new_campaign(&new, "ann").await.unwrap();
    let repo = "https://github.com/owner/ahead".parse().unwrap();
    let item = Item::new(repo, "3f2a91c".parse().unwrap(), "r/ahead:1".parse().unwrap());
    queue.add_items(&name, 0, &[item]).await.unwrap();
    queue.change_campaign(&name, Some(false), &PacingChange::default(), "ann").await.unwrap();
}
