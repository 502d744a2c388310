//! Orphans by place: only workers of a run's place can adopt it.

use fairlane_common::queue::Outcome;
use fairlane_common::{BuildId, BuildState};

use crate::scene::{K8S, Scene, ask};

const DEAD: &str = "k8s:dead/builds";

#[tokio::test]
async fn an_orphan_whose_place_has_no_worker_left_is_built_elsewhere() {
    let scene = Scene::new().await;
    scene.beat_at("old", DEAD, 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    scene.claim_at("old", DEAD, 1).await;
    scene.pass(700_000).await;
    assert_eq!(scene.state(id).await, BuildState::Orphaned, "nobody else is there to build it");
    for _ in 0..3 {
        scene.beat("new", 1, &[]).await;
        scene.pass(1000).await;
    }
    assert_eq!(scene.claim_ids("new", 1).await, [id]);
    scene.check().await;
}

/// Requests `count` builds and lets a worker of `place` claim all of them.
async fn run_many(scene: &Scene, worker: &str, place: &str, count: u32) -> Vec<BuildId> {
    scene.beat_at(worker, place, 2 * usize::try_from(count).unwrap(), &[]).await;
    for number in 0..count {
        scene.submit(&ask(&format!("{worker}/n{number}"), 1)).await;
    }
    let mut claimed = vec![];
    while claimed.len() < count as usize {
        claimed.extend(scene.claim_at(worker, place, 64).await.into_iter().map(|one| one.build.id));
    }
    claimed
}

#[tokio::test]
async fn a_thousand_orphans_of_a_dead_place_hide_no_others() {
    let scene = Scene::new().await;
    run_many(&scene, "dead", DEAD, 1000).await;
    let live = run_many(&scene, "lost", K8S, 1).await;
    scene.beat("there", 1, &[]).await;
    scene.pass(9000).await;
    scene.beat("there", 1, &[]).await;
    assert_eq!(scene.pass(1000).await.orphaned, 1001);
    scene.check().await;
    // The orphan is adopted within a lease of its worker's death. Orphans of the other place are neither
    // handed out nor counted.
    let claims = scene.claims_at("there", K8S, 1).await;
    assert_eq!(claims.builds.iter().map(|one| one.build.id).collect::<Vec<_>>(), live);
    assert!(claims.builds[0].adopted && claims.orphans == 0);
    assert_eq!(scene.beat("there", 1, &[]).await.orphans, 0);
    // In the end all builds of the dead place are built elsewhere, although one call gives up only some of
    // them.
    for _ in 0..70 {
        scene.beat("there", 1, &[]).await;
        scene.pass(9000).await;
    }
    let snapshot = scene.queue.snapshot().await.unwrap();
    assert_eq!((snapshot.orphaned, snapshot.queued), (1, 1000), "only what nobody renews is left");
    scene.check().await;
}

#[tokio::test]
async fn a_place_with_a_worker_keeps_its_orphans_however_many_workers_there_are() {
    let scene = Scene::new().await;
    let kept = run_many(&scene, "lost", DEAD, 1).await;
    for _ in 0..80 {
        for number in 0..150 {
            let name = format!("p{number}");
            scene.beat_at(&name, &format!("process:{name}"), 1, &[]).await;
        }
        // A draining worker adopts nothing, but it is alive.
        scene.beat_at("last", DEAD, 1, &[]).await;
        scene.pass(9000).await;
    }
    assert_eq!(scene.state(kept[0]).await, BuildState::Orphaned);
    assert_eq!(scene.claim_at("last", DEAD, 0).await.len(), 1);
    scene.check().await;
}

/// Each worker gets a share of the waiting orphans, and is told to claim again until none is left.
#[tokio::test]
async fn full_workers_take_over_the_last_orphan_too() {
    let scene = Scene::new().await;
    let count = 10;
    run_many(&scene, "lost", K8S, count).await;
    for worker in ["a", "b", "c"] {
        scene.beat(worker, 0, &[]).await;
    }
    scene.pass(10_000).await;
    for worker in ["a", "b", "c"] {
        scene.beat(worker, 0, &[]).await;
    }
    let (mut adopted, mut calls) = (vec![], 0);
    let mut coming = vec!["a", "b", "c"];
    while let Some(worker) = coming.pop() {
        let claims = scene.claims_at(worker, K8S, 0).await;
        assert!(claims.builds.len() < count as usize / 2, "one worker is not given all of them");
        if claims.orphans > 0 && !claims.builds.is_empty() {
            coming.insert(0, worker);
        }
        adopted.extend(claims.builds);
        calls += 1;
    }
    assert_eq!(adopted.len(), count as usize, "after {calls} claims");
    for one in adopted {
        scene.finish(&one.token, Outcome::Succeeded).await;
    }
    scene.check().await;
}
