//! Function libraries of several releases on one Redis.

use fairlane_common::Queue;

use crate::former::FormerRelease;
use crate::scene::Scene;

const HOUR_MS: u64 = 3_600_000;

async fn libraries(scene: &Scene) -> usize {
    let listed: Vec<redis::Value> = scene.redis(&["FUNCTION", "LIST", "LIBRARYNAME", "fairlane_*"]).await;
    listed.len()
}

/// Lets 25 hours pass. Each hour, the dispatcher of `queue` sends heartbeats and unused libraries are
/// removed.
async fn a_day_passes(scene: &Scene, queue: &Queue, dispatcher: &str) -> usize {
    let beat =
        fairlane_common::queue::DispatcherBeat { dispatcher: dispatcher.parse().unwrap(), counts: vec![] };
    let mut removed = 0;
    for _ in 0..25 {
        queue.beat_dispatcher(&beat).await.unwrap();
        removed += scene.queue.remove_unused_libraries().await.unwrap().len();
        scene.clock.advance_ms(HOUR_MS);
        scene.queue.reap().await.unwrap();
        queue.beat_dispatcher(&beat).await.unwrap();
    }
    removed
}

#[tokio::test]
async fn a_library_is_removed_a_day_after_its_last_call_and_never_while_its_release_lives() {
    let scene = Scene::new().await;
    let former = FormerRelease::beside(&scene.server).await;
    let clock = fairlane_common::clock::Clock::Simulated(scene.clock.clone());
    let theirs = Queue::open_simulated(&former.url().parse().unwrap(), "fairlane", clock).await.unwrap();
    scene.queue.snapshot().await.unwrap();
    assert_eq!(libraries(&scene).await, 2);
    // A live dispatcher of the former release does not say which library it calls.
    assert_eq!(a_day_passes(&scene, &theirs, "former").await, 0);
    assert_eq!(libraries(&scene).await, 2, "it may be in use");
    // It leaves; a dispatcher of this release runs on.
    theirs.leave_dispatcher(&"former".parse().unwrap()).await.unwrap();
    scene.reap().await;
    assert_eq!(a_day_passes(&scene, &scene.queue, "ours").await, 1);
    assert_eq!(libraries(&scene).await, 1, "ours stays");
    scene.queue.snapshot().await.unwrap();
}

/// Writes this release's library, as Redis has it, to the file that `FAIRLANE_WRITE_LIBRARY` names.
#[tokio::test]
#[ignore = "it checks nothing: `cargo xtask mutants` runs it"]
async fn the_library_is_written_to_a_file() {
    let path = std::env::var("FAIRLANE_WRITE_LIBRARY").unwrap();
    let scene = Scene::new().await;
    let name = format!("fairlane_{}", scene.library().await);
    let listed: Vec<std::collections::HashMap<String, redis::Value>> =
        scene.redis(&["FUNCTION", "LIST", "LIBRARYNAME", &name, "WITHCODE"]).await;
    let code: String = redis::from_redis_value_ref(&listed[0]["library_code"]).unwrap();
    std::fs::write(path, code).unwrap();
}
