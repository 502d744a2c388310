//! What builds cost a worker and its cluster. `FAIRLANE_TEST_PODS` says how many there are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlane_testkit::kube::Cluster;
use fairlane_testkit::wait_for;

use super::scene::{KubeScene, SOON};

/// How long calls are counted while nothing happens.
const WINDOW: Duration = Duration::from_secs(8);

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Calls since `before`, by kind.
fn since(kube: &KubeScene, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let now = kube.fake().all_requests();
    let more = |(what, count): (&String, &usize)| {
        let more = count - before.get(what).copied().unwrap_or_default();
        (more > 0).then(|| (what.clone(), more))
    };
    now.iter().filter_map(more).collect()
}

#[tokio::test]
async fn pods_that_run_cost_no_calls() {
    let pods: usize =
        std::env::var("FAIRLANE_TEST_PODS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let kube = KubeScene::faked(Cluster::start()).await;
    let slots = format!("--slots={pods}");
    let script = "echo begun; exec sleep 1000";
    let worker = kube.worker("one", script, &[&slots]).await;
    let empty = resident_kib(worker.pid());
    let started = kube.fake().all_requests();
    let began = Instant::now();
    let ids = kube.submit_many(pods).await;
    for id in &ids {
        kube.line(*id, 1, "begun").await;
    }
    let starting = began.elapsed();
    let spent = since(&kube, &started);
    assert_eq!((spent["create pods"], spent["get pods/log"]), (pods, pods), "{spent:?}");
    assert!(!spent.contains_key("get pods"), "{spent:?}");
    let full = resident_kib(worker.pid());

    let before = kube.fake().all_requests();
    let window = Instant::now();
    wait_for("the window to be over", SOON, async || window.elapsed() >= WINDOW).await;
    let idle = since(&kube, &before);
    let calls: usize = idle.values().sum();
    println!(
        "{pods} pods: started in {:.1} s with {spent:?}; in {} s after that {idle:?}; memory {empty} KiB without, {full} KiB with: {} KiB a build",
        starting.as_secs_f64(),
        WINDOW.as_secs(),
        (full - empty) / u64::try_from(pods).unwrap(),
    );
    assert!(calls <= 2, "{idle:?}");
}
