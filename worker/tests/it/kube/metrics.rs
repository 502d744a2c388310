//! A worker's metrics: what Prometheus accepts, what the docs say, and that each fact is counted once.

use std::path::Path;

use fairlane_common::BuildState;
use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{check_metrics, free_port, keep_docs, metric_table, wait_for};

use super::scene::{KubeScene, SOON};

async fn metrics_of(port: u16) -> String {
    wait_for("the worker's metrics", SOON, async || {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?;
        answer.text().await
    })
    .await
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
}

/// A port, and the option that has a worker serve its metrics there.
fn listen() -> (u16, String) {
    let port = free_port();
    (port, format!("--metrics-listen=127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_run_that_changes_hands_is_counted_once() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let (first, second) = (listen(), listen());
    let script = "echo begun; while ! test -e /tmp/go; do sleep 0.1; done";
    let one = kube.worker("one", script, &[&first.1]).await;
    let id = kube.submit_many(1).await[0];
    kube.line(id, 1, "begun").await;
    kube.scene.build_in(id, BuildState::Running).await;
    let text = metrics_of(first.0).await;
    for name in
        ["fairlane_pod_start_seconds_count", "fairlane_build_wait_seconds_count{priority=\"interactive\"}"]
    {
        assert!((value(&text, name) - 1.0).abs() < f64::EPSILON, "{name}: {text}");
    }
    assert!(value(&text, "fairlane_log_delay_seconds_count") >= 1.0);

    // Another worker adopts the run and sees it end.
    one.kill();
    let _two = kube.worker("two", script, &[&second.1]).await;
    kube.scene
        .build_that(id, "the run to be adopted", |build| {
            build.state == BuildState::Running
                && build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("two"))
        })
        .await;
    kube.scene.queue.cancel(id, "test", "").await.unwrap();
    kube.scene.build_in(id, BuildState::Cancelled).await;
    let text = wait_for("the end to be counted", SOON, async || {
        let text = metrics_of(second.0).await;
        let ended = value(&text, "fairlane_build_duration_seconds_count{outcome=\"cancelled\"}");
        if ended > 0.0 { Ok(text) } else { Err(text) }
    })
    .await;
    for (name, count) in [
        ("fairlane_adoption_delay_seconds_count", 1.0),
        ("fairlane_build_duration_seconds_count{outcome=\"cancelled\"}", 1.0),
        ("fairlane_pod_start_seconds_count", 0.0),
        ("fairlane_build_wait_seconds_count{priority=\"interactive\"}", 0.0),
        ("fairlane_worker_oldest_pending_pod_seconds", 0.0),
    ] {
        assert!((value(&text, name) - count).abs() < f64::EPSILON, "{name}: {text}");
    }
    // It counts from the claim by the first worker: longer than the lease that had to end in between.
    assert!(value(&text, "fairlane_build_duration_seconds_sum{outcome=\"cancelled\"}") > 4.0, "{text}");

    check_metrics(&text);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let is_own = |name: &str| {
        !name.starts_with("process_")
            && !["fairlane_build_info", "fairlane_redis_call_duration_seconds"].contains(&name)
    };
    keep_docs(&page, "workers", &metric_table(&text, is_own));
}
