//! Workers and a Redis are lost while pods run: the pods go on, and other workers follow them.

use fairlane_common::{BuildId, BuildState};
use fairlane_testkit::wait_for;

use super::scene::{KubeScene, SOON, counting, uid};

const BUILDS: usize = 20;
const LINES: usize = 40;

/// A script for builds that take about ten seconds each. A real node needs longer than that to start all of them, and
/// they have to run at the same time.
fn script(kube: &KubeScene) -> String {
    counting(LINES, if kube.cluster.fake().is_some() { "0.25" } else { "1" })
}

/// The number of pods that were ever created; a real cluster only shows existing ones.
async fn created(kube: &KubeScene) -> usize {
    match kube.cluster.fake() {
        Some(fake) => fake.pods_created().len(),
        None => kube.pods().await.len(),
    }
}

/// The pods that ran `before` have finished all builds, and no other pod was ever created.
async fn the_same_pods_made_all_whole(kube: &KubeScene, ids: &[BuildId], before: &[String]) {
    kube.all_whole(ids, LINES).await;
    let mut after: Vec<String> = kube.pods().await.iter().map(uid).collect();
    after.sort();
    assert_eq!(before, after);
    assert_eq!(created(kube).await, BUILDS);
}

/// Nothing in Redis contradicts anything else, and a worker that keeps no pods removes them.
async fn all_is_cleared_up(kube: &KubeScene) {
    kube.scene.check().await;
    let _janitor = kube.worker("janitor", &script(kube), &[]).await;
    kube.pods_gone().await;
}

#[tokio::test]
async fn twenty_kube_builds_survive_the_death_of_their_worker() {
    let kube = KubeScene::start().await;
    let first = kube.worker("first", &script(&kube), &["--keep-pods=1h"]).await;
    let ids = kube.submit_many(BUILDS).await;
    let before = kube.pods_running(BUILDS).await;
    kube.line(ids[BUILDS - 1], 1, "line 2").await;
    let _second = kube.worker("second", &script(&kube), &["--keep-pods=1h"]).await;
    first.kill();
    the_same_pods_made_all_whole(&kube, &ids, &before).await;
    all_is_cleared_up(&kube).await;
}

#[tokio::test]
async fn twenty_kube_builds_of_a_frozen_worker_go_on_and_it_changes_nothing_when_it_thaws() {
    let kube = KubeScene::start().await;
    let first = kube.worker("first", &script(&kube), &["--keep-pods=1h"]).await;
    let ids = kube.submit_many(BUILDS).await;
    let before = kube.pods_running(BUILDS).await;
    kube.line(ids[BUILDS - 1], 1, "line 2").await;
    let second = kube.worker("second", &script(&kube), &["--keep-pods=1h"]).await;
    first.freeze();
    for id in &ids {
        kube.build_that(*id, "the build to be adopted", |build| {
            build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("second"))
        })
        .await;
    }
    first.thaw();
    first.wait_for_line("another worker has the lease", SOON).await;
    the_same_pods_made_all_whole(&kube, &ids, &before).await;
    // It is fully functional again: with the other one gone, it builds.
    second.terminate();
    assert!(second.wait(SOON).await.success());
    let next = kube.scene.submit().await;
    kube.build_in(next, BuildState::Succeeded).await;
    all_is_cleared_up(&kube).await;
}

#[tokio::test]
async fn twenty_kube_builds_survive_an_emptied_redis() {
    let kube = KubeScene::start().await;
    let _worker = kube.worker("only", &script(&kube), &["--keep-pods=1h"]).await;
    let ids = kube.submit_many(BUILDS).await;
    let before = kube.pods_running(BUILDS).await;
    kube.line(ids[BUILDS - 1], 1, "line 2").await;
    kube.scene.redis.command(&["FLUSHALL"]).await;
    the_same_pods_made_all_whole(&kube, &ids, &before).await;
    all_is_cleared_up(&kube).await;
}

#[tokio::test]
async fn kube_builds_of_a_dead_worker_are_found_again_after_redis_was_emptied() {
    let kube = KubeScene::start().await;
    let first = kube.worker("first", &script(&kube), &[]).await;
    let ids = kube.submit_many(3).await;
    kube.pods_running(3).await;
    first.kill();
    kube.scene.redis.command(&["FLUSHALL"]).await;
    let _second = kube.worker("second", &script(&kube), &[]).await;
    kube.all_whole(&ids, LINES).await;
    kube.pods_gone().await;
    kube.scene.check().await;
}

/// A failover that lost the first run's end brings the build back to that run while its second one lives.
#[tokio::test]
async fn a_kube_build_has_one_live_pod_even_after_a_failover_that_lost_a_run() {
    let kube = KubeScene::start().await;
    let id = kube.scene.submit().await;
    let before = kube.scene.redis.save().await.unwrap();
    let first = kube.worker("first", "exec sleep 1000", &[]).await;
    kube.pods_running(1).await;
    kube.leftovers().clear().await.unwrap();
    kube.build_that(id, "the second run", |build| build.attempt == 2 && build.state == BuildState::Running)
        .await;
    let second_run = kube.pods_running(1).await;
    first.kill();
    kube.scene.redis.restore(&before).await.unwrap();
    let other = kube.worker("other", "exec sleep 1000", &[]).await;
    other.wait_for_line("created the pod", SOON).await;
    kube.build_that(id, "the first run again", |build| {
        build.attempt == 1 && build.state == BuildState::Running
    })
    .await;
    let first_run = kube.pods_running(1).await;
    assert_ne!(first_run, second_run);
}

#[tokio::test]
async fn a_redis_that_is_away_for_longer_than_a_lease_ends_no_kube_build() {
    let kube = KubeScene::start().await;
    let worker = kube.worker("only", &script(&kube), &[]).await;
    let ids = kube.submit_many(2).await;
    let before = kube.pods_running(2).await;
    kube.line(ids[1], 1, "line 1").await;
    kube.scene.redis.shut_down().await;
    worker.wait_for_line("a heartbeat was not answered", SOON).await;
    // Twice a lease.
    let away = std::time::Instant::now();
    wait_for("two leases to pass", SOON, async || away.elapsed() > 2 * crate::scene::LEASE).await;
    assert_eq!(
        kube.pods().await.iter().map(uid).collect::<std::collections::BTreeSet<_>>(),
        before.into_iter().collect()
    );
    kube.scene.redis.start().await;
    kube.all_whole(&ids, LINES).await;
    // Each connection from before the restart fails once.
    wait_for("the queue to be checked", SOON, async || {
        let report = kube.scene.queue.check(1000).await.map_err(|error| error.to_string())?;
        if report.problems.is_empty() { Ok(()) } else { Err(format!("{:?}", report.problems)) }
    })
    .await;
}

#[tokio::test]
async fn kube_builds_of_a_lone_worker_that_was_frozen_for_longer_than_its_patience_go_on() {
    let kube = KubeScene::start().await;
    // A busy node reports the end of a container seconds late.
    let patience = if kube.cluster.fake().is_some() { 5 } else { 15 };
    let more = [format!("--silence-timeout={patience}s"), format!("--start-timeout={patience}s")];
    let more = [more[0].as_str(), &more[1], "--keep-pods=1h"];
    let worker = kube.worker("only", &script(&kube), &more).await;
    let ids = kube.submit_many(2).await;
    kube.pods_running(2).await;
    kube.line(ids[1], 1, "line 4").await;
    worker.freeze();
    // This tests a freeze of a certain length; there is no condition to wait for.
    tokio::time::sleep(std::time::Duration::from_secs(patience + 1)).await;
    worker.thaw();
    worker.wait_for_line("this process was suspended", SOON).await;
    kube.all_whole(&ids, LINES).await;
    kube.scene.check().await;
}

#[tokio::test]
async fn a_kube_build_is_stuck_by_the_time_since_its_start_not_since_its_adoption() {
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(14);
    let kube = KubeScene::start().await;
    let (script, more) = (counting(4000, "0.25"), ["--timeout=14s"]);
    let first = kube.worker("first", &script, &more).await;
    let id = kube.scene.submit().await;
    kube.line(id, 1, "line 24").await;
    let _second = kube.worker("second", &script, &more).await;
    first.kill();
    kube.build_that(id, "the build to be adopted", |build| {
        build.worker.as_ref().is_some_and(|worker| worker.as_str().starts_with("second"))
    })
    .await;
    let adopted = std::time::Instant::now();
    let stuck = |reason: &String| reason.contains("took longer than");
    kube.build_that(id, "the run to be stuck", |build| build.reason.as_ref().is_some_and(stuck)).await;
    // The first six seconds were the other worker's.
    let margin = std::time::Duration::from_secs(3);
    assert!(adopted.elapsed() + margin < TIMEOUT, "{:?}", adopted.elapsed());
}
