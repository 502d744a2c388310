//! What builds cost a worker and its cluster. `FAIRLANE_TEST_PODS` sets their number.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlane_testkit::kube::Cluster;
use fairlane_testkit::{Process, wait_for, wait_for_eq};

use super::scene::{KubeScene, SOON};

/// How long calls are counted while nothing happens.
const WINDOW: Duration = Duration::from_secs(8);

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time used so far, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
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

/// Checks that the worker uses almost no CPU time, once `WINDOW` has passed.
async fn rests(worker: &Process) {
    let began = Instant::now();
    wait_for("times to pass", SOON, async || began.elapsed() >= WINDOW).await;
    let (before, began) = (ticks(worker.pid()), Instant::now());
    wait_for("the window to be over", SOON, async || began.elapsed() >= WINDOW / 2).await;
    let taken = ticks(worker.pid()) - before;
    assert!(taken < 50, "{taken} hundredths of a second of {} s", WINDOW.as_secs() / 2);
}

#[tokio::test]
async fn pods_that_wait_take_no_processor_time_without_the_right_to_list_events() {
    let kube = KubeScene::faked(Cluster::start()).await;
    kube.fake().node("node-1").is_cordoned();
    kube.fake().forbids("list events");
    let worker = kube.worker("one", "exit 0", &[]).await;
    kube.scene.submit().await;
    worker.wait_for_line("this worker may not list events", SOON).await;
    kube.scene.submit().await;
    wait_for_eq("two pods", SOON, 2, async || kube.pods().await.len()).await;
    rests(&worker).await;
}

#[tokio::test]
async fn a_full_worker_that_may_start_nothing_takes_no_processor_time() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let first = kube.worker("first", "exec sleep 1000", &[]).await;
    kube.scene.submit().await;
    kube.pods_running(1).await;
    // A temporary refusal: claiming stays paused until a pod is created.
    kube.fake().forbids("get pods");
    let second = kube.worker("second", "exit 0", &["--slots=1"]).await;
    first.kill();
    second.wait_for_line("claiming is paused until the cluster accepts pods", SOON).await;
    kube.fake().permits("get pods");
    second.wait_for_line("adopted the pod", SOON).await;
    rests(&second).await;
}

#[tokio::test]
async fn a_refusal_to_watch_that_passes_leaves_no_worker_paused() {
    let kube = KubeScene::faked(Cluster::start()).await;
    let worker = kube.worker("one", "exit 0", &[]).await;
    kube.fake().forbids("watch pods");
    kube.fake().forbids("list pods");
    kube.fake().connections_are_cut();
    worker.wait_for_line("403 Forbidden", SOON).await;
    wait_for("the worker to be paused", SOON, async || {
        let workers = kube.scene.queue.workers().await.map_err(|e| e.to_string())?;
        if workers[0].paused.is_some() { Ok(()) } else { Err(format!("{workers:?}")) }
    })
    .await;
    kube.fake().permits("watch pods");
    kube.fake().permits("list pods");
    wait_for("the worker to be at work again", SOON, async || {
        let workers = kube.scene.queue.workers().await.map_err(|e| e.to_string())?;
        if workers[0].paused.is_none() { Ok(()) } else { Err(format!("{workers:?}")) }
    })
    .await;
}
