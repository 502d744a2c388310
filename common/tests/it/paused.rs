//! Workers that cannot start builds for now.

use fairlane_common::BuildState;
use fairlane_common::queue::Outcome;

use crate::scene::{K8S, Scene, ask, beat_of};

const FULL: &str =
    "the cluster is full: exceeded quota: builds, requested: pods=1, used: pods=4, limited: pods=4";

async fn pause(
    scene: &Scene,
    name: &str,
    held: &[fairlane_common::Token],
) -> fairlane_common::queue::BeatReply {
    let mut beat = beat_of(name, K8S, 4, held);
    beat.paused = Some(FULL.to_owned());
    scene.queue.renew(&beat).await.unwrap()
}

#[tokio::test]
async fn a_full_cluster_is_said_and_fails_nothing() {
    let scene = Scene::new().await;
    scene.beat("w", 4, &[]).await;
    let first = scene.submit(&ask("o/first", 1)).await;
    let token = scene.claim("w", 1).await.remove(0).token;
    let waiting = scene.submit(&ask("o/n", 1)).await;

    let reply = pause(&scene, "w", std::slice::from_ref(&token)).await;
    assert!(!reply.startable, "a paused worker is not sent to claim");
    let snapshot = scene.queue.snapshot().await.unwrap();
    // Its running build counts as a slot, so that nobody borrows on a full cluster. Its free slots do not
    // count.
    assert_eq!((snapshot.slots, snapshot.taking, snapshot.paused), (1, 0, 1));
    assert_eq!(scene.queue.workers().await.unwrap()[0].paused.as_deref(), Some(FULL));
    let why = scene.queue.why(&scene.build(waiting).await).await.unwrap();
    assert_eq!((why.text.as_str(), why.eta_ms), (FULL, None));
    scene.check().await;

    // A build that waits for something else shows that reason.
    let behind = scene.submit(&ask("o/first", 2)).await;
    let why = scene.queue.why(&scene.build(behind).await).await.unwrap();
    assert!(why.text.starts_with("waiting for a permit of github.com/o/first"), "{}", why.text);

    // Another worker accepts builds, so one worker's pause is no longer the reason.
    scene.beat("other", 1, &[]).await;
    let why = scene.queue.why(&scene.build(waiting).await).await.unwrap();
    assert_eq!(why.text, "1st in line, starting at once");
    scene.queue.leave(&"other".parse().unwrap()).await.unwrap();

    // The cluster has room again.
    assert!(scene.beat("w", 4, std::slice::from_ref(&token)).await.startable);
    assert_eq!(scene.queue.snapshot().await.unwrap().slots, 4);
    assert_eq!(scene.claim_ids("w", 1).await, [waiting]);
    scene.finish(&token, Outcome::Succeeded).await;
    assert_eq!(scene.state(first).await, BuildState::Succeeded);
    scene.check().await;
}

#[tokio::test]
async fn a_paused_worker_still_adopts() {
    let scene = Scene::new().await;
    scene.beat("dead", 1, &[]).await;
    let id = scene.submit(&ask("o/n", 1)).await;
    scene.claim("dead", 1).await;
    scene.submit(&ask("o/m", 1)).await;
    scene.pass(11_000).await;
    let reply = pause(&scene, "w", &[]).await;
    assert_eq!(reply.orphans, 1);
    // The orphan's pod is already in the cluster; only new pods find no room.
    let claimed = scene.claim("w", 0).await;
    assert_eq!(claimed.iter().map(|one| (one.build.id, one.adopted)).collect::<Vec<_>>(), [(id, true)]);
    scene.check().await;
}
