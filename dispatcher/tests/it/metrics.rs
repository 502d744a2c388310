//! Metrics: what Prometheus accepts, what the docs list, and what two dispatchers show.

use std::path::Path;

use fairlane_common::queue::Outcome;
use fairlane_common::rule::{Rule, Stop};
use fairlane_common::{FailureCause, FailureClass};
use fairlane_testkit::{RedisServer, check_metrics, keep_docs, metric_table, wait_for};
use serde_json::json;

use crate::support::{Dispatcher, SOON, Worker, failed, request, send};

async fn metrics_of(dispatcher: &Dispatcher) -> String {
    send(dispatcher.get("/metrics")).await.text().await.unwrap()
}

fn has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|have| have == *line), "{line} in:\n{text}");
    }
}

#[tokio::test]
async fn metrics_show_the_queue_and_this_dispatcher() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    dispatcher.ask(&json!({ "repo": "10.5281/zenodo.3242074", "ref": "1", "image": "r/z:1" })).await;
    let text = metrics_of(&dispatcher).await;
    let lines = [
        "fairlane_redis_up 1",
        "fairlane_queued_builds 1",
        "fairlane_set_aside 0",
        "fairlane_repairs_total 0",
        "fairlane_builds_asked_total{outcome=\"new\"} 1",
        "fairlane_lanes{waits_for=\"ready\"} 1",
    ];
    has_lines(&text, &lines);
}
/// Metrics that dispatchers and workers have in common.
fn is_common(name: &str) -> bool {
    name.starts_with("process_")
        || ["fairlane_build_info", "fairlane_redis_call_duration_seconds"].contains(&name)
}

#[tokio::test]
async fn prometheus_accepts_the_metrics_and_the_docs_list_them() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    dispatcher.build("one").await;
    let worker = Worker::start(&dispatcher.queue, 1).await;
    worker.claim().await.finish(Outcome::Succeeded).await;
    for class in [FailureClass::Repository, FailureClass::Infrastructure] {
        dispatcher.build(class.word()).await;
        worker.claim().await.finish(failed(class, FailureCause::OTHER, "it broke")).await;
    }
    let text = metrics_of(&dispatcher).await;
    let lines = [
        "fairlane_builds_started_total{priority=\"interactive\"} 3",
        "fairlane_builds_ended_total{outcome=\"succeeded\",class=\"\",cause=\"\"} 1",
        "fairlane_builds_ended_total{outcome=\"failed\",class=\"repository\",cause=\"other\"} 1",
        "fairlane_retries_total{class=\"infrastructure\",cause=\"other\"} 1",
        "fairlane_leases_lost_total 0",
    ];
    has_lines(&text, &lines);
    let text = metrics_of(&dispatcher).await;
    check_metrics(&text);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    keep_docs(&page, "dispatchers", &metric_table(&text, |name| !is_common(name)));
    keep_docs(&page, "all", &metric_table(&text, is_common));
}

#[tokio::test]
async fn metrics_add_up_the_campaigns_that_have_not_ended() {
    let redis = RedisServer::start_default().await;
    let dispatcher = Dispatcher::start(&redis.url()).await;
    let nothing = ["fairlane_campaign_items{state=\"waiting\"} 0", "fairlane_campaigns{state=\"running\"} 0"];
    has_lines(&metrics_of(&dispatcher).await, &nothing);
    let worker = Worker::start(&dispatcher.queue, 4).await;
    for (name, state) in [("spring", Some("running")), ("autumn", None), ("winter", None)] {
        let items: Vec<_> = (0..5)
            .map(|number| {
                let mut item = request(&format!("{name}-{number}"));
                item["launches"] = 2.5.into();
                item["expected_seconds"] = 60.into();
                item
            })
            .collect();
        let body =
            json!({ "name": name, "state": state, "launches": 20, "launches_present": 5, "items": items });
        let created = send(dispatcher.post("/v1/campaigns").json(&body)).await;
        assert_eq!(created.status().as_u16(), 201);
    }
    assert!(send(dispatcher.delete("/v1/campaigns/winter")).await.status().is_success(), "it ends at once");
    worker.claim().await.finish(Outcome::Succeeded).await;
    let expected = [
        "fairlane_campaigns{state=\"running\"} 1",
        "fairlane_campaigns{state=\"loading\"} 1",
        "fairlane_campaigns{state=\"cancelled\"} 0",
        "fairlane_campaign_items{state=\"built\"} 1",
        "fairlane_campaign_items{state=\"building\"} 2",
        "fairlane_campaign_items{state=\"waiting\"} 7",
        "fairlane_campaign_items{state=\"failed\"} 0",
        "fairlane_campaign_launches 40",
        // 5 and 2.5 of the image that was built, rounded; and 5.
        "fairlane_campaign_launches_covered 13",
        "fairlane_campaign_left_seconds 540.0",
    ];
    wait_for("the numbers", SOON, async || {
        let text = metrics_of(&dispatcher).await;
        expected.iter().all(|line| text.lines().any(|have| have == *line))
    })
    .await;
}

#[tokio::test]
async fn every_dispatcher_shows_the_same_queue() {
    let redis = RedisServer::start_default().await;
    let url = redis.url();
    let (one, two) = tokio::join!(Dispatcher::start(&url), Dispatcher::start(&url));
    // The lane `popular` has two running builds and two in line. `other` waits for the last slot, `held` does
    // not.
    let worker = Worker::start(&one.queue, 3).await;
    for number in 1..=4 {
        let image = format!("r/popular:{number}");
        one.ask(&json!({ "repo": "https://github.com/o/popular", "ref": "c", "image": image })).await;
    }
    let (_first, _second) = (worker.claim().await, worker.claim().await);
    one.build("other").await;
    let hold = Rule { hold: Some(Stop::default()), ..Rule::default() };
    one.queue.set_rule(&"github.com/owner/held".parse().unwrap(), &hold, "ann").await.unwrap();
    let limit = Rule { limit: Some(2), together: true, ..Rule::default() };
    one.queue.set_rule(&"github.com/o/*".parse().unwrap(), &limit, "ann").await.unwrap();
    one.ask(&request("held")).await;
    let stream = one.follow(one.build("watched").await, "").await;

    let expected = [
        "fairlane_leased_builds 2",
        "fairlane_queued_builds 5",
        "fairlane_startable_builds 2",
        "fairlane_lane_running_builds_max 2",
        "fairlane_lane_people_max 4",
        "fairlane_slots 3",
        "fairlane_workers_taking 1",
        "fairlane_dispatchers 2",
        "fairlane_oldest_orphan_seconds 0.0",
        "fairlane_rules{kind=\"hold\"} 1",
        "fairlane_rules{kind=\"shared_limit\"} 1",
        "fairlane_rules{kind=\"limit\"} 0",
        "fairlane_nodes_avoided{kind=\"host\"} 0",
        "fairlane_redis_append_only 0",
        "fairlane_redis_append_only_ok 1",
    ];
    for dispatcher in [&one, &two] {
        has_lines(&metrics_of(dispatcher).await, &expected);
    }
    // A request is counted only by the dispatcher that received it.
    has_lines(&metrics_of(&one).await, &["fairlane_builds_asked_total{outcome=\"new\"} 7"]);
    has_lines(&metrics_of(&two).await, &["fairlane_builds_asked_total{outcome=\"new\"} 0"]);
    drop(stream);
}
